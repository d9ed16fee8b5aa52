"""One start of an experiment: the parts are wired, skills are proposed and trained, and the end is told.

The only module that knows every room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flowrl import number_types
from flowrl.config import AUTO, Settings
from flowrl.envs.registry import GameEntry, game
from flowrl.errors import ALL_COMPLETED, INTERRUPTED, SOMETHING_FAILED, BadInput
from flowrl.experiment import migration, stored_settings
from flowrl.experiment.dependency_hook import GetDependencies, asked_once
from flowrl.experiment.flow_graph import FlowGraph, Gate, NothingTrained
from flowrl.experiment.generation import Generation
from flowrl.experiment.preflight import check_machine, chosen_llm, chosen_proposer, llm_settings
from flowrl.files import read_json
from flowrl.gate.client import Gate as ProbedGate
from flowrl.parallel.calibration import Calibration
from flowrl.parallel.gpus import cpu_remark
from flowrl.parallel.launchers.default import default_launcher
from flowrl.parallel.library.locks import hold_scheduler_lock
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.parallel.training_processor import process_completed_training
from flowrl.parallel.training_setup import prepare_training_run
from flowrl.paths import ExperimentPaths, cache_remark
from flowrl.proposers.base import Proposer
from flowrl.proposers.curriculum import CurriculumProposer
from flowrl.proposers.llm.proposer import LlmProposer
from flowrl.records.liveness import is_held
from flowrl.report.invocation import to_go_on
from flowrl.report.summary import console, print_summary, proposer_line
from flowrl.skills.gate_report import built_in

SECOND_CTRL_C_S = 5.0


def described(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The resolved settings as plain values: ``auto`` replaced by what it comes to."""
    chosen = chosen_proposer(settings, environ)
    llm_name = chosen_llm(settings) if chosen == "llm" else None
    resolved = {"proposer": chosen, "llm_name": llm_name, "candidate_timesteps": settings.trial_frames}
    return {**settings.to_json(), **resolved}


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

    Raises:
        BadInput: something is missing, or an earlier start's files do not fit; nothing was changed.
        FolderInUse: another scheduler works on the folder.
    """

    def __init__(self, settings: Settings, get_dependencies: GetDependencies):
        self.settings = settings
        if settings.continue_skill:
            _check_continuation(settings)
            settings = dataclasses.replace(settings, proposer="curriculum", llm_name=None)  # nobody is asked for skills
        self.launcher = default_launcher()
        check_machine(settings, self.launcher)
        self.paths = ExperimentPaths(settings.graph_path)
        self.began = datetime.now(UTC)
        self.out = console()
        for remark in filter(None, (cache_remark(), cpu_remark(settings.gpu_ids))):
            self.say(f"note: {remark}")
        entry = game(settings.env_name)
        proposer = make_proposer(settings, entry, self.say)
        is_resumed = _has_skills(self.paths) or migration.is_copied(self.paths)
        get_dependencies = asked_once(get_dependencies)
        if not is_resumed:
            self._try_first_skill(entry, get_dependencies)
        settings = self._with_number(settings)
        proposer.prepare(is_resumed)
        self.scheduler = self._open_scheduler(settings)
        self.flow_graph = FlowGraph(self.scheduler, proposer, entry.facts, get_dependencies, make_gate(settings, self.say))
        self.flow_graph.load(self.scheduler.known_skills())
        stored_settings.write(self.paths, self._to_be_stored())
        max_nodes = 0 if settings.continue_skill else settings.max_nodes
        self.generation = Generation(self.scheduler, self.flow_graph, max_nodes, self.say)
        self.scheduler.set_callbacks(
            on_skill_final=self.generation.on_skill_final,
            prepare_training_run=prepare_training_run,
            process_completed_training=partial(process_completed_training, lock_timeout_s=settings.lock_timeout_s),
        )
        self.say(f"{settings.env_name} in {self.paths.root}, {self.scheduler.max_parallel} skills at a time")
        if self.scheduler.max_parallel < settings.max_parallel_skills:
            self.say(
                f"not {settings.max_parallel_skills}: each GPU trains --skills_per_gpu {settings.skills_per_gpu} at a time; "
                "raise it, or let --max_parallel_skills auto measure it"
            )
        if line := number_types.without_effect():
            self.say(line)
        self.say(f"skills come from {proposer.describe()}")
        if settings.candidates > 1 and chosen_proposer(settings) == "curriculum":
            self.say(f"--candidates {settings.candidates} has no effect: the built-in curriculum has one reward for each skill")
        if known := self.scheduler.state["skills"]:
            num_completed = sum(skill["status"] == "completed" for skill in known)
            self.say(f"going on: {num_completed} of {len(known)} skills completed")

    def run(self) -> int:
        """Proposes and trains; returns the exit code."""
        try:
            self.generation.run()
        except KeyboardInterrupt:
            return self._interrupted()
        skills = self.scheduler.state["skills"]
        print_summary(skills, self.paths.root, self.began, datetime.now(UTC), self.out, self.scheduler.attach_line)
        if line := proposer_line(self.scheduler.state["proposer"]):
            self.out.print(line, markup=False, soft_wrap=True)
        if self.generation.proposer_error is not None:
            self.out.print(f"\nThe proposer gave up: {self.generation.proposer_error}", markup=False, soft_wrap=True)
            return SOMETHING_FAILED
        is_longer = all(not skill["error"] for skill in skills if skill["skill_name"] == self.settings.continue_skill)
        return ALL_COMPLETED if is_longer and all(skill["status"] == "completed" for skill in skills) else SOMETHING_FAILED

    def say(self, line: str) -> None:
        """A line for the terminal, with the minutes and seconds since the start. A terminal that is gone is no error."""
        seconds = int((datetime.now(UTC) - self.began).total_seconds())
        with contextlib.suppress(OSError):
            self.out.print(f"{seconds // 60:3d}:{seconds % 60:02d}  {line}", markup=False, soft_wrap=True)

    def _to_be_stored(self) -> Settings:
        """With what ``--proposer auto`` came to: a later start does not ask another one because of a key in its environment."""
        if self.settings.continue_skill:
            return self.settings
        return dataclasses.replace(self.settings, proposer=chosen_proposer(self.settings))

    def _try_first_skill(self, entry: GameEntry, get_dependencies: GetDependencies) -> None:
        """A new experiment's first skill is proposed once beforehand, so that a bad one leaves no new folder behind.

        Only where that costs nothing: a language model is not asked twice.

        Raises:
            BadInput: the skill, or what ``get_skill_dependencies`` says of it, is of no use.
        """
        if chosen_proposer(self.settings) == "curriculum":
            proposer = make_proposer(self.settings, entry, self.say)
            FlowGraph(NothingTrained(), proposer, entry.facts, get_dependencies).next_skill()

    def _with_number(self, settings: Settings) -> Settings:
        """``--max_parallel_skills auto`` becomes a number, before anything is launched that would be in the way.

        Raises:
            FolderInUse: another scheduler works on the folder, and would be.
            FlowrlError: nothing can be trained here.
        """
        if settings.max_parallel_skills != AUTO:
            return settings
        if is_held(self.paths.scheduler_lock):
            hold_scheduler_lock(self.paths).release()  # says who has it
        found = Calibration(settings.env_name, settings.training(), self.say, settings.gpu_ids).arrangement()
        return dataclasses.replace(settings, max_parallel_skills=found.max_parallel, skills_per_gpu=found.skills_per_gpu)

    def _open_scheduler(self, settings: Settings) -> SkillScheduler:
        if taken_over := migration.take_over_copied_checkpoint(self.paths):
            self.say(f"took over {len(taken_over.skills)} skills of a sequential run")
        scheduler = SkillScheduler(settings, base_dir=self.paths.root, launcher=self.launcher)
        scheduler.open()
        if scheduler.remark:
            self.say(scheduler.remark)
        if self.settings.continue_skill:
            scheduler.continue_skill(self.settings.continue_skill, self.settings.extra_timesteps)
        return scheduler

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
                self.say(f"merging {', '.join(merging)} first; Ctrl-C again leaves that to the next start where it has to wait")
            self.generation.join()
            for skill in training:
                if skill["tmux_session"]:  # it may have been about to start, and waits again
                    self.say(f"goes on    {self.scheduler.attach_line(skill)}")
        except KeyboardInterrupt:
            self.say("ending the trainings; what they have learned is kept in their checkpoints")
            self.scheduler.stop(kill=True)
            self.generation.join()
        self.say(f"to go on: {to_go_on(self.paths.root)}")
        return INTERRUPTED

    def _running(self) -> list[dict[str, Any]]:
        return [skill for skill in self.scheduler.state["skills"] if skill["status"] == "running"]


def _check_continuation(settings: Settings) -> None:
    """Raises BadInput, before anything is opened or written."""
    if not _has_skills(ExperimentPaths(settings.graph_path)):
        raise BadInput(
            f"there is no skill {settings.continue_skill} in {settings.graph_path}: it holds no skills; "
            "give the --graph_path of the experiment that has it"
        )


def _has_skills(paths: ExperimentPaths) -> bool:
    """Whether an earlier start left skills. Looks only: whether the files are good is found out by the scheduler."""
    with contextlib.suppress(OSError, BadInput):
        state = read_json(paths.state)
        if isinstance(state, dict) and state.get("skills"):
            return True
    return bool(paths.library())
