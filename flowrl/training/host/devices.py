"""``python -m flowrl.training.host.devices``: the devices that JAX finds for a training, as a line of JSON.

``platform`` is what programs run on (``cpu``, ``gpu``), ``models`` has an entry for each such device. A separate
process, so that the caller does not occupy them.
"""

from __future__ import annotations

import json


def main() -> None:
    """Prints the line; if JAX cannot start, ends with JAX's error."""
    import jax

    devices = jax.local_devices()
    print(json.dumps({"platform": jax.default_backend(), "models": [device.device_kind for device in devices]}))


if __name__ == "__main__":
    main()
