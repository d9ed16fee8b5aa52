"""``flowrl grow``: the same command as ``python -m flowrl.bottomup_parallel``."""

from flowrl.bottomup_parallel import main

__all__ = ["main"]
