"""The real command, but with fake trainings and without trying skills on recorded states.

For the options of the fake training see tests/experiment/practice.py.
"""

from __future__ import annotations

import sys

from flowrl.bottomup_parallel import main
from flowrl.experiment import start
from flowrl.skills.gate_report import built_in
from tests.experiment.practice import PracticeScheduler

if __name__ == "__main__":
    start.SkillScheduler = PracticeScheduler
    start.make_gate = lambda settings, say: built_in
    sys.exit(main())
