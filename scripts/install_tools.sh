#!/usr/bin/env bash
# Installs the commands that are named and missing, where that needs no password: `scripts/install_tools.sh tmux jq watch`.
# Otherwise says in one line how to install them, and ends with exit code 1.
# LIMIT_S: after so many seconds apt-get gives up asking for lists; it may fetch packages for five times as long (default: no
# limit).
set -euo pipefail

limit_s=${LIMIT_S:-0}
missing=()
packages=()
for tool in "$@"; do
    if command -v "$tool" >/dev/null; then continue; fi
    missing+=("$tool")
    if [ "$tool" = watch ] && command -v apt-get >/dev/null; then packages+=(procps); else packages+=("$tool"); fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Only what waits for the network has a limit: packages that are half installed would be in the way of everything.
with_apt() {
    echo "Installing ${missing[*]} with apt-get."
    local install=(apt-get install -y --no-install-recommends "${packages[@]}") ended=0
    "$@" timeout --foreground "$limit_s" apt-get update >"$log" 2>&1 || ended=$?
    [ "$ended" != 124 ] || { echo "no answer within $limit_s s" >>"$log"; return 1; }
    "$@" timeout --foreground $((5 * limit_s)) "${install[@]}" --download-only >>"$log" 2>&1 || return 1
    "$@" env DEBIAN_FRONTEND=noninteractive "${install[@]}" >>"$log" 2>&1
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
echo "Missing, and not installed automatically: ${missing[*]}. Run \`$how\`, then the same make command again." >&2
exit 1
