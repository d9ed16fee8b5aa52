"""The loop against a real model that is far too small to write rewards: it has to survive, and to say why it refused.

Nothing is trained. Started by run.sh, as ``python check.py ADDRESS``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from flowrl.errors import FlowrlError
from flowrl.proposers.llm.calls import CallFolder
from tests.proposers.llm.starts import LlmStart

SKILLS = 2


def main(address: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = LlmStart(Path(folder), address, time, model="smollm2", key=None, max_repairs=1, timeout_s=1800.0)
        start.proposer.prepare(is_resumed=False)
        print(f"answering as {start.proposer.model.endpoint.form}", flush=True)
        names, gave_up = [], None
        try:
            while len(names) < SKILLS and (name := start.propose()) is not None:
                names.append(name)
        except FlowrlError as error:
            gave_up = str(error)
        for line in start.lines:
            print(line)
        check(start, names, gave_up)


def check(start: LlmStart, names: list[str], gave_up: str | None) -> None:
    """Every answer is recorded with a decision and, where it was refused, a reason; and the end is told."""
    calls = [call for call in CallFolder(start.settings.folder).all() if call.proposal]
    assert calls, "no call was recorded"
    for call in calls:
        assert call.outcome is not None, f"{call.file_name} was never decided"
        assert call.outcome.verdict == "accepted" or call.outcome.reason, f"{call.file_name} was refused without a reason"
    assert len(names) == SKILLS or gave_up, "the loop ended without a reason"
    state = start.proposer.state
    assert [skill["name"] for skill in state["skills"]] == names
    assert state["cost_usd"] == 0.0 and state["tokens"]["completion"] > 0
    print(f"{len(calls)} answers, {len(names)} skills, {len(state['refused'])} given up; {gave_up or 'enough skills'}")


if __name__ == "__main__":
    main(sys.argv[1])
