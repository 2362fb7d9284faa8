"""The committed JSON schemas take what the software really writes, and refuse what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from lohi_edge import bundle as bundles
from lohi_edge import demo
from lohi_edge.bundle import Manifest
from lohi_edge.errors import BundleError, Held
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance

REFERENCE = Path(__file__).parents[2] / "docs/reference"
SHIPPED = sorted(Path(bundles.__file__).parent.glob("bundles/*/manifest.json"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((REFERENCE / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    models = Models(None, 1, "onnxruntime", "fp32")
    result = enhance(demo.SCAN, out=out, bundle=models, contrast="T1w", deliver_held=True)
    return json.loads(result.path.with_name(result.path.name[:-7] + ".json").read_text())


def test_a_real_receipt_fits(sidecar):
    validator("receipt.schema.json").validate(sidecar["LohiEdge"])


def test_that_of_a_result_that_was_held_back_fits():
    limits = {"scan": {"T1w": {"slices": {"hold": [1000, None]}}}}
    models = Models(None, 1, "onnxruntime", "fp32")
    with pytest.raises(Held) as error:
        enhance(demo.SCAN, bundle=models, contrast="T1w", limits=limits)
    record = error.value.receipt
    validator("receipt.schema.json").validate(record)
    with pytest.raises(jsonschema.ValidationError):
        validator("receipt.schema.json").validate({**record, "verdict": "pass"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("synthetic", False), ("verdict", "good"), ("source", {}), ("timings", {"total": "1 s"})],
)
def test_a_receipt_that_says_otherwise_does_not_fit(sidecar, key, value):
    with pytest.raises(jsonschema.ValidationError):
        validator("receipt.schema.json").validate({**sidecar["LohiEdge"], key: value})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_manifests_fit(path):
    validator("manifest.schema.json").validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {"serial": 0}, {"contrasts": []}, {"contrasts": ["PDw"]}, {"intended_use": "diagnosis"},
        {"files": {"fp32.onnx": "0" * 64}}, {"tolerance": {"fp32": 3}}, {"extra": 1}, {"name": ""},
        {"schema": 2}, {"version": 1},
    ],
    ids=str,
)  # fmt: skip
def test_schema_and_code_refuse_the_same(change):
    values = {**json.loads(SHIPPED[0].read_text()), **change}
    with pytest.raises(jsonschema.ValidationError):
        validator("manifest.schema.json").validate(values)
    with pytest.raises(BundleError):
        Manifest.from_dict(values)
