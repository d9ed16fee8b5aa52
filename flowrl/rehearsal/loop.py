"""A rehearsal's loop: restore, then update to the end of the budget."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import NamedTuple

import jax
import numpy as np

from flowrl.envs.registry import make_adapter
from flowrl.envs.worlds import Turnover
from flowrl.errors import BadInput, FlowrlError
from flowrl.evaluation.bench import composition_of
from flowrl.evaluation.catalogue import make_catalogue
from flowrl.evaluation.composition import Composition, Games, begin
from flowrl.evaluation.planner import Planned, PlannerSettings, Weights
from flowrl.files import write_json
from flowrl.paths import rehearsal_number
from flowrl.records.result import RunResult
from flowrl.rehearsal import experience, rollout
from flowrl.rehearsal.experience import Experience
from flowrl.rehearsal.reporting import Reporter, acted_frames
from flowrl.rehearsal.rollout import Pay, Rehearsed
from flowrl.rehearsal.specification import RehearsalSpecification
from flowrl.training.learning.ppo import Statistics
from flowrl.training.playing.programs import Keys, Programs
from flowrl.training.run.learning_step import LearningStep
from flowrl.training.run.parts import prepare_to_compile, programs_of, restored_state
from flowrl.training.run.result import unmeasured
from flowrl.training.run.saving import Safekeeping
from flowrl.training.run.state import RunState, global_indices, library_experts
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import bank_size, budget_allows, turnover

FIRST_KEY = 1_000_000
"""Random keys of rehearsals are numbered from here, those of skills by their experts' indices."""
MIN_UPKEEP_SUCCESS = 0.1
"""In place of `PlannerSettings.min_upkeep_success`, which is higher. A skill that fails is tried again once its failures are
forgotten, so its rate keeps near this one; whoever plans by what a rehearsal has seen should not take that for good."""


class Parts(NamedTuple):
    """The parts that the loop uses."""

    run: RehearsalSpecification
    programs: Programs
    composition: Composition
    keys: Keys
    supervision: Supervision
    kept: Safekeeping
    learning: LearningStep
    reporter: Reporter
    worlds: Turnover
    pay: Pay


class Played(NamedTuple):
    """The games, and what the planner goes by."""

    games: Games
    planned: Planned
    known: Experience


def rehearse(run: RehearsalSpecification, supervision: Supervision) -> RunResult:
    """Plays and learns to the end of the frame budget.

    Raises:
        Stopped: the run was asked to end.
        FlowrlError: a reward or a loss is not a number.
        KeyboardInterrupt: the user pressed Ctrl-C; what was learned until then is in a checkpoint.
    """
    parts = assembled(run, supervision)
    with parts.kept as kept:
        experts = library_experts(run)
        state = restored_state(run, experts, parts.programs.learning, parts.keys, supervision.pane)
        state, known = to_budget(parts, state, opened(parts))
        checkpoint = kept.save(state)
        keep_experience(run, known)
    ended = unmeasured(run, experts, state, checkpoint, supervision.clock)
    unlocked, steps = parts.reporter.achievements, parts.reporter.episode_steps
    return dataclasses.replace(ended, achievements=unlocked, episode_steps=steps)


def assembled(run: RehearsalSpecification, supervision: Supervision) -> Parts:
    """
    Raises:
        BadInput: the game declares no goals.
    """
    adapter, settings = make_adapter(run.env_name), run.settings
    if not adapter.facts.goals:
        raise BadInput(
            f"{run.env_name} declares no goals, which a rehearsal needs; docs/add_a_game.md says how to declare them"
        )
    programs = programs_of(settings, adapter, len(run.experts), supervision)
    composition, names = composition_of(run.library, adapter, programs, run.rehearsal.max_steps)
    kept = Safekeeping(run.paths, global_indices(library_experts(run)), run.attempt, supervision)
    return Parts(
        run=run,
        programs=programs,
        composition=composition,
        keys=programs.keys.of_run(settings.seed, FIRST_KEY + rehearsal_number(run.skill_name)),
        supervision=supervision._replace(phase="rehearsing"),
        kept=kept,
        learning=LearningStep(settings, programs.learning, kept, supervision),
        reporter=Reporter(run, len(names.goals), supervision),
        worlds=turnover(settings.num_envs, settings.num_steps),
        pay=Pay(run.rehearsal.own_reward, run.rehearsal.game_reward),
    )


def opened(parts: Parts) -> Played:
    """The games at their start. Checkpoints do not store the games' state, so each attempt starts in other worlds."""
    run, keys = parts.run, parts.programs.keys
    prepare_to_compile(run, parts.supervision)
    facts = parts.programs.source.adapter.facts
    known = experience.found(run.paths.experience, run.library)
    catalogue, _ = make_catalogue(run.library, facts)
    vitals = {"low": run.rehearsal.restore_below, "enough": run.rehearsal.restore_until}
    # No skill is shut out: it is to learn. But what hardly ever succeeds takes no time from restoring what is low.
    settings = PlannerSettings(min_success=0.0, min_upkeep_success=MIN_UPKEEP_SUCCESS, **vitals)
    planned = Planned(catalogue, weights_of(known), settings)
    key = keys.fold_in(parts.keys.worlds, run.attempt)
    return Played(begin(parts.composition, key, bank_size(run.settings.num_envs), planned), planned, known)


def to_budget(parts: Parts, state: RunState, played: Played) -> tuple[RunState, Experience]:
    """Makes updates until another would exceed the budget; returns the state then, and what is known of the skills."""
    is_first = True
    settings, supervision = parts.run.settings, parts.supervision
    while budget_allows(state, settings.frames_per_update, settings.total_timesteps):
        with supervision.one_update():
            state, played, steps, losses = update(parts, state, played)
        if is_first:
            parts.programs.store.remember()
            is_first = False
        report = parts.reporter.report(state, steps, losses, played.known)
        keep(parts, state, played.known)
        supervision.stop_if_asked()
        parts.reporter.record(report, losses)
        supervision.beat()
    return state, played.known


def keep(parts: Parts, state: RunState, known: Experience) -> None:
    """Saves a checkpoint where one is due, or the run is to end, and what is known by then."""
    if parts.supervision.lifetime.asked_to_stop:
        parts.kept.save(state)
    elif not parts.kept.save_now_and_then(state):
        return
    keep_experience(parts.run, known)


def keep_experience(run: RehearsalSpecification, known: Experience) -> None:
    """Writes down what is known of the skills. A full disk loses that, and not the rehearsal."""
    with contextlib.suppress(OSError):
        write_json(run.paths.experience, known.to_data([skill.name for skill in run.library.skills]))


def update(parts: Parts, state: RunState, played: Played) -> tuple[RunState, Played, list[Rehearsed], Statistics]:
    """One update: a rollout, learning from it, fresh worlds, and what the planner knows by then."""
    games, planned, known = played
    run, composition, programs = parts.run, parts.composition, parts.programs
    act_key, learn_key, world_key = programs.keys.of_update(state.key, state.updates)
    params, num_steps = state.learner.params, run.settings.num_steps
    begun_s = time.perf_counter()
    games, experience_gained, steps = rollout.collect(composition, params, games, planned, act_key, num_steps, parts.pay)
    played_s = time.perf_counter()
    values = rollout.last_values(composition, params, games)
    acted = acted_frames(steps, len(run.experts))
    state, losses = parts.learning.take(state, experience_gained, values, acted, learn_key, lambda: check_rewards(run, steps))
    parts.supervision.clock.spent(played_s - begun_s, time.perf_counter() - played_s)
    num_ended = sum(int(step.ended.sum()) for step in steps)
    games = games._replace(bank=programs.world.refreshed(games.bank, world_key, parts.worlds.due(num_ended)))
    known.add(steps)
    planned = planned._replace(weights=weights_of(known))
    return state, Played(games, planned, known), steps, losses


def weights_of(known: Experience) -> Weights:
    """What the planner weighs by."""
    return jax.device_put(Weights(known.success, known.steps))


def check_rewards(run: RehearsalSpecification, steps: list[Rehearsed]) -> None:
    """Raises FlowrlError, naming the skill, if a reward is not a number."""
    for step in steps:
        bad = ~np.isfinite(step.reward)
        if bad.any():
            name = run.library.skills[int(step.skill[bad][0])].name
            raise FlowrlError(
                f"the reward was {step.reward[bad][0]} while {name} acted in {run.skill_name}; expected a finite number: "
                "correct the skill's task_reward, or the game's own_reward"
            )
