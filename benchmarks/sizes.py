"""What the benchmarks of training share: the flags for the size of a training, memory and cache, the loop over games."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

import jax

from flowrl.envs.registry import GAMES
from flowrl.paths import compile_cache
from flowrl.training.host import heap


def size_parser(description: str, default_games: str = "every game") -> argparse.ArgumentParser:
    """A parser with the flags ``--env_name`` (any number of times), ``--num_envs``, ``--num_steps`` and ``--layer_size``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--env_name", choices=list(GAMES), action="append", help=f"default: {default_games}")
    parser.add_argument("--num_envs", type=int, default=256)
    parser.add_argument("--num_steps", type=int, default=32)
    parser.add_argument("--layer_size", type=int, default=512)
    return parser


def as_a_training(main: Callable[[], int]) -> NoReturn:
    """Runs a benchmark in a process that gets its memory as a training does; so does the peer measured in it."""
    heap.begin_with_large_pages()
    heap.settle()
    sys.exit(main())


def use_compile_cache() -> None:
    """Sets up JAX's own cache, as a training does."""
    jax.config.update("jax_compilation_cache_dir", str(compile_cache()))


def each_game(report: Callable[[str, argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Reports the games that were asked for, one after the other. Returns the exit status."""
    use_compile_cache()
    for env_name in options.env_name or GAMES:
        report(env_name, options)
    return 0
