"""Every system of the study from its first step to an enhanced scan."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import lohi_edge
from lohi_edge.engine.build import Profile, build
from lohi_edge.errors import BadInput
from lohi_edge.slices import SliceContract
from lohi_export import session, train
from lohi_export.bundling import write_bundle
from lohi_export.checkpoint import read_tensors
from lohi_export.models import MODELS
from lohi_export.networks import GENERATORS, build_generator
from lohi_export.onnx_export import export
from lohi_export.run import Run, open_run
from lohi_export.stopping import Stop
from lohi_export.updates import emulates_half

STEPS = 4
LOHIRES = {"Relu", "Add", "Concat", "Resize"}
PIX2PIX = {"Relu", "LeakyRelu", "Concat", "ConvTranspose"}
OPERATORS = {
    "lohiresgan": LOHIRES,
    "lohiresgan-plain": LOHIRES - {"Add"},
    "cgan": PIX2PIX,
    "gan": PIX2PIX,
    "cyclegan": {"Relu", "Add", "ConvTranspose", "InstanceNormalization", "Pad"},
    "unet": {"Relu", "Concat", "ConvTranspose", "MaxPool"},
}


def start(toy: Path, out: Path, options: dict[str, Any], **other: Any) -> Run:
    session.set_up_cpu(1)
    options = {**options, "interval": STEPS, **other}
    return session.prepare(toy, out, options, STEPS, None, None, None)


def fit(run: Run, until: int = STEPS) -> train.Trainer:
    """Train to a step, as a process of its own would."""
    trainer = train.Trainer(run, torch.device("cpu"))
    with Stop() as stop:
        trainer.fit(stop, lambda step, row: setattr(stop, "_signal", 15 if step == until else None))
    return trainer


def tensors(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.checkpoint)[0]


def assert_same(run: Run, other: Run) -> None:
    """Two runs ended in the same place by the same way."""
    one, two = tensors(run), tensors(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert (run.folder / "curves.csv").read_bytes() == (other.folder / "curves.csv").read_bytes()


def test_every_model_has_a_generator_and_a_citation() -> None:
    assert set(GENERATORS) == set(MODELS)
    assert all(re.search(r"et al.* 20\d\d", model.citation) for model in MODELS.values())


def slowly(*values: object, quick: set[object]) -> list[object]:
    """Parameters of which some are left to the slow tests."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]


# The other three share their generator's code with one of these or with test_train.
@pytest.mark.parametrize("name", slowly(*sorted(MODELS), quick={"cgan", "cyclegan", "unet"}))
def test_a_model_trains_resumes_bundles_and_enhances(
    name: str, toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    options = {**toy_options, "model": name}
    whole, halved = (start(toy, tmp_path / part, options) for part in ("whole", "halved"))
    fit(whole)
    assert fit(halved, until=2).step == 2
    fit(halved)
    assert_same(whole, halved)

    bundle = tmp_path / "bundle"
    write_bundle(whole, bundle, {"quality": {"base": "none"}}, None, "1.0", 1)
    model = onnx.load(bundle / "fp32.onnx")
    assert {node.op_type for node in model.graph.node} == OPERATORS[name] | {"Conv", "Tanh"}
    scan = toy / "sub-04/ses-64mT/anat/sub-04_ses-64mT_run-01_T1w.nii.gz"
    result = lohi_edge.enhance(scan, bundle=bundle, threads=1)
    assert result.volume is not None
    assert result.volume.shape == (56, 64, 52)
    assert np.isfinite(result.volume.data).all()
    assert result.volume.data.std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cgan", "cyclegan", "unet"])
def test_tensorrt_builds_a_generator(name: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    model = export(build_generator(name, 4, 2, 1), SliceContract(64, 72))
    assert build(trt, model, Profile(1, 4, 8), 64, None, "SM86").notes == ()


@pytest.mark.parametrize("other", ["gan", "cyclegan"])
def test_a_checkpoint_of_another_model_is_named(
    other: str, toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options, model=other)
    run.checkpoint.write_bytes(open_run(trained).checkpoint.read_bytes())
    with pytest.raises(BadInput, match=f"expected a checkpoint of {other}, got one of lohiresgan"):
        train.Trainer(run, torch.device("cpu"))


def test_without_an_adversary_there_is_no_discriminator(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options, model="unet")
    assert set(fit(run).networks.modules) == {"generator"}


@pytest.mark.parametrize(("name", "sees"), [("cgan", True), ("gan", False)])
def test_only_a_conditional_discriminator_learns_from_the_input(
    name: str, sees: bool, toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    trainer = train.Trainer(
        start(toy, tmp_path / "run", toy_options, model=name), torch.device("cpu")
    )
    rng = np.random.default_rng(0)
    generator = trainer.networks.modules["generator"].requires_grad_(False)
    generator.forward = lambda source: torch.zeros(2, 1, 32, 32)  # type: ignore[method-assign, assignment]
    trainer.networks.update = lambda loss, *names: None  # type: ignore[method-assign]
    losses = [
        trainer.objective.step(source, torch.ones(2, 1, 32, 32), rng)["discriminator"]
        for source in (torch.zeros(2, 1, 32, 32), torch.rand(2, 1, 32, 32))
    ]
    assert (losses[0] != losses[1]) == sees


def test_unpaired_sources_and_targets_come_from_different_draws(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options, model="cyclegan")
    sampler = train.Trainer(run, torch.device("cpu")).sampler
    steps = range(len(sampler) // run.config.batch)
    sources, targets = (
        [s for step in steps for s in sampler.drawn(step, stream)] for stream in (1, 3)
    )
    assert sorted(sources) == sorted(targets)
    alike = sum(a == b for a, b in zip(sources, targets, strict=True))
    assert alike < len(sources) / 4


def test_the_pool_s_images_are_in_the_checkpoint(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options, model="cyclegan")
    fit(run)
    kept = tensors(run)
    for pool in ("pool", "pool_back"):
        assert kept[f"module/{pool}/count"] == STEPS * run.config.batch
        assert kept[f"module/{pool}/images"][: STEPS * run.config.batch].abs().sum() > 0


@pytest.mark.parametrize("half", slowly(torch.bfloat16, torch.float16, quick={torch.float16}))
def test_mixed_precision_trains_and_resumes_alike(
    half: torch.dtype,
    toy: Path,
    tmp_path: Path,
    toy_options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lohi_export.objective.half_precision", lambda device: half)
    options = {**toy_options, "amp": True}
    whole, halved = (start(toy, tmp_path / part, options) for part in ("whole", "halved"))
    trainer = fit(whole)
    assert trainer.networks.scaler.is_enabled() == (half is torch.float16)
    fit(halved, until=2)
    assert fit(halved).networks.scaler.state_dict() == trainer.networks.scaler.state_dict()
    assert_same(whole, halved)
    precise = start(toy, tmp_path / "precise", toy_options)
    fit(precise)
    with (whole.folder / "curves.csv").open() as one, (precise.folder / "curves.csv").open() as two:
        rows = [next(csv.DictReader(file)) for file in (one, two)]
    assert rows[0] != rows[1]
    assert float(rows[0]["loss_l1"]) == pytest.approx(float(rows[1]["loss_l1"]), rel=0.02)


@pytest.mark.parametrize(
    ("processor", "device", "slow"),
    [
        ({"avx512_bf16": False, "amx_bf16": False}, "cpu", True),
        ({"avx512_bf16": True, "amx_bf16": False}, "cpu", False),
        ({"avx512_bf16": False, "amx_bf16": False}, "cuda", False),
        ({"architecture": "aarch64"}, "cpu", False),
    ],
)
def test_a_processor_that_emulates_16_bits_is_known(
    processor: dict[str, Any], device: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = {"architecture": "x86_64", **processor}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: has)
    assert emulates_half(torch.device(device)) is slow
