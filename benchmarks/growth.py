"""How the cost of training grows: ``python benchmarks/growth.py [--env_name Craftax-Symbolic-v1]``.

Frames per second over environments, experts, the length of the plan, and the networks' width, each relative to the
first run of its table; measured in turn, medians.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sizes import as_a_training, size_parser, use_compile_cache

from benchmarks.training_speed import OurRun, Size, measure, report

AXES = {
    "num_envs": (64, 128, 256, 512, 1024),
    "num_experts": (1, 2, 4, 8, 16),
    "num_tasks": (1, 4, 16),
    "layer_size": (128, 256, 512, 1024),
}
"""The values of each axis; the rest of the size stays fixed."""


def main(arguments: list[str] | None = None) -> int:
    parser = size_parser(__doc__.splitlines()[0], "Craftax-Classic")
    parser.add_argument("--axis", choices=list(AXES), nargs="+", default=list(AXES))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    use_compile_cache()
    for env_name in options.env_name or ["Craftax-Classic-Symbolic-v1"]:
        size = Size(env_name, options.num_envs, options.num_steps, options.layer_size)
        for axis in options.axis:
            runs = {f"{axis} {value}": OurRun(size._replace(**{axis: value})) for value in AXES[axis]}
            report(env_name, runs, measure(runs, options.repeats, warm_up=1))
    return 0


if __name__ == "__main__":
    as_a_training(main)
