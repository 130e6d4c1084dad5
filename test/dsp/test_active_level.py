"""Active speech level, on signals whose pauses are known."""

import math

import numpy as np
import pytest

from senet.dsp.active_level import active_level_db
from senet.dsp.level import rms_db
from senet.dsp.resample import resample

RATE = 16000


def by_the_sample(x, rate):
    """ITU-T P.56 method B with its fixed thresholds, as a loop over samples; None where no threshold is met."""
    keep, hangover = math.exp(-1 / (0.03 * rate)), math.ceil(0.2 * rate)
    thresholds = [2.0**-k for k in range(15, 0, -1)]
    active, idle = [0] * 15, [hangover] * 15
    p = q = energy = 0.0
    for sample in x:
        energy += sample * sample
        p = keep * p + (1 - keep) * abs(sample)
        q = keep * q + (1 - keep) * p
        for j, threshold in enumerate(thresholds):
            idle[j] = 0 if q >= threshold else idle[j] + 1
            active[j] += idle[j] <= hangover
    before = None
    for n, threshold in zip(active, thresholds, strict=True):
        if not n:
            return None
        level = 10 * math.log10(energy / n)
        distance = level - 20 * math.log10(threshold)
        if distance <= 15.9:
            share = (before[1] - 15.9) / (before[1] - distance)
            return before[0] + share * (level - before[0])
        before = level, distance
    return None


def talk(rate, pieces, seed=0):
    """Speech-like noise at -20 dB, and pauses: ``pieces`` are (seconds, whether somebody speaks)."""
    rng = np.random.default_rng(seed)
    spoken = [rng.standard_normal(round(seconds * rate)) * on for seconds, on in pieces]
    return 0.1 * np.concatenate(spoken)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("gain", [0.02, 1.0, 3.0])
def test_agrees_with_the_recommendation_followed_sample_by_sample(rate, gain):
    x = talk(rate, [(0.7, 0), (0.5, 1), (0.1, 0), (0.9, 0.3), (1.1, 0), (0.4, 1)])
    assert active_level_db(gain * x, rate) == pytest.approx(by_the_sample(gain * x, rate), abs=0.05)


@pytest.mark.parametrize("pause", [0.5, 2.0, 8.0])
def test_long_pauses_do_not_count_and_the_hangover_does(pause):
    x = talk(RATE, [(pause, 0), (3, 1), (pause, 0), (3, 1), (pause, 0)])
    # Each stretch of 3 s is counted from some tens of milliseconds after its start to 0.2 s and more after its end.
    assert -20.5 < active_level_db(x, RATE) < -20.1
    assert rms_db(x) == pytest.approx(-20 + 10 * math.log10(6 / (6 + 3 * pause)), abs=0.1)


def test_short_pauses_count():
    x = talk(RATE, [(0.3, 1), (0.1, 0)] * 20)
    assert active_level_db(x, RATE) == pytest.approx(rms_db(x), abs=0.1)


def test_a_gain_moves_the_level_by_exactly_that():
    x = talk(RATE, [(1, 1), (1, 0)])
    for gain in (2.0**-60, 1e-4, 0.3, 32768.0):
        assert active_level_db(gain * x, RATE) == pytest.approx(
            active_level_db(x, RATE) + 20 * math.log10(gain), abs=1e-4
        )


def test_the_sample_rate_does_not_matter():
    x = np.convolve(talk(RATE, [(0.5, 0), (1, 1), (1, 0), (0.5, 0.5)]), [0.25, 0.5, 0.25])
    assert active_level_db(resample(x, RATE, 48000), 48000) == pytest.approx(active_level_db(x, RATE), abs=0.02)


def test_silence_clicks_and_single_samples():
    assert active_level_db(np.zeros(RATE), RATE) == -math.inf
    assert active_level_db(np.zeros(0), RATE) == -math.inf
    for x in (np.eye(1, RATE, 5000)[0], np.ones(1), np.ones(300)):
        assert rms_db(x) - 0.1 <= active_level_db(x, RATE) < math.inf
