"""One proposal in the making: the question, and each answer that was refused, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from flowrl.proposers.llm import prompts
from flowrl.proposers.llm.calls import Call
from flowrl.proposers.llm.prompts import Message

USUAL_TOKENS = 16_000
"""Models that reason before they answer count that in."""
MOST_TOKENS = 32_000
LONGEST_ECHO = 12_000
"""Characters of a refused answer that the model is shown again."""
MOST_CUT_OFF = 2
"""Answers of one proposal that may be cut off at their limit without counting as repairs."""


@dataclass
class Conversation:
    """What is said about one proposal."""

    number: int
    opening: list[Message]
    max_tokens: int = USUAL_TOKENS
    refusals: list[tuple[str, str]] = field(default_factory=list)
    """What was said after each answer that was refused: the answer, and why it was."""
    num_cut_off: int = 0
    """Of the answers that were refused."""

    @property
    def repair(self) -> int:
        """The number of the next answer: 0 is the first one."""
        return len(self.refusals)

    def messages(self) -> list[Message]:
        """The next question."""
        messages = list(self.opening)
        for answer, complaint in self.refusals:
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": complaint}]
        return messages

    def repairs(self, call: Call) -> int:
        """How often the model has repaired this proposal, its newest answer included.

        Asking again with more room is no repair, as long as it does not happen often.
        """
        return call.repair - min(self.num_cut_off + call.is_cut_off, MOST_CUT_OFF)

    def is_excused(self, call: Call) -> bool:
        """Whether asking again after the newest answer is no repair."""
        return call.is_cut_off and self.num_cut_off < MOST_CUT_OFF

    def refuse(self, call: Call, reason: str) -> None:
        """Takes in that the newest answer was refused. One that was cut off may be longer next time."""
        if not call.is_cut_off:
            answer = call.answer.text[:LONGEST_ECHO] or "(nothing)"
            self.refusals.append((answer, prompts.render("repair", reason=reason)))
            return
        # Half an answer helps nobody, and takes up the room that the next one needs.
        self.num_cut_off += 1
        self.refusals.append(("(cut off)", prompts.render("cut_off", tokens=call.request.max_tokens)))
        self.max_tokens = min(2 * max(self.max_tokens, call.request.max_tokens), MOST_TOKENS)
