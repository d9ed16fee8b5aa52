"""What host environments should do on more cores than were measured: computed, not measured.

    python benchmarks/host_scaling.py
    python benchmarks/host_scaling.py --actor_us 30 --learner_us 13       # of CartPole on your machine: actor_learner.py

Steps: the model by which ``auto`` chooses (`flowrl.host.choice.expected_s`): the environments of a worker one after the
other, a wake-up, and a little for each worker. Actors and a learner: an actor needs ``actor_s`` of a core for a frame, the
learner ``learner_s``, and it learns on one core. So frames per second are the cores over the work of a frame, and never more
than one core learns from. Both are limits: what a memory bus or a crowded socket takes away is not in them.
"""

from __future__ import annotations

import argparse

from flowrl.host.choice import StepCost, expected_s

CORES = (1, 2, 4, 8, 16, 32, 64)
STEPS_MS = (0.02, 0.2, 2.0, 20.0)
ENVS_OF_A_CORE = 4
ACTOR_US, LEARNER_US = 15.2, 6.6
"""Processor time of a frame of CartPole with ``impala`` and 2 x 8 environments, as ``actor_learner.py`` measured it."""
STEP_OF_CARTPOLE_US = 7.0
"""Of ``ACTOR_US``, what the environment takes; the rest is the policy, and copies."""


def step_ratio(step_s: float, cores: int) -> float:
    """How many times as fast as sequential a step of `ParallelEnv` should be, with ``ENVS_OF_A_CORE`` environments a core."""
    expected = expected_s(StepCost(step_s, step_s), ENVS_OF_A_CORE * cores, cores)
    return expected["sequential"] / expected["processes"]


def frames_per_s(actor_s: float, learner_s: float, cores: int) -> float:
    """Of actors and a learner that keep all cores busy, as far as one core can learn from what they collect."""
    return min(cores / (actor_s + learner_s), 1 / learner_s)


def cores_a_learner_keeps_busy(actor_s: float, learner_s: float) -> float:
    """With more, the learner is the bottleneck."""
    return (actor_s + learner_s) / learner_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--actor_us", type=float, default=ACTOR_US, help="microseconds of an actor's core, of CartPole's frame")
    parser.add_argument("--learner_us", type=float, default=LEARNER_US, help="microseconds of the learner's core for a frame")
    options = parser.parse_args()
    cores = " | ".join(map(str, CORES))
    print(f"Computed: ParallelEnv over sequential, {ENVS_OF_A_CORE} environments a core\n")
    print(f"| a step takes | {cores} cores |\n|{'---|' * (1 + len(CORES))}")
    for step_ms in STEPS_MS:
        print(f"| {step_ms:g} ms | {' | '.join(f'{step_ratio(step_ms / 1e3, count):.1f}' for count in CORES)} |")
    print("\nComputed: frames/s of actors and a learner\n")
    print(f"| a step takes | {cores} cores | busy up to |\n|{'---|' * (2 + len(CORES))}")
    policy_s, learner_s = (options.actor_us - STEP_OF_CARTPOLE_US) / 1e6, options.learner_us / 1e6
    for step_ms in STEPS_MS:
        actor_s = policy_s + step_ms / 1e3
        rates = " | ".join(f"{frames_per_s(actor_s, learner_s, count):,.0f}" for count in CORES)
        print(f"| {step_ms:g} ms | {rates} | {cores_a_learner_keeps_busy(actor_s, learner_s):.0f} cores |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
