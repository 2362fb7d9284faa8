#!/usr/bin/env bash
# Ask an advisory service about every locked package. Usage: audit.sh LOCK...
# Exit codes: 0 nothing known, 1 vulnerabilities, 3 no service answers for every package.
set -uo pipefail
status=0
for lock in "$@"; do
    # The hashes name every file, so pip has nothing to resolve.
    said=$(pip-audit --requirement "deploy/locks/$lock.txt" --require-hashes --disable-pip \
        --progress-spinner off 2>&1)
    code=$?
    # A package that the service does not know is no package without vulnerabilities.
    if grep -q 'could not be audited' <<<"$said" ||
        { [ $code -ne 0 ] && ! grep -q '^Name ' <<<"$said"; }; then
        printf '%s\n' "$said" | tail -n 3 >&2
        echo "error: $lock: no advisory service answers for all of it: nothing was audited" >&2
        exit 3
    fi
    printf '%s:\n%s\n' "$lock" "$said"
    [ $code -eq 0 ] || status=1
done
exit $status
