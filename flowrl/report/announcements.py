"""Lines for the terminal about what has changed in the scheduler's state since the last look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowrl.pane.figures import rate_text
from flowrl.records.learned import is_done_by_chance
from flowrl.report.figures import frames_text, minutes_text

Skill = Mapping[str, Any]
"""One entry of ``skills`` in scheduler_state.json."""


class Announcer:
    """Announces each change of a skill once.

    Args:
        say: takes a line.
        attach_line: what a user types to look at a training under way.
        known: the skills as they are at the start; what happened to them before is not announced.
    """

    def __init__(self, say: Callable[[str], None], attach_line: Callable[[Skill], str], known: Iterable[Skill] = ()):
        self._say = say
        self._attach_line = attach_line
        self._announced = {skill["skill_name"]: _phase(skill) for skill in known}

    def look(self, skills: Iterable[Skill]) -> None:
        """Announces what has changed since the last look."""
        for skill in skills:
            name, phase = skill["skill_name"], _phase(skill)
            if phase != self._announced.get(name):
                self._announced[name] = phase
                if line := self._line(skill):
                    self._say(line)

    def _line(self, skill: Skill) -> str | None:
        name = skill["skill_name"]
        match skill["status"]:
            case "waiting" if skill["retry_count"]:
                return f"retry {skill['retry_count']:<5}{name}: {_reason(skill)}"
            case "waiting":
                return None
            case "running" if skill["tmux_session"]:
                return f"training   {name}   watch: {self._attach_line(skill)}"
            case "running":
                return None  # it has no session yet
            case "completed":
                return f"completed  {name}   {outcome(skill)}"
            case "blocked":
                return f"blocked    {name}: it needs {', '.join(skill['blocked_by'])}"
        return f"{skill['status']:<10} {name}: {_reason(skill)}"


def _phase(skill: Skill) -> tuple:
    # A run gets its session a moment after its status; the line about it waits for the session.
    return skill["status"], skill["attempt"], skill["status"] == "running" and skill["tmux_session"]


def _reason(skill: Skill) -> str:
    """The first line of an error; the log's last lines, which follow it, stay in the state file."""
    return (skill["error"] or "").partition("\n")[0]


def outcome(skill: Skill) -> str:
    """Rates or achievements, if there are any, frames and minutes of a finished run; and why its skill does not count as
    learned."""
    spent = f"{frames_text(skill['frames'])} frames, {minutes_text(skill.get('minutes'))} min"
    if "achievements" in skill:
        return f"{rate_text(skill['achievements'])} achievements, {spent}"
    if skill.get("never_done"):
        return spent
    below = "" if skill["goal_reached"] is not False else ", below the goal"
    by_chance = ", which does not count as learned" if is_done_by_chance(skill["random_success_rate"]) else ""
    rates = f"success {rate_text(skill['success_rate'])} (random {rate_text(skill['random_success_rate'])}{by_chance})"
    return f"{rates}{below}, {spent}"
