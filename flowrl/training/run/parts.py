"""The parts that make up a run: an ordinary one, or one that tries several rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.registry import make_adapter
from flowrl.envs.tasks import PlanArrays
from flowrl.records.training_settings import AUTO_INIT, NO_INIT, RunSettings
from flowrl.skills.module import compile_module
from flowrl.training.host.fair_lock import FairLock
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import Judge, Playing, Stage, plan_judge
from flowrl.training.playing.learning import Learning
from flowrl.training.playing.programs import Keys, Programs, Source, compile_programs
from flowrl.training.run import checkpoints
from flowrl.training.run.background import BackgroundCompiling
from flowrl.training.run.exploration import watch_of
from flowrl.training.run.measuring import SuccessTests
from flowrl.training.run.pane import Pane
from flowrl.training.run.reporting import Reporter
from flowrl.training.run.saving import Safekeeping
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState, global_indices, library_experts, newest_expert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import Updates


class Parts(NamedTuple):
    """The parts that the loop uses."""

    run: RunSpecification
    experts: Sequence[LocalExpert]
    programs: Programs
    stage: Stage
    keys: Keys
    turn: FairLock
    """Held while using much memory: by the loop for an update or a test, and by the thread that compiles for later runs."""
    supervision: Supervision
    kept: Safekeeping
    updates: Updates
    background: BackgroundCompiling
    reporter: Reporter
    tests: SuccessTests


def ordinary(run: RunSpecification, supervision: Supervision) -> Parts:
    """The parts of a run that trains the experts of its plan."""
    adapter = make_adapter(run.env_name)
    functions = compile_module(run.module_text, adapter.scope, adapter.facts.feature_names)
    judge = plan_judge(functions, plan_of(run), run.settings.num_envs)
    return assemble(run, library_experts(run), adapter, judge, supervision)


def plan_of(run: RunSpecification) -> PlanArrays:
    """The run's plan, with the step budget of each task."""
    return tasks.plan_arrays(
        [task.local_expert_idx for task in run.plan],
        [task.n for task in run.plan],
        [task.max_task_steps or run.settings.max_task_steps for task in run.plan],
    )


def assemble(
    run: RunSpecification,
    experts: Sequence[LocalExpert],
    adapter: GameAdapter,
    judge: Judge,
    supervision: Supervision,
    num_rewards: int = 1,
) -> Parts:
    """
    Args:
        experts: those that learn; the first ones are the run's own.
        num_rewards: the number of rewards on trial, each in every ``num_rewards``-th environment.
    """
    settings = run.settings
    programs = programs_of(settings, adapter, len(experts), supervision)
    keys = programs.keys.of_run(settings.seed, run.global_expert_idx)
    stage, turn = Stage(programs.world, programs.acting, judge), FairLock()
    kept = Safekeeping(run.paths, global_indices(experts), run.attempt, supervision)
    updates = Updates(run, experts, programs, judge, kept, supervision)
    step_budget = int(np.asarray(judge.plan.budget).sum())
    watch = watch_of(adapter, newest_expert(run), len(run.plan) - 1)
    return Parts(
        run=run,
        experts=experts,
        programs=programs,
        stage=stage,
        keys=keys,
        turn=turn,
        supervision=supervision,
        kept=kept,
        updates=updates,
        background=BackgroundCompiling(programs, updates.rollouts, turn, supervision),
        reporter=Reporter(run, experts, step_budget, supervision, watch, num_rewards),
        tests=SuccessTests(run, stage, keys, programs.keys, turn, supervision),
    )


def programs_of(settings: RunSettings, adapter: GameAdapter, num_experts: int, supervision: Supervision) -> Programs:
    """The compiled programs of a run that trains so many experts."""
    network = ExpertNetwork(adapter.layout, adapter.num_actions, settings.layer_size, settings.mixed_precision)
    source = Source(adapter, network, Hyperparameters.of(settings), settings.num_envs)
    programs = compile_programs(source, num_experts, settings.num_steps, supervision.compiling)
    if programs.store.hindrance:
        supervision.pane.line(f"programs are compiled again, and not stored for later runs: {programs.store.hindrance}")
    return programs


def restored(parts: Parts) -> RunState:
    """See `restored_state`; says what a new expert starts from."""
    pane = parts.supervision.pane
    state = restored_state(parts.run, parts.experts, parts.programs.learning, parts.keys, pane)
    if state.frames == 0 and (line := beginning(parts.run)):
        pane.line(line)
    return state


def restored_state(
    run: RunSpecification, experts: Sequence[LocalExpert], learning: Learning, keys: Keys, pane: Pane
) -> RunState:
    """The state of the newest checkpoint, or of a new run with the library's experts and a fresh one.

    Raises:
        BadInput: the newest intact checkpoint belongs to another run or has another shape.
    """
    params = [learning.fresh_expert(keys.init) if expert.params is None else expert.params for expert in experts]
    fresh = RunState(learning.fresh_learner(params), 0, 0, np.zeros(len(params), np.int64), keys.updates)
    found = checkpoints.newest(run.paths, fresh.learner, global_indices(experts), pane.line)
    if found is None:
        return fresh
    pane.line(f"continuing from frame {found.frames:,} (attempt {run.attempt})")
    return found


def beginning(run: RunSpecification) -> str | None:
    """A line about what the new expert starts from, where there was something to decide."""
    wanted, is_new = run.settings.init_from, run.experts[newest_expert(run)].params is None or run.init_from
    if wanted == NO_INIT or not is_new:
        return None
    if run.init_from:
        return f"the expert of {run.skill_name} starts as a copy of that of {run.init_from}"
    why = "no skill of the library is similar" if wanted == AUTO_INIT else f"the library has no expert of {wanted} yet"
    return f"the expert of {run.skill_name} starts fresh: {why}"


def first_games(parts: Parts) -> Playing:
    """Starts the games, and reports anything unusual."""
    prepare_to_compile(parts.run, parts.supervision)
    return parts.updates.begin(parts.keys.worlds)


def prepare_to_compile(run: RunSpecification, supervision: Supervision) -> None:
    """Says what a run begins with, and that it may take a while."""
    asked, num_envs = run.asked_num_envs, run.settings.num_envs
    if asked is not None and num_envs < asked:
        supervision.pane.line(f"{num_envs} environments instead of {asked}: an earlier attempt ran out of memory")
    supervision.pane.phase("compiling")
    supervision.compiling()
