"""The front door as it is, but nothing is really trained: see tests/front_door/practice.py for what may be wished for."""

from __future__ import annotations

import sys

from flowrl import start
from flowrl.bottomup_parallel import main
from tests.front_door.practice import PracticeScheduler

if __name__ == "__main__":
    start.SkillScheduler = PracticeScheduler
    sys.exit(main())
