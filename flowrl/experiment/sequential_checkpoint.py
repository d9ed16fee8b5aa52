"""The checkpoint of a sequential run: read and checked as a whole. docs/migration.md describes its format."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from flowrl import pickles
from flowrl.envs.registry import GAMES, GameEntry
from flowrl.errors import BadInput
from flowrl.skills.checks import check_skill_code
from flowrl.skills.facts import check_resources
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec

_TOP = {"expert_params", "skills"}
_OF_A_SKILL = {"skill_name", "expert_idx", "total_frames", "success_rate", "execution_plan", *SkillSpec.model_fields} - {"name"}
_EXPERT = re.compile(r"expert_(\d+)")


@dataclass(frozen=True)
class SequentialSkill:
    """One checked skill of a sequential run."""

    spec: SkillSpec
    data: dict[str, Any]
    expert_idx: int
    params: Mapping[str, Any]
    total_frames: int
    success_rate: float | None


@dataclass(frozen=True)
class SequentialRun:
    """A checked checkpoint."""

    game: GameEntry
    layer_size: int
    skills: list[SequentialSkill]


def read_checkpoint(source: Path) -> SequentialRun:
    """Reads and checks a sequential run's checkpoint; writes nothing.

    Raises:
        BadInput: it is missing, holds more than arrays and plain containers, or does not have the documented format.
    """
    content = _load(source)
    experts = _experts(content["expert_params"], source)
    entry, layer_size = _sizes(experts, source)
    skills = [_skill(name, data, experts, source) for name, data in content["skills"].items()]
    owners = [skill.expert_idx for skill in skills]
    if sorted(owners) != sorted(experts):
        raise _refused(source, f"each expert needs one skill, found experts {sorted(experts)} and skills of {sorted(owners)}")
    ordered = sorted(skills, key=lambda skill: skill.expert_idx)
    return SequentialRun(entry, layer_size, [_planned(skill, ordered, entry) for skill in ordered])


def _load(source: Path) -> dict[str, Any]:
    try:
        content = pickles.load(source)
    except FileNotFoundError:
        raise BadInput(f"{source} does not exist; give the path of the sequential run's checkpoint") from None
    except OSError as error:
        raise BadInput(f"{source} cannot be read ({error.strerror}); give the path of a readable file") from None
    except pickles.ForeignPickle as error:
        raise BadInput(
            f"{source} is damaged or holds more than numpy arrays and plain containers ({error.__cause__}); save "
            "it again where it was written, with jax.tree.map(numpy.asarray, ...) and pickle protocol 4"
        ) from error
    if not isinstance(content, dict) or set(content) != _TOP:
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise _refused(source, f"expected a dict with expert_params and skills, found {found}")
    if not all(isinstance(content[key], dict) and content[key] for key in _TOP):
        raise _refused(source, "expert_params and skills must be dicts that are not empty")
    return content


def _experts(params: Mapping[str, Any], source: Path) -> dict[int, Mapping[str, Any]]:
    experts = {}
    for key, tree in params.items():
        if not (isinstance(key, str) and (match := _EXPERT.fullmatch(key))):
            raise _refused(source, f"expert_params has {key!r}, expected expert_0, expert_1, ...")
        experts[int(match[1])] = tree
    return experts


def _sizes(experts: Mapping[int, Mapping[str, Any]], source: Path) -> tuple[GameEntry, int]:
    """The game and the width that the arrays fit; all experts must agree."""
    shapes = {index: _shapes(tree) for index, tree in experts.items()}
    first = min(shapes)
    observation_size, layer_size = shapes[first].get("actor/torso/Dense_0/kernel", (0, 0))
    entry = next((entry for entry in GAMES.values() if entry.observation_size == observation_size), None)
    if entry is None:
        known = ", ".join(f"{name} ({entry.observation_size})" for name, entry in GAMES.items())
        raise _refused(
            source,
            f"actor/torso/Dense_0/kernel of expert_{first} takes observations of {observation_size} numbers, "
            f"expected those of a known game: {known}",
        )
    expected = expert_shapes(observation_size, layer_size, entry.num_actions)
    for index, found in shapes.items():
        if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
            raise _refused(
                source,
                f"{wrong[0]} of expert_{index} has shape {found.get(wrong[0], 'none')}, expected "
                f"{expected.get(wrong[0], 'none')}: {entry.env_name} has {entry.num_actions} actions, and all experts have one "
                "width",
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
        raise _refused(source, f"skill {name!r} must be a dict; its skill_name, if it has one, must be its own name")
    if unknown := sorted(set(data) - _OF_A_SKILL):
        known = ", ".join(sorted(_OF_A_SKILL))
        raise _refused(source, f"skill {name} has an unknown field {unknown[0]!r}; known are {known}")
    index, frames, rate = data.get("expert_idx"), data.get("total_frames", 0), data.get("success_rate")
    if not isinstance(index, int) or not isinstance(frames, int) or frames < 0:
        raise _refused(source, f"skill {name} needs a whole number as expert_idx, and 0 or more as total_frames")
    if index not in experts:
        raise _refused(source, f"skill {name} has expert_idx {index}, but there is no expert_{index}")
    is_rate = isinstance(rate, Real) and not isinstance(rate, bool) and 0 <= rate <= 1
    if rate is not None and not is_rate:
        raise _refused(source, f"skill {name} has success_rate {rate!r}, expected a number from 0 to 1, or None")
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
                "n, a whole number of at least 1"
            )
    return dataclasses.replace(skill, data={**skill.data, "execution_plan": plan})


def _refused(source: Path, why: str) -> BadInput:
    return BadInput(f"{source} is not a sequential run's checkpoint as docs/migration.md describes it: {why}")
