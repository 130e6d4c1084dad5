import shutil

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


HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
CURVES = {"hann": HANN, "sqrt_hann": np.sqrt(HANN), "hamming": 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 400)}
FRAMINGS = [
    (512, 160, 400, "hann", "zeros"),
    (512, 100, 400, "hamming", "full"),
    (320, 160, 320, "sqrt_hann", "reflect"),
    (320, 160, 320, "hann", "full"),
    (512, 128, 512, "sqrt_hann", "reflect"),
    (400, 100, 256, "hamming", "full"),
]


@pytest.mark.parametrize("window", CURVES)
@pytest.mark.parametrize("length", [1, 100, 1234])
def test_full_frames_begin_a_window_less_a_hop_before_the_signal(window, length):
    x = noise(1, length)
    spec = STFT(512, 100, 400, window, "full")(x)[0].numpy()
    padded = np.pad(x[0].double().numpy(), (300, 300))
    starts = range(0, len(padded) - 400 + 1, 100)
    expected = np.stack([np.fft.rfft(CURVES[window] * padded[n : n + 400], 512) for n in starts], axis=1)
    assert spec.shape == expected.shape == (257, (length + 200) // 100 + 1)
    np.testing.assert_allclose(spec, expected, atol=1e-4)


@pytest.mark.parametrize("seconds, frames", [(1, 163), (3, 483)])
def test_full_framing_gives_three_frames_more_than_hops(seconds, frames):
    stft = STFT(512, 100, 400, "hamming", "full")
    assert stft.num_frames(16000 * seconds) == frames == stft(torch.zeros(1, 16000 * seconds)).shape[2]


@pytest.mark.parametrize("sizes", [(512, 160, 400), (320, 160, 320), (512, 128, 512)])
@pytest.mark.parametrize("window, padding, mode", [("hann", "reflect", "reflect"), ("sqrt_hann", "zeros", "constant")])
def test_centred_frames_equal_torchs(sizes, window, padding, mode):
    n_fft, hop, win = sizes
    x, curve = noise(2, 3000), torch.hann_window(win)
    curve = curve.sqrt() if window == "sqrt_hann" else curve
    expected = torch.stft(x, n_fft, hop, win, curve, center=True, pad_mode=mode, return_complex=True)
    torch.testing.assert_close(STFT(*sizes, window, padding)(x), expected)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_frames_are_counted_for_numbers_and_tensors(framing):
    stft = STFT(*framing)
    lengths = [1, 159, 160, 161, 257, 400, 1000]
    counts = [stft(torch.zeros(1, n)).shape[2] for n in lengths]
    assert [stft.num_frames(n) for n in lengths] == counts == stft.num_frames(torch.tensor(lengths)).tolist()


@pytest.mark.parametrize("length", [1, 159, 160, 161])
def test_a_signal_too_short_to_be_mirrored_is_filled_up_with_zeros(length):
    stft, x = STFT(320, 160, 320, padding="reflect"), noise(2, length)
    filled = torch.nn.functional.pad(x, (0, max(161 - length, 0)))
    torch.testing.assert_close(stft(x), stft(filled)[:, :, : 1 + length // 160])
    torch.testing.assert_close(stft.inverse(stft(x), length), x, atol=1e-2, rtol=0)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("length", [1, 99, 400, 401, 1601])
def test_a_signal_of_whole_hops_comes_back_exactly(framing, length):
    stft = STFT(*framing)
    whole = stft.whole(length)
    assert whole >= length and whole % stft.hop_length == 0
    x = noise(2, whole)
    torch.testing.assert_close(stft.inverse(stft(x), whole), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(stft.inverse(stft(x), length), x[:, :length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_inverse_amplifies_no_change_of_a_whole_signal(framing):
    stft = STFT(*framing)
    spec = stft(noise(1, stft.whole(1600)))
    change = torch.randn(spec.shape, dtype=spec.dtype, generator=torch.Generator().manual_seed(1))
    difference = stft.inverse(change, stft.whole(1600)).abs().max()
    assert difference < 20 * change.abs().mean() / stft.n_fft**0.5


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_transforms_are_the_same():
    stft, x = STFT(32, 8, 24, "hamming", "full"), noise(2, 200)
    spec = torch.view_as_real(stft(x))
    compiled = torch.compile(lambda spec: stft.inverse(torch.view_as_complex(spec), 200))
    for layout in (spec, spec.transpose(1, 2).contiguous().transpose(1, 2), spec.contiguous()):
        torch.testing.assert_close(compiled(layout), x, atol=1e-5, rtol=0)


def test_whole_is_the_least_number_of_hops_that_can_be_mirrored():
    full, mirrored = STFT(512, 100, 400, "hamming", "full"), STFT(512, 128, 512, "sqrt_hann", "reflect")
    assert [full.whole(n) for n in (1, 100, 101, 16050)] == [100, 100, 200, 16100]
    assert [mirrored.whole(n) for n in (1, 257, 384, 385)] == [384, 384, 384, 512]
    assert mirrored(torch.zeros(1, mirrored.whole(1))).shape[2] == 4


@pytest.mark.parametrize(
    "n_fft, padding, found",
    [
        (401, "zeros", "n_fft is 401, expected an even number from 2 on with padding 'zeros'"),
        (401, "reflect", "n_fft is 401, expected an even number from 2 on with padding 'reflect'"),
        (-512, "reflect", "n_fft is -512, expected an even number from 2 on"),
        (-511, "full", "n_fft is -511, expected at least 2 with padding 'full'"),
    ],
)
def test_frames_without_a_middle_are_refused(n_fft, padding, found):
    with pytest.raises(UserError, match=found):
        STFT(n_fft, 100, 400, padding=padding)


def test_odd_frames_from_their_start_are_exact():
    stft, x = STFT(401, 100, 401, padding="full"), noise(2, 1234)
    assert stft(x).shape[2] == stft.num_frames(1234)
    torch.testing.assert_close(stft.inverse(stft(x), 1234), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "names, found",
    [(("blackman",), "window is 'blackman'"), (("hann", "valid"), "padding is 'valid', expected one of zeros")],
)
def test_unknown_windows_and_paddings_are_refused(names, found):
    with pytest.raises(UserError, match=found):
        STFT(512, 100, 400, *names)
