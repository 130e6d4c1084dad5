"""How far a mean over utterances can be trusted: bootstrap intervals, paired differences of two systems, and tests.

Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4), 2015, for the
expanded percentile interval: the plain one is too short for few utterances, by about sqrt((n - 1) / n) and by the
difference between the normal and Student's distribution. Of 20 scores it covers the mean 93 to 95 % of the time, 92 %
where they are as skewed as an exponential; the bootstrap-t mends that and loses as much where scores have long tails
or many ties.

Utterances count as independent. Those of one speaker or one noise are not quite: an interval tells how the mean would
vary over other utterances of the same speakers and noises, not over other speakers.
"""

import math
from typing import NamedTuple

import numpy as np

MIN_FOR_INTERVAL = 5  # of fewer values, resamples cover the mean 50 to 90 % of the time
RESAMPLES = 4000
_BLOCK = 1 << 21  # draws held at a time
_EXACT, _EXACT_TIED = 50, 13  # so many differences have an exact p


class Mean(NamedTuple):
    """A mean with its 95 % interval; nan where there are too few values."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values, **options):
    """Mean of independent values, shape (n,), and its bootstrap interval; see ``mean_intervals``."""
    return mean_intervals([values], **options)[0]


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
        columns: k sequences of n scores of the same independent utterances, not finite where a score failed: such a
            column's means are over what a resample holds of the others.
        level: coverage.
        resamples: bootstrap samples; the ends' random error is about 2 % of the interval's width for 4000.
        seed: of the resampling; equal input gives an equal interval.
    Returns:
        list of k Means; the interval needs MIN_FOR_INTERVAL values, the mean one.
    """
    values = np.asarray(columns, np.float64)
    finite = np.isfinite(values)
    n = finite.sum(axis=1)
    with np.errstate(invalid="ignore"):
        means = values.sum(axis=1, where=finite) / n
    deviations = np.zeros(values.shape, np.float32)  # from the means: no digits are lost
    np.subtract(values, means[:, None], out=deviations, where=finite, casting="same_kind")
    low, high = np.full((2, len(values)), math.nan)
    enough = n >= MIN_FOR_INTERVAL
    if enough.any():
        resampled = _resampled(deviations, finite, resamples, seed)[enough]
        low[enough], high[enough] = means[enough] + _quantiles(resampled, _tail(level, n[enough]))
    return list(map(Mean, means.tolist(), low.tolist(), high.tolist(), n.tolist()))


def _quantiles(rows, tail):
    """Those of the shares ``tail`` and 1 - ``tail``, (k,), of each row's finite values: (2, k). Sorts the rows."""
    rows.sort(axis=1)  # nan last
    last = rows.shape[1] - 1 - np.isnan(rows).sum(axis=1)
    at = np.stack([tail, 1 - tail]) * last
    before = at.astype(int)
    below, above = (rows[np.arange(len(rows)), i].astype(np.float64) for i in (before, np.minimum(before + 1, last)))
    return below + (at - before) * (above - below)


def _tail(level, n):
    from scipy import special

    return special.ndtr(np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 - level) / 2))


def _resampled(values, present, resamples, seed):
    """Means of resamples, shape (k, resamples), of values (k, n), which are 0 where they are not ``present``."""
    n = values.shape[1]
    incomplete = np.flatnonzero(~present.all(axis=1))
    there = present[incomplete].astype(values.dtype)
    means = np.empty((len(values), resamples), values.dtype)
    draw, rows = _Draws(n, seed), max(1, _BLOCK // n)
    for i in range(0, resamples, rows):
        counts = draw(min(rows, resamples - i))
        block = means[:, i : i + len(counts)]
        block[:] = values @ counts.T
        number = counts.sum(axis=1)
        block /= number
        with np.errstate(invalid="ignore", divide="ignore"):  # of few values, a resample may hold none
            block[incomplete] *= number / (there @ counts.T)
    return means


class _Draws:
    """Resamples of n utterances, as counts that are as if n were drawn one by one.

    Independent Poisson counts are such counts, of as many draws as they add up to. So one look-up for each utterance
    does for nearly all draws, and the few that lack are drawn one by one.
    """

    def __init__(self, n, seed):
        from scipy import special

        self.n = n
        self._random, self._more = np.random.default_rng(seed).spawn(2)  # blocks of any size go on where one ended
        rate = max(0, 1 - 3 / math.sqrt(n))  # more than n are drawn once in 1000 times
        steps = np.rint(special.pdtr(np.arange(12), rate) * (1 << 16)).astype(int)
        self._counts = np.repeat(np.arange(12, dtype=np.float32), np.diff(steps, prepend=0))  # of a number of 16 bits

    def __call__(self, rows):
        """Float32 (rows, n)."""
        words = self._random.bit_generator.random_raw(rows * -(-self.n // 4))
        counts = self._counts[words.view(np.uint16).reshape(rows, -1)[:, : self.n]]
        lack = np.maximum(0, self.n - counts.sum(axis=1)).astype(int)
        first = np.repeat(self.n * np.arange(rows), lack)
        # A Python 1 would be cast for each draw, in 50 times the time.
        np.add.at(counts.reshape(-1), first + self._more.integers(0, self.n, len(first)), np.float32(1))
        return counts


def signed_rank_p(difference):
    """Two-sided p of Wilcoxon's signed-rank test that paired differences, shape (n,), lie symmetrically around 0.

    Those that are 0 or not finite are left out; 1 where none is left. Up to 50 that all differ, or 13 others, give the
    exact p, else it is of the normal approximation, with the variance for ties: as scipy.stats.wilcoxon, in a quarter
    of the time.

    Source: Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", Wiley, 2014, section 3.1.
    """
    difference = difference[np.isfinite(difference) & (difference != 0)]
    size, n = np.abs(difference), len(difference)
    if not n:
        return 1.0
    order = np.argsort(size)
    last = np.append(np.flatnonzero(np.diff(size[order])), n - 1) + 1  # rank in each run of ties
    ties = np.diff(last, prepend=0)
    ranks = np.repeat(last - (ties - 1) / 2, ties)
    positive = ranks[difference[order] > 0].sum()
    if n <= (_EXACT if len(ties) == n else _EXACT_TIED):
        return _exact_p(ranks, positive)
    variance = (n * (n + 1) * (2 * n + 1) - (ties**3 - ties).sum() / 2) / 24
    return math.erfc(abs(positive - n * (n + 1) / 4) / math.sqrt(2 * variance))


def _exact_p(ranks, positive):
    """The share of all ways to give ranks signs in which those of the positive ones add up as far from the middle."""
    ranks = (2 * ranks).astype(int)  # those of ties may end in .5
    ways = np.zeros(ranks.sum() + 1)  # by the sum
    ways[0] = 1
    for rank in ranks:
        ways[rank:] += ways[:-rank].copy()
    off = abs(2 * np.arange(len(ways)) - ranks.sum())
    return float(ways[off >= off[round(2 * positive)]].sum() / ways.sum())


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
