"""Short-time objective intelligibility, about 0 to 1 (some papers print per cent); higher is better.

Computed by the package pystoi, which resamples to 10 kHz and drops the frames where the reference is more than
40 dB below its loudest. Two habits of it are mended here: it returns 1e-5 when fewer than 30 frames (0.4 s) remain,
and ESTOI adds noise from NumPy's global generator, which decides the value where a band of the estimate is exactly 0.

Sources: Taal, Hendriks, Heusdens and Jensen, IEEE TASLP 2011 (STOI); Jensen and Taal, IEEE/ACM TASLP 2016 (ESTOI).
"""

import warnings

import numpy as np

from senet.metrics.base import Undefined, is_silent, metric

FRAMES = 30
TOO_FEW_FRAMES = 1e-5  # what pystoi returns then


def _stoi(est, ref, sample_rate, extended):
    import pystoi

    if is_silent(est):
        raise Undefined("the estimate is silent")
    if len(ref) < 0.0128 * FRAMES * sample_rate:  # a frame every 12.8 ms; pystoi fails on far shorter signals
        raise Undefined(f"fewer than {FRAMES} frames of speech")
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = pystoi.stoi(ref, est, sample_rate, extended=extended)
    finally:
        np.random.set_state(state)
    if value == TOO_FEW_FRAMES:
        raise Undefined(f"fewer than {FRAMES} frames of speech")
    return value


@metric("STOI", packages=("pystoi",))
def stoi(est, ref, sample_rate):
    """Short-time objective intelligibility; undefined for less than 0.4 s of speech in the reference."""
    return _stoi(est, ref, sample_rate, extended=False)


@metric("ESTOI", packages=("pystoi",))
def estoi(est, ref, sample_rate):
    """Extended STOI, for noise whose level changes; undefined for less than 0.4 s of speech in the reference."""
    return _stoi(est, ref, sample_rate, extended=True)
