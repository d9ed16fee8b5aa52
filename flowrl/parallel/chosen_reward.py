"""Makes the reward that a run chose among several the skill's own."""

from __future__ import annotations

from flowrl.errors import BadInput
from flowrl.files import read_json, write_json, write_whole
from flowrl.paths import SKILL_DATA, RunPaths
from flowrl.skills.module import read_module, with_reward


def keep_chosen_reward(run: RunPaths) -> None:
    """Rewrites a run's module and its skill's data so that they hold the chosen reward alone. May be repeated.

    ``candidates.json`` keeps what the trial found out about each of them.

    Raises:
        BadInput: several rewards were tried and the choice was not recorded, or a file is damaged.
    """
    data = _skill_data(run)
    if not data.get("candidates") and not run.candidates.exists():
        return
    number, text = chosen_reward(run), run.module.read_text()
    if read_module(text).candidates:
        write_whole(run.module, with_reward(text, number))
    if data.get("candidates"):
        write_json(run.folder / SKILL_DATA, _with_reward(data, number))


def chosen_reward(run: RunPaths) -> int:
    """The number of the chosen reward; the skill's own is 1.

    Raises:
        BadInput: the choice was not recorded.
    """
    try:
        return int(read_json(run.candidates)["chosen"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        raise BadInput(
            f"{run.candidates} does not say which reward was chosen; restore it from a copy, or move {run.folder} away "
            "to train the skill from the start"
        ) from None


def _skill_data(run: RunPaths) -> dict:
    try:
        return read_json(run.folder / SKILL_DATA)
    except FileNotFoundError:
        return {}


def _with_reward(data: dict, number: int) -> dict:
    rewards = [data["task_reward"], *data["candidates"]]
    gates = [data.get("gate"), *data.get("candidate_gates", ())]
    chosen = {"task_reward": rewards[number - 1]} | ({"gate": gates[number - 1]} if number <= len(gates) else {})
    return {key: value for key, value in (data | chosen).items() if key not in ("candidates", "candidate_gates")}
