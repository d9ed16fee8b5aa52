"""Trainings of agents that place fuel breaks: settings, the loop, checkpoints, and maps of what came out."""
