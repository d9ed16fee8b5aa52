"""What opens a server to us: which key can be sent, and how it stays out of what is shown or written down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from flowrl.errors import BadInput

SHORTEST_HIDDEN = 8
"""Characters. What is shorter stands in ordinary words (``none`` in ``nonempty``), and is no secret: ``EMPTY``, ``x``."""
SHORTEST_ISSUED = 20
"""Characters. A key of this length is in an answer because the server has put it there, not by chance."""
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


def usable_key(text: str | None) -> str | None:
    """A key as it is sent: without white space around it, None where nothing is left.

    Raises:
        BadInput: it cannot be sent in a header. The message does not show it.
    """
    key = (text or "").strip()
    if fault := unsendable(key):
        raise BadInput(
            f"OPENAI_API_KEY holds {fault}, and a key is one line of letters, digits and signs; set it to the key alone, "
            'as in export OPENAI_API_KEY="$(cat KEY_FILE)"'
        )
    return key or None


def unsendable(text: str) -> str | None:
    """What it is in a text that an HTTP header does not carry, in words that do not show the text; None if nothing."""
    for place, character in enumerate(text, 1):
        if character in "\r\n":
            return f"a line break (character {place} of {len(text)})"
        if not character.isascii():
            return f"a character outside ASCII (character {place} of {len(text)})"
        if not character.isprintable():
            return f"a control character (character {place} of {len(text)})"
    return None


class Secrets:
    """The texts that are shown nowhere: the key, and what OPENAI_CUSTOM_HEADERS sends in its place."""

    def __init__(self, key: str | None, environ: Mapping[str, str]):
        words = [key or "", *_words_of_secret_headers(environ)]
        self._words = sorted({word for word in words if len(word) >= SHORTEST_HIDDEN}, key=len, reverse=True)

    def hide(self, message: str) -> str:
        """The message without them: some servers send a key back in theirs. Never for an answer, which is used as it is."""
        for word in self._words:
            message = message.replace(word, "***")
        return message

    def are_in(self, answer: str) -> bool:
        """Whether an answer holds one that is too long to stand there by chance."""
        return any(word in answer for word in self._words if len(word) >= SHORTEST_ISSUED)


def custom_headers(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Names and values in OPENAI_CUSTOM_HEADERS, which the ``openai`` package adds to each request: one in a line."""
    for line in environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _words_of_secret_headers(environ: Mapping[str, str]) -> Iterable[str]:
    values = (value for name, value in custom_headers(environ) if _SECRET_HEADER.search(name))
    return (word for value in values for word in value.split())
