"""From a sequential run to a library: ``python -m flowrl.migrate SRC GRAPH_PATH``.

The whole checkpoint is read and checked before anything is written; a migration that was killed can be repeated.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flowrl import pickles
from flowrl.config import MigrationArguments, Settings, parse
from flowrl.errors import BadInput, FlowrlError
from flowrl.experiment import stored_settings
from flowrl.experiment.flow_graph import plan_dependencies
from flowrl.experiment.preflight import check_folder
from flowrl.experiment.sequential_checkpoint import SequentialRun, SequentialSkill, read_checkpoint
from flowrl.files import write_json, write_whole
from flowrl.parallel.library.experts import ExpertVersion, save_expert_to_skills, write_global_latest
from flowrl.parallel.library.locks import hold_scheduler_lock
from flowrl.parallel.training_setup import build_remapping
from flowrl.paths import SKILL_DATA, ExperimentPaths, given_path
from flowrl.records import state_file
from flowrl.records.scheduler_state import SchedulerState, SkillEntry, Status
from flowrl.report.invocation import to_go_on
from flowrl.skills.module import TaskSource, render_module

KEPT_CHECKPOINT = "sequential.pkl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(MigrationArguments, sys.argv[1:] if arguments is None else arguments, "python -m flowrl.migrate")
        run = migrate(given.src, given.graph_path)
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    print(f"Migrated {len(run.skills)} skills of {run.game.env_name} to {given.graph_path}. To continue:")
    print(f"  {to_go_on(given.graph_path)}")
    return 0


def migrate(source: Path, graph_path: Path) -> SequentialRun:
    """Splits a sequential run's checkpoint into the library of a new experiment.

    Raises:
        BadInput: a path is empty, the checkpoint does not have the documented format, or the folder already holds an
            experiment. Nothing was changed.
        FolderInUse: a scheduler, or another migration, is working on the folder.
    """
    paths = ExperimentPaths(given_path(graph_path, "GRAPH_PATH"))
    run = read_checkpoint(given_path(source, "SRC"))
    check_folder(paths.root)
    _check_target(paths, run)
    with _held(paths):
        _check_target(paths, run)
        _write(paths, run)
    return run


def is_copied(paths: ExperimentPaths) -> bool:
    """Whether there is a sequential checkpoint at ``checkpoints/global_latest.pkl`` that is still to be migrated.

    Raises:
        BadInput: the file there cannot be read.
    """
    if paths.state.exists() or paths.previous_state.exists() or not paths.global_latest.is_file():
        return False
    content = pickles.load(paths.global_latest)
    return isinstance(content, dict) and "expert_params" in content


def find_stored(paths: ExperimentPaths) -> stored_settings.StoredExperiment | None:
    """An experiment's stored settings or, before its first start, those that a copied checkpoint fits. Writes nothing.

    Raises:
        BadInput: config.json or the copied checkpoint cannot be used.
    """
    stored = stored_settings.read(paths)
    if stored is not None or not is_copied(paths):
        return stored
    run = read_checkpoint(paths.global_latest)
    return stored_settings.StoredExperiment(_settings(paths, run), run.game.observation_size)


def take_over_copied_checkpoint(paths: ExperimentPaths) -> SequentialRun | None:
    """Migrates a sequential checkpoint that the user has copied to ``checkpoints/global_latest.pkl``.

    The file is kept beside it as ``sequential.pkl``. Does nothing if the experiment has a state, or no such file.

    Raises:
        BadInput: the file does not have the documented format, or the folder holds something else.
        FolderInUse: a scheduler, or another migration, is working on the folder.
    """
    if not is_copied(paths):
        return None
    with _held(paths):
        if not is_copied(paths):  # another start was faster
            return None
        run = read_checkpoint(paths.global_latest)
        _check_target(paths, run)
        write_whole(paths.checkpoints / KEPT_CHECKPOINT, paths.global_latest.read_bytes())
        _write(paths, run)
    return run


@contextlib.contextmanager
def _held(paths: ExperimentPaths) -> Iterator[None]:
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = hold_scheduler_lock(paths)
    try:
        yield
    finally:
        lock.release()


def _write(paths: ExperimentPaths, run: SequentialRun) -> None:
    for skill in run.skills:
        _write_skill(paths, run, skill)
    stored_settings.write(paths, _settings(paths, run))
    state_file.save(paths, _state(run))
    write_global_latest(paths)


def _check_target(paths: ExperimentPaths, run: SequentialRun) -> None:
    if paths.state.exists() or paths.previous_state.exists():
        raise BadInput(f"{paths.root} already holds an experiment ({paths.state.name}); choose another GRAPH_PATH")
    names = {skill.expert_idx: skill.spec.name for skill in run.skills}
    for index, name in paths.library().items():
        if names.get(index) != name:
            raise BadInput(f"{paths.skill_folder(index, name)} exists already; choose another GRAPH_PATH, or move it away")
    _settings(paths, run)


def _settings(paths: ExperimentPaths, run: SequentialRun) -> Settings:
    """The experiment's stored settings, if the user has written some. They must fit the checkpoint."""
    stored = stored_settings.read(paths)
    if stored is None:
        return Settings(graph_path=paths.root, env_name=run.game.env_name, layer_size=run.layer_size)
    for name, found in (("env_name", run.game.env_name), ("layer_size", run.layer_size)):
        if getattr(stored.settings, name) != found:
            raise BadInput(
                f"{paths.config} has {name} {getattr(stored.settings, name)}, and the checkpoint has {found}; "
                "choose another GRAPH_PATH"
            )
    return stored.settings


def _write_skill(paths: ExperimentPaths, run: SequentialRun, skill: SequentialSkill) -> None:
    name, index = skill.spec.name, skill.expert_idx
    write_whole(paths.skill_module(index, name), _module(run, skill))
    write_json(paths.skill_folder(index, name) / SKILL_DATA, skill.data)
    save_expert_to_skills(ExpertVersion(name, index, skill.params, skill.total_frames, skill.total_frames), paths.root)


def _module(run: SequentialRun, skill: SequentialSkill) -> str:
    skills = {other.spec.name: other for other in run.skills}
    plan = skill.data["execution_plan"]
    to_local, _ = build_remapping([skills[step["skill_name"]].expert_idx for step in plan], skill.expert_idx)
    tasks = []
    for step in plan:
        other = skills[step["skill_name"]]
        tasks.append(
            TaskSource(
                other.spec.name,
                int(step.get("n", 1)),
                to_local[other.expert_idx],
                other.spec.task_is_done,
                other.spec.task_reward,
            )
        )
    return render_module(skill.spec.name, skill.expert_idx, to_local, tasks)


def _state(run: SequentialRun) -> SchedulerState:
    now = datetime.now(UTC)
    entries = [
        SkillEntry(
            skill_name=skill.spec.name,
            status=Status.COMPLETED,
            dependencies=plan_dependencies(skill.spec.name, skill.data),
            expert_idx=skill.expert_idx,
            completed_at=now,
            frames=skill.total_frames,
            success_rate=skill.success_rate,
        )
        for skill in run.skills
    ]
    return SchedulerState(skills=entries, next_expert_idx=max(skill.expert_idx for skill in run.skills) + 1)
