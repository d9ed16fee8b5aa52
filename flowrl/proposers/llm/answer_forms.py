"""The forms in which a server can be asked for a JSON object, best first.

Servers that call themselves compatible differ: some constrain the answer to a schema, some only to JSON, some only
through a tool call, and some know nothing of the kind. Which of these a server can do is found out by
:mod:`flowrl.proposers.llm.recorded_model`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.prompts import Message

TOOL_NAME = "propose_skill"
"""What the schema, or the tool, is called in a request."""


class AnswerForm(StrEnum):
    """How JSON is asked for. The values stand in recordings."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    TOOL = "tool_call"
    TEXT = "text"

    @property
    def next(self) -> AnswerForm | None:
        """What to try where a server cannot do this one."""
        forms = list(AnswerForm)
        return next(iter(forms[forms.index(self) + 1 :]), None)


def request_fields(form: AnswerForm, schema: dict[str, Any]) -> dict[str, Any]:
    """What a request says about the answer's form."""
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
            function = {"name": TOOL_NAME, "description": "Hands in the skill.", "parameters": schema}
            return {
                "tools": [{"type": "function", "function": function}],
                "tool_choice": {"type": "function", "function": {"name": TOOL_NAME}},
            }
    return {}


def with_schema(form: AnswerForm, messages: list[Message], schema: dict[str, Any]) -> list[Message]:
    """The messages, with the schema at the end of the first where the request's own fields do not carry it."""
    if form in (AnswerForm.SCHEMA, AnswerForm.TOOL):
        return list(messages)
    first, *others = messages
    instructions = prompts.render("form", schema=json.dumps(schema))
    return [{**first, "content": f"{first['content']}\n\n{instructions}"}, *others]
