from __future__ import annotations

import csv
import hashlib
import json
import math
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lohi_calibration.accuracy import MOST_DB
from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_edge.slices import SliceContract
from lohi_export import session, train
from lohi_export.bundling import write_bundle
from lohi_export.checkpoint import read_tensors
from lohi_export.config import TrainConfig
from lohi_export.dataset import describe, find_pairs, load_slices
from lohi_export.evaluation import evaluate
from lohi_export.json_files import write_json
from lohi_export.networks import LoHiResGenerator
from lohi_export.onnx_export import export, infer
from lohi_export.run import open_run
from lohi_export.stopping import Stop

STEPS = 10
SPLIT: dict[str, list[str]] = {"train": [], "validation": [], "test": []}

# Runs in a process of its own and kills itself at the worst moments.
KILLED = """
    import json, os, signal, sys
    from pathlib import Path
    from lohi_export import session, train

    data, out, options, steps, moment = sys.argv[1:]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "between steps":
        advance = train.Trainer._advance
        train.Trainer._advance = lambda self: die() if self.step == 5 else advance(self)
    else:  # the new checkpoint is written but not yet in place
        replace = Path.replace
        def replace_or_die(self, target):
            return die() if "checkpoint" in str(target) else replace(self, target)
        Path.replace = replace_or_die
    session.set_up_cpu(1)
    run = session.prepare(Path(data), Path(out), json.loads(options), int(steps), None, None, None)
    session.train(run, "cpu", None)
"""


def start(toy: Path, out: Path, options: dict[str, Any], steps: int = STEPS) -> Any:
    session.set_up_cpu(1)
    return session.prepare(toy, out, options, steps, None, None, None)


def curves(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_what_it_should(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names - {"evaluation.json"} == {  # other tests evaluate this run
        "config.json",
        "checkpoint.safetensors",
        "weights.safetensors",
        "curves.csv",
        "curves.png",
    }
    rows = curves(trained)
    assert [row["step"] for row in rows] == ["3", "6", "9", "10"]
    assert len({row["psnr_raw"] for row in rows}) == 1
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_training_lowers_the_loss(trained: Path) -> None:
    losses = [float(row["loss_l1"]) for row in curves(trained)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_a_killed_cyclegan_goes_on_with_its_image_pools(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    options = {**toy_options, "model": "cyclegan"}
    whole = start(toy, tmp_path / "whole", options)
    assert session.train(whole, "cpu", None) == 0
    assert_survives_kills(toy, whole.folder, tmp_path / "killed", options)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    assert_survives_kills(toy, trained, tmp_path / "killed", toy_options)


def assert_survives_kills(toy: Path, trained: Path, out: Path, toy_options: dict[str, Any]) -> None:
    """A run that is killed twice ends as the run in `trained` did, to the byte."""
    script = textwrap.dedent(KILLED)
    for moment, reached in (("between steps", 3), ("while saving", 3)):
        arguments = [str(toy), str(out), json.dumps(toy_options), str(STEPS), moment]
        done = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
        assert done.returncode == -signal.SIGKILL
        metadata = read_tensors(out / "checkpoint.safetensors")[1]
        assert json.loads(metadata["position"])["step"] == reached
    assert session.train(start(toy, out, toy_options), "cpu", None) == 0

    assert (out / "curves.csv").read_bytes() == (trained / "curves.csv").read_bytes()
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        (tensors, position), (wanted, wanted_position) = (
            read_tensors(folder / name) for folder in (out, trained)
        )
        assert position == wanted_position
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[key], wanted[key]) for key in wanted)


def test_a_stopped_run_leaves_a_checkpoint_and_goes_on_the_same(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)

    def terminate(step: int, row: object) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)

    with Stop() as stop:
        train.Trainer(run, torch.device("cpu")).fit(stop, terminate)
    assert stop.exit_code == 143
    assert train.Trainer(run, torch.device("cpu")).step == 4
    session.train(run, "cpu", None)
    assert curves(run.folder) == curves(trained)


def test_the_time_limit_stops_with_success(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options, 100_000)
    assert session.train(run, "cpu", 0.005) == 0
    assert 0 < train.Trainer(run, torch.device("cpu")).step < 100_000


def test_another_configuration_does_not_resume(
    toy: Path, trained: Path, toy_options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"steps 10, not 11; batch 2, not 4"):
        start(toy, trained, {**toy_options, "batch": 4}, 11)


def test_another_models_checkpoint_is_refused(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "width": 8})
    run.checkpoint.write_bytes((trained / "checkpoint.safetensors").read_bytes())
    with pytest.raises(
        BadInput, match=r"checkpoint.safetensors: holds the weights of another model"
    ):
        train.Trainer(run, torch.device("cpu"))


def test_a_damaged_checkpoint_is_refused(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    run.checkpoint.write_bytes((trained / "checkpoint.safetensors").read_bytes()[:-100])
    with pytest.raises(BadInput, match="expected a safetensors file"):
        train.Trainer(run, torch.device("cpu"))


def test_a_full_disk_spares_the_last_checkpoint(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    trainer = train.Trainer(run, torch.device("cpu"))

    def fill_disk(step: int, row: object) -> None:
        if step == 4:
            monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))

    with Stop() as stop, pytest.raises(DiskError, match="full"):
        trainer.fit(stop, fill_disk)
    monkeypatch.undo()
    assert train.Trainer(run, torch.device("cpu")).step == 3
    assert not list(run.folder.glob("*.tmp"))


def test_losses_that_are_not_finite_end_the_run(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "lr": 1e30})
    with pytest.raises(BadInput, match=r"not finite at step \d+.*lower --lr"):
        session.train(run, "cpu", None)


def test_without_an_adversary_no_discriminator_is_trained(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "adversarial": 0.0}, 3)
    session.train(run, "cpu", None)
    assert "loss_adversarial" not in curves(run.folder)[0]


def test_steps_follow_from_epochs(toy: Path, tmp_path: Path, toy_options: dict[str, Any]) -> None:
    run = session.prepare(toy, tmp_path, toy_options, None, 1.5, None, None)
    slices = sum(last - first for first, last in (s.head for s in run.slices("train")))
    assert run.config.steps == -(-3 * slices // 4)  # 1.5 epochs in batches of 2


def test_an_unknown_key_is_met_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="'chanels'; did you mean 'channels'"):
        TrainConfig.from_dict({"chanels": 3})


def test_a_crop_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="crop 200 exceeds the 192 x 240 window"):
        TrainConfig(crop=200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels 2 is not an odd number"),
        ({"contrast": "T1"}, "contrast 'T1' is none of T1w, T2w, FLAIR"),
        ({"split": {"train": ["01"]}}, "split is not an object of the parts"),
        (
            {"split": {"train": [1], "validation": [], "test": []}},
            "train is not a list of subjects",
        ),
        ({"batch": 0}, "batch 0 is not positive"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"discriminator_lr": -1.0}, "discriminator_lr -1.0 is negative"),
        ({"l1": math.nan}, "l1 nan is no finite number"),
        ({"lr": math.inf}, "lr inf is no finite number"),
    ],
)
def test_an_unusable_configuration_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig.from_dict(options)


def test_an_unknown_model_leaves_no_run_behind(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="got 'resnet'"):
        start(toy, tmp_path / "run", {**toy_options, "model": "resnet"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_description_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset_description.json").write_text(text)
    words = r"dataset_description\.json is not (a )?JSON.*mend or remove it"
    with pytest.raises(BadInput, match=words):
        describe(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": [], "data": "", "cache": ""}'])
def test_a_config_that_is_no_runs_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json: expected a run's"):
        open_run(tmp_path)


def test_an_unreadable_split_is_named(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(UsageError, match=r"split.json: expected a JSON file"):
        session.prepare(toy, tmp_path / "run", {}, 1, None, tmp_path / "split.json", None)


def test_weights_are_no_checkpoint(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    run.checkpoint.write_bytes((trained / "weights.safetensors").read_bytes())
    with pytest.raises(BadInput, match="expected a checkpoint"):
        train.Trainer(run, torch.device("cpu"))


def test_the_rate_falls_to_zero_along_a_cosine() -> None:
    config = TrainConfig(steps=100, lr=1.0, discriminator_lr=0.5)
    rates = [train.learning_rate(config, "generator", step) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [1, 0.5, 0], atol=1e-12)
    assert train.learning_rate(config, "discriminator", 0) == 0.5


def test_the_average_trails_weights_and_statistics() -> None:
    live = LoHiResGenerator(4, 2)
    average = train.Averaged(live, decay=0.75)
    before = {key: tensor.clone() for key, tensor in live.state_dict().items()}
    with torch.no_grad():
        for tensor in live.state_dict().values():
            tensor.add_(1)
    average.update(live, step=10_000)
    for key, tensor in average.module.state_dict().items():
        step = 1.0 if key.endswith("num_batches_tracked") else 0.25
        torch.testing.assert_close(tensor, before[key] + step, check_dtype=False)


def test_evaluation_measures_every_test_subject(trained: Path) -> None:
    result = session.evaluate(open_run(trained), "test", "cpu")
    assert list(result["subjects"]) == ["04"]
    figures = result["mean"]
    assert figures == result["subjects"]["04"] | {}
    assert figures["slices"]["psnr"] > 0
    assert json.loads((trained / "evaluation.json").read_text())["test"] == result
    (trained / "evaluation.json").unlink()
    assert "04" in session.table(result)


def test_slices_equal_to_the_truth_have_figures_that_json_can_hold(
    toy: Path, tmp_path: Path
) -> None:
    pair = find_pairs(toy, "T1w")[0]
    same = load_slices(replace(pair, low=pair.high), SliceContract(64, 72, 1), tmp_path)
    result = evaluate(torch.nn.Identity(), [same], 1, torch.device("cpu"))
    assert result["mean"]["slab"]["psnr"] == MOST_DB
    json.dumps(result, allow_nan=False)


def test_a_generator_that_answers_with_no_numbers_is_not_measured(trained: Path) -> None:
    run = open_run(trained)
    broken = run.generator()
    with torch.no_grad():
        next(broken.parameters())[:] = math.nan
    with pytest.raises(BadInput, match=r"finite numbers from the generator.*train it again"):
        evaluate(broken, run.slices("test"), run.config.channels, torch.device("cpu"))


def test_what_json_has_no_word_for_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"psnr": 20.0})
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(path, {"psnr": value})
    assert json.loads(path.read_text()) == {"psnr": 20.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_begins_with_the_weights_of_another_and_says_so(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    source = tmp_path / "source.safetensors"
    source.write_bytes((trained / "weights.safetensors").read_bytes())
    session.set_up_cpu(1)

    def prepare(out: str) -> Any:
        return session.prepare(toy, tmp_path / out, toy_options, 4, None, None, None, source)

    run = prepare("run")
    assert run.config.init == hashlib.sha256(source.read_bytes()).hexdigest()
    weights = read_tensors(source)[0]
    for module in train.Trainer(run, torch.device("cpu"))._modules.values():
        if isinstance(module, LoHiResGenerator):
            assert all(torch.equal(t, weights[k]) for k, t in module.state_dict().items())
    source.unlink()  # the run has its own copy
    assert session.train(prepare("run"), "cpu", None) == 0
    assert train.Trainer(prepare("run"), torch.device("cpu")).step == 4
    with pytest.raises(UsageError, match=r"init '[0-9a-f]{64}', not ''"):
        start(toy, tmp_path / "run", toy_options, 4)


def test_a_run_begins_with_a_shipped_bundle_and_trains_on(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    bundle, loose = tmp_path / "bundle", tmp_path / "loose.onnx"
    write_bundle(open_run(trained), bundle, {}, None, "1", 1)
    loose.write_bytes((bundle / "fp32.onnx").read_bytes())
    digest = hashlib.sha256(loose.read_bytes()).hexdigest()
    session.set_up_cpu(1)
    for source in (bundle, loose):
        out = tmp_path / f"run-{source.name}"
        run = session.prepare(toy, out, toy_options, 4, None, None, None, source)
        assert run.config.init == digest
        generator = train.Trainer(run, torch.device("cpu")).networks.modules["generator"]
        stack = run.slices("test")[0].batch(np.arange(8, 12), run.config.channels)[0]
        wanted = infer(loose.read_bytes(), stack)
        same, live = (
            generator.train(mode)(torch.from_numpy(stack)).detach().numpy()
            for mode in (False, True)
        )
        assert np.abs(same - wanted).max() < 1e-3
        # In training a batch's own statistics take over: near, because real slices gave the others.
        assert np.abs(live - wanted).mean() < 0.1
        assert session.train(run, "cpu", None) == 0


def test_an_onnx_file_of_another_architecture_begins_no_run(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    loose = tmp_path / "loose.onnx"
    loose.write_bytes(export(open_run(trained).generator(), open_run(trained).config.contract))
    for options in ({"width": 8}, {"depth": 3}, {"model": "unet"}):
        asked = {**toy_options, **options}
        with pytest.raises(BadInput, match="expected weights of a generator with"):
            session.prepare(toy, tmp_path / "run", asked, 4, None, None, None, loose)
        assert not (tmp_path / "run").exists()
    loose.write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"cannot begin with these weights.*not an ONNX model"):
        session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None, loose)


def test_weights_of_another_architecture_begin_no_run(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    options = {**toy_options, "width": 8}
    with pytest.raises(BadInput, match=r"another model.*expected lohiresgan with width 8, depth 2"):
        session.prepare(toy, tmp_path / "run", options, 4, None, None, None, trained)
    assert not (tmp_path / "run").exists()


def test_a_run_that_knows_fewer_settings_goes_on(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    record = json.loads((run.folder / "config.json").read_text())
    del record["config"]["init"], record["init_from"]
    (run.folder / "config.json").write_text(json.dumps(record))
    assert start(toy, tmp_path / "run", toy_options).config == run.config
