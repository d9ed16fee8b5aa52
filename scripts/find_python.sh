#!/usr/bin/env bash
# Prints the newest Python that flowrl can use, or says in one line what is missing.
# A name on the PATH is not enough: pyenv leaves names that do not start, and Debian packages venv apart.
set -euo pipefail

for name in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if "$name" - <<'PROBE' 2>/dev/null
import ensurepip, sys, venv
# As in pyproject.toml: pygame, which Craftax needs, has no build for 3.14.
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PROBE
    then
        command -v "$name"
        exit 0
    fi
done

found=${PYTHON:+$PYTHON is not one}
echo "flowrl needs Python 3.11, 3.12 or 3.13 with its venv module; ${found:-none is on the PATH}. Install one" \
     "(Debian, Ubuntu: sudo apt-get install python3 python3-venv; macOS: brew install python@3.13)," \
     "or name it: make PYTHON=/path/to/python3.12 demo" >&2
exit 1
