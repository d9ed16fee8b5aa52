"""What a run reports to and is controlled by: the user at the pane, the scheduler (heartbeats, requests to stop), the
tracker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

from flowrl.errors import FlowrlError
from flowrl.records.heartbeat import Activity
from flowrl.tracking.trackers import Tracker
from flowrl.training.host import process
from flowrl.training.host.process import Lifetime
from flowrl.training.run.clock import Clock
from flowrl.training.run.pane import Pane, PictureFile
from flowrl.training.run.specification import RunSpecification
from flowrl.training.run.view import View

T = TypeVar("T")


class Stopped(FlowrlError):
    """The run was asked to end early; its last checkpoint is written."""

    exit_code = 143


class Supervision(NamedTuple):
    """The interface through which every part of a run reports, and learns of requests to stop."""

    skill_name: str
    pane: Pane
    tracker: Tracker
    lifetime: Lifetime
    clock: Clock
    phase: str = "training"
    """What the pane shows while the run makes updates."""

    def beat(self) -> None:
        """Sends a heartbeat of ongoing work: after each update, or at each check of a test."""
        self.lifetime.beat(Activity.TRAINING, self.clock.seconds_per_update)

    def compiling(self) -> None:
        """Sends a heartbeat after which the next one may take long."""
        self.lifetime.beat(Activity.COMPILING)

    def stop_if_asked(self) -> None:
        """Raises Stopped if the run was asked to end; everything learned must be in a checkpoint by then."""
        if self.lifetime.asked_to_stop:
            raise Stopped(f"{self.skill_name} was asked to stop; it resumes from its newest checkpoint")

    @contextlib.contextmanager
    def one_update(self) -> Iterator[None]:
        """Counts the block as an update."""
        begun_s = time.monotonic()
        yield
        is_first = self.clock.first_update_s is None
        self.clock.count(time.monotonic() - begun_s)
        if is_first:
            self.pane.line(f"first update after {self.clock.first_update_s:.1f} s")
        self.pane.phase(self.phase)

    def sheltered(self) -> contextlib.AbstractContextManager:
        """A first Ctrl-C waits until the end of the block, if the process has learned something worth waiting for."""
        return self.lifetime.uninterrupted() if self.clock.first_update_s else contextlib.nullcontext()

    def when_there_is_room(self, write: Callable[[], T], folder: Path) -> T:
        """Calls ``write``, again and again while the disk has no room.

        Raises:
            Stopped: the run was asked to end during that.
        """
        said: list[str] = []

        def wait(message: str) -> None:
            if said[-1:] != [message]:
                self.pane.line(message)
                said.append(message)
            self.pane.phase("paused, the disk cannot be written")
            self.lifetime.beat(Activity.PAUSED)
            self.stop_if_asked()
            time.sleep(process.ROOM_POLL_S)

        written = process.when_there_is_room(write, folder, wait)
        if said:
            self.pane.line("the disk can be written again; training continues")
            self.pane.phase(self.phase)
        return written


@contextlib.contextmanager
def watched(run: RunSpecification, view: View, tracker: Tracker, lifetime: Lifetime) -> Iterator[Supervision]:
    """The supervision of a run from here to the end of the block, its pane included."""
    with Pane(view, run.paths.log, picture_file=PictureFile(run.paths.pane, run.attempt)) as pane:
        pane.phase("preparing")
        clock = Clock(psutil.Process().create_time(), run.settings.frames_per_update)
        yield Supervision(run.skill_name, pane, tracker, lifetime, clock)
