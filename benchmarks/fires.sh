#!/usr/bin/env bash
# The speed of the fire model beside pytorchfire, whose torch is large: it has an environment of its own, .venv-bench-fire.
#
#   benchmarks/fires.sh PYTHON      PYTHON: the interpreter that makes .venv-bench-fire, as .venv/bin/python
set -euo pipefail
python=${1:?usage: benchmarks/fires.sh PYTHON}
cd "$(dirname "$0")/.."

fingerprint() { cat requirements.lock benchmarks/requirements-fire.txt | cksum; }

if [ "$(cat .venv-bench-fire/fingerprint 2>/dev/null)" != "$(fingerprint)" ]; then
    rm -rf .venv-bench-fire
    "$python" -m venv .venv-bench-fire
    .venv-bench-fire/bin/python -m pip install --quiet -r requirements.lock -r benchmarks/requirements-fire.txt
    fingerprint > .venv-bench-fire/fingerprint
fi
export PYTHONPATH="$PWD" JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
.venv-bench-fire/bin/python benchmarks/fires.py --peer
