"""Hand-written fakes of the front door's neighbours. They raise on anything unexpected."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable

from flowrl.proposers.base import LibraryView
from flowrl.records.rehearsal_settings import RehearsalRequest
from flowrl.skills.candidates import Offer
from flowrl.skills.spec import Amount, SkillSpec

PATIENCE_S = 120.0

DONE = "def task_is_done(inventory, n):\n    return inventory.wood >= n"
REWARD = "def task_reward(inventory_diff):\n    return 1.0 * inventory_diff.wood"


def spec(name: str, gains: str, requires: Iterable[str] = (), consumes: Iterable[str] = ()) -> SkillSpec:
    """A skill that gains one unit of a resource each time, and needs one of each of the others."""
    one = {"requires": requires, "consumes": consumes}
    return SkillSpec(
        name=name,
        gains={gains: Amount(per=1)},
        **{role: {resource: Amount(fixed=1) for resource in resources} for role, resources in one.items()},
        task_is_done=DONE,
        task_reward=REWARD,
    )


WOOD = spec("Collect_Wood", "wood")
STONE = spec("Collect_Stone", "stone")
COAL = spec("Collect_Coal", "coal")
SAPLING = spec("Collect_Sapling", "sapling")
PICKAXE = spec("Make_Pickaxe", "wood_pickaxe", consumes=["wood", "stone"])


def until(condition: Callable[[], object], what: str = "it") -> None:
    """Waits for what another thread does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {PATIENCE_S:g} s"
        time.sleep(0.005)


class ListProposer:
    """Proposes what it was given, in order; an exception in the list is raised."""

    def __init__(self, *proposals: SkillSpec | Exception, delay_s: float = 0.0):
        self.proposals = list(proposals)
        self.delay_s = delay_s
        self.views: list[LibraryView] = []
        self.was_accepted: list[str] = []
        self.state = {"kind": "list", "cost_usd": 0.0, "last_error": None}

    def propose(self, library: LibraryView, examine):
        time.sleep(self.delay_s)
        self.views.append(library)
        if not self.proposals:
            return None
        proposal = self.proposals.pop(0)
        if isinstance(proposal, Exception):
            raise proposal
        return examine(Offer.of(proposal))

    def prepare(self, is_resumed: bool) -> None:
        self.is_resumed = is_resumed

    def accepted(self, spec: SkillSpec) -> None:
        self.was_accepted.append(spec.name)

    def num_left(self, library: LibraryView) -> int:
        return len(self.proposals)

    def describe(self) -> str:
        return "a list"


class Entries:
    """A fake scheduler that only answers: the test says which skills it has, and their status."""

    def __init__(self):
        self._entries: dict[str, dict] = {}

    @property
    def state(self) -> dict:
        return {"skills": [dict(entry) for entry in self._entries.values()], "rehearsals": []}

    def has(self, name: str, status: str, dependencies: Iterable[str] = (), expert_idx: int | None = None, **results) -> None:
        known = {"skill_name": name, "dependencies": list(dependencies)} | self._entries.get(name, {})
        self._entries[name] = {**known, "status": status, "expert_idx": expert_idx, **results}


class FakeScheduler:
    """Trains nothing: the test says which training ends, and how (``finish``)."""

    def __init__(self, max_parallel: int = 2, known: Iterable[dict] = ()):
        self.max_parallel = max_parallel
        self.proposer_state: dict = {}
        self.added: list[str] = []
        self.was_interrupted = self.was_stopped = self.was_killed = False
        self._entries: dict[str, dict] = {data["skill_name"]: self._entry(**data) for data in known}
        self._rehearsals: dict[str, dict] = {}
        self._on_complete = self._on_final = self._on_rehearsal_final = lambda *arguments: None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._failure: BaseException | None = None

    @property
    def state(self) -> dict:
        with self._lock:
            skills, rehearsals = (copy.deepcopy(list(entries.values())) for entries in (self._entries, self._rehearsals))
            return {"skills": skills, "rehearsals": rehearsals, "proposer": dict(self.proposer_state)}

    def set_callbacks(self, on_skill_complete=None, on_skill_final=None, on_rehearsal_final=None, **others):
        self._on_complete = on_skill_complete or self._on_complete
        self._on_final = on_skill_final or self._on_final
        self._on_rehearsal_final = on_rehearsal_final or self._on_rehearsal_final

    def set_proposer_state(self, state: dict) -> None:
        assert {"kind", "cost_usd", "last_error"} <= state.keys()
        self.proposer_state = dict(state)

    def add_skill(self, skill_name: str, skill_data: dict, dependencies: list[str]) -> None:
        with self._lock:
            assert skill_name not in self._entries, f"{skill_name} was added twice"
            assert set(dependencies) <= self._entries.keys(), f"{skill_name} depends on what was never added"
            assert skill_data["execution_plan"][-1]["skill_name"] == skill_name
            assert not self._closed, f"{skill_name} was added after close()"
            self.added.append(skill_name)
            self._entries[skill_name] = self._entry(
                skill_name, dependencies=list(dependencies), never_done=skill_data.get("never_done", False)
            )
            self._launch()

    def run(self, completed_skills) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self.was_stopped or (self._closed and self._all_final()))
            if self._failure:
                raise self._failure

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def interrupt(self) -> None:
        self.was_interrupted = True

    def stop(self, kill: bool = False) -> None:
        with self._changed:
            self.was_stopped, self.was_killed = True, self.was_killed or kill
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The scheduler's thread ends with an error."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def finish(self, name: str, status: str = "completed") -> None:
        """A training ends; if it failed, the skills that needed it end too."""
        with self._changed:
            entry = self._entries[name]
            assert entry["status"] == "running", f"{name} is {entry['status']}"
            entry.update(status=status, success_rate=0.9, random_success_rate=0.1, frames=1000, minutes=0.5)
            blocked = [] if status == "completed" else self._block(name)
            self._launch()
        if status == "completed":
            self._on_complete(name)
        for final in [name, *blocked]:
            self._on_final(final, self._entries[final]["status"])
        with self._changed:
            self._changed.notify_all()

    def free_slots(self) -> int:
        with self._lock:
            unfinished = {name: entry for name, entry in self._entries.items() if entry["status"] in ("waiting", "running")}
            startable = [entry for entry in unfinished.values() if not unfinished.keys() & entry["dependencies"]]
            return self.max_parallel - len(startable)

    def attach_line(self, skill) -> str:
        return f"look at {skill['tmux_session']}"

    def add_rehearsal(self, request: RehearsalRequest) -> str:
        with self._lock:
            assert not self._closed, "a rehearsal was added after close()"
            name = f"rehearsal_{len(self._rehearsals) + 1}"
            num_skills = sum(entry["status"] == "completed" for entry in self._entries.values())
            about = {"frames": request.frames, "num_skills": num_skills, "achievements": None}
            self._rehearsals[name] = self._entry(name, status="running", tmux_session=f"flowrl_{name}") | about
        return name

    def finish_rehearsal(self, name: str) -> None:
        with self._changed:
            self._rehearsals[name].update(status="completed", achievements=12.5, minutes=0.5)
        self._on_rehearsal_final(name, "completed")
        with self._changed:
            self._changed.notify_all()

    def rehearsals(self) -> list[str]:
        """The names of all rehearsals that were asked for."""
        return list(self._rehearsals)

    def running(self) -> list[str]:
        return [name for name, entry in self._entries.items() if entry["status"] == "running"]

    def _entry(self, skill_name: str, status: str = "waiting", dependencies=(), expert_idx=None, **others) -> dict:
        blank = dict.fromkeys(
            ("tmux_session", "run_folder", "started_at", "completed_at", "frames", "goal_reached", "success_rate",
             "random_success_rate", "error", "minutes")
        )  # fmt: skip
        return blank | {
            "skill_name": skill_name, "status": status, "dependencies": list(dependencies), "expert_idx": expert_idx,
            "attempt": 0, "retry_count": 0, "blocked_by": [],
            **others,
        }  # fmt: skip

    def _launch(self) -> None:
        for entry in self._entries.values():
            ready = all(self._entries[name]["status"] == "completed" for name in entry["dependencies"])
            if entry["status"] == "waiting" and ready and len(self.running()) < self.max_parallel:
                entry.update(status="running", attempt=1, expert_idx=len(self.added), tmux_session="flowrl_e0_X")

    def _block(self, culprit: str) -> list[str]:
        blocked = [e for e in self._entries.values() if culprit in e["dependencies"] and e["status"] == "waiting"]
        for entry in blocked:
            entry.update(status="blocked", blocked_by=[culprit])
        return [entry["skill_name"] for entry in blocked]

    def _all_final(self) -> bool:
        return all(entry["status"] not in ("waiting", "running") for entry in self._entries.values())
