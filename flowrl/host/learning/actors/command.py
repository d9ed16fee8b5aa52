"""What the commands that train with actors do before JAX is imported."""

from __future__ import annotations

from flowrl.host.learning import devices
from flowrl.host.learning.actors.settings import ActorLearnerSettings


def prepare(settings: ActorLearnerSettings) -> None:
    """Prepares the device, and says what will happen.

    Raises:
        BadInput: JAX finds no such device.
    """
    devices.prepare(settings.device)
    print(f"🚀 Using {settings.actors} workers with {settings.num_envs_per_worker} environments each, and a learner")
    if settings.synchronous:
        print("   Synchronous: workers wait for each update; the same seed gives the same training")
    else:
        print("   Asynchronous: nobody waits for an update, so the same seed does not give the same training")
    if settings.warning:
        print(f"   Warning: {settings.warning}")
    print(f"\nParallel mode: {settings.n_envs} environments", flush=True)
    devices.check(settings.device)
