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
    y = reverberate(x, rir)
    assert y.dtype == np.float32
    expected = fftconvolve(x.astype(float), rir.astype(float))[:n]
    np.testing.assert_allclose(y, expected, atol=1e-7 * np.abs(expected).max())


def test_a_delayed_impulse_delays():
    x = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    rir = np.zeros(300, np.float32)
    rir[120] = 0.5
    np.testing.assert_allclose(reverberate(x, rir)[120:], 0.5 * x[:-120], atol=1e-7)
    np.testing.assert_allclose(reverberate(x, rir)[:120], 0, atol=1e-7)


def test_early_part_ends_50_ms_after_the_main_peak():
    rir = room(8000, 200, np.random.default_rng(0))
    early = early_part(rir, RATE)
    assert len(early) == 200 + 800
    np.testing.assert_array_equal(early, rir[:1000])
    assert len(early_part(rir[:500], RATE)) == 500  # all of a short one
