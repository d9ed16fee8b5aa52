#!/usr/bin/env bash
# Runs a command without the keys of paid services, so that a demo or a test cannot use them.
set -euo pipefail
for name in $(compgen -e | grep -E '^(OPENAI_|WANDB_)' || true); do
    unset "$name"
done
exec "$@"
