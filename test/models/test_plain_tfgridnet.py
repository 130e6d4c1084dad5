"""TF-GridNet against a plain reading of its description."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from senet.models.tfgridnet import TFGridNet

SMALL = {
    "n_fft": 64, "hop_length": 32, "n_layers": 2, "emb_dim": 8, "lstm_units": 6, "n_heads": 2, "approx_qk_dim": 100
}  # fmt: skip
ESPNET = {"frontend": "ri", "window": "hann", "qk_rounding": "ceil"}


@pytest.fixture(scope="module")
def plain():
    path = Path(__file__).parents[2] / "tools" / "bench" / "plain" / "tfgridnet.py"
    spec = importlib.util.spec_from_file_location("plain_tfgridnet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"progressive": True, "n_layers": 3},
        {"emb_hs": 2},
        {"emb_hs": 4, "progressive": True},
        {"emb_ks": 3, "emb_hs": 2, "phase_channels": 2, "n_heads": 4},
        ESPNET,
        ESPNET | {"emb_hs": 2, "progressive": True},
    ],
)
def test_network_equals_its_plain_reading(plain, conf):
    torch.manual_seed(0)
    conf = SMALL | conf
    model = TFGridNet(win_length=64, **conf).eval()
    for parameter in model.parameters():  # gains and slopes are constant at first
        parameter.data += 0.1 * torch.randn_like(parameter)
    other = plain.PlainTFGridNet(**conf).eval()
    plain.load_weights(other, model)
    for length in (1600, 64, 1001):
        x = 0.1 * torch.randn(2, length)
        with torch.no_grad():
            estimates = other.stages(F.pad(x, (0, -length % 32)))  # the model fills up with zeros to whole hops
            assert len(estimates) == len(model.stages(x))
            for estimate, expected in zip(model.stages(x), estimates, strict=True):
                torch.testing.assert_close(estimate, expected[:, :length], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(model(x), estimates[-1][:, :length], atol=1e-5, rtol=1e-5)


WSJ = {"n_fft": 128, "hop_length": 64, "emb_dim": 48, "lstm_units": 192, "n_layers": 6, "approx_qk_dim": 512}


@pytest.mark.parametrize(
    "conf, expected",
    [({}, 2_359_523), ({"progressive": True}, 2_361_835), (ESPNET, 2_360_835), (ESPNET | WSJ, 8_175_008)],
)
def test_sizes_of_the_published_networks(plain, conf, expected):
    with torch.device("meta"):
        assert sum(p.numel() for p in plain.PlainTFGridNet(**conf).parameters()) == expected
