"""The settings of a training, from a command line, a JSON file or Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from flowrl.errors import BadInput
from flowrl.paths import given_path
from flowrl.ranges import AT_LEAST_ONE, FINITE, FRACTION, NOT_NEGATIVE, POSITIVE, Range, check_ranges, make_whole
from flowrl.suggestions import suggestion, unknown_choice

Method = Literal["vmap", "sequential", "threading", "multiprocessing"]
_POSITIVE_FRACTION = Range("more than 0 and at most 1", lambda value: 0 < value <= 1)
_PERCENT = Range("from 0 to 100", lambda value: 0 <= value <= 100)
SIDE = Range("at least 4", lambda value: value >= 4)
"""Rows and columns of an area."""
NUM_LAYERS = 8
"""Layers that an agent sees: fuels, elevation, slope, aspect and four of the canopy."""

PROBLEM = (
    *("raster_dir", "fuel_system", "cell_size", "grid_size", "num_landscapes", "seed", "budget", "percentage_increment"),
    *("reward", "fire_steps", "wind_speed", "wind_from", "wind_spread", "planning_fires"),
)
"""Settings that say what is to be solved; a training that goes on has to have the same. The planning fires are among them
since the best agent so far was judged by them."""


@dataclass(frozen=True)
class FuelBreakSettings:
    """Trains an agent that places fuel breaks, and compares it with the known ways of placing them."""

    FOLDER_FLAG: ClassVar[str] = "--output_dir"

    config: Path | None = None
    """A JSON file with values for these flags; comments and trailing commas may stand in it. Flags win over it."""

    raster_dir: Path | None = None
    """A folder with the layers of a landscape; synthetic landscapes without it."""
    fuel_system: Literal["auto", "fbfm40", "canadian"] = "auto"
    """How the fuel layer codes its fuels."""
    cell_size: float | None = None
    """Side of a cell in metres, for layers that do not say it, such as numpy arrays."""
    grid_size: int = 20
    """Rows and columns of an area."""
    num_landscapes: int = 10
    """Areas to train on: synthetic ones, or windows of the layers."""
    num_test_landscapes: int = 10
    """Further areas, which only the last comparison sees; windows of the layers only as far as there are more."""
    input_channels: int = NUM_LAYERS
    """Layers that the agent sees: always the eight of fuels, elevation, slope, aspect and canopy."""

    budget: float = 0.05
    """Cells of break, as a share of the cells that burn."""
    percentage_increment: float = 0.0
    """Cells placed in one step, in percent of all cells; 0 places one cell at a time."""
    reward: Literal["end", "difference"] = "end"
    """Minus the burned share at the end, or what each step saves."""
    memory_simulations: int = 64
    """Fires that judge the breaks of an episode."""
    fire_steps: int | None = None
    """Steps that a fire burns; three for each row if not given."""
    wind_speed: float = 6.0
    """Mean speed of the wind, m/s."""
    wind_from: float = 270.0
    """Prevailing wind: where it comes from, in degrees clockwise from north."""
    wind_spread: float = 20.0
    """Standard deviation of its direction, degrees."""

    num_episodes: int = 100
    """Rounds of training: in each, every environment takes --steps_per_episode steps."""
    max_minutes: float | None = None
    """Ends the training after this many minutes, over all starts; demonstrations are made for every area in any case."""
    num_parallel_envs: int = 8
    """Environments that are stepped together."""
    parallel_method: Method = "vmap"
    """How they are stepped; the transitions are the same."""
    max_workers: int | None = None
    """Threads or processes at most."""
    steps_per_episode: int = 40
    """Steps of every environment in a round."""
    train_frequency: int = 4
    """Experiences for each update."""
    collection_batch_size: int = 64
    """Experiences that go to the memory at once."""
    experience_buffer_size: int = 2000
    """Experiences that may wait for that at most."""

    pretrain_steps: int = 600
    """Updates on demonstrations before the first round; 0 teaches no demonstrations at all."""
    regenerate_memories: bool = False
    """Makes demonstrations anew, even if the output folder has some for these areas."""
    planning_fires: int = 4096
    """Fires that demonstrations are made and improved with, and the agent is judged by during the training."""
    improve_frequency: int = 10
    """Rounds after which the agent's own breaks are improved by moving cells, and taught if they are the best known; 0 never
    does."""
    improve_areas: int = 10
    """Areas whose breaks are improved at a time; they take turns."""

    learning_rate: float = 1e-3
    """Step size of Adam."""
    gamma: float = 1.0
    """Discount of a step."""
    n_step: int = 0
    """Steps that a target looks ahead; 0 looks to the end of the episode."""
    initial_epsilon: float = 0.05
    """Probability of a random cell in the first round."""
    epsilon_min: float = 0.02
    """The least it falls to."""
    epsilon_decay: float = 0.97
    """Its factor after each round."""
    buffer_size: int = 20_000
    """Experiences that are remembered."""
    batch_size: int = 32
    """Experiences of one update."""
    target_update_frequency: int = 5
    """Rounds between updates of the target network; without effect if --n_step is 0, where targets are whole returns."""
    network_width: int = 24
    """Channels of the network at its finest scale."""
    margin: float = 0.05
    """By how much burned share a demonstrated cell should be better than others."""
    demonstration_share: float = 0.5
    """The part of a batch that is demonstrations."""

    turned_areas: bool = False
    """Learns from turned and mirrored areas too: slower on the areas of the training, better on others."""

    evaluate_frequency: int = 10
    """Rounds between comparisons on fires of their own; the best agent of these is kept."""
    checkpoint_frequency: int = 10
    """Rounds between checkpoints."""
    held_out_fires: int = 1024
    """Fires of the last comparison, for each area."""
    comparison_fires: int = 512
    """Fires that the heuristics of the last comparison plan with."""
    compared_areas: int = 20
    """Areas of the training in the last comparison at most, the first ones."""
    num_maps: int = 3
    """Areas of which maps are drawn at the end."""
    output_dir: Path = Path("fuel_breaks")
    """Where everything is written; the same folder goes on."""
    seed: int = 0
    """Of areas, fires, network and random cells."""

    def __post_init__(self):
        make_whole(self)
        for name in ("raster_dir", "output_dir", "config"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, given_path(value, f"--{name}"))
        check_ranges(
            self,
            {
                AT_LEAST_ONE: (
                    *("num_landscapes", "memory_simulations", "fire_steps", "num_episodes", "num_parallel_envs", "max_workers"),
                    *("steps_per_episode", "train_frequency", "collection_batch_size", "experience_buffer_size"),
                    *("planning_fires", "buffer_size", "batch_size", "target_update_frequency", "network_width"),
                    *("evaluate_frequency", "checkpoint_frequency", "held_out_fires", "comparison_fires"),
                    *("compared_areas", "improve_areas"),
                ),
                POSITIVE: ("learning_rate", "max_minutes", "cell_size"),
                NOT_NEGATIVE: (
                    *("num_test_landscapes", "pretrain_steps", "improve_frequency", "n_step", "num_maps", "seed", "margin"),
                    *("wind_speed", "wind_spread"),
                ),
                FRACTION: ("gamma", "initial_epsilon", "epsilon_min", "epsilon_decay", "demonstration_share"),
                FINITE: ("wind_from",),
                _POSITIVE_FRACTION: ("budget",),
                _PERCENT: ("percentage_increment",),
                SIDE: ("grid_size",),
            },
        )
        if self.input_channels != NUM_LAYERS:
            raise BadInput(
                f"--input_channels must be {NUM_LAYERS}, the layers that the agent sees (fuels, elevation, slope, aspect, four "
                f"of the canopy), found {self.input_channels}; layers that are missing count as 0"
            )
        if self.collection_batch_size > self.experience_buffer_size:
            raise BadInput(
                f"--collection_batch_size must be at most --experience_buffer_size ({self.experience_buffer_size}), found "
                f"{self.collection_batch_size}"
            )

    @property
    def num_steps(self) -> int:
        """Steps that a fire burns."""
        return self.fire_steps or 3 * self.grid_size

    @classmethod
    def of(cls, config: Self | Mapping[str, Any]) -> Self:
        """Settings from Python: themselves, or a mapping such as a JSON file holds.

        Raises:
            BadInput: a key is unknown, with the closest ones, or a value is impossible.
        """
        if isinstance(config, cls):
            return config
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key, value in config.items():
            if key not in known:
                raise BadInput(f"unknown key {str(key)!r}: {suggestion(str(key), sorted(known), 'valid are')}")
            _check_kind(known[key], value)
        return cls(**{key: value for key, value in config.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        """All values as JSON holds them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "config"}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


_CHOICES = {
    "parallel_method": ("vmap", "sequential", "threading", "multiprocessing"),
    "reward": ("end", "difference"),
    "fuel_system": ("auto", "fbfm40", "canadian"),
}


def _check_kind(field: dataclasses.Field, value: Any) -> None:
    """Refuses a value of the wrong kind: a mapping is not read by a command line."""
    kind = str(field.type)
    if value is None:
        return
    if field.name in _CHOICES:
        if value not in _CHOICES[field.name]:
            raise BadInput(unknown_choice(field.name, str(value), _CHOICES[field.name]))
    elif kind.startswith("bool"):
        fits, words = isinstance(value, bool), "true or false"
    elif kind.startswith(("int", "float")):
        fits, words = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    else:
        fits, words = isinstance(value, (str, Path)), "a path"
    if field.name not in _CHOICES and not fits:
        raise BadInput(f"{field.name} must be {words}, found {value!r}")
