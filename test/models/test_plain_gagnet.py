"""GaGNet against a plain reading of its description."""

import importlib.util
from pathlib import Path

import pytest
import torch

from senet.models.gagnet import GaGNet

SMALL = {"channels": 6, "d_feat": 16, "cd1": 5, "p": 1}


@pytest.fixture(scope="module")
def plain():
    path = Path(__file__).parents[2] / "tools" / "bench" / "plain" / "gagnet.py"
    spec = importlib.util.spec_from_file_location("plain_gagnet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def both(plain, **conf):
    """Model and plain reading with the same random weights, biases and slopes too."""
    torch.manual_seed(0)
    model = GaGNet(**{**SMALL, **conf}).eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dim() == 1 and "window" not in name:
            tensor.data.uniform_(0.1, 0.9)
    other = plain.PlainGaGNet(**{**SMALL, **conf}).eval()
    plain.load_weights(other, model)
    return model, other


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"p": 2, "q": 2},
        {"encoder": "plain", "q": 1},
        {"inner_skip": "add"},
        {"gaze": "squeezed"},
        {"glance": "tanh", "causal": False},
        {"glance": "relu", "kd1": 5},
        {"norm": "batch", "level": "none"},
        {"norm": "cumulative", "level": "cumulative"},
        {"exponent": 0.3, "dilations": (1, 3)},
    ],
)
def test_network_equals_its_plain_reading(plain, conf):
    model, other = both(plain, **conf)
    for length in (8000, 4001, 33):
        x = 0.1 * torch.randn(2, length)
        with torch.no_grad():
            torch.testing.assert_close(other(x), model(x), atol=1e-5, rtol=1e-4)


def test_every_stage_equals_its_plain_reading(plain):
    model, other = both(plain)
    spec = torch.randn(2, 161, 20, dtype=torch.complex64)
    with torch.no_grad():
        for found, expected in zip(model.network(spec), other.network(spec), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_spectrums_level_is_near_the_waveforms(plain):
    """The description divides by the waveform's RMS."""
    model, _ = both(plain)
    x = 0.03 * torch.randn(2, 16000)
    level = model.level(model.analysis(x))[:, 0, 0]
    torch.testing.assert_close(level, x.square().mean(1).sqrt(), rtol=0.02, atol=0)


def test_sizes_of_the_published_network_are_the_defaults_of_both(plain):
    with torch.device("meta"):
        assert sum(p.numel() for p in plain.PlainGaGNet().parameters()) == 5_948_137
