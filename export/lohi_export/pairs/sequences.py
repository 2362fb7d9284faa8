"""Signal equations. Times in ms, angles in degrees; every argument broadcasts.

Signals keep their sign (after an inversion CSF can be negative), because tissues in one voxel add
up before the magnitude is taken. All are relative to the equilibrium magnetisation of pure water.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def spin_echo_train(t1: Any, t2: Any, pd: Any, tr: float, te: float, train: float) -> Float64:
    """Fast spin echo: pd (1 - exp(-(tr - train) / t1)) exp(-te / t2).

    The refocusing pulses hold the longitudinal magnetisation at zero until the end of the echo
    train (`train` ms after excitation), so only tr - train is left for recovery (Bernstein, King
    and Zhou, Handbook of MRI Pulse Sequences, 2004, ch. 16.4).
    """
    return np.asarray(pd * (1 - np.exp(-(tr - train) / t1)) * np.exp(-te / t2))


def inversion_spin_echo_train(
    t1: Any, t2: Any, pd: Any, tr: float, te: float, ti: float, train: float
) -> Float64:
    """Inversion-recovery fast spin echo: pd (1 - 2 exp(-ti/t1) + exp(-(tr-train)/t1)) exp(-te/t2).

    From zero at the end of the train the magnetisation recovers for tr - train - ti, is inverted
    and recovers for ti (Bernstein et al. 2004, ch. 14.2).
    """
    mz = 1 - 2 * np.exp(-ti / t1) + np.exp(-(tr - train) / t1)
    return np.asarray(pd * mz * np.exp(-te / t2))


def mprage(
    t1: Any,
    t2s: Any,
    pd: Any,
    tr: float,
    te: float,
    ti: float,
    flip: float,
    spacing: float,
    pulses: int = 160,
) -> Float64:
    """Magnetisation-prepared rapid gradient echo, steady state, at the centre of the train.

    Inversion, recovery until the train starts (ti - pulses spacing / 2), `pulses` excitations of
    `flip` degrees `spacing` ms apart, recovery until tr (Mugler and Brookeman, Magn Reson Med
    15:152, 1990; steady state as in Wang et al., Magn Reson Med 71:1553, 2014). Along the train
    mz approaches mss = (1 - e) / (1 - e cos(flip)), e = exp(-spacing/t1), by e cos(flip) a pulse;
    that mz repeats from one tr to the next gives its value m1 at the start of the train.
    """
    before = ti - pulses * spacing / 2
    after = tr - before - pulses * spacing
    if before < 0 or after < 0:
        raise ValueError(
            f"expected a train of {pulses} x {spacing} ms centred at {ti} ms to fit into {tr} ms"
        )
    alpha = np.deg2rad(flip)
    e1, e2, e = np.exp(-before / t1), np.exp(-after / t1), np.exp(-spacing / t1)
    mss = (1 - e) / (1 - e * np.cos(alpha))
    q = (e * np.cos(alpha)) ** pulses
    m1 = ((1 - e1) - e1 * (1 - e2) - e1 * e2 * mss * (1 - q)) / (1 + e1 * e2 * q)
    centre = mss + (m1 - mss) * (e * np.cos(alpha)) ** (pulses / 2)
    return np.asarray(pd * np.sin(alpha) * centre * np.exp(-te / t2s))
