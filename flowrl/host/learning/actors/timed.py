"""Sequential training beside parallel training: which of them to use for these environments on this machine."""

from __future__ import annotations

import time
from typing import NamedTuple

from flowrl.host.learning import batch
from flowrl.host.learning.actors.settings import ActorLearnerSettings
from flowrl.host.learning.pace import Pace
from flowrl.host.learning.settings import PPOSettings
from flowrl.host.learning.trainer import PPOTrainer

_CLEARLY = 1.1
"""How much faster one must be to be called faster: other programs on the machine change a measurement by less."""


class Sequential(NamedTuple):
    """What sequential training was measured to be."""

    frames_per_s: float
    gradient_steps: int
    """In an update."""


def sequential_settings(settings: ActorLearnerSettings) -> PPOSettings:
    """PPO on as many of the same environments, in one process."""
    return PPOSettings(
        env=settings.env,
        n_envs=settings.n_envs,
        method="sequential",
        layer_size=settings.layer_size,
        device=settings.device,
        seed=settings.seed,
    )


def measured(settings: PPOSettings, seconds: float) -> Sequential:
    """Trains for about so long, and leaves nothing. At least one update is measured, however long that takes."""
    pace, deadline = Pace(), time.monotonic() + seconds
    with batch.make_batch(settings) as env:
        trainer = PPOTrainer(env, settings)
        while pace.frames_per_s is None or time.monotonic() < deadline:
            made = trainer.train_episode_vectorized()
            pace.add(made.frames, made.rollout_s + made.update_s)
        images = trainer.sees_images
    return Sequential(pace.frames_per_s, settings.epochs(images) * settings.minibatches(images))


def table(settings: ActorLearnerSettings, sequential: Sequential, parallel: float) -> str:
    """Both in a table, and which one to use.

    Args:
        parallel: frames per second.
    """
    frames, before = sequential_settings(settings).frames_per_update, sequential.frames_per_s
    parallel_name = f"Parallel ({settings.actors} workers × {settings.num_envs_per_worker} envs)"
    rows = [
        ("Mode", "FPS", "Iteration Time", "Status"),
        (f"Sequential ({settings.n_envs} envs)", f"{before:,.0f}", f"{frames / before:.3g} s", "1.00 x"),
        (parallel_name, f"{parallel:,.0f}", f"{frames / parallel:.3g} s", f"{parallel / before:.2f} x"),
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [f"| {' | '.join(f'{cell:{width}}' for cell, width in zip(row, widths))} |" for row in rows]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    advice = _advice(settings, frames, sequential, parallel)
    return "\n".join([*lines, "", f"An iteration is {frames:,} frames, collected and learned from.", advice])


def _advice(settings: ActorLearnerSettings, frames: int, sequential: Sequential, parallel: float) -> str:
    faster = parallel / sequential.frames_per_s
    if faster < _CLEARLY:
        how = "slower" if faster < 1 / _CLEARLY else "no faster"
        return (
            f"Use sequential training here (python -m flowrl.host.train_ppo --n-envs {settings.n_envs}): parallel is {how}, "
            "and sequential is deterministic."
        )
    steps = settings.epochs * settings.minibatches * frames / settings.frames_per_update
    return (
        f"Use parallel training here: {faster:.2f} x as many frames per second. Frames are not everything: sequential PPO "
        f"makes {sequential.gradient_steps} gradient steps in an iteration, {settings.algorithm} makes {steps:.3g}."
    )
