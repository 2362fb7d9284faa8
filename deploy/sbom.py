"""Write a lock as a CycloneDX bill of materials, who depends on whom included.

cyclonedx-py knows the packages of a lock and not what asks for them; uv noted that in the lock.

    sbom.py deploy/locks/TARGET.txt OUT.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path


def required_by(lock: str) -> dict[str, list[str]]:
    """Package -> who asks for it, from the `# via` comments under each."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.splitlines():
        if pinned := re.match(r"([\w.-]+)(?:\[.*\])?==", line):
            name = pinned[1]
        elif asked := re.fullmatch(r"    #(?: via|  ) ([\w.-]+)(?: \(.*\))?", line):
            found.setdefault(name, []).append(asked[1])
    return found


def with_graph(bom: dict, lock: str) -> dict:
    """The bill with its `dependencies` filled in.

    Raises:
        KeyError: the lock names a package that the bill has not.
    """
    root = bom["metadata"]["component"]
    refs = {part["name"]: part["bom-ref"] for part in (root, *bom["components"])}
    needs: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for name, parents in required_by(lock).items():
        for parent in parents:
            needs[refs[parent]].append(refs[name])
    graph = [{"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(needs.items())]
    return {**bom, "dependencies": graph}


def main() -> None:
    lock, out = Path(sys.argv[1]), Path(sys.argv[2])
    made = subprocess.run(
        ["cyclonedx-py", "requirements", lock, "--pyproject", "pyproject.toml",
         "--output-reproducible", "--output-format", "JSON"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    bom = with_graph(json.loads(made.stdout), lock.read_text())
    out.write_text(json.dumps(bom, indent=2) + "\n")


if __name__ == "__main__":
    main()
