"""Peak memory of a run and of the peer's, each in its own process: ``python benchmarks/memory.py``.

The default is Craftax with 1024 environments, 64 steps and width 512. flowrl's is a whole run: two updates,
checkpoints, programs compiled for later runs, a test for the goal (after each update, so that one is in the middle of
training) and the two measurements of success at its end; once with nothing compiled in advance, once with everything.
The peer makes two updates. Needs rejax, as `training_speed.py` does (``make bench`` installs it into ``.venv-bench``).
With a GPU, the device's memory comes second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flowrl.training.host import heap

UPDATES = 2
TASK_STEPS = 50
"""Steps of an episode: tests are shorter this way, and need as much memory."""
HERE = Path(__file__).resolve().parent


def in_a_process(who: str, sizes: list[str], cache: str) -> dict[str, float]:
    """The peak memory of a fresh process, in MB, after each stage."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "FLOWRL_CACHE_DIR": cache}
    command = [sys.executable, __file__, "--one", who, *sizes]
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(said.stdout.splitlines()[-1])


def flowrl_run(env_name: str, num_envs: int, num_steps: int, layer_size: int) -> dict[str, float]:
    """Trains one skill to the end, as ``python -m flowrl.training`` does."""
    from real_runs import prepare

    from flowrl.training.__main__ import main
    from flowrl.training.run import goal

    settings = {
        "env_name": env_name,
        "num_envs": num_envs,
        "num_steps": num_steps,
        "layer_size": layer_size,
        "total_timesteps": UPDATES * num_envs * num_steps,
        "max_task_steps": TASK_STEPS,
    }
    goal.GoalTest.is_due = lambda *_: True
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Path(folder) / "exp", os.getpid(), 1, settings)
        if main([str(run.folder)]):
            raise SystemExit(run.log.read_text())
    return peaks("the whole run")


def peer_run(*sizes) -> dict[str, float]:
    """Makes the peer's first state and its updates."""
    from training_speed import Peer, Size

    peer = Peer(Size(*sizes))
    found = peaks("before the first update")
    for _ in range(UPDATES):
        peer.update()
    return found | peaks(f"{UPDATES} updates")


def peaks(until: str) -> dict[str, float]:
    import jax

    found = {until: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    device = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in device:
        found[f"{until}, of the GPU"] = device["peak_bytes_in_use"] / 2**20
    return found


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        who, env_name, *sizes = arguments[1:]
        if who == "flowrl":
            heap.begin_with_large_pages()
        print(json.dumps({"flowrl": flowrl_run, "peer": peer_run}[who](env_name, *map(int, sizes))), flush=True)
        os._exit(0)  # a compiler may be at work in a thread
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env_name", default="Craftax-Symbolic-v1")
    parser.add_argument("--num_envs", type=int, default=1024)
    parser.add_argument("--num_steps", type=int, default=64)
    parser.add_argument("--layer_size", type=int, default=512)
    parser.add_argument("--without_peer", action="store_true")
    options = parser.parse_args(arguments)
    sizes = [options.env_name, *map(str, (options.num_envs, options.num_steps, options.layer_size))]
    print(f"{options.env_name}, {options.num_envs} x {options.num_steps}, width {options.layer_size}, {UPDATES} updates each")
    with tempfile.TemporaryDirectory() as cache:
        for what in ("nothing compiled before", "everything compiled before"):
            show(f"flowrl, {what}", in_a_process("flowrl", sizes, cache))
        if not options.without_peer:
            show("peer", in_a_process("peer", sizes, cache))
    return 0


def show(who: str, found: dict[str, float]) -> None:
    for until, megabytes in found.items():
        print(f"  {who + ', ' + until:60s} {megabytes:8,.0f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
