"""Answers in every shape that servers and models produce: the JSON object is found, or a refusal says what is there."""

from __future__ import annotations

import json

import pytest

from flowrl.proposers.llm.errors import AnswerRefused
from flowrl.proposers.llm.reading import json_object, refusal_of, text_of

SKILL = {"name": "X", "gains": []}
TEXT = json.dumps(SKILL)
DRAFT = '{"name": "Y", "gains": []}'
CALL = {"name": "propose_skill", "arguments": SKILL}


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"Sure! Here is {{a skill}}:\n{TEXT}\nDoes it help?",
        f"<think>{DRAFT} or rather</think>{TEXT}",
        f"<reasoning>{DRAFT}</reasoning>\n{TEXT}",
        f"{DRAFT} or rather\n</think>\n\n{TEXT}",  # the server's template opened the thoughts
        f"<think>none of this ends {TEXT}",
        f"{TEXT}</think>",
        f'{{"note": 1}} {{"name": "no skill"}} {TEXT}',
        f'{{"type": "object", "properties": {{"name": {{"type": "string"}}, "gains": {{}}}}}} {TEXT}',
        f"{TEXT} An alternative: {DRAFT}",
        f'{{"skill": {TEXT}}}',
        f"[{TEXT}, {DRAFT}]",
        json.dumps(TEXT),
        json.dumps(CALL),
        f"<tool_call>{json.dumps(CALL)}</tool_call>",
        json.dumps({"name": "propose_skill", "parameters": SKILL}),
        json.dumps(CALL | {"arguments": TEXT}),
    ],
)
def test_the_skill_is_found_whatever_is_around_it(text):
    assert json_object(text) == SKILL


def test_an_object_with_only_a_name_is_found_if_there_is_no_better_one():
    assert json_object('{"note": 1} {"name": "X"} {"name": "Y"}') == {"name": "X"}
    assert json_object('{"note": 1}') == {"note": 1}


def test_line_breaks_in_a_string_are_accepted():
    assert json_object('{"name": "X", "task_reward": "def f(n):\n\treturn n"}')["task_reward"] == "def f(n):\n\treturn n"


def test_a_lone_surrogate_is_replaced():
    found = json_object('{"name": "X", "description": "\\ud800 \\ud83d\\ude00"}')
    assert found["description"] == "? \N{GRINNING FACE}"
    assert text_of("\ud800") == "?"


@pytest.mark.parametrize(
    "text",
    ["", "I cannot.", '{"name": "X", "gains": [', "{" * 10_000, '{"a":' * 10_000, "[1, 2]", '{"name": "X"', '"', '""',
     "1" * 9_000, '{"name": ' + "1" * 9_000 + "}", "<think>hm</think>", '{"name": "X", "arguments": "{'],
)  # fmt: skip
def test_a_text_without_an_object_is_refused_in_one_line(text):
    with pytest.raises(AnswerRefused) as refused:
        json_object(text)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def part(kind, text):
    return {"type": kind, "text": text}


def tool_call(arguments):
    return {"id": "1", "type": "function", "function": {"name": "propose_skill", "arguments": arguments}}


@pytest.mark.parametrize(
    "message",
    [
        {"content": TEXT},
        TEXT,
        {"content": [{"type": "text", "text": TEXT}]},
        {"content": [part("reasoning", DRAFT), part("text", TEXT[:5]), part("text", TEXT[5:])]},
        {"content": [{"type": "thinking", "thinking": [part("text", DRAFT)]}, part("text", TEXT)]},
        {"content": [part("output_text", {"value": TEXT, "annotations": []}), {"type": "image_url", "image_url": {}}]},
        {"content": [TEXT[:5], TEXT[5:]]},
        {"content": {"type": "text", "text": TEXT}},
        {"content": SKILL},
        {"content": [SKILL]},
        {"content": None, "tool_calls": [tool_call(TEXT)]},
        {"content": "Here it is:", "tool_calls": [tool_call(SKILL)]},
        {"content": None, "tool_calls": tool_call(SKILL)},
        {"content": TEXT, "tool_calls": [tool_call(""), tool_call(None), "x", None, {"function": None}]},
        {"content": None, "tool_calls": [tool_call(""), tool_call(SKILL)]},
        {"content": None, "function_call": {"name": "propose_skill", "arguments": TEXT}},
    ],
)
def test_the_text_of_a_message_is_found_in_every_shape(message):
    assert json_object(text_of(message)) == SKILL


@pytest.mark.parametrize("content", [None, [], [None, 3], [part("reasoning", TEXT)], 3, {"type": "text"}, [part("text", None)]])
def test_a_message_without_text_is_empty(content):
    assert text_of({"content": content}) == ""


def test_a_refusal_may_be_a_part():
    assert refusal_of({"content": [{"type": "refusal", "refusal": "No."}]}) == "No."
    assert refusal_of({"content": "x", "refusal": "Never."}) == "Never."
    assert refusal_of({"content": [{"type": "text", "text": "x"}], "refusal": None}) is None
    assert refusal_of("x") is None
