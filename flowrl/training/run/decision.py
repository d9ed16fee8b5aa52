"""Which of several rewards or initial experts is chosen, and why: the content of ``candidates.json``."""

from __future__ import annotations

from typing import Any

from flowrl.errors import BadInput
from flowrl.files import read_json
from flowrl.paths import RunPaths
from flowrl.skills.fingerprint import fingerprint
from flowrl.skills.module import read_module
from flowrl.training.playing.comparison import Score
from flowrl.training.run.specification import RunSpecification


def read_decision(paths: RunPaths) -> dict[str, Any] | None:
    """The decision of an earlier attempt, None if there is none.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        record = read_json(paths.candidates)
    except FileNotFoundError:
        return None
    if not isinstance(record, dict) or not {"chosen", "frames", "candidates"} <= record.keys():
        raise BadInput(f"{paths.candidates} does not say which one was chosen; restore it from a copy, or remove it")
    return record


def decision(run: RunSpecification, frames: int, episodes: int, scores: list[Score]) -> dict[str, Any]:
    """Decides which reward, or initial expert, is chosen, and why.

    Args:
        frames: frames trained for all rewards together.
        episodes: the number of episodes that each was compared by.
        scores: the rewards' scores, in order.
    """
    module, (chosen, why) = read_module(run.module_text), best(scores)
    is_done = module.tasks[-1].task_is_done
    return {
        "skill_name": run.skill_name,
        "attempt": run.attempt,
        "frames": frames,
        "episodes": episodes,
        "chosen": chosen + 1,
        "why": why,
        "candidates": [
            {
                "number": number,
                "success_rate": score.success_rate,
                "progress": round(score.progress, 4),
                "mean_return": round(score.mean_return, 4),
                "sha256": fingerprint(is_done, reward),
                "task_reward": reward,
                **({"init_from": run.init_tried[number - 1].skill_name} if run.init_tried else {}),
            }
            for number, (score, reward) in enumerate(zip(scores, module.rewards), 1)
        ],
    }


def best(scores: list[Score]) -> tuple[int, str]:
    """Which reward is chosen, and why: the highest success rate; then the furthest along the plan; then the first."""
    chosen = max(range(len(scores)), key=lambda index: (scores[index].success_rate, scores[index].progress, -index))
    others = [score for index, score in enumerate(scores) if index != chosen]
    equals = [score for score in others if score.success_rate == scores[chosen].success_rate]
    if not equals:
        return chosen, "the highest success rate"
    if all(score.progress < scores[chosen].progress for score in equals):
        return chosen, "the furthest along the plan, of those with the highest success rate"
    return chosen, "the first of those that did equally well"


def described(decided: dict[str, Any]) -> list[str]:
    """The decision as lines for the user."""
    candidates = decided["candidates"]
    lines = [
        f"{_name(found)}{_source(found)}: success rate {found['success_rate']:.3f} of {decided['episodes']} fresh episodes, "
        f"{found['progress']:.2f} of the plan, {found['mean_return']:.3f} paid an episode"
        for found in candidates
    ]
    chosen = candidates[decided["chosen"] - 1]
    return [*lines, f"{_name(chosen)} of {len(lines)} continues{_source(chosen)}: {decided['why']}"]


def _name(candidate: dict[str, Any]) -> str:
    return f"{'initial expert' if 'init_from' in candidate else 'reward'} {candidate['number']}"


def _source(candidate: dict[str, Any]) -> str:
    return f" ({candidate['init_from'] or 'fresh'})" if "init_from" in candidate else ""
