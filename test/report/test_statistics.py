"""Intervals that cover the truth as often as they say."""

import math

import numpy as np
import pytest

from senet.report.statistics import mean_interval, paired_difference


def coverage(draw, truth, trials=600):
    hits = 0
    for trial in range(trials):
        result = mean_interval(draw(np.random.default_rng(trial)), resamples=600, seed=trial)
        hits += result.low <= truth <= result.high
    return hits / trials


@pytest.mark.parametrize("n", [10, 100])
def test_interval_covers_the_mean_95_times_in_100(n):
    # The standard error of a coverage over 600 trials is 0.9 %.
    assert coverage(lambda rng: rng.normal(3, 2, n), truth=3) == pytest.approx(0.95, abs=0.025)


def test_coverage_of_a_skewed_score():
    assert coverage(lambda rng: rng.exponential(1, 150), truth=1) == pytest.approx(0.945, abs=0.03)


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


def test_equal_input_gives_equal_intervals_and_the_seed_matters():
    x = np.random.default_rng(3).normal(size=50)
    assert mean_interval(x) == mean_interval(x)
    assert mean_interval(x, seed=1) != mean_interval(x)


def test_few_values():
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([2.5])[0] == 2.5 and math.isnan(mean_interval([2.5]).low)
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0, 3)


def test_block_size_does_not_change_the_result(monkeypatch):
    x = np.random.default_rng(3).normal(size=50)
    whole = mean_interval(x)
    monkeypatch.setattr("senet.report.statistics._BLOCK", 1000)
    assert mean_interval(x) == whole
