import math

import pytest
import torch

from senet.dsp.phase import delta_phasor
from senet.dsp.stft import STFT


def delta_phase_of_tone(frequency, form):
    """Delta phase in the middle of a tone, one value per bin."""
    time = torch.arange(16000, dtype=torch.float64) / 16000
    spec = STFT().double()(torch.cos(2 * torch.pi * frequency * time)[None])
    return delta_phasor(spec, form, hop_length=160, n_fft=512)[0, :, 50].angle()


@pytest.mark.parametrize(
    "frequency, k, form, expected",
    [
        (1000, 32, "raw", 0.0),
        (1012.5, 32, "raw", 0.7854),
        (1012.5, 32, "baseband", 0.7854),
        (1025, 33, "raw", 1.5708),
        (1025, 33, "baseband", -0.3927),
        (3000, 96, "raw", 0.0),
    ],
)
def test_a_tone_advances_by_its_frequency(frequency, k, form, expected):
    assert abs(delta_phase_of_tone(frequency, form)[k] - expected) < 1e-4


def test_neighbours_of_a_tone_agree_in_raw_form():
    phase = delta_phase_of_tone(1012.5, "raw")
    assert (phase[31:34] - phase[32]).abs().max() < 1e-5


def test_baseband_has_one_value_for_one_deviation_from_any_bin():
    values = [delta_phase_of_tone(31.25 * k + 10, "baseband")[k] for k in (20, 57, 130)]
    assert max(abs(v - 2 * math.pi * 10 / 100) for v in values) < 1e-3


def test_frequency_form_compares_neighbouring_bins():
    spec = torch.polar(torch.ones(1, 3, 2), torch.tensor([0.1, 0.5, 0.2])[None, :, None].repeat(1, 1, 2))
    angle = delta_phasor(spec, "frequency", 160, 512).angle()[0, :, 0]
    torch.testing.assert_close(angle, torch.tensor([0.0, 0.4, -0.3]))


@pytest.mark.parametrize("form", ["raw", "baseband", "frequency"])
def test_empty_bins_and_the_first_frame_give_zero(form):
    spec = torch.randn(1, 257, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    spec[:, 10, 2] = 0
    phasor = delta_phasor(spec, form, 160, 512)
    assert phasor[0, 10, 2] == 0
    assert (phasor[:, 0] if form == "frequency" else phasor[..., 0]).abs().max() == 0
    assert torch.allclose(phasor[:, 50:, 1:].abs(), torch.ones(()))
