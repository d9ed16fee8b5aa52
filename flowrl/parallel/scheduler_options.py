"""A scheduler's options: from the front door's flags, or from the arguments of its constructor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowrl.parallel.library.locks import MERGE_TIMEOUT_S
from flowrl.parallel.skill_budget import NO_LIMIT, SkillBudget
from flowrl.parallel.slots import check_number


@dataclass(frozen=True)
class SchedulerOptions:
    """The options of a scheduler; see the flags of the same names."""

    max_parallel: int = 3
    poll_interval_s: float = 30.0
    max_retries: int = 2
    max_nodes: int | None = None
    """The number of skills after which no more will come; None: not known."""
    more_may_come: bool = False
    """Whether the scheduler waits for more skills until it is closed, or ``max_nodes`` are known."""
    stall_timeout_s: float = 0.0
    keep_failed_session_s: float = 600.0
    lock_timeout_s: float = MERGE_TIMEOUT_S
    merge_guard: bool = True
    guard_changes: bool = False
    gpu_ids: object = None
    skills_per_gpu: int = 1
    retry_failed: bool = False
    skill_budget: SkillBudget = NO_LIMIT

    @classmethod
    def of(cls, args: Any, max_parallel: int | None = None, poll_interval_s: float | None = None) -> SchedulerOptions:
        """The options that were given, then those that ``args`` (if any) has as attributes, then the defaults.

        Raises:
            BadInput: ``max_parallel`` is not a valid number of runs.
        """

        def given(name: str, default: Any) -> Any:
            value = getattr(args, name, None)
            return default if value is None else value

        options = cls(
            max_parallel=max_parallel or given("max_parallel_skills", cls.max_parallel),
            poll_interval_s=poll_interval_s or given("scheduler_poll_interval", 0) or cls.poll_interval_s,
            max_retries=given("max_retries", cls.max_retries),
            # A rehearsal comes after the last skill, and so does further training.
            max_nodes=None if given("rehearse_every", "") or given("continue_skill", "") else given("max_nodes", cls.max_nodes),
            more_may_come=args is not None,
            stall_timeout_s=given("stall_timeout", cls.stall_timeout_s),
            keep_failed_session_s=given("keep_failed_session_s", cls.keep_failed_session_s),
            lock_timeout_s=given("lock_timeout_s", 0) or cls.lock_timeout_s,
            merge_guard=given("merge_guard", cls.merge_guard),
            guard_changes=given("guard_changes", cls.guard_changes),
            gpu_ids=given("gpu_ids", cls.gpu_ids),
            skills_per_gpu=given("skills_per_gpu", cls.skills_per_gpu),
            retry_failed=given("retry_failed", cls.retry_failed),
            skill_budget=SkillBudget(
                most_frames=given("skill_budget_frames", None),
                frames_of_a_run=given("total_timesteps", SkillBudget.frames_of_a_run),
                frames_per_update=given("frames_per_update", SkillBudget.frames_per_update),
            ),
        )
        check_number("max_parallel_skills", options.max_parallel)
        return options
