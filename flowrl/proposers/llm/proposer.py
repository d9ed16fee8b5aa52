"""The proposer that asks a language model, tells it why a proposal was refused, and gives up after too many repairs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from flowrl.errors import BadInput, FlowrlError
from flowrl.proposers.base import Examined, LibraryView, ProposerError
from flowrl.proposers.llm.calls import Call, Decision
from flowrl.proposers.llm.connection import printable
from flowrl.proposers.llm.conversation import Conversation
from flowrl.proposers.llm.credentials import Secrets
from flowrl.proposers.llm.endpoint import Clock
from flowrl.proposers.llm.errors import BudgetSpent
from flowrl.proposers.llm.judging import check_new, name_in, object_in
from flowrl.proposers.llm.prices import usd
from flowrl.proposers.llm.proposal import proposal_of, schema
from flowrl.proposers.llm.questions import opening
from flowrl.proposers.llm.recorded_model import RecordedModel
from flowrl.proposers.llm.reward_menu import menu_terms
from flowrl.proposers.llm.settings import LlmSettings
from flowrl.proposers.llm.state import state_of
from flowrl.skills.candidates import Offer
from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec

MOST_ABANDONED = 5
"""How many skills in a row may be given up before the proposer gives up on the model."""


class LlmProposer:
    """Proposes the skills of a language model that pass the checks.

    Args:
        settings: model, address, mode, budget.
        facts: the game.
        say: called with a line for the terminal.
        clock: the part of :mod:`time` that pauses between tries use.

    Raises:
        BadInput: a recording or the price list cannot be read, or no client can be made in this environment.
    """

    def __init__(self, settings: LlmSettings, facts: GameFacts, say: Callable[[str], None], clock: Clock = time):
        self.settings = settings
        self.facts = facts
        secrets = Secrets(settings.key, os.environ)
        self._hide = secrets.hide
        self._say = lambda line: say(secrets.hide(line))
        self.model = RecordedModel(settings, schema(menu_terms(facts), settings.candidates), secrets, self._say, clock)
        self._number = 1
        """The number of the proposal in progress, or of the next one."""
        self._conversation: Conversation | None = None
        self._passed: tuple[Call, Offer] | None = None
        """The answer that passed the caller's examination but is not accepted yet."""
        self._abandoned_in_a_row = 0
        self._status = "proposing"
        self._last_error: str | None = None
        self._update_state()

    @property
    def state(self) -> dict[str, Any]:
        return self._state

    def describe(self) -> str:
        modes = {"live": "", "record": ", recording from scratch", "replay": f", replayed from {self.settings.folder}"}
        form = f", answering as {self.model.endpoint.form}" if self.model.endpoint.form else ""
        return f"the language model {self.settings.model} at {self.settings.base_url}{form}{modes[self.settings.mode]}"

    def prepare(self, is_resumed: bool) -> None:
        """See :meth:`flowrl.proposers.llm.recorded_model.RecordedModel.prepare`."""
        self.model.prepare(self._opening(LibraryView(self.facts, {}), 1), is_resumed)

    def propose(self, library: LibraryView, examine: Callable[[Offer], Examined]) -> Examined | None:
        """See :class:`flowrl.proposers.base.Proposer`.

        Raises:
            ProposerError: the model cannot be reached, or too many of its skills in a row were given up.
            BadInput: the key or the model no longer works, or a recording is missing.
        """
        self.model.begin()
        try:
            while True:
                call = self._next_answer(library)
                found = None if call is None else self._examined(call, library, examine)
                if found is not None:
                    return found
        except BudgetSpent as error:
            self._end("budget_spent", None)
            self._say(f"no more skills are proposed: {error}")
            return None
        except FlowrlError as error:
            self._end("proposer_error", str(error))
            raise

    def accepted(self, spec: SkillSpec) -> None:
        assert self._passed is not None, "nothing was proposed"
        call, offer = self._passed
        dropped = [f"reward {number}: {self._line(error)}" for number, error in sorted(offer.dropped.items())]
        self.model.decide(call, Decision(verdict="accepted", skill_name=spec.name, dropped=dropped))
        calls = self.model.calls.of(call.proposal)
        self._log(f"proposal {call.proposal}: {spec.name} accepted, {len(calls)} calls, {usd(self.model.spent(calls))}")
        self._abandoned_in_a_row = 0
        self._start_next()

    def num_left(self, library: LibraryView) -> int | None:
        """None, since a model has no list of skills; 0 once its budget is spent."""
        return 0 if self._status == "budget_spent" else None

    # One answer after the other.

    def _next_answer(self, library: LibraryView) -> Call | None:
        """The next answer to examine; None if the recording says that it was refused."""
        if self._conversation is None:
            while self._is_settled(self._number, library):
                self._number += 1
            self._conversation = Conversation(self._number, self._opening(library, self._number))
        call = self.model.answer(self._conversation)
        self._update_state()
        if call is None:
            self._abandon("a skill that was accepted when it was recorded, but is refused now")
        elif call.is_refused:
            self._after_refusal(call, call.outcome.skill_name, call.outcome.reason or "no reason recorded")
        else:
            return call
        return None

    def _examined(self, call: Call, library: LibraryView, examine: Callable[[Offer], Examined]) -> Examined | None:
        """The caller's verdict on the skill in an answer; None if it is refused, and the model has to repair it."""
        name = None
        try:
            data = object_in(call)
            name = name_in(data)
            offer = proposal_of(data).offer(self.facts, self.settings.candidates)
            if offer.name != name:
                self._say(f"renamed    {name} to {offer.name}: names have no spaces or brackets")
            name = offer.name
            check_new(offer.spec, library)
            try:
                found = examine(offer)
            finally:
                self._report_dropped(call, offer)
            self._passed = call, offer
            return found
        except BadInput as error:
            self._refuse(call, name, error)
            return None

    def _is_settled(self, number: int, library: LibraryView) -> bool:
        """Whether a recorded proposal already became a skill of this experiment, or was given up."""
        calls = self.model.calls.of(number)
        if not calls:
            return False
        decision = calls[-1].outcome
        if decision is None:  # the start that asked was killed, perhaps just after it added the skill
            return library.knows(self._skill_in(calls[-1]) or "")
        return decision.verdict == "abandoned" or (decision.verdict == "accepted" and library.knows(decision.skill_name or ""))

    def _skill_in(self, call: Call) -> str | None:
        """The name under which the skill in an answer would have been added."""
        try:
            return proposal_of(object_in(call)).offer(self.facts, self.settings.candidates).name
        except BadInput:
            return None

    def _opening(self, library: LibraryView, number: int) -> list[dict[str, str]]:
        return opening(library, self.settings.seed, number, self.settings.candidates)

    # Refusals.

    def _report_dropped(self, call: Call, offer: Offer) -> None:
        """Reports each dropped reward to the user. The model hears of them only if none is left."""
        for number, error in sorted(offer.dropped.items()) if offer.is_several else ():
            reason = self._line(error)
            self._log(f"proposal {call.proposal}: reward {number} of {offer.name} dropped: {reason}")
            self._say(f"dropped    reward {number} of {offer.name}: {reason}")

    def _refuse(self, call: Call, skill_name: str | None, error: BadInput) -> None:
        assert self._conversation is not None
        reason = f"{type(error).__name__}: {self._line(error)}"
        is_last = self._conversation.repairs(call) >= self.settings.max_repairs
        verdict = "abandoned" if is_last else "refused"
        self.model.decide(call, Decision(verdict=verdict, skill_name=skill_name, reason=reason))
        self._after_refusal(call, skill_name, reason)

    def _after_refusal(self, call: Call, skill_name: str | None, reason: str) -> None:
        """Sends the reason back to the model, or gives the skill up."""
        assert self._conversation is not None
        repairs, most = self._conversation.repairs(call), self.settings.max_repairs
        shown = skill_name or "an answer"
        self._log(f"{call.place}: {shown} refused: {reason}")
        if repairs < most:
            follows = "asking again" if self._conversation.is_excused(call) else f"repair {repairs + 1} of {most} follows"
            self._say(f"refused    {shown} ({follows}): {reason}")
            self._conversation.refuse(call, reason)
            self._update_state()
            return
        self._say(f"given up   {shown} after {repairs} {'repair' if repairs == 1 else 'repairs'}: {reason}")
        self.model.decide(call, Decision(verdict="abandoned", skill_name=skill_name, reason=reason))
        self._abandon(reason)

    def _abandon(self, reason: str) -> None:
        self._abandoned_in_a_row += 1
        self._start_next()
        if self._abandoned_in_a_row >= MOST_ABANDONED:
            raise ProposerError(
                f"{MOST_ABANDONED} skills in a row were given up, the last one because of {reason}; see "
                f"{self.settings.folder / 'proposer.log'}, and choose another --llm_name or raise --max_repairs"
            )

    # State and log.

    def _start_next(self) -> None:
        self._conversation = self._passed = None
        self._number += 1
        self._update_state()

    def _end(self, status: str, error: str | None) -> None:
        self._status, self._last_error = status, error
        self._log(error or status)
        self._update_state()

    def _update_state(self) -> None:
        """Builds a new state. Whoever is reading the old one is not disturbed."""
        self._state = state_of(self.model, self._number, self._status, self._last_error)

    def _log(self, line: str) -> None:
        self.model.calls.log(line)

    def _line(self, error: BadInput) -> str:
        return printable(self._hide(str(error)))
