"""One start of an experiment: stored settings, checks before the start, flow graph, generation loop, wiring. Knows every room."""
