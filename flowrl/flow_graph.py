"""The flow graph: all skills of an experiment, what each depends on, and which one comes next.

It stands between whoever proposes skills and the scheduler that trains them: a proposal becomes ``skill_data`` with
an execution plan, and the scheduler's news decides whether the frontier is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flowrl.errors import BadInput
from flowrl.proposers.base import LibraryView, Measured, Proposer
from flowrl.skills.candidates import Offer
from flowrl.skills.checks import check_skill_code
from flowrl.skills.facts import GameFacts, check_resources
from flowrl.skills.frontier import blocked_by
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec

SkillData = dict[str, Any]
GetDependencies = Callable[[str, Mapping[str, SkillData], Mapping[str, SkillData]], list[str]]
"""``(skill_name, all_skills, training_skills)`` to the names of the skills that it depends on."""

Gate = Callable[[SkillSpec], Mapping[str, Any] | None]
"""Accepts a skill and returns its report, or raises ``CodeRefused``. Without a report, code counts as written by hand."""

_IN_TRAINING = ("waiting", "running")


def plan_dependencies(skill_name: str, skill_data: Mapping[str, Any]) -> list[str]:
    """All other skills of an execution plan, each once, in order."""
    steps = (step["skill_name"] for step in skill_data.get("execution_plan", ()))
    return [name for name in dict.fromkeys(steps) if name != skill_name]


class FlowGraph:
    """The skills of one experiment.

    Args:
        proposer: asked for each new skill.
        facts: the game.
        get_dependencies: what it returns is added to the skills of a skill's plan.
        gate: what a skill has to pass beside the static checks. Its report goes along with the skill.
    """

    def __init__(
        self, proposer: Proposer, facts: GameFacts, get_dependencies: GetDependencies, gate: Gate = lambda spec: None
    ):
        self.proposer = proposer
        self.facts = facts
        self._get_dependencies = get_dependencies
        self._gate = gate
        self._specs: dict[str, SkillSpec] = {}
        self._measured: dict[str, Measured] = {}
        self.skills: dict[str, SkillData] = {}
        """By name: the skill's data, with ``expert_idx`` (None until its first launch) and ``status``."""

    def load(self, known_skills: Mapping[str, SkillData]) -> None:
        """Takes in the skills of earlier starts: the data of each, with ``expert_idx`` and ``status``.

        Raises:
            BadInput: the data of a skill is not usable; names the skill and the field.
        """
        for name, data in known_skills.items():
            self._specs[name] = SkillSpec.from_data({"skill_name": name, **data})
            self.skills[name] = dict(data)

    def news(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Takes status, expert index and results of each known skill from the scheduler's state."""
        for entry in entries:
            if skill := self.skills.get(entry["skill_name"]):
                skill.update(status=entry["status"], expert_idx=entry["expert_idx"])
                results = (entry.get(name) for name in ("success_rate", "random_success_rate", "frames", "frames_per_success"))
                self._measured[entry["skill_name"]] = Measured(*results)

    def next_skill(self) -> tuple[str, SkillData] | None:
        """The next skill with its execution plan, or None: the proposer has no more.

        Proposals that cannot be trained are the proposer's to repair, or to give up. May be called in a thread of its own,
        while others call ``news`` and ``on_skill_complete``.

        Raises:
            BadInput: the proposal cannot be trained, and the proposer cannot repair it; names what is wrong with it.
            FlowrlError: the proposer gave up.
        """
        found = self.proposer.propose(self.view(), self._checked)
        if found is None:
            return None
        spec, data = found
        self._specs[spec.name] = spec
        self.skills[spec.name] = {**data, "status": "waiting", "expert_idx": None}
        return spec.name, data

    def added(self, skill_name: str) -> None:
        """The scheduler has taken a skill: its proposer is told."""
        self.proposer.accepted(self._specs[skill_name])

    def drop(self, skill_name: str) -> None:
        """The scheduler has not taken a skill that ``next_skill`` returned: there is no such skill."""
        del self.skills[skill_name], self._specs[skill_name]

    def _checked(self, offer: Offer) -> tuple[SkillSpec, SkillData]:
        """A proposal with the rewards that can be trained, and its data with its plan.

        Raises:
            BadInput: it cannot be planned, or its code is refused.
        """
        spec = offer.spec
        if spec.name in self.skills:
            raise BadInput(f"skill {spec.name} was proposed again; the name is taken, give the new one another")
        check_resources(spec, self.facts)
        offer.keep(lambda single: check_skill_code(single, self.facts))
        offer.drop_duplicates()
        plan = build_plan(spec, self.usable(), self.facts)
        reports = offer.keep(self._gate)
        return offer.spec, {**offer.spec.to_data(), "execution_plan": plan, **_gate_reports(reports)}

    def dependencies(self, skill_name: str) -> list[str]:
        """What a skill waits for: the other skills of its plan, and what ``get_skill_dependencies`` adds.

        Raises:
            BadInput: ``get_skill_dependencies`` names what is not a skill of this experiment.
        """
        added = self._get_dependencies(skill_name, self.skills, self.in_training())
        for name in added:
            if name not in self.skills or name == skill_name:
                raise BadInput(
                    f"get_skill_dependencies says that {skill_name} depends on {name!r}, which is none of the other "
                    f"skills: {', '.join(other for other in self.skills if other != skill_name) or 'there are none yet'}"
                )
        return list(dict.fromkeys([*plan_dependencies(skill_name, self.skills[skill_name]), *added]))

    def check_frontier_blocked(self, skill_name: str, skill_data: Mapping[str, Any]) -> bool:
        """Whether a skill needs one that is still in training: then no more are proposed for now."""
        if skill_name not in self.skills:
            return bool(blocked_by(plan_dependencies(skill_name, skill_data), self.in_training()))
        return bool(blocked_by(self.dependencies(skill_name), self.in_training()))

    def on_skill_complete(self, skill_name: str) -> None:
        """A skill is trained and merged."""
        self.skills[skill_name]["status"] = "completed"

    def in_training(self) -> dict[str, SkillData]:
        """The skills that wait or run."""
        return {name: skill for name, skill in self.skills.items() if skill["status"] in _IN_TRAINING}

    def completed(self) -> dict[str, SkillData]:
        """The library."""
        return {name: skill for name, skill in self.skills.items() if skill["status"] == "completed"}

    def usable(self) -> dict[str, SkillSpec]:
        """What a plan may use, in the order in which it was added: a plan must not depend on what finished first."""
        usable = self.completed() | self.in_training()
        return {name: self._specs[name] for name in self.skills if name in usable}

    def view(self) -> LibraryView:
        """What the proposer is told."""
        completed, training = self.completed(), self.in_training()
        return LibraryView(
            facts=self.facts,
            completed={name: self._specs[name] for name in completed},
            training={name: self._specs[name] for name in training},
            unavailable=frozenset(self.skills.keys() - completed.keys() - training.keys()),
            measured={name: self._measured[name] for name in completed if name in self._measured},
        )


def _gate_reports(reports: Sequence[Mapping[str, Any] | None]) -> SkillData:
    """What ``skill_data`` holds of the gate's reports on a skill's rewards, in order."""
    first, *others = reports
    if not first:
        return {}
    return {"gate": dict(first), **({"candidate_gates": [dict(report) for report in others]} if others else {})}
