"""Enhancing one signal of any rate, length and number of channels."""

import numpy as np
import pytest
import torch

from senet.errors import UserError
from senet.infer.enhance import Enhancer
from senet.infer.load import load_model


class Halve(torch.nn.Module):
    sample_rate, causal, latency = 16000, False, None

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


class TestSignals:
    def test_torch_in_torch_out(self):
        x = torch.randn(4000, 2)
        y = Enhancer(Halve()).enhance(x, 16000)
        assert isinstance(y, torch.Tensor) and y.device == x.device and y.dtype == torch.float32
        torch.testing.assert_close(y, x / 2)
        y = Enhancer(Halve()).enhance(torch.ones(4000, dtype=torch.bfloat16), 16000)
        assert (y == 0.5).all()

    def test_mix_is_in_line_with_the_input_at_its_own_rate(self):
        x = tone(48000, hertz=15000)  # which a model at 16 kHz removes
        y = Enhancer(Halve()).enhance(x, 48000, mix=0.8)
        middle = slice(len(x) // 4, -len(x) // 4)
        assert np.abs(y - 0.2 * x)[middle].max() < 1e-3
        assert np.array_equal(Enhancer(Halve()).enhance(x, 48000, mix=0), x)

    @pytest.mark.parametrize(
        ("x", "rate", "mix", "message"),
        [
            (np.zeros(10, np.int16), 16000, 1, "is of int16, expected floats in .*: divide 16-bit integers by 32768"),
            ([0.0, 1.0], 16000, 1, "is a list, expected a NumPy array or a torch tensor"),
            (np.float32(1), 16000, 1, "is a float32, expected a NumPy array"),
            (np.zeros((1, 4000)), 16000, 1, "has 4000 channels of 1 sample, .*: transpose it"),
            (torch.zeros(2, 4000), 16000, 1, "has 4000 channels of 2 samples, .*: transpose it"),
            (
                np.zeros((2, 2, 2)),
                16000,
                1,
                r"has the shape \(2, 2, 2\), expected \(samples,\) or \(samples, channels\)",
            ),
            (np.zeros((5, 0)), 16000, 1, "has no channels"),
            (torch.zeros(5, dtype=torch.int16), 16000, 1, "is of int16"),
            (np.zeros(5), 0, 1, "its sample rate is 0 Hz"),
            (np.zeros(5), 1e9, 1, "its sample rate is .* Hz, expected a whole number from 1 to"),
            (np.zeros(5), 16000.5, 1, "its sample rate is 16000.5 Hz"),
            (np.zeros(5), 16000, 1.1, "mix is 1.1, expected 0 .* to 1"),
        ],
    )
    def test_refusals(self, x, rate, mix, message):
        with pytest.raises(UserError, match=message):
            Enhancer(Halve()).enhance(x, rate, mix)


def test_is_shown_in_a_line(expdir):
    assert repr(load_model(expdir)) == "Enhancer(small, 16000 Hz, latency 24.875 ms, on cpu)"
    assert repr(Enhancer(Halve())) == "Enhancer(Halve, 16000 Hz, whole recordings, on cpu)"


class TestLong:
    """What is longer than a window: here of 6 s, in blocks of any size."""

    @pytest.fixture
    def causal(self, expdir):
        enhancer = load_model(expdir)
        assert enhancer.causal
        enhancer.window = 6.0
        return enhancer

    @pytest.fixture
    def offline(self):
        return Enhancer(Halve(), window=6.0)

    @pytest.mark.parametrize("kind", ["causal", "offline"])
    @pytest.mark.parametrize("rate", [16000, 22050])
    @pytest.mark.parametrize("channels", [None, 2])
    def test_is_what_the_model_gives_for_the_whole(self, request, kind, rate, channels):
        enhancer = request.getfixturevalue(kind)
        shape = 8 * rate if channels is None else (8 * rate, channels)
        x = 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        whole = Enhancer(enhancer.model, window=60.0).enhance(x, rate, mix=0.9)
        assert np.abs(enhancer.enhance(x, rate, mix=0.9) - whole).max() < 1e-5
        for size in (997, rate):
            parts = list(enhancer.blocks((x[i : i + size] for i in range(0, len(x), size)), rate, mix=0.9))
            assert len(parts) > 1
            y = np.concatenate(parts)
            assert y.shape == x.shape and y.dtype == np.float32
            assert np.abs(y - whole).max() < 1e-5

    @pytest.mark.parametrize("kind", ["causal", "offline"])
    @pytest.mark.parametrize("rate", [16000, 44100])
    @pytest.mark.parametrize("n", [1, 2, 10, 1000])
    def test_short_signals_in_blocks(self, request, kind, rate, n):
        enhancer = request.getfixturevalue(kind)
        x = 0.1 * np.random.default_rng(0).standard_normal((n, 1)).astype(np.float32)
        y = np.concatenate(list(enhancer.blocks([x[:0], *np.array_split(x, min(n, 3))], rate)))
        assert y.shape == x.shape
        assert np.abs(y - enhancer.enhance(x, rate)).max() < 1e-5

    def test_bad_blocks_are_refused(self, offline):
        with pytest.raises(UserError, match="has no samples"):
            list(offline.blocks([], 16000))
        with pytest.raises(UserError, match="holds NaN or infinite"):
            list(offline.blocks([np.zeros(10), np.full(10, np.nan)], 16000))
        with pytest.raises(UserError, match="a block of shape .* follows others of"):
            list(offline.blocks([np.zeros((10, 2)), np.zeros((10, 3))], 16000))


class TestLive:
    """Streams at another rate than the model's."""

    @pytest.fixture
    def causal(self, expdir):
        return load_model(expdir)

    @pytest.mark.parametrize("rate", [8000, 44100, 48000])
    def test_a_stream_is_in_line_with_the_recording_and_begins_again(self, causal, rate):
        x = torch.from_numpy(tone(rate, 1.0) * np.hanning(rate)).float().expand(2, -1)
        expected = torch.from_numpy(causal.enhance(x.T.numpy(), rate).T)
        stream = causal.stream(rate, 2)
        for size in (rate, 500, 77):
            y = torch.cat([*(stream.step(part) for part in x.split(size, 1)), stream.flush()], 1)
            assert y.shape == x.shape
            assert (y - expected).abs().max() < 1e-3 * expected.abs().max()
        stream.step(x)
        stream.reset()
        again = torch.cat([stream.step(x), stream.flush()], 1)
        assert (again - y).abs().max() < 1e-5

    @pytest.mark.parametrize("rate", [8000, 44100, 48000])
    def test_latency_is_what_it_says(self, causal, rate):
        stream, given, most = causal.stream(rate), 0, 0
        x = 0.1 * torch.randn(1, stream.latency + rate // 20, generator=torch.Generator().manual_seed(0))
        for taken in range(x.shape[1]):
            missing = taken - given  # of output sample ``given`` when input sample ``taken`` comes
            given += stream.step(x[:, taken : taken + 1]).shape[1]
            most = max(most, missing if given > taken - missing else 0)
        milliseconds = 1000 * stream.latency / rate
        least = 1000 * causal.latency / causal.sample_rate
        assert least + 2 < milliseconds < least + 13
        assert stream.latency - (rate != 48000) <= most <= stream.latency  # no more than rounding

    def test_rates_may_be_floats_that_are_whole_numbers(self, causal):
        x = tone(48000)
        assert np.array_equal(causal.enhance(x, 48000.0), causal.enhance(x, 48000))
        assert next(causal.blocks([tone(8000, 2.0)], 8000.0)).dtype == np.float32
        assert causal.stream(48000.0).latency == causal.stream(48000).latency

    @pytest.mark.parametrize("n", [0, 1, 2, 10])
    def test_short_signals(self, causal, n):
        stream = causal.stream(44100)
        y = torch.cat([stream.step(torch.zeros(1, n)), stream.flush()], 1)
        assert y.shape == (1, n)

    def test_refusals(self, causal):
        stream = causal.stream(48000)
        with pytest.raises(UserError, match="a chunk holds NaN"):
            stream.step(torch.full((1, 10), torch.nan))
        with pytest.raises(UserError, match=r"a chunk of shape \(2, 10\), expected \(1, samples\)"):
            stream.step(torch.zeros(2, 10))
        with pytest.raises(UserError, match="its sample rate is 0 Hz"):
            causal.stream(0)
        with pytest.raises(UserError, match="needs the whole recording"):
            Enhancer(Halve()).stream()


def test_what_it_says_of_its_model(expdir):
    enhancer = load_model(expdir)
    model = enhancer.model
    assert (enhancer.sample_rate, enhancer.causal, enhancer.latency) == (16000, True, model.latency)
    assert enhancer.device == torch.device("cpu")


def test_memory_is_that_of_one_channel_of_a_window():
    class Sizes(Halve):
        most = 0

        def forward(self, noisy):
            self.most = max(self.most, noisy.numel())
            return noisy / 2

    for seconds, channels in ((1, 8), (5, 8), (9, 3), (6, 2)):
        model, x = Sizes(), np.ones((16000 * seconds, channels), np.float32)
        assert np.array_equal(Enhancer(model, window=6.0).enhance(x, 16000), x / 2)
        assert model.most <= 6 * 16000
