"""The result of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flowrl.envs.adapter import GameAdapter
from flowrl.records.observed import Observed
from flowrl.records.result import NO_PROGRESS, NO_PROGRESS_PREFIX, Outcome, RunResult, TaskRate
from flowrl.records.tried import Tried
from flowrl.training.playing.evaluation import Evaluation
from flowrl.training.run.clock import Clock
from flowrl.training.run.observed import levels_of, observed, of_a_copy
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState


def result(
    run: RunSpecification,
    experts: Sequence[LocalExpert],
    state: RunState,
    found: Evaluation,
    by_chance: Evaluation,
    checkpoint: str,
    clock: Clock,
) -> RunResult:
    """
    Args:
        found: the tests of the experts in their final state.
        by_chance: the tests of the random policy.
        checkpoint: the checkpoint to merge.
    """
    rates = zip(run.plan, found.task_rates, by_chance.task_rates, strict=True)
    return dataclasses.replace(
        unmeasured(run, experts, state, checkpoint, clock),
        goal_reached=found.success_rate >= run.settings.success_rate,
        success_rate=found.success_rate,
        random_success_rate=by_chance.success_rate,
        frames_per_success=None if found.frames_per_success is None else round(found.frames_per_success, 1),
        tasks=tuple(TaskRate(task.skill_name, task.n, rate, chance) for task, rate, chance in rates),
    )


def unmeasured(
    run: RunSpecification, experts: Sequence[LocalExpert], state: RunState, checkpoint: str, clock: Clock
) -> RunResult:
    """The result of a run that has trained to its end, without any success rate. Arguments: as `result`."""
    return RunResult(
        run.attempt,
        Outcome.COMPLETED,
        run.skill_name,
        frames=state.frames,
        acted_frames={str(expert.global_idx): int(n) for expert, n in zip(experts, state.acted_frames, strict=True)},
        checkpoint=checkpoint,
        **clock.timings(),
    )


def observed_of(run: RunSpecification, found: Evaluation, adapter: GameAdapter) -> Observed | None:
    """What the tests of the experts showed of the skill's own task; None where no levels were read."""
    if run.spec is None or found.tries is None or not adapter.facts.resources():
        return None
    seen = observed(run.spec, run.plan[-1].n, adapter.facts, levels_of(adapter, found.tries))
    return of_a_copy(seen) if run.init_from else seen


def given_up(run: RunSpecification, ended: RunResult, tried: Tried | None) -> RunResult:
    """The result of a run that makes no progress: what it came to, failed, with the figures and the remedy in one line.

    Args:
        tried: what its own expert does in the end, if that is known.
    """
    own = ended.acted_frames[str(run.global_expert_idx)]
    further = ", or train the skills that it builds on further" if len(run.experts) > 1 else ""
    own_frames = f"{own:,} of them its own expert's" + (f" (it tries {tried.described()})" if tried else "")
    error = (
        f"{NO_PROGRESS_PREFIX}{run.skill_name} succeeds in {ended.success_rate:.3f} of fresh episodes (random policy "
        f"{ended.random_success_rate:.3f}) after {ended.frames:,} frames, {own_frames}; give it another "
        f"reward, allow it more frames (--retry_failed with --no_progress_frames above "
        f"{run.settings.frames_without_progress:,}, or 0 for no limit){further}"
    )
    return dataclasses.replace(ended, outcome=Outcome.FAILED, error=error, reason=NO_PROGRESS)
