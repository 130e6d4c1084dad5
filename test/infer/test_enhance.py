"""Enhancing one signal of any rate, length and number of channels."""

import numpy as np
import pytest
import torch

from senet.errors import UserError
from senet.infer.enhance import Enhancer
from senet.infer.load import load_model


class Halve(torch.nn.Module):
    sample_rate = 16000

    def forward(self, noisy):
        assert noisy.dtype == torch.float32 and noisy.ndim == 2
        return noisy / 2


def enhance(model, x, sample_rate):
    return Enhancer(model).enhance(x, sample_rate)


def tone(rate, seconds=0.5, hertz=440):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_any_rate_comes_back_in_time_and_level(rate):
    x = tone(rate)
    y = enhance(Halve(), x, rate)
    assert y.dtype == np.float32
    middle = slice(len(x) // 4, -len(x) // 4)  # the ends ring
    assert np.abs(y - x / 2)[middle].max() < 1e-3


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("n", [1, 2, 159, 4001, 12345])
def test_length_is_kept(expdir, rate, n):
    x = 0.1 * np.random.default_rng(0).standard_normal(n).astype(np.float32)
    y = enhance(load_model(expdir).model, x, rate)
    assert y.shape == x.shape
    assert np.isfinite(y).all()


def test_each_channel_is_enhanced_on_its_own(expdir):
    model = load_model(expdir).model
    x = 0.1 * np.random.default_rng(0).standard_normal((4000, 3)).astype(np.float32)
    y = enhance(model, x, 16000)
    assert y.shape == x.shape
    for channel in range(3):
        assert np.abs(y[:, channel] - enhance(model, x[:, channel], 16000)).max() < 1e-6


@pytest.mark.parametrize(
    ("x", "message"),
    [([], "has no samples"), ([0, np.nan], "holds NaN or infinite"), ([np.inf, 0], "holds NaN or inf")],
)
def test_what_cannot_be_enhanced_is_refused(x, message):
    with pytest.raises(UserError, match=message):
        enhance(Halve(), np.array(x, np.float32), 16000)


def test_output_that_is_not_finite_is_refused():
    class Broken(Halve):
        def forward(self, noisy):
            return noisy / 0

    with pytest.raises(UserError, match="the model's output for it is not finite"):
        enhance(Broken(), tone(16000), 16000)
