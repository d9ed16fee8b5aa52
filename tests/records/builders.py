"""Records as a scheduler or a training would write them."""

from dataclasses import replace

from flowrl.records import run_record
from flowrl.records.run_record import PlannedTask, RunExpert, RunRecord, Slot
from flowrl.records.training_settings import RunSettings

RECORD = RunRecord(
    version=run_record.VERSION,
    skill_name="Collect_Wood",
    global_expert_idx=3,
    attempt=2,
    env_name="Craftax-Classic-Symbolic-v1",
    settings=RunSettings(num_envs=16, num_steps=8, num_minibatches=2),
    experiment="exp",
    plan=(PlannedTask("Collect_Wood", 1, 3, 0),),
    gate=({"passed": True, "sha256": "0", "probe": "built-in"},),
    experts=(RunExpert("Collect_Wood", 3, 0),),
    slot=Slot(cores=(0,)),
)


def write_record(run, **changes):
    """Writes ``run.json`` of a run, with these changes to `RECORD`."""
    run_record.write(run.run_json, replace(RECORD, **changes))
