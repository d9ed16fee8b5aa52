"""Prepares a run: its folder, its module with local expert indices, and the experts that it starts from.

Everything the training process needs lies in the folder afterwards; a run is reproducible from it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flowrl import pickles
from flowrl.errors import BadInput
from flowrl.files import read_json, write_json, write_whole
from flowrl.parallel.initial_skills import initial_skills
from flowrl.parallel.library.experts import are_same
from flowrl.parallel.task_steps import following, most_steps_in
from flowrl.paths import SKILL_DATA, ExperimentPaths, RunPaths
from flowrl.records import result as run_result
from flowrl.records import run_record
from flowrl.records.run_record import Launch, PlannedTask, RunExpert, RunRecord, Slot
from flowrl.records.training_settings import DEFAULT_ENV_NAME, RunSettings
from flowrl.skills.facts import GameFacts
from flowrl.skills.gate_report import Report, report_for
from flowrl.skills.module import TaskSource, render_module, skill_functions
from flowrl.skills.plan import plan_in_order
from flowrl.skills.spec import check_name

FIXED_SETTINGS = frozenset({"layer_size", "seed", "task_steps"})
"""Settings that a run with checkpoints keeps: its networks have this width, its random state started from this seed, and the
steps for the tasks of its plan are known."""


def build_remapping(dependency_expert_indices: Iterable[int], global_expert_idx: int) -> tuple[dict[int, int], dict[int, int]]:
    """Global expert indices to contiguous local ones, in ascending order, and back.

    Experts 0, 5 and 10 of the library become 0, 1 and 2 in a run, which then holds no networks for the others.
    """
    indices = sorted({*dependency_expert_indices, global_expert_idx})
    return {index: local for local, index in enumerate(indices)}, dict(enumerate(indices))


def prepare_training_run(
    skill_name: str,
    skill_data: Mapping[str, Any],
    global_expert_idx: int,
    dependency_skill_names: Sequence[str],
    completed_skills: Mapping[str, Mapping[str, Any]],
    base_dir: Path,
    settings: Mapping[str, Any] | None = None,
    facts: GameFacts | None = None,
) -> tuple[Path, Path, Path]:
    """Makes ``training_runs/skill_<index>_<Name>`` ready to train in.

    A folder whose run has left checkpoints is kept: the run goes on from the newest, with the current settings (except
    ``FIXED_SETTINGS``).

    Args:
        skill_data: ``task_is_done`` and ``task_reward``; with ``execution_plan``, the ordered tasks; with ``gate``, the
            report that the code has passed. Code without a report counts as written by hand, and is not probed. With
            ``candidates``, other rewards to be tried beside ``task_reward``, and their reports, ``candidate_gates``. With
            ``settings``, training settings of its own, on top of the experiment's.
        dependency_skill_names: all other skills of the plan; each gets a local expert.
        completed_skills: for each dependency its ``expert_idx``, and its two functions unless the library has them.
        settings: training settings; what is not given comes from the skill's own, ``config.json``, then from the flags'
            defaults; in a run that goes on, from its own settings.
        facts: of the game; only ``--init_from auto`` needs them.

    Returns:
        The run's folder, its generated module, its folder of policies.

    Raises:
        BadInput: a dependency is not completed, its expert or its code is missing, the code does not match its report, or
            ``facts`` are missing. Nothing was written.
    """
    paths = ExperimentPaths(base_dir)
    run = RunPaths(paths.run_folder(global_expert_idx, check_name(skill_name)))
    if run.run_json.exists() and run.module.exists() and run.has_checkpoints:
        refresh_settings(run, _merged(paths, skill_data, settings))
    else:
        preparation = _Preparation(paths, skill_name, skill_data, global_expert_idx, completed_skills)
        env_name, run_settings = preparation.settings(settings)
        sources: tuple[str | None, ...] = (None,)
        if not paths.expert_params(global_expert_idx, skill_name).exists():  # else it is trained further
            sources = initial_skills(skill_name, skill_data, run, run_settings, paths, completed_skills, facts)
        prepared = preparation.prepare(dependency_skill_names, run_settings, sources)
        _write(run, paths, prepared, env_name, run_settings, dict(skill_data))
    return run.folder, run.module, run.policies


def write_launch(run_folder: Path, attempt: int, slot: Slot, num_envs: int | None = None) -> None:
    """Records the attempt that is about to start in ``run.json``, moves an older attempt's result aside, and removes
    the record of how that attempt's process ended.

    Args:
        num_envs: number of environments, if an earlier attempt ran out of memory with more; None: as in the settings.
    """
    run = RunPaths(Path(run_folder))
    if run.result.exists():
        older = run_result.find(run.result)
        run.result.rename(run.folder / f"result_{older.attempt if older else 'unknown'}.json")
    run.exit.unlink(missing_ok=True)
    launch = Launch(attempt, run.checkpointed_frames, run.trial.checkpointed_frames)
    run_record.write(run.run_json, run_record.read(run.run_json).for_attempt(launch, slot, num_envs))


@dataclass(frozen=True)
class _Prepared:
    module: str
    plan: tuple[PlannedTask, ...]
    gate: tuple[Report, ...]
    """One for each task of the plan, then one for each other reward on trial."""
    experts: tuple[RunExpert, ...]
    params: dict[str, Any]
    init_from: tuple[str | None, ...]
    """The skills whose experts the new one starts as a copy of, None for a fresh one; several are tried."""
    init_params: tuple[dict | None, ...]
    """Of these, the parameters."""


@dataclass(frozen=True)
class _Code:
    """A skill's two functions, and the report that goes with them, if any."""

    task_is_done: str
    task_reward: str
    gate: Report | None
    max_task_steps: int | None = None
    candidates: tuple[str, ...] = ()
    candidate_gates: tuple[Report, ...] = ()

    def report(self, name: str) -> Report:
        return {"skill_name": name, **report_for(name, self.task_is_done, self.task_reward, self.gate)}

    def candidate_reports(self, name: str) -> list[Report]:
        given = itertools.zip_longest(self.candidates, self.candidate_gates[: len(self.candidates)])
        return [_Code(self.task_is_done, reward, gate).report(name) for reward, gate in given]


@dataclass(frozen=True)
class _Preparation:
    """A run to be prepared, and where to find what it needs."""

    paths: ExperimentPaths
    skill_name: str
    skill_data: Mapping[str, Any]
    global_expert_idx: int
    completed_skills: Mapping[str, Mapping[str, Any]]

    def prepare(
        self, dependency_skill_names: Sequence[str], settings: RunSettings, init_from: Sequence[str | None] = (None,)
    ) -> _Prepared:
        """Reads everything that the run starts from; writes nothing.

        Args:
            settings: of the run.
            init_from: the skills whose experts the new one may start as a copy of, the best first; None: it starts fresh.
        """
        steps = self._steps(dependency_skill_names)
        planned = list(dict.fromkeys(step["skill_name"] for step in steps))
        names = [name for name in dict.fromkeys([*dependency_skill_names, *planned]) if name != self.skill_name]
        indices = {name: self._expert_idx(name) for name in names} | {self.skill_name: self.global_expert_idx}
        to_local, _ = build_remapping([indices[name] for name in names], self.global_expert_idx)
        # A skill whose expert is in the library is trained further: its run starts from that expert too.
        own = self.paths.expert_params(self.global_expert_idx, self.skill_name)
        started = [*names, self.skill_name] if own.exists() else names
        loaded = {name: self._expert(name, indices[name]) for name in started}
        code = {name: self._code(name) for name in planned}
        tasks = [
            TaskSource(name, step["n"], to_local[indices[name]], code[name].task_is_done, code[name].task_reward)
            for step in steps
            for name in [step["skill_name"]]
        ]
        limits = {name: self._limit(name, indices[name], code[name].max_task_steps, settings) for name in planned}
        experts = [self._record(name, index, to_local[index], loaded) for name, index in indices.items()]
        params = {str(to_local[indices[name]]): data["params"] for name, data in loaded.items()}
        starts = self._starts(init_from)
        (_, first), *others = starts
        if first is not None:
            params[str(to_local[self.global_expert_idx])] = first
        mine = code[self.skill_name]
        if others:  # each has the same reward, and is tried as if it were another one
            mine = replace(mine, candidates=(mine.task_reward,) * len(others), candidate_gates=(mine.gate,) * len(others))
        return _Prepared(
            module=render_module(self.skill_name, self.global_expert_idx, to_local, tasks, mine.candidates),
            plan=tuple(self._planned(task, indices, limits[task.skill_name]) for task in tasks),
            gate=(*(code[task.skill_name].report(task.skill_name) for task in tasks), *mine.candidate_reports(self.skill_name)),
            experts=tuple(sorted(experts, key=lambda expert: expert.local_expert_idx)),
            params=params,
            init_from=tuple(name for name, _ in starts),
            init_params=tuple(start for _, start in starts),
        )

    def _starts(self, names: Sequence[str | None]) -> list[tuple[str | None, dict | None]]:
        """The skills' experts; one that is the same as an earlier one, such as an untrained copy of it, is left out."""
        found: list[tuple[str | None, dict | None]] = []
        for name in names:
            start = None if name is None else self._expert(name, self._expert_idx(name))["params"]
            if not any(_is_one(start, earlier) for _, earlier in found):
                found.append((name, start))
        return found

    def settings(self, given: Mapping[str, Any] | None) -> tuple[str, RunSettings]:
        """The game, and the run's settings: those given, then the skill's own, then the experiment's, then the defaults."""
        merged = _merged(self.paths, self.skill_data, given)
        return merged.get("env_name", DEFAULT_ENV_NAME), RunSettings.of(merged)

    def _steps(self, dependency_skill_names: Sequence[str]) -> list[dict]:
        plan = self.skill_data.get("execution_plan") or plan_in_order(dependency_skill_names, self.skill_name)
        steps = [{"skill_name": step["skill_name"], "n": int(step.get("n", 1))} for step in plan]
        ends_with_skill = steps[-1]["skill_name"] == self.skill_name
        return steps if ends_with_skill else [*steps, {"skill_name": self.skill_name, "n": 1}]

    def _expert_idx(self, name: str) -> int:
        index = (self.completed_skills.get(name) or {}).get("expert_idx")
        if index is None:
            raise BadInput(
                f"{self.skill_name} needs {name}, which is not a completed skill; "
                f"train {name} first, or remove it from the dependencies of {self.skill_name}"
            )
        return int(index)

    def _expert(self, name: str, index: int) -> dict:
        path = self.paths.expert_params(index, name)
        try:
            data = pickles.load(path)
        except FileNotFoundError:
            raise BadInput(
                f"{self.skill_name} needs expert {index} of {name}, but {path} is missing; "
                f"restore it from a copy, or train {name} again"
            ) from None
        if not isinstance(data, dict) or not isinstance(data.get("params"), dict):
            raise BadInput(f"{path} holds no expert of {name}: expected a dict with 'params'; restore it from a copy")
        return data

    def _code(self, name: str) -> _Code:
        is_own = name == self.skill_name
        data = self.skill_data if is_own else self.completed_skills[name]
        for source in (data, data.get("skill_data") or {}):
            if source.get("task_is_done") and source.get("task_reward"):
                on_trial = [tuple(source.get(key) or ()) for key in ("candidates", "candidate_gates")] if is_own else []
                slow = source.get("max_task_steps")
                return _Code(source["task_is_done"], source["task_reward"], source.get("gate"), slow, *on_trial)
        if is_own and not self.paths.skill_module(self.global_expert_idx, name).exists():
            raise BadInput(f"{name} has no task_is_done and task_reward in its skill_data; give both as source code")
        module = self.paths.skill_module(self.global_expert_idx if is_own else self._expert_idx(name), name)
        try:
            archived = _archived(module.parent / SKILL_DATA)
            return _Code(*skill_functions(module.read_text()), archived.get("gate"), archived.get("max_task_steps"))
        except FileNotFoundError:
            raise BadInput(
                f"{self.skill_name} needs the code of {name}, but {module} is missing; restore it from a copy, "
                f"or give task_is_done and task_reward of {name} in completed_skills"
            ) from None

    def _record(self, name: str, index: int, local: int, loaded: Mapping[str, dict]) -> RunExpert:
        metadata = loaded[name].get("metadata", {}) if name in loaded else {}
        frames = int(metadata.get("total_frames", 0)), int(metadata.get("acted_frames", 0))
        return RunExpert(name, index, local, *frames)

    def _limit(self, name: str, index: int, own: int | None, settings: RunSettings) -> int | None:
        """Steps that a task of the skill may take; None: as the settings say."""
        if settings.task_steps == "fixed":
            return own
        most_steps = most_steps_in(_archived(self.paths.skill_folder(index, name) / SKILL_DATA))
        return own if most_steps is None else following(most_steps, own or settings.max_task_steps)

    def _planned(self, task: TaskSource, indices: Mapping[str, int], max_task_steps: int | None) -> PlannedTask:
        return PlannedTask(task.skill_name, task.n, indices[task.skill_name], task.local_expert_idx, max_task_steps)


def _merged(paths: ExperimentPaths, skill_data: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**stored_settings(paths), **(skill_data.get("settings") or {}), **(given or {})}


def stored_settings(paths: ExperimentPaths) -> dict[str, Any]:
    """The experiment's settings; none before they are stored."""
    try:
        stored = read_json(paths.config)
    except FileNotFoundError:
        return {}
    if not isinstance(stored, dict):
        raise BadInput(f"{paths.config} holds no settings: expected a JSON object; restore it from a copy")
    return stored


def refresh_settings(run: RunPaths, settings: Mapping[str, Any]) -> None:
    """Gives a run that goes on the settings of today, except ``FIXED_SETTINGS``."""
    record = run_record.read(run.run_json)
    fresh = {name: settings[name] for name in RunSettings.names() if name in settings and name not in FIXED_SETTINGS}
    run_record.write(run.run_json, replace(record, settings=replace(record.settings, **fresh)))


def _is_one(start: dict | None, other: dict | None) -> bool:
    """Whether two initial experts are the same; None is a fresh one."""
    return start is other if start is None or other is None else are_same(start, other)


def _archived(path: Path) -> Mapping[str, Any]:
    """What the library keeps of a skill's data; a migrated skill, or one that is not completed, may have none."""
    with contextlib.suppress(FileNotFoundError):
        data = read_json(path)
        return data if isinstance(data, dict) else {}
    return {}


def _write(
    run: RunPaths,
    experiment: ExperimentPaths,
    prepared: _Prepared,
    env_name: str,
    settings: RunSettings,
    skill_data: dict[str, Any],
) -> None:
    """``run.json`` comes last: a folder that has it is complete."""
    run.policies.mkdir(parents=True, exist_ok=True)
    run.candidates.unlink(missing_ok=True)  # of a trial whose checkpoints are gone
    write_json(run.folder / SKILL_DATA, {"skill_name": run.skill_name} | skill_data)
    write_whole(run.module, prepared.module)
    metadata = {"skill_name": run.skill_name, "experts": [asdict(expert) for expert in prepared.experts]}
    content = {"experts": prepared.params, "metadata": metadata}
    on_trial = len(prepared.init_from) > 1
    pickles.dump(run.initial, content | ({"init_tried": prepared.init_params} if on_trial else {}))
    record = RunRecord(
        version=run_record.VERSION,
        skill_name=run.skill_name,
        global_expert_idx=run.expert_idx,
        attempt=0,
        env_name=env_name,
        settings=settings,
        experiment=str(experiment.root.resolve()),
        plan=prepared.plan,
        gate=prepared.gate,
        experts=prepared.experts,
        never_done=bool(skill_data.get("never_done")),
        init_from=prepared.init_from[0],
        init_tried=prepared.init_from if on_trial else (),
    )
    run_record.write(run.run_json, record)
