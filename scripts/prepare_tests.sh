#!/usr/bin/env bash
# Gets what the tests of the report's page need beside Python: Chromium, which opens it, and axe-core, which looks for what
# keeps people from using it. Never fails: what could not be had is said here, and its tests are skipped and say so again.
set -uo pipefail
cd "$(dirname "$0")/.."

patience_s=60
axe_version=4.14.1
axe=.axe-core/axe-core-$axe_version.tgz

without() {  # what is not tested, and why
    echo "make test continues WITHOUT $1: $2." >&2
    exit 0
}

has_browser() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null; }

if ! has_browser; then
    browser_tests="the report's page in a browser"
    command -v apt-get >/dev/null || without "$browser_tests" "install Chromium as \`chromium\` on your PATH"
    LIMIT_S=$patience_s scripts/install_tools.sh chromium || without "$browser_tests" "Chromium is missing"
fi

if [ ! -e "$axe" ]; then
    command -v npm >/dev/null || without "axe-core on the report's page" "npm is missing, which fetches it; install Node.js"
    echo "Fetching axe-core $axe_version with npm."
    fetched=$(mktemp -d)
    trap 'rm -rf "$fetched"' EXIT
    # npm's own limit is none where a server accepts and says nothing. macOS has no `timeout`.
    limit=(env)
    if command -v timeout >/dev/null; then limit=(timeout --foreground --kill-after=5 "$patience_s"); fi
    pack=(npm pack "axe-core@$axe_version" --pack-destination "$fetched" --loglevel=error --fetch-retries=0)
    if ! "${limit[@]}" "${pack[@]}" >/dev/null 2>"$fetched/errors"; then
        why=$(head -n 1 "$fetched/errors")
        without "axe-core on the report's page" "npm could not fetch it (${why:-no answer within $patience_s s})"
    fi
    # An older version goes; the new one appears whole.
    rm -rf .axe-core
    mkdir .axe-core
    mv "$fetched/${axe##*/}" "$axe"
fi
