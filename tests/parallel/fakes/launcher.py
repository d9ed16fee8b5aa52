"""Engines without processes, for tests of the scheduler alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flowrl import pickles
from flowrl.files import read_json, write_json
from flowrl.parallel.launchers.base import EngineStatus, Handle, LaunchSpec, NotLaunched, Phase
from flowrl.parallel.slots import plan_slots
from flowrl.paths import RunPaths
from flowrl.records import ending
from flowrl.records.ending import Ending
from flowrl.records.run_record import Slot


class MemoryLauncher:
    """Its runs are entries of a table, and run until they are cancelled."""

    poll_every_s = None

    def __init__(self):
        self.launched: list[LaunchSpec] = []
        self.running: dict[str, Handle] = {}
        self.most_at_once = 0

    def check(self) -> None:
        """It always works."""

    def slots(self, max_parallel: int, *, gpu_ids: object = None, skills_per_gpu: int = 1) -> list[Slot]:
        return plan_slots(max_parallel, gpu_ids=gpu_ids, skills_per_gpu=skills_per_gpu)

    def launch(self, spec: LaunchSpec) -> Handle:
        if existing := next((handle for handle in self.running.values() if handle.cookie == spec.cookie), None):
            return existing
        handle = Handle(f"fake-{len(self.launched)}", spec.session_name, spec.run_folder, spec.attempt)
        self.launched.append(spec)
        self.running[handle.engine_id] = handle
        self.most_at_once = max(self.most_at_once, len(self.running))
        return handle

    def find(self, experiment: Path) -> list[Handle]:
        return [handle for handle in self.running.values() if handle.run_folder.parent.parent == experiment]

    def poll(self, handles: Sequence[Handle]) -> dict[str, EngineStatus]:
        return {h.engine_id: EngineStatus(Phase.RUNNING if h.engine_id in self.running else Phase.LOST) for h in handles}

    def is_alive(self, handle: Handle) -> bool | None:
        """It has no processes to look at."""
        return None

    def output(self, handle: Handle) -> str:
        return ""

    def cancel(self, handle: Handle, grace_s: float, show_s: float = 0.0) -> bool:
        assert not handle.engine_id or handle.engine_id.startswith("fake-"), f"{handle} is none of ours"
        self.running.pop(handle.engine_id, None)
        return True

    def attach_command(self, handle: Handle) -> list[str]:
        return ["true", handle.name]


class FakeLauncher(MemoryLauncher):
    """Refuses what a scheduler must not do. Runs end when the test says so (``finish``), or at once where ``on_launch`` does.

    ``refusals``: how many launches of a skill fail before one succeeds.
    """

    def __init__(self, on_launch: Callable[[LaunchSpec], None] | None = None, refusals: dict[str, int] | None = None):
        super().__init__()
        self.on_launch = on_launch
        self.refusals = dict(refusals or {})

    def launch(self, spec: LaunchSpec) -> Handle:
        assert spec.cookie not in {older.cookie for older in self.launched}, f"{spec.cookie} was launched twice"
        assert not [h for h in self.running.values() if h.run_folder == spec.run_folder], f"{spec.run_folder} runs twice"
        assert read_json(spec.run_folder / "run.json")["attempt"] == spec.attempt, "the attempt is not in run.json"
        if self.refusals.get(spec.skill_name, 0) > 0:
            self.refusals[spec.skill_name] -= 1
            raise NotLaunched("planted refusal")
        handle = super().launch(spec)
        if self.on_launch:
            self.on_launch(spec)
        return handle


def finish(spec: LaunchSpec, outcome: str = "completed", frames: int = 100, **fields) -> None:
    """Leaves what a training leaves that has ended, and its keeper."""
    run = RunPaths(spec.run_folder)
    order = read_json(run.run_json)
    experts = {str(expert["local_expert_idx"]): {"params": {"actor": {}, "critic": {}}} for expert in order["experts"]}
    pickles.dump(run.checkpoint(frames), {"experts": experts, "metadata": {"frames": frames}})
    result = {"outcome": outcome, "attempt": spec.attempt, "frames": frames, "goal_reached": True, "success_rate": 0.9}
    write_json(run.result, result | fields)
    ending.write(run.exit, Ending(spec.attempt, 0))
