"""What a skill looks for: the kinds of things in its game that its reward's code names."""

from __future__ import annotations

import ast

from flowrl.skills.facts import GameFacts
from flowrl.skills.spec import SkillSpec

Sight = tuple[str, str]
"""A constant and one of its members: a kind of thing that can be in view."""


def sights_of(spec: SkillSpec, facts: GameFacts) -> list[Sight]:
    """What a skill's reward looks for: the kinds of things that its code names, such as ``BlockType.TREE``."""
    constants = {sights.constant: facts.constants[sights.constant] for sights in facts.sights}
    named = (
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse(spec.task_reward))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    )
    return list(dict.fromkeys(sight for sight in named if sight[1] in constants.get(sight[0], ())))
