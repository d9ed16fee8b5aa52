"""The proposer's own checks on an answer, before the caller tries the skill."""

from __future__ import annotations

from typing import Any

from flowrl.proposers.base import LibraryView
from flowrl.proposers.llm.calls import Call
from flowrl.proposers.llm.connection import printable
from flowrl.proposers.llm.endpoint import WITHHELD
from flowrl.proposers.llm.errors import AnswerRefused
from flowrl.proposers.llm.reading import json_object
from flowrl.skills.frontier import reachable_skills
from flowrl.skills.graph import provides
from flowrl.skills.spec import SkillSpec


def object_in(call: Call) -> dict[str, Any]:
    """The JSON object in an answer.

    Raises:
        AnswerRefused: the answer was cut off or withheld, the model declined, or there is no object.
    """
    answer = call.answer
    if call.is_cut_off:
        raise AnswerRefused(f"the answer was cut off after {call.request.max_tokens} tokens; answer in fewer words")
    if answer.finish_reason == WITHHELD:
        raise AnswerRefused("the answer contained the server's key and was thrown away; answer with the JSON object alone")
    if answer.refusal or answer.finish_reason == "content_filter":
        raise AnswerRefused(f"the model declined to answer ({answer.refusal or answer.finish_reason})")
    return json_object(answer.text)


def name_in(data: dict[str, Any]) -> str | None:
    """The name of the skill in an answer, for messages; None if it has none."""
    name = data.get("name")
    return printable(name[:64]) or None if isinstance(name, str) else None


def check_new(spec: SkillSpec, library: LibraryView) -> None:
    """Checks that a skill's name is free, and that it gains something that no skill in reach provides.

    Raises:
        AnswerRefused: the name is taken, or the gains are not new.
    """
    if library.knows(spec.name):
        raise AnswerRefused(f"skill {spec.name} already exists; choose a gain that is still missing, and another name")
    reached = reachable_skills(library.available, library.facts).values()

    def is_new(resource: str) -> bool:
        level = spec.gains[resource].at(1)
        return level > 0 and not any(provides(other, resource, level, library.facts) for other in reached)

    if not any(is_new(resource) for resource in spec.gains):
        raise AnswerRefused(
            f"skill {spec.name} is not new: the library already provides {', '.join(spec.gains)}; choose a gain that is "
            "still missing"
        )
