"""The parts that a run is put together from: an ordinary one, and one that tries several rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowrl.envs import tasks
from flowrl.envs.adapter import GameAdapter
from flowrl.envs.registry import make_adapter
from flowrl.skills.module import compile_module
from flowrl.training.learning.networks import ExpertNetwork
from flowrl.training.learning.ppo import Hyperparameters
from flowrl.training.playing.programs import Keys, Playing, Programs
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
    """What the loop is given."""

    run: RunSpecification
    experts: Sequence[LocalExpert]
    programs: Programs
    keys: Keys
    supervision: Supervision
    kept: Safekeeping
    updates: Updates
    background: BackgroundCompiling
    reporter: Reporter
    tests: SuccessTests


def ordinary(run: RunSpecification, supervision: Supervision) -> Parts:
    """The parts of a run that trains the experts of its plan."""
    adapter, experts = make_adapter(run.env_name), library_experts(run)
    programs = Programs(*program_parts(run, adapter, len(experts)))
    return assemble(run, experts, programs, supervision)


def program_parts(run: RunSpecification, adapter: GameAdapter, num_experts: int) -> tuple:
    """What a run's programs are made from."""
    settings = run.settings
    network = ExpertNetwork(adapter.layout, adapter.num_actions, settings.layer_size, settings.mixed_precision)
    plan = tasks.plan_arrays(
        [task.local_expert_idx for task in run.plan],
        [task.n for task in run.plan],
        [task.max_task_steps or settings.max_task_steps for task in run.plan],
    )
    functions = compile_module(run.module_text, adapter.scope)
    return adapter, network, functions, plan, settings.num_envs, num_experts, Hyperparameters.of(settings), settings.num_steps


def assemble(
    run: RunSpecification, experts: Sequence[LocalExpert], programs: Programs, supervision: Supervision, num_rewards: int = 1
) -> Parts:
    """
    Args:
        experts: that learn; the first ones are the run's own.
        num_rewards: on trial, each in every ``num_rewards``-th environment.
    """
    programs.before_compiling(supervision.compiling)
    if programs.hindrance:
        supervision.pane.line(f"programs are compiled anew, and not kept for later runs: {programs.hindrance}")
    keys = programs.run_keys(run.settings.seed, run.global_expert_idx)
    kept = Safekeeping(run.paths, global_indices(experts), run.attempt, supervision)
    updates = Updates(run, programs, kept, supervision)
    step_budget = int(np.asarray(programs.plan.budget).sum())
    return Parts(
        run=run,
        experts=experts,
        programs=programs,
        keys=keys,
        supervision=supervision,
        kept=kept,
        updates=updates,
        background=BackgroundCompiling(programs, updates.rollouts, supervision),
        reporter=Reporter(run, experts, step_budget, supervision, num_rewards),
        tests=SuccessTests(run, programs, keys, supervision),
    )


def restored(parts: Parts) -> RunState:
    """The state of the newest checkpoint, or else of a run that begins with the library's experts and a fresh one.

    Raises:
        BadInput: the newest checkpoint that is whole is of another run or another shape.
    """
    run, programs, pane = parts.run, parts.programs, parts.supervision.pane
    params = [
        programs.fresh_expert(parts.keys.init) if expert.params is None else expert.params for expert in parts.experts
    ]
    fresh = RunState(programs.fresh_learner(params), 0, 0, np.zeros(len(params), np.int64), parts.keys.updates)
    found = checkpoints.newest(run.paths, fresh.learner, global_indices(parts.experts), pane.line)
    if found is None:
        return fresh
    pane.line(f"going on from frame {found.frames:,} (attempt {run.attempt})")
    return found


def first_games(parts: Parts) -> Playing:
    """Begins the games, and says what is unusual about it."""
    run, supervision = parts.run, parts.supervision
    asked, num_envs = run.asked_num_envs, run.settings.num_envs
    if asked is not None and num_envs < asked:
        supervision.pane.line(f"{num_envs} environments instead of {asked}: an earlier attempt ran out of memory")
    supervision.pane.phase("compiling")
    supervision.compiling()
    return parts.updates.begin(parts.keys.worlds)
