"""Active speech level: the level of speech while somebody speaks, pauses left out. ITU-T P.56 method B."""

import math

import numpy as np

from senet.dsp.level import rms_db

SMOOTHING = 0.03  # s: time constant of the envelope, applied twice
HANGOVER = 0.2  # s for which speech counts as active after its envelope fell below the threshold
MARGIN = 15.9  # dB between the active level and the threshold that decides what is active


def active_level_db(x, sample_rate):
    """RMS of the active part of ``x`` (N,), in dB of full scale; -inf for silence.

    A sample is active when the envelope reaches a threshold, or did within the last 200 ms. The energy of the whole
    signal over the active samples gives a level for each threshold; the wanted one lies 15.9 dB above its threshold.
    The recommendation looks at 15 thresholds, each half of the one before, and interpolates. Here they are 0.75 dB
    apart and start from the signal's largest magnitude, so that a gain moves the level by exactly that gain.

    Args:
        x: float (N,), any scale.
        sample_rate: Hz.
    """
    x = np.asarray(x, np.float64)
    long_term_db = rms_db(x)  # over all samples, active or not
    if long_term_db == -math.inf:
        return -math.inf
    thresholds = np.abs(x).max() * 2.0 ** np.arange(-24, 0, 1 / 8)
    active = len(x) - np.searchsorted(np.sort(_held_envelope(x, sample_rate)), thresholds)
    thresholds, active = thresholds[active > 0], active[active > 0]
    level_db = long_term_db + 10 * np.log10(len(x) / active)
    distance_db = level_db - 20 * np.log10(thresholds)
    near = np.flatnonzero(distance_db <= MARGIN)
    if not near.size:  # next to nothing but clicks
        return float(level_db[-1])
    between = [near[0], near[0] - 1]
    return float(np.interp(MARGIN, distance_db[between], level_db[between]))


def _held_envelope(x, sample_rate):
    """Largest envelope of the last 200 ms, at each sample."""
    from scipy.ndimage import maximum_filter1d
    from scipy.signal import lfilter

    keep = math.exp(-1 / (SMOOTHING * sample_rate))
    envelope = lfilter([(1 - keep) ** 2], [1, -2 * keep, keep**2], np.abs(x))
    size = round(HANGOVER * sample_rate) + 1
    return maximum_filter1d(envelope, size, mode="constant", origin=(size - 1) // 2)
