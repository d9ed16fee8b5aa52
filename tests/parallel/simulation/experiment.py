"""A simulated experiment: a scheduler that is started, killed and restarted, in a world that continues."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from flowrl.parallel.core import SchedulerCore
from flowrl.parallel.dispatcher import Dispatcher
from flowrl.parallel.events import Paused, Resumed, SkillAdded
from flowrl.records.scheduler_state import FINAL, USELESS, SchedulerState, Stage, Status
from tests.parallel.simulation.cluster import ClusterHands, ClusterWorld
from tests.parallel.simulation.hands import SimulatedHands
from tests.parallel.simulation.world import SchedulerKilled, World, WorldRecords, demand

PASSES = 40


@dataclass(frozen=True)
class Parts:
    """What the scheduler is made of; a test plants bugs by putting other parts in."""

    core: type[SchedulerCore] = SchedulerCore
    dispatcher: type[Dispatcher] = Dispatcher
    hands: type[SimulatedHands] = SimulatedHands
    cluster_hands: type[ClusterHands] = ClusterHands
    cluster: type[ClusterWorld] = ClusterWorld
    on_cluster: bool | None = None
    """Whether every history is one on a cluster, or none; None: half of them are."""

    def hands_for(self, world: World) -> SimulatedHands:
        """The hands that fit the world's engine."""
        return (self.cluster_hands if world.is_cluster else self.hands)(world)


@dataclass
class Experiment:
    parts: Parts = Parts()
    world: World = field(default_factory=World)
    dispatcher: Dispatcher | None = None
    events: int = 0
    frames: dict[str, int] = field(default_factory=dict)
    """The most frames that each expert of the library was ever seen with."""
    found_running: int = 0
    """After falling back to an older state, more may be found running than there are slots; then no more are added."""

    # The life of a scheduler.

    def start(self, retry_failed: bool = False, from_previous: bool = False) -> None:
        """Starts a scheduler on whatever state was saved; ``from_previous``: the newest file turned out to be torn."""
        saved = self.world.saved[:-1] if from_previous and len(self.world.saved) > 1 else self.world.saved
        self.world.fell_back |= from_previous
        self.world.engine_answered_at_start = self.world.engine_answers
        state = SchedulerState.model_validate_json(saved[-1]) if saved else SchedulerState()
        state.max_parallel = self.world.max_parallel
        core = self.parts.core(state, max_retries=self.world.max_retries)
        self.dispatcher = self.parts.dispatcher(
            core, self.parts.hands_for(self.world), self._save, clock=lambda: self.world.now
        )
        known = self.world.saved
        retried = [entry.skill_name for entry in state.skills if retry_failed and entry.status in USELESS]
        self._do(lambda: self.dispatcher.begin(WorldRecords(self.world), retry_failed))
        may_be_more = self.world.fell_back or self.world.is_cluster  # jobs could not be ended while the queue was silent
        self.found_running = len(state.currently_running) if may_be_more else 0
        self._do(lambda: self.dispatcher.tell(Resumed()))
        if self.world.saved is not known:
            for name in retried:
                self.world.failures.pop(name, None)
                self.world.given_up.discard(name)

    def kill(self) -> None:
        self.dispatcher = None

    def leave(self, and_end_trainings: bool) -> None:
        """The scheduler is stopped in good order."""
        self._do(lambda: self.dispatcher.settle(lambda: and_end_trainings))
        self.kill()

    def add(self, name: str, dependencies: tuple[str, ...]) -> None:
        self._do(lambda: self.dispatcher.tell(SkillAdded(name, {"skill_name": name}, dependencies)))

    def pause(self, paused: bool) -> None:
        self._do(lambda: self.dispatcher.tell(Paused() if paused else Resumed()))

    def tell_again(self, number: int) -> None:
        """A report reaches the scheduler a second time, however late."""
        if self.world.reports:
            report = self.world.reports[number % len(self.world.reports)]
            self._do(lambda: self.dispatcher.tell(report))

    def step(self, deeds: int | None = None) -> None:
        """One pass of the scheduler's loop, which gets as far as ``deeds`` of its decisions (all of them)."""
        self._do(lambda: self._pass(deeds))
        self.check()

    def _pass(self, deeds: int | None) -> None:
        done = 0
        while self.dispatcher.actions and (deeds is None or done < deeds):
            self.dispatcher.perform()
            done += 1
        self.dispatcher.hands.ask_engine()
        self.dispatcher.look()

    def _do(self, deed) -> None:
        if self.dispatcher is None:
            return
        try:
            deed()
        except SchedulerKilled:
            self.kill()

    def _save(self, state: SchedulerState) -> None:
        self.world.save(state.model_dump_json())

    # What must hold at every moment.

    def check(self) -> None:
        for name, version in self.world.library.items():
            demand(version.frames >= self.frames.get(name, 0), f"{name} has lost frames")
            self.frames[name] = version.frames
        indices = [version.index for version in self.world.library.values()]
        demand(len(set(indices)) == len(indices), f"an expert index has two owners: {self.world.library}")
        for process in self.world.processes:
            demand(len(self.world.living_of(process.folder.name)) == 1, f"{process.folder.name} runs twice")
        if self.dispatcher is not None:
            self._check_state()

    def _check_state(self) -> None:
        core = self.dispatcher.core
        state, entries = core.state, core.entries
        running = [entry for entry in state.skills if entry.status is Status.RUNNING]
        demand(sorted(state.currently_running) == sorted(e.skill_name for e in running), "currently_running is wrong")
        most = max(state.max_parallel, self.found_running)
        demand(len(running) <= most, f"{len(running)} skills run in {state.max_parallel} slots")
        share = len({entry.slot for entry in running}) < len(running)  # as they must, where more were found than fit
        demand(self.world.fell_back or self.found_running > state.max_parallel or not share, "two skills share a slot")
        for entry in state.skills:
            name, spent = entry.skill_name, entry.retry_count
            demand(spent <= self.world.max_retries, f"{name} is retried too often")
            demand(self.world.fell_back or spent <= self.world.failures.get(name, 0), f"{name} has spent a retry for nothing")
            demand(entry.status is Status.RUNNING or not entry.stopping, f"{name} is being stopped, and is {entry.status}")
            if entry.status is Status.COMPLETED:
                demand(entry.skill_name in self.world.library, f"{entry.skill_name} is completed, and not in the library")
            if entry.status is Status.BLOCKED:
                culprits = {entries[name].status for name in entry.blocked_by}
                demand(bool(culprits) and culprits <= USELESS, f"{entry.skill_name} is blocked by {entry.blocked_by}")
            if entry.status in (Status.FAILED, Status.CANCELLED):
                demand(bool(entry.error), f"{entry.skill_name} is {entry.status} without a reason")
            demand(
                entry.status is not Status.RUNNING or all(name in self.world.library for name in entry.dependencies),
                f"{entry.skill_name} runs before what it needs",
            )
        demand(core.is_complete() == all(entry.status in FINAL for entry in state.skills), "completeness is wrong")

    # The end.

    def run_to_the_end(self) -> None:
        """From here on nothing goes wrong any more: every skill has to end, in few passes."""
        world = self.world
        world.effects_left, world.engine_answers = None, True
        world.launch_refusals = world.merge_refusals = world.damages = world.slow_steps = world.library_held_for = 0
        if self.dispatcher is None:
            self.start()
        self.pause(False)
        for _ in range(PASSES):
            self.step()
            if self.dispatcher.core.is_complete() and not self.dispatcher.actions:
                return self._check_end()
            world.engine_works()
            for process in list(world.processes):
                process.silent = process.hung
                if not process.hung:
                    world.finish(process, "completed")
            world.now += timedelta(seconds=1000)
        demand(False, f"something waits forever: {self._statuses()}")

    def _check_end(self) -> None:
        completed = {name for name, status in self._statuses().items() if status is Status.COMPLETED}
        # A merge may have been killed when it was all but done, and the last try at it refused: it failed, with all in place.
        half_merged = {entry.skill_name for entry in self.dispatcher.core.state.skills if entry.stage is Stage.MERGING}
        library = set(self.world.library)
        demand(completed <= library <= completed | half_merged, f"the library is {library}, and {completed} are completed")
        demand(not self.world.processes, f"a training is left over: {self.world.processes}")
        for entry in self.dispatcher.core.state.skills:
            needs = [self.dispatcher.core.entries[name].status for name in entry.dependencies]
            if entry.status is Status.BLOCKED:
                demand(any(status in USELESS for status in needs), f"{entry.skill_name} is blocked by nothing")
        for folder in self.world.folders.values():
            demand(folder.name not in library - half_merged, f"the run of {folder.name} was not merged, or not removed")

    def _statuses(self) -> dict[str, Status]:
        return {entry.skill_name: entry.status for entry in self.dispatcher.core.state.skills}
