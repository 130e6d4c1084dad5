"""The SEGAN family against a plain reading of its description."""

import importlib.util
from pathlib import Path

import pytest
import torch

from senet.models.segan import SEGAN, Discriminator

SMALL = {"channels": (8, 8, 16, 16), "window": 256}


@pytest.fixture(scope="module")
def plain():
    path = Path(__file__).parents[2] / "tools" / "bench" / "plain" / "segan.py"
    spec = importlib.util.spec_from_file_location("plain_segan", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(*shape, seed=1):
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomised(model, std=0.2):
    """With weights that make every part count: attention starts as the identity, biases and PReLU slopes as 0."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model


CONFS = [
    {},
    {"num_stages": 2},
    {"num_stages": 3, "shared": True},
    {"attention": (1, 3)},
    {"attention": (2,), "spectral_norm": True, "num_stages": 2},
]


@pytest.mark.parametrize("conf", CONFS)
def test_every_stage_equals_its_plain_reading(plain, conf):
    torch.manual_seed(0)
    model = randomised(SEGAN(**SMALL, **conf)).eval()
    other = plain.PlainSEGAN(**SMALL, **conf)
    plain.load_weights(other, model)
    encoded, z = noise(3, 256), noise(model.num_stages, 3, 16, 16, seed=2)
    with torch.no_grad():
        stages, expected = model.network(encoded, z), other.network(encoded, z)
    assert len(stages) == model.num_stages
    for stage, value in zip(stages, expected, strict=True):
        torch.testing.assert_close(stage, value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 700])
def test_recordings_are_enhanced_window_by_window(plain, length):
    torch.manual_seed(0)
    model = randomised(SEGAN(**SMALL), std=0.1).eval()  # below tanh's saturation
    other = plain.PlainSEGAN(**SMALL)
    plain.load_weights(other, model)
    x = noise(2, length)
    with torch.no_grad():
        torch.testing.assert_close(model(x), other(x, model.fixed_z), atol=2e-5, rtol=0)


@pytest.mark.parametrize("conf", [{}, {"attention": (1, 3)}, {"attention": (2,), "spectral_norm": True}])
@pytest.mark.parametrize("reading", ["current_real", "fixed"])
def test_scores_equal_their_plain_reading(plain, conf, reading):
    torch.manual_seed(0)
    model = randomised(Discriminator(**SMALL, **conf, vbn_ref=reading))
    first = noise(4, 256, seed=3), noise(4, 256, seed=4)
    if reading == "fixed":
        model.train()(*first)  # keeps the first batch of real pairs
    model.eval()
    other = plain.PlainDiscriminator(**SMALL, **conf)
    plain.load_weights(other, model)
    clean, noisy, enhanced = (noise(3, 256, seed=seed) for seed in (5, 6, 7))
    reference = first if reading == "fixed" else (clean, noisy)
    with torch.no_grad():
        torch.testing.assert_close(model(clean, noisy), other(clean, noisy, reference), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            model(enhanced, noisy, (clean, noisy)), other(enhanced, noisy, reference), atol=1e-5, rtol=1e-5
        )


def test_gradients_flow_through_the_statistics_of_the_reference(plain):
    torch.manual_seed(0)
    model = randomised(Discriminator(**SMALL))
    other = plain.PlainDiscriminator(**SMALL)
    plain.load_weights(other, model)
    gradients = []
    for network in (model, other):
        clean, noisy, enhanced = (noise(3, 256, seed=seed).requires_grad_() for seed in (5, 6, 7))
        network(enhanced, noisy, (clean, noisy)).square().sum().backward()
        gradients.append((clean.grad, noisy.grad, enhanced.grad))
    assert gradients[0][0].abs().max() > 0
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_published_sizes_are_the_defaults_of_the_plain_reading(plain):
    with torch.device("meta"):
        assert sum(p.numel() for p in plain.PlainSEGAN().parameters()) == 73_100_049
        assert sum(p.numel() for p in plain.PlainSEGAN(attention=(9,)).parameters()) == 74_738_451
        assert sum(p.numel() for p in plain.PlainDiscriminator().parameters()) == 24_373_081
