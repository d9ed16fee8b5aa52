"""The generation loop: proposes skills while a slot is free and the frontier is open, and otherwise waits for news.

It runs in the main thread beside the scheduler's thread, and each proposal is made in its own thread: a slow
proposer never delays a launch, a merge, or a line about what has finished.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flowrl.errors import BadInput, FlowrlError
from flowrl.experiment.flow_graph import FlowGraph, SkillData
from flowrl.report.announcements import Announcer

LOOK_EVERY_S = 0.5
"""Launches are reported this often; the end of a run is noticed at once."""


class Scheduler(Protocol):
    """What the loop needs of :class:`flowrl.parallel.scheduler.SkillScheduler`."""

    max_parallel: int

    @property
    def state(self) -> Mapping[str, Any]: ...

    def free_slots(self) -> int: ...

    def attach_line(self, skill: Mapping[str, Any]) -> str: ...

    def add_skill(self, skill_name: str, skill_data: dict[str, Any], dependencies: list[str]) -> None: ...

    def set_callbacks(self, **callbacks: Callable) -> None: ...

    def set_proposer_state(self, state: dict[str, Any]) -> None: ...

    def run(self, completed_skills: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class MoreWork(Protocol):
    """What asks for more than new skills: rehearsals, or further training."""

    def look(self) -> None:
        """Asks for what is due."""
        ...

    def look_at_the_end(self) -> bool:
        """Asks for what is due when no more skills are proposed; returns whether nothing more is to come."""
        ...


class Generation:
    """One start of an experiment: proposals in this thread, scheduling in another.

    Args:
        max_nodes: skills that the flow graph may hold, those of earlier starts included; one that is never done is not
            counted.
        more: asks for more work in between, and at the end.
        say: takes a line for the terminal.
        explore_frames: frames to train Explore for before anything is proposed; 0: it is not trained.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        flow_graph: FlowGraph,
        max_nodes: int,
        more: MoreWork,
        say: Callable[[str], None],
        explore_frames: int = 0,
    ):
        self.scheduler = scheduler
        self.flow_graph = flow_graph
        self.max_nodes = max_nodes
        self._more = more
        self.explore_frames = explore_frames
        self.proposer_error: str | None = None
        """Why the proposer gave up, None while it has not."""
        self._say = say
        self._announcer = Announcer(say, scheduler.attach_line, _entries(scheduler.state))
        self._newest = next((entry["skill_name"] for entry in reversed(scheduler.state["skills"])), None)
        self._news = threading.Event()
        self._library: dict[str, SkillData] = {}
        self._thread = threading.Thread(target=self._schedule, name="scheduler", daemon=True)
        self._scheduler_error: BaseException | None = None
        self._stored_state: dict[str, Any] | None = None
        self._is_closed = False
        """Whether nothing more is asked for: all was, or the user has interrupted."""

    def run(self) -> None:
        """Returns when every skill has a final status and no more will come.

        Raises:
            BadInput: the very first proposal cannot be used.
            Exception: whatever ended the scheduler's thread.
        """
        self._library = self.flow_graph.completed()
        self._thread.start()
        try:
            if self.explore_frames:
                self._explore()
            self._generate()
            self._ask_last()
        finally:
            self._is_closed = True
            self.scheduler.close()
        self.join()
        if self._scheduler_error is not None:
            raise self._scheduler_error

    def on_final(self, name: str, status: str) -> None:
        """The scheduler's callback about skills and rehearsals, in its thread: wakes the loop, for any final status."""
        self._news.set()

    def join(self) -> None:
        """Waits for the scheduler's thread to end, and reports what happens meanwhile."""
        while self._thread.is_alive():
            self.wait_for_news()
        self.look()

    def wait_for_news(self) -> None:
        self._news.wait(LOOK_EVERY_S)
        self._news.clear()
        self.look()
        if self._thread.is_alive() and not self._is_closed:
            self._more.look()

    def look(self) -> None:
        """Reports what is new in the scheduler's state."""
        self._announcer.look(_entries(self.scheduler.state))

    def _explore(self) -> None:
        """Has Explore trained, unless an earlier start did; returns once it is in the library, or will not come."""
        name = self.flow_graph.never_done()
        try:
            if name is None:
                name, data = self.flow_graph.explore(self.explore_frames)
                self._add(name, data)
                self._newest = name
                self._say(f"proposed   {name}; the other skills wait for it")
        except FlowrlError as error:
            self._say(f"continuing without Explore: {error}")
            return
        while self._thread.is_alive() and name in self.flow_graph.in_training() and not self.flow_graph.is_in_library(name):
            self.wait_for_news()
        if self._thread.is_alive() and not self.flow_graph.is_in_library(name):
            self._say(f"continuing without {name}: it has {self.flow_graph.skills[name]['status']}")

    def _num_skills(self) -> int:
        """Those that `max_nodes` counts."""
        return sum(not entry.get("never_done") for entry in self.scheduler.state["skills"])

    def _generate(self) -> None:
        while self._thread.is_alive() and self._num_skills() < self.max_nodes:
            if not self.scheduler.free_slots() or self.is_blocked():
                self.wait_for_news()
            elif not self._propose():
                return

    def _ask_last(self) -> None:
        """Waits for what is under way, and for more work that is due once no more skills are proposed."""
        while self._thread.is_alive() and not self._more.look_at_the_end():
            self.wait_for_news()

    def is_blocked(self) -> bool:
        """Whether the newest skill still waits for one in training."""
        skill = self.flow_graph.in_training().get(self._newest)
        return skill is not None and self.flow_graph.check_frontier_blocked(self._newest, skill)

    def _propose(self) -> bool:
        """Adds the next skill; False when no more will come."""
        try:
            found = self._next_skill()
            if found is None:
                if self._thread.is_alive():
                    self._say("The proposer has no more skills.")
                return False
            name, data = found
            dependencies = self._add(name, data)
        except FlowrlError as error:
            return self._give_up(error)
        finally:
            self._store_proposer_state()
        self._newest = name
        self._say(f"proposed   {name}" + (f", on top of {', '.join(dependencies)}" if dependencies else ""))
        if self.is_blocked():
            self._say("           frontier blocked: the next skill is proposed when one in training has finished")
        return True

    def _add(self, name: str, data: SkillData) -> list[str]:
        """Gives a skill to the scheduler; returns its dependencies. A skill that is not accepted is forgotten."""
        try:
            dependencies = self.flow_graph.dependencies(name)
            self.scheduler.add_skill(name, data, dependencies)
        except BaseException:
            self.flow_graph.drop(name)
            raise
        self.flow_graph.added(name)
        return dependencies

    def _next_skill(self) -> tuple[str, SkillData] | None:
        """The next skill; None if there is none, or if the scheduler's thread ends. Reports what happens meanwhile."""
        results: list[tuple[tuple[str, SkillData] | None, BaseException | None]] = []

        def ask() -> None:
            try:
                results.append((self.flow_graph.next_skill(), None))
            except BaseException as error:  # raised again in the main thread, whatever it is
                results.append((None, error))
            finally:
                self._news.set()

        threading.Thread(target=ask, name="proposer", daemon=True).start()
        while not results and self._thread.is_alive():
            self.wait_for_news()
            self._store_proposer_state()
        found, error = results[0] if results else (None, None)
        if error is not None:
            raise error
        return found

    def _store_proposer_state(self) -> None:
        state = {**self.flow_graph.proposer.state, **self._gave_up()}
        if state != self._stored_state:
            self.scheduler.set_proposer_state(state)
            self._stored_state = state

    def _give_up(self, error: FlowrlError) -> bool:
        if isinstance(error, BadInput) and not self._newest:
            raise error
        self.proposer_error = str(error)
        self._say(f"No more skills are proposed: {error}")
        return False

    def _gave_up(self) -> dict[str, str]:
        return {} if self.proposer_error is None else {"last_error": self.proposer_error}

    def _schedule(self) -> None:
        try:
            self.scheduler.run(self._library)
        except BaseException as error:  # raised again in the main thread, whatever it is
            self._scheduler_error = error
        finally:
            self._news.set()


def _entries(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*state["skills"], *state["rehearsals"]]
