"""The low-latency repository's own SDR and SNRi: against PyTorch's STFT, and why they are not to be believed."""

import numpy as np
import pytest

from senet import metrics
from senet.metrics.sdr import sdr
from senet.metrics.snr import snr

FS = 16000
NAMES = ("lowlatency_repo_sdr", "lowlatency_repo_snri")


@pytest.fixture(scope="module")
def signals(vectors):
    """Of a network that removes noise and harms speech: its outputs for noisy and clean, and these two."""
    c, v = (x[: 3 * FS] for x in vectors)
    return {
        "est": np.convolve(c + 0.2 * v, [0.8, 0.1], "same"),
        "ref": c,
        "noisy": c + v,
        "enhanced_clean": np.convolve(c, [0.9, 0.1], "same"),
    }


def compute(signals, **others):
    return [metrics.compute(name, **signals | others, sample_rate=FS) for name in NAMES]


def compressed_under_clean_phase(x, clean):
    import torch

    options = {"n_fft": 512, "hop_length": 160, "win_length": 400}
    window = torch.hann_window(400, dtype=torch.float64)
    x, clean = (torch.stft(torch.tensor(y), **options, window=window, return_complex=True) for y in (x, clean))
    spectrum = torch.polar(x.abs() ** 0.3, clean.angle())
    return torch.istft(spectrum, **options, window=window).numpy()


def test_equal_what_the_definition_gives_with_another_stft(signals):
    est, target = (compressed_under_clean_phase(signals[k], signals["ref"]) for k in ("est", "enhanced_clean"))
    expected = sdr(est, target, FS), snr(est, target, FS) - snr(signals["noisy"], signals["ref"], FS)
    (found_sdr, _), (found_snri, _) = compute(signals)
    assert found_sdr == pytest.approx(expected[0], abs=1e-6)
    assert found_snri == pytest.approx(expected[1], abs=1e-6)


def test_a_network_that_ruins_speech_and_noisy_speech_alike_scores_well(signals):
    ruined = np.random.default_rng(0).standard_normal(len(signals["ref"]))
    alike = signals | {"est": ruined + 1e-3 * signals["noisy"], "enhanced_clean": ruined + 1e-3 * signals["ref"]}
    assert min(value for value, _ in compute(alike)) > 30
    assert sdr(alike["est"], alike["ref"], FS) < 0


@pytest.mark.parametrize(
    ("others", "reasons"),
    [
        ({"enhanced_clean": None}, ["not computed: there is no enhanced clean signal"] * 2),
        ({"noisy": None}, [None, "not computed: there is no noisy input"]),
        ({"enhanced_clean": np.zeros(3 * FS)}, ["the enhanced clean signal is silent"] * 2),
        ({"enhanced_clean": np.full(3 * FS, np.nan)}, ["the enhanced clean signal holds NaN or infinity"] * 2),
        ({"enhanced_clean": np.zeros(FS)}, ["the lengths differ by more than 16 ms"] * 2),
        ({"est": np.zeros(3 * FS)}, ["the estimate is silent", None]),
    ],
)
def test_reasons(signals, others, reasons):
    assert [reason for _, reason in compute(signals, **others)] == reasons


def test_noisy_input_without_noise(signals):
    assert compute(signals, noisy=signals["ref"])[1][1] == "there is no noise in the noisy input"
