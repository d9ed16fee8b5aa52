"""The forms in which a server can be asked for a JSON object, best first.

Servers that call themselves compatible differ: some constrain the answer to a schema, some only to JSON, some only
through a tool call, and some know nothing of the kind. What is asked is here;
which form a server can do is found out by :mod:`flowrl.proposers.llm.endpoint`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from flowrl.proposers.llm import prompts

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": text}``."""

NAME = "propose_skill"
"""What the schema, or the tool, is called in a request."""


class Way(StrEnum):
    """How JSON is asked for."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    TOOL = "tool_call"
    TEXT = "text"

    @property
    def next(self) -> Way | None:
        """What to try where a server cannot do this one."""
        ways = list(Way)
        return next(iter(ways[ways.index(self) + 1 :]), None)


def request_fields(way: Way, schema: dict[str, Any]) -> dict[str, Any]:
    """What a request says about the answer's form."""
    match way:
        case Way.SCHEMA:
            return {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": NAME, "strict": True, "schema": schema},
                }
            }
        case Way.OBJECT:
            return {"response_format": {"type": "json_object"}}
        case Way.TOOL:
            function = {"name": NAME, "description": "Hands in the skill.", "parameters": schema}
            return {
                "tools": [{"type": "function", "function": function}],
                "tool_choice": {"type": "function", "function": {"name": NAME}},
            }
    return {}


def with_schema(way: Way, messages: list[Message], schema: dict[str, Any]) -> list[Message]:
    """The messages, with the schema at the end of the first where the request's own fields do not carry it."""
    if way in (Way.SCHEMA, Way.TOOL):
        return list(messages)
    first, *others = messages
    form = prompts.render("form", schema=json.dumps(schema))
    return [{**first, "content": f"{first['content']}\n\n{form}"}, *others]
