"""Reverberation by room impulse responses (RIRs)."""

import numpy as np

EARLY_SECONDS = 0.05


def early_part(rir, sample_rate):
    """``rir`` (M,) up to 50 ms after its largest magnitude: the direct sound and the early reflections."""
    return rir[: int(np.abs(rir).argmax()) + round(EARLY_SECONDS * sample_rate)]


def reverberate(x, rir):
    """The first N samples of the convolution of ``x`` (N,) with ``rir`` (M,); float32 (N,).

    In double precision, so that another processor's way to add makes no difference to a 16-bit result. Blocks of a few
    times the RIR (overlap-save) take half the time of one transform over everything, and stay in the cache.
    """
    from scipy import fft

    n, rir = len(x), rir[: len(x)].astype(np.float64)
    overlap = len(rir) - 1
    size = 1 << (min(3 * len(rir), n + overlap) - 1).bit_length()
    step = size - overlap
    spectrum = fft.rfft(rir, size, workers=1)
    block, y = np.zeros(size), np.empty(n, np.float32)
    for start in range(0, n, step):
        block[:overlap] = block[step:]  # what the block before ended with
        new = x[start : start + step]
        block[overlap : overlap + len(new)] = new
        product = fft.rfft(block, workers=1)
        product *= spectrum
        y[start : start + step] = fft.irfft(product, size, overwrite_x=True, workers=1)[overlap : overlap + len(new)]
    return y
