"""Starts of an experiment without training: skills are proposed, checked and added."""

from __future__ import annotations

from pathlib import Path

from flowrl.envs.registry import game
from flowrl.experiment.flow_graph import FlowGraph
from flowrl.proposers.llm.proposer import LlmProposer
from flowrl.proposers.llm.settings import LlmSettings
from tests.experiment.fakes import Entries

CLASSIC = game("Craftax-Classic-Symbolic-v1").facts
KEY = "a-key-nobody-may-see"


class LlmStart:
    """One start: a proposer, and the flow graph that checks its proposals.

    Args:
        root: the experiment's folder.
        known: skills of earlier starts: ``skills`` of their flow graph.
    """

    def __init__(self, root: Path, url: str, clock, known=None, gate=lambda spec: None, **settings):
        self.lines: list[str] = []
        chosen = {"model": "model-a", "key": KEY, "timeout_s": 20.0, "max_skills": 4} | settings
        self.settings = LlmSettings(base_url=url, folder=root / "llm", **chosen)
        self.proposer = LlmProposer(self.settings, CLASSIC, self.lines.append, clock)
        self.entries = Entries()
        self.graph = FlowGraph(self.entries, self.proposer, CLASSIC, lambda name, skills, training: [], gate)
        self.graph.load(known or {})
        for name, skill in (known or {}).items():
            self.entries.has(name, skill["status"])

    def propose(self) -> str | None:
        """Proposes the next skill, which counts as trained at once; returns its name."""
        found = self.graph.next_skill()
        if found is None:
            return None
        self.graph.added(found[0])
        self.entries.has(found[0], "completed")
        return found[0]

    @property
    def told(self) -> str:
        return "\n".join(self.lines)
