"""The settings of a rehearsal beside those of every training: the only place of their names, defaults and help."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowrl.errors import BadInput
from flowrl.ranges import AT_LEAST_ONE, NOT_NEGATIVE, check_ranges

_RANGES = {AT_LEAST_ONE: ("max_steps",), NOT_NEGATIVE: ("own_reward", "game_reward", "restore_below", "restore_until")}


@dataclass(frozen=True)
class RehearsalSettings:
    """What the experts are paid, and how whole episodes are played.

    Raises:
        BadInput: a value is out of its range; names the flag.
    """

    own_reward: float = 0.5
    """Weight of what the acting skill pays itself."""
    game_reward: float = 1.0
    """Weight of the game's own reward."""
    restore_below: float = 4.0
    """A vital (food, drink, energy) below this is restored before anything else; 0: never."""
    restore_until: float = 8.0
    """A vital is restored until it is this high."""
    max_steps: int = 10_000
    """Longest whole episode, in steps."""

    def __post_init__(self):
        check_ranges(self, _RANGES)
        if self.restore_below > 0 and self.restore_until < self.restore_below:
            raise BadInput(
                f"--restore_until {self.restore_until:g} is below --restore_below {self.restore_below:g}; a vital is restored "
                "from below the one until it is at the other"
            )

    def own(self) -> dict[str, Any]:
        """These settings as plain values, without the fields of a subclass."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(RehearsalSettings)}


@dataclass(frozen=True)
class RehearsalRequest:
    """What a rehearsal is asked for with; the state keeps it until the rehearsal is merged."""

    frames: int
    rehearsal: RehearsalSettings = dataclasses.field(default_factory=RehearsalSettings)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Training settings in place of the experiment's."""

    def to_data(self) -> dict[str, Any]:
        """Plain values."""
        return {"frames": self.frames, "rehearsal": self.rehearsal.own(), "training": dict(self.training)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> RehearsalRequest:
        """What `to_data` returned."""
        return cls(data["frames"], RehearsalSettings(**data["rehearsal"]), data["training"])
