from __future__ import annotations

import json

import numpy as np
import pytest

from lohi_edge import acceptance
from lohi_edge import bundle as bundles
from lohi_edge.acceptance import accept, prove
from lohi_edge.errors import BundleError, DiskError, ModelFault, UsageError
from lohi_edge.runtime import choose
from lohi_edge.runtime.chooser import Request, cpu_candidates
from lohi_edge.store import Store


def records(store):
    return sorted((store.root / "accepted").glob("*.json"))


def test_all_cpu_runtimes_give_the_same_fp32_numbers(bundle, slices):
    pytest.importorskip("openvino")
    outputs = [
        choose(bundle, 1, name, "fp32").runtime.run(slices) for name in ("openvino", "onnxruntime")
    ]

    assert outputs[0].shape == slices.shape
    assert outputs[0].dtype == np.float32
    # FP32 rounding alone: 8 layers of sums of up to 144 products near 1.
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.005), ("int8", 0.1)])
def test_other_precisions_agree_between_runtimes(bundle, slices, precision, tolerance):
    pytest.importorskip("openvino")
    outputs = [
        choose(bundle, 1, name, precision).runtime.run(slices)
        for name in ("openvino", "onnxruntime")
    ]

    # One int8 step may fall on either side in a rare value, hence the mean.
    assert np.abs(outputs[0] - outputs[1]).mean() < tolerance / 10
    assert np.abs(outputs[0] - outputs[1]).max() < tolerance


@pytest.mark.parametrize("threads", [1, 3])
def test_slices_come_back_in_order_whatever_finishes_first(bundle, slices, threads):
    pytest.importorskip("openvino")
    runtime = choose(bundle, threads, "openvino", "fp32").runtime
    seen = []

    whole = runtime.run(slices, lambda done, total: seen.append((done, total)))

    one_by_one = np.concatenate([runtime.run(slices[n : n + 1]) for n in range(len(slices))])
    np.testing.assert_array_equal(whole, one_by_one)
    assert seen[-1] == (len(slices), len(slices))
    assert seen == sorted(seen)


def test_auto_takes_the_fastest_accepted(bundle):
    store = Store()
    for candidate in cpu_candidates(bundle, Request()):
        fast = candidate.runtime == "onnxruntime" and candidate.precision == "fp32"
        record = {"accepted": True, "problems": [], "seconds_per_slice": 0.01 if fast else 0.02}
        store.keep(candidate.key, record)

    choice = choose(bundle)

    assert (choice.runtime.name, choice.runtime.precision) == ("onnxruntime", "fp32")
    assert choice.why.startswith("the fastest accepted, 10.0 ms a slice; also accepted: int8 on")
    assert choice.fallback is None


def test_int8_beyond_its_tolerance_is_demoted_and_announced(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))

    choice = choose(bundle)

    assert choice.onnx == "fp32.onnx"
    assert "int8 on onnxruntime not accepted: largest error" in choice.fallback


def test_int8_asked_for_but_not_accepted_is_an_error(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))

    with pytest.raises(BundleError, match="nothing to run for runtime auto, precision int8") as e:
        choose(bundle, precision="int8")

    assert e.value.exit_code == 5


def test_a_model_that_answers_otherwise_is_never_used(make_bundle, precisions):
    from conftest import build_small_net

    bundle = bundles.load(make_bundle(files={"fp32.onnx": build_small_net(seed=9)}))

    with pytest.raises(BundleError, match="fp32 on onnxruntime not accepted"):
        choose(bundle, precision="fp32")


def test_a_model_that_answers_nan_is_never_used(make_bundle, small_net):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(small_net)
    for tensor in model.graph.initializer:
        if tensor.name == "head.b":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([np.nan], np.float32), "head.b"))
    bundle = bundles.load(make_bundle(files={"fp32.onnx": model.SerializeToString()}))

    with pytest.raises(BundleError, match="largest error nan"):
        choose(bundle, runtime="onnxruntime", precision="fp32")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_that_answers_with_another_number_of_slices_is_refused(make_bundle, runtime):
    onnx = pytest.importorskip("onnx")
    if runtime == "openvino":
        pytest.importorskip("openvino")
    h, shape = onnx.helper, ["n", 1, 32, 40]
    ends = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("input", "output")]
    twice = h.make_node("Concat", ["input", "input"], ["output"], axis=0)
    opset = [h.make_opsetid("", 17)]
    model = h.make_model(h.make_graph([twice], "g", ends[:1], ends[1:]), opset_imports=opset)
    model.ir_version = 9
    bundle = bundles.load(make_bundle(files={"fp32.onnx": model.SerializeToString()}))

    with pytest.raises(BundleError, match=r"expected an answer of shape \(1, 1, 32, 40\), got \(2"):
        choose(bundle, runtime=runtime, precision="fp32")


def test_acceptance_is_remembered_until_something_changes(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    choose(bundle, runtime="onnxruntime")
    before = records(Store())
    assert len(before) == 2  # int8 and fp32

    monkeypatch.setattr("lohi_edge.acceptance.examine", lambda *a: pytest.fail("ran again"))
    choose(bundle, runtime="onnxruntime")
    assert records(Store()) == before

    monkeypatch.setattr("lohi_edge.runtime.chooser._version", lambda name: "another")
    with pytest.raises(pytest.fail.Exception, match="ran again"):
        choose(bundle, runtime="onnxruntime")


def test_a_record_changed_by_hand_does_not_count(make_bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    choose(bundle)
    for path in records(Store()):
        path.write_text(path.read_text().replace('"accepted": false', '"accepted": true'))

    assert choose(bundle).onnx == "fp32.onnx"


def test_without_a_store_it_still_runs_and_says_so(bundle, monkeypatch, tmp_path):
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open" / "engines").mkdir(mode=0o777)
    (tmp_path / "open" / "engines").chmod(0o777)
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "open"))

    choice = choose(bundle, runtime="onnxruntime")

    assert "acceptance is not remembered" in choice.fallback
    assert "mode 0700" in choice.fallback


def test_a_store_that_cannot_be_written_stops_nothing(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))

    def full(self, key, record):
        raise DiskError("no space left")

    monkeypatch.setattr(Store, "keep", full)
    choice = choose(bundle, 1, "onnxruntime", "fp32")
    assert choice.runtime.precision == "fp32"
    assert choice.fallback == "acceptance is not remembered: no space left"


@pytest.mark.parametrize("options", [{"runtime": "cuda"}, {"precision": "int4"}])
def test_unknown_words_are_usage_errors(bundle, options):
    with pytest.raises(UsageError, match=r"expected (runtime|precision) auto or one of"):
        choose(bundle, **options)


def test_bf16_is_not_offered_where_nothing_says_how_far_off_it_may_be(identity_bundle):
    plain = bundles.load(identity_bundle)  # FP32 alone
    assert cpu_candidates(plain, Request("openvino", "bf16")) == []
    with pytest.raises(BundleError, match="nothing to run for runtime openvino, precision bf16"):
        choose(plain, runtime="openvino", precision="bf16")


def test_bf16_needs_openvino(bundle):
    with pytest.raises(BundleError, match="nothing to run for runtime onnxruntime, precision bf16"):
        choose(bundle, runtime="onnxruntime", precision="bf16")


def test_a_precision_without_a_tolerance_is_refused(make_bundle):
    path = make_bundle()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["tolerance"]["int8.cpu"]
    (path / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BundleError, match=r"expected a tolerance for int8\.cpu"):
        choose(bundles.load(path), precision="int8")


def test_the_acceptance_record_says_what_was_measured(bundle):
    record = accept(bundle, 1, "onnxruntime", "int8")

    assert record["accepted"]
    assert record["onnx"] == "int8.cpu.onnx"
    assert 0 < record["mean_error"] < record["max_error"] <= record["tolerance"] == 0.3
    assert 30 < record["psnr_fp32_db"] < 70
    assert 25 < record["psnr_db"] < 26.1  # noise of sigma 0.1: 26.02 dB
    assert 0 < record["latency_ms"]["p50"] <= record["latency_ms"]["p95"]


def remember(bundle, accepted):
    """Records of every candidate, int8 the fastest, as an earlier process might have kept them."""
    for candidate in cpu_candidates(bundle, Request()):
        seconds = 0.001 if candidate.precision == "int8" else 0.002
        Store().keep(
            candidate.key,
            {"accepted": accepted, "problems": ["once"], "seconds_per_slice": seconds},
        )  # fmt: skip


def test_what_computes_wrongly_now_gives_way_whatever_was_recorded(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)
    assert choose(bundle).runtime.precision == "int8"

    choice = prove(bundle)

    assert choice.runtime.precision == "fp32"
    assert choice.acceptance["max_error"] <= choice.acceptance["tolerance"]
    assert "int8 on onnxruntime not accepted: largest error" in choice.fallback
    again = choose(bundle)  # as another process does
    assert again.runtime.precision == "fp32"
    assert "int8 on onnxruntime not accepted: largest error" in again.fallback


def test_golden_slices_are_run_once_where_nothing_was_recorded(bundle, monkeypatch):
    seen = []
    plain = acceptance.examine

    def examine(bundle, runtime, onnx):
        seen.append(runtime.precision)
        return plain(bundle, runtime, onnx)

    monkeypatch.setattr(acceptance, "examine", examine)
    assert prove(bundle).acceptance["accepted"]
    assert sorted(seen) == sorted(set(seen))
    first = len(seen)
    assert prove(bundle).acceptance["accepted"]  # recorded by now: the chosen one is run anew
    assert len(seen) == first + 1


def test_what_cannot_be_remembered_is_passed_over_all_the_same(make_bundle, monkeypatch):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)

    def full(self, key, record):
        raise DiskError("no space left")

    monkeypatch.setattr(Store, "keep", full)
    choice = prove(bundle)
    assert choice.runtime.precision == "fp32"
    assert "acceptance is not remembered: no space left" in choice.fallback


def test_a_runtime_that_breaks_gives_way_in_this_process_alone(bundle, monkeypatch):
    remember(bundle, True)

    def examine(bundle, runtime, onnx):
        if runtime.precision == "int8":
            raise BundleError("CUDA failed")
        return plain(bundle, runtime, onnx)

    plain = acceptance.examine
    monkeypatch.setattr(acceptance, "examine", examine)
    choice = prove(bundle)
    assert choice.runtime.precision == "fp32"
    assert "int8 on onnxruntime not accepted: CUDA failed" in choice.fallback
    assert choose(bundle).runtime.precision == "int8"


def test_where_nothing_is_left_the_model_is_at_fault(make_bundle, precisions):
    from conftest import build_small_net

    other = {"fp32.onnx": build_small_net(seed=9)}
    bundle = bundles.load(make_bundle(files=other, tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)
    with pytest.raises(ModelFault, match="fp32 on onnxruntime not accepted: largest error"):
        prove(bundle)


def test_no_model_is_at_fault_for_a_precision_that_was_asked_for(make_bundle):
    bundle = bundles.load(make_bundle(tolerance={"int8.cpu": 1e-6}))
    remember(bundle, True)
    with pytest.raises(BundleError, match=r"int8.*set runtime and precision to auto") as e:
        prove(bundle, precision="int8")
    assert not isinstance(e.value, ModelFault)


def test_no_model_is_refused_for_what_was_once_recorded(bundle):
    """The memory that was broken then has been replaced since."""
    remember(bundle, False)
    assert choose(bundle).acceptance["accepted"]
    assert prove(bundle).acceptance["accepted"]
