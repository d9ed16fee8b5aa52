"""What a run uses: where its time goes, and its memory."""

from __future__ import annotations

from typing import NamedTuple

import jax
import psutil


class TimeShares(NamedTuple):
    """Shares of the time since the first update; together 1."""

    playing: float
    """Rollouts."""
    network: float | None
    """The network's part of ``playing``, from 0 to 1, as of the latest rollout in which it was measured; None before."""
    update: float
    """Learning from rollouts."""
    rest: float
    """Tests, checkpoints and waiting."""

    def described(self) -> str:
        """``game 40%, network 20%, update 35%, rest 5%``; game and network as ``playing`` if they were not measured apart."""
        if self.network is None:
            parts = {"playing": self.playing}
        else:
            parts = {"game": self.playing * (1 - self.network), "network": self.playing * self.network}
        parts |= {"update": self.update, "rest": self.rest}
        return ", ".join(f"{name} {share:.0%}" for name, share in parts.items())


class MemoryUse(NamedTuple):
    """Memory of a run's process, in bytes."""

    process: int
    device: int | None
    """On the accelerator; None without one."""
    device_limit: int | None
    """What it may use there."""

    def described(self) -> str:
        """``1.2 GB``, or ``1.2 GB, GPU 3.4 of 8.0 GB``."""
        here = f"{self.process / 1e9:.1f} GB"
        if self.device is None:
            return here
        limit = f" of {self.device_limit / 1e9:.1f}" if self.device_limit else ""
        return f"{here}, {jax.default_backend().upper()} {self.device / 1e9:.1f}{limit} GB"


def memory_now() -> MemoryUse:
    """What this process uses now. CPUs do not say what of it is JAX's."""
    known = jax.devices()[0].memory_stats() or {}
    return MemoryUse(psutil.Process().memory_info().rss, known.get("bytes_in_use"), known.get("bytes_limit"))
