import numpy as np
import pytest
from scipy.signal import fftconvolve

from senet.dsp.reverb import early_part, reverberate

RATE = 16000


def room(n, peak, rng):
    """A decaying response with its direct sound at sample ``peak``."""
    rir = 0.2 * rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * (np.arange(n) >= peak)
    rir[peak] = -1.0
    return rir.astype(np.float32)


@pytest.mark.parametrize(("n", "m"), [(160000, 16000), (48000, 5000), (16000, 40000), (16000, 1), (100, 100), (1, 50)])
def test_reverberation_is_the_beginning_of_the_convolution(n, m):
    rng = np.random.default_rng(n + m)
    x, rir = rng.uniform(-1, 1, n).astype(np.float32), rng.standard_normal(m).astype(np.float32)
    (y,) = reverberate(x, rir)
    assert y.dtype == np.float32
    expected = fftconvolve(x.astype(float), rir.astype(float))[:n]
    np.testing.assert_allclose(y, expected, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "m"), [(30000, 4000), (5000, 4999), (40000, 20)])
def test_of_16_bit_recordings_it_is_exact_so_no_transform_decides_how_it_is_rounded(n, m):
    rng = np.random.default_rng(n)
    x, rir = rng.integers(-32768, 32768, n), rng.integers(-32768, 32768, m)
    (y,) = reverberate(x.astype(np.float32) / 32768, rir.astype(np.float32) / 32768)
    exact = np.convolve(x, rir)[:n]  # of integers
    assert (np.abs(exact) > 1 << 25).mean() > 0.5  # which float32 has to round, one in some ten just between two steps
    np.testing.assert_array_equal(y, (exact / 2**30).astype(np.float32))


def test_several_responses_are_as_each_alone():
    rng = np.random.default_rng(1)
    x, rir = rng.uniform(-1, 1, 20000).astype(np.float32), room(6000, 90, rng)
    both = reverberate(x, rir, early_part(rir, RATE))
    for y, alone in zip(both, (rir, early_part(rir, RATE)), strict=True):
        np.testing.assert_array_equal(y, reverberate(x, alone)[0])


def test_a_delayed_impulse_delays():
    x = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    rir = np.zeros(300, np.float32)
    rir[120] = 0.5
    (y,) = reverberate(x, rir)
    np.testing.assert_allclose(y[120:], 0.5 * x[:-120], atol=2**-19)
    np.testing.assert_array_equal(y[:120], 0)


def test_early_part_ends_50_ms_after_the_main_peak():
    rir = room(8000, 200, np.random.default_rng(0))
    early = early_part(rir, RATE)
    assert len(early) == 200 + 800
    np.testing.assert_array_equal(early, rir[:1000])
    assert len(early_part(rir[:500], RATE)) == 500  # all of a short one
