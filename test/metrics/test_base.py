"""Names, checks and reasons that all metrics share."""

import math

import numpy as np
import pytest

from senet import metrics
from senet.errors import UserError

FS = 16000


@pytest.fixture
def signal():
    rng = np.random.default_rng(0)
    return 0.1 * rng.standard_normal(2 * FS) * (1 + np.sin(np.arange(2 * FS) / 800))


@pytest.mark.parametrize("name", metrics.names())
class TestEveryMetric:
    def test_a_worse_estimate_scores_lower(self, name, vectors):
        c, v = vectors
        assert metrics.find(name)[0](c + 0.5 * v, c, FS) > metrics.find(name)[0](c + 2 * v, c, FS)

    @pytest.mark.parametrize(
        ("est", "ref", "reason"),
        [
            (lambda s: s, lambda s: 0 * s, "the reference is silent"),
            (lambda s: s, lambda s: 0 * s + 0.1, "the reference is silent"),
            (lambda s: np.where(s == s[5], np.nan, s), lambda s: s, "the estimate holds NaN or infinity"),
            (lambda s: s, lambda s: np.where(s == s[5], np.inf, s), "the reference holds NaN or infinity"),
            (lambda s: s[:-400], lambda s: s, "the lengths differ by more than 16 ms"),
            (lambda s: s[:0], lambda s: s, "the estimate is empty"),
        ],
    )
    def test_bad_input_has_a_reason(self, name, signal, est, ref, reason):
        value, found = metrics.compute(name, est(signal), ref(signal), FS)
        assert math.isnan(value)
        assert found == reason

    def test_ten_milliseconds_give_a_number_or_a_reason(self, name, signal):
        value, reason = metrics.compute(name, signal[:160] + 0.01, signal[:160], FS)
        assert math.isfinite(value) == (reason is None)

    def test_silent_estimate_gives_a_number_or_a_reason(self, name, signal):
        value, reason = metrics.compute(name, 0 * signal, signal, FS)
        assert math.isfinite(value) == (reason is None)

    def test_a_few_samples_less_are_cut(self, name, signal):
        noisy = signal + 0.1 * np.roll(signal, 777)
        assert metrics.compute(name, noisy, signal[:-200], FS) == metrics.compute(name, noisy[:-200], signal[:-200], FS)

    def test_inputs_are_left_alone(self, name, signal):
        noisy = (signal + 0.1 * np.roll(signal, 777)).astype(np.float32)
        ref, before = signal.astype(np.float32), noisy.copy()
        metrics.compute(name, noisy, ref, FS)
        assert np.array_equal(noisy, before) and np.array_equal(ref, signal.astype(np.float32))

    def test_version_names_the_packages(self, name):
        found = metrics.find(name)[0]
        assert all(p in found.version for p in found.packages)


@pytest.mark.parametrize("name", sorted(set(metrics.names()) - {"si_sdr"}))  # which depends on the correlation only
def test_estimate_comes_first(name, signal):
    quiet = np.where(np.arange(len(signal)) < FS, signal, 0.01 * signal)
    score = metrics.find(name)[0]
    assert score(quiet, signal, FS) != pytest.approx(score(signal, quiet, FS), abs=1e-3)


def test_improvement_is_the_difference(vectors):
    c, v = vectors
    value, reason = metrics.compute("snri", c + 0.1 * v, c, FS, noisy=c + v)
    assert reason is None
    assert value == pytest.approx(20, abs=1e-9)
    assert metrics.compute("si_sdri", c + v, c, FS, noisy=c + v) == (0, None)


def test_improvement_over_an_unusable_input_says_so(signal):
    value, reason = metrics.compute("snri", 0.5 * signal, signal, FS, noisy=np.full_like(signal, np.nan))
    assert math.isnan(value)
    assert reason == "noisy input: the estimate holds NaN or infinity"


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"no metric 'sisdr'; did you mean 'si_sdr'\?.*pesq_wb"):
        metrics.find("sisdr")


def test_several_channels_are_refused(signal):
    with pytest.raises(ValueError, match=r"mono signals of shape \(N,\)"):
        metrics.compute("snr", signal[:, None], signal, FS)
