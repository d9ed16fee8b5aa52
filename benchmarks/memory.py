"""Peak memory of a run and of the peer's, each in a process of its own: ``python benchmarks/memory.py``.

The default is Craftax with 1024 environments, 64 steps and width 512, two updates each; needs rejax, as
`training_speed.py` does (``make bench`` installs it into ``.venv-bench``). With a GPU, the device's memory comes second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

UPDATES = 2


def peak_mb(who: str, options: argparse.Namespace) -> dict[str, float]:
    """Makes some updates in a fresh process; the most memory that it had at any time, in MB: the host's, and the GPU's."""
    sizes = [options.env_name, *map(str, (options.num_envs, options.num_steps, options.layer_size))]
    command = [sys.executable, __file__, "--one", who, *sizes]
    root = str(Path(__file__).resolve().parents[1])
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(said.stdout.splitlines()[-1])


def one(who: str, env_name: str, *sizes: str) -> None:
    """In the fresh process."""
    from benchmarks.training_speed import OurRun, Peer, Size, peak_rss_mb

    import jax

    run = {"flowrl": OurRun, "peer": Peer}[who](Size(env_name, *map(int, sizes)))
    for _ in range(UPDATES):
        run.update()
    device = jax.devices()[0].memory_stats() or {}
    found = {"memory": peak_rss_mb()}
    if "peak_bytes_in_use" in device:
        found["GPU memory"] = device["peak_bytes_in_use"] / 2**20
    print(json.dumps(found))


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        one(*arguments[1:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env_name", default="Craftax-Symbolic-v1")
    parser.add_argument("--num_envs", type=int, default=1024)
    parser.add_argument("--num_steps", type=int, default=64)
    parser.add_argument("--layer_size", type=int, default=512)
    options = parser.parse_args(arguments)
    print(f"{options.env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}, {UPDATES} updates each")
    ours, peers = peak_mb("flowrl", options), peak_mb("peer", options)
    for what in ours:
        share = ours[what] / peers[what]
        print(f"  {what:12s} flowrl {ours[what]:8,.0f} MB   peer {peers[what]:8,.0f} MB   flowrl has {share:.2f} of it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
