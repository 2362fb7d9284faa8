"""The bundle that the runtimes are tried on."""

from __future__ import annotations

import pytest

from lohi_edge import bundle as bundles


@pytest.fixture
def bundle(make_bundle):
    return bundles.load(make_bundle())
