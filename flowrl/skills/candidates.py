"""Several rewards for one skill: how they are told apart, and for how long they are trained side by side.

The rewards of a skill are numbered from 1: ``task_reward`` first, then its ``candidates``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowrl.errors import BadInput
from flowrl.skills.checks import CodeRefused
from flowrl.skills.spec import SkillSpec


def single_rewards(spec: SkillSpec) -> list[SkillSpec]:
    """The skill once with each of its rewards alone."""
    rewards = (spec.task_reward, *spec.candidates)
    return [spec.model_copy(update={"task_reward": reward, "candidates": ()}) for reward in rewards]


def with_rewards(specs: Sequence[SkillSpec]) -> SkillSpec:
    """The inverse of :func:`single_rewards`."""
    first, *others = specs
    return first.model_copy(update={"candidates": tuple(other.task_reward for other in others)})


class NoRewardLeft(CodeRefused):
    """None of a skill's several rewards can be trained.

    Args:
        refusals: the number of each reward, with what is wrong with it.
    """

    def __init__(self, skill_name: str, refusals: Sequence[tuple[int, str]]):
        faults = "; ".join(f"reward {number}: {fault}" for number, fault in refusals)
        super().__init__(f"none of the {len(refusals)} rewards of skill {skill_name} can be trained: {faults}", "no_reward_left")


def reason_of(skill_name: str, faults: Mapping[int, BadInput]) -> BadInput:
    """Why a skill of which no reward is left is refused: one fault that all rewards share, or each one's own.

    Args:
        faults: what is wrong with each reward, by number.
    """
    if len({str(fault) for fault in faults.values()}) == 1:
        return next(iter(faults.values()))
    return NoRewardLeft(skill_name, [(number, str(faults[number])) for number in sorted(faults)])
