#!/usr/bin/env bash
# Gather a wheelhouse; called by `make wheelhouse`, from the repository's root.
# Usage: wheelhouse.sh FOLDER TARGET MACHINE PYTHON GLIBC_MINOR [EXTRA.whl...]
set -euo pipefail
export LC_ALL=C

folder=$1 target=$2 machine=$3 python=$4 glibc=$5
shift 5

made=$(mktemp -d "$(dirname "$(mkdir -p "$folder" && realpath "$folder")")/.wheelhouse.XXXXXX")
trap 'rm -rf "$made"' EXIT
mkdir "$made/wheels"

lock=deploy/locks/$target-py$python.txt
[ -f "$lock" ] || { echo "error: expected $lock; see LOCKS in deploy/supply.mk" >&2 && exit 2; }
cp "$lock" "$made/requirements.lock"

platforms=()
for minor in $(seq "$glibc" -1 17); do
    platforms+=(--platform "manylinux_2_${minor}_$machine")
done
pip download --quiet --no-deps --require-hashes --only-binary=:all: --implementation cp \
    --python-version "$python" "${platforms[@]}" --platform "manylinux2014_$machine" \
    --dest "$made/wheels" -r "$made/requirements.lock"
deploy/wheel.sh "$made/wheels"
# The installer runs pip from its wheel: the device then needs neither pip nor ensurepip.
pip download --quiet --no-deps --only-binary=:all: --dest "$made/wheels" pip
for wheel in "$@"; do
    cp "$wheel" "$made/wheels/"
done

python3 deploy/sbom.py "$lock" "$made/sbom.cdx.json"
cp deploy/install.sh deploy/lohi-edge.toml "$made/"
cp -R deploy/systemd "$made/"
printf 'target=%s\nmachine=%s\npython=%s\nglibc=2.%s\n' "$target" "$machine" "$python" "$glibc" \
    >"$made/TARGET"
sums=$(cd "$made" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum)
printf '%s\n' "$sums" >"$made/SHA256SUMS"

rm -rf "$folder"
chmod 755 "$made"
mv "$made" "$folder"
trap - EXIT
echo "$folder: $(find "$folder/wheels" -name '*.whl' | wc -l) wheels, $(du -sm "$folder" | cut -f1) MB"
