"""Log-spectral distance in dB: how far apart the short-time spectra are, without their phases; 0 is best.

The root mean square over the bins, averaged over the frames, of the difference between the levels in dB, as Gray and
Markel define the distance. A bin more than 50 dB below the loudest of the reference counts as that, in both signals,
or digital silence would decide the score; Cohen and Gannot confine the range to 50 dB, too (recalled, not looked up).
Frames are 32 ms under a Hann window, every 8 ms. Papers differ in the range and in the frames, and some have natural
logarithms, or powers of ten without the factor: compare with values made here only.

Sources: Gray and Markel, "Distance measures for speech processing", IEEE TASSP 24(5), 1976; Cohen and Gannot, "Spectral
enhancement methods", Springer Handbook of Speech Processing, 2008.
"""

import math

import numpy as np

from senet.metrics.base import Undefined, metric

FRAME, HOP = 0.032, 0.008  # seconds
RANGE = 50  # dB
BLOCK = 128  # frames transformed together: they fit a cache


@metric("LSD", unit="dB", lower_is_better=True, digits=2, bounds=(0, math.inf))
def lsd(est, ref, sample_rate):
    """Log-spectral distance in dB, 0 (equal spectra) to about 50; any rate, at least 32 ms. It sees the level."""
    loudest = max(block.max() for block in _powers(ref, sample_rate))
    if loudest == 0:
        raise Undefined("the reference is silent")
    distances = []
    for powers in zip(_powers(est, sample_rate), _powers(ref, sample_rate), strict=True):
        enhanced, clean = (10 * np.log10(np.maximum(x, loudest * 10 ** (-RANGE / 10))) for x in powers)
        distances.append(np.sqrt(((enhanced - clean) ** 2).mean(axis=1)))
    return np.concatenate(distances).mean()


def _powers(x, sample_rate):
    """Of each frame and bin (t, F), BLOCK frames at a time."""
    from scipy import fft, signal

    size, hop = round(FRAME * sample_rate), round(HOP * sample_rate)
    if len(x) < size:
        raise Undefined(f"shorter than {FRAME} s")
    window = signal.windows.hann(size, sym=False)
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[::hop]
    for i in range(0, len(frames), BLOCK):
        spectrum = fft.rfft(window * frames[i : i + BLOCK])
        yield spectrum.real**2 + spectrum.imag**2
