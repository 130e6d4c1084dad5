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
SYMMETRIC = {"si_sdr", "si_sdr_with_mean", "wss"}
UNUSABLE = "neither float nor 16- or 32-bit integers"


def compute(name, est, ref, rate=FS):
    """Of a system that leaves the clean signal as it is."""
    return metrics.compute(name, est, ref, rate, noisy=est, enhanced_clean=ref)


def pcm(x, kind):
    return np.round(x * (np.iinfo(kind).max + 1)).astype(kind)


NUMBER, EITHER = None, object()  # what is expected: a score; a score or a reason; this very reason
EDGES = {
    "silent estimate": (lambda s: 0 * s, lambda s: s, EITHER),
    "constant estimate": (lambda s: 0 * s + 0.1, lambda s: s, EITHER),
    "silent reference": (lambda s: s, lambda s: 0 * s, "the reference is silent"),
    "constant reference": (lambda s: s, lambda s: 0 * s + 0.1, "the reference is silent"),
    "both silent": (lambda s: 0 * s, lambda s: 0 * s, "the reference is silent"),
    "equal": (lambda s: s, lambda s: s, EITHER),
    "10 ms": (lambda s: s[:160] + 0.01, lambda s: s[:160], EITHER),
    "two samples": (lambda s: s[:2] + 0.01, lambda s: s[:2], EITHER),
    "one sample": (lambda s: s[:1], lambda s: s[:1], "the reference is silent"),
    "empty estimate": (lambda s: s[:0], lambda s: s, "the estimate is empty"),
    "empty reference": (lambda s: s, lambda s: s[:0], "the reference is empty"),
    "no reference": (lambda s: s, lambda s: None, "not computed: there is no reference"),
    "NaN": (lambda s: np.where(s == s[5], np.nan, s), lambda s: s, "the estimate holds NaN or infinity"),
    "infinity": (lambda s: s, lambda s: np.where(s == s[5], np.inf, s), "the reference holds NaN or infinity"),
    "shorter": (lambda s: s[:-400], lambda s: s, "the lengths differ by more than 16 ms"),
    "longer": (lambda s: np.r_[s, s], lambda s: s, "the lengths differ by more than 16 ms"),
    "clipped": (lambda s: np.clip(30 * s, -1, 32767 / 32768), lambda s: s, NUMBER),
    "first half silent": (lambda s: np.where(np.arange(len(s)) < FS, 0, 0.9 * s), lambda s: s, NUMBER),
    "reference's first half silent": (lambda s: 0.9 * s, lambda s: np.where(np.arange(len(s)) < FS, 0, s), NUMBER),
    "impulse": (lambda s: np.eye(1, len(s), 9)[0], lambda s: s, EITHER),
    "impulse as reference": (lambda s: s, lambda s: np.eye(1, len(s), 9)[0], EITHER),
    "very quiet": (lambda s: 1e-200 * s, lambda s: 1e-200 * s[::-1], EITHER),
    "int16": (lambda s: pcm(0.9 * s, np.int16), lambda s: pcm(s, np.int16), NUMBER),
    "int32": (lambda s: pcm(0.9 * s, np.int32), lambda s: pcm(s, np.int32), NUMBER),
    "float16": (lambda s: (0.9 * s).astype(np.float16), lambda s: s.astype(np.float16), NUMBER),
    "uint8": (lambda s: pcm(s, np.int16).astype(np.uint8), lambda s: s, f"the estimate is uint8, {UNUSABLE}"),
    "complex": (lambda s: s, lambda s: s + 0j, f"the reference is complex128, {UNUSABLE}"),
    "16 bits as floats": (
        lambda s: 32768.0 * s,
        lambda s: 32768.0 * s,
        "the reference is far outside [-1, 1]",
    ),
}


@pytest.mark.parametrize("name", WITH_REFERENCE)
class TestEveryMetricWithAReference:
    def test_a_worse_estimate_scores_worse(self, name, vectors):
        c, v = vectors
        found = metrics.find(name)[0]
        inputs = {"noisy": c + v, "enhanced_clean": c + 0.1 * v}
        better, worse = (metrics.compute(name, c + gain * v, c, FS, **inputs)[0] for gain in (0.5, 2))
        assert better < worse if found.lower_is_better else better > worse

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    @pytest.mark.parametrize("edge", EDGES)
    def test_edge_inputs_give_a_number_or_a_reason(self, name, edge, signal):
        est, ref, expected = EDGES[edge]
        value, reason = compute(name, est(signal), ref(signal))
        assert math.isfinite(value) == (reason is None)
        if expected is NUMBER:
            assert reason is None
        elif expected is not EITHER:
            assert reason == expected

    @pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
    def test_other_rates_give_a_number_or_their_name(self, name, rate, signal):
        value, reason = compute(name, 0.9 * signal + 0.01 * np.roll(signal, 777), signal, rate)
        assert math.isfinite(value) if reason is None else f"sample rate is {rate} Hz" in reason

    @pytest.mark.parametrize("kind", [np.int16, np.int32])
    def test_integers_are_taken_for_what_they_mean(self, name, signal, kind):
        integers = [pcm(x, kind) for x in (0.9 * signal + 0.01 * np.roll(signal, 777), signal)]
        floats = [x / 2.0 ** (8 * x.itemsize - 1) for x in integers]
        assert compute(name, *integers) == compute(name, *floats)

    def test_a_few_samples_less_are_cut(self, name, signal):
        noisy = signal + 0.1 * np.roll(signal, 777)
        assert compute(name, noisy, signal[:-200]) == compute(name, noisy[:-200], signal[:-200])

    def test_inputs_are_left_alone(self, name, signal):
        noisy = (signal + 0.1 * np.roll(signal, 777)).astype(np.float32)
        ref, before = signal.astype(np.float32), noisy.copy()
        compute(name, noisy, ref)
        assert np.array_equal(noisy, before) and np.array_equal(ref, signal.astype(np.float32))

    def test_version_names_the_packages(self, name):
        found = metrics.find(name)[0]
        assert all(p in found.version for p in found.packages)

    def test_nothing_is_better_than_the_reference_itself(self, name, vectors):
        c, v = (x[: 2 * FS] for x in vectors)
        ref = c + 0.1 * v
        value, reason = metrics.compute(name, ref, ref, FS, noisy=ref + v, enhanced_clean=ref)
        if reason:
            assert reason in IDENTITY[name]
        else:
            assert value == pytest.approx(IDENTITY[name], abs=1e-3) if np.isscalar(IDENTITY[name]) else value > 90

    def test_estimate_and_reference_do_not_change_places(self, name, signal):
        quiet = np.where(np.arange(len(signal)) < FS, signal, 0.01 * np.convolve(signal, [1, 0.9], "same"))
        there, back = (compute(name, *pair)[0] for pair in ((0.5 * quiet, signal), (signal, 0.5 * quiet)))
        if name in SYMMETRIC:
            assert there == pytest.approx(back, abs=1e-6)
        else:
            assert abs(there - back) > 1e-3


NOTHING_LEFT = ("the estimate is a filtered reference and nothing else",)
IDENTITY = {  # the score, or reasons for having none; () for one without a bound
    "pesq_wb": 4.6439,
    "pesq_nb": 4.5486,
    "pesq_nb_raw": 4.5,
    "csig": 5,
    "cbak": 5,
    "covl": 5,
    "ssnr": 35,
    "llr": 0,
    "llr_uncapped": 0,
    "wss": 0,
    "lsd": 0,
    "stoi": 1,
    "estoi": 1,
    "snr": ("the estimate equals the reference",),
    "si_sdr": (),
    "si_sdr_with_mean": (),
    "sdr": NOTHING_LEFT,
    "lowlatency_repo_sdr": NOTHING_LEFT,
    "lowlatency_repo_snri": ("there is no noise in the estimate",),
}


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
