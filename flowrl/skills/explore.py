"""`Explore`: the skill that is never done, and plays for the game's own reward. Plain agents have no other one."""

from __future__ import annotations

from typing import Any

from flowrl.skills.facts import GameFacts
from flowrl.skills.menu import write_own_reward
from flowrl.skills.spec import SkillSpec

EXPLORE = "Explore"
LONGEST_EPISODE = 10_000
"""Steps after which an episode of its training is cut; games end long before."""


def explore(facts: GameFacts) -> SkillSpec:
    """The skill that is never done and pays the game's own reward.

    Raises:
        BadInput: the game does not declare its own reward.
    """
    return SkillSpec(
        name=EXPLORE,
        description="Play for the game's own reward until the game is over.",
        task_is_done="def task_is_done(n):\n    return n < 0\n",
        task_reward=write_own_reward(facts),
        max_task_steps=LONGEST_EPISODE,
        never_done=True,
    )


def unending(frames: int) -> dict[str, Any]:
    """The settings of its run: neither a goal nor a lack of progress may end it, and its expert starts fresh."""
    return {"total_timesteps": frames, "stop_at_goal": False, "no_progress_frames": 0, "init_from": "none"}
