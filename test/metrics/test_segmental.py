"""Segmental SNR, LLR, WSS and the composites: against plain loops, and what changes them and what does not."""

import math

import numpy as np
import pytest

from senet import metrics
from senet.metrics import composite, segmental
from senet.metrics.segmental import llr, ssnr, wss

FS = 16000


@pytest.fixture(scope="module")
def bursts():
    """(est, ref): filtered noise with half a second of digital silence, and the same with noise but in a gap."""
    rng = np.random.default_rng(3)
    t = np.arange(2 * FS)
    ref = np.convolve(rng.standard_normal(len(t)), 0.9 ** np.arange(40), "same") * (1 + np.sin(t / 900)) / 20
    ref[8000:16000] = 0
    est = 0.8 * ref + 0.03 * rng.standard_normal(len(t))
    est[12000:14000] = 0
    return est, ref


def plain_frames(x, fs):
    size = round(0.03 * fs)
    hop = size // 4
    window = [0.5 * (1 - math.cos(2 * math.pi * i / (size + 1))) for i in range(1, size + 1)]
    return [window * x[hop * i : hop * i + size] for i in range(int(len(x) / hop - size / hop))]


def plain_llr(s, x, order):
    """One frame's log-likelihood ratio, by a solver instead of a recursion."""
    from scipy.linalg import solve, toeplitz

    r_s, r_x = (np.array([sum(y[k:] * y[: len(y) - k]) for k in range(order + 1)]) for y in (s, x))
    a_s, a_x = (np.r_[1, -solve(toeplitz(r[:-1]), r[1:])] for r in (r_s, r_x))
    return math.log((a_x @ toeplitz(r_s) @ a_x) / (a_s @ toeplitz(r_s) @ a_s))


def plain_wss(frames, fs, size=1024):
    energies, slopes, weights = [], [], []
    for frame in frames:
        power = np.abs(np.fft.fft(frame, size))[: size // 2] ** 2
        energy = []
        for centre, width in zip(segmental.BAND_CENTRES, segmental.BAND_WIDTHS, strict=True):
            f, b = centre / (fs / 2) * size / 2, width / (fs / 2) * size / 2
            total = 0
            for j in range(size // 2):
                weight = math.exp(-11 * ((j - math.floor(f)) / b) ** 2 + math.log(70) - math.log(width))
                if weight > math.exp(-30 / (2 * 2.303)):
                    total += power[j] * weight
            energy.append(10 * math.log10(max(total, 1e-10)))
        slope = [energy[k + 1] - energy[k] for k in range(24)]
        weight = []
        for k in range(24):
            n = k
            if slope[k] > 0:
                while n < 24 and slope[n] > 0:
                    n += 1
                peak = energy[n - 1]
            else:
                while n >= 0 and slope[n] <= 0:
                    n -= 1
                peak = energy[n + 1]
            weight.append(20 / (20 + max(energy) - energy[k]) * 1 / (1 + peak - energy[k]))
        energies.append(energy)
        slopes.append(slope)
        weights.append(weight)
    w = [(a + b) / 2 for a, b in zip(*weights, strict=True)]
    return sum(c * (a - b) ** 2 for a, b, c in zip(*slopes, w, strict=True)) / sum(w)


def test_ssnr_equals_plain_loops(bursts):
    values = []
    for x, s in zip(*(plain_frames(signal, FS) for signal in bursts), strict=True):
        ratio = sum(s**2) / (sum((s - x) ** 2) + 2.2e-16) + 2.2e-16
        values.append(min(max(10 * math.log10(ratio), -10), 35))
    assert -10 in values
    assert ssnr(*bursts, FS) == pytest.approx(np.mean(values), abs=1e-9)


def test_llr_equals_a_direct_solution_where_there_is_sound(bursts):
    est, ref = bursts
    found = segmental.llr_of_frames(est[:8000], ref[:8000], FS)
    expected = [plain_llr(s, x, 16) for x, s in zip(*(plain_frames(y[:8000], FS) for y in bursts), strict=True)]
    assert found == pytest.approx(expected, abs=1e-9)
    half = segmental.llr_of_frames(est[:8000:2], ref[:8000:2], 8000)
    expected = [plain_llr(s, x, 10) for x, s in zip(*(plain_frames(y[:8000:2], 8000) for y in bursts), strict=True)]
    assert half == pytest.approx(expected, abs=1e-9)


def test_wss_equals_plain_loops(bursts):
    found = segmental.wss_of_frames(*bursts, FS)
    est, ref = (plain_frames(x + 2.2e-16, FS) for x in bursts)
    some = range(0, len(ref), 9)  # the silence among them
    assert found[::9] == pytest.approx([plain_wss((ref[i], est[i]), FS) for i in some], abs=1e-9)
    found = segmental.wss_of_frames(*(x[:8000:2] for x in bursts), 8000)
    est, ref = (plain_frames(x[:8000:2] + 2.2e-16, 8000) for x in bursts)
    assert found[7] == pytest.approx(plain_wss((ref[7], est[7]), 8000, size=512), abs=1e-9)


@pytest.mark.parametrize(("samples", "frames"), [(600, 1), (719, 1), (720, 2), (FS, 129)])
def test_the_last_frame_that_fits_is_left_out(bursts, samples, frames):
    assert len(segmental.wss_of_frames(*(x[:samples] for x in bursts), FS)) == frames


def test_frames_do_not_depend_on_the_blocks(bursts, monkeypatch):
    expected = [f(*bursts, FS) for f in (segmental.llr_of_frames.__wrapped__, segmental.wss_of_frames.__wrapped__)]
    monkeypatch.setattr(segmental, "BLOCK", 7)
    found = [f(*bursts, FS) for f in (segmental.llr_of_frames.__wrapped__, segmental.wss_of_frames.__wrapped__)]
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    assert found[1] == pytest.approx(expected[1], abs=1e-9)


def test_the_worst_frames_do_not_count():
    assert segmental.lowest_mean(np.r_[np.ones(95), np.full(5, 1e9)]) == 1


class TestLevel:
    def test_llr_does_not_see_it(self, vectors):
        c, v = (x[:FS] for x in vectors)
        assert llr(0.1 * (c + v), c, FS) == pytest.approx(llr(c + v, c, FS), abs=1e-6)

    def test_wss_does_not_see_a_gain_above_its_floor(self, vectors):
        c, v = (x[:FS] for x in vectors)
        assert wss(0.5 * (c + v), c, FS) == pytest.approx(wss(c + v, c, FS), abs=1e-6)

    def test_ssnr_does(self, vectors):
        c = vectors[0][:FS]
        assert ssnr(0.5 * c, c, FS) == pytest.approx(20 * math.log10(2), abs=1e-6)


def test_identity_is_the_best(vectors):
    c, v = (x[: 2 * FS] for x in vectors)
    c = c + 0.1 * v
    assert ssnr(c, c, FS) == 35
    assert llr(c, c, FS) == pytest.approx(0, abs=1e-9)
    assert wss(c, c, FS) == 0
    assert [metrics.compute(name, c, c, FS) for name in ("csig", "cbak", "covl")] == [(5, None)] * 3


def test_llr_alone_has_a_cap_and_the_composite_has_none(vectors):
    c = vectors[0][: 2 * FS]
    tone = np.sin(2 * np.pi * 6000 * np.arange(len(c)) / FS)
    assert segmental.llr_uncapped(tone, c, FS) > 2
    assert llr(tone, c, FS) <= 2


def test_frames_without_a_valid_ratio_are_bad_and_counted(monkeypatch, bursts, caplog):
    est, ref = (x[:8000] for x in bursts)
    ratios = np.array([1.0, -1.0, np.nan, np.inf, 0.0])
    monkeypatch.setattr(segmental, "_likelihood_ratio", lambda *args: ratios)
    assert segmental.llr_of_frames.__wrapped__(est, ref, FS) == pytest.approx([0] + 4 * [math.log(1000)])
    assert "4 of 5 frames have no valid ratio" in caplog.text


def test_composites_share_pesq_and_distances(vectors, monkeypatch):
    import pesq

    calls, original = [], pesq.pesq
    monkeypatch.setattr(pesq, "pesq", lambda *args: calls.append(args[-1]) or original(*args))
    c, v = (x[: 2 * FS] for x in vectors)
    for name in ("pesq_wb", "csig", "cbak", "covl", "pesq_wbi", "csigi"):
        assert metrics.compute(name, c + 0.4 * v, c, FS, noisy=c + 0.7 * v)[1] is None
    assert calls == ["wb", "wb"]  # of the estimate and of the noisy input


def test_composites_are_clamped_and_follow_pesq(vectors):
    c, v = (x[: 2 * FS] for x in vectors)
    assert min(composite.combine(c + 30 * v, c, FS, 1.0)) == 1
    assert metrics.compute("covl", c[:3000], c[:3000], FS)[1] == "shorter than 0.25 s"
    assert metrics.compute("csig", c, c, 48000)[1] == "sample rate is 48000 Hz, CSIG takes 8000 or 16000"


def test_too_short_for_a_frame(vectors):
    c = vectors[0][:599]
    for name in ("ssnr", "llr", "wss"):
        assert metrics.compute(name, 0.9 * c, c, FS)[1] == "shorter than 0.0375 s"
