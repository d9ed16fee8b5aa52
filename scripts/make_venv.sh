#!/usr/bin/env bash
# Makes .venv with the pinned packages. Does nothing if requirements.lock, $PYTHON and the folder are unchanged.
set -euo pipefail
cd "$(dirname "$0")/.."

fingerprint() { { cat requirements.lock; pwd; echo "${PYTHON:-}"; } | cksum; }

if [ -x .venv/bin/python ] && [ "$(cat .venv/fingerprint 2>/dev/null)" = "$(fingerprint)" ]; then
    exit 0
fi

python=$(scripts/find_python.sh)
echo "Making .venv with $("$python" --version): about 90 pinned packages, 1 GB; this takes some minutes, once."
rm -rf .venv
"$python" -m venv .venv
export PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/python -m pip install --quiet -r requirements.lock
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
fingerprint > .venv/fingerprint
