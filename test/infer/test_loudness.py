"""Levels over the frames where something is heard, and signals that wait for their gain."""

import numpy as np
import pytest

from senet.infer import loudness

RATE = 1000


def metered(x, size=70):
    meter = loudness.Meter(RATE)
    for _ in meter.over(x[i : i + size] for i in range(0, len(x), size)):
        pass
    return meter


def test_gain_is_that_of_the_frames_that_are_active():
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(4000)
    speech[1000:3000] *= 1e-3  # 60 dB below: a pause
    noisy = speech.copy()
    noisy[1000:3000] += rng.standard_normal(2000)  # noise in the pause alone
    assert loudness.gain(metered(noisy), metered(0.25 * speech)) == pytest.approx(4)


def test_gain_does_not_depend_on_the_blocks_and_takes_all_channels_together():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2345, 2)).astype(np.float32)
    y = x * [0.5, 0.1]
    expected = np.sqrt((x**2).sum() / (y**2).sum())
    for size in (1, 70, 5000):
        assert loudness.gain(metered(x, size), metered(y, size)) == pytest.approx(expected)
    assert metered(y).peak == np.abs(y).max()


def test_silence_has_no_gain():
    assert loudness.gain(metered(np.ones(500)), metered(np.zeros(500))) == 1


@pytest.mark.parametrize("shape", [(1000,), (1000, 3)])
@pytest.mark.parametrize("in_memory", [10, 1 << 20])
def test_what_is_held_comes_back(tmp_path, monkeypatch, shape, in_memory):
    monkeypatch.setattr(loudness, "_IN_MEMORY", in_memory)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with loudness.held(iter([x[:300], x[300:]]), tmp_path) as parts:
        assert np.array_equal(np.concatenate(list(parts)), x)
    assert not list(tmp_path.iterdir())
