"""Asks a language model at an OpenAI-compatible address, in a form that its server supports.

Retries and their pauses are decided here, so that they are logged and stay within the time limit, and a request that
the server calls invalid is not repeated.
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
"""The ``finish_reason`` of an answer that contained the key: its text is thrown away."""
LEAST_TOKENS = 500
"""A shorter answer cannot hold a skill."""
_TOO_LONG = re.compile(r"context (length|window|size)|too (large|long|many)|exceed|maximum.{0,20}tokens", re.IGNORECASE)
_TOKENS = re.compile(r"max_(completion_)?tokens")


class Clock(Protocol):
    """The part of :mod:`time` that is used; tests replace it."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Question:
    """One request, independent of its form."""

    messages: tuple[Message, ...]
    schema: dict[str, Any]
    max_tokens: int


@dataclass(frozen=True)
class Usage:
    """Tokens of one call."""

    prompt: int
    completion: int
    cached: int = 0
    """How many of the prompt's tokens were cached."""
    is_estimated: bool = False
    """The server did not report the tokens."""


@dataclass(frozen=True)
class Answer:
    """What the model said."""

    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    model: str
    """The server's name for it."""
    form: AnswerForm
    max_tokens: int
    failed_tries: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long to wait for an answer, and which failures to retry."""

    limit_s: float
    waits_for_absent: bool = True
    """Retry when nothing listens at the address."""
    waits_after_internal: bool = True
    """Retry after HTTP 500; off while testing what a server supports, since some answer 500 to an unsupported form."""


class Endpoint:
    """One model at one address.

    Args:
        secrets: hidden in all messages.
        log: called with a line for each retry, and why.
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
        """The form this server is asked in; None until it is known."""
        self.tokens_parameter = "max_completion_tokens" if settings.base_url == OPENAI else "max_tokens"
        self._swapped = False
        self._most_tokens: int | None = None  # the server's limit, once it is known
        self._log = log
        self._clock = clock
        self._environ = environ

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.settings, self.secrets, self._environ)

    def connect(self) -> None:
        """Makes the client. Sends nothing yet.

        Raises:
            Misconfigured: it cannot be made; says what to correct.
        """
        assert self._connection is not None

    def try_form(self, form: AnswerForm, question: Question, patience: Patience) -> Answer | None:
        """Asks in one form to find out whether the server supports it; None if it does not.

        Raises:
            Misconfigured, Unreachable: as ``ask``.
        """
        structured = form is not AnswerForm.TEXT
        try:
            return self._adapting(question, form, replace(patience, waits_after_internal=not structured))
        except InvalidRequest as error:
            self._log(f"{self.settings.base_url} does not support {form}: {error}")
            if structured:
                return None
            raise Misconfigured(self._refused(error)) from None

    def ask(self, question: Question) -> Answer:
        """The model's answer.

        Raises:
            Misconfigured: the key, the model or the address is wrong, or the server rejects the request.
            Unreachable: no answer within ``timeout_s``.
        """
        assert self.form is not None, "find out the form first"
        while True:
            try:
                return self._adapting(question, self.form, Patience(self.settings.timeout_s))
            except InvalidRequest as error:
                if self.form.next is None:
                    raise Misconfigured(self._refused(error)) from None
                self._log(f"{self.settings.base_url} rejects {self.form} ({error}); continuing with {self.form.next}")
                self.form = self.form.next

    def _adapting(self, question: Question, form: AnswerForm, patience: Patience) -> Answer:
        """Asks in one form; if the server rejects the token limit, retries with another one."""
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
                    self._log(f"{text}; retrying with a limit of {question.max_tokens} tokens")
                elif _TOKENS.search(text) and not self._swapped:
                    self._swapped = True
                    others = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
                    self.tokens_parameter = others[self.tokens_parameter]
                else:
                    raise

    def _patiently(self, question: Question, form: AnswerForm, patience: Patience) -> Answer:
        """Asks until there is an answer, with growing pauses."""
        self.connect()  # before the clock starts: reading the certificates takes a while
        began = self._clock.monotonic()
        failed: list[str] = []
        for pause_s in pauses():
            try:
                # A try may take half of the time, so that a server that hangs is asked twice.
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
                self._log(f"{error}; retrying in {wait_s:.1f} s")
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
            raise Transient(self._connection.line(f"the server answered with an error: {completion.error}"))
        if not choices or not isinstance(choices, list) or getattr(choices[0], "message", None) is None:
            raise Misconfigured(
                f"{self.settings.base_url} does not answer like an OpenAI-compatible server; correct "
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
        return f"{self.settings.base_url} rejects even a plain-text request to {self.settings.model} ({error}); {remedy}"

    def _gave_up(self, failed: list[str], error: Transient, wait_s: float, left_s: float) -> str:
        tries = f"{len(failed)} tries" if len(failed) > 1 else "one try"
        if error.is_absent:
            remedy = f"start the server there, or correct {self.settings.address_from}"
        elif error.retry_after_s is not None and wait_s >= left_s:
            remedy = f"the server asks to wait {wait_s:.0f} s; run the command again later, or raise --llm_timeout_s"
        else:
            remedy = "run the command again later, or raise --llm_timeout_s"
        return f"no answer from {self.settings.model} at {self.settings.base_url} after {tries} ({error}); {remedy}"


def pauses() -> Iterator[float]:
    """An endless series of pauses between tries: each about twice the last one, shortened by a random share."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def usage_of(completion: Any, question: Question, text: str) -> Usage:
    """Tokens as the server reports them; if it does not, an estimate of four characters each."""
    usage = getattr(completion, "usage", None)
    if getattr(usage, "prompt_tokens", None) is None:
        asked = sum(len(message["content"]) for message in question.messages)
        return Usage(estimated_tokens(asked), estimated_tokens(len(text)), is_estimated=True)
    details = getattr(usage, "prompt_tokens_details", None)
    answered, cached = getattr(usage, "completion_tokens", None), getattr(details, "cached_tokens", None)
    return Usage(usage.prompt_tokens, answered or 0, cached or 0)


def estimated_tokens(characters: int) -> int:
    """Estimated number of tokens in a text of this length."""
    return characters // 4 + 1
