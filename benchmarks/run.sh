#!/usr/bin/env bash
# The short form of the benchmarks. The peer has packages of its own, so it all runs in .venv-bench.
#
#   benchmarks/run.sh PYTHON      PYTHON: the interpreter that makes .venv-bench, as .venv/bin/python
set -euo pipefail
python=${1:?usage: benchmarks/run.sh PYTHON}
cd "$(dirname "$0")/.."

fingerprint() { cat requirements.lock benchmarks/requirements.txt | cksum; }

if [ "$(cat .venv-bench/fingerprint 2>/dev/null)" != "$(fingerprint)" ]; then
    rm -rf .venv-bench
    "$python" -m venv .venv-bench
    .venv-bench/bin/python -m pip install --quiet -r requirements.lock -r benchmarks/requirements.txt
    fingerprint > .venv-bench/fingerprint
fi
export PYTHONPATH="$PWD" JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
.venv-bench/bin/python benchmarks/training_speed.py --peer --repeats 3 --warm_up 1
.venv-bench/bin/python benchmarks/whereabouts.py --env_name Craftax-Classic-Symbolic-v1
.venv-bench/bin/python benchmarks/training_speed.py --env_name Craftax-Classic-Symbolic-v1 --experts 1 8 --repeats 3 --warm_up 1
