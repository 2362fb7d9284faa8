"""The TensorRT runner end to end on a CUDA driver, pycuda and engine that need no GPU."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from conftest import build_small_net
from gpu_double import FakePycuda, FakeTensorRt, find_pycuda, load_fake_cuda, single_thread
from lohi_edge.errors import BundleError
from lohi_edge.runtime.cuda import probe
from lohi_edge.runtime.tensorrt import TensorRtRuntime
from lohi_edge.slices import SliceContract


@pytest.fixture(scope="module")
def library():
    return load_fake_cuda()


@pytest.fixture
def gpu(library):
    """The fake driver with one device, and nothing left on it afterwards."""
    library.fake_devices(1, 0)
    library.fake_graphs(1)
    yield library
    library.fake_fail(b"", 0)
    library.fake_devices(0, 0)
    gc.collect()
    assert library.fake_live() == 0
    assert library.fake_contexts() == 0
    assert library.fake_current() == 0


@pytest.fixture(params=["pycuda", "double"])
def cuda(request, gpu):
    return find_pycuda() if request.param == "pycuda" else FakePycuda(gpu)


@pytest.fixture
def start(small_net, gpu, cuda):
    def start(batch=4, plan=b"plan:" + small_net, **options):
        trt = FakeTensorRt(gpu, **options)
        return TensorRtRuntime(plan, SliceContract(32, 40), "fp32", batch, trt, cuda)

    return start


def expected(small_net, stack):
    return single_thread(small_net).run(["output"], {"input": np.ascontiguousarray(stack)})[0]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9, 12, 23])
@pytest.mark.parametrize("batch", [1, 4])
def test_any_number_of_slices_comes_back_right_and_in_order(start, small_net, slices, count, batch):
    with start(batch) as runtime:
        output = runtime.run(slices[:count])

    np.testing.assert_allclose(output, expected(small_net, slices[:count]), atol=1e-6)


def test_two_volumes_in_turn_do_not_disturb_each_other(start, small_net, slices):
    with start() as runtime:
        first, second = runtime.run(slices[:7]), runtime.run(slices[7:20])

    np.testing.assert_allclose(first, expected(small_net, slices[:7]), atol=1e-6)
    np.testing.assert_allclose(second, expected(small_net, slices[7:20]), atol=1e-6)


def test_a_strided_view_is_taken_as_it_is(start, small_net, slices):
    view = np.lib.stride_tricks.sliding_window_view(slices[:, 0], 1, axis=0).transpose(0, 3, 1, 2)
    with start() as runtime:
        np.testing.assert_allclose(runtime.run(view), expected(small_net, slices), atol=1e-6)


@pytest.fixture
def windows(slices):
    """What `to_stack` makes for C = 3: neighbours as channels, each plane held once."""
    view = np.lib.stride_tricks.sliding_window_view(slices[:, 0], 3, axis=0)
    return view.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("unified", [0, 1])
@pytest.mark.parametrize("count", [1, 4, 22])
@pytest.mark.parametrize("kind", ["windows", "copied"])
def test_neighbours_as_channels(gpu, cuda, windows, unified, count, kind):
    gpu.fake_devices(1, unified)
    net = build_small_net(channels=3)
    stack = windows[:count] if kind == "windows" else np.ascontiguousarray(windows[:count])
    contract = SliceContract(32, 40, 3)
    with TensorRtRuntime(b"plan:" + net, contract, "fp32", 4, FakeTensorRt(gpu), cuda) as runtime:
        before = gpu.fake_launches()
        output = runtime.run(stack)

        assert gpu.fake_launches() - before == (count // 4 if kind == "windows" else 0)
    np.testing.assert_allclose(output, expected(net, stack), atol=1e-6)


def test_full_batches_go_as_graphs(start, gpu, slices):
    with start() as runtime:
        before = gpu.fake_launches()
        runtime.run(slices[:11])

        assert gpu.fake_launches() - before == 2
        assert runtime.graph == "yes"


@pytest.mark.parametrize(
    "failure", ["no graphs", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"]
)
def test_without_graphs_the_same_numbers(start, gpu, small_net, slices, failure):
    gpu.fake_graphs(failure != "no graphs")
    gpu.fake_fail(failure.encode(), 0)
    with start() as runtime:
        gpu.fake_fail(failure.encode(), 0)
        output = runtime.run(slices[:11])

        assert runtime.graph.startswith("no: cu")
    np.testing.assert_allclose(output, expected(small_net, slices[:11]), atol=1e-6)


def test_unified_memory_needs_no_copies(start, gpu, small_net, slices):
    gpu.fake_devices(1, 1)
    gpu.fake_fail(b"cuMemcpyHtoDAsync_v2", 0)
    with start() as runtime:
        output = runtime.run(slices[:11])

    np.testing.assert_allclose(output, expected(small_net, slices[:11]), atol=1e-6)


def test_closing_gives_everything_back_and_may_be_repeated(start, gpu, slices):
    runtime = start()
    # Two slots of two pinned and two device buffers, a stream and a graph each.
    assert gpu.fake_live() == 12
    assert gpu.fake_contexts() == 1
    runtime.run(slices)
    assert gpu.fake_live() == 12
    runtime.close()
    runtime.close()
    gc.collect()

    assert (gpu.fake_live(), gpu.fake_contexts()) == (0, 0)
    with pytest.raises(BundleError, match="closed"):
        runtime.run(slices)


def test_progress_ends_at_the_whole(start, slices):
    seen = []
    with start() as runtime:
        runtime.run(slices[:10], lambda done, total: seen.append((done, total)))

    assert seen == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize("function", ["cuStreamSynchronize", "cuMemcpyHtoDAsync_v2"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_cuda_error_becomes_words_and_leaves_nothing(start, gpu, slices, function, after):
    gpu.fake_graphs(0)
    runtime = start()
    gpu.fake_fail(function.encode(), after)

    with pytest.raises(BundleError, match=r"CUDA failed: .*ordered by a test"):
        runtime.run(slices)

    gpu.fake_fail(b"", 0)
    with pytest.raises(BundleError, match="closed after a failure"):
        runtime.run(slices)


@pytest.mark.parametrize(
    ("function", "after"),
    [
        *((function, n) for function in ("cuMemAlloc_v2", "cuMemHostAlloc") for n in range(4)),
        *(("cuStreamCreate", n) for n in range(2)),
    ],
)
def test_too_little_memory_is_told_and_what_was_taken_is_given_back(start, gpu, function, after):
    gpu.fake_fail(function.encode(), after)

    with pytest.raises(BundleError, match=r"CUDA failed: .*ordered by a test"):
        start()


def test_an_engine_of_another_tensorrt_is_refused_in_its_own_words(start):
    with pytest.raises(BundleError, match=r"kSERIALIZATION_VERSION.*engine build"):
        start(plan=b"other")


def test_an_engine_of_another_slice_contract_is_refused(small_net, gpu, cuda):
    trt = FakeTensorRt(gpu)
    with pytest.raises(BundleError, match="expected an engine with float32"):
        TensorRtRuntime(b"plan:" + small_net, SliceContract(64, 64), "fp32", 4, trt, cuda)


def test_no_execution_context_is_told(start):
    with pytest.raises(BundleError, match="execution context"):
        start(context=False)


def test_an_engine_that_does_not_run_is_told(start):
    with pytest.raises(BundleError, match="TensorRT did not run the engine"):
        start(runs=False)


def test_no_context_no_traceback(start, gpu):
    gpu.fake_fail(b"cuDevicePrimaryCtxRetain", 0)
    with pytest.raises(BundleError, match="CUDA does not start"):
        start()


def test_the_probe_describes_the_gpu_and_makes_no_context(gpu):
    found = probe()

    assert (found.name, found.sm, found.cuda, found.unified) == ("Fake GPU", "8.7", "12.6", False)
    assert gpu.fake_contexts() == 0


def test_a_driver_without_a_device_is_told(gpu):
    gpu.fake_devices(0, 0)
    assert probe() == "no CUDA device on this machine"


def test_a_driver_that_does_not_start_is_told(gpu):
    gpu.fake_fail(b"cuInit", 0)
    assert probe() == "the CUDA driver fails: cuInit returned 999"


def test_no_driver_is_told():
    assert probe("libnothing.so.1") == "no CUDA driver on this machine"
