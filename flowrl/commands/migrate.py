"""``flowrl migrate``: the same command as ``python -m flowrl.migrate``."""

from flowrl.experiment.migration import main

__all__ = ["main"]
