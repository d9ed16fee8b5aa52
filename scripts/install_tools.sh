#!/usr/bin/env bash
# Installs tmux (trainings run in its sessions), jq and watch (for the monitoring commands) where they are missing and that
# needs no password. Otherwise says in one line how to install them.
set -euo pipefail

missing=()
packages=()
for tool in tmux jq watch; do
    if command -v "$tool" >/dev/null; then continue; fi
    missing+=("$tool")
    if [ "$tool" = watch ] && command -v apt-get >/dev/null; then packages+=(procps); else packages+=("$tool"); fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT

with_apt() {
    echo "Installing ${missing[*]} with apt-get."
    "$@" apt-get update >"$log" 2>&1 || true
    "$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" >>"$log" 2>&1
}

with_brew() {
    echo "Installing ${missing[*]} with brew."
    brew install "${packages[@]}" >"$log" 2>&1
}

if command -v apt-get >/dev/null; then
    how="sudo apt-get install ${packages[*]}"
    if [ "$(id -u)" = 0 ]; then
        with_apt && exit 0
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        with_apt sudo -n && exit 0
    fi
elif command -v brew >/dev/null; then
    how="brew install ${missing[*]}"
    with_brew && exit 0
else
    how="install ${missing[*]} with your system's package manager"
fi

tail -n 5 "$log" >&2
echo "flowrl needs ${missing[*]}, and could not install it by itself: run \`$how\`, then the same make command again." >&2
exit 1
