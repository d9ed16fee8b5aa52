"""``get_skill_dependencies``, the user's own function: called once for each skill; only names are accepted from it."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from flowrl.errors import BadInput

GetDependencies = Callable[[str, Mapping[str, dict[str, Any]], Mapping[str, dict[str, Any]]], Collection[str]]
"""``(skill_name, all_skills, training_skills)`` -> names of the skills that it depends on, besides those of its plan."""

NAME = "get_skill_dependencies"


def asked_once(function: GetDependencies) -> GetDependencies:
    """Wraps the function with a memory: a second call for a skill returns the first answer."""
    answers: dict[str, Any] = {}

    def ask_or_recall(skill_name: str, *skills: Any) -> Any:
        if skill_name not in answers:
            answers[skill_name] = function(skill_name, *skills)
        return answers[skill_name]

    return ask_or_recall


def ask(
    function: GetDependencies,
    skill_name: str,
    all_skills: Mapping[str, dict[str, Any]],
    training_skills: Mapping[str, dict[str, Any]],
) -> tuple[str, ...]:
    """The names that the function returns for a new skill, each once.

    Args:
        all_skills: every skill of the experiment, the new one included. The function gets a copy.
        training_skills: those of them that are waiting or running.

    Raises:
        BadInput: it raised an error, or returned anything but a list of names of other skills; one line.
    """
    try:
        said = function(skill_name, copy.deepcopy(dict(all_skills)), copy.deepcopy(dict(training_skills)))
        names = list(said) if _is_list(said) else None
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BadInput(
            f"{NAME} raised an error for {skill_name}: {reason} ({_place(error)}); correct it, and run the same command again"
        ) from error
    if names is None or not all(isinstance(name, str) for name in names):
        raise BadInput(
            f"{NAME} returned {_shown(said)} for {skill_name}, expected a list of skill names; "
            "return [] if there is nothing to add"
        )
    _check_known(names, skill_name, all_skills)
    return tuple(sorted(names) if isinstance(said, set | frozenset) else dict.fromkeys(names))


def _is_list(said: Any) -> bool:
    return isinstance(said, Collection) and not isinstance(said, str | bytes | Mapping)


def _check_known(names: Collection[str], skill_name: str, all_skills: Collection[str]) -> None:
    for name in names:
        if name not in all_skills or name == skill_name:
            others = ", ".join(other for other in all_skills if other != skill_name) or "there are none yet"
            raise BadInput(
                f"{NAME} returned {name!r} for {skill_name}, expected names of other skills ({others}); "
                "return only skills that were proposed before it"
            )


def _shown(said: Any) -> str:
    return " ".join(repr(said).split())[:100]


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
