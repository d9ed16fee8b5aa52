"""The benchmark of training side by side compares the demo as it is."""

import importlib.util
from pathlib import Path

from flowrl.config import PROG, Settings, parse

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "parallel_speedup.py"


def test_the_demo_that_is_compared_is_that_of_the_makefile():
    spec = importlib.util.spec_from_file_location("parallel_speedup", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    flags = benchmark.demo_flags()
    assert "--graph_path" not in flags and "--max_parallel_skills" not in flags
    settings = parse(Settings, flags, PROG)
    assert (settings.max_nodes, settings.proposer, settings.env_name) == (6, "curriculum", "Craftax-Classic-Symbolic-v1")
