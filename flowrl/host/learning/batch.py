"""The batch of environments that settings ask for. It is made before JAX is imported: a process with JAX cannot be forked."""

from __future__ import annotations

from typing import Any

from flowrl.host.choice import make_vec
from flowrl.host.environments import MakeEnvironment
from flowrl.host.interface import VecEnv
from flowrl.host.learning.settings import BatchSettings


def announce(settings: BatchSettings) -> None:
    """Prints how many environments there will be."""
    if settings.n_envs == 1:
        print("🚀 Using 1 environment for training", flush=True)
        return
    print(f"🚀 Using {settings.n_envs} parallel environments for training")
    print(f"   Start method: {settings.parallel_start_method}\n")
    print(f"Parallel mode: {settings.n_envs} environments", flush=True)


def make_batch(settings: BatchSettings) -> VecEnv:
    """The batch to train on. A worker that is lost is replaced: one crash of a simulator must not end a training.

    Results are not copied: what collects them is done with observations before the next step.
    """
    options: dict[str, Any] = {"copy": False}
    if settings.method in ("auto", "threads", "processes"):
        options |= {"num_workers": settings.num_workers or "auto", "timeout_s": settings.timeout_s}
    if settings.method in ("auto", "processes"):
        options["respawn"] = True
        options["start_method"] = None if settings.parallel_start_method == "default" else settings.parallel_start_method
    return make_vec([MakeEnvironment(settings.env)] * settings.n_envs, settings.method, **options)
