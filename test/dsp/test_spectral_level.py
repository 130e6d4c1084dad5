import pytest
import torch

from senet.dsp.spectral_level import rms_level
from senet.dsp.stft import STFT


def spectra(*shape):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_utterance_is_the_root_of_the_mean_power():
    spec = spectra(2, 9, 7)
    expected = spec.abs().square().mean((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(rms_level(spec, "utterance"), expected)


def test_cumulative_is_the_same_over_the_frames_so_far():
    spec = spectra(2, 9, 7)
    level = rms_level(spec, "cumulative")
    assert level.shape == (2, 1, 7)
    for t in range(7):
        torch.testing.assert_close(level[:, :, t : t + 1], rms_level(spec[:, :, : t + 1], "utterance"))


def test_none_is_no_level():
    assert rms_level(spectra(2, 9, 7), "none") is None


def test_white_noise_of_rms_s_has_the_level_s_times_the_norm_of_the_window():
    stft = STFT(320, 160, 320)
    noise = 0.03 * torch.randn(1, 160_000, generator=torch.Generator().manual_seed(0))
    level = rms_level(stft(noise), "utterance").item()
    assert level == pytest.approx(0.03 * stft.window.norm().item(), rel=0.01)


def test_the_padding_of_a_batch_does_not_lower_the_level():
    spec = spectra(2, 9, 7)
    padded = torch.nn.functional.pad(spec, (0, 20))
    torch.testing.assert_close(rms_level(padded, "utterance"), rms_level(spec, "utterance"))
    spec[:, :, 3] = 0  # a pause does count
    expected = spec.abs().square().mean((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(rms_level(spec, "utterance"), expected)


@pytest.mark.parametrize("form", ["utterance", "cumulative"])
def test_silence_stays_silence_with_finite_gradients(form):
    spec = torch.zeros(1, 9, 7, dtype=torch.complex64, requires_grad=True)
    scaled = spec / rms_level(spec, form)
    assert scaled.abs().max() == 0
    torch.view_as_real(scaled).sum().backward()
    assert torch.isfinite(torch.view_as_real(spec.grad)).all()
