"""From a sequential run to a library: ``python -m flowrl.migrate SRC GRAPH_PATH``.

The checkpoint's form is told in docs/migration.md. All of it is read and checked before anything is written; a
migration that was killed can be done again.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from flowrl import pickles
from flowrl.config import MigrationArguments, Settings, parse
from flowrl.envs.registry import GAMES, GameEntry
from flowrl.errors import BadInput, FlowrlError
from flowrl.experiment import stored_settings
from flowrl.experiment.flow_graph import plan_dependencies
from flowrl.experiment.preflight import check_folder
from flowrl.files import write_json, write_whole
from flowrl.parallel.library.experts import ExpertVersion, save_expert_to_skills, write_global_latest
from flowrl.parallel.library.locks import hold_scheduler_lock
from flowrl.parallel.state import SchedulerState, SkillEntry, StateStore, Status
from flowrl.parallel.training_setup import SKILL_DATA, build_remapping
from flowrl.paths import ExperimentPaths, given_path
from flowrl.report.invocation import to_go_on
from flowrl.skills.checks import check_skill_code
from flowrl.skills.facts import check_resources
from flowrl.skills.module import TaskSource, render_module
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec

KEPT_CHECKPOINT = "sequential.pkl"
_TOP = {"expert_params", "skills"}
_OF_A_SKILL = {"skill_name", "expert_idx", "total_frames", "success_rate", "execution_plan", *SkillSpec.model_fields} - {"name"}
_EXPERT = re.compile(r"expert_(\d+)")


@dataclass(frozen=True)
class SequentialSkill:
    """One skill of a sequential run, checked."""

    spec: SkillSpec
    data: dict[str, Any]
    expert_idx: int
    params: Mapping[str, Any]
    total_frames: int
    success_rate: float | None


@dataclass(frozen=True)
class SequentialRun:
    """All of a checkpoint, checked."""

    game: GameEntry
    layer_size: int
    skills: list[SequentialSkill]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    try:
        given = parse(MigrationArguments, sys.argv[1:] if arguments is None else arguments, "python -m flowrl.migrate")
        run = migrate(given.src, given.graph_path)
    except FlowrlError as error:
        print(f"flowrl: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{len(run.skills)} skills of {run.game.env_name} are in {given.graph_path} now. To go on:")
    print(f"  {to_go_on(given.graph_path)}")
    return 0


def migrate(source: Path, graph_path: Path) -> SequentialRun:
    """Splits a sequential run's checkpoint into the library of a new experiment.

    Raises:
        BadInput: a path is empty, the checkpoint is not of the documented form, or the folder holds an experiment already.
            Nothing was changed.
        FolderInUse: a scheduler, or another migration, works on the folder.
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
    """Whether a sequential checkpoint lies at ``checkpoints/global_latest.pkl`` and waits to be taken over.

    Raises:
        BadInput: what lies there cannot be read.
    """
    if paths.state.exists() or paths.previous_state.exists() or not paths.global_latest.is_file():
        return False
    content = pickles.load(paths.global_latest)
    return isinstance(content, dict) and "expert_params" in content


def find_stored(paths: ExperimentPaths) -> stored_settings.StoredExperiment | None:
    """What an experiment has stored; before its first start, what a copied checkpoint was made for. Writes nothing.

    Raises:
        BadInput: config.json or the copied checkpoint cannot be used.
    """
    stored = stored_settings.read(paths)
    if stored is not None or not is_copied(paths):
        return stored
    run = read_checkpoint(paths.global_latest)
    return stored_settings.StoredExperiment(_settings(paths, run), run.game.observation_size)


def take_over_copied_checkpoint(paths: ExperimentPaths) -> SequentialRun | None:
    """Migrates a sequential checkpoint that a person has copied to ``checkpoints/global_latest.pkl``.

    The copy is kept beside it, as ``sequential.pkl``. Does nothing where the experiment has a state, or no such file.

    Raises:
        BadInput: there is such a file, and it is not of the documented form, or the folder holds something else.
        FolderInUse: a scheduler, or another migration, works on the folder.
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
    StateStore(paths).save(_state(run))
    write_global_latest(paths)


def read_checkpoint(source: Path) -> SequentialRun:
    """Reads and checks a sequential run's checkpoint; writes nothing.

    Raises:
        BadInput: it is missing, holds more than arrays and plain containers, or is not of the documented form.
    """
    content = _load(source)
    experts = _experts(content["expert_params"], source)
    entry, layer_size = _sizes(experts, source)
    skills = [_skill(name, data, experts, source) for name, data in content["skills"].items()]
    owners = [skill.expert_idx for skill in skills]
    if sorted(owners) != sorted(experts):
        raise _refused(source, f"each expert needs one skill: there are experts {sorted(experts)} and skills of {sorted(owners)}")
    ordered = sorted(skills, key=lambda skill: skill.expert_idx)
    return SequentialRun(entry, layer_size, [_planned(skill, ordered, entry) for skill in ordered])


def _load(source: Path) -> dict[str, Any]:
    try:
        content = pickles.load(source)
    except FileNotFoundError:
        raise BadInput(f"{source} does not exist; give the path of the sequential run's checkpoint") from None
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}") from None
    except pickles.ForeignPickle as error:
        raise BadInput(
            f"{source} is damaged or holds more than numpy arrays and plain containers ({error.__cause__}); where it was "
            "written, save it again with jax.tree.map(numpy.asarray, ...) and pickle protocol 4"
        ) from error
    if not isinstance(content, dict) or set(content) != _TOP:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise _refused(source, f"expected a dict with expert_params and skills, found {found}")
    if not all(isinstance(content[key], dict) and content[key] for key in _TOP):
        raise _refused(source, "expert_params and skills have to be dicts that are not empty")
    return content


def _experts(params: Mapping[str, Any], source: Path) -> dict[int, Mapping[str, Any]]:
    experts = {}
    for key, tree in params.items():
        if not (isinstance(key, str) and (match := _EXPERT.fullmatch(key))):
            raise _refused(source, f"expert_params has {key!r}, expected expert_0, expert_1, ...")
        experts[int(match[1])] = tree
    return experts


def _sizes(experts: Mapping[int, Mapping[str, Any]], source: Path) -> tuple[GameEntry, int]:
    """The game and the width that the arrays were made for; all experts have to agree."""
    shapes = {index: _shapes(tree) for index, tree in experts.items()}
    first = min(shapes)
    observation_size, layer_size = shapes[first].get("actor/torso/Dense_0/kernel", (0, 0))
    entry = next((entry for entry in GAMES.values() if entry.observation_size == observation_size), None)
    if entry is None:
        known = ", ".join(f"{name} ({entry.observation_size})" for name, entry in GAMES.items())
        raise _refused(
            source,
            f"expert_{first} has no array actor/torso/Dense_0/kernel with the observation of a known game "
            f"in front: {known}; found {observation_size}",
        )
    expected = expert_shapes(observation_size, layer_size, entry.num_actions)
    for index, found in shapes.items():
        if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
            raise _refused(
                source,
                f"expert_{index}: {wrong[0]} has shape {found.get(wrong[0], 'none')}, expected {expected.get(wrong[0], 'none')}: "
                f"{entry.env_name} has {entry.num_actions} actions, and all experts are of one width",
            )
    return entry, layer_size


def expert_shapes(observation_size: int, layer_size: int, num_actions: int) -> dict[str, tuple[int, ...]]:
    """The arrays of one expert, by path, as training makes them."""
    shapes = {}
    for network, outputs in (("actor", num_actions), ("critic", 1)):
        for layer, inputs, width in (
            ("torso/Dense_0", observation_size, layer_size),
            ("torso/Dense_1", layer_size, layer_size),
            ("head", layer_size, outputs),
        ):
            shapes[f"{network}/{layer}/kernel"] = (inputs, width)
            shapes[f"{network}/{layer}/bias"] = (width,)
    return shapes


def _shapes(tree: Any, prefix: str = "") -> dict[str, tuple[int, ...]]:
    if isinstance(tree, dict):
        return {name: shape for key, value in tree.items() for name, shape in _shapes(value, f"{prefix}{key}/").items()}
    return {prefix.rstrip("/"): np.shape(tree)}


def _skill(name: str, data: Any, experts: Mapping[int, Mapping[str, Any]], source: Path) -> SequentialSkill:
    if not isinstance(data, dict) or data.get("skill_name", name) != name:
        raise _refused(source, f"skill {name!r} has to be a dict, with its own name as skill_name or none")
    if unknown := sorted(set(data) - _OF_A_SKILL):
        raise _refused(source, f"skill {name} has {unknown[0]!r}, which is not known; known are {', '.join(sorted(_OF_A_SKILL))}")
    index, frames, rate = data.get("expert_idx"), data.get("total_frames", 0), data.get("success_rate")
    if not isinstance(index, int) or not isinstance(frames, int) or frames < 0:
        raise _refused(source, f"skill {name} needs a whole number as expert_idx, and 0 or more as total_frames")
    if index not in experts:
        raise _refused(source, f"skill {name} has expert_idx {index}, and there is no expert_{index}")
    is_rate = isinstance(rate, Real) and not isinstance(rate, bool) and 0 <= rate <= 1
    if rate is not None and not is_rate:
        raise _refused(source, f"skill {name} has success_rate {rate!r}, expected a number from 0 to 1, or none")
    spec = SkillSpec.from_data({**data, "skill_name": name})
    plan = {"execution_plan": data["execution_plan"]} if data.get("execution_plan") else {}
    return SequentialSkill(spec, spec.to_data() | plan, index, experts[index], frames, None if rate is None else float(rate))


def _planned(skill: SequentialSkill, skills: Sequence[SequentialSkill], entry: GameEntry) -> SequentialSkill:
    """The skill with an execution plan: the checkpoint's, or one found as for any new skill."""
    check_resources(skill.spec, entry.facts)
    check_skill_code(skill.spec, entry.facts)
    specs = {other.spec.name: other.spec for other in skills}
    plan = skill.data.get("execution_plan") or build_plan(skill.spec, specs, entry.facts)
    for step in plan:
        if step.get("skill_name") not in specs or not isinstance(step.get("n", 1), int) or step.get("n", 1) < 1:
            raise BadInput(
                f"the execution plan of {skill.spec.name} has {step!r}; expected a skill_name of the checkpoint and "
                "n, a whole number from 1 on"
            )
    return SequentialSkill(**{**vars(skill), "data": {**skill.data, "execution_plan": plan}})


def _check_target(paths: ExperimentPaths, run: SequentialRun) -> None:
    if paths.state.exists() or paths.previous_state.exists():
        raise BadInput(f"{paths.root} holds an experiment already ({paths.state.name}); choose another GRAPH_PATH")
    names = {skill.expert_idx: skill.spec.name for skill in run.skills}
    for index, name in paths.library().items():
        if names.get(index) != name:
            raise BadInput(f"{paths.skill_folder(index, name)} is in the way; choose another GRAPH_PATH, or move it away")
    _settings(paths, run)


def _settings(paths: ExperimentPaths, run: SequentialRun) -> Settings:
    """The experiment's stored settings, if a person has written some; they have to fit the checkpoint."""
    stored = stored_settings.read(paths)
    if stored is None:
        return Settings(graph_path=paths.root, env_name=run.game.env_name, layer_size=run.layer_size)
    for name, found in (("env_name", run.game.env_name), ("layer_size", run.layer_size)):
        if getattr(stored.settings, name) != found:
            raise BadInput(
                f"{paths.config} says {name} {getattr(stored.settings, name)}, and the checkpoint has {found}; "
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
            TaskSource(other.spec.name, int(step.get("n", 1)), to_local[other.expert_idx], other.spec.task_is_done, other.spec.task_reward)
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


def _refused(source: Path, why: str) -> BadInput:
    return BadInput(f"{source} is not a sequential run's checkpoint of the form in docs/migration.md: {why}")
