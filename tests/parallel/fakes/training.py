"""A training without learning, which keeps the contract of the run folder: lock, pid, log, checkpoint, result.

Started as ``python training.py RUN_FOLDER``. What it does stands under ``"fake"`` in the skill's data: ``seconds``,
``gate`` (a file to wait for), ``frames``, ``rate`` (of success; a list: of each attempt), ``outcome``, ``error``, ``reason``,
``crash_attempts`` (dies without a result in these), ``hang_attempts`` (stops working in these, and is deaf), ``stray`` (leaves
a process of its own session behind), ``deaf`` (ignores TERM), ``acted`` (local expert indices that act; all by default).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from filelock import FileLock

from flowrl import pickles
from flowrl.files import append_line, read_json, write_json
from flowrl.paths import RunPaths
from flowrl.records.fence import Fence
from flowrl.records.liveness import write_holder

STEP_S = 0.02


def main(folder: str) -> None:
    run = RunPaths(Path(folder))
    take_environment(run.folder)
    order, wish = read_json(run.run_json), read_json(run.folder / "skill.json").get("fake", {})
    with FileLock(run.lock, timeout=5):
        write_holder(run.pid, order["attempt"])
        write_json(run.folder / "seen.json", seen(order))
        misbehave(wish)
        if order["attempt"] in wish.get("crash_attempts", []):
            append_line(run.log, f"attempt {order['attempt']}: Traceback\nValueError: planted crash")
            os._exit(3)
        if order["attempt"] in wish.get("hang_attempts", []):
            hang(run, order, wish)
        train(run, order, wish)


TASK = {"random_success_rate": 0.1}


def take_environment(folder: Path) -> None:
    """As the real training does: reads and removes the file with the variables, keys among them."""
    path = folder / "run.env"
    assert path.stat().st_mode & 0o077 == 0, "run.env may be read by others"
    os.environ.update(json.loads(path.read_text()))
    path.unlink()


def seen(order: dict) -> dict:
    names = [name for name in os.environ if name.startswith(("OPENAI_", "WANDB_", "FLOWRL_", "XLA_", "MARK_"))]
    return {"environment": {name: os.environ[name] for name in names}, "slot": order["slot"], "cwd": os.getcwd()}


def misbehave(wish: dict) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if wish.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if wish.get("stray"):
        subprocess.Popen(["sleep", "300"], start_new_session=True)


def hang(run: RunPaths, order: dict, wish: dict) -> None:
    """Has a checkpoint and a heartbeat of its work, and then nothing more."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    save(run, order, int(wish.get("frames", 1000)) // 2, wish)
    write_json(run.heartbeat, {"attempt": order["attempt"], "at": time.time(), "phase": "training", "usual_s": 0.01})
    while True:
        time.sleep(STEP_S)


def train(run: RunPaths, order: dict, wish: dict) -> None:
    frames, before = int(wish.get("frames", 1000)), frames_so_far(run)
    append_line(run.log, f"attempt {order['attempt']} of {order['skill_name']} begins at {before} frames")
    save(run, order, frames // 2, wish)
    print("training", order["skill_name"], flush=True)
    outcome, fence = wish.get("outcome", "completed"), Fence(run.run_json, order["attempt"])
    end = time.monotonic() + wish.get("seconds", 0.0)
    try:
        while time.monotonic() < end or not Path(wish.get("gate", ".")).exists():
            time.sleep(STEP_S)
            if not fence.is_open():
                os._exit(3)
    except KeyboardInterrupt:
        outcome = "cancelled"
    save(run, order, frames, wish)
    append_line(run.log, f"attempt {order['attempt']} ends at {frames} frames")
    rate = wish.get("rate", 0.9)
    if isinstance(rate, list):  # of each attempt, the last one of all later ones
        rate = rate[min(order["attempt"], len(rate)) - 1]
    result = {
        "outcome": outcome, "attempt": order["attempt"], "goal_reached": rate >= 0.8, "frames": frames,
        "success_rate": rate, "random_success_rate": 0.1, "error": wish.get("error"), "reason": wish.get("reason"),
        "checkpoint": str(run.checkpoint(frames).relative_to(run.folder)),
        "acted_frames": {str(e["global_expert_idx"]): acted(e, wish, frames) for e in order["experts"]},
        "tasks": [{key: task[key] for key in ("skill_name", "n")} | TASK | {"success_rate": rate} for task in order["plan"]],
    }  # fmt: skip
    if order.get("never_done"):
        result |= dict.fromkeys(("goal_reached", "success_rate", "random_success_rate"))
    write_json(run.result, result)


def frames_so_far(run: RunPaths) -> int:
    newest = run.checkpoints()[-1:]
    return pickles.load(newest[0])["metadata"]["frames"] if newest else 0


def save(run: RunPaths, order: dict, frames: int, wish: dict) -> None:
    """Each expert's weight is the number of frames that it has ever been trained."""
    start = pickles.load(run.initial)["experts"]
    experts = {}
    for expert in order["experts"]:
        local = str(expert["local_expert_idx"])
        weight = start[local]["actor"]["w"][0] if local in start else 0.0
        tree = {"w": np.full(3, weight + frames, np.float32)}
        experts[local] = {"params": {"actor": tree, "critic": tree}}
    counted = {str(e["local_expert_idx"]): acted(e, wish, frames) for e in order["experts"]}
    metadata = {"frames": frames, "attempt": order["attempt"], "acted_frames": counted}
    pickles.dump(
        run.checkpoint(frames), {"format": "flowrl-checkpoint", "version": 1, "experts": experts, "metadata": metadata}
    )


def acted(expert: dict, wish: dict, frames: int) -> int:
    return frames if expert["local_expert_idx"] in wish.get("acted", [expert["local_expert_idx"]]) else 0


if __name__ == "__main__":
    main(sys.argv[1])
