"""Segmental SNR, log-likelihood ratio and weighted spectral slope: distances of short frames, averaged.

Frames of 30 ms every 7.5 ms under a Hann window without its zeros. One more would fit at the end in most signals; the
programs behind the published tables leave it out, and so does this.

The floor in WSS's band energies makes it depend on the level: samples have to be in [-1, 1] as everywhere here, not
16-bit integers and not those divided by 32768 twice (there are scripts with either).

Sources: Hansen and Pellom, ICSLP 1998 (segmental SNR); Quackenbush, Barnwell and Clements, "Objective measures of
speech quality", 1988 (LLR); Klatt, ICASSP 1982 (WSS); constants as in the MATLAB programs of Hu and Loizou, IEEE TASLP
16(1), 2008.
"""

import functools
import logging
import math

import numpy as np

from senet.metrics.base import Undefined, metric, shared

FRAME = 0.03  # seconds
HOPS = 4  # per frame
EPS = np.finfo(np.float64).eps  # on the samples, so that digital silence divides nothing by zero
BLOCK = 128  # frames transformed together: they fit a cache
KEPT = 0.95  # share of the frames with the smallest distances; the others are outliers
RATES = (8000, 16000)  # at which LLR's order and WSS's bands are meant

SNR_RANGE = (-10, 35)  # dB
LLR_CAP = 2
LLR_OF_INVALID = 1000  # ratio of a frame whose prediction errors are not positive, or not finite

BAND_CENTRES = (
    *(50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72, 1442.54),
    *(1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63),
)  # Hz
BAND_WIDTHS = (
    *(70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154),
    *(183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136),
)  # Hz
NEAR_MAXIMUM, NEAR_PEAK = 20, 1  # dB: how fast a band's weight falls with its distance to the loudest, and to a peak
FLOOR = 1e-10  # of a band's energy


@metric("SSNR", unit="dB", digits=2, bounds=SNR_RANGE)
def ssnr(est, ref, sample_rate):
    """Segmental SNR in dB: the mean over all frames, pauses included, of each one's SNR within -10 to 35 dB."""
    return mean_snr(est, ref, sample_rate)


@shared
def mean_snr(est, ref, sample_rate):
    """Segmental SNR of checked signals, in dB."""
    clean, error = (_of_frames(_energy, x, sample_rate) for x in (ref, ref - est))
    return np.clip(10 * np.log10(clean / (error + EPS) + EPS), *SNR_RANGE).mean()


@metric("LLR capped", rates=RATES, lower_is_better=True, bounds=(0, LLR_CAP))
def llr(est, ref, sample_rate):
    """Log-likelihood ratio of linear prediction, each frame's at most 2; 0 is best; 8 or 16 kHz."""
    return lowest_mean(np.minimum(llr_of_frames(est, ref, sample_rate), LLR_CAP))


@metric("LLR uncapped", rates=RATES, lower_is_better=True, bounds=(0, math.inf))
def llr_uncapped(est, ref, sample_rate):
    """The same without a limit for a frame, as the composites and most tables have it; 0 is best; 8 or 16 kHz."""
    return lowest_mean(llr_of_frames(est, ref, sample_rate))


@metric("WSS", rates=RATES, lower_is_better=True, digits=2, bounds=(0, math.inf))
def wss(est, ref, sample_rate):
    """Weighted spectral slope distance in 25 critical bands up to 3.8 kHz; 0 is best; 8 or 16 kHz."""
    return lowest_mean(wss_of_frames(est, ref, sample_rate))


def lowest_mean(values):
    """Mean of the lowest 95 %."""
    return np.sort(values)[: round(KEPT * len(values))].mean()


@shared
def llr_of_frames(est, ref, sample_rate):
    """Log-likelihood ratio of each frame (T,), without a cap."""
    order = 10 if sample_rate < 10000 else 16
    ratio = _likelihood_ratio(*(_of_frames(_autocorrelation, x + EPS, sample_rate, order) for x in (est, ref)))
    invalid = ~(np.isfinite(ratio) & (ratio > 0))
    if invalid.any():
        logging.warning("LLR: %d of %d frames have no valid ratio; taken as bad", invalid.sum(), len(ratio))
    return np.log(np.where(invalid, LLR_OF_INVALID, ratio))


@shared
def wss_of_frames(est, ref, sample_rate):
    """Weighted spectral slope distance of each frame (T,)."""
    return _slope_distance(*(_of_frames(_band_levels, x + EPS, sample_rate, sample_rate) for x in (est, ref)))


def _of_frames(feature, x, sample_rate, *args):
    """``feature(frames (t, W), *args) -> (K, t)`` of all windowed frames of a signal: (K, T)."""
    size = round(FRAME * sample_rate)
    hop = size // HOPS
    count = int(len(x) / hop - size / hop)
    if count < 1:
        raise Undefined(f"shorter than {(size + hop) / sample_rate:g} s")
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    view = np.lib.stride_tricks.sliding_window_view(x, size)[: count * hop : hop]
    blocks = (view[i : i + BLOCK] for i in range(0, count, BLOCK))
    return np.concatenate([feature(window * block, *args) for block in blocks], axis=-1)


def _energy(x):
    """Of each frame of (T, W): (T,)."""
    return _products(x, x)


def _products(x, y):
    """Inner product of each frame (T, W) of one with that of the other: (T,). BLAS is twice as fast here as einsum."""
    return (x[:, None] @ y[..., None])[:, 0, 0]


def _autocorrelation(x, order):
    """Sums over each frame of (T, W) at the lags 0 to ``order``: (order + 1, T)."""
    size = x.shape[1]
    return np.stack([_products(x[:, : size - k], x[:, k:]) for k in range(order + 1)])


def _likelihood_ratio(enhanced, clean):
    """How much worse the predictor of the one signal is for the other than that one's own, from autocorrelations."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _prediction_error(enhanced, clean) / _prediction_error(clean, clean)


def _prediction_error(r, of):
    """Energy that the predictor made from the autocorrelations ``r`` leaves of a signal with those in ``of``: (T,)."""
    a = _predictor(r)
    size = len(a)
    terms = (of[k] * np.einsum("it,it->t", a[: size - k], a[k:]) for k in range(1, size))
    return of[0] * np.einsum("it,it->t", a, a) + 2 * sum(terms)


def _predictor(r):
    """Prediction error filters [1, -a1, ..., -aP] of (P + 1, T) autocorrelations, by Levinson and Durbin."""
    a = np.zeros_like(r)
    a[0] = 1
    error = r[0].copy()
    for i in range(1, len(r)):
        reflection = -np.einsum("it,it->t", a[:i], r[i:0:-1]) / error
        a[1 : i + 1] += reflection * a[i - 1 :: -1]
        error *= 1 - reflection**2
    return a


def _band_levels(x, sample_rate):
    """In dB, of frames (T, W): (25, T)."""
    from scipy import fft

    size = 1 << (2 * x.shape[1] - 1).bit_length()
    filters = _band_filters(size, sample_rate)
    spectrum = fft.rfft(x, size)[:, : filters.shape[1]]
    return 10 * np.log10(np.maximum(filters @ (spectrum.real**2 + spectrum.imag**2).T, FLOOR))


@functools.cache
def _band_filters(size, sample_rate):
    """Power weights of the critical bands (25, bins), up to the last bin that has one."""
    bins = size / sample_rate  # per Hz
    centres, widths = np.array(BAND_CENTRES)[:, None], np.array(BAND_WIDTHS)[:, None]
    distance = (np.arange(size // 2) - np.floor(centres * bins)) / (widths * bins)
    filters = np.exp(-11 * distance**2 + np.log(widths[0] / widths))
    filters[filters <= np.exp(-30 / (2 * 2.303))] = 0
    return filters[:, : np.flatnonzero(filters[-1])[-1] + 1]


def _slope_distance(*levels):
    """Of the band levels of the two signals, (25, T) each: (T,)."""
    difference, weights = 0, 0
    for sign, level in zip((1, -1), levels, strict=True):
        slope = np.diff(level, axis=0)
        difference = difference + sign * slope
        near_maximum = NEAR_MAXIMUM / (NEAR_MAXIMUM + level.max(axis=0) - level[:-1])
        near_peak = NEAR_PEAK / (NEAR_PEAK + _peaks(level, slope) - level[:-1])
        weights = weights + near_maximum * near_peak / 2
    return (weights * difference**2).sum(axis=0) / weights.sum(axis=0)


def _peaks(level, slope):
    """Level in dB of the spectral peak next to each band but the last: uphill from it, (24, T).

    Where the slope rises this is the band before the peak, as in the original program.
    """
    bands = len(slope)
    ahead = np.full(slope.shape, bands)  # the first band from here on that does not rise
    behind = np.full(slope.shape, -1)  # the last band up to here that rises
    for k in range(bands):
        behind[k] = np.where(slope[k] > 0, k, behind[k - 1] if k else -1)
    for k in reversed(range(bands)):
        ahead[k] = np.where(slope[k] > 0, ahead[k + 1] if k + 1 < bands else bands, k)
    return np.take_along_axis(level, np.where(slope > 0, ahead - 1, behind + 1), axis=0)
