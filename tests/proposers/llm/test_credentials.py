"""Keys: which ones can be sent, and where they are hidden."""

from __future__ import annotations

import pytest

from flowrl.errors import BadInput
from flowrl.proposers.llm.credentials import SHORTEST_HIDDEN, SHORTEST_ISSUED, Secrets, usable_key

LONG = "sk-0123456789abcdefghij"


@pytest.mark.parametrize("text", [LONG, f"{LONG}\n", f" {LONG}\r\n", f"\t{LONG}\n\n"])
def test_white_space_around_a_key_is_dropped(text):
    assert usable_key(text) == LONG


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_empty_key_is_no_key(text):
    assert usable_key(text) is None


@pytest.mark.parametrize(
    ("inner", "fault"),
    [("\n", "a line break"), ("\r", "a line break"), ("\x00", "a control"), ("\t", "a control"), ("\x7f", "a control"),
     *((character, "a character outside ASCII") for character in "é€\u2028\udc80")],
)  # fmt: skip
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(inner, fault):
    with pytest.raises(BadInput, match=f"^OPENAI_API_KEY contains {fault}.*set it") as refused:
        usable_key(f"sk-before{inner}after\n")
    assert "\n" not in str(refused.value)
    assert "before" not in str(refused.value) and "after" not in str(refused.value)


def test_a_key_long_enough_to_be_secret_is_hidden_in_messages():
    assert Secrets(LONG, {}).hide(f"Incorrect API key {LONG}: {LONG}") == "Incorrect API key ***: ***"
    assert Secrets("k" * SHORTEST_HIDDEN, {}).hide("k" * SHORTEST_HIDDEN) == "***"
    for short in ("x", "none", "EMPTY", "k" * (SHORTEST_HIDDEN - 1), None):
        message = f"fixed: nonempty, EMPTY {short}"
        assert Secrets(short, {}).hide(message) == message


def test_only_a_long_key_is_found_in_an_answer():
    assert Secrets("k" * SHORTEST_ISSUED, {}).are_in("k" * SHORTEST_ISSUED)
    assert not Secrets("inventory_diff", {}).are_in("inventory_diff.wood")
    assert not Secrets(None, {}).are_in("")


def test_secrets_in_custom_headers_are_hidden_too():
    environ = {"OPENAI_CUSTOM_HEADERS": f"Authorization: Bearer {LONG}\nX-Team: agents-and-games\nno header"}
    found = Secrets(None, environ)
    assert found.hide(f"{LONG} of agents-and-games") == "*** of agents-and-games"
    assert found.are_in(LONG)
