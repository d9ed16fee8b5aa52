"""Finds the JSON object in an answer of any shape: parts, a tool call, thoughts and explanations around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flowrl.proposers.llm.errors import AnswerRefused

_TAG = "(?:think|thinking|thought|thoughts|reasoning|reflection)"
_THOUGHTS = re.compile(rf"<({_TAG})>.*?</\1>", re.DOTALL)
_END_OF_THOUGHTS = re.compile(rf"</{_TAG}>")
_TEXT_PARTS = ("text", "output_text")
_INPUTS_OF_A_CALL = ("arguments", "parameters")


def text_of(message: Any) -> str:
    """The text of a message: the input of its tool call if there is one, else its content. May be empty.

    Args:
        message: from the ``openai`` package, which does not check the types of what a server sends.
    """
    if isinstance(message, str):
        return _encodable(message)
    return _encodable(_tool_input(message) or _content_text(_field(message, "content")))


def refusal_of(message: Any) -> str | None:
    """The words in which the model declined to answer; None if it did not."""
    content = _field(message, "content")
    parts = content if isinstance(content, list) else []
    refusals = [_field(message, "refusal"), *(part.get("refusal") for part in parts if isinstance(part, dict))]
    return next((str(refusal) for refusal in refusals if refusal), None)


def json_object(text: str) -> dict[str, Any]:
    """The skill in a text, as a JSON object. Thoughts, fences, explanations and wrappers around it are skipped.

    Of several objects, takes the first one with a name and gains, else the first one with a name.

    Raises:
        AnswerRefused: there is no such object.
    """
    fault: str | None = None
    found: list[dict[str, Any]] = []
    for item in _objects(_without_thoughts(_decoded_once(text))):
        if isinstance(item, dict):
            found.append(_call_input(item))
        else:
            fault = fault or item
    for is_meant in (_is_skill, _is_named):
        if meant := next(filter(is_meant, found), None):
            return json.loads(_encodable(json.dumps(meant, ensure_ascii=False)))
    if found and fault is None:
        return found[0]
    raise AnswerRefused(
        f"the answer contains no JSON object with a name ({fault or 'no { in it'}); it begins with {short(repr(text.strip()))}"
    )


def short(text: str) -> str:
    """At most 80 characters of a text."""
    return text if len(text) <= 80 else f"{text[:80]}..."


def _encodable(text: str) -> str:
    """The text with ``?`` for lone surrogates, which JSON may contain but UTF-8 may not."""
    return text.encode("utf-8", "replace").decode("utf-8")


# The message.


def _field(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)


def _tool_input(message: Any) -> str:
    calls = _field(message, "tool_calls")
    calls = calls if isinstance(calls, list) else [calls]
    functions = [*(_field(call, "function") for call in calls), _field(message, "function_call")]
    inputs = (_as_text(_field(function, "arguments")) for function in functions)
    return next((text for text in inputs if text.strip()), "")


def _content_text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(map(_part_text, content))
    return _part_text(content)


def _part_text(part: Any) -> str:
    """The text of one part of a message's content; empty for reasoning, images and the like."""
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    if "type" not in part and "text" not in part:  # the skill itself, as an object
        return _as_text(part)
    text = part.get("text") if part.get("type", "text") in _TEXT_PARTS else None
    return _part_text(text.get("value") if isinstance(text, dict) else text)


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else ""


# The text.


def _decoded_once(text: str) -> str:
    """Decodes a text that is one JSON string: some servers encode the input of a call twice."""
    inner = _loaded(text) if text.strip().startswith('"') else None
    return inner if isinstance(inner, str) else text


def _without_thoughts(text: str) -> str:
    """The text without thoughts. If the server's template opened them, only their closing tag is in the text."""
    text = _THOUGHTS.sub("", text)
    rest = _END_OF_THOUGHTS.split(text)[-1]
    return rest if "{" in rest else text


def _objects(text: str) -> Iterator[dict[str, Any] | str]:
    """The JSON objects in a text; for a broken one, its error message. Objects nested in a named one are not listed."""
    # JSON strings must not contain line breaks, but models that write code put them there anyway.
    decoder = json.JSONDecoder(strict=False)
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            found, after = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            yield f"{error.msg}, line {error.lineno}"
        except ValueError as error:  # a number with thousands of digits
            yield str(error)
        except RecursionError:
            yield "nested too deeply"
        else:
            yield found
            end = after if _is_named(found) else end
        start = text.find("{", end)


def _is_named(found: dict[str, Any]) -> bool:
    return "name" in found


def _is_skill(found: dict[str, Any]) -> bool:
    # In a schema that was sent back, "name" is an object.
    return isinstance(found.get("name"), str) and "gains" in found


def _call_input(found: dict[str, Any]) -> dict[str, Any]:
    """The input, if the object is a tool call written as text; else the object itself."""
    for field in _INPUTS_OF_A_CALL:
        value = found.get(field)
        with_it = _loaded(value) if isinstance(value, str) else value
        if isinstance(with_it, dict) and _is_named(with_it):
            return with_it
    return found


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
