#!/usr/bin/env bash
# Build pycuda, and collect what it needs and the lock does not hold; called by `make pycuda-wheel`.
# Usage: pycuda.sh PYTHON LOCK FOLDER
set -euo pipefail
export LC_ALL=C

python=$1 lock=$2 folder=$3
[ -f "$lock" ] || { echo "error: expected $lock; run make with the PYTHON of the JetPack" >&2 && exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The lock's versions without its hashes, which pip would then ask of pycuda as well.
sed -n 's/^\([A-Za-z0-9._-]*==[^ ;]*\).*/\1/p' "$lock" >"$work/constraints"
"$python" -m pip wheel --constraint "$work/constraints" --wheel-dir "$work/wheels" pycuda
mkdir -p "$folder"
for wheel in "$work"/wheels/*.whl; do
    name=${wheel##*/}
    name=${name%%-*}
    # A wheelhouse that held a package twice could not be installed.
    grep -qi "^${name//_/[-_.]}==" "$lock" && continue
    rm -f "$folder/$name"-*.whl
    cp "$wheel" "$folder"
done
