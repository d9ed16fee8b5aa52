"""What pydantic says: the first fault of data that it refuses, in words for a message of one line, and a model's schema."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError


class Fault(NamedTuple):
    """One fault."""

    place: str
    """The field, as ``tasks.0.n``."""
    message: str
    found: Any

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

    @property
    def with_value(self) -> str:
        """The fault, and the value that was found."""
        return f"{self}, found {self.found!r}"


def first_fault(error: ValidationError, whole: str = "the file") -> Fault:
    """The first fault of an error.

    Args:
        whole: what the data is called, for a fault that is not in one of its fields.
    """
    fault = error.errors()[0]
    # A union of int and float adds the type that was tried to the place; a person looks for the field.
    place = ".".join(str(part) for part in fault["loc"] if part not in ("int", "float")) or whole
    return Fault(place, f"{fault['msg'][0].lower()}{fault['msg'][1:]}", fault["input"])


def schema_of(model: type[BaseModel], title: str) -> str:
    """The JSON Schema of what a model writes, as the text of a file.

    Args:
        title: used if the model names none.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps(schema | model.model_json_schema(mode="serialization"), indent=2) + "\n"
