"""One start of an experiment: stored settings, checks, flow graph, generation loop, wiring. Knows every room."""
