"""The model together with its recorded answers: an answer that is recorded is reused, and never paid for twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from flowrl.errors import BadInput
from flowrl.proposers.llm import form_check
from flowrl.proposers.llm.account import Account
from flowrl.proposers.llm.answer_forms import AnswerForm
from flowrl.proposers.llm.calls import FORM_CHECK, Call, CallFolder, Decision, Reply, Request, Tokens, hash_of
from flowrl.proposers.llm.conversation import Conversation
from flowrl.proposers.llm.credentials import Secrets
from flowrl.proposers.llm.endpoint import Answer, Clock, Endpoint, Patience, Question
from flowrl.proposers.llm.errors import BudgetSpent, Unreachable
from flowrl.proposers.llm.prompts import Message
from flowrl.proposers.llm.settings import LlmSettings


class RecordedModel:
    """One model at one address, and the folder of its calls. A replay never calls the model, and changes no recording.

    Args:
        schema: the JSON schema of the answers.
        say: called with a line for the terminal.

    Raises:
        BadInput: a recording or the price list cannot be read, or no client can be made in this environment.
    """

    def __init__(
        self, settings: LlmSettings, schema: dict[str, Any], secrets: Secrets, say: Callable[[str], None], clock: Clock
    ):
        self.settings = settings
        self._schema = schema
        self.account = Account(settings)
        self.calls = CallFolder(settings.folder, secrets.hide)
        self.endpoint = Endpoint(settings, secrets, self.calls.log, clock)
        self.is_replay = settings.mode == "replay"
        self._say = say
        self._is_begun = False
        self._replaces_recordings = False
        if not self.is_replay:
            self.endpoint.connect()

    def prepare(self, opening: Sequence[Message], is_resumed: bool) -> None:
        """Checks everything that can be checked before anything is trained. Touches no file.

        Args:
            opening: the first question of an experiment.
            is_resumed: there are skills already, which must not wait for the model; it is called only when needed.

        Raises:
            BadInput: the key, the model, the address, the budget or the recordings are unusable; says what to do.
        """
        if self.is_replay:
            if not is_resumed and (gap := self.calls.first_gap()):
                raise self._missing(*gap)
            return
        if self.settings.mode == "record" and not is_resumed:
            self._replaces_recordings = True
            self.calls.forget()
        self.account.check_budget(opening, [] if is_resumed else self.calls.all())
        self._say(f"{self.settings.model}: {self.account.estimate(opening)}")
        if is_resumed:
            return
        try:
            self._find_form(Patience(form_check.limit_s(self.settings.timeout_s), waits_for_absent=False))
        except (Unreachable, BudgetSpent) as error:
            raise BadInput(str(error)) from None

    def begin(self) -> None:
        """Called once the folder is ours: writes what was held in memory so far."""
        if self._is_begun:
            return
        self._is_begun = True
        if self._replaces_recordings and (aside := self.calls.move_aside()):
            self._say(f"moved earlier recordings to {aside}")
        if not self.is_replay:
            for call in self.calls.of(FORM_CHECK):
                self.calls.save(call)
        self.calls.open_log()

    def answer(self, conversation: Conversation) -> Call | None:
        """The next answer, recorded or new; None if the replayed run continued with another skill here.

        Raises:
            BudgetSpent: a new answer could cost more than is left.
            Unreachable: there was no answer in time.
            BadInput: the key or the model no longer works, or a recording is missing.
        """
        call = self.calls.get(conversation.number, conversation.repair)
        if call is None:
            return self._not_recorded(conversation) if self.is_replay else self._ask(conversation)
        if hash_of(conversation.messages()) != hash_of(call.request.messages):
            self.calls.log(f"{call.place}: the question differs from the recorded one")
        return call

    def decide(self, call: Call, decision: Decision) -> None:
        """Records what was decided about an answer."""
        if call.outcome == decision:
            return
        call.outcome = decision
        if not self.is_replay:
            self.calls.save(call)

    def spent(self, calls: Iterable[Call]) -> float | None:
        """USD that some calls cost this experiment; None if the price of one of them is unknown."""
        return 0.0 if self.is_replay else self.account.spent(calls)

    def _not_recorded(self, conversation: Conversation) -> None:
        if not any(number > conversation.number for number in self.calls.proposals()):
            raise self._missing(conversation.number, conversation.repair)
        self.calls.log(f"proposal {conversation.number}: refused now, accepted when it was recorded; continuing with the next")

    def _ask(self, conversation: Conversation) -> Call:
        if self.endpoint.form is None:
            self._find_form(Patience(self.settings.timeout_s))
        messages = conversation.messages()
        tokens = self.account.affordable(messages, conversation.max_tokens, self.calls.all())
        question = Question(tuple(messages), self._schema, tokens)
        call = self._recorded(conversation.number, conversation.repair, question, self.endpoint.ask(question))
        self.calls.save(call)
        return call

    def _find_form(self, patience: Patience) -> None:
        """Finds out in which form the server gives JSON, once per address and model."""
        earlier = [call for call in self.calls.of(FORM_CHECK) if self._is_ours(call.request) and not call.is_refused]
        if earlier:
            self.endpoint.form = earlier[-1].request.form
            self.endpoint.tokens_parameter = earlier[-1].request.tokens_parameter
            return
        for form in AnswerForm:
            if self._supports(form, patience):
                self.endpoint.form = form
                return

    def _supports(self, form: AnswerForm, patience: Patience) -> bool:
        tokens = self.account.affordable(form_check.messages(), form_check.MOST_TOKENS, self.calls.all())
        question = form_check.question(tokens)
        answer = self.endpoint.try_form(form, question, patience)
        if answer is None:
            return False
        is_supported = form is AnswerForm.TEXT or form_check.follows_the_form(answer)
        call = self._recorded(FORM_CHECK, len(self.calls.of(FORM_CHECK)), question, answer)
        verdict, reason = ("accepted", None) if is_supported else ("refused", "not in the requested form")
        call.outcome = Decision(verdict=verdict, reason=reason)
        if self._is_begun:
            self.calls.save(call)
        return is_supported

    def _is_ours(self, request: Request) -> bool:
        return (request.address, request.model) == (self.settings.base_url, self.settings.model)

    def _recorded(self, number: int, repair: int, question: Question, answer: Answer) -> Call:
        usage = answer.usage
        return self.calls.add(
            Call(
                proposal=number,
                repair=repair,
                asked_at=datetime.now(UTC),
                request=Request(
                    address=self.settings.base_url,
                    model=self.settings.model,
                    form=answer.form,
                    tokens_parameter=self.endpoint.tokens_parameter,
                    max_tokens=answer.max_tokens,
                    messages=list(question.messages),
                ),
                answer=Reply(text=answer.text, finish_reason=answer.finish_reason, model=answer.model, refusal=answer.refusal),
                tokens=Tokens(
                    prompt=usage.prompt, completion=usage.completion, cached=usage.cached, is_estimated=usage.is_estimated
                ),
                seconds=round(answer.seconds, 3),
                cost_usd=self.account.cost(usage),
                failed_tries=list(answer.failed_tries),
            )
        )

    def _missing(self, number: int, repair: int) -> BadInput:
        return BadInput(
            f"there is no recording {number}-{repair}-*.json in {self.settings.folder}, and --llm_mode replay does not call "
            "the model; copy the llm folder of the experiment to replay there, or use --llm_mode live"
        )
