"""Print the base install's requirements for an aarch64 device of one Python version, one a line.

python .ci/base_requirements.py 3.10
"""

import sys
from importlib import metadata

from packaging.requirements import Requirement

python = sys.argv[1]
target = {
    "platform_machine": "aarch64",
    "sys_platform": "linux",
    "python_version": python,
    "python_full_version": f"{python}.0",
    "extra": "",
}
for text in metadata.requires("lohi-edge") or []:
    requirement = Requirement(text)
    if requirement.marker is None or requirement.marker.evaluate(target):
        sys.stdout.write(f"{requirement.name}{requirement.specifier}\n")
