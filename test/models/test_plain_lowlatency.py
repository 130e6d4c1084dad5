"""The low-latency network against a plain reading of its description."""

import importlib.util
from pathlib import Path

import pytest
import torch

from senet.models.lowlatency import LowLatencyNet

SMALL = {"channels": 6, "maps": 3, "lstm_units": 20, "fc_units": 18}


@pytest.fixture(scope="module")
def plain():
    path = Path(__file__).parents[2] / "tools" / "bench" / "plain" / "lowlatency.py"
    spec = importlib.util.spec_from_file_location("plain_lowlatency", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"causal": True, "delta_phase": "baseband"},
        {"causal": True, "lookahead": 5, "delta_phase": "baseband"},
        {"causal": True, "lookahead": 20, "delta_phase": "raw"},
        {"causal": True, "lookahead": 7, "lookahead_form": "delayed", "delta_phase": "frequency"},
        {"inputs": "magnitude", "mask": "mag", "dilations": ()},
        {"mask": "complex", "mask_bound": 1.5},
        {"mask": "complex_unbounded", "exponent": 0.5},
        {"mask": "polar"},
    ],
)
def test_network_equals_its_plain_reading(plain, conf):
    torch.manual_seed(0)
    model = LowLatencyNet(**SMALL, **conf).eval()
    for parameter in model.parameters():  # biases are zero at first
        torch.nn.init.normal_(parameter, std=0.2)
    other = plain.PlainLowLatencyNet(**SMALL, **conf).eval()
    plain.load_weights(other, model)
    for length in (8000, 4001, 33):
        x = 0.1 * torch.randn(2, length)
        with torch.no_grad():
            torch.testing.assert_close(other(x), model(x), atol=1e-5, rtol=0)


def test_sizes_of_the_published_network_are_the_defaults_of_both(plain):
    with torch.device("meta"):
        assert sum(p.numel() for p in plain.PlainLowLatencyNet().parameters()) == 27_587_275
