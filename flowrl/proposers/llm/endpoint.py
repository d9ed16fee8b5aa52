"""Asking a language model at an OpenAI-compatible address, in the forms that its server can do.

What is tried again, and after which pause, is decided here, so that it is logged, stays within the time allowed, and
leaves a request alone that the server calls invalid.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from flowrl.proposers.llm.answer_forms import AnswerForm, request_fields, with_schema
from flowrl.proposers.llm.connection import Connection
from flowrl.proposers.llm.credentials import Secrets
from flowrl.proposers.llm.errors import InvalidRequest, Misconfigured, Transient, Unreachable
from flowrl.proposers.llm.prompts import Message
from flowrl.proposers.llm.reading import refusal_of, text_of
from flowrl.proposers.llm.settings import OPENAI, LlmSettings

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
WITHHELD = "withheld"
"""The ``finish_reason`` of an answer that held the key: its text is thrown away."""
LEAST_TOKENS = 500
"""A shorter answer cannot hold a skill."""
_TOO_LONG = re.compile(r"context (length|window|size)|too (large|long|many)|exceed|maximum.{0,20}tokens", re.IGNORECASE)
_TOKENS = re.compile(r"max_(completion_)?tokens")


class Clock(Protocol):
    """The part of :mod:`time` that is used; a test brings its own."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Question:
    """One request, whatever its form."""

    messages: tuple[Message, ...]
    schema: dict[str, Any]
    max_tokens: int


@dataclass(frozen=True)
class Usage:
    """Tokens of one call."""

    prompt: int
    completion: int
    cached: int = 0
    """Of the prompt's tokens."""
    is_estimated: bool = False
    """The server did not say."""


@dataclass(frozen=True)
class Answer:
    """What the model said."""

    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    model: str
    """As the server calls it."""
    form: AnswerForm
    max_tokens: int
    failed_tries: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long, and for what, an answer is waited for."""

    limit_s: float
    waits_for_absent: bool = True
    """Ask again where nobody listens at the address."""
    waits_after_internal: bool = True
    """Ask again after HTTP 500; off while it is tried out what a server can do, for some say so in this way."""


class Endpoint:
    """One model at one address.

    Args:
        secrets: are hidden in all messages.
        log: takes a line about what was tried again, and why.
    """

    def __init__(
        self,
        settings: LlmSettings,
        secrets: Secrets,
        log: Callable[[str], None],
        clock: Clock = time,
        environ: Mapping[str, str] = os.environ,
    ):
        self.settings = settings
        self.secrets = secrets
        self.form: AnswerForm | None = None
        """How this server is asked; None while that is not known."""
        self.tokens_parameter = "max_completion_tokens" if settings.base_url == OPENAI else "max_tokens"
        self._swapped = False
        self._most_tokens: int | None = None  # that the server allows, where that was found out
        self._log = log
        self._clock = clock
        self._environ = environ

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.settings, self.secrets, self._environ)

    def connect(self) -> None:
        """Makes the client ready. Asks nothing yet.

        Raises:
            Misconfigured: it cannot be made; names what is to be corrected.
        """
        assert self._connection is not None

    def try_form(self, form: AnswerForm, question: Question, patience: Patience) -> Answer | None:
        """Asks in one form to find out whether the server can do it; None: it cannot.

        Raises:
            Misconfigured, Unreachable: as ``ask``.
        """
        structured = form is not AnswerForm.TEXT
        try:
            return self._adapting(question, form, replace(patience, waits_after_internal=not structured))
        except InvalidRequest as error:
            self._log(f"{self.settings.base_url} cannot be asked by {form}: {error}")
            if structured:
                return None
            raise Misconfigured(self._refused(error)) from None

    def ask(self, question: Question) -> Answer:
        """The model's answer.

        Raises:
            Misconfigured: the key, the model or the address is wrong, or the server does not take the request.
            Unreachable: there was no answer within ``timeout_s``.
        """
        assert self.form is not None, "the form to ask in has to be found out first"
        while True:
            try:
                return self._adapting(question, self.form, Patience(self.settings.timeout_s))
            except InvalidRequest as error:
                if self.form.next is None:
                    raise Misconfigured(self._refused(error)) from None
                self._log(f"{self.settings.base_url} refuses {self.form} ({error}); going on with {self.form.next}")
                self.form = self.form.next

    def _adapting(self, question: Question, form: AnswerForm, patience: Patience) -> Answer:
        """Asks in one form; a request whose token limit is not taken is sent with another one."""
        if self._most_tokens is not None:
            question = replace(question, max_tokens=min(question.max_tokens, self._most_tokens))
        while True:
            try:
                return self._patiently(question, form, patience)
            except InvalidRequest as error:
                text = str(error)
                if _TOO_LONG.search(text) and question.max_tokens // 2 >= LEAST_TOKENS:
                    self._most_tokens = question.max_tokens // 2
                    question = replace(question, max_tokens=self._most_tokens)
                    self._log(f"{text}; asking for {question.max_tokens} tokens at most")
                elif _TOKENS.search(text) and not self._swapped:
                    self._swapped = True
                    others = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
                    self.tokens_parameter = others[self.tokens_parameter]
                else:
                    raise

    def _patiently(self, question: Question, form: AnswerForm, patience: Patience) -> Answer:
        """Asks until there is an answer, with pauses that grow."""
        self.connect()  # before the time runs: reading the certificates takes a while
        began = self._clock.monotonic()
        failed: list[str] = []
        for pause_s in pauses():
            try:
                # A try may take half of the time, so that a server that hangs is asked a second time.
                answer = self._once(question, form, limit_s=patience.limit_s / 2)
                return replace(answer, failed_tries=tuple(failed))
            except Transient as error:
                failed.append(str(error))
                if error.is_internal and not patience.waits_after_internal:
                    raise InvalidRequest(str(error)) from None
                wait_s = pause_s if error.retry_after_s is None else error.retry_after_s
                left_s = patience.limit_s - (self._clock.monotonic() - began)
                if wait_s >= left_s or (error.is_absent and not patience.waits_for_absent):
                    raise Unreachable(self._gave_up(failed, error, wait_s, left_s)) from None
                self._log(f"{error}; asking again in {wait_s:.1f} s")
                self._clock.sleep(wait_s)
        raise AssertionError("pauses never end")

    def _once(self, question: Question, form: AnswerForm, limit_s: float) -> Answer:
        request = {
            "model": self.settings.model,
            "messages": with_schema(form, list(question.messages), question.schema),
            self.tokens_parameter: question.max_tokens,
            **request_fields(form, question.schema),
        }
        began = self._clock.monotonic()
        completion = self._connection.complete(request, limit_s)
        return self._answer(completion, form, question, self._clock.monotonic() - began)

    def _answer(self, completion: Any, form: AnswerForm, question: Question, seconds: float) -> Answer:
        choices = getattr(completion, "choices", None)
        if not isinstance(completion, str) and getattr(completion, "error", None):
            raise Transient(self._connection.line(f"the server answers with an error: {completion.error}"))
        if not choices or not isinstance(choices, list) or getattr(choices[0], "message", None) is None:
            raise Misconfigured(
                f"{self.settings.base_url} answers, but not as an OpenAI-compatible server does; correct "
                f"{self.settings.address_from} (it usually ends in /v1)"
            )
        message = choices[0].message
        text, finish_reason = text_of(message), str(choices[0].finish_reason or "stop")
        usage, refusal = usage_of(completion, question, text), refusal_of(message)
        if self.secrets.are_in(text):
            text, finish_reason = "", WITHHELD
        return Answer(
            text=text,
            finish_reason=finish_reason,
            usage=usage,
            seconds=seconds,
            model=self.secrets.hide(str(getattr(completion, "model", None) or self.settings.model)),
            form=form,
            max_tokens=question.max_tokens,
            refusal=self._connection.line(refusal) if refusal else None,
        )

    def _refused(self, error: InvalidRequest) -> str:
        is_too_long = _TOO_LONG.search(str(error))
        remedy = "choose a model with a larger context" if is_too_long else "choose another --llm_name or server"
        return f"{self.settings.base_url} does not take a plain question to {self.settings.model} ({error}); {remedy}"

    def _gave_up(self, failed: list[str], error: Transient, wait_s: float, left_s: float) -> str:
        tries = f"{len(failed)} tries" if len(failed) > 1 else "one try"
        if error.is_absent:
            remedy = f"start the server there, or correct {self.settings.address_from}"
        elif error.retry_after_s is not None and wait_s >= left_s:
            remedy = f"the server asks to wait {wait_s:.0f} s; start again later, or raise --llm_timeout_s"
        else:
            remedy = "start again later, or raise --llm_timeout_s"
        return f"no answer from {self.settings.model} at {self.settings.base_url} after {tries} ({error}); {remedy}"


def pauses() -> Iterator[float]:
    """Pauses between tries, without end: each about twice the one before, cut by a random share."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def usage_of(completion: Any, question: Question, text: str) -> Usage:
    """Tokens as the server counts them; where it does not, about four characters each."""
    usage = getattr(completion, "usage", None)
    if getattr(usage, "prompt_tokens", None) is None:
        asked = sum(len(message["content"]) for message in question.messages)
        return Usage(estimated_tokens(asked), estimated_tokens(len(text)), is_estimated=True)
    details = getattr(usage, "prompt_tokens_details", None)
    answered, cached = getattr(usage, "completion_tokens", None), getattr(details, "cached_tokens", None)
    return Usage(usage.prompt_tokens, answered or 0, cached or 0)


def estimated_tokens(characters: int) -> int:
    """About how many tokens a text has."""
    return characters // 4 + 1
