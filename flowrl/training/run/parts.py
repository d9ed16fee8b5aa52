"""The parts that make up a run: an ordinary one, or one that tries several rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.registry import make_adapter
from flowrl.envs.tasks import PlanArrays
from flowrl.skills.module import compile_module
from flowrl.training.host.fair_lock import FairLock
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.environments import Judge, Playing, Stage, plan_judge
from flowrl.training.playing.programs import Keys, Programs, Source, compile_programs
from flowrl.training.run import checkpoints
from flowrl.training.run.background import BackgroundCompiling
from flowrl.training.run.measuring import SuccessTests
from flowrl.training.run.reporting import Reporter
from flowrl.training.run.saving import Safekeeping
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState, global_indices, library_experts
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
    network = ExpertNetwork(adapter.layout, adapter.num_actions, settings.layer_size, settings.mixed_precision)
    source = Source(adapter, network, Hyperparameters.of(settings), settings.num_envs)
    programs = compile_programs(source, len(experts), settings.num_steps, supervision.compiling)
    if programs.store.hindrance:
        supervision.pane.line(f"programs are compiled again, and not stored for later runs: {programs.store.hindrance}")
    keys = programs.keys.of_run(settings.seed, run.global_expert_idx)
    stage, turn = Stage(programs.world, programs.acting, judge), FairLock()
    kept = Safekeeping(run.paths, global_indices(experts), run.attempt, supervision)
    updates = Updates(run, programs, judge, kept, supervision)
    step_budget = int(np.asarray(judge.plan.budget).sum())
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
        reporter=Reporter(run, experts, step_budget, supervision, num_rewards),
        tests=SuccessTests(run, stage, keys, programs.keys, turn, supervision),
    )


def restored(parts: Parts) -> RunState:
    """The state of the newest checkpoint, or of a new run with the library's experts and a fresh one.

    Raises:
        BadInput: the newest intact checkpoint belongs to another run or has another shape.
    """
    run, learning, pane = parts.run, parts.programs.learning, parts.supervision.pane
    params = [learning.fresh_expert(parts.keys.init) if expert.params is None else expert.params for expert in parts.experts]
    fresh = RunState(learning.fresh_learner(params), 0, 0, np.zeros(len(params), np.int64), parts.keys.updates)
    found = checkpoints.newest(run.paths, fresh.learner, global_indices(parts.experts), pane.line)
    if found is None:
        return fresh
    pane.line(f"going on from frame {found.frames:,} (attempt {run.attempt})")
    return found


def first_games(parts: Parts) -> Playing:
    """Starts the games, and reports anything unusual."""
    run, supervision = parts.run, parts.supervision
    asked, num_envs = run.asked_num_envs, run.settings.num_envs
    if asked is not None and num_envs < asked:
        supervision.pane.line(f"{num_envs} environments instead of {asked}: an earlier attempt ran out of memory")
    supervision.pane.phase("compiling")
    supervision.compiling()
    return parts.updates.begin(parts.keys.worlds)
