"""Counters against figures computed by hand, receptive fields against the layers they follow from."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet import config
from senet.models import measure

B, N = 2, 11


class Wrapped(nn.Module):
    """A module as a model from waveform to waveform: ``N`` samples are turned into its input."""

    def __init__(self, part, *shape):
        super().__init__()
        self.part, self.shape = part, shape

    def forward(self, wave):
        return self.part(wave.new_empty(self.shape))


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x[:, :, :7], x[:, :, :7])


class Products(nn.Module):
    """einsum, and a product with a transposed matrix."""

    def forward(self, x):
        return torch.einsum("bhqd,bhkd->bhqk", x, x) @ x


@pytest.mark.parametrize(
    ("part", "shape", "macs"),
    [
        (nn.Linear(4, 6), (B, 10, 4), B * 10 * 4 * 6),
        (nn.LSTM(5, 7, batch_first=True), (B, N, 5), B * N * 4 * 7 * (5 + 7)),
        (nn.LSTM(5, 7, batch_first=True, bidirectional=True), (B, N, 5), 2 * B * N * 4 * 7 * (5 + 7)),
        (nn.LSTM(5, 7, num_layers=2), (N, B, 5), B * N * 4 * 7 * (5 + 7 + 7 + 7)),
        (nn.LSTM(5, 7, num_layers=2, bidirectional=True, bias=False), (N, B, 5), 2 * B * N * 4 * 7 * (5 + 7 + 14 + 7)),
        (nn.LSTM(5, 7, proj_size=3), (N, B, 5), B * N * (4 * 7 * (5 + 3) + 7 * 3)),
        (nn.GRU(5, 7, batch_first=True), (B, N, 5), B * N * 3 * 7 * (5 + 7)),
        (nn.Conv1d(4, 6, 3, padding=1), (B, 4, 10), B * 10 * 6 * 4 * 3),
        (nn.Conv2d(4, 6, (3, 2), dilation=(2, 1), groups=2), (B, 4, 10, 9), B * 6 * 8 * 6 * 2 * 3 * 2),
        (nn.Conv2d(4, 6, (2, 3), stride=(1, 2)), (B, 4, 10, 9), B * 9 * 4 * 6 * 4 * 2 * 3),
        (nn.ConvTranspose1d(4, 6, 5, stride=2, groups=2), (B, 4, 10), B * 10 * 4 * 3 * 5),
        (Attention(), (B, 3, 10, 8), B * 3 * 10 * 7 * (8 + 8)),
        (Products(), (B, 3, 10, 8), 2 * B * 3 * 10 * 10 * 8),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_multiplications_are_those_counted_by_hand(part, shape, macs):
    counted = measure.macs(Wrapped(part, *shape).to("meta"), 1)
    assert counted.total == macs
    assert counted.parts == {"part": macs} or not list(part.parameters())
    assert (counted.convolutions == macs) == ("Conv" in type(part).__name__)


def lowlatency(device="meta", **conf):
    with torch.device(device):
        return config.build("models", "lowlatency.LowLatencyNet", conf).eval()


def test_low_latency_network_costs_what_its_layers_do():
    model = lowlatency()
    assert measure.macs(model, 48000).total == 301 * 62_352_520
    steady = measure.steady_macs(model, 16000)
    assert steady.total == 100 * 62_352_520
    assert steady.parts["lstm"] == 100 * 25_198_536
    assert measure.parameters_by_part(model)["hidden"] == 1_787_031
    assert sum(measure.parameters_by_part(model).values()) == 27_587_275


def test_a_shared_parameter_is_counted_once():
    model = nn.Module()
    model.first = model.second = nn.Linear(3, 4)
    model.scale = nn.Parameter(torch.ones(2))
    model.third = nn.Linear(3, 4, bias=False)
    model.third.weight = model.first.weight
    assert measure.parameters_by_part(model) == {"": 2, "first": 16}


# ---------------------------------------------------------------- memory


def test_live_bytes_rise_and_fall_with_the_tensors():
    x = torch.empty(1000, device="meta")
    with measure.LiveBytes() as memory:
        memory.watch(x)
        y = x + 1
        view = y[:10]
        del y
        assert memory.now == 8000  # a view keeps all of its storage
        z = view * 2
        del view
    assert (memory.now, memory.peak) == (4040, 8040)
    assert z.shape == (10,)


def test_peak_of_a_training_step_is_what_autograd_keeps_and_works_on():
    layers = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Sigmoid(), nn.Linear(8, 8, bias=False), nn.Sigmoid())
    layers, x = layers.to("meta"), torch.empty(1000, 8, device="meta")
    weight, wave = 8 * 8 * 4, 1000 * 8 * 4  # bytes
    with measure.LiveBytes() as memory:
        memory.watch(x)
        for parameter in layers.parameters():
            memory.watch(parameter)
        loss = layers(x).sum()
        # Input, both outputs of sigmoids; the linear layers' own outputs are gone.
        assert memory.now == 2 * weight + 3 * wave + 4
        loss.backward()
    assert memory.now == 4 * weight + wave + 4  # the gradients are there, the outputs gone
    assert 2 * weight + 4 * wave <= memory.peak <= 4 * weight + 5 * wave


def test_the_meta_device_needs_the_memory_that_a_real_one_needs():
    peaks = {}
    for device in ("meta", "cpu"):
        with measure.LiveBytes() as memory, torch.device(device):
            layers = nn.Sequential(nn.Conv2d(2, 8, 3), nn.PReLU(8), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 3))
            layers(torch.empty(3, 2, 40, 30)).square().mean().backward()
        peaks[device] = memory.peak
    assert peaks["meta"] == peaks["cpu"] > 3 * 8 * 38 * 28 * 4


def test_reading_a_value_on_the_meta_device_lets_checks_pass():
    with measure.LiveBytes():
        assert torch.isfinite(torch.empty(3, device="meta").sum())


def test_inference_needs_more_for_longer_recordings():
    model = lowlatency()
    short, long = (measure.inference_bytes(model, n) for n in (16000, 160000))
    assert 4 * 27_587_275 < short < long


# ---------------------------------------------------------------- receptive field

SMALL = {"channels": 4, "maps": 2, "lstm_units": 8, "fc_units": 8, "dilations": (1, 2)}


class Forgetful(nn.Module):
    """Stands in for the LSTM, without memory."""

    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(2 * 257, size)

    def forward(self, x):
        return self.linear(x), None


@pytest.mark.parametrize(("causal", "lookahead"), [(False, 0), (True, 0), (True, 4)])
def test_receptive_field_of_convolutions_is_the_sum_of_their_kernels(causal, lookahead):
    model = lowlatency("cpu", causal=causal, lookahead=lookahead, **SMALL)
    model.lstm = Forgetful(8 if causal else 16)
    frames = 6 + 4 + 8  # of the 7x1 kernel and two 5x5 ones dilated by 1 and 2
    window = 399 - 1  # samples; the first of Hann's 400 is 0
    reach = measure.reach(model, seconds=2)
    future = lookahead if causal else frames // 2
    assert (reach.past, reach.future) == ((frames - future) * 160 + window, future * 160 + window)
    assert not causal or reach.future == model.latency


def test_recurrent_layers_reach_as_far_as_is_tried():
    causal = measure.reach(lowlatency("cpu", causal=True, **SMALL), seconds=2)
    assert (causal.past, causal.future) == (None, 398)
    both = measure.reach(lowlatency("cpu", **SMALL), seconds=2)
    assert (both.past, both.future) == (None, None)
    assert both.tried >= 0.5 * 16000


def test_a_level_taken_over_the_recording_reaches_everywhere():
    model = lowlatency("cpu", causal=True, level="utterance", inputs="magnitude", **SMALL)
    model.lstm = Forgetful(8)
    assert measure.reach(model, seconds=1).future is None


class Windows(nn.Module):
    """Mean of each window of 64 samples added to it."""

    sample_rate = 16000

    def forward(self, wave):
        length = wave.shape[1]
        windows = F.pad(wave, (0, -length % 64)).unflatten(1, (-1, 64))
        return (windows + windows.mean(2, keepdim=True)).flatten(1)[:, :length]


def test_a_model_of_windows_reaches_to_both_ends_of_one():
    assert measure.reach(Windows(), seconds=0.1) == measure.Reach(63, 63, 127)


def test_a_filter_of_samples_reaches_as_far_as_its_taps():
    model = nn.Conv1d(1, 1, 8, padding=7)
    model.sample_rate = 16000
    wrapped = lambda wave: nn.Conv1d.forward(model, wave[:, None])[:, 0, : wave.shape[1]]  # noqa: E731
    model.forward = wrapped
    assert (measure.reach(model, 0.1).past, measure.reach(model, 0.1).future) == (7, 0)
