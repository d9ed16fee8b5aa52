"""The API key: which keys can be sent, and how they stay out of everything that is shown or written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from flowrl.errors import BadInput

SHORTEST_HIDDEN = 8
"""Characters. Shorter keys occur inside ordinary words (``none`` in ``nonempty``), and are no secrets: ``EMPTY``, ``x``."""
SHORTEST_ISSUED = 20
"""Characters. A key of this length does not occur in an answer by chance: the server must have put it there."""
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


def usable_key(text: str | None) -> str | None:
    """A key as it is sent: without surrounding white space; None if nothing is left.

    Raises:
        BadInput: it cannot be sent in a header. The message does not show the key.
    """
    key = (text or "").strip()
    if fault := unsendable(key):
        raise BadInput(
            f"OPENAI_API_KEY contains {fault}, but a key is one line of printable ASCII; set it to the key alone, "
            'as in export OPENAI_API_KEY="$(cat KEY_FILE)"'
        )
    return key or None


def unsendable(text: str) -> str | None:
    """What in a text cannot be sent in an HTTP header, described without showing the text; None if all of it can."""
    for place, character in enumerate(text, 1):
        if character in "\r\n":
            return f"a line break (character {place} of {len(text)})"
        if not character.isascii():
            return f"a character outside ASCII (character {place} of {len(text)})"
        if not character.isprintable():
            return f"a control character (character {place} of {len(text)})"
    return None


class Secrets:
    """What must not be shown anywhere: the key, and the secrets that OPENAI_CUSTOM_HEADERS sends in its place."""

    def __init__(self, key: str | None, environ: Mapping[str, str]):
        words = [key or "", *_words_of_secret_headers(environ)]
        self._words = sorted({word for word in words if len(word) >= SHORTEST_HIDDEN}, key=len, reverse=True)

    def hide(self, message: str) -> str:
        """The message without secrets: some servers repeat the key in theirs. Not for answers, which are used unchanged."""
        for word in self._words:
            message = message.replace(word, "***")
        return message

    def are_in(self, answer: str) -> bool:
        """Whether an answer contains a secret that is too long to be there by chance."""
        return any(word in answer for word in self._words if len(word) >= SHORTEST_ISSUED)


def custom_headers(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Names and values in OPENAI_CUSTOM_HEADERS, one per line, which the ``openai`` package adds to each request."""
    for line in environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _words_of_secret_headers(environ: Mapping[str, str]) -> Iterable[str]:
    values = (value for name, value in custom_headers(environ) if _SECRET_HEADER.search(name))
    return (word for value in values for word in value.split())
