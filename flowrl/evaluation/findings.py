"""What an evaluation found, as `evaluation.json` and as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowrl.envs.adapter import GameAdapter
from flowrl.envs.readings import ending_names, goal_names
from flowrl.evaluation import statistics
from flowrl.evaluation.episodes import Episodes
from flowrl.evaluation.library import Library, LibrarySkill
from flowrl.evaluation.skill_tests import SkillTest
from flowrl.evaluation.statistics import Interval
from flowrl.records.learned import GOAL, RARE_BY_CHANCE, counts_as_learned, why_not_learned

VERSION = 1
LONGEST = "longest episode"
"""Why an episode ended that was not over."""
_DECAY = 0.1
"""A skill has decayed where its rate's interval lies this far below what its training measured."""


_MOST_LISTED = 8
"""One more is listed if it is the only one left."""


def of_skill(skill: LibrarySkill, test: SkillTest | None) -> dict[str, Any]:
    """What the test of a skill found, as plain data; nothing where it was not tested."""
    if test is None:
        measured = ("success_rate", "random_success_rate", "trained_success_rate", "own_success_rate", "steps")
        named = {"skill_name": skill.name, "expert_idx": skill.index, "episodes": 0}
        found = {"is_learned": False, "has_decayed": False, "tasks": [], "failures": [], "differences": [], "unlocks": {}}
        return named | dict.fromkeys(measured) | found
    rate = statistics.rate(test.successes, test.episodes)
    trained = skill.result.success_rate if skill.result else None
    by_chance = skill.result.random_success_rate if skill.result else None
    return {
        "skill_name": skill.name,
        "expert_idx": skill.index,
        "episodes": test.episodes,
        "success_rate": _interval(rate),
        "random_success_rate": by_chance,
        "is_learned": counts_as_learned(rate.value >= GOAL, by_chance),
        "trained_success_rate": trained,
        "has_decayed": trained is not None and rate.high < trained - _DECAY,
        "own_success_rate": test.own_rate,
        "steps": None if np.isnan(test.steps) else round(test.steps, 1),
        "tasks": [
            {"skill_name": task.skill_name, "n": task.n, "started": started, "done": done}
            for task, started, done in zip(skill.plan, test.started, test.done)
        ],
        "failures": [
            {"task": task, "reason": reason, "episodes": count} for (task, reason), count in test.failures.most_common()
        ],
        "differences": skill.result.observed.lines if skill.result and skill.result.observed else [],
        "unlocks": {goal: round(share, 3) for goal, share in test.brings.items()},
    }


def of_episodes(found: Episodes, library: Library, adapter: GameAdapter) -> dict[str, Any]:
    """What whole episodes found, as plain data."""
    goals, facts = goal_names(adapter), adapter.facts
    values = np.array([facts.goal_values.get(goal, 1.0) for goal in goals])
    reasons = [*ending_names(adapter), LONGEST]
    rates = found.goals.mean(axis=0)
    names = list(library.specs)
    return {
        "episodes": len(found.length),
        "achievements": _interval(statistics.mean(found.goals.sum(axis=1))),
        "achievements_in_all": len(goals),
        "score": statistics.crafter_score(rates),
        "return_percent": _interval(statistics.mean(100 * found.goals @ values / values.sum())),
        "episode_steps": _interval(statistics.mean(found.length)),
        "rates": {
            goal: _interval(statistics.rate(int(count), len(found.goals)))
            for goal, count in zip(goals, found.goals.sum(axis=0))
        },
        "endings": _shares(Counter(reasons[why] for why in found.ending.tolist())),
        "acting_at_the_end": _shares(Counter(names[skill] for skill in found.skill.tolist())),
        "skills": {
            name: {field: int(value[place]) for field, value in found.usage._asdict().items()}
            for place, name in enumerate(names)
        },
    }


def print_skills(skills: list[dict[str, Any]], out: Console) -> None:
    """One line a skill."""
    table = Table(title="Skills, each on its own plan", title_justify="left")
    for heading, justify in (
        ("skill", "left"),
        ("success", "right"),
        ("95 %", "right"),
        ("trained", "right"),
        ("random", "right"),
        ("steps", "right"),
        ("most frequent failure", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=heading != "most frequent failure")
    for skill in skills:
        rate, failures = skill["success_rate"], skill["failures"]
        worst = failures[0] if failures else None
        share = f"{worst['episodes'] / skill['episodes']:.0%} in {worst['task']}: {worst['reason']}" if worst else ""
        trained = Text(_two(skill["trained_success_rate"]), "yellow" if skill["has_decayed"] else "")
        success, interval = (_two(rate["value"]), f"{rate['low']:.2f} to {rate['high']:.2f}") if rate else ("-", "-")
        steps = "-" if skill["steps"] is None else f"{skill['steps']:.0f}"
        table.add_row(skill["skill_name"], success, interval, trained, _two(skill["random_success_rate"]), steps, share)
    out.print(table)
    for line in [*learned_lines(skills), *(line for skill in skills for line in skill["differences"])]:
        out.print(line, soft_wrap=True, markup=False)


def learned_lines(skills: list[dict[str, Any]]) -> list[str]:
    """How many skills count as learned on their own plan, and which do not since a random policy does them too."""
    num_tested = sum(skill["success_rate"] is not None for skill in skills)
    by_chance = [skill["random_success_rate"] for skill in skills if skill["is_learned"]]
    num_rare = sum(rate is not None and rate < RARE_BY_CHANCE for rate in by_chance)
    count = (
        f"{len(by_chance)} of {num_tested} skills learned: success {GOAL:.2f} or more on their own plan "
        f"({num_rare} with a random policy below {RARE_BY_CHANCE:.2f})"
    )
    remarks = (why_not_learned(skill["skill_name"], skill["random_success_rate"]) for skill in skills)
    return [count, *filter(None, remarks)]


def print_whole(whole: dict[str, Any], out: Console) -> None:
    """The figures of whole episodes, and each achievement."""
    achievements, steps, share = whole["achievements"], whole["episode_steps"], whole["return_percent"]
    out.print(
        f"\nThe whole library, {whole['episodes']:,} episodes on fresh worlds: "
        f"[bold]{achievements['value']:.2f}[/bold] of {whole['achievements_in_all']} achievements "
        f"({achievements['low']:.2f} to {achievements['high']:.2f}), score {whole['score']:.1f}, "
        f"{share['value']:.1f} % of the return, {steps['value']:.0f} steps",
        soft_wrap=True,
    )
    out.print(f"Ended by {_listed(whole['endings'])}", soft_wrap=True)
    out.print(f"Acting then: {_listed(whole['acting_at_the_end'])}", soft_wrap=True)
    table = Table(title="Achievements", title_justify="left")
    for heading in ("achievement", "unlocked", "95 %"):
        table.add_column(heading, justify="left" if heading == "achievement" else "right")
    for goal, rate in sorted(whole["rates"].items(), key=lambda entry: -entry[1]["value"]):
        table.add_row(goal, f"{rate['value']:.1%}", f"{rate['low']:.1%} to {rate['high']:.1%}")
    out.print(table)


def print_comparison(found: dict[str, Any], out: Console) -> None:
    """The library beside the plain agents, with the frames that each was trained for."""
    table = Table(title="Beside plain agents", title_justify="left")
    for heading in ("agent", "frames", "achievements", "95 %", "score", "steps"):
        table.add_column(heading, justify="left" if heading == "agent" else "right")
    agents = {"the library": found["whole"] | {"frames": found["frames"]}}
    agents |= {f"plain, {name}": figures for name, figures in found["flat"].items()}
    for name, figures in agents.items():
        mean = figures["achievements"]
        table.add_row(
            name,
            f"{figures['frames']:,}",
            f"{mean['value']:.2f}",
            f"{mean['low']:.2f} to {mean['high']:.2f}",
            f"{figures['score']:.1f}",
            f"{figures['episode_steps']['value']:.0f}",
        )
    out.print(table)


def _listed(shares: Mapping[str, float]) -> str:
    """The largest shares in words, and what the others come to."""
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    first, rest = (ordered, []) if len(ordered) <= _MOST_LISTED + 1 else (ordered[:_MOST_LISTED], ordered[_MOST_LISTED:])
    words = [f"{name} {part:.0%}" for name, part in first]
    if rest:
        words.append(f"{len(rest)} others {sum(part for _, part in rest):.0%}")
    return ", ".join(words)


def _interval(interval: Interval) -> dict[str, float]:
    return {name: round(value, 4) for name, value in interval._asdict().items()}


def _shares(counts: Counter) -> dict[str, float]:
    total = counts.total()
    return {name: round(count / total, 4) for name, count in counts.most_common()}


def _two(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"
