"""Where the nodes of the skill graph lie: in layers by depth, with few crossings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import networkx as nx

_SWEEPS = 8


def layered(needs: Mapping[str, Sequence[str]], depths: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """The place of each skill: x is its depth, and y its place within its layer, 0 in the middle.

    Each layer is ordered by the mean place of its neighbours in the layers beside it, to and fro: the barycentre method of
    Sugiyama, Tagawa and Toda 1981, "Methods for visual understanding of hierarchical system structures".

    Args:
        needs: what each skill needs directly.
        depths: of each; a skill lies deeper than all that it needs.
    """
    graph = nx.Graph((name, other) for name, others in needs.items() for other in others if other in needs)
    graph.add_nodes_from(needs)
    layers = [[name for name in needs if depths[name] == depth] for depth in range(max(depths.values(), default=-1) + 1)]
    places = {name: _centred(place, layer) for layer in layers for place, name in enumerate(layer)}
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            means = {name: statistics.fmean(places[other] for other in graph[name]) for name in layer if graph[name]}
            layer.sort(key=lambda name: (means.get(name, places[name]), places[name]))
            places |= {name: _centred(place, layer) for place, name in enumerate(layer)}
    return {name: (float(depths[name]), places[name]) for name in needs}


def _centred(place: int, layer: Sequence[str]) -> float:
    return place - (len(layer) - 1) / 2
