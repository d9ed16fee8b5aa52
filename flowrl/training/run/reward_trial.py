"""The trial of several rewards for one skill: trained side by side in one process, and the best one goes on.

A reward on trial is learned by a local expert of its own. Environment ``i`` belongs to reward ``i % K``: there the newest
task pays that reward, and that expert acts in it. The experts that the plan builds on are shared, and learn from all
environments. After the trial all experts are frozen and every reward's expert plays the same fresh worlds; the
highest success rate wins, whatever the rewards themselves have paid. The winner's expert, with its optimiser state, is
the new expert of the ordinary run, which goes on from there.

What is decided is written down at once and whole (``candidates.json``), then the checkpoint that the ordinary run goes
on from: a killed run decides once, or goes on with the trial, but never decides twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from flowrl.envs.registry import make_adapter
from flowrl.errors import BadInput, FlowrlError
from flowrl.files import read_json, write_json
from flowrl.paths import RunPaths
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.module import compile_rewards, read_module, with_reward
from flowrl.training.learning import experts as stacks
from flowrl.training.learning.ppo import Learner
from flowrl.training.playing.comparison import Episodes, Score, TrialPrograms, play_wave
from flowrl.training.run import checkpoints
from flowrl.training.run.parts import Parts, assemble, first_games, program_parts, restored
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState, global_indices, library_experts, newest_expert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import NotFinite, budget_allows

TRIAL_EPISODES = 256
"""Fresh episodes behind each reward's success rate, at least."""


class Tried(NamedTuple):
    """A run whose reward is decided."""

    run: RunSpecification
    """With one reward for every task."""
    record: dict[str, Any] | None
    """``candidates.json``; None where there was nothing to decide."""

    def completed(self, result: dict[str, Any]) -> dict[str, Any]:
        """The run's result, with what the trial has shown."""
        if self.record is None:
            return result
        rates = [score["success_rate"] for score in self.record["candidates"]]
        trial = {"chosen": self.record["chosen"], "success_rates": rates, "frames": self.record["frames"]}
        return {**result, "candidates": trial}


def decide(run: RunSpecification, supervision: Supervision) -> Tried:
    """The run as it goes on: unchanged where its skill has one reward, else with the best one of a trial.

    Raises:
        Stopped: the run was asked to end during the trial.
        BadInput: the run has gone on from a trial, and what was decided is not known any more.
        FlowrlError, KeyboardInterrupt: as `loop.train`.
    """
    if not read_module(run.module_text).candidates:
        return Tried(run, None)
    record = read_decision(run.paths)
    if not run.paths.checkpoints():
        record = try_rewards(run, supervision._replace(phase="trying the rewards"), record)
    elif record is None:
        raise BadInput(
            f"{run.paths.candidates} is missing, which says which reward {run.skill_name} is trained with; restore it from a "
            f"copy, or move {run.paths.policies} away to try the rewards anew"
        )
    shutil.rmtree(run.paths.trial.policies, ignore_errors=True)
    chosen = with_reward(run.module_text, record["chosen"])
    return Tried(dataclasses.replace(run, module_text=chosen), record)


def read_decision(paths: RunPaths) -> dict[str, Any] | None:
    """What was decided in an earlier attempt, None where nothing was.

    Raises:
        BadInput: the file is there, and damaged.
    """
    try:
        record = read_json(paths.candidates)
    except FileNotFoundError:
        return None
    if not isinstance(record, dict) or not {"chosen", "frames", "candidates"} <= record.keys():
        raise BadInput(f"{paths.candidates} does not say which reward was chosen; restore it from a copy, or remove it")
    return record


class Trial(NamedTuple):
    """Several rewards of one skill, and the parts of the run that tries them."""

    run: RunSpecification
    """The ordinary run."""
    rewards: list[str]
    owners: list[int]
    """The local expert of each reward."""
    parts: Parts
    """Of a run that keeps its checkpoints apart, with an expert for each reward."""


def trial_of(run: RunSpecification, supervision: Supervision) -> Trial:
    """
    Raises:
        BadInput: there are more rewards than environments.
    """
    rewards = read_module(run.module_text).rewards
    if len(rewards) > run.settings.num_envs:
        raise BadInput(
            f"{len(rewards)} rewards of {run.skill_name} are on trial in {run.settings.num_envs} environments; each "
            "needs one of its own: use more --num_envs"
        )
    owners, experts = owners_of(run, len(rewards)), experts_on_trial(run, len(rewards))
    programs = trial_programs(run, owners, make_adapter(run.env_name))
    parts = assemble(dataclasses.replace(run, paths=run.paths.trial), experts, programs, supervision, len(rewards))
    return Trial(run, rewards, owners, parts)


def owners_of(run: RunSpecification, num_rewards: int) -> list[int]:
    """The local expert of each reward: the skill's own for the first one, and for each of the others one after all of the plan's."""
    return [newest_expert(run), *range(len(run.experts), len(run.experts) + num_rewards - 1)]


def experts_on_trial(run: RunSpecification, num_rewards: int) -> tuple[LocalExpert, ...]:
    """The run's own experts, and one for each reward after the first."""
    own = library_experts(run)
    start = own[newest_expert(run)].params
    names = [f"{run.skill_name} (reward {number})" for number in range(2, num_rewards + 1)]
    return (*own, *(LocalExpert(name, None, start) for name in names))


def trial_programs(run: RunSpecification, owners: list[int], adapter) -> TrialPrograms:
    """Programs in which each reward is paid in environments of its own."""
    rewards = compile_rewards(run.module_text, adapter.scope)
    return TrialPrograms(rewards, owners, *program_parts(run, adapter, len(run.experts) + len(owners) - 1))


def try_rewards(run: RunSpecification, supervision: Supervision, decided: dict[str, Any] | None) -> dict[str, Any]:
    """Trains until the trial's frames are used up, compares, and leaves the checkpoint that an ordinary run goes on from.

    Args:
        decided: what an earlier attempt has decided, if it has.

    Returns:
        what is in ``candidates.json``.
    """
    trial = trial_of(run, supervision)
    with trial.parts.kept:
        state = restored(trial.parts)
        if decided is None or state.frames == 0:
            state = train_side_by_side(trial, state)
            decided = decision(trial, compare(trial, state), state)
            write_decision(trial, decided)
        hand_over(trial, state, decided["chosen"])
    return decided


def train_side_by_side(trial: Trial, state: RunState) -> RunState:
    """Makes updates until another one would exceed the frames of the trial; the state is saved then."""
    settings, kept, supervision = trial.run.settings, trial.parts.kept, trial.parts.supervision
    supervision.pane.line(f"trial of {len(trial.rewards)} rewards: {settings.trial_frames:,} frames for all of them together")
    playing = first_games(trial.parts)
    while budget_allows(state, settings.frames_per_update, settings.trial_frames):
        with naming_rewards(trial), supervision.one_update():
            state, playing, made = trial.parts.updates.make(state, playing)
        report = trial.parts.reporter.report(state, made)
        trial.parts.reporter.record(report, made.losses, None)
        if supervision.lifetime.asked_to_stop:
            kept.save(state)
        else:
            kept.save_now_and_then(state)
        supervision.stop_if_asked()
        supervision.beat()
    kept.save(state)
    return state


@contextlib.contextmanager
def naming_rewards(trial: Trial) -> Iterator[None]:
    """Has an error about a reward that is not a number name those on trial that may have paid it."""
    try:
        yield
    except NotFinite as error:
        numbers = [number for number, owner in enumerate(trial.owners, 1) if owner in error.experts]
        if not numbers:
            raise
        raise FlowrlError(f"{error} (on trial: reward {', '.join(map(str, numbers))})") from None


def compare(trial: Trial, state: RunState) -> list[Score]:
    """Plays the same fresh worlds with each reward's expert, all experts frozen."""
    programs, supervision = trial.parts.programs, trial.parts.supervision
    key = programs.fold_in(trial.parts.keys.tests, state.updates)
    policy = programs.learned_policy(state.learner.params)
    episodes, num_waves, num_rewards = Episodes.none(), waves(trial), len(trial.rewards)
    supervision.compiling()  # the first wave does
    for wave in range(num_waves):

        def show(ended: int, before: int = len(episodes.success)) -> None:
            supervision.pane.phase(f"comparing the rewards {before + ended}/{num_episodes(trial) * num_rewards}")
            supervision.beat()
            supervision.stop_if_asked()

        episodes = episodes.with_more(play_wave(programs, policy, jax.random.fold_in(key, wave), show))
    return [episodes.score(number, len(trial.run.plan)) for number in range(num_rewards)]


def waves(trial: Trial) -> int:
    """How often all environments play an episode."""
    return -(-TRIAL_EPISODES // (trial.run.settings.num_envs // len(trial.rewards)))


def num_episodes(trial: Trial) -> int:
    """Of each reward."""
    return waves(trial) * (trial.run.settings.num_envs // len(trial.rewards))


def decision(trial: Trial, scores: list[Score], state: RunState) -> dict[str, Any]:
    """Which reward goes on, and why, as it is kept in ``candidates.json``."""
    chosen, why = best(scores)
    is_done = read_module(trial.run.module_text).tasks[-1].task_is_done
    return {
        "skill_name": trial.run.skill_name,
        "attempt": trial.run.attempt,
        "frames": state.frames,
        "episodes": num_episodes(trial),
        "chosen": chosen + 1,
        "why": why,
        "candidates": [
            {
                "number": number,
                "success_rate": score.success_rate,
                "progress": round(score.progress, 4),
                "mean_return": round(score.mean_return, 4),
                "sha256": fingerprint(is_done, reward),
                "task_reward": reward,
            }
            for number, (score, reward) in enumerate(zip(scores, trial.rewards), 1)
        ],
    }


def write_decision(trial: Trial, decided: dict[str, Any]) -> None:
    """Writes ``candidates.json``, and tells a person."""
    paths, supervision = trial.run.paths, trial.parts.supervision
    supervision.when_there_is_room(lambda: write_json(paths.candidates, decided), paths.folder)
    for line in described(decided):
        supervision.pane.line(line)


def hand_over(trial: Trial, state: RunState, chosen: int) -> None:
    """Writes the first checkpoint of the ordinary run: the winner's expert is the new one, the other rewards' are gone.

    Args:
        chosen: the number of the winner; the first reward has 1.
    """
    run = trial.run
    own = library_experts(run)
    kept = list(range(len(own)))
    kept[newest_expert(run)] = trial.owners[chosen - 1]
    each = [stacks.unstack(part, len(trial.parts.experts)) for part in state.learner]
    winner = Learner(*(stacks.stack([part[index] for index in kept]) for part in each))
    state = state._replace(learner=winner, acted_frames=state.acted_frames[kept])
    supervision = trial.parts.supervision
    supervision.when_there_is_room(
        lambda: checkpoints.save(run.paths, state, global_indices(own), run.attempt), run.paths.folder
    )


def best(scores: list[Score]) -> tuple[int, str]:
    """Which reward goes on, and why: the highest success rate; then the furthest along the plan; then the first."""
    chosen = max(range(len(scores)), key=lambda index: (scores[index].success_rate, scores[index].progress, -index))
    others = [score for index, score in enumerate(scores) if index != chosen]
    equals = [score for score in others if score.success_rate == scores[chosen].success_rate]
    if not equals:
        return chosen, "the highest success rate"
    if all(score.progress < scores[chosen].progress for score in equals):
        return chosen, "the furthest along the plan, of those with the highest success rate"
    return chosen, "proposed first, of those that did equally well"


def described(decided: dict[str, Any]) -> list[str]:
    """What was decided, for a person."""
    lines = [
        f"reward {score['number']}: success rate {score['success_rate']:.3f} of {decided['episodes']} fresh episodes, "
        f"{score['progress']:.2f} of the plan, {score['mean_return']:.3f} paid an episode"
        for score in decided["candidates"]
    ]
    return [*lines, f"reward {decided['chosen']} of {len(lines)} goes on: {decided['why']}"]
