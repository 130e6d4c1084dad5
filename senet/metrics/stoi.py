"""Short-time objective intelligibility, about 0 to 1 (some papers print per cent); higher is better.

Both scores compare, in blocks of 30 frames (384 ms), the envelopes of 15 third-octave bands at 10 kHz, without the
frames where the reference is more than 40 dB below its loudest. The numbers are those of the package pystoi, which
the tests hold against these; two habits of it are mended here: it returns 1e-5 when fewer than 30 frames remain, and
ESTOI adds noise from NumPy's global generator, which decides the value where the estimate is digital silence: here
such a part has no correlation with anything, which is that value's mean.

Sources: Taal, Hendriks, Heusdens and Jensen, IEEE TASLP 19(7), 2011 (STOI); Jensen and Taal, IEEE/ACM TASLP 24(11),
2016 (ESTOI).
"""

import functools

import numpy as np

from senet.metrics.base import Undefined, is_silent, metric, shared

RATE = 10000  # Hz; what follows is in samples at this rate
FRAME, HOP, FFT = 256, 128, 512
FRAMES = 30  # of a block
BANDS, LOWEST = 15, 150  # number; centre of the lowest in Hz
DYNAMIC_RANGE = 40  # dB
CLIP = 1 + 10 ** (15 / 20)  # a band's envelope counts up to this times the reference's: an SDR of -15 dB
TOO_SHORT = f"fewer than {FRAMES} frames of speech"
EPS = np.finfo(np.float64).eps
BLOCK = 64  # frames, or blocks of frames, computed together: they fit a cache


@metric("STOI", revision=2, bounds=(-1, 1))
def stoi(est, ref, sample_rate):
    """Short-time objective intelligibility, about 0 to 1; any rate, at least 0.4 s of speech in the reference."""
    return _mean(_correlations, envelopes(est, ref, sample_rate))


@metric("ESTOI", revision=2, bounds=(-1, 1))
def estoi(est, ref, sample_rate):
    """Extended STOI, for noise whose level changes, about 0 to 1; any rate, at least 0.4 s of speech."""
    return _mean(_spectral_correlations, envelopes(est, ref, sample_rate))


@shared
def envelopes(est, ref, sample_rate):
    """Magnitudes in the bands and speech frames, of estimate and reference: (2, BANDS, frames)."""
    if is_silent(est):
        raise Undefined("the estimate is silent")
    signals = _resample(np.stack([est, ref]), sample_rate)
    window = np.hanning(FRAME + 2)[1:-1].reshape(2, HOP)  # of the two hops of a frame
    count = -(-(signals.shape[1] - FRAME) // HOP)  # a frame that just fits at the end does not count
    if count <= FRAMES:
        raise Undefined(TOO_SHORT)
    hops = signals[:, : (count + 1) * HOP].reshape(2, -1, HOP)
    power = hops[1] ** 2 @ window.T**2
    level = 20 * np.log10(np.sqrt(power[:-1, 0] + power[1:, 1]) + EPS)
    speech = level > level.max() - DYNAMIC_RANGE
    joined = np.zeros((2, np.count_nonzero(speech) + 1, HOP))  # the speech frames, overlapping again
    joined[:, :-1] += hops[:, :-1][:, speech] * window[0]
    joined[:, 1:] += hops[:, 1:][:, speech] * window[1]
    count = joined.shape[1] - 2  # again without the last
    if count < FRAMES:
        raise Undefined(TOO_SHORT)
    parts = (joined[:, i : min(i + BLOCK, count) + 1] for i in range(0, count, BLOCK))
    return np.concatenate([_bands(part, window) for part in parts], axis=2)


def _resample(x, sample_rate):
    """To RATE, with the filter of Octave's ``resample``, as the authors' program does: (2, N) to (2, M)."""
    if sample_rate == RATE:
        return x
    from scipy.signal import resample_poly

    divisor = np.gcd(RATE, sample_rate)
    up, down = RATE // divisor, sample_rate // divisor
    return resample_poly(x, up, down, axis=1, window=_octave_filter(up, down))


@functools.cache
def _octave_filter(up, down):
    """Sinc under a Kaiser window: 60 dB of rejection, a transition as wide as a tenth of the band."""
    cutoff = 1 / (2 * max(up, down))  # relative to the rate in between
    half = np.ceil((60 - 8) / (28.714 * cutoff / 10))
    taps = np.sinc(2 * cutoff * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, 0.1102 * (60 - 8.7))
    return taps / taps.sum()


def _bands(hops, window):
    """Band magnitudes (2, BANDS, T) of the frames that each two of the (2, T + 1, HOP) hops make."""
    from scipy import fft

    frames = np.concatenate([hops[:, :-1] * window[0], hops[:, 1:] * window[1]], axis=2)
    spectrum = fft.rfft(frames, FFT)
    return np.sqrt((spectrum.real**2 + spectrum.imag**2) @ _band_filters()).transpose(0, 2, 1)


@functools.cache
def _band_filters():
    """Which bins belong to which band (FFT / 2 + 1, BANDS): those from its lower edge's nearest to its upper's."""
    bins = np.arange(FFT // 2 + 1)
    edges = LOWEST * 2 ** ((2 * np.arange(BANDS + 1) - 1) / 6) * FFT / RATE
    nearest = np.abs(bins[:, None] - edges).argmin(axis=0)
    return ((bins[:, None] >= nearest[:-1]) & (bins[:, None] < nearest[1:])).astype(np.float64)


def _mean(correlations, bands):
    """Mean of the correlations (., S) of all blocks of FRAMES frames."""
    count = bands.shape[2] - FRAMES + 1
    total = 0
    for i in range(0, count, BLOCK):
        stop = min(i + BLOCK, count)
        part = bands[..., i : stop + FRAMES - 1]
        found = correlations(*np.lib.stride_tricks.sliding_window_view(part, stop - i, axis=2))  # (BANDS, FRAMES, S)
        total += found.sum() / len(found)
    return total / count


def _correlations(est, ref):
    """Of each band over the frames: (BANDS, S)."""
    gain = _norm(ref, 1) / (_norm(est, 1) + EPS)
    est = np.minimum(est * gain, ref * CLIP)
    est, ref = (x - x.mean(axis=1, keepdims=True) for x in (est, ref))
    return (est * ref).sum(axis=1) / ((_norm(est, 1) + EPS) * (_norm(ref, 1) + EPS))[:, 0]


def _spectral_correlations(est, ref):
    """Of each frame over the bands, whose levels and ranges are made equal before: (FRAMES, S)."""
    est, ref = (_normalised(_normalised(x, 1), 0) for x in (est, ref))
    return (est * ref).sum(axis=0)


def _normalised(x, axis):
    """Mean 0 and norm 1 along an axis; 0 where all values are equal."""
    x = x - x.mean(axis=axis, keepdims=True)
    norm = _norm(x, axis)
    return x / np.where(norm > 0, norm, 1)


def _norm(x, axis):
    return np.sqrt((x * x).sum(axis=axis, keepdims=True))
