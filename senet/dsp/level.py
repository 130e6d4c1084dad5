"""Signal levels: RMS, dB of full scale."""

import math

import numpy as np

_BITS = 18
# Samples summed at a time. Up to 2**(53 - 2 * _BITS) squares add up in a double without rounding; below 10,000 values
# OpenBLAS does not start threads of its own, which would fight with those that read the audio.
_BLOCK = 1 << 13


def mean_square(x):
    """Mean of squares of ``x`` (N,), finite; 0.0 for no samples.

    The sum is taken over whole numbers (2**-18 of the largest magnitude; exact for 16-bit recordings), so it does
    not depend on the order in which a processor adds: a gain derived from it is the same on every machine.
    """
    x = np.asarray(x)
    exponent = math.frexp(float(np.abs(x).max(initial=0.0)))[1]  # |x| < 2**exponent
    scale, total = x.dtype.type(2.0 ** (_BITS - exponent)), 0
    for i in range(0, len(x), _BLOCK):
        steps = np.rint(x[i : i + _BLOCK] * scale).astype(np.float64)
        total += int(np.dot(steps, steps))
    return math.ldexp(total / len(x), 2 * (exponent - _BITS)) if total else 0.0


def rms(x):
    return math.sqrt(mean_square(x))


def rms_db(x):
    """RMS of ``x`` in dB of full scale; -inf for silence."""
    power = mean_square(x)
    return 10 * math.log10(power) if power > 0 else -math.inf


def from_db(db):
    """Amplitude ratio of ``db``."""
    return 10.0 ** (db / 20)
