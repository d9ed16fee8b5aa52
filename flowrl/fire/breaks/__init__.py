"""Placing fuel breaks, a cell or a few at a time: areas, what an agent sees of them, and environments."""
