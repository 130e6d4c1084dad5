"""Signal levels: RMS, dB of full scale."""

import math

import numpy as np

BITS = 18  # of the whole numbers that sums are taken over
# Samples summed at a time. Up to 2**(53 - 2 * BITS) squares add up in a double without rounding; below 10,000 values
# OpenBLAS does not start threads of its own, which would fight with those that read the audio.
_BLOCK = 1 << 13
ACTIVE_FRAME_SECONDS, ACTIVE_RANGE_DB = 0.1, 50


def mean_square(x):
    """Mean of squares of ``x`` (N,), finite; 0.0 for no samples.

    The sum is taken over whole numbers (2**-18 of the largest magnitude; exact for 16-bit recordings), so it does
    not depend on the order in which a processor adds: a gain derived from it is the same on every machine.
    """
    x = np.asarray(x)
    exponent, total = _exponent(x), 0
    for i in range(0, len(x), _BLOCK):
        steps = _steps(x[i : i + _BLOCK], exponent)
        total += int(np.dot(steps, steps))
    return math.ldexp(total / len(x), 2 * (exponent - BITS)) if total else 0.0


def _exponent(x):
    return math.frexp(max(float(x.max(initial=0.0)), -float(x.min(initial=0.0))))[1]  # |x| < 2**exponent


def _steps(x, exponent):
    """``x`` in whole multiples of 2**(exponent - 18)."""
    return np.rint(x * x.dtype.type(2.0 ** (BITS - exponent))).astype(np.float64)


def rms(x):
    return math.sqrt(mean_square(x))


def active_rms(x, sample_rate):
    """RMS of ``x`` (N,) over those of its frames of 100 ms that are within 50 dB of the loudest; 0.0 for silence.

    Frames do not overlap; what is left at the end is a shorter one. Exact in the sense of ``mean_square``.
    """
    x = np.asarray(x)
    exponent, size = _exponent(x), round(ACTIVE_FRAME_SECONDS * sample_rate)
    starts = np.arange(0, len(x), size)
    energies = np.add.reduceat(_steps(x, exponent) ** 2, starts)
    lengths = np.diff(starts, append=len(x))
    powers = energies / lengths
    active = powers >= powers.max() * 10 ** (-ACTIVE_RANGE_DB / 10)
    total = int(energies[active].astype(np.int64).sum())  # beyond 88 s doubles would round
    return math.sqrt(math.ldexp(total / int(lengths[active].sum()), 2 * (exponent - BITS)))


def rms_db(x):
    """RMS of ``x`` in dB of full scale; -inf for silence."""
    power = mean_square(x)
    return 10 * math.log10(power) if power > 0 else -math.inf


def from_db(db):
    """Amplitude ratio of ``db``."""
    return 10.0 ** (db / 20)
