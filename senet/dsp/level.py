"""Signal levels: RMS, dB of full scale."""

import math

import numpy as np

BITS = 18  # of the whole numbers that sums are taken over
# Samples summed at a time. Up to 2**(53 - 2 * BITS) squares add up in a double without rounding; below 10,000 values
# OpenBLAS does not start threads of its own, which would fight with those that read the audio.
_BLOCK = 1 << 13
_ROWS = 4  # such sums taken by one call
ACTIVE_FRAME_SECONDS, ACTIVE_RANGE_DB = 0.1, 50


def mean_square(x):
    """Mean of squares of ``x`` (N,), finite; 0.0 for no samples.

    The sum is taken over whole numbers (2**-18 of the largest magnitude; exact for 16-bit recordings), so it does
    not depend on the order in which a processor adds: a gain derived from it is the same on every machine.
    """
    x = np.asarray(x)
    exponent = _exponent(x)
    total = sum(_product(steps, steps) for steps in _blocks(x, exponent))
    return math.ldexp(total / len(x), 2 * (exponent - BITS)) if total else 0.0


def mean_products(x, y):
    """Means of ``x * x``, ``y * y`` and ``x * y`` of two signals (N,), each as exact as ``mean_square``."""
    exponents, totals = (_exponent(x), _exponent(y)), [0, 0, 0]
    for a, b in zip(_blocks(x, exponents[0]), _blocks(y, exponents[1]), strict=True):
        for i, (left, right) in enumerate(((a, a), (b, b), (a, b))):
            totals[i] += _product(left, right)
    shifts = 2 * exponents[0], 2 * exponents[1], sum(exponents)
    return [math.ldexp(n / len(x), shift - 2 * BITS) for n, shift in zip(totals, shifts, strict=True)]


def _blocks(x, exponent):
    """``x`` in whole multiples of 2**(exponent - 18), zero-padded to (rows, ``_BLOCK``), piece by piece, each until the
    next is asked for: nothing leaves the processor's cache."""
    size, scale = _BLOCK * _ROWS, x.dtype.type(2.0 ** (BITS - exponent))
    small, large = np.empty(size, x.dtype), np.empty(size)
    for i in range(0, len(x), size):
        block = x[i : i + size]
        n, rows = len(block), -(-len(block) // _BLOCK)
        steps = small[:n]
        np.rint(np.multiply(block, scale, out=steps), out=steps)
        large[:n], large[n : rows * _BLOCK] = steps, 0
        yield large[: rows * _BLOCK].reshape(rows, _BLOCK)


def _product(x, y):
    """Sum of ``x * y`` (rows, n) of whole numbers, exact: each row by BLAS."""
    return int(np.matmul(x[:, None], y[:, :, None]).sum())


def _exponent(x):
    return math.frexp(max(float(x.max(initial=0.0)), -float(x.min(initial=0.0))))[1]  # |x| < 2**exponent


def whole_steps(x, bits=BITS):
    """``x`` (N,) in whole numbers, float64 (N,), of at most ``bits`` bits; and the exponent of the power of 2 that they
    count, which is that of the largest magnitude."""
    exponent = _exponent(x) - bits
    steps = x * x.dtype.type(2.0**-exponent)
    return np.rint(steps, out=steps).astype(np.float64), exponent


def rms(x):
    return math.sqrt(mean_square(x))


def active_rms(x, sample_rate):
    """RMS of ``x`` (N,) over those of its frames of 100 ms that are within 50 dB of the loudest; 0.0 for silence.

    Frames do not overlap; what is left at the end is a shorter one. Exact in the sense of ``mean_square``.
    """
    x = np.asarray(x)
    (steps, exponent), size = whole_steps(x), round(ACTIVE_FRAME_SECONDS * sample_rate)
    starts = np.arange(0, len(x), size)
    energies = np.add.reduceat(np.square(steps, out=steps), starts)
    lengths = np.diff(starts, append=len(x))
    powers = energies / lengths
    active = powers >= powers.max() * 10 ** (-ACTIVE_RANGE_DB / 10)
    total = int(energies[active].astype(np.int64).sum())  # beyond 88 s doubles would round
    return math.sqrt(math.ldexp(total / int(lengths[active].sum()), 2 * exponent))


def rms_db(x):
    """RMS of ``x`` in dB of full scale; -inf for silence."""
    power = mean_square(x)
    return 10 * math.log10(power) if power > 0 else -math.inf


def is_quieter(x, db):
    """Whether ``rms_db(x) < db``; the exact sum is needed only near the limit."""
    limit = len(x) * 10 ** (db / 10)
    rows = x[: len(x) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    rest = x[rows.size :]
    rough = float(np.matmul(rows[:, None], rows[:, :, None]).sum()) + float(np.dot(rest, rest))
    return rough < limit if abs(rough - limit) > 0.01 * limit else rms_db(x) < db


def from_db(db):
    """Amplitude ratio of ``db``."""
    return 10.0 ** (db / 20)
