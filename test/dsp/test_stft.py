import numpy as np
import pytest
import torch

from senet.dsp.stft import STFT
from senet.errors import UserError


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_three_seconds_at_16_kHz_give_301_frames_of_257_bins():
    assert STFT()(torch.zeros(1, 48000)).shape == (1, 257, 301)


def test_frames_equal_an_independent_numpy_transform():
    x = noise(1, 1234)
    spec = STFT()(x)[0].numpy()
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(x[0].numpy().astype(np.float64), 256)
    expected = np.stack([np.fft.rfft(window * padded[160 * t : 160 * t + 512]) for t in range(8)], axis=1)
    assert spec.shape == expected.shape
    np.testing.assert_allclose(spec, expected, atol=1e-4)


@pytest.mark.parametrize("length", [1, 7, 159, 160, 161, 400, 5000])
@pytest.mark.parametrize("sizes", [(512, 160, 400), (320, 160, 320), (512, 128, 512)])
def test_inverse_returns_the_signal_of_any_length(length, sizes):
    stft, x = STFT(*sizes), noise(2, length)
    spec = stft(x)
    assert spec.shape[-1] == stft.num_frames(length)
    y = stft.inverse(spec, length)
    torch.testing.assert_close(y, x, atol=1e-2, rtol=0)  # the tail under the last half window is rounded coarsely
    last_centre = (stft.num_frames(length) - 1) * stft.hop_length
    torch.testing.assert_close(y[:, : last_centre + 1], x[:, : last_centre + 1], atol=1e-5, rtol=0)


def test_the_window_is_no_weight():
    assert not STFT().state_dict()


@pytest.mark.parametrize(
    "sizes, found", [((256, 160, 400), "win_length is 400"), ((512, 300, 400), "hop_length is 300")]
)
def test_sizes_that_cannot_be_inverted_are_refused(sizes, found):
    with pytest.raises(UserError, match=found):
        STFT(*sizes)
