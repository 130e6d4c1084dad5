"""Reverberation by room impulse responses (RIRs)."""

import numpy as np

EARLY_SECONDS = 0.05


def early_part(rir, sample_rate):
    """``rir`` (M,) up to 50 ms after its largest magnitude: the direct sound and the early reflections."""
    return rir[: int(np.abs(rir).argmax()) + round(EARLY_SECONDS * sample_rate)]


def reverberate(x, rir):
    """The first N samples of the convolution of ``x`` (N,) with ``rir`` (M,); float32 (N,).

    In double precision, so that another processor's way to add makes no difference to a 16-bit result. Blocks of about
    four times the RIR (overlap-save) take a third of the time of one transform over everything.
    """
    from scipy import fft

    n, rir = len(x), rir[: len(x)]
    overlap = len(rir) - 1
    size = 1 << (min(4 * len(rir), n + overlap) - 1).bit_length()
    step = size - overlap
    blocks = -(-n // step)
    padded = np.zeros(overlap + blocks * step)
    padded[overlap : overlap + n] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    spectra = fft.rfft(windows, workers=1) * fft.rfft(rir.astype(np.float64), size, workers=1)
    return fft.irfft(spectra, size, workers=1)[:, overlap:].reshape(-1)[:n].astype(np.float32)
