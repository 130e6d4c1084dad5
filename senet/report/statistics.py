"""How far a mean over utterances can be trusted: bootstrap intervals, paired differences of two systems, and tests.

Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4), 2015, for the
expanded percentile interval: the plain one is too short for few utterances, by about sqrt((n - 1) / n) and by the
difference between the normal and Student's distribution.
"""

import math
from typing import NamedTuple

import numpy as np

RESAMPLES = 4000
_BLOCK = 1 << 19  # draws held at a time


class Mean(NamedTuple):
    """A mean with its 95 % interval; nan where there are too few values."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values, **options):
    """Mean of independent values, shape (n,), and its bootstrap interval; see ``mean_intervals``."""
    return mean_intervals(np.asarray(values, np.float64)[:, None], **options)[0]


def paired_difference(a, b, **options):
    """Mean of ``a - b`` over the utterances that both have, with its interval.

    Args:
        a, b: scores of two systems on the same utterances in the same order, shape (n,); nan where a score failed.
    """
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return mean_interval(difference[np.isfinite(difference)], **options)


def mean_intervals(columns, level=0.95, resamples=RESAMPLES, seed=0):
    """Means of columns of scores and their bootstrap intervals, all from the same resamples of the utterances.

    A resample is a vector of counts, so the means of all columns are one matrix product.

    Args:
        columns: shape (n, k), of independent utterances; not finite where a score failed. Such a column's means are
            over those that a resample holds of the others.
        level: coverage.
        resamples: bootstrap samples; the ends' random error is about 2 % of the interval's width for 4000.
        seed: of the resampling; equal input gives an equal interval.
    Returns:
        list of k Means; the interval needs two values, the mean one.
    """
    columns = np.asarray(columns, np.float64)
    finite = np.isfinite(columns)
    number = finite.sum(axis=0)
    filled = np.where(finite, columns, 0)
    means = filled.sum(axis=0) / np.where(number, number, np.nan)
    found = [Mean(float(mean), math.nan, math.nan, int(n)) for mean, n in zip(means, number, strict=True)]
    wanted = np.flatnonzero(number > 1)
    if len(wanted):
        centred = np.where(finite, columns - means, 0)[:, wanted]
        for i, deviations in zip(wanted, _resampled(centred, finite[:, wanted], resamples, seed), strict=True):
            tail = _tail(level, found[i].n)
            low, high = np.quantile(deviations[np.isfinite(deviations)], [tail, 1 - tail])
            found[i] = found[i]._replace(low=float(means[i] + low), high=float(means[i] + high))
    return found


def _tail(level, n):
    from scipy import special

    return special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 - level) / 2))


def _resampled(values, finite, resamples, seed):
    """Means of resamples, shape (k, resamples), of values (n, k) that are 0 where they are not finite."""
    rng = np.random.default_rng(seed)
    n, k = values.shape
    incomplete = np.flatnonzero(~finite.all(axis=0))
    present = finite[:, incomplete].astype(np.float64)
    means = np.empty((resamples, k))
    rows = max(1, _BLOCK // n)
    for i in range(0, resamples, rows):
        block = min(rows, resamples - i)
        drawn = rng.integers(0, n, (block, n)) + n * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * n).reshape(block, n).astype(np.float64)
        means[i : i + block] = counts @ values / n
        with np.errstate(invalid="ignore"):  # a resample may hold none of few values
            means[i : i + block, incomplete] *= n / (counts @ present)
    return means.T


def signed_rank_p(difference):
    """Two-sided p of Wilcoxon's signed-rank test that paired differences, shape (n,), lie symmetrically around 0.

    Those that are not finite are left out. 1 where no two scores differ.
    """
    difference = difference[np.isfinite(difference)]
    if not difference.any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(difference).pvalue)


def holm(p):
    """P values corrected for their number: rejecting those below 0.05 rejects any true null at most 5 % of the time.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2),
    1979.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected
