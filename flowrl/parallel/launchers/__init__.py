"""Engines that start a run and can say what became of it."""
