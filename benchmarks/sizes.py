"""The flags that say what is trained, the same in every benchmark of training."""

from __future__ import annotations

import argparse

from flowrl.envs.registry import GAMES


def size_parser(description: str, default_games: str = "every game") -> argparse.ArgumentParser:
    """A parser with the flags ``--env_name`` (any number of times), ``--num_envs``, ``--num_steps`` and ``--layer_size``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--env_name", choices=list(GAMES), action="append", help=f"default: {default_games}")
    parser.add_argument("--num_envs", type=int, default=256)
    parser.add_argument("--num_steps", type=int, default=32)
    parser.add_argument("--layer_size", type=int, default=512)
    return parser
