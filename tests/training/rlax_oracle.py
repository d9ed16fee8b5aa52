"""What rlax computes for random steps: makes ``rlax_vtrace.json``, which tests compare with.

rlax needs a nightly TensorFlow Probability, so it is in no environment of flowrl's. To make the file again:

    pip install rlax==0.1.9      # in an environment of its own
    python tests/training/rlax_oracle.py
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import rlax

STORED = Path(__file__).with_name("rlax_vtrace.json")
NUM_STEPS = 9


def case(seed: int) -> dict:
    """One environment's steps, and what rlax makes of them. Every case has an end, most have a truncation too."""
    random = np.random.default_rng(seed)
    rewards, values = random.normal(0, 3, (2, NUM_STEPS)).round(3)
    last_value = float(random.normal(0, 3))
    continues = random.random(NUM_STEPS) < 0.75
    continues[random.integers(NUM_STEPS)] = False
    truncation_values = np.where(continues | (random.random(NUM_STEPS) < 0.4), 0.0, random.normal(0, 3, NUM_STEPS)).round(3)
    ratios = np.exp(random.normal(0, 0.7, NUM_STEPS)).round(3)
    gamma, weight = random.uniform(0.5, 1.0, 2).round(3).tolist()
    max_ratio = (1.0, 2.0)[seed % 2]
    return {
        "rewards": rewards.tolist(),
        "values": values.tolist(),
        "last_value": last_value,
        "continues": continues.tolist(),
        "truncation_values": truncation_values.tolist(),
        "ratios": ratios.tolist(),
        "gamma": gamma,
        "lambda": weight,
        "max_ratio": max_ratio,
        **by_rlax(rewards, values, last_value, continues, truncation_values, ratios, gamma, weight, max_ratio),
    }


def by_rlax(rewards, values, last_value, continues, truncation_values, ratios, gamma, weight, max_ratio) -> dict:
    following = np.append(values[1:], last_value)
    # rlax has no truncations: where an episode ends its discount is 0, so what was still to come is paid as a reward.
    paid = rewards + gamma * np.where(continues, 0.0, truncation_values)
    steps = [jnp.float32(array) for array in (values, following, paid, gamma * continues)]
    traced = rlax.vtrace_td_error_and_advantage(
        *steps, jnp.float32(ratios), lambda_=weight, clip_rho_threshold=max_ratio, clip_pg_rho_threshold=max_ratio
    )
    values_and_last = jnp.float32(np.append(values, last_value))
    advantages = rlax.truncated_generalized_advantage_estimation(steps[2], steps[3], weight, values_and_last)
    return {
        "errors": np.asarray(traced.errors).tolist(),
        "q_estimate": np.asarray(traced.q_estimate).tolist(),
        "pg_advantage": np.asarray(traced.pg_advantage).tolist(),
        "generalized_advantages": np.asarray(advantages).tolist(),
    }


if __name__ == "__main__":
    found = {"rlax": importlib.metadata.version("rlax"), "cases": [case(seed) for seed in range(12)]}
    STORED.write_text(json.dumps(found, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")
