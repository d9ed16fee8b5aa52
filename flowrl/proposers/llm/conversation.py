"""The conversation about one proposal: the question, and each refused answer with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.calls import Call
from flowrl.proposers.llm.prompts import Message

USUAL_TOKENS = 16_000
"""Models that reason before they answer spend part of this on reasoning."""
MOST_TOKENS = 32_000
LONGEST_ECHO = 12_000
"""Characters of a refused answer that are sent back to the model."""
MOST_CUT_OFF = 2
"""How many answers of one proposal may be cut off at their token limit without counting as repairs."""


@dataclass
class Conversation:
    """What is said about one proposal."""

    number: int
    opening: list[Message]
    max_tokens: int = USUAL_TOKENS
    refusals: list[tuple[str, str]] = field(default_factory=list)
    """The refused answers, each with the message that tells the model why."""
    num_cut_off: int = 0
    """How many of the refused answers were cut off."""

    @property
    def repair(self) -> int:
        """The number of the next answer, from 0."""
        return len(self.refusals)

    def messages(self) -> list[Message]:
        """The next question."""
        messages = list(self.opening)
        for answer, complaint in self.refusals:
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": complaint}]
        return messages

    def repairs(self, call: Call) -> int:
        """How many times the model has repaired this proposal, including its latest answer.

        Asking again with more room does not count, up to a limit.
        """
        return call.repair - min(self.num_cut_off + call.is_cut_off, MOST_CUT_OFF)

    def is_excused(self, call: Call) -> bool:
        """Whether asking again after the latest answer does not count as a repair."""
        return call.is_cut_off and self.num_cut_off < MOST_CUT_OFF

    def refuse(self, call: Call, reason: str) -> None:
        """Records that the latest answer was refused. If it was cut off, the next one may be longer."""
        if not call.is_cut_off:
            answer = call.answer.text[:LONGEST_ECHO] or "(nothing)"
            self.refusals.append((answer, prompts.render("repair", reason=reason)))
            return
        # Half an answer is useless, and takes up room that the next one needs.
        self.num_cut_off += 1
        self.refusals.append(("(cut off)", prompts.render("cut_off", tokens=call.request.max_tokens)))
        self.max_tokens = min(2 * max(self.max_tokens, call.request.max_tokens), MOST_TOKENS)
