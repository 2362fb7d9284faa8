"""From label maps to the segmenter's file, and what is measured of it."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch

from lohi_edge.bundle import shipped
from lohi_edge.errors import BadInput, BundleError, UsageError
from lohi_edge.quality import segmenter_file
from lohi_edge.quality.features import FIRST, SECOND
from lohi_edge.quality.regions import REGIONS, STRUCTURES, TOTAL
from lohi_export.morphometry import (
    evaluate,
    export,
    networks,
    painting,
    patches,
    targets,
    train,
    voxels,
)
from lohi_export.stopping import Stop

NAMES = ["outside", *(name for name, _, _ in STRUCTURES)]


@pytest.fixture(scope="module")
def folder(codes, tmp_path_factory):
    """A bank of one crop of the toy head."""
    path = tmp_path_factory.mktemp("bank")
    np.savez_compressed(path / "01-00.npz", codes=codes[None])
    return path


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run of three heads, stopped after the first and taken up again."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    options = train.Options(heads=(2, 1))
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch, Stop() as stop:
        patch.setattr(voxels, "VOXELS", 2000)
        patch.setattr(patches, "PATCH", (32, 40, 32))
        patch.setattr(train, "UPDATES", (3, 2))

        def report(done, stage, loss, told):
            seen.append(done)
            if seen == [1]:
                stop._signal = 15

        train.fit(train.Bank(folder, [1]), out, options, stop, report)
        stop._signal = None
        train.fit(train.Bank(folder, [1]), out, options, stop, report)
    return out, seen


def test_a_stopped_run_goes_on_where_it_was(run):
    _, seen = run
    assert seen == [1, 2, 3]


def test_a_run_goes_on_with_its_own_heads_alone(run, folder):
    for other in ({"of": (1, 2)}, {"scans": True}):
        options = train.Options(heads=(2, 1), **other)
        with Stop() as stop, pytest.raises(UsageError, match="holds a run with"):
            train.fit(train.Bank(folder, [1]), run[0], options, stop, lambda *_: None)


def test_a_run_goes_on_with_its_own_options_alone(run, folder):
    with Stop() as stop, pytest.raises(UsageError, match=r"heads \[2, 1\], not \[2, 2\]; repeat"):
        train.fit(
            train.Bank(folder, [1]), run[0], train.Options(heads=(2, 2)), stop, lambda *_: None
        )


def test_the_file_answers_as_the_trained_model_does(run, tmp_path):
    model = train.averaged(run[0])
    errors = {"3T": dict.fromkeys((*REGIONS.values(), TOTAL), 12.5)}
    path = tmp_path / "segmenter.onnx"
    path.write_bytes(export.export(model, errors))
    assert path.read_bytes() == export.export(model, errors)
    network = segmenter_file.load(path, 1)
    rng = np.random.default_rng(0)
    described = rng.normal(size=(50, FIRST)).astype(np.float32)
    window = rng.normal(size=(SECOND, 16, 24, 8)).astype(np.float32)
    with torch.inference_mode():
        first = model.first(torch.from_numpy(described)).numpy().T
        second = model.second(torch.from_numpy(window)[None])[0].numpy()
    assert network.first(described) == pytest.approx(first, abs=1e-4)
    assert network.second(window) == pytest.approx(second, abs=1e-4)
    assert np.abs(first).max() > 1e-3
    assert np.abs(second).max() > 1e-3
    assert network.atlas == pytest.approx(model.atlas.numpy(), abs=0.005)
    assert network.errors == errors
    assert export.export(export.read_model(path), errors) == path.read_bytes()
    assert onnxruntime.InferenceSession(path.read_bytes()).get_inputs()[0].name == "first"


def test_weights_of_another_shape_are_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(networks, "HIDDEN", (8, 4))
        other = networks.Model()
    path = tmp_path / "other.onnx"
    path.write_bytes(export.export(other, {}))
    with pytest.raises(BundleError, match="expected a segmenter with layers of"):
        export.read_model(path)


@pytest.mark.slow
def test_every_second_head_of_the_second_stage_may_be_a_scan(codes, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(patches, "PATCH", (32, 40, 32))
    monkeypatch.setattr(train, "UPDATES", (1, 1))
    seen = []

    def scanned(rng):
        seen.append(True)
        return painting.paint(codes, rng)

    begun = networks.Model(train.make_atlas([codes]))
    last = begun.second.last
    with torch.no_grad():
        last.bias.fill_(0.25)
    options = train.Options(heads=(0, 2), lr=(0.0, 0.0))
    bank = train.Bank(folder, [1])
    with Stop() as stop:
        train.fit(bank, tmp_path, options, stop, lambda *_: None, scanned, begun)
    assert len(seen) == 1
    assert train.averaged(tmp_path).second.last.bias.detach().numpy() == pytest.approx(0.25)


def test_no_first_stage_and_none_to_begin_with_is_refused(tmp_path, invoke):
    arguments = ("--bank", tmp_path, "--out", tmp_path / "run", "--first", 0)
    done = invoke("morphometry", "train", *arguments)
    assert isinstance(done.exception, UsageError)
    assert "--init with --first 0" in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_no_crops_and_no_figures_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"crops of heads \[1, 2\]"):
        train.Bank(tmp_path, [1, 2])
    np.savez_compressed(tmp_path / "01-00.npz", codes=np.zeros((1, 2, 2, 2), np.uint8))
    with pytest.raises(BadInput, match=r"crops of heads \[2\]"):
        train.Bank(tmp_path, [1, 2])
    (tmp_path / "figures.json").write_text('{"3T": {"regions": []}}')
    with pytest.raises(BadInput, match="morphometry evaluate"):
        export.read_errors(tmp_path / "figures.json")
    with pytest.raises(BadInput, match="segmentations, found none of 13"):
        list(evaluate.measure(tmp_path, ["13"], None, None))


def test_figures_are_worked_out_by_hand():
    def measured(found_ml, dice):
        names = (*REGIONS.values(), TOTAL)
        confusion = np.zeros((len(evaluate.TISSUES),) * 2, np.int64)
        confusion[0, :2] = (3, 1)
        return evaluate.Measured(
            "13", "run-01", "T1w", "3T", dict.fromkeys(REGIONS.values(), dice),
            dict.fromkeys(names, 10.0), dict.fromkeys(names, found_ml), confusion,
        )  # fmt: skip

    report = evaluate.summary([measured(12.0, 0.8), measured(9.0, 0.6)])
    figures = report["3T"]["regions"]["left thalamus"]
    assert figures["volume_error"] == pytest.approx(15)  # 20 % over, 10 % under
    assert figures["volume_bias"] == pytest.approx(5)
    assert figures["dice"] == pytest.approx(0.7)
    assert report["3T"]["confusion"]["white matter"][:2] == [75, 25]
    assert "64mT" not in report
    assert "left thalamus" in evaluate.table(report)
    json.dumps(report)


def test_agreement_with_3t_is_between_images_of_one_pair():
    def measured(head, kind, ml, run="run-01"):
        names = (*REGIONS.values(), TOTAL)
        confusion = np.zeros((len(evaluate.TISSUES),) * 2, np.int64)
        truth, found = (dict.fromkeys(names, of) for of in (5.0, ml))
        return evaluate.Measured(head, run, "T1w", kind, {}, truth, found, confusion)

    rows = [
        measured("13", "64mT", 12.0), measured("13", "3T", 10.0),  # 20 %
        measured("14", "64mT", 9.0), measured("14", "3T", 6.0),  # 50 %
        measured("14", "64mT", 9.0, "run-02"), measured("14", "3T", 9.0, "run-02"),  # 0 %
        measured("15", "64mT", 9.0),  # has no partner
    ]  # fmt: skip
    # A region that no truth has is in no mean.
    rows[0].dice["left thalamus"] = 0.5
    report = evaluate.summary(rows)
    assert report["64mT"]["mean_dice"] == 0.5
    assert report["64mT"]["to_3T"] == pytest.approx(70 / 3)
    assert report["64mT"]["ventricles_to_3T"] == pytest.approx(70 / 3)
    assert "to_3T" not in report["3T"]
    assert "23.3 % from the 3 T image" in evaluate.table(report)


def test_scans_are_held_against_their_own_truth(tmp_path, head):
    """A segmenter that returns the truth scores 1; one that calls cortex white matter does not."""
    labels = head[30:130, 44:164, 20:140]
    for session, name, data in (
        ("64mT", "T1w", labels),
        ("3T", "T1w", labels),
        ("3T", "dseg", labels),
    ):
        place = tmp_path / f"sub-13/ses-{session}/anat"
        place.mkdir(parents=True, exist_ok=True)
        nib.save(
            nib.Nifti1Image(data, np.eye(4)), place / f"sub-13_ses-{session}_run-01_{name}.nii.gz"
        )

    class Oracle:
        def __init__(self, wrong):
            self.wrong = wrong

        def segment(self, volume):
            found = targets.regions_of(np.rint(volume.data).astype(np.int16))
            found = evaluate.intracranial(found)
            if self.wrong:
                found[found == 3] = 2
            return evaluate.Segmentation(found, volume.affine)

    right = list(evaluate.measure(tmp_path, ["13"], Oracle(False), None))
    assert [row.kind for row in right] == ["64mT", "3T"]
    assert set(right[0].dice.values()) == {1.0}
    assert {row.run for row in right} == {"run-01"}
    assert right[0].found == right[0].truth
    with pytest.raises(BadInput, match="expected FLAIR scans"):
        list(evaluate.measure(tmp_path, ["13"], Oracle(False), shipped("FLAIR")))
    (wrong, _) = evaluate.measure(tmp_path, ["13"], Oracle(True), None)
    assert wrong.dice["left cerebral cortex"] == 0
    assert wrong.dice["right cerebral cortex"] == 1
    tissues = list(evaluate.TISSUES)
    assert wrong.confusion[tissues.index("cortex"), tissues.index("white matter")] > 0
    assert evaluate.to_csv([wrong]).count("\n") == 34
