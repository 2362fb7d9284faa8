"""Print the base install's requirements, one a line, without quotes or spaces."""

import sys
from importlib import metadata

for requirement in metadata.requires("lohi-edge") or []:
    if "extra ==" not in requirement:
        sys.stdout.write(requirement.split(";")[0].replace(" ", "") + "\n")
