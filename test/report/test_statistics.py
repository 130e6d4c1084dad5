"""Intervals that cover the truth as often as they say, and tests that err no more often than they say."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from senet.report.statistics import _Draws, holm, mean_interval, mean_intervals, paired_difference, signed_rank_p

TIES = np.array([-0.2, 0.0, 0.1, 0.3])  # as of scores with few steps, or systems that often do the same
SHARES = (0.15, 0.4, 0.25, 0.2)
GAIN = 0.3  # the true mean difference of the others


def differences(kind, n, k, seed):
    """Differences of k pairs of simulated systems on n utterances, (n, k), and their true mean."""
    rng = np.random.default_rng(seed)
    if kind == "tied":
        return rng.choice(TIES, (n, k), p=SHARES), TIES @ SHARES
    difficulty = rng.normal(2, 1, (n, k))  # which a difference does not have
    if kind == "skewed":  # skewness 1, as of PESQ improvements
        gain = rng.gamma(4, GAIN / 4, (n, k))
    elif kind == "long tails":  # kurtosis 6 above a normal distribution's
        gain = GAIN + rng.laplace(0, 0.5, (n, k)) * rng.choice([0.5, 1, 1.5], (n, k))
    else:
        gain = rng.normal(GAIN, 0.5, (n, k))
    found = (difficulty + gain) - difficulty
    if kind == "failures":
        found[rng.random((n, k)) < 0.15] = np.nan
    return found, GAIN


@pytest.mark.parametrize("kind", ["normal", "skewed", "tied", "long tails", "failures"])
@pytest.mark.parametrize("n", [20, 100, 824])
def test_interval_covers_a_known_difference_95_times_in_100(kind, n):
    hits = trials = 0
    for seed in range(4):  # trials share their resamples, which makes the test fast, four times
        found, truth = differences(kind, n, 750, seed)
        for result in mean_intervals(found.T, resamples=2000, seed=seed):
            hits += result.low <= truth <= result.high
            trials += 1
    assert 0.93 <= hits / trials <= 0.97  # its standard error is 0.4 %


def test_strongly_skewed_scores_need_more_utterances():
    def coverage(n):
        columns = np.random.default_rng(0).exponential(1, (3000, n))
        return np.mean([low <= 1 <= high for _, low, high, _ in mean_intervals(columns, resamples=1000)])

    assert coverage(20) == pytest.approx(0.92, abs=0.01) and coverage(150) > 0.935


@pytest.mark.parametrize(("n", "kind"), [(20, "normal"), (20, "tied"), (100, "skewed"), (100, "tied"), (824, "normal")])
def test_without_a_difference_any_of_many_is_found_at_most_5_times_in_100(n, kind):
    """Of 4 systems and 3 related metrics, all as good as the baseline, the corrected test finds a better or worse one
    in at most 5 % of the reports; the uncorrected one in many."""
    rng, families = np.random.default_rng(1), 800 if n < 800 else 400
    wrong = uncorrected = 0
    for _ in range(families):
        if kind == "tied":
            own = rng.choice(TIES, (5, n, 3), p=SHARES)
        elif kind == "skewed":
            own = rng.gamma(1, 1, (5, n, 3))
        else:
            own = rng.normal(0, 1, (5, n, 3))
        scores = np.round(rng.normal(0, 2, (n, 3)) + own + own.mean(axis=2, keepdims=True), 2)
        p = [
            signed_rank_p(scores_of[:, metric] - scores[0][:, metric])
            for scores_of in scores[1:]
            for metric in range(3)
        ]
        wrong += min(holm(p)) < 0.05
        uncorrected += min(p) < 0.05
    assert wrong / families <= 0.05
    assert uncorrected / families > 0.15


def test_a_difference_is_found():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        p = [signed_rank_p(rng.normal(mean, 1, 200)) for mean in (0.35, 0, 0, 0, 0, 0, 0, 0)]
        found += holm(p)[0] < 0.05
    assert found > 190


def test_intervals_are_those_of_an_independent_bootstrap():
    x = np.random.default_rng(2).gamma(2, 1, 100)
    ours = mean_interval(x)
    options = {"confidence_level": ours_level(100), "n_resamples": 20000, "method": "percentile", "rng": 0}
    theirs = stats.bootstrap((x,), np.mean, **options).confidence_interval
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.03 * (theirs.high - theirs.low))


def ours_level(n):
    return 1 - 2 * stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))


def test_paired_difference_is_narrower_than_the_two_means():
    rng = np.random.default_rng(0)
    difficulty = rng.normal(2, 1, 300)
    a, b = (difficulty + rng.normal(m, 0.1, 300) for m in (0.1, 0))
    difference = paired_difference(a, b)
    assert difference.low > 0
    assert difference.mean == pytest.approx((a - b).mean())
    alone = mean_interval(a)
    assert difference.high - difference.low < 0.2 * (alone.high - alone.low)


def test_failed_utterances_are_left_out_of_the_pairs():
    difference = paired_difference([1, math.nan, 3, 4], [0, 5, math.nan, 1])
    assert difference.n == 2
    assert difference.mean == 2


class TestColumns:
    def test_have_the_intervals_that_they_have_alone(self):
        columns = np.random.default_rng(0).normal([[1], [2], [-3]], [[1], [1e-3], [50]], (3, 200))
        for column, together in zip(columns, mean_intervals(columns), strict=True):
            alone = mean_interval(column)
            width = alone.high - alone.low
            assert together.mean == alone.mean
            assert [together.low, together.high] == pytest.approx([alone.low, alone.high], abs=1e-5 * width)

    def test_differ_as_their_utterances_do(self):
        """The same resamples serve all: the interval of a sum is not that of independent columns."""
        a = np.random.default_rng(0).normal(0, 1, 100)
        one, double = mean_intervals([a, 2 * a])
        assert double.high == pytest.approx(2 * one.high, rel=1e-6)

    def test_with_failures_have_the_interval_of_what_is_left(self):
        rng = np.random.default_rng(0)
        a = rng.normal(3, 1, 400)
        a[rng.choice(400, 100, replace=False)] = math.inf
        left, alone = mean_intervals([a, np.zeros(400)])[0], mean_interval(a[np.isfinite(a)])
        assert (left.mean, left.n) == (pytest.approx(alone.mean, rel=1e-14), 300)
        assert [left.low, left.high] == pytest.approx([alone.low, alone.high], abs=0.06 * (alone.high - alone.low))

    def test_in_which_all_or_all_but_one_failed(self):
        columns = [[math.nan] * 9, [math.nan, 2, *[math.nan] * 7], [*range(5), *[math.nan] * 4]]
        none, one, five = mean_intervals(columns)
        assert none.n == 0 and math.isnan(none.mean)
        assert one[0] == 2 and math.isnan(one.low)
        assert five.low < 2 < five.high and five.n == 5

    def test_far_from_0_lose_no_digits(self):
        x = np.random.default_rng(0).normal(0, 1e-3, 100)
        near, far = mean_intervals([x, x + 1e4])
        assert far.high - 1e4 == pytest.approx(near.high, abs=1e-9)


def test_equal_input_gives_equal_intervals_and_the_seed_matters():
    x = np.random.default_rng(3).normal(size=50)
    assert mean_interval(x) == mean_interval(x)
    assert mean_interval(x, seed=1) != mean_interval(x)


def test_counts_are_as_likely_as_those_of_single_draws():
    """Of each n: its counts add up to n, and their distribution is the binomial one of drawing n times with 1/n."""
    for n in (5, 17, 30, 400, 3000):
        counts = _Draws(n, 0)(max(20, 400_000 // n))
        assert (counts.sum(axis=1) >= n).all() and (counts.sum(axis=1) == n).mean() > 0.99
        found = np.bincount(counts.astype(int).ravel(), minlength=5)[:5] / counts.size
        assert found == pytest.approx(stats.binom.pmf(range(5), n, 1 / n), abs=0.004)
        assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=6 * counts.shape[0] ** -0.5)


def test_few_values():
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([2.5])[0] == 2.5 and math.isnan(mean_interval([2.5]).low)
    assert mean_interval([1, 2, 3, 4])[0] == 2.5 and math.isnan(mean_interval([1, 2, 3, 4]).low)  # far too short
    assert mean_interval([2.0] * 5) == (2.0, 2.0, 2.0, 5)


def test_block_size_does_not_change_the_result(monkeypatch):
    x = np.random.default_rng(3).normal(size=50)
    whole = mean_interval(x)
    monkeypatch.setattr("senet.report.statistics._BLOCK", 1000)
    assert mean_interval(x) == pytest.approx(whole, rel=1e-6)


class TestSignedRank:
    def test_p_is_the_share_of_all_signs_that_are_as_extreme(self):
        x = np.array([0.4, -0.1, 0.7, 0.9, -0.2, 1.3, 0.3, 0.55])
        ranks = stats.rankdata(abs(x))
        sums = [np.dot(ranks, signs) for signs in itertools.product((-1, 1), repeat=len(x))]
        expected = np.mean(np.abs(sums) >= abs(np.dot(ranks, np.sign(x))))
        assert signed_rank_p(x) == pytest.approx(expected)
        assert signed_rank_p(-x) == pytest.approx(expected)

    @pytest.mark.parametrize("n", [1, 2, 5, 13, 14, 20, 50, 51, 300, 20_000])
    @pytest.mark.parametrize("kind", ["normal", "tied", "long tails"])
    def test_p_is_that_of_scipy(self, n, kind):
        for seed in range(3):
            x = differences(kind, n, 1, seed)[0][:, 0] - 0.2
            x = x[x != 0]
            expected = stats.wilcoxon(x).pvalue if len(x) else 1
            assert signed_rank_p(x) == pytest.approx(expected, rel=1e-9, abs=1e-300)

    def test_what_is_equal_or_failed_says_nothing(self):
        x = np.array([0.4, -0.1, 0.7, 0.9, -0.2])
        assert signed_rank_p(np.array([*x, 0, 0, math.nan])) == signed_rank_p(x)
        assert signed_rank_p(np.zeros(9)) == signed_rank_p(np.array([math.nan])) == 1


def test_holm():
    # 0.005 * 4; 0.01 * 3; 0.03 * 2; 0.04 may not be below 0.03's
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert len(holm([])) == 0
