"""Log-spectral distance: against plain loops, and what changes it."""

import math

import numpy as np
import pytest

from senet import metrics
from senet.metrics.lsd import lsd

FS = 16000


@pytest.fixture(scope="module")
def noises():
    return 0.1 * np.random.default_rng(7).standard_normal((2, FS // 4))


def plain_lsd(est, ref, floor):
    """Frames of 512 every 128 samples, by the definition of the transform."""
    bins = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / 512) for i in range(512)]
    distances = []
    for start in range(0, len(ref) - 511, 128):
        levels = [
            20 * np.log10(np.maximum(np.abs(bins @ (window * x[start : start + 512])), floor)) for x in (est, ref)
        ]
        distances.append(math.sqrt(sum((levels[0] - levels[1]) ** 2) / 257))
    return sum(distances) / len(distances)


def test_equals_plain_loops(noises):
    est, ref = noises
    assert lsd(est, ref, FS) == pytest.approx(plain_lsd(est, ref, 0), rel=0.02)  # hardly a bin is below the floor
    ref = ref * np.linspace(0, 1, len(ref)) ** 4
    loudest = max(
        np.abs(np.fft.rfft(ref[i : i + 512] * np.hanning(513)[:-1])).max() for i in range(0, len(ref) - 511, 128)
    )
    assert lsd(est, ref, FS) == pytest.approx(plain_lsd(est, ref, loudest / 10**2.5), abs=1e-9)


def test_a_gain_is_its_level_in_db(noises):
    ref = noises[1]
    assert lsd(ref / 2, ref, FS) == pytest.approx(20 * math.log10(2), abs=0.02)  # some bins are near the floor
    assert lsd(-ref, ref, FS) == pytest.approx(0, abs=1e-9)  # phases do not count


def test_silence_in_the_estimate_is_at_most_the_range(noises):
    ref = noises[1]
    assert 30 < lsd(0 * ref, ref, FS) <= 50
    assert lsd(0 * ref, 1e-3 * ref, FS) == pytest.approx(lsd(0 * ref, ref, FS), abs=1e-9)


def test_shorter_than_a_frame(noises):
    est, ref = noises[:, :511]
    assert metrics.compute("lsd", est, ref, FS)[1] == "shorter than 0.032 s"
