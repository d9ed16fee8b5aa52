"""Fuel breaks: where to keep strips of a landscape free of fuel, so that fires burn less of it.

``landscapes`` is what can burn, ``spread`` how fires run through it, ``heuristics`` the known ways of placing breaks,
``validation`` the comparison with fires that happened, ``pictures`` the maps. This module imports none of them.
"""
