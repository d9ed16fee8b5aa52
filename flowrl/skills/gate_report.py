"""Reports of the gate: which code may be trained, identified by the fingerprint of its two functions.

A report is a plain dict that is stored with its skill, as ``gate`` in ``skill_data`` and in ``run.json``:
``passed``, ``sha256`` (see :mod:`flowrl.skills.fingerprint`) and ``probe``, which says how the code was tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from flowrl.errors import BadInput
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.module import read_module
from flowrl.skills.spec import SkillSpec

Report = dict[str, Any]

RAN = "ran"
"""The probe ran the code on recorded states, as for all code that a language model wrote."""
UNTRIED = "untried"
"""The probe could not run code that a language model wrote: the compiler failed on it. It passed the static checks only."""
BUILT_IN = "built-in"
"""The code is part of flowrl and tested there."""
BY_HAND = "by hand"
"""The user supplied the code without a report, by calling ``prepare_training_run`` or with a migrated experiment."""


def unprobed(task_is_done: str, task_reward: str, origin: str) -> Report:
    """The report on code that is not tried, because of its origin.

    Training still makes the static checks when it compiles the code.

    Raises:
        CodeRefused: a source is not a function of the expected name.
    """
    return {"passed": True, "sha256": fingerprint(task_is_done, task_reward), "probe": origin}


def built_in(spec: SkillSpec) -> Report:
    """The gate of the built-in curricula: passes every skill."""
    return unprobed(spec.task_is_done, spec.task_reward, BUILT_IN)


def report_for(skill_name: str, task_is_done: str, task_reward: str, given: Mapping[str, Any] | None) -> Report:
    """The report to store with a skill's code in a run: the given one, else one that says it was written by hand.

    Raises:
        BadInput: the given report is for other code, or says that the code did not pass.
    """
    if not given:
        return unprobed(task_is_done, task_reward, BY_HAND)
    if not given.get("passed"):
        raise BadInput(f"skill {skill_name} did not pass the gate: {given.get('message')}; propose it again")
    if given.get("sha256") != fingerprint(task_is_done, task_reward):
        raise BadInput(
            f"the code of skill {skill_name} is not the code that passed the gate; restore it, or leave out its 'gate' "
            "if you changed it yourself"
        )
    return dict(given)


def check_module(text: str, reports: Iterable[Mapping[str, Any]]) -> None:
    """Checks that every function of a generated module, including rewards on trial, has a report that it passed.

    Raises:
        BadInput: a task's functions have no such report, or the text is not a generated module.
    """
    passed = {report.get("sha256") for report in reports if report.get("passed")}
    module = read_module(text)
    code = [(f"task {index}", task) for index, task in enumerate(module.tasks)]
    code += [
        (f"candidate {number}", replace(module.tasks[-1], task_reward=reward))
        for number, reward in enumerate(module.candidates, 1)
    ]
    for place, task in code:
        if fingerprint(task.task_is_done, task.task_reward) not in passed:
            raise BadInput(
                f"the code of {task.skill_name} ({place}) has not passed the gate: it was changed after the run was "
                "prepared; delete the run's folder, and the scheduler will prepare it again"
            )
