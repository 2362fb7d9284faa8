"""`lohi-edge engine build` and `accept`: of every bundle in use, unless one is named."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from lohi_edge import bundle as bundles
from lohi_edge import store as stores
from lohi_edge.cli import app
from lohi_edge.engine import manage
from lohi_edge.errors import BundleError

SHIPPED = {bundles.load(bundles.shipped(name)).manifest.name for name in bundles.CONTRASTS}


@pytest.fixture
def run(machine, store, tmp_path, monkeypatch):
    """The command on a device where nothing was installed and no engine can be built."""

    def refuse(bundle, precision, *_):
        raise BundleError(f"no engine of {bundle.manifest.name} in {precision}")

    monkeypatch.setattr(manage, "build_engine", refuse)
    monkeypatch.setenv("LOHI_EDGE_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.setenv("LOHI_EDGE_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()
    return lambda *words: CliRunner().invoke(app, ["engine", *words])


def test_every_bundle_in_use_is_built(run):
    done = run("build", "--json")
    rows = json.loads(done.stdout)
    assert len(SHIPPED) == 3
    assert {row["bundle"] for row in rows} == SHIPPED
    assert {row["precision"] for row in rows} == {"int8", "fp16", "fp32"}
    assert done.exit_code == 5


def test_one_that_is_named_is_built_alone(run, bundle, tmp_path):
    for words in ([str(bundle.path)], []):
        rows = json.loads(run("build", *words, "--precision", "fp16", "--json").stdout)
        assert [(r["bundle"], r["precision"]) for r in rows] == [(bundle.manifest.name, "fp16")]
        (tmp_path / "config.toml").write_text(f'[enhance]\nbundle = "{bundle.path}"\n')


def test_accept_names_every_bundle_without_an_engine(run):
    done = run("accept", "--json")
    rows = json.loads(done.stdout)
    assert {row["bundle"] for row in rows} == SHIPPED
    assert all("no engine was built here" in row["problems"][0] for row in rows)
    assert done.exit_code == 5


def test_who_builds_what_the_daemon_will_not_see_is_told(run, tmp_path, monkeypatch):
    assert "for the daemon" not in run("build").stderr
    monkeypatch.setattr(stores, "SYSTEM", tmp_path / "own")  # its own
    (tmp_path / "own").mkdir(exist_ok=True)
    assert "for the daemon" not in run("build").stderr
    monkeypatch.setattr(stores, "SYSTEM", tmp_path)
    assert "for the daemon: sudo -u lohi-edge lohi-edge engine build" in run("build").stderr
