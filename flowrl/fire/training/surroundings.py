"""What a training places breaks in: areas, the fires that it may plan with, and environments."""

from __future__ import annotations

from typing import NamedTuple

from flowrl.errors import BadInput
from flowrl.fire.breaks.areas import CANOPY, FireArea, made_areas, windows_of
from flowrl.fire.breaks.rules import BreakRules
from flowrl.fire.heuristics.comparison import Setting, problem_and_judges
from flowrl.fire.heuristics.problem import Problem
from flowrl.fire.landscapes.layers import NEEDED, names_in, read_folder
from flowrl.fire.spread.fires import WindClimate
from flowrl.fire.training.settings import FuelBreakSettings

TEST_SEEDS = 1_000_000
"""Areas that an agent is not trained on, and their fires, have seeds from here on."""
ENVIRONMENT_SEEDS = 2_000_000
"""Seeds of the environments: their fires are not those of any comparison."""


class Surroundings(NamedTuple):
    """Areas and their fires.

    Attributes:
        areas: to train on.
        test_areas: for the last comparison only.
        problems: of ``areas``, with the fires that demonstrations are made with.
    """

    areas: list[FireArea]
    test_areas: list[FireArea]
    problems: list[Problem]


def surroundings_of(settings: FuelBreakSettings) -> Surroundings:
    """Reads or makes the areas, and draws the fires to plan with.

    Raises:
        BadInput: the layers do not fit the settings.
    """
    areas, test_areas = _areas(settings)
    setting = setting_of(settings)
    problems = [problem_and_judges(area.landscape, settings.seed + number, setting)[0] for number, area in enumerate(areas)]
    return Surroundings(areas, test_areas, problems)


def _areas(settings: FuelBreakSettings) -> tuple[list[FireArea], list[FireArea]]:
    if settings.raster_dir is None:
        tests = made_areas(settings.num_test_landscapes, settings.grid_size, TEST_SEEDS + settings.seed)
        return made_areas(settings.num_landscapes, settings.grid_size, settings.seed), tests
    if not settings.raster_dir.is_dir():
        raise BadInput(
            f"--raster_dir {settings.raster_dir}: there is no such folder; give one with the layers of a landscape, or "
            "leave it out for synthetic landscapes"
        )
    # Slopes come from the elevation, so that layers of them need not be there, nor fit.
    canopy = [name for name in names_in(settings.raster_dir) if name in CANOPY]
    layers = read_folder(settings.raster_dir, (*NEEDED, *canopy))
    system = None if settings.fuel_system == "auto" else settings.fuel_system
    found = windows_of(
        layers,
        settings.num_landscapes,
        settings.grid_size,
        settings.seed,
        system,
        num_test_areas=settings.num_test_landscapes,
        cell_size_m=settings.cell_size,
    )
    return found.areas, found.test_areas


def rules_of(settings: FuelBreakSettings) -> BreakRules:
    """How breaks are placed and judged in a training."""
    return BreakRules(
        budget=settings.budget,
        percentage_increment=settings.percentage_increment,
        memory_simulations=settings.memory_simulations,
        num_steps=settings.num_steps,
        climate=_climate(settings),
        reward=settings.reward,
    )


def setting_of(settings: FuelBreakSettings) -> Setting:
    """How demonstrations are made, and the agent is judged during the training."""
    return Setting(settings.num_steps, _climate(settings), settings.budget, settings.planning_fires, settings.held_out_fires)


def comparison_setting_of(settings: FuelBreakSettings) -> Setting:
    """How heuristics and the agent are compared at the end: heuristics plan with ``comparison_fires``, however many fires the
    demonstrations were made with."""
    return setting_of(settings)._replace(planning_fires=settings.comparison_fires)


def _climate(settings: FuelBreakSettings) -> WindClimate:
    return WindClimate(settings.wind_speed, settings.wind_from, settings.wind_spread)
