"""Proposers of skills: the built-in curriculum, and a language model. Knows only ``skills``."""
