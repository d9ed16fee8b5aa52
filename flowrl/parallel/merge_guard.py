"""Measures two versions of an expert before one of them is given up: ``--merge_guard``, ``--guard_changes``.

Two trainings that ran side by side may both have trained an expert that they share. The rule by frames would keep the version
that was trained longer, even if it has become worse; and it may become worse in a training that had it for itself. So both
versions are played on the plan of the expert's skill, in the same fresh worlds, by a process of its own: this one never loads
JAX, and goes on serving the scheduler meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowrl.errors import FlowrlError
from flowrl.files import append_line, why_no_room
from flowrl.parallel import environment
from flowrl.parallel.library.experts import ExpertVersion, write_expert
from flowrl.parallel.library.locks import WaitGivenUp, raise_if_given_up
from flowrl.parallel.library.merge_rule import Outcome
from flowrl.paths import SKILL_DATA, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record, version_comparison
from flowrl.records.run_record import Slot
from flowrl.records.version_comparison import Answer, MeasuringPaths, Pair, Request

COMMAND = (sys.executable, "-m", "flowrl.evaluation.compare_versions")
TIMEOUT_S = 600.0
"""Seconds that one measurement may take, compiling included."""
_LOOK_S = 0.05
_LONGEST_REASON = 300


class _NotMeasured(FlowrlError):
    """The measurement did not come to an end; says why."""


@dataclass(frozen=True)
class MergeGuard:
    """Measures versions of a merge; see `flowrl.parallel.training_processor.Guard`.

    A measurement that fails, takes too long or runs out of memory leaves the decision to the rule by frames, and says so in
    the run's log.

    Attributes:
        command: plays; the folder of the measurement is appended.
    """

    command: Sequence[str] = COMMAND
    timeout_s: float = TIMEOUT_S
    episodes: int = version_comparison.EPISODES

    def __call__(
        self, paths: ExperimentPaths, run: RunPaths, competing: Mapping[Pair, ExpertVersion]
    ) -> Callable[[], dict[int, Outcome]]:
        """Copies what is to be played; hold the merge lock. What it returns plays, without the lock.

        Raises (both):
            OSError: the disk has no room.
            WaitGivenUp: the scheduler ends.
        """
        measuring, skills, failed = MeasuringPaths(run.measuring), {}, {}
        for pair in competing:
            try:
                skills |= _skills_of_plan(paths, pair)
            except FlowrlError as error:
                failed |= _not_measured(run, [pair], str(error))
        pairs = [pair for pair in competing if pair.global_expert_idx not in failed]
        try:
            self._prepare(paths, run, measuring, skills, {pair: competing[pair] for pair in pairs})
        except (FlowrlError, OSError) as error:
            if why_no_room(error):
                raise
            failed |= _not_measured(run, pairs, str(error))
            return lambda: failed
        return lambda: failed | (self._measured(run, measuring, pairs) if pairs else {})

    def _prepare(
        self,
        paths: ExperimentPaths,
        run: RunPaths,
        measuring: MeasuringPaths,
        skills: Mapping[int, str],
        competing: Mapping[Pair, ExpertVersion],
    ) -> None:
        shutil.rmtree(measuring.folder, ignore_errors=True)
        for index, name in skills.items():
            link_skill(paths, measuring.library, index, name)
        for pair, version in competing.items():
            write_expert(measuring.version(pair.global_expert_idx), version)
        record = run_record.read(run.run_json)
        # On the CPU, even if the run had a GPU: the next run may have all of its share of that GPU's memory by now.
        slot = Slot(record.slot.cores)
        version_comparison.write(measuring.request, Request(record.env_name, slot, tuple(competing), self.episodes))

    def _measured(self, run: RunPaths, measuring: MeasuringPaths, pairs: Sequence[Pair]) -> dict[int, Outcome]:
        try:
            self._play(measuring)
            measured = version_comparison.by_expert(version_comparison.read_answer(measuring.answer).comparisons)
        except WaitGivenUp:
            raise
        except (FlowrlError, OSError) as error:
            if why_no_room(error):
                raise
            return _not_measured(run, pairs, str(error))
        finally:
            shutil.rmtree(measuring.folder, ignore_errors=True)
        version_comparison.write(run.measured, Answer(tuple((version_comparison.find(run.measured) | measured).values())))
        return dict(measured)

    def _play(self, measuring: MeasuringPaths) -> None:
        """Runs the process to its end. It ends with its standard input, so with us, however we end."""
        deadline = time.monotonic() + self.timeout_s
        variables = {**environment.for_training(), **environment.to_start(), "JAX_PLATFORMS": "cpu"}
        with open(measuring.log, "wb") as log:
            process = subprocess.Popen(
                [*self.command, str(measuring.folder.resolve())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,  # a Ctrl-C in the scheduler's terminal is the scheduler's to handle
            )
        with process, _ended(process):
            while process.poll() is None:
                raise_if_given_up()
                if time.monotonic() > deadline:
                    raise _NotMeasured(f"it took more than {self.timeout_s:g} s")
                time.sleep(_LOOK_S)
        if process.returncode:
            raise _NotMeasured(_why(process.returncode, measuring.log))


@contextlib.contextmanager
def _ended(process: subprocess.Popen):
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _why(code: int, log: Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"{name} ended the process that plays" + (", perhaps for lack of memory" if -code == signal.SIGKILL else "")
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return (lines[-1].strip() if lines else f"the process that plays ended with exit code {code}")[:_LONGEST_REASON]


def _not_measured(run: RunPaths, pairs: Sequence[Pair], why: str) -> dict[int, Outcome]:
    why = " ".join(why.split())
    names = ", ".join(pair.skill_name for pair in pairs)
    append_line(run.log, f"merge: {names} was not compared with the library's version ({why}); the number of frames decides")
    return {pair.global_expert_idx: why for pair in pairs}


def _skills_of_plan(paths: ExperimentPaths, pair: Pair) -> dict[int, str]:
    """The skills that take part in the plan of the pair's skill, and in their own plans; by global expert index.

    Raises:
        BadInput: a record of one is missing, or the skill is never done.
    """
    found, left = {}, {pair.global_expert_idx: pair.skill_name}
    while left:
        index, name = left.popitem()
        record = _record(paths, index, name)
        if record.never_done:
            raise _NotMeasured(f"{name} is never done, so it has no success rate")
        found[index] = name
        left |= {task.global_expert_idx: task.skill_name for task in record.plan if task.global_expert_idx not in found}
    return found


def _record(paths: ExperimentPaths, index: int, name: str) -> run_record.RunRecord:
    folder = paths.skill_folder(index, name)
    try:
        return run_record.read(folder / run_record.NAME)
    except FileNotFoundError:
        raise run_record.missing_in_library(folder / run_record.NAME, folder) from None


def link_skill(paths: ExperimentPaths, to: ExperimentPaths, index: int, name: str) -> None:
    """Hard-links what is played of a skill; merges replace these files, and never change them. Copies where links fail."""
    source, target = paths.skill_folder(index, name), to.skill_folder(index, name)
    needed = (paths.expert_params(index, name), paths.skill_module(index, name))
    for path in (*needed, *(source / file for file in (SKILL_DATA, run_record.NAME, run_result.NAME))):
        if path.exists():
            linked = target / path.relative_to(source)
            linked.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, linked)
            except OSError:
                shutil.copyfile(path, linked)
