"""Compiles programs in threads during a training, once it has made its first update."""

from __future__ import annotations

from flowrl.training.host.fair_lock import FairLock
from flowrl.training.learning.networks import Params
from flowrl.training.playing.environments import Playing
from flowrl.training.playing.fused_rollout import Rollouts
from flowrl.training.playing.programs import Programs
from flowrl.training.run import compile_ahead
from flowrl.training.run.supervision import Supervision


class BackgroundCompiling:
    """Compiles programs for this run's rollouts, and for later runs."""

    def __init__(self, programs: Programs, rollouts: Rollouts, turn: FairLock, supervision: Supervision):
        self._programs, self._rollouts, self._turn, self._supervision = programs, rollouts, turn, supervision
        self._has_begun = False
        self._lines: list[str] = []
        """Lines for the log, from the threads."""

    def go_on(self, params: Params, playing: Playing) -> None:
        """Call it after each update: starts after the first one, and reports the outcome after later ones."""
        if not self._has_begun:
            self._has_begun = True
            self._begin(params, playing)
        while self._lines:
            self._supervision.pane.line(self._lines.pop(0))

    def _begin(self, params: Params, playing: Playing) -> None:
        self._programs.store.remember()
        self._rollouts.fuse_beside(params, playing, self._lines.append)
        lifetime = self._supervision.lifetime
        compile_ahead.begin(self._programs, self._turn, lambda: not lifetime.asked_to_stop, self._lines.append)
