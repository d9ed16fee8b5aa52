"""What came out of a training: the agent beside all heuristics, on fires that nobody has planned with, and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowrl.errors import BadInput
from flowrl.fire.agent.planner import Actor, as_heuristic
from flowrl.fire.breaks.areas import FireArea
from flowrl.fire.heuristics.comparison import HEURISTICS, Judged, compare, saved_per_cell, table
from flowrl.fire.training.display import TrainingDisplay
from flowrl.fire.training.settings import FuelBreakSettings
from flowrl.fire.training.surroundings import TEST_SEEDS, Surroundings, comparison_setting_of, rules_of
from flowrl.paths import FuelBreakPaths

AGENT = "DQN"
"""The agent's name in tables."""
Results = dict[str, list[Judged]]


class Comparison(NamedTuple):
    """The agent and all heuristics.

    Attributes:
        trained, test: in areas that the agent was trained on, and in others; None if there are no others.
    """

    trained: Results
    test: Results | None

    def to_json(self) -> dict[str, Any]:
        """Burned shares and standard errors over fires, by name."""
        return {"trained_areas": _in_json(self.trained), "test_areas": _in_json(self.test) if self.test else None}


def compare_with_heuristics(
    settings: FuelBreakSettings, around: Surroundings, agent: Actor, display: TrainingDisplay
) -> Comparison:
    """Lets all place breaks in all areas, and prints a table for the areas of the training and one for others."""
    compared = around.areas[: settings.compared_areas]
    trained = _compare(settings, compared, settings.seed, agent)
    display.progress(1)
    count = _num_areas(len(around.areas))
    title = count if len(compared) == len(around.areas) else f"The first {len(compared)} of {count}"
    _say_table(display.say, f"{title} of the training", settings, trained)
    if not around.test_areas:
        return Comparison(trained, None)
    test = _compare(settings, around.test_areas, TEST_SEEDS + settings.seed, agent)
    display.progress(2)
    _say_table(display.say, f"{_num_areas(len(around.test_areas))} that the agent has never seen", settings, test)
    return Comparison(trained, test)


def _compare(settings: FuelBreakSettings, areas: Sequence[FireArea], seed: int, agent: Actor) -> Results:
    heuristics = {**HEURISTICS, AGENT: as_heuristic(agent, rules_of(settings), areas)}
    return compare([area.landscape for area in areas], seed, comparison_setting_of(settings), heuristics)


def _say_table(say: Callable[[str], None], title: str, settings: FuelBreakSettings, results: Results) -> None:
    size = f"{settings.grid_size} x {settings.grid_size} cells"
    say(f"\n{title}, {size}, {settings.held_out_fires} held-out fires each:")
    say("\n".join(table(results)))


def _num_areas(count: int) -> str:
    return f"{count} area" if count == 1 else f"{count} areas"


def _in_json(results: Results) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "burned": float(np.mean([one.burned_share for one in judged])),
            "standard_error": float(np.sqrt(np.sum([one.standard_error**2 for one in judged])) / len(judged)),
            "cells": float(np.mean([one.breaks.sum() for one in judged])),
            "saved_per_cell": saved_per_cell(results, name),
            "burned_in_each": [one.burned_share for one in judged],
        }
        for name, judged in results.items()
    }


def draw(
    settings: FuelBreakSettings, paths: FuelBreakPaths, around: Surroundings, found: Comparison, say: Callable[[str], None]
) -> None:
    """Maps of some areas, as PNG and, where it is known where they lie, as GeoTIFF. What cannot be drawn is no error."""
    count = min(settings.num_maps, len(found.trained[AGENT]))
    if not count:
        return
    try:
        for number in range(count):
            draw_area(paths.maps, number, around.areas[number], found.trained["none"][number], found.trained[AGENT][number])
    except (ImportError, BadInput) as error:
        say(f"No maps: {error}; install what they need: pip install 'flowrl[fire]'")
        return
    say(f"Maps of {_num_areas(count)}: {paths.maps}")


def draw_area(folder: Path, number: int, area: FireArea, without: Judged, judged: Judged) -> None:
    """``area_N.png``, and GeoTIFFs of the breaks and of the burn probability before and after.

    Raises:
        BadInput: a file cannot be written.
        ImportError: matplotlib is missing.
    """
    from flowrl.fire.landscapes.rasters import write_geotiff
    from flowrl.fire.pictures import before_and_after  # loads matplotlib

    folder.mkdir(exist_ok=True)
    before_and_after.draw(folder / f"area_{number}.png", area.name, area.landscape, _outcome(without), _outcome(judged))
    if area.georeference is not None:
        for name, values in (
            ("breaks", judged.breaks),
            ("burn_probability_before", without.burn_probability),
            ("burn_probability_after", judged.burn_probability),
        ):
            write_geotiff(folder / f"area_{number}_{name}.tif", values, area.georeference)


def _outcome(judged: Judged) -> Any:
    from flowrl.fire.pictures.before_and_after import Outcome

    return Outcome(judged.breaks, judged.burned_share, judged.burn_probability)
