"""Signal-to-noise ratios: what changes them and what does not."""

import numpy as np
import pytest

from senet import metrics
from senet.metrics.snr import si_sdr, si_sdr_with_mean, snr

FS = 16000


@pytest.mark.parametrize("gain", [0.01, 0.5, 3, -1])
def test_si_sdr_ignores_gain_and_offset_of_either_signal(vectors, gain):
    c, v = vectors
    base = si_sdr(c + v, c, FS)
    assert si_sdr(gain * (c + v) + 0.01, c, FS) == pytest.approx(base, abs=1e-9)
    assert si_sdr(c + v, gain * c - 0.02, FS) == pytest.approx(base, abs=1e-9)


def test_an_offset_counts_where_the_means_are_kept(vectors):
    c, v = vectors
    c, v = c - c.mean(), v - v.mean()
    assert si_sdr_with_mean(c + v, c, FS) == pytest.approx(si_sdr(c + v, c, FS), abs=1e-9)
    assert si_sdr_with_mean(3 * (c + v), c, FS) == pytest.approx(si_sdr(c + v, c, FS), abs=1e-9)
    offset = 0.5
    target = (c + v) @ c / (c @ c) * c
    expected = 10 * np.log10(target @ target / np.sum((c + v + offset - target) ** 2))
    assert si_sdr_with_mean(c + v + offset, c, FS) == pytest.approx(expected, abs=1e-9)
    assert expected < si_sdr(c + v + offset, c, FS) - 5


def test_snr_sees_gain():
    t = np.sin(np.arange(1000.0))
    assert snr(0.5 * t, t, FS) == pytest.approx(10 * np.log10(4))


def test_a_known_ratio():
    s, n = np.sin(2 * np.pi * np.arange(FS) / 100), np.cos(2 * np.pi * np.arange(FS) / 100)  # orthogonal, equal energy
    assert snr(s + 0.1 * n, s, FS) == pytest.approx(20)
    assert si_sdr(s + 0.1 * n, s, FS) == pytest.approx(20)


def test_length_does_not_matter():
    s, n = np.sin(2 * np.pi * np.arange(FS) / 100), np.cos(2 * np.pi * np.arange(FS) / 100)
    long = si_sdr(np.tile(s + 0.1 * n, 7), np.tile(s, 7), FS)
    assert long == pytest.approx(si_sdr(s + 0.1 * n, s, FS), abs=1e-9)


def test_silent_estimate():
    s = np.sin(np.arange(1000.0))
    assert snr(0 * s, s, FS) == pytest.approx(0)
    assert metrics.compute("si_sdr", 0 * s, s, FS)[1] == "the estimate is silent"


def test_equal_signals_have_no_snr_and_a_very_large_si_sdr():
    s = np.sin(np.arange(1000.0))
    assert metrics.compute("snr", s, s, FS)[1] == "the estimate equals the reference"
    assert si_sdr(s, s, FS) > 150
