#!/usr/bin/env bash
# Build our wheel into FOLDER; the same commit gives the same bytes, wherever and whenever.
# Usage: wheel.sh FOLDER, from the repository's root, with uv on the PATH.
set -euo pipefail
export LC_ALL=C
umask 022

# The commit's own time goes into the archive; without git, one that never changes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH

uv build --quiet --wheel --no-create-gitignore --out-dir "$1" \
    --build-constraints deploy/locks/build.txt --require-hashes
