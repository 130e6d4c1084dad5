"""SDR: against a least-squares solution, and what it forgives."""

import numpy as np
import pytest

from senet import metrics
from senet.metrics.sdr import sdr
from senet.metrics.snr import si_sdr

FS = 16000


@pytest.fixture
def signals():
    rng = np.random.default_rng(5)
    return rng.standard_normal((2, 3000))


def test_equals_the_projection_on_all_delayed_references(signals):
    ref, noise = signals
    est = np.convolve(ref, [0.3, -1, 0.5])[: len(ref)] + 0.2 * noise
    shifted = np.stack([np.r_[np.zeros(k), ref, np.zeros(511 - k)] for k in range(512)], axis=1)
    padded = np.r_[est, np.zeros(511)]
    target = shifted @ np.linalg.lstsq(shifted, padded, rcond=None)[0]
    expected = 10 * np.log10(np.sum(target**2) / np.sum((padded - target) ** 2))
    assert sdr(est, ref, FS) == pytest.approx(expected, abs=1e-7)


def test_forgives_a_delay_that_si_sdr_does_not(signals):
    ref, noise = signals
    ref[-300:] = 0
    est = np.roll(ref, 300) + 0.1 * noise
    assert sdr(est, ref, FS) > 15
    assert si_sdr(est, ref, FS) < 0


def test_identity_is_far_above_anything_or_has_a_reason(signals):
    value, reason = metrics.compute("sdr", signals[0], signals[0], FS)
    assert value > 90 or reason == "the estimate is a filtered reference and nothing else"


def test_level_does_not_matter(signals):
    ref, noise = signals
    assert sdr(5 * (ref + noise), 0.1 * ref, FS) == pytest.approx(sdr(ref + noise, ref, FS), abs=1e-8)
