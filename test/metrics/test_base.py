"""Names, checks and reasons that all metrics share."""

import math

import numpy as np
import pytest

from senet import metrics
from senet.errors import UserError
from senet.metrics.base import shared

FS = 16000


@pytest.fixture
def signal():
    rng = np.random.default_rng(0)
    return 0.1 * rng.standard_normal(2 * FS) * (1 + np.sin(np.arange(2 * FS) / 800))


WITH_REFERENCE = [name for name in metrics.names() if metrics.find(name)[0].reference]


@pytest.mark.parametrize("name", WITH_REFERENCE)
class TestEveryMetricWithAReference:
    def test_a_worse_estimate_scores_worse(self, name, vectors):
        c, v = vectors
        found = metrics.find(name)[0]
        better, worse = found(c + 0.5 * v, c, FS), found(c + 2 * v, c, FS)
        assert better < worse if found.lower_is_better else better > worse

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

    def test_a_clipped_estimate_gives_a_number(self, name, signal):
        clipped = np.clip(30 * signal, -1, 32767 / 32768)
        assert np.mean(np.abs(clipped) > 0.99) > 0.1
        value, reason = metrics.compute(name, clipped, signal, FS)
        assert math.isfinite(value) and reason is None

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


@pytest.mark.parametrize("name", sorted(set(WITH_REFERENCE) - {"si_sdr", "wss", "llr"}))  # these are symmetric here
def test_estimate_comes_first(name, signal):
    quiet = np.where(np.arange(len(signal)) < FS, signal, 0.01 * signal)
    score = metrics.find(name)[0]
    assert score(quiet, signal, FS) != pytest.approx(score(signal, quiet, FS), abs=1e-3)


class TestShared:
    """What metrics have in common is computed once, and only for the same samples."""

    @pytest.fixture
    def calls(self):
        return []

    @pytest.fixture
    def work(self, calls):
        @shared
        def work(est, ref, power):
            calls.append(power)
            if not est.any():
                raise metrics.Undefined("silent")
            return float(((est - ref) ** power).sum())

        return work

    def test_same_samples_are_not_computed_again(self, work, calls, signal):
        assert work(signal, 0 * signal, 2) == work(signal.copy(), 0 * signal, 2)
        assert calls == [2]

    def test_other_samples_or_arguments_are(self, work, calls, signal):
        first = work(signal, 0 * signal, 2)
        assert work(signal, 0 * signal, 4) != first
        assert work(signal[:-1], 0 * signal[:-1], 2) != first
        signal *= 2  # the very array that was remembered
        assert work(signal, 0 * signal, 2) == pytest.approx(4 * first)
        assert calls == [2, 4, 2, 2]

    def test_an_estimate_and_its_noisy_input_take_turns(self, work, calls, signal):
        for _ in range(3):
            work(signal, 0 * signal, 2)
            work(3 * signal, 0 * signal, 2)
        assert calls == [2, 2]

    def test_a_reason_is_remembered(self, work, calls, signal):
        for _ in range(2):
            with pytest.raises(metrics.Undefined, match="^silent$"):
                work(0 * signal, signal, 2)
        assert calls == [2]


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
