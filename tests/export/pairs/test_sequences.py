"""Signal equations against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lohi_export.pairs import sequences
from lohi_export.pairs.tissues import LABEL_TISSUE, TISSUES


def test_spin_echo_recovers_for_what_the_train_leaves():
    # tr - train = ln(2) * t1 recovers one half; te = t2 leaves 1/e of it.
    signal = sequences.spin_echo_train(
        t1=1000.0, t2=80.0, pd=0.8, tr=1000 * math.log(2) + 150, te=80.0, train=150
    )
    assert signal == pytest.approx(0.8 * 0.5 / math.e)


def test_inversion_nulls_a_tissue_at_ln2_t1_when_recovery_is_full():
    # With tr >> t1 the magnetisation is 1 - 2 exp(-ti / t1): zero at ti = t1 ln 2.
    signal = sequences.inversion_spin_echo_train(
        t1=300.0, t2=100.0, pd=1.0, tr=30000, te=0, ti=300 * math.log(2), train=0
    )
    assert signal == pytest.approx(0, abs=1e-9)


def test_inversion_golden_value():
    # 1 - 2 exp(-354/275) + exp(-(880-60)/275) = 1 - 0.552045 + 0.050701 = 0.498655,
    # times 0.7 exp(-6/102) = 0.7 * 0.942873 = 0.660011
    signal = sequences.inversion_spin_echo_train(275.0, 102.0, 0.7, 880, 6, 354, 60)
    assert signal == pytest.approx(0.498655 * 0.660011, rel=1e-5)


def test_mprage_agrees_with_a_bloch_simulation_pulse_by_pulse():
    t1, flip, spacing, pulses, ti, tr, te, t2s = 900.0, 9.0, 7.5, 160, 950.0, 2200.0, 3.0, 48.0
    cos, sin = math.cos(math.radians(flip)), math.sin(math.radians(flip))

    def recover(mz: float, ms: float) -> float:
        return 1 + (mz - 1) * math.exp(-ms / t1)

    mz, centre = 1.0, 0.0
    for _ in range(30):  # repetitions until the steady state
        mz = recover(-mz, ti - pulses * spacing / 2)
        for pulse in range(pulses):
            if pulse == pulses // 2:
                centre = mz
            mz = recover(mz * cos, spacing)
        mz = recover(mz, tr - ti - pulses * spacing / 2)
    expected = 0.7 * sin * centre * math.exp(-te / t2s)
    assert sequences.mprage(t1, t2s, 0.7, tr, te, ti, flip, spacing, pulses) == pytest.approx(
        expected, rel=1e-9
    )


def test_mprage_refuses_a_train_longer_than_the_repetition():
    with pytest.raises(ValueError, match="fit into 1000 ms"):
        sequences.mprage(900.0, 48.0, 0.7, 1000, 3, 700, 9, 8)


def test_high_field_order_of_brightness_is_that_of_a_t1_weighted_scan():
    names = ("CSF", "cortex", "putamen", "thalamus", "white matter", "fat")
    signals = [
        float(sequences.mprage(t.t1_high, t.t2s_high, t.pd, 2000, 3, 950, 9, 7.5))
        for t in (TISSUES[n] for n in names)
    ]
    assert signals == sorted(signals)
    csf, cortex, white = signals[0], signals[1], signals[4]
    # As in real 3 T pairs, with air at 0: cortex about 0.6 and CSF below 0.35 of white matter.
    assert 0.5 < cortex / white < 0.72
    assert 0.05 < csf / white < 0.35


def test_low_field_contrast_is_weak_with_dark_csf_and_bright_fat():
    t = TISSUES
    white, cortex, csf, fat, muscle = (
        float(
            sequences.inversion_spin_echo_train(t[n].t1_low, t[n].t2_low, t[n].pd, 900, 6, 340, 80)
        )
        for n in ("white matter", "cortex", "CSF", "fat", "muscle")
    )
    assert 0.8 < cortex / white < 1
    assert abs(csf / white) < 0.2
    assert fat / white > 1.5
    assert muscle / white > 1.2


def test_every_label_of_the_maps_has_a_tissue_with_times_that_grow_with_field():
    documented = {
        *range(2, 6), 7, 8, *range(10, 19), 24, 25, 26, 28, 30, 41, 42, 43, 44, 46, 47, 49, 50, 51,
        52, 53, 54, 57, 58, 60, 62, 72, 85, 136, 137, 163, 164, 502, 506, 507, 508, 509, 511, 512,
        514, 515, 516, 530,
    }  # fmt: skip
    assert documented <= set(LABEL_TISSUE)
    assert all(tissue.t1_low < tissue.t1_high for tissue in TISSUES.values())
    assert all(0 < tissue.pd <= 1 for tissue in TISSUES.values())
    assert np.isfinite([list(vars(t).values()) for t in TISSUES.values()]).all()
