"""Finds out how a server gives JSON: one short question in each form, best first, until the server supports one."""

from __future__ import annotations

from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.endpoint import Answer, Question
from flowrl.proposers.llm.errors import AnswerRefused
from flowrl.proposers.llm.proposal import schema
from flowrl.proposers.llm.reading import json_object
from flowrl.proposers.llm.reward_menu import GAIN

MOST_TOKENS = 2_000
_LIMIT_S, _SHARE = 120.0, 0.2


def limit_s(timeout_s: float) -> float:
    """Time limit for the question at the first start, before anything is trained.

    Two minutes, or a fifth of the time for one answer if that is longer (a model on a CPU); never more than that time.
    """
    return min(timeout_s, max(_LIMIT_S, _SHARE * timeout_s))


def messages() -> list[prompts.Message]:
    """The messages of the question."""
    return [{"role": "user", "content": prompts.render("form_check")}]


def question(max_tokens: int) -> Question:
    """The question, with the schema for its answer."""
    return Question(tuple(messages()), schema([GAIN]), max_tokens)


def follows_the_form(answer: Answer) -> bool:
    """Whether an answer shows that the server follows the form. One that was cut off is given the benefit of the doubt."""
    text = answer.text.strip()
    if answer.finish_reason == "length" and (not text or text.startswith("{")):
        return True
    try:
        return {"name", "gains"} <= json_object(text).keys() and text.startswith("{")
    except AnswerRefused:
        return False
