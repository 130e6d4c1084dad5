"""Signal levels: RMS, dB of full scale."""

import math

import numpy as np

_BLOCK = 1 << 20


def mean_square(x):
    """Mean of squares of ``x`` (N,), full scale = 1; 0.0 for no samples.

    The sum is taken over integers (steps of 2**-20, exact for 16-bit recordings), so it does not depend
    on the order in which a processor adds: a gain derived from it is the same on every machine.
    """
    total = 0
    for i in range(0, len(x), _BLOCK):
        steps = np.rint(np.asarray(x[i : i + _BLOCK], np.float64) * 2.0**20).astype(np.int64)
        total += int(np.dot(steps, steps))
    return total / (len(x) * 2.0**40) if len(x) else 0.0


def rms(x):
    return math.sqrt(mean_square(x))


def rms_db(x):
    """RMS of ``x`` in dB of full scale; -inf for silence."""
    power = mean_square(x)
    return 10 * math.log10(power) if power > 0 else -math.inf


def from_db(db):
    """Amplitude ratio of ``db``."""
    return 10.0 ** (db / 20)
