"""The latency contract and what is known of the machine, on roots made for it."""

from __future__ import annotations

import pytest

from lohi_edge.device import latency, machine
from lohi_edge.runtime.cuda import Gpu
from lohi_edge.settings import CLASSES, Latency

ORIN = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
GPU = Gpu("A2000", "8.6", "12.6", 6 << 30, False)


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def orin(tmp_path):
    """An Orin Nano with JetPack 6.2 in its 15 W mode."""
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    write(tmp_path, "etc/nv_tegra_release", release)
    write(tmp_path, "proc/device-tree/model", ORIN)
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0000")
    modes = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    write(tmp_path, "etc/nvpmodel.conf", modes)
    return tmp_path


def test_a_jetson_says_what_it_is(orin):
    found = machine.jetson(orin)
    assert (found.linux, found.jetpack, found.model) == ("36.4.3", 6, ORIN[:-1])
    assert machine.power_mode(orin) == "15W (0)"
    assert latency.budget(Latency(orin_nano_p95_s=12), orin) == ("orin_nano", 12)


@pytest.mark.parametrize(
    ("model", "kind"),
    [("NVIDIA Jetson AGX Orin", "orin"), ("NVIDIA Jetson AGX Thor Developer Kit", "thor")],
)
def test_classes_of_jetsons(orin, model, kind):
    write(orin, "proc/device-tree/model", model)
    assert latency.device_class(orin, "no CUDA driver") == kind


def test_other_machines_are_classed_by_what_computes(tmp_path):
    assert latency.device_class(tmp_path, GPU) == "gpu"
    assert latency.device_class(tmp_path, "no CUDA driver on this machine") == "cpu"
    assert machine.jetson(tmp_path) is None
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    assert machine.power_mode(tmp_path) == "powersave"


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_named_in_the_settings_goes_before_the_machine(kind, orin):
    assert latency.budget(Latency(device=kind), orin) == (kind, getattr(Latency(), f"{kind}_p95_s"))


def test_throttling_is_counted_and_broken_zones_are_passed_over(tmp_path):
    for cpu, count in ((0, "4\n"), (1, "3\n"), (2, "?")):
        path = f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count"
        write(tmp_path, path, count)
    write(tmp_path, "sys/class/thermal/thermal_zone1/type", "broken")
    seen = machine.heat(tmp_path)
    assert (seen["throttled_times"], seen["temperature_c"]) == (7, {})
    assert machine.throttled(seen)


def test_throttling_is_heat_or_current(tmp_path):
    assert not machine.throttled(machine.heat(tmp_path))
    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "51500")
    write(tmp_path, "sys/class/thermal/cooling_device1/type", "pwm-fan")
    write(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "2")
    seen = machine.heat(tmp_path)
    assert seen["temperature_c"] == {"cpu-thermal": 51.5}
    assert seen["cooling_active"] == {"pwm-fan (cooling_device1)": 2}
    assert not machine.throttled(seen)  # a fan that turns slows nothing down
    write(tmp_path, "sys/class/hwmon/hwmon3/oc3_event_cnt", "179")
    assert machine.throttled(machine.heat(tmp_path))
    write(tmp_path, "sys/class/hwmon/hwmon3/oc3_event_cnt", "0")
    write(tmp_path, "sys/class/thermal/cooling_device2/type", "thermal-cpufreq-0")
    write(tmp_path, "sys/class/thermal/cooling_device2/cur_state", "1")
    assert machine.throttled(machine.heat(tmp_path))


def test_a_breach_is_told_once_with_the_state_of_the_machine(orin):
    contract = latency.Contract("orin_nano", 10.0, orin)
    told = [contract.add(seconds) for seconds in (11.0, 12.0, 9.0, 9.0)]
    assert told == [None] * 4  # too few scans for a percentile
    assert contract.status()["p95_s"] is None
    breach = contract.add(9.0)
    # Linear percentile of 9, 9, 9, 11, 12: at rank 3.8, 11.8.
    assert breach == {
        "class": "orin_nano", "budget_p95_s": 10.0, "p95_s": 11.8, "scans": 5, "over_budget": 2,
        "breached": True, "power_mode": "15W (0)", "throttled": False,
    }  # fmt: skip
    assert contract.add(9.0) is None
    for _ in range(100):
        contract.add(1.0)
    assert not contract.status()["breached"]
    assert "power_mode" not in contract.status()
    assert [bool(contract.add(20.0)) for _ in range(7)].count(True) == 1


def test_a_restarted_daemon_goes_on_with_the_window_and_tells_no_breach_twice():
    contract = latency.Contract("cpu", 10.0)
    contract.restore([11.0] * 7)
    status = contract.status()
    assert (status["p95_s"], status["scans"], status["breached"]) == (11.0, 7, True)
    assert status["over_budget"] == 0  # counted since the start
    assert contract.add(12.0) is None
    assert contract.breaches == 1


def test_each_phase_has_its_part_of_the_budget():
    timings = {**dict.fromkeys(latency.SHARES, 1.0), "infer": 8.5, "total": 9.9}
    table = latency.phases(timings, 10.0)
    assert table["total"] == {"seconds": 9.9, "budget_s": 10.0, "within": True}
    assert [name for name, row in table.items() if not row["within"]] == ["validate", "infer"]


def test_metrics_and_status_tell_a_breach():
    from lohi_edge.watch.health import metrics

    contract = latency.Contract("cpu", 0.5)
    for _ in range(latency.MIN_SCANS):
        contract.add(2.0)
    lines = metrics({"phase": "ready", "latency": contract.status()}).splitlines()
    assert "lohi_edge_latency_breached 1" in lines
    assert "lohi_edge_latency_p95_seconds 2.0" in lines
    assert "lohi_edge_latency_budget_seconds 0.5" in lines
    assert "lohi_edge_latency_over_budget_total 5" in lines


def test_settings_refuse_what_is_no_budget():
    from lohi_edge.errors import UsageError
    from lohi_edge.settings import load

    for variable, value in (("CPU_P95_S", "0"), ("DEVICE", "toaster"), ("CPU_P95_S", "nan")):
        with pytest.raises(UsageError, match=r"latency\."):
            load(None, {f"LOHI_EDGE_LATENCY_{variable}": value})
