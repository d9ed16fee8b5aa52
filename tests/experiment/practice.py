"""The real front door, except for two things: its skills are four simple ones, and nothing is really trained.

Started as ``python -m tests.experiment.practice FLAGS``. The environment's ``MARK_WISHES`` is JSON: skill name to what
the fake training of tests/parallel is to do, ``"*"`` for all others; ``MARK_SKILLS`` the skills to propose, in order,
and ``MARK_NEEDS`` what ``get_skill_dependencies`` says of each skill, both JSON as well; ``asked.log`` has a line for each time
that it was asked. ``MARK_CALIBRATION`` tells what
the fake calibration of tests/parallel is to do, on a machine with two cores; its processes are listed in ``calibration.log``.
``MARK_GPUS`` are the GPUs that the machine is to have, as 0,1; ``MARK_DEVICE_NODE`` is the file by which it seems to have one.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

from flowrl import bottomup_parallel
from flowrl.experiment import start
from flowrl.parallel import calibration, gpus, slots, throughput
from flowrl.parallel.scheduler import SkillScheduler
from flowrl.proposers.base import LibraryView
from tests.experiment.fakes import COAL, PICKAXE, STONE, WOOD, ListProposer
from tests.parallel.fakes.calibration import COMMAND
from tests.parallel.fakes.experiments import FAKE_TRAINING

WISHES = json.loads(os.environ.get("MARK_WISHES", "{}"))
SKILLS = {skill.name: skill for skill in (WOOD, STONE, PICKAXE, COAL)}
PROPOSED = json.loads(os.environ.get("MARK_SKILLS", "null")) or list(SKILLS)
NEEDS = json.loads(os.environ.get("MARK_NEEDS", "{}"))


class PracticeScheduler(SkillScheduler):
    """The real scheduler, except for the command that it starts in its sessions."""

    def __init__(self, args, base_dir, launcher):
        super().__init__(args, base_dir=base_dir, launcher=launcher, command=FAKE_TRAINING)

    def add_skill(self, skill_name, skill_data, dependencies=()):
        wish = WISHES.get(skill_name, WISHES.get("*", {}))
        super().add_skill(skill_name, {**skill_data, "fake": wish}, dependencies)


class NewOnesOnly(ListProposer):
    """Goes on where an earlier start stopped."""

    def propose(self, library: LibraryView, examine):
        self.proposals = [proposal for proposal in self.proposals if not library.knows(proposal.name)]
        return super().propose(library, examine)


def needed(name, all_skills, training_skills):
    with open("asked.log", "a") as log:
        log.write(f"{name}\n")
    return NEEDS.get(name, [])


def calibrate_in_jest() -> None:
    command = (*COMMAND, os.environ["MARK_CALIBRATION"], "calibration.log")
    start.Calibration = partial(calibration.Calibration, command=command, busy=lambda: 0.0)
    throughput.LEAST_S = 0.0
    slots.usable_cores = calibration.usable_cores = lambda: [0, 1]


if __name__ == "__main__":
    if "MARK_CALIBRATION" in os.environ:
        calibrate_in_jest()
    if "MARK_GPUS" in os.environ:
        slots.visible_gpus = lambda: os.environ["MARK_GPUS"].split(",")
    if "MARK_DEVICE_NODE" in os.environ:
        gpus.DEVICE_NODES = (os.environ["MARK_DEVICE_NODE"],)
    start.SkillScheduler = PracticeScheduler
    start.SECOND_CTRL_C_S = float(os.environ.get("MARK_SECOND_CTRL_C_S", start.SECOND_CTRL_C_S))
    start.make_proposer = lambda settings, entry, say: NewOnesOnly(*(SKILLS[name] for name in PROPOSED))
    if NEEDS:
        bottomup_parallel.get_skill_dependencies = needed
    sys.exit(bottomup_parallel.main())
