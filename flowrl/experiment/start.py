"""One start of an experiment: wires the parts, runs them, and reports how it ended.

The only module that knows every room.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from flowrl import number_types
from flowrl.config import AUTO, BELOW_GOAL, MOST_USEFUL, Settings
from flowrl.envs.registry import GameEntry, game
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, SOMETHING_FAILED
from flowrl.experiment import migration, stored_settings
from flowrl.experiment.background_films import BackgroundFilms
from flowrl.experiment.dependency_hook import GetDependencies, asked_once
from flowrl.experiment.flow_graph import FlowGraph, Gate, NothingTrained
from flowrl.experiment.further import below_goal, most_useful
from flowrl.experiment.generation import Generation, MoreWork
from flowrl.experiment.most_useful import MostUseful
from flowrl.experiment.preflight import (
    check_continuation,
    check_explore,
    check_init_from,
    check_machine,
    check_rehearsal,
    chosen_llm,
    chosen_proposer,
    has_skills,
    llm_settings,
)
from flowrl.experiment.rehearsals import Rehearsals
from flowrl.gate.client import Gate as ProbedGate
from flowrl.parallel.calibration import Calibration
from flowrl.parallel.gpus import cpu_remark
from flowrl.parallel.launchers import first_job
from flowrl.parallel.launchers.batch_script import batch_script
from flowrl.parallel.launchers.default import default_launcher
from flowrl.parallel.launchers.slurm_options import SlurmOptions
from flowrl.parallel.library.contents import skill_data_in_library
from flowrl.parallel.library.locks import hold_scheduler_lock
from flowrl.parallel.runs import first_spec
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import ExperimentPaths, cache_remark
from flowrl.proposers.base import Proposer
from flowrl.proposers.curriculum import CurriculumProposer, load_curriculum
from flowrl.proposers.llm.proposer import LlmProposer
from flowrl.records.liveness import is_held
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.report.invocation import to_go_on, to_rehearse
from flowrl.report.summary import Skill, next_step, print_summary, proposer_line
from flowrl.report.terminal import Terminal
from flowrl.skills.explore import EXPLORE
from flowrl.skills.gate_report import built_in

SECOND_CTRL_C_S = 5.0
"""Within this many seconds of the first Ctrl-C, a second one ends the trainings."""


def described(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The resolved settings as plain values: ``auto`` replaced by its result."""
    chosen = chosen_proposer(settings, environ)
    llm_name = chosen_llm(settings) if chosen == "llm" else None
    frames = {"candidate_timesteps": settings.trial_frames, "no_progress_frames": settings.frames_without_progress}
    return {**settings.to_json(), "proposer": chosen, "llm_name": llm_name, **frames}


def first_batch_script(settings: Settings) -> str | None:
    """The batch script of a first job; None if runs are no jobs of a cluster.

    Raises:
        BadInput: what is asked of a cluster does not fit together.
    """
    if settings.launcher != "slurm":
        return None
    entry = game(settings.env_name)
    names = [spec.name for spec in load_curriculum(entry.curriculum, entry.facts)]
    name = EXPLORE if settings.explore_frames else names[0] if chosen_proposer(settings) == "curriculum" else "First_Skill"
    spec = first_spec(settings.graph_path, name)
    return batch_script(spec, SlurmOptions.of(settings), spec.session_name)


def make_proposer(settings: Settings, entry: GameEntry, say: Callable[[str], None]) -> Proposer:
    """Who proposes skills in this experiment.

    Args:
        say: takes a line for the terminal.

    Raises:
        BadInput: a recording of earlier answers cannot be read.
    """
    if chosen_proposer(settings) == "curriculum":
        return CurriculumProposer(entry.curriculum, entry.facts)
    return LlmProposer(llm_settings(settings), entry.facts, say)


def make_gate(settings: Settings, say: Callable[[str], None]) -> Gate:
    """What a proposed skill has to pass: code of a language model is probed, that of a curriculum is flowrl's own."""
    if chosen_proposer(settings) == "curriculum":
        return built_in
    gate = ProbedGate(settings.env_name, say)
    gate.warm_up()
    return gate


class Start:
    """One start, its parts wired.

    Args:
        rehearsal: what the library rehearses; no new skills are proposed then.

    Raises:
        BadInput: something is missing, or an earlier start's files do not fit; nothing was changed.
        FolderInUse: another scheduler works on the folder.
    """

    def __init__(self, settings: Settings, get_dependencies: GetDependencies, rehearsal: RehearsalRequest | None = None):
        self.settings, self.rehearsal = settings, rehearsal
        self._continued: set[str] = set()
        """The skills that this start trains further."""
        self._useful: MostUseful | None = None
        self.launcher = default_launcher(settings)
        settings = self._checked(settings)
        self.paths = ExperimentPaths(settings.graph_path)
        self.terminal = Terminal()
        self.say = self.terminal.say
        for remark in filter(None, (cache_remark(), cpu_remark(settings.gpu_ids))):
            self.say(f"note: {remark}")
        entry, get_dependencies = game(settings.env_name), asked_once(get_dependencies)
        proposer = make_proposer(settings, entry, self.say)
        is_resumed = has_skills(self.paths) or migration.is_copied(self.paths)
        if not is_resumed:
            self._try_first_skill(entry, get_dependencies)
        settings = self._with_number(settings)
        if settings.launcher == "slurm" and not is_resumed:
            first_job.try_out(self.paths.root, SlurmOptions.of(settings), self.say)
        proposer.prepare(is_resumed)
        self.scheduler = self._open_scheduler(settings)
        gate, archived = make_gate(settings, self.say), partial(skill_data_in_library, self.paths)
        self.flow_graph = FlowGraph(self.scheduler, proposer, entry.facts, get_dependencies, gate, archived)
        self.flow_graph.load(self.scheduler.known_skills())
        stored_settings.write(self.paths, self._to_be_stored())
        # A login node of a cluster computes nothing.
        self.films = BackgroundFilms(self.paths) if settings.films and settings.launcher != "slurm" else None
        self.generation = self._make_generation(settings)
        for line in opening_lines(settings, self.paths.root, self.scheduler, proposer):
            self.say(line)

    def run(self) -> int:
        """Proposes and trains; returns the exit code."""
        try:
            self.generation.run()
        except KeyboardInterrupt:
            return self._interrupted()
        finally:
            if self.films:
                self.films.close()
        self._report()
        return self._exit_code()

    def _checked(self, settings: Settings) -> Settings:
        """The settings of this start, once everything that it needs is there. Continuing a skill needs no proposals."""
        if settings.continue_skill:
            check_continuation(settings)
        if self._adds_none:
            settings = dataclasses.replace(settings, proposer="curriculum", llm_name=None)
        if not self._adds_none:
            check_explore(settings)
            check_init_from(settings)
        if self.rehearsal or settings.rehearse_every:
            check_rehearsal(settings)
        check_machine(settings, self.launcher)
        return settings

    @property
    def _adds_none(self) -> bool:
        """Whether this start proposes no new skills."""
        return bool(self.settings.continue_skill or self.rehearsal)

    def _to_be_stored(self) -> Settings:
        """With what ``--proposer auto`` came to: a key in the environment of a later start does not change who proposes."""
        if self._adds_none:
            return self.settings
        return dataclasses.replace(self.settings, proposer=chosen_proposer(self.settings))

    def _try_first_skill(self, entry: GameEntry, get_dependencies: GetDependencies) -> None:
        """Proposes a new experiment's first skill once beforehand, so that a bad one leaves no new folder behind.

        Only if that is free: a language model is not asked twice.

        Raises:
            BadInput: the skill, or what ``get_skill_dependencies`` returns for it, cannot be used.
        """
        if chosen_proposer(self.settings) == "curriculum":
            proposer = make_proposer(self.settings, entry, self.say)
            FlowGraph(NothingTrained(), proposer, entry.facts, get_dependencies).next_skill()

    def _with_number(self, settings: Settings) -> Settings:
        """Replaces ``--max_parallel_skills auto`` by a number, before anything is launched that would disturb the measurement.

        Raises:
            FolderInUse: another scheduler works on the folder, and would disturb it.
            FlowrlError: no training works on this machine.
        """
        if settings.max_parallel_skills != AUTO:
            return settings
        if is_held(self.paths.scheduler_lock):
            hold_scheduler_lock(self.paths).release()  # raises, and names the other one
        found = Calibration(settings.env_name, settings.training(), self.say, settings.gpu_ids).arrangement()
        return dataclasses.replace(settings, max_parallel_skills=found.max_parallel, skills_per_gpu=found.skills_per_gpu)

    def _open_scheduler(self, settings: Settings) -> SkillScheduler:
        if taken_over := migration.take_over_copied_checkpoint(self.paths):
            self.say(f"took over {len(taken_over.skills)} skills of a sequential run")
        scheduler = SkillScheduler(settings, base_dir=self.paths.root, launcher=self.launcher)
        scheduler.open()
        if scheduler.remark:
            self.say(scheduler.remark)
        if self.settings.continue_skill == BELOW_GOAL:
            self._continue_below_goal(scheduler, settings.success_rate)
        elif self.settings.continue_skill and self.settings.continue_skill != MOST_USEFUL:
            self._continue_skill(scheduler, self.settings.continue_skill, self.settings.extra_timesteps)
        if self.rehearsal:
            self._rehearse(scheduler, self.rehearsal)
        return scheduler

    def _rehearse(self, scheduler: SkillScheduler, request: RehearsalRequest) -> None:
        newest = next(reversed(scheduler.state["rehearsals"]), None)
        status = newest and newest["status"]
        if status in ("waiting", "running"):
            asked = newest["skill_data"]["frames"]
            self.say(f"{newest['skill_name']} was not finished; it continues, for the {asked:,} frames of its first start")
            return
        if status in ("failed", "cancelled"):
            self.say(f"{newest['skill_name']} was {status}; {to_go_on(self.paths.root)} --retry_failed continues it")
        scheduler.add_rehearsal(request)

    def _continue_below_goal(self, scheduler: SkillScheduler, goal: float) -> None:
        names = below_goal(self.paths, scheduler.state["skills"], goal)
        self.say(f"below the goal of {goal:g}: {', '.join(names)}" if names else f"every skill is at the goal of {goal:g}")
        for name in names:
            self._continue_skill(scheduler, name, self.settings.extra_timesteps, to_goal=True)

    def _continue_skill(self, scheduler: SkillScheduler, name: str, frames: int, to_goal: bool = False) -> None:
        allowed = scheduler.continue_skill(name, frames, to_goal)
        self._continued.add(name)
        if allowed < frames:
            self.say(f"{name} is trained for {allowed:,} frames, not {frames:,}: --skill_budget_frames leaves no more")

    def _make_generation(self, settings: Settings) -> Generation:
        max_nodes, explore_frames = (0, 0) if self._adds_none else (settings.max_nodes, settings.explore_frames)
        every = None if self._adds_none else settings.rehearse_every
        more: MoreWork = Rehearsals(self.scheduler, every, RehearsalRequest(settings.rehearsal_frames), self.say)
        if settings.continue_skill == MOST_USEFUL:
            more = self._useful = most_useful(self.scheduler, self.paths, self.flow_graph.facts, settings, self.say)
        generation = Generation(self.scheduler, self.flow_graph, max_nodes, more, self.say, explore_frames)

        def on_final(name: str, status: str) -> None:
            generation.on_final(name, status)
            if self.films:
                state = self.scheduler.state
                self.films.look([*state["skills"], *state["rehearsals"]])

        self.scheduler.set_callbacks(
            on_skill_final=on_final,
            on_rehearsal_final=on_final,
            prepare_training_run=partial(prepare_training_run, facts=self.flow_graph.facts),
        )
        return generation

    def _report(self) -> None:
        """The table, what to type next, what the language model cost, and why it gave up."""
        state, attach_line = self.scheduler.state, self.scheduler.attach_line
        skills, rehearsals = state["skills"], state["rehearsals"]
        began, now = self.terminal.began, datetime.now(UTC)
        next_step = self._next_step(skills, next(reversed(rehearsals), None))
        print_summary(skills, rehearsals, self.paths.root, began, now, self.terminal.out, attach_line, next_step)
        if line := proposer_line(self.scheduler.state["proposer"]):
            self.terminal.print(line)
        if self.generation.proposer_error is not None:
            self.terminal.print(f"\nThe proposer gave up: {self.generation.proposer_error}")

    def _next_step(self, skills: Sequence[Skill], rehearsal: Skill | None) -> str | None:
        num_left = 0 if self._adds_none else self.flow_graph.num_left()
        return next_step(skills, self.paths.root, self.settings.max_nodes, num_left, rehearsal)

    def _exit_code(self) -> int:
        state = self.scheduler.state
        skills, rehearsals = state["skills"], state["rehearsals"]
        if self.rehearsal:
            return ALL_COMPLETED if rehearsals[-1]["status"] == "completed" else SOMETHING_FAILED
        continued = self._continued | (self._useful.trained if self._useful else set())
        was_continued = all(not skill["error"] for skill in skills if skill["skill_name"] in continued)
        is_all_completed = was_continued and all(entry["status"] == "completed" for entry in (*skills, *rehearsals[-1:]))
        return ALL_COMPLETED if is_all_completed and self.generation.proposer_error is None else SOMETHING_FAILED

    def _interrupted(self) -> int:
        """Launches nothing more; a second Ctrl-C within 5 s ends the trainings, else they go on without us."""
        self.scheduler.interrupt()
        training = [skill for skill in self._running() if skill["stage"] != "merging"]
        try:
            if training:
                self.say(f"interrupted; Ctrl-C again within {SECOND_CTRL_C_S:g} s ends the trainings as well")
                time.sleep(SECOND_CTRL_C_S)
            self.scheduler.stop()
            if merging := [skill["skill_name"] for skill in self._running() if skill["stage"] == "merging"]:
                self.say(f"merging {', '.join(merging)} first; Ctrl-C again leaves a merge that has to wait to the next start")
            self.generation.join()
            for skill in training:
                if skill["tmux_session"]:  # it may have been about to start, and waits again
                    self.say(f"still training: {self.scheduler.attach_line(skill)}")
        except KeyboardInterrupt:
            self.say("ending the trainings; what they have learned is kept in their checkpoints")
            self.scheduler.stop(kill=True)
            self.generation.join()
        self.say(f"continue with: {(to_rehearse if self.rehearsal else to_go_on)(self.paths.root)}")
        return INTERRUPTED

    def _running(self) -> list[dict[str, Any]]:
        state = self.scheduler.state
        return [entry for entry in (*state["skills"], *state["rehearsals"]) if entry["status"] == "running"]


def opening_lines(settings: Settings, root: Path, scheduler: SkillScheduler, proposer: Proposer) -> Iterator[str]:
    """The lines for the user when everything is ready: what is trained, how many at a time, and who proposes."""
    at_a_time = "1 skill at a time" if scheduler.max_parallel == 1 else f"{scheduler.max_parallel} skills at a time"
    yield f"{settings.env_name} in {root}, {at_a_time}"
    if scheduler.max_parallel < settings.max_parallel_skills:
        yield (
            f"not {settings.max_parallel_skills}: each GPU trains --skills_per_gpu {settings.skills_per_gpu} at a time; "
            "raise it, or let --max_parallel_skills auto measure it"
        )
    if line := number_types.without_effect():
        yield line
    yield f"skills come from {proposer.describe()}"
    if unused := settings.cluster_flags_without_effect():
        verb = "has" if len(unused) == 1 else "have"
        yield f"note: {', '.join(unused)} {verb} no effect: this machine trains; give --launcher slurm to train on a cluster"
    if settings.candidates > 1 and chosen_proposer(settings) == "curriculum":
        yield f"--candidates {settings.candidates} has no effect: the built-in curriculum has one reward for each skill"
    if known := scheduler.state["skills"]:
        num_completed = sum(skill["status"] == "completed" for skill in known)
        yield f"continuing: {num_completed} of {len(known)} skills completed"
