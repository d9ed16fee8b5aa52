"""``python -m flowrl.training.host.devices``: the devices that JAX gives to a training, as a line of JSON.

``platform`` is what programs run on (``cpu``, ``gpu``), ``models`` has an entry for each device of it. In a process of its own,
so that whoever asks does not take hold of them.
"""

from __future__ import annotations

import json


def main() -> None:
    """Prints the line; where JAX cannot start, it ends with JAX's error."""
    import jax

    devices = jax.local_devices()
    print(json.dumps({"platform": jax.default_backend(), "models": [device.device_kind for device in devices]}))


if __name__ == "__main__":
    main()
