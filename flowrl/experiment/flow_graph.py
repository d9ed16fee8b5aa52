"""The flow graph: what each skill of an experiment is, and which one comes next.

It stands between the proposer of skills and the scheduler that trains them: a proposal becomes ``skill_data`` with an
execution plan. The status of a skill, and what it waits for, is asked of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from flowrl.errors import BadInput
from flowrl.experiment.dependency_hook import GetDependencies, ask
from flowrl.proposers.base import LibraryView, Measured, Proposer
from flowrl.records.result import NO_PROGRESS_PREFIX
from flowrl.skills.candidates import Offer
from flowrl.skills.checks import check_skill_code
from flowrl.skills.explore import explore, unending
from flowrl.skills.facts import GameFacts, check_resources
from flowrl.skills.frontier import blocked_by
from flowrl.skills.gate_report import built_in
from flowrl.skills.graph import check_acyclic, dependency_graph
from flowrl.skills.plan import build_plan
from flowrl.skills.spec import SkillSpec

SkillData = dict[str, Any]
Gate = Callable[[SkillSpec], Mapping[str, Any] | None]
"""Accepts a skill and returns its report, or raises ``CodeRefused``. Code without a report counts as written by hand."""

Archived = Callable[[int | None, str], Mapping[str, Any]]
"""``(expert index, skill name)`` -> the data of a completed skill as the library has it, with what its training observed."""

_IN_TRAINING = ("waiting", "running")


def plan_dependencies(skill_name: str, skill_data: Mapping[str, Any]) -> list[str]:
    """All other skills of an execution plan, each once, in order."""
    steps = (step["skill_name"] for step in skill_data.get("execution_plan", ()))
    return [name for name in dict.fromkeys(steps) if name != skill_name]


class Scheduler(Protocol):
    """Knows the status of each skill: :class:`flowrl.parallel.scheduler.SkillScheduler`."""

    @property
    def state(self) -> Mapping[str, Any]:
        """As in ``scheduler_state.json``."""


class NothingTrained:
    """Takes the place of the scheduler in an experiment that has not begun."""

    state: Mapping[str, Any] = {"skills": ()}


class _Proposal(NamedTuple):
    """A skill as it was proposed; once it is trained, with what its training observed."""

    spec: SkillSpec
    data: SkillData
    dependencies: tuple[str, ...]


class FlowGraph:
    """The skills of one experiment.

    Args:
        scheduler: asked for the status, the dependencies and the results of each skill.
        proposer: asked for each new skill.
        facts: the game.
        get_dependencies: asked once for each new skill; what it returns is added to the skills of its plan.
        gate: what a skill must pass besides the static checks. Its report is stored with the skill.
        archived: asked once for each skill that was trained; without it, skills stay as they were proposed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        proposer: Proposer,
        facts: GameFacts,
        get_dependencies: GetDependencies,
        gate: Gate = lambda spec: None,
        archived: Archived = lambda expert_idx, name: {},
    ):
        self.scheduler = scheduler
        self.proposer = proposer
        self.facts = facts
        self._get_dependencies = get_dependencies
        self._gate = gate
        self._archived = archived
        self._proposals: dict[str, _Proposal] = {}
        self._taken_over: dict[str, int | None] = {}
        """The attempt of each completed skill whose archived data is in ``_proposals``."""

    def load(self, known_skills: Mapping[str, SkillData]) -> None:
        """Loads the data of the skills of earlier starts; their status and expert index come from the scheduler.

        Raises:
            BadInput: the data of a skill cannot be used; names the skill and the field.
        """
        for name, known in known_skills.items():
            data = {field: value for field, value in known.items() if field not in ("status", "expert_idx")}
            spec = SkillSpec.from_data({"skill_name": name, **data})
            self._proposals[name] = _Proposal(spec, data, tuple(plan_dependencies(name, data)))
        for name in known_skills:
            self._keep_acyclic(name)

    @property
    def skills(self) -> dict[str, SkillData]:
        """By name: each skill's data, with ``expert_idx`` (None until its first launch) and ``status``."""
        return self._as_of(self._entries())

    def next_skill(self) -> tuple[str, SkillData] | None:
        """The next skill with its execution plan, or None: the proposer has no more.

        The proposer repairs a proposal that cannot be trained, or gives it up. May be called in its own thread.

        Raises:
            BadInput: the proposal cannot be trained, and the proposer cannot repair it; or ``get_skill_dependencies`` is
                wrong. Names what is wrong.
            FlowrlError: the proposer gave up.
        """
        found = self.proposer.propose(self.view(), self._checked)
        if found is None:
            return None
        spec, data = found
        self._proposals[spec.name] = _Proposal(spec, data, self._new_dependencies(spec.name, data))
        return spec.name, data

    def explore(self, frames: int) -> tuple[str, SkillData]:
        """Explore, to be trained for so many frames. It waits for no skill, and no plan uses it.

        Raises:
            BadInput: the name is taken, or the game declares no reward of its own.
        """
        spec = explore(self.facts)
        if spec.name in self._proposals or spec.name in self._entries():
            raise BadInput(f"the experiment has another skill {spec.name} already; set --explore_frames 0")
        plan = [{"skill_name": spec.name, "n": 1}]
        data = {**spec.to_data(), "execution_plan": plan, "gate": built_in(spec), "settings": unending(frames)}
        self._proposals[spec.name] = _Proposal(spec, data, ())
        return spec.name, data

    def never_done(self) -> str | None:
        """The skill that is never done, whatever its status; None if there is none."""
        return next((name for name, proposal in self._proposals.items() if proposal.spec.never_done), None)

    def is_in_library(self, skill_name: str) -> bool:
        """Whether its expert can be used: it is completed, perhaps being trained further."""
        entry = self._entries().get(skill_name, {})
        return entry.get("status") == "completed" or entry.get("extra_timesteps") is not None

    def num_left(self) -> int | None:
        """How many more skills could be proposed at most; None if that is not known."""
        return self.proposer.num_left(self.view())

    def added(self, skill_name: str) -> None:
        """Tells the proposer that the scheduler has accepted its skill."""
        spec = self._proposals[skill_name].spec
        if not spec.never_done:  # that one is not the proposer's
            self.proposer.accepted(spec)

    def drop(self, skill_name: str) -> None:
        """Forgets a skill that ``next_skill`` returned and the scheduler did not accept."""
        del self._proposals[skill_name]

    def _checked(self, offer: Offer) -> tuple[SkillSpec, SkillData]:
        """A proposal with the rewards that can be trained, and its data with its plan.

        Raises:
            BadInput: it cannot be planned, or its code is refused.
        """
        spec = offer.spec
        if spec.name in self._proposals or spec.name in self._entries():
            raise BadInput(f"skill {spec.name} exists already; give the new skill another name")
        check_resources(spec, self.facts)
        offer.keep(lambda single: check_skill_code(single, self.facts))
        offer.drop_duplicates()
        plan = build_plan(spec, self.usable(), self.facts)
        reports = offer.keep(self._gate)
        return offer.spec, {**offer.spec.to_data(), "execution_plan": plan, **_gate_reports(reports)}

    def _new_dependencies(self, name: str, data: SkillData) -> tuple[str, ...]:
        """What a new skill waits for: the other skills of its plan, and what ``get_skill_dependencies`` adds."""
        new = {name: {**data, "status": "waiting", "expert_idx": None}}
        added = ask(self._get_dependencies, name, self.skills | new, self.in_training() | new)
        return tuple(dict.fromkeys([*plan_dependencies(name, data), *added]))

    def dependencies(self, skill_name: str) -> list[str]:
        """What a skill waits for: as the scheduler has it or, for a skill that it does not have yet, as it will be added."""
        entry = self._entries().get(skill_name)
        return list(entry["dependencies"] if entry else self._proposals[skill_name].dependencies)

    def check_frontier_blocked(self, skill_name: str, skill_data: Mapping[str, Any]) -> bool:
        """Whether a skill needs one that is still in training; until that finishes, nothing more is proposed."""
        is_known = skill_name in self._proposals or skill_name in self._entries()
        needed = self.dependencies(skill_name) if is_known else plan_dependencies(skill_name, skill_data)
        return bool(blocked_by(needed, self.in_training()))

    def on_skill_complete(self, skill_name: str) -> None:
        """A callback for the scheduler. It need not be set: this class asks the scheduler what is completed."""

    def in_training(self) -> dict[str, SkillData]:
        """The skills that are waiting or running."""
        return {name: skill for name, skill in self.skills.items() if skill["status"] in _IN_TRAINING}

    def completed(self) -> dict[str, SkillData]:
        """The library."""
        return {name: skill for name, skill in self.skills.items() if skill["status"] == "completed"}

    def usable(self) -> dict[str, SkillSpec]:
        """What a plan may use, in the order of proposal: a plan must not depend on which skill finished first."""
        self._take_over_observed(self._entries())
        usable = ("completed", *_IN_TRAINING)
        return self._buildable({name: skill for name, skill in self.skills.items() if skill["status"] in usable})

    def view(self) -> LibraryView:
        """What the proposer sees of the experiment."""
        entries = self._entries()
        self._take_over_observed(entries)
        skills = self._as_of(entries)
        completed = self._buildable({name: skill for name, skill in skills.items() if skill["status"] == "completed"})
        training = self._buildable({name: skill for name, skill in skills.items() if skill["status"] in _IN_TRAINING})
        reserved = frozenset(name for name in skills if self._proposals[name].spec.never_done)
        unavailable = frozenset((skills.keys() | entries.keys()) - completed.keys() - training.keys() - reserved)
        return LibraryView(
            facts=self.facts,
            completed=completed,
            training=training,
            unavailable=unavailable,
            reserved=reserved,
            measured={name: _measured(entries[name]) for name in completed if name in entries},
            differences={name: lines for name in completed if (lines := _differences(skills[name]))},
            reasons={name: _why_unavailable(entries[name]) for name in unavailable if name in entries},
        )

    def _buildable(self, names: Iterable[str]) -> dict[str, SkillSpec]:
        """The specs of those skills that others can build on."""
        specs = {name: self._proposals[name].spec for name in names}
        return {name: spec for name, spec in specs.items() if not spec.never_done}

    def _take_over_observed(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Replaces the data of newly completed skills by what the library has, so that plans use what was observed of them."""
        for name, entry in entries.items():
            attempt = entry.get("attempt")
            is_new = name not in self._taken_over or self._taken_over[name] != attempt
            if entry["status"] != "completed" or name not in self._proposals or not is_new:
                continue
            self._taken_over[name] = attempt
            observed = {key: value for key, value in self._archived(entry["expert_idx"], name).items() if key in _OBSERVED}
            if "observed" in observed:
                earlier = self._proposals[name]
                data = {**earlier.data, **observed}
                self._proposals[name] = earlier._replace(spec=SkillSpec.from_data({"skill_name": name, **data}), data=data)
                self._keep_acyclic(name)

    def _keep_acyclic(self, name: str) -> None:
        """Takes back the gains that were added to a skill if the skills would depend on each other in a circle by them."""
        proposal = self._proposals[name]
        added = set((proposal.data.get("observed") or {}).get("added_gains", ()))
        if not added:
            return
        try:
            check_acyclic(dependency_graph({other: known.spec for other, known in self._proposals.items()}, self.facts))
        except BadInput:
            gains = {resource: amount for resource, amount in proposal.spec.gains.items() if resource not in added}
            self._proposals[name] = proposal._replace(spec=proposal.spec.model_copy(update={"gains": gains}))

    def _as_of(self, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, SkillData]:
        """The skills with what the scheduler's entries say about them; one that it does not have yet is waiting."""
        new = {"status": "waiting", "expert_idx": None}
        return {
            name: {**proposal.data, **{field: entries.get(name, new)[field] for field in new}}
            for name, proposal in list(self._proposals.items())  # another thread may propose meanwhile
        }

    def _entries(self) -> dict[str, Mapping[str, Any]]:
        return {entry["skill_name"]: entry for entry in self.scheduler.state["skills"]}


_OBSERVED = ("gains", "observed")
"""What a training may have added to a skill's data."""


def _differences(data: SkillData) -> tuple[str, ...]:
    """How what was observed of a skill differs from what it declares."""
    return tuple(difference["text"] for difference in (data.get("observed") or {}).get("differences", ()))


def _why_unavailable(entry: Mapping[str, Any]) -> str:
    """Why a skill cannot be built on, as a proposer may know it: no paths, nor other words of an unknown error."""
    error = entry.get("error") or ""
    if error.startswith(NO_PROGRESS_PREFIX):
        return error.partition("; ")[0]
    if entry["status"] == "blocked":
        return f"blocked, since it needs {', '.join(entry.get('blocked_by') or ['a skill that is not available'])}"
    return "cancelled by the user" if entry["status"] == "cancelled" else "its training ended with an error"


def _measured(entry: Mapping[str, Any]) -> Measured:
    """What an entry of the scheduler's state says about the training of its skill."""
    return Measured(*(entry.get(name) for name in ("success_rate", "random_success_rate", "frames", "frames_per_success")))


def _gate_reports(reports: Sequence[Mapping[str, Any] | None]) -> SkillData:
    """The gate's reports on a skill's rewards, in order, as ``skill_data`` holds them."""
    first, *others = reports
    if not first:
        return {}
    return {"gate": dict(first), **({"candidate_gates": [dict(report) for report in others]} if others else {})}
