"""Several rewards for one skill: how they are numbered, dropped and combined.

The rewards of a skill are numbered from 1: ``task_reward`` first, then its ``candidates``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from flowrl.errors import BadInput
from flowrl.skills.checks import CodeRefused
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.spec import SkillSpec

Report = TypeVar("Report")


def single_rewards(spec: SkillSpec) -> list[SkillSpec]:
    """One copy of the skill per reward, each with that reward only."""
    rewards = (spec.task_reward, *spec.candidates)
    return [spec.model_copy(update={"task_reward": reward, "candidates": ()}) for reward in rewards]


def with_rewards(specs: Sequence[SkillSpec]) -> SkillSpec:
    """The inverse of :func:`single_rewards`."""
    first, *others = specs
    return first.model_copy(update={"candidates": tuple(other.task_reward for other in others)})


class NoRewardLeft(CodeRefused):
    """None of a skill's several rewards can be trained.

    Args:
        refusals: the number of each reward, and what is wrong with it.
    """

    def __init__(self, skill_name: str, refusals: Sequence[tuple[int, str]]):
        faults = "; ".join(f"reward {number}: {fault}" for number, fault in refusals)
        super().__init__(
            f"none of the {len(refusals)} rewards of skill {skill_name} can be trained: {faults}", "no_reward_left"
        )


def reason_of(skill_name: str, faults: Mapping[int, BadInput]) -> BadInput:
    """Why a skill without usable rewards is refused: the fault that all rewards share, or the fault of each.

    Args:
        faults: what is wrong with each reward, by number.
    """
    if len({str(fault) for fault in faults.values()}) == 1:
        return next(iter(faults.values()))
    return NoRewardLeft(skill_name, [(number, str(faults[number])) for number in sorted(faults)])


class Offer:
    """A proposed skill with its numbered rewards. One that cannot be trained is dropped; the others keep their numbers.

    Args:
        rewards: copies of the skill with one reward each, by the reward's number in the proposal. At least one.
        dropped: other rewards of the proposal, each with what is wrong with it.
    """

    def __init__(self, rewards: Mapping[int, SkillSpec], dropped: Mapping[int, BadInput] | None = None):
        self.rewards = dict(rewards)
        self.dropped = dict(dropped or {})
        self.name = next(iter(self.rewards.values())).name
        self.is_several = len(self.rewards) + len(self.dropped) > 1

    @classmethod
    def of(cls, spec: SkillSpec) -> Offer:
        """The offer of a skill whose rewards are numbered from 1."""
        return cls(dict(enumerate(single_rewards(spec), 1)))

    @property
    def spec(self) -> SkillSpec:
        """The skill with the remaining rewards."""
        return with_rewards(list(self.rewards.values()))

    def keep(self, judge: Callable[[SkillSpec], Report]) -> list[Report]:
        """Keeps the rewards that a judge accepts; returns its reports on them.

        Raises:
            BadInput: no reward is left.
        """
        reports = []
        for number, single in list(self.rewards.items()):
            try:
                reports.append(judge(single))
            except BadInput as error:
                self._drop(number, error)
        if not self.rewards:
            raise reason_of(self.name, self.dropped)
        return reports

    def drop_duplicates(self) -> None:
        """Of rewards with the same code, keeps the first."""
        seen: set[str] = set()
        for number, single in list(self.rewards.items()):
            code = fingerprint(single.task_is_done, single.task_reward)
            if code in seen:
                self._drop(number, BadInput("it has the same code as an earlier reward"))
            seen.add(code)

    def _drop(self, number: int, error: BadInput) -> None:
        del self.rewards[number]
        self.dropped[number] = error
