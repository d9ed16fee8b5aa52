"""The ways to ask a server for a JSON object, best first.

"OpenAI-compatible" servers differ: some constrain the answer to a schema, some only to JSON, some only through a tool
call, and some not at all. :mod:`flowrl.proposers.llm.recorded_model` finds out what a server supports.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.prompts import Message

TOOL_NAME = "propose_skill"
"""The name of the schema, or of the tool, in a request."""


class AnswerForm(StrEnum):
    """How to ask for JSON. The values are stored in recordings."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    TOOL = "tool_call"
    TEXT = "text"

    @property
    def next(self) -> AnswerForm | None:
        """What to try if a server does not support this one."""
        forms = list(AnswerForm)
        return next(iter(forms[forms.index(self) + 1 :]), None)


def request_fields(form: AnswerForm, schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request that ask for this form."""
    match form:
        case AnswerForm.SCHEMA:
            return {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": TOOL_NAME, "strict": True, "schema": schema},
                }
            }
        case AnswerForm.OBJECT:
            return {"response_format": {"type": "json_object"}}
        case AnswerForm.TOOL:
            function = {"name": TOOL_NAME, "description": "Submits the skill.", "parameters": schema}
            return {
                "tools": [{"type": "function", "function": function}],
                "tool_choice": {"type": "function", "function": {"name": TOOL_NAME}},
            }
    return {}


def with_schema(form: AnswerForm, messages: list[Message], schema: dict[str, Any]) -> list[Message]:
    """The messages; the schema is appended to the first one unless the request has a field for it."""
    if form in (AnswerForm.SCHEMA, AnswerForm.TOOL):
        return list(messages)
    first, *others = messages
    instructions = prompts.render("form", schema=json.dumps(schema))
    return [{**first, "content": f"{first['content']}\n\n{instructions}"}, *others]
