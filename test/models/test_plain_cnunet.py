"""The nested U-Nets against a plain reading of their description."""

import importlib.util
from pathlib import Path

import pytest
import torch

from senet.models.cnunet import CNUNet, NUNet

SMALL = {"channels": 16, "inner": 8, "depths": (4, 2, 1), "dense_layers": 3}


@pytest.fixture(scope="module")
def plain():
    path = Path(__file__).parents[2] / "tools" / "bench" / "plain" / "cnunet.py"
    spec = importlib.util.spec_from_file_location("plain_cnunet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spectra(batch, frames):
    return torch.randn(batch, 257, frames, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def randomised(model):
    """With biases, scales and slopes that differ from channel to channel."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.2 * noise if parameter.ndim < 4 else 0
    return model.eval()


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"wiring": "released", "depths": (6, 5, 4, 4, 4, 3), "dense_layers": 2},
        {"depths": (1,), "dense_layers": 7},
    ],
    ids=str,
)
def test_cnunet_equals_its_plain_reading(plain, conf):
    conf = SMALL | conf
    model, other = randomised(CNUNet(**conf)), plain.PlainCNUNet(**conf).eval()
    plain.load_weights(other, model)
    compare(model, other, frames=40)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("ctfa", [True, False])
def test_nunet_equals_its_plain_reading(plain, tls, ctfa):
    conf = SMALL | {"tls": tls, "ctfa": ctfa}
    model, other = randomised(NUNet(**conf)), plain.PlainNUNet(**conf).eval()
    plain.load_weights(other, model)
    compare(model, other, frames=40)


def compare(model, other, frames):
    """In double, as the rounding of some 50 layers in a row comes near 1e-5; the model gives complex64."""
    spec = spectra(2, frames).to(torch.complex128)
    with torch.no_grad():
        found, expected = model.double().network(spec)[-1], other.double()(spec)
    assert expected.abs().mean() > 0.01
    torch.testing.assert_close(found.to(torch.complex128), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("model, other", [(CNUNet, "PlainCNUNet"), (NUNet, "PlainNUNet")])
def test_both_have_the_published_sizes(plain, model, other):
    with torch.device("meta"):
        counts = [sum(p.numel() for p in network.parameters()) for network in (model(), getattr(plain, other)())]
    assert counts == [{"PlainCNUNet": 1_486_806, "PlainNUNet": 2_830_462}[other]] * 2


def test_frames_are_those_of_the_description(plain):
    wave = torch.randn(2, 1600, generator=torch.Generator().manual_seed(0))
    expected = plain.analysis(wave)
    assert expected.shape == (2, 257, 1600 // 100 + 3)
    torch.testing.assert_close(CNUNet(**SMALL).analysis(wave), expected, atol=1e-4, rtol=0)
