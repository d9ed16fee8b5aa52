"""The trial of several rewards, or several initial experts, for one skill: they are trained side by side in one process, and
the best one is chosen.

Each reward on trial has its own local expert. Environment ``i`` belongs to reward ``i % K``: there the newest
task pays that reward, and that expert acts in it. The experts that the plan builds on are shared, and learn from all
environments. After the trial all experts are frozen and every reward's expert plays the same fresh worlds; the highest
success rate wins, and what the rewards paid does not count. The winner's expert, with its optimiser state, becomes the
new expert of the ordinary run, which goes on from there.

Initial experts are tried as rewards are: each candidate has the skill's one reward, and its expert starts as a copy of
another one.

The decision is written first, in one step (``candidates.json``), then the checkpoint that the ordinary run goes on
from: a killed run either keeps its decision or continues the trial, but never decides twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.registry import make_adapter
from flowrl.errors import BadInput, FlowrlError
from flowrl.files import write_json
from flowrl.records.result import RunResult
from flowrl.skills.module import compile_module, compile_rewards, read_module, with_reward
from flowrl.training.learning import experts as stacks
from flowrl.training.learning.ppo import Learner
from flowrl.training.playing.comparison import Episodes, RewardSplit, Score, play_wave, split_by_reward, trial_judge
from flowrl.training.playing.environments import Judge
from flowrl.training.playing.rollout import learned_policy
from flowrl.training.run import checkpoints
from flowrl.training.run.decision import decision, described, read_decision
from flowrl.training.run.parts import Parts, assemble, first_games, plan_of, restored
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.state import LocalExpert, RunState, global_indices, library_experts, newest_expert
from flowrl.training.run.supervision import Supervision
from flowrl.training.run.updates import NotFinite, budget_allows

TRIAL_EPISODES = 256
"""Each reward's success rate comes from at least this many fresh episodes."""


class Tried(NamedTuple):
    """A run whose reward is chosen."""

    run: RunSpecification
    """The run with one reward for every task."""
    record: dict[str, Any] | None
    """``candidates.json``; None if there was nothing to decide."""

    def completed(self, result: RunResult) -> RunResult:
        """The run's result, with the trial's results."""
        if self.record is None:
            return result
        rates = [score["success_rate"] for score in self.record["candidates"]]
        trial = {"chosen": self.record["chosen"], "success_rates": rates, "frames": self.record["frames"]}
        return dataclasses.replace(result, candidates=trial)


def decide(run: RunSpecification, supervision: Supervision) -> Tried:
    """The run to train: unchanged if its skill has one reward, otherwise with the winner of a trial.

    Raises:
        Stopped: the run was asked to end during the trial.
        BadInput: the run has gone on from a trial, but the decision is missing.
        FlowrlError, KeyboardInterrupt: as `loop.train`.
    """
    if not read_module(run.module_text).candidates:
        return Tried(run, None)
    record = read_decision(run.paths)
    if not run.paths.checkpoints():
        record = try_rewards(run, supervision._replace(phase=f"trying the {on_trial(run)}s"), record)
    elif record is None:
        raise BadInput(
            f"{run.paths.candidates} is missing, which says which {on_trial(run)} {run.skill_name} is trained with; restore it "
            f"from a copy, or move {run.paths.policies} away to try the {on_trial(run)}s again"
        )
    shutil.rmtree(run.paths.trial.policies, ignore_errors=True)
    chosen = record["chosen"]
    init_from = run.init_tried[chosen - 1].skill_name if run.init_tried else run.init_from
    return Tried(dataclasses.replace(run, module_text=with_reward(run.module_text, chosen), init_from=init_from), record)


def on_trial(run: RunSpecification) -> str:
    """What a trial is about, for messages."""
    return "initial expert" if run.init_tried else "reward"


class Trial(NamedTuple):
    """Several rewards or initial experts of one skill, and the parts of the run that tries them."""

    run: RunSpecification
    """The ordinary run."""
    rewards: list[str]
    owners: list[int]
    """The local expert of each reward."""
    split: RewardSplit
    parts: Parts
    """The parts of a run with separate checkpoints and an expert for each reward."""


def trial_of(run: RunSpecification, supervision: Supervision) -> Trial:
    """
    Raises:
        BadInput: there are more rewards than environments.
    """
    rewards = read_module(run.module_text).rewards
    if len(rewards) > run.settings.num_envs:
        raise BadInput(
            f"{len(rewards)} {on_trial(run)}s of {run.skill_name} are on trial in {run.settings.num_envs} environments, but "
            "each needs one of its own; use a larger --num_envs"
        )
    owners, adapter = owners_of(run, len(rewards)), make_adapter(run.env_name)
    split = split_by_reward(owners, run.settings.num_envs)
    apart = dataclasses.replace(run, paths=run.paths.trial)
    parts = assemble(
        apart, experts_on_trial(run, len(rewards)), adapter, judge_of(run, split, adapter), supervision, len(rewards)
    )
    return Trial(run, rewards, owners, split, parts)


def owners_of(run: RunSpecification, num_rewards: int) -> list[int]:
    """The local expert of each reward: the skill's own for the first one, then one for each other, after the plan's
    experts."""
    return [newest_expert(run), *range(len(run.experts), len(run.experts) + num_rewards - 1)]


def experts_on_trial(run: RunSpecification, num_rewards: int) -> tuple[LocalExpert, ...]:
    """The run's own experts, and one for each reward after the first."""
    own = library_experts(run)
    if run.init_tried:
        others = ((initial.skill_name or "fresh", initial.params) for initial in run.init_tried[1:])
    else:
        start = own[newest_expert(run)].params
        others = ((f"reward {number}", start) for number in range(2, num_rewards + 1))
    return (*own, *(LocalExpert(f"{run.skill_name} ({what})", None, start) for what, start in others))


def judge_of(run: RunSpecification, split: RewardSplit, adapter: GameAdapter) -> Judge:
    """The judge that pays each reward in its own environments."""
    code = (run.module_text, adapter.scope, adapter.facts.feature_names)
    functions, rewards = compile_module(*code), compile_rewards(*code)
    return trial_judge(functions, rewards, plan_of(run), split)


def try_rewards(run: RunSpecification, supervision: Supervision, decided: dict[str, Any] | None) -> dict[str, Any]:
    """Trains until the trial's frames are used up, compares, and writes the checkpoint that an ordinary run goes on from.

    Args:
        decided: the decision of an earlier attempt, if any.

    Returns:
        the content of ``candidates.json``.
    """
    trial = trial_of(run, supervision)
    with trial.parts.kept:
        state = restored(trial.parts)
        if decided is None or state.frames == 0:
            state = train_side_by_side(trial, state)
            decided = decision(run, state.frames, num_episodes(trial), compare(trial, state))
            write_decision(trial, decided)
        hand_over(trial, state, decided["chosen"])
    return decided


def train_side_by_side(trial: Trial, state: RunState) -> RunState:
    """Makes updates until another one would exceed the frames of the trial; the state is saved then."""
    settings, kept, supervision = trial.run.settings, trial.parts.kept, trial.parts.supervision
    what = f"{len(trial.rewards)} {on_trial(trial.run)}s"
    supervision.pane.line(f"trial of {what}: {settings.trial_frames:,} frames for all of them together")
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
    """Makes an error about a reward that is not a number name the rewards on trial that may have paid it."""
    try:
        yield
    except NotFinite as error:
        numbers = [number for number, owner in enumerate(trial.owners, 1) if owner in error.experts]
        if not numbers:
            raise
        raise FlowrlError(f"{error} (on trial: {on_trial(trial.run)} {', '.join(map(str, numbers))})") from None


def compare(trial: Trial, state: RunState) -> list[Score]:
    """Plays the same fresh worlds with each reward's expert, all experts frozen."""
    stage, supervision = trial.parts.stage, trial.parts.supervision
    key = trial.parts.programs.keys.fold_in(trial.parts.keys.tests, state.updates)
    policy = learned_policy(stage, state.learner.params)
    episodes, num_waves, num_rewards = Episodes.none(), waves(trial), len(trial.rewards)
    supervision.compiling()  # the first wave of episodes compiles
    for wave in range(num_waves):

        def show(ended: int, before: int = len(episodes.success)) -> None:
            supervision.pane.phase(f"comparing the {on_trial(trial.run)}s {before + ended}/{num_episodes(trial) * num_rewards}")
            supervision.beat()
            supervision.stop_if_asked()

        episodes = episodes.with_more(play_wave(stage, trial.split, policy, jax.random.fold_in(key, wave), show))
    return [episodes.score(number, len(trial.run.plan)) for number in range(num_rewards)]


def waves(trial: Trial) -> int:
    """How many episodes each environment plays."""
    return -(-TRIAL_EPISODES // (trial.run.settings.num_envs // len(trial.rewards)))


def num_episodes(trial: Trial) -> int:
    """The number of episodes for each reward."""
    return waves(trial) * (trial.run.settings.num_envs // len(trial.rewards))


def write_decision(trial: Trial, decided: dict[str, Any]) -> None:
    """Writes ``candidates.json``, and reports the decision."""
    paths, supervision = trial.run.paths, trial.parts.supervision
    supervision.when_there_is_room(lambda: write_json(paths.candidates, decided), paths.folder)
    for line in described(decided):
        supervision.pane.line(line)


def hand_over(trial: Trial, state: RunState, chosen: int) -> None:
    """Writes the first checkpoint of the ordinary run: the winner's expert is the new one, the other rewards' experts
    are dropped.

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
    supervision.lifetime.check_is_newest()
    supervision.when_there_is_room(
        lambda: checkpoints.save(run.paths, state, global_indices(own), run.attempt), run.paths.folder
    )
