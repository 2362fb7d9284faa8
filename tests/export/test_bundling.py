from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lohi_edge import nifti, signing
from lohi_edge.bundle import load
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.head import find_head
from lohi_edge.quality import plausibility, verdict
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.slices import SliceContract, intensity_range
from lohi_export import bundling, session
from lohi_export.bundling import write_bundle
from lohi_export.cli import app
from lohi_export.networks import build_generator
from lohi_export.onnx_export import export, export_checked, fold_batch_norm, infer
from lohi_export.run import open_run

CONTRACT = SliceContract(48, 64, 3)


def generator(name: str = "lohiresgan") -> nn.Module:
    """One whose normalisation does something, as after training."""
    torch.manual_seed(0)
    module = build_generator(name, 4, 3, CONTRACT.channels)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var):
                assert tensor is not None
                tensor.uniform_(0.8, 1.2)
            for tensor in (layer.bias.data, layer.running_mean):
                assert tensor is not None
                tensor.uniform_(-0.2, 0.2)
    last = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)][-1]
    nn.init.normal_(last.weight, std=0.15)
    return module.eval()


@pytest.mark.parametrize("name", ["lohiresgan", "lohiresgan-plain"])
def test_the_graph_is_clean_and_answers_as_pytorch_does(name: str) -> None:
    module = generator(name)
    data = export_checked(module, CONTRACT)
    model = onnx.load_from_string(data)
    operators = {"Conv", "Relu", "Add", "Concat", "Resize", "Tanh"}
    assert {n.op_type for n in model.graph.node} <= operators
    assert model.opset_import[0].version >= 19
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input": ["N", 3, 48, 64], "output": ["N", 1, 48, 64]}
    stack = np.random.default_rng(1).uniform(-1, 1, (3, 3, 48, 64)).astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(stack)).numpy()
    assert wanted.std() > 0.1
    np.testing.assert_allclose(infer(data, stack), wanted, atol=1e-4)


def test_the_file_is_the_same_every_time_and_tells_nothing_of_its_maker() -> None:
    data = export(generator(), CONTRACT)
    assert export(generator(), CONTRACT) == data
    for trace in ("torch", ".py", "site-packages", str(Path.cwd()), str(Path.home())):
        assert trace.encode() not in data


@pytest.mark.parametrize("name", ["lohiresgan", "cgan", "unet"])
def test_folding_leaves_no_normalisation_and_the_same_answer(name: str) -> None:
    module = generator(name)
    folded = fold_batch_norm(module)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    stack = torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(stack), module(stack), atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = open_run(trained)
    figures = {part: session.evaluate(run, part, "cpu") for part in ("validation", "test")}
    out = tmp_path_factory.mktemp("bundles") / "t1w-edge"
    write_bundle(run, out, figures, None, "1.0", 3)
    return out


def test_the_device_opens_the_bundle(bundle: Path, trained: Path) -> None:
    opened = load(bundle)
    manifest = opened.manifest
    assert (manifest.name, manifest.version, manifest.serial) == ("t1w-edge", "1.0", 3)
    assert manifest.contrasts == ("T1w",)
    assert manifest.slice_contract == open_run(trained).config.contract
    assert set(manifest.metrics) == {"validation", "test", "macs_per_slice", "quality"}
    golden = opened.golden()
    assert len(golden.input) == 4
    assert np.array_equal(golden.input * 2048, np.rint(golden.input * 2048))
    np.testing.assert_allclose(
        infer(opened.read("fp32.onnx"), golden.input), golden.output, atol=1e-6
    )
    with torch.inference_mode():
        wanted = open_run(trained).generator()(torch.from_numpy(golden.input)).numpy()
    np.testing.assert_allclose(golden.output, wanted, atol=1e-4)


def test_the_device_learns_what_brightness_the_model_was_trained_to_produce(
    bundle: Path, toy: Path
) -> None:
    manifest = load(bundle).manifest
    limits = verdict.limits_for("T1w", manifest.metrics)
    assert len(limits["reference"]) == 10
    anat = toy / "sub-01/ses-64mT/anat/sub-01_ses-64mT_run-01_T1w.nii.gz"
    low, high = nifti.read(anat), nifti.read(Path(str(anat).replace("64mT", "3T")))
    inner = lay_out(low, low.isotropic()).inner
    dark, bright = intensity_range(
        high.data, find_head(high.data), load(bundle).manifest.slice_contract
    )
    truth = block_mean(np.clip((high.data - dark) / (bright - dark), 0, 1) * 1000, 2)
    exact = plausibility.statistics_shift(truth, inner, limits["reference"])
    halved = plausibility.statistics_shift(truth / 2, inner, limits["reference"])
    assert exact < 0.05 < halved


def test_golden_slices_are_four_different_ones_that_show_a_head(bundle: Path) -> None:
    golden = load(bundle).golden()
    assert len({slice_.tobytes() for slice_ in golden.input}) == 4
    assert ((golden.truth > -0.9).mean(axis=(1, 2, 3)) > 0.05).all()


def test_the_manifest_names_no_folder_of_this_machine(bundle: Path, toy: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    assert str(toy) not in text
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_a_card_changes_words_alone_and_takes_the_signature_with_it(
    bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t1w-edge"
    shutil.copytree(bundle, out)
    for path in signing.keygen(tmp_path / "maker"):
        assert path.is_file()
    signing.sign(out, tmp_path / "maker.key")
    before = load(out).manifest
    words = ["--limits", "Invents nothing.", "--credits", "A head (CC0)."]
    said = CliRunner().invoke(app, ["card", str(out), *words])
    assert said.output == "limits: Invents nothing.\ncredits: A head (CC0).\n"
    after = load(out).manifest
    assert after.limits == "Invents nothing."
    named = after.provenance["data_set"]
    assert named == {**before.provenance["data_set"], "Acknowledgements": "A head (CC0)."}
    kept = replace(after, provenance=before.provenance)
    assert kept == before
    assert not (out / "manifest.sig").exists()
    # One text keeps the other; what no manifest may hold leaves the bundle as it was.
    CliRunner().invoke(app, ["card", str(out), "--limits", "Blurs."])
    whole = (out / "manifest.json").read_bytes()
    for option, text in (
        ("--limits", "x" * 2001),
        ("--limits", ""),
        ("--credits", "x" * 2001),
        ("--credits", "two\nlines"),
    ):
        with pytest.raises(UsageError, match=f"{option} of 1 to 2000 printable .* got {len(text)}"):
            CliRunner().invoke(app, ["card", str(out), option, text], catch_exceptions=False)
    assert (out / "manifest.json").read_bytes() == whole
    shown = CliRunner().invoke(app, ["card", str(out)]).output
    assert shown == "limits: Blurs.\ncredits: A head (CC0).\n"
    assert (out / "manifest.json").read_bytes() == whole


@pytest.mark.parametrize("through", ["a link", "its own folder"])
def test_a_card_changes_the_bundle_itself(
    bundle: Path, tmp_path: Path, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    shutil.copytree(bundle, real)
    link.symlink_to(real)
    monkeypatch.chdir(real)
    named = link if through == "a link" else Path()
    words = ["card", str(named), "--limits", "Blurs."]
    CliRunner().invoke(app, words, catch_exceptions=False)
    assert load(real).manifest.limits == "Blurs."
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_a_run_that_reports_on_nobody_is_bundled_with_figures_of_those_that_validate(
    toy: Path, toy_options: dict[str, Any], tmp_path: Path
) -> None:
    split = {"train": ["01", "02"], "validation": ["03"], "test": []}
    run = session.prepare(
        toy, tmp_path / "run", {**toy_options, "split": split}, 2, None, None, None
    )
    assert session.train(run, "cpu", None) == 0
    done = CliRunner().invoke(app, ["bundle", str(tmp_path / "run"), str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert "no test subject is in the data set" in done.stderr
    assert "test" not in load(tmp_path / "b").manifest.metrics


def test_the_same_run_makes_the_same_bundle(bundle: Path, trained: Path, tmp_path: Path) -> None:
    write_bundle(
        open_run(trained), tmp_path / "again", load(bundle).manifest.metrics, None, "1.0", 3
    )  # type: ignore[arg-type]
    for path in bundle.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_existing_directory_is_left_alone(bundle: Path, trained: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        write_bundle(open_run(trained), bundle, {}, None, "1.0", 4)
    assert load(bundle).manifest.serial == 3


def test_nothing_is_left_behind_when_a_run_has_no_weights(
    toy: Path, tmp_path: Path, toy_options: dict[str, object]
) -> None:
    run = session.prepare(toy, tmp_path / "run", toy_options, 10, None, None, None)
    with pytest.raises(BadInput, match="no weights yet"):
        write_bundle(run, tmp_path / "bundle", {}, None, "1.0", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["../x y", "", "-t1w", "a b", "t1w/edge", "x" * 101, "a\n"])
def test_a_name_that_is_no_plain_word_is_refused_before_anything_is_measured(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="--name of letters and digits"):
        CliRunner().invoke(
            app, ["bundle", "no-run", str(tmp_path / "b"), "--name", name], catch_exceptions=False
        )


@pytest.mark.parametrize("version", ["", " ", "1\n", "x" * 101, "\u202e1"])
def test_a_version_that_no_manifest_holds_is_refused_before_anything_is_measured(
    tmp_path: Path, version: str
) -> None:
    words = ["bundle", "no-run", str(tmp_path / "b"), "--version", version]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)
    assert "--version of 1 to 100 printable characters" in str(done.exception)
    assert not (tmp_path / "b").exists()


def test_a_name_may_have_parts(bundle: Path) -> None:
    for name in ("t1w-edge", "T1w_own.2026-11", load(bundle).manifest.name):
        bundling.refuse_name(name)


def test_what_is_in_the_way_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bundle", str(tmp_path / "no run"), str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "expected a new directory" in str(done.exception)


def test_a_place_that_takes_no_bundle_is_found_before_anything_is_measured(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "evaluate", None)
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["bundle", str(trained), str(tmp_path / "file" / "bundle")])
    assert isinstance(done.exception, DiskError)
