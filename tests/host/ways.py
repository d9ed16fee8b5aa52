"""Every way of stepping, and what a batch does in some steps."""

from __future__ import annotations

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from flowrl.host import ParallelEnv, SequentialVecEnv, ThreadVecEnv, from_gymnasium, to_gymnasium
from flowrl.host.spaces import flat, leaves

WAYS = {
    "sequential": SequentialVecEnv,
    "threads": lambda env_fns, **options: ThreadVecEnv(env_fns, num_workers=2, **options),
    "spawn": lambda env_fns, **options: ParallelEnv(env_fns, num_workers=2, **options),
    "forkserver": lambda env_fns, **options: ParallelEnv(env_fns, "forkserver", num_workers=2, **options),
}
"""Without fork, which a process that has JAX in it cannot use."""

ADAPTED = {
    "there and back": lambda env_fns: from_gymnasium(to_gymnasium(WAYS["spawn"](env_fns))),
    "Gymnasium's own": lambda env_fns: from_gymnasium(SyncVectorEnv(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)),
}


def transitions(env, steps: int = 60, seed: int = 5) -> list[np.ndarray]:
    """All that a batch gives in some random steps, but rows of ``final_obs`` that mean nothing."""
    parts = leaves(env.single_observation_space)
    env.single_action_space.seed(1)
    found = flat(parts, env.reset(seed=seed))
    for _ in range(steps):
        actions = np.stack([env.single_action_space.sample() for _ in range(env.num_envs)])
        result = env.step(actions)
        ended = result.terminated | result.truncated
        found += [*flat(parts, result.observations), result.rewards, result.terminated, result.truncated]
        found += [array[ended] for array in flat(parts, result.final_obs)]
        if (masks := env.get_action_masks()) is not None:
            found.append(masks)
    return [*found, *env.get_episode_stats()]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other))
