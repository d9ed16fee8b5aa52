"""The proposer that asks a language model, tells it why a proposal was refused, and gives up on a skill in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flowrl.errors import BadInput, FlowrlError
from flowrl.proposers.base import LibraryView, ProposerError
from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.account import Account
from flowrl.proposers.llm.answer_forms import AnswerForm
from flowrl.proposers.llm.calls import FORM_CHECK, Call, CallFolder, Decision, Reply, Request, Tokens, hash_of
from flowrl.proposers.llm.connection import printable
from flowrl.proposers.llm.conversation import Conversation
from flowrl.proposers.llm.endpoint import WITHHELD, Answer, Clock, Endpoint, Patience, Question
from flowrl.proposers.llm.errors import AnswerRefused, BudgetSpent, Unreachable
from flowrl.proposers.llm.prices import usd
from flowrl.proposers.llm.proposal import Offer, parse_proposal, schema
from flowrl.proposers.llm.questions import opening
from flowrl.proposers.llm.reading import json_object
from flowrl.proposers.llm.settings import LlmSettings
from flowrl.skills.candidates import reason_of
from flowrl.skills.checks import CodeRefused
from flowrl.skills.facts import GameFacts
from flowrl.skills.frontier import reachable_skills
from flowrl.skills.graph import provides
from flowrl.skills.spec import SkillSpec

MOST_ABANDONED = 5
"""Skills given up on, one after the other, before the model is."""
MOST_CUT_OFF = 2
"""Answers of one proposal that may be cut off at their limit without counting as repairs."""
FORM_CHECK_TOKENS = 2_000
FORM_CHECK_LIMIT_S, FORM_CHECK_SHARE = 120.0, 0.2
"""For finding out, before anything is trained, whether and how the server answers: so long, or that share of the time for
one answer, where that is longer (a model on a CPU); at most all of it."""


class LlmProposer:
    """Proposes what a language model proposes, once it passes.

    Args:
        settings: model, address, mode, budget.
        facts: the game.
        say: takes a line for the terminal.
        clock: the part of :mod:`time` that pauses between tries use.

    Raises:
        BadInput: a recording or the price list cannot be read, or no client can be made in these surroundings.
    """

    def __init__(self, settings: LlmSettings, facts: GameFacts, say: Callable[[str], None], clock: Clock = time):
        self.settings = settings
        self.facts = facts
        self.account = Account(settings)
        self.endpoint = Endpoint(settings, lambda line: self.calls.log(line), clock)
        self._hide = self.endpoint.secrets.hide
        self.calls = CallFolder(settings.folder, self._hide)
        self._say = lambda line: say(self._hide(line))
        self._number = 1
        self._conversation: Conversation | None = None
        self._latest: Call | None = None
        self._offer: Offer | None = None
        self._abandoned_in_a_row = 0
        self._is_begun = False
        self._starts_anew = False
        self._status = "proposing"
        self._last_error: str | None = None
        self._state: dict[str, Any] = {}
        self._note()
        if settings.mode != "replay":
            self.endpoint.connect()

    @property
    def state(self) -> dict[str, Any]:
        return self._state

    def describe(self) -> str:
        how = {"live": "", "record": ", recorded anew", "replay": f", replayed from {self.settings.folder}"}[self.settings.mode]
        asked = f", asked by {self.endpoint.form}" if self.endpoint.form else ""
        return f"the language model {self.settings.model} at {self.settings.base_url}{asked}{how}"

    def prepare(self, is_resumed: bool) -> None:
        """Finds out what can be found out before anything is trained. Touches no file.

        Args:
            is_resumed: there are skills already, which are not to wait for the model; it is asked when it is needed.

        Raises:
            BadInput: the key, the model, the address, the budget or the recordings are of no use; says what to do.
        """
        if self.settings.mode == "replay":
            if not is_resumed and (hole := self.calls.first_hole()):
                raise self._missing(*hole)
            return
        if self.settings.mode == "record" and not is_resumed:
            self._starts_anew = True
            self.calls.forget()
        first = opening(LibraryView(self.facts, {}), self.settings.seed, 1, self.settings.candidates)
        self.account.check_budget(first, [] if is_resumed else self.calls.all())
        self._say(f"{self.settings.model}: {self.account.estimate(first)}")
        if is_resumed:
            return
        try:
            self._find_form(Patience(form_check_limit_s(self.settings.timeout_s), waits_for_absent=False))
        except (Unreachable, BudgetSpent) as error:
            raise BadInput(str(error)) from None

    def propose(self, library: LibraryView) -> SkillSpec | None:
        """See :class:`flowrl.proposers.base.Proposer`.

        Raises:
            ProposerError: the model cannot be reached, or too many of its skills had to be given up.
            BadInput: the key or the model is of no use any more, or a recording is missing.
        """
        self._begin()
        try:
            while True:
                spec = self._next_answer(library)
                if spec is not None:
                    return spec
        except BudgetSpent as error:
            self._end("budget_spent", None)
            self._say(f"{error}: no more skills are proposed")
            return None
        except FlowrlError as error:
            self._end("proposer_error", str(error))
            raise

    def refused(self, spec: SkillSpec, error: BadInput) -> None:
        """The caller's checks refuse the last proposal: the model is told when it is asked next.

        Raises:
            ProposerError: too many skills had to be given up.
        """
        assert self._latest is not None and self._offer is not None, "nothing was proposed"
        try:
            self._refuse(self._latest, spec.name, self._in_the_models_numbers(spec, error))
        except ProposerError as too_many:
            self._end("proposer_error", str(too_many))
            raise

    def dropped(self, spec: SkillSpec, number: int, error: BadInput) -> None:
        assert self._offer is not None, "nothing was proposed"
        self._note_dropped(spec.name, self._offer.numbers[number - 1], error)

    def _in_the_models_numbers(self, spec: SkillSpec, error: BadInput) -> BadInput:
        """The reason why no reward is left, with those that were dropped before the caller saw any."""
        dropped = self._offer.dropped
        if not dropped or not isinstance(error, CodeRefused):
            return error
        faults = {number: BadInput(dropped.get(number, str(error))) for number in {*dropped, *self._offer.numbers}}
        return error if len({str(fault) for fault in faults.values()}) == 1 else reason_of(spec.name, faults)

    def accepted(self, spec: SkillSpec) -> None:
        assert self._latest is not None and self._offer is not None, "nothing was proposed"
        dropped = [f"reward {number}: {reason}" for number, reason in sorted(self._offer.dropped.items())]
        self._decide(self._latest, Decision(verdict="accepted", skill_name=spec.name, dropped=dropped))
        calls = self.calls.of(self._latest.proposal)
        self.calls.log(f"proposal {self._number}: {spec.name} accepted, {len(calls)} calls, {usd(self._spent(calls))}")
        self._abandoned_in_a_row = 0
        self._go_on()

    # One proposal after the other.

    def _begin(self) -> None:
        """The folder is ours now: what was kept in memory so far is written."""
        if self._is_begun:
            return
        self._is_begun = True
        if self._starts_anew and (aside := self.calls.move_aside()):
            self._say(f"earlier recordings are in {aside}")
        if self.settings.mode != "replay":
            for call in self.calls.of(FORM_CHECK):
                self.calls.save(call)
        self.calls.open_log()

    def _next_answer(self, library: LibraryView) -> SkillSpec | None:
        """One answer, recorded or fresh: the skill in it, or None, and the conversation has gone one step on."""
        conversation = self._conversation or self._next_conversation(library)
        call = self.calls.get(conversation.number, conversation.repair)
        if call is None:
            call = self._missing_or_asked(conversation)
            if call is None:
                return None
        elif hash_of(conversation.messages()) != hash_of(call.request.messages):
            place = f"proposal {conversation.number}, repair {conversation.repair}"
            self.calls.log(f"{place}: the recorded question was another one")
        self._latest = call
        if call.is_refused:
            self._after_refusal(call, call.outcome.skill_name, call.outcome.reason or "no reason recorded")
            return None
        try:
            return self._judged(call, library)
        except BadInput as error:
            self._refuse(call, _name_in(call.answer.text), error)
            return None

    def _next_conversation(self, library: LibraryView) -> Conversation:
        """Goes on where an earlier start, or the last skill, has stopped."""
        while self._is_settled(self._number, library):
            self._number += 1
        first = opening(library, self.settings.seed, self._number, self.settings.candidates)
        self._conversation = Conversation(self._number, first)
        return self._conversation

    def _is_settled(self, number: int, library: LibraryView) -> bool:
        """Whether a recorded proposal is a skill of this experiment, or was given up."""
        calls = self.calls.of(number)
        if not calls:
            return False
        outcome = calls[-1].outcome
        if outcome is None:  # the start that asked was killed; perhaps just after it had added the skill
            return library.knows(_name_in(calls[-1].answer.text) or "")
        return outcome.verdict == "abandoned" or outcome.verdict == "accepted" and library.knows(outcome.skill_name or "")

    def _judged(self, call: Call, library: LibraryView) -> SkillSpec:
        """The skill in an answer.

        Raises:
            BadInput: there is none in it, or it is not new; says why.
        """
        answer = call.answer
        if call.is_cut_off:
            raise AnswerRefused(f"the answer was cut off after {call.request.max_tokens} tokens; answer in fewer words")
        if answer.finish_reason == WITHHELD:
            raise AnswerRefused("the answer held the key of the server and was thrown away; answer with the JSON object alone")
        if answer.refusal or answer.finish_reason == "content_filter":
            raise AnswerRefused(f"the model declined to answer ({answer.refusal or answer.finish_reason})")
        self._offer = parse_proposal(answer.text).offer(self.facts, self.settings.candidates)
        check_new(self._offer.spec, library)
        for number, reason in list(self._offer.dropped.items()):
            self._note_dropped(self._offer.spec.name, number, reason)
        return self._offer.spec

    def _note_dropped(self, skill_name: str, number: int, error: BadInput | str) -> None:
        """One of several rewards is not trained: a person is told at once, the model if none is left."""
        reason = printable(self._hide(str(error)))
        self._offer.dropped[number] = reason
        self.calls.log(f"proposal {self._number}: reward {number} of {skill_name} dropped: {reason}")
        self._say(f"dropped    reward {number} of {skill_name}: {reason}")

    def _refuse(self, call: Call, skill_name: str | None, error: BadInput) -> None:
        reason = f"{type(error).__name__}: {printable(self._hide(str(error)))}"
        is_last = self._repairs(call) >= self.settings.max_repairs
        self._decide(call, Decision(verdict="abandoned" if is_last else "refused", skill_name=skill_name, reason=reason))
        self._after_refusal(call, skill_name, reason)

    def _after_refusal(self, call: Call, skill_name: str | None, reason: str) -> None:
        """The model is told, or the skill is given up."""
        repairs, most = self._repairs(call), self.settings.max_repairs
        shown = skill_name or "an answer"
        self.calls.log(f"proposal {call.proposal}, repair {call.repair}: {shown} refused: {reason}")
        if repairs < most:
            follows = "asked for again" if self._is_excused(call) else f"repair {repairs + 1} of {most} follows"
            self._say(f"refused    {shown} ({follows}): {reason}")
            assert self._conversation is not None
            self._conversation.refuse(call, reason)
            self._note()
            return
        self._say(f"given up   {shown} after {repairs} repairs: {reason}")
        self._decide(call, Decision(verdict="abandoned", skill_name=skill_name, reason=reason))
        self._abandon(reason)

    def _repairs(self, call: Call) -> int:
        """How often the model has mended this proposal. It has not, where it was only given more room."""
        return call.repair - len(self._excused(call))

    def _is_excused(self, call: Call) -> bool:
        return call.repair in self._excused(call)

    def _excused(self, call: Call) -> list[int]:
        """The answers so far that were cut off: asking again with more room is no repair, as long as they are few."""
        calls = [call for call in self.calls.of(call.proposal) if call.repair <= call.repair]
        return [call.repair for call in calls if call.is_cut_off][:MOST_CUT_OFF]

    def _abandon(self, reason: str) -> None:
        self._abandoned_in_a_row += 1
        self._go_on()
        if self._abandoned_in_a_row >= MOST_ABANDONED:
            raise ProposerError(
                f"{MOST_ABANDONED} skills in a row had to be given up, the last because of {reason}; see "
                f"{self.settings.folder / 'proposer.log'}, and choose another --llm_name or raise --max_repairs"
            )

    def _go_on(self) -> None:
        self._conversation = self._latest = None
        self._number += 1
        self._note()

    # Asking.

    def _missing_or_asked(self, conversation: Conversation) -> Call | None:
        """A fresh answer; in a replay, None where the recorded run has gone on with another skill."""
        if self.settings.mode != "replay":
            return self._asked(conversation)
        if not any(number > conversation.number for number in self.calls.proposals()):
            raise self._missing(conversation.number, conversation.repair)
        self.calls.log(f"proposal {conversation.number}: refused now, accepted when it was recorded; going on with the next")
        self._abandon("a skill that was accepted when it was recorded")
        return None

    def _asked(self, conversation: Conversation) -> Call:
        if self.endpoint.form is None:
            self._find_form(Patience(self.settings.timeout_s))
        messages = conversation.messages()
        tokens = self.account.affordable(messages, conversation.max_tokens, self.calls.all())
        question = Question(tuple(messages), schema(self.settings.candidates), tokens)
        call = self._recorded(conversation.number, conversation.repair, question, self.endpoint.ask(question))
        self.calls.save(call)
        self._note()
        return call

    def _find_form(self, patience: Patience) -> None:
        """Finds out in which form the server gives JSON, once for an address and a model."""
        earlier = [call for call in self.calls.of(FORM_CHECK) if self._is_ours(call.request) and not call.is_refused]
        if earlier:
            self.endpoint.form = earlier[-1].request.form
            self.endpoint.tokens_parameter = earlier[-1].request.tokens_parameter
            return
        messages = ({"role": "user", "content": prompts.render("form_check")},)
        for form in AnswerForm:
            tokens = self.account.affordable(messages, FORM_CHECK_TOKENS, self.calls.all())
            question = Question(messages, schema(), tokens)
            answer = self.endpoint.try_form(form, question, patience)
            if answer is None:
                continue
            can = form is AnswerForm.TEXT or _is_of_the_form(answer)
            call = self._recorded(FORM_CHECK, len(self.calls.of(FORM_CHECK)), question, answer)
            verdict, reason = ("accepted", None) if can else ("refused", "not of the form asked for")
            call.outcome = Decision(verdict=verdict, reason=reason)
            if self._is_begun:
                self.calls.save(call)
            if can:
                self.endpoint.form = form
                return

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
            f"there is no recording {number}-{repair}-*.json in {self.settings.folder}, and --llm_mode replay asks nobody; copy "
            "the llm folder of the experiment to be replayed there, or use --llm_mode live"
        )

    # What is kept.

    def _decide(self, call: Call, outcome: Decision) -> None:
        if call.outcome == outcome:
            return
        call.outcome = outcome
        if self.settings.mode != "replay":  # a replay leaves the recordings as they are
            self.calls.save(call)

    def _end(self, status: str, error: str | None) -> None:
        self._status, self._last_error = status, error
        self.calls.log(error or status)
        self._note()

    def _spent(self, calls: list[Call]) -> float | None:
        return 0.0 if self.settings.mode == "replay" else self.account.spent(calls)

    def _note(self) -> None:
        """Makes the state anew; whoever reads the old one meanwhile is not disturbed."""
        calls = [] if self.settings.mode == "replay" else self.calls.all()
        done = (number for number in self.calls.proposals() if self.settings.mode != "replay" or number < self._number)
        by_number = {number: self.calls.of(number) for number in done}
        self._state = {
            "kind": "llm",
            "model": self.settings.model,
            "address": self.settings.base_url,
            "mode": self.settings.mode,
            "status": self._status,
            "calls": len(calls),
            "tokens": {"prompt": _sum("prompt", calls), "completion": _sum("completion", calls)},
            "cost_usd": self._spent(calls),
            "budget_usd": self.settings.budget_usd,
            "last_error": self._last_error,
            "skills": [
                {"name": group[-1].outcome.skill_name, "proposal": number, "calls": len(group), "cost_usd": self._spent(group),
                 "tokens": _sum("prompt", group) + _sum("completion", group),
                 **({"dropped": dropped} if (dropped := group[-1].outcome.dropped) else {})}
                for number, group in by_number.items() if _verdict(group) == "accepted"
            ],
            "refused": [
                {"name": group[-1].outcome.skill_name, "reason": group[-1].outcome.reason, "repairs": len(group) - 1}
                for group in by_number.values() if _verdict(group) == "abandoned"
            ],
        }  # fmt: skip


def check_new(spec: SkillSpec, library: LibraryView) -> None:
    """Accepts a skill whose name is free, and that gains something which no skill in reach provides.

    Raises:
        AnswerRefused: says what is taken already.
    """
    if library.knows(spec.name):
        raise AnswerRefused(f"there is a skill {spec.name} already; choose a gain that is still missing, and another name")
    reached = reachable_skills(library.available, library.facts).values()

    def is_new(resource: str) -> bool:
        level = spec.gains[resource].at(1)
        return level > 0 and not any(provides(other, resource, level, library.facts) for other in reached)

    if not any(is_new(resource) for resource in spec.gains):
        raise AnswerRefused(
            f"skill {spec.name} is not new: {', '.join(spec.gains)} can be had from the library already; choose a gain "
            "that is still missing"
        )


def form_check_limit_s(timeout_s: float) -> float:
    return min(timeout_s, max(FORM_CHECK_LIMIT_S, FORM_CHECK_SHARE * timeout_s))


def _is_of_the_form(answer: Answer) -> bool:
    """Whether a trial's answer shows that the server keeps to the form. One that was cut off does not show the contrary."""
    text = answer.text.strip()
    if answer.finish_reason == "length" and (not text or text.startswith("{")):
        return True
    try:
        return {"name", "gains"} <= json_object(text).keys() and text.startswith("{")
    except AnswerRefused:
        return False


def _name_in(text: str) -> str | None:
    try:
        name = json_object(text).get("name")
    except AnswerRefused:
        return None
    return printable(name[:64]) or None if isinstance(name, str) else None


def _verdict(calls: list[Call]) -> str | None:
    return calls[-1].outcome.verdict if calls[-1].outcome else None


def _sum(name: str, calls: list[Call]) -> int:
    return sum(getattr(call.tokens, name) for call in calls)
