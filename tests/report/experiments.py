"""Experiments as they lie on disk, without any training."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flowrl.files import append_line, write_json
from flowrl.paths import ExperimentPaths
from flowrl.records import state_file
from flowrl.records.history import History
from flowrl.records.scheduler_state import RehearsalEntry, SchedulerState, SkillEntry, Stage, Status

BEGAN = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
DONE = "def task_is_done(inventory, n):\n    return inventory.wood >= n\n"
LONG_DONE = f'''def task_is_done(inventory, n):
    """Whether there is wood: {"a line that is longer than the window, " * 6}."""
    return inventory.wood >= n and str(n) != "x"  # all of it
'''
CODE = "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood\n"


def minutes(number: float) -> datetime:
    return BEGAN + timedelta(minutes=number)


def tried(update: int, updates: int) -> dict:
    """What an expert does that comes to know which action succeeds, and has had a success by then."""
    share, known = round(0.05 + 0.5 * update / updates, 5), update > updates // 2
    return {"kinds": {"move": round(0.9 - share, 5), "use": share, "make": 0.1}, "entropies": {"move": 1.2, "make": 0.4},
            "decisive": "DO" if known else None, "decisive_share": share if known else None}  # fmt: skip


def metrics(path: Path, updates: int, **fields) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for update in range(1, updates + 1):
        rate = round(update / updates, 3)
        line = {"frames": update * 1000, "total_frames": 1_000_000, "frames_per_s": 4000.0, "estimate": rate,
                "entropy": 2 - rate, "success_rate": rate if update > 3 else None, "test_success_rate": None,
                "attempt": 1, "tried": tried(update, updates)} | fields  # fmt: skip
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")


def in_library(paths: ExperimentPaths, index: int, name: str, updates: int = 40, done: str = DONE) -> SkillEntry:
    folder = paths.skill_folder(index, name)
    metrics(folder / "metrics.jsonl", updates)
    append_line(folder / "training.log", "the newest line of its log")
    write_json(folder / "skill.json", {
        "skill_name": name, "description": "Hold n pieces of wood.", "requires": {}, "consumes": {},
        "gains": {"wood": {"per": 1, "fixed": 0}},
        "task_is_done": done,
        "task_reward": CODE, "gate": {"passed": True, "probe": "built-in"}, "execution_plan": [{"skill_name": name, "n": 1}],
        "observed": {"n": 1, "successes": 5, "failures": 0, "differences": [{"kind": "gain_not_declared", "resource": "stone",
                                                                                "text": f"{name}: declares no gain of stone"}]},
    })  # fmt: skip
    expert = {"skill_name": name, "global_expert_idx": index, "local_expert_idx": 0}
    task = {"skill_name": name, "n": 1, "global_expert_idx": index, "local_expert_idx": 0}
    write_json(folder / "run.json", {"settings": {"success_rate": 0.8}, "experts": [expert], "plan": [task]})
    write_json(folder / "result.json", {"outcome": "completed", "frames": updates * 1000, "frames_per_s": 4000.0})
    return SkillEntry(skill_name=name, status=Status.COMPLETED, expert_idx=index, attempt=1, frames=updates * 1000, minutes=2.0,
                      success_rate=0.9, random_success_rate=0.1, goal_reached=True, started_at=minutes(2 * index),
                      completed_at=minutes(2 * index + 2))  # fmt: skip


def a_finished_experiment(root: Path) -> ExperimentPaths:
    """Six completed skills, trained two at a time; one of them was retried. Nothing else was done with them."""
    paths = ExperimentPaths(root)
    root.mkdir(parents=True)
    write_json(paths.config, {"env_name": "Craftax-Classic-Symbolic-v1", "max_nodes": 6, "llm_setup": None})
    needs = {"Collect_Wood": [], "Collect_Sapling": [], "Place_Table": [0], "Make_Wood_Pickaxe": [2], "Make_Wood_Sword": [2],
             "Collect_Stone": [3]}  # fmt: skip
    names, kept, skills = list(needs), History(paths.history, {}), []
    for index, name in enumerate(names):
        skill = in_library(paths, index, name, done=LONG_DONE)
        skill.dependencies = [names[other] for other in needs[name]]
        begins = index // 2 * 6 + index % 2 * 0.5
        skill.started_at, skill.completed_at = minutes(begins), minutes(begins + 5)
        skills.append(skill)
        running = {"status": Status.RUNNING, "stage": Stage.TRAINING, "slot": index % 2}
        if name == "Make_Wood_Pickaxe":
            kept.look([skill.model_copy(update=running)], minutes(begins))
            kept.look([skill.model_copy(update={"status": Status.WAITING})], minutes(begins + 2))
            skill.attempt = 2
        kept.look([skill.model_copy(update=running)], minutes(begins + (2.5 if skill.attempt > 1 else 0)))
        kept.look([skill], minutes(begins + 5))
    state_file.save(paths, SchedulerState(max_parallel=2, skills=skills))
    return paths


def evaluation() -> dict:
    def mean(value, low, high):
        return {"value": value, "low": low, "high": high}

    rates = {"COLLECT_WOOD": mean(1.0, 0.9, 1.0), "EAT_COW": mean(0.25, 0.2, 0.3)}
    whole = {"episodes": 1024, "achievements": mean(15.61, 15.44, 15.78), "score": 43.9, "episode_steps": mean(390.2, 375, 405),
             "rates": rates, "endings": {"attack": 0.7, "thirst": 0.3},
             "acting_at_the_end": {"Collect_Wood": 0.6, "Eat_Cow": 0.4}}  # fmt: skip
    skill = {"skill_name": "Collect_Wood", "episodes": 512, "success_rate": mean(0.97, 0.95, 0.99)}
    plain = whole | {"achievements": mean(14.1, 14.0, 14.3), "frames": 1000}
    return {"frames": 20_000_000, "seed": 0, "whole": whole, "flat": {"small batches": plain}, "skills": [skill]}


def an_experiment(root: Path, more: int = 0, updates: int = 40) -> ExperimentPaths:
    """Skills of every status, an evaluation, a rehearsal; ``more`` further completed ones."""
    paths = ExperimentPaths(root)
    root.mkdir(parents=True)
    write_json(paths.config, {"env_name": "Craftax-Classic-Symbolic-v1", "max_nodes": 8, "total_timesteps": 1_000_000})
    wood = in_library(paths, 0, "Collect_Wood", updates)
    cow = SkillEntry(skill_name="Eat_Cow", status=Status.FAILED, expert_idx=1, attempt=3, started_at=minutes(2),
                     completed_at=minutes(3), error="the training ended without a result; see its log")  # fmt: skip
    steak = SkillEntry(skill_name="Cook_Cow", status=Status.BLOCKED, dependencies=["Eat_Cow"], blocked_by=["Eat_Cow"])
    table = SkillEntry(skill_name="Place_Table", status=Status.RUNNING, dependencies=["Collect_Wood"], expert_idx=2, attempt=1,
                       stage=Stage.TRAINING, slot=0, started_at=minutes(3), tmux_session="flowrl_e2_Place_Table",
                       run_folder="training_runs/skill_2_Place_Table")  # fmt: skip
    axe = SkillEntry(skill_name="Make_Pickaxe", dependencies=["Collect_Wood", "Place_Table"])
    others = [in_library(paths, 10 + number, f"Skill_{number}", updates) for number in range(more)]
    metrics(paths.rehearsal_records("rehearsal_1") / "metrics.jsonl", 20, achievements=9.5, success_rate=None, tried=None)
    rehearsal = RehearsalEntry(skill_name="rehearsal_1", status=Status.COMPLETED, frames=20_000, achievements=9.5, attempt=1,
                               started_at=minutes(5), completed_at=minutes(6), minutes=1.0)  # fmt: skip
    skills = [wood, cow, steak, table, axe, *others]
    state_file.save(paths, SchedulerState(max_parallel=2, skills=skills, rehearsals=[rehearsal]))
    write_json(paths.evaluation, evaluation())
    return paths
