import numpy as np
import pytest
import torch

from senet.errors import UserError
from senet.layers.norms import CAUSAL, norm

KINDS = ("instance", "instance_running", "batch", "global", "frame", "cumulative_instance", "cumulative")


def maps(*shape, seed=0, offset=0.0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + offset
    return x.to(memory_format=torch.channels_last)


def build(kind, channels, groups=1):
    """With random weights."""
    layer = norm(kind, channels, groups=groups)
    generator = torch.Generator().manual_seed(1)
    for parameter in (layer.weight, layer.bias):
        parameter.data = torch.randn(channels, generator=generator)
    return layer


def in_numpy(kind, x, weight, bias, groups=1, eps=1e-5):
    """The definition, frame by frame and group by group, in double."""
    y = np.zeros(x.shape)
    batch, channels, frames, _ = x.shape
    per_channel = kind in ("instance", "instance_running", "batch", "cumulative_instance")
    size = 1 if per_channel else channels // groups
    for b in range(batch):
        for c in range(0, channels, size):
            for t in range(frames):
                past = {"cumulative": 0, "cumulative_instance": 0, "frame": t}.get(kind)
                span = slice(None) if past is None else slice(past, t + 1)
                items = slice(None) if kind == "batch" else slice(b, b + 1)
                seen = x[items, c : c + size, span].astype(np.float64)
                y[b, c : c + size, t] = (x[b, c : c + size, t] - seen.mean()) / np.sqrt(seen.var() + eps)
    return y * weight[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize(
    "kind, groups", [*((kind, 1) for kind in KINDS), *((k, 2) for k in ("global", "frame", "cumulative"))]
)
@pytest.mark.parametrize("shape", [(2, 6, 11, 5), (2, 6, 11, 1), (1, 6, 1, 2)])
def test_values_are_those_of_the_definition(kind, groups, shape):
    layer, x = build(kind, 6, groups), maps(*shape)
    expected = in_numpy(kind, x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), groups)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_value_is_normalised_to_a_finite_one(kind):
    layer = build(kind, 1).eval()
    if kind not in ("batch", "instance_running"):
        torch.testing.assert_close(layer(maps(1, 1, 1, 1)).flatten(), layer.bias)
    assert torch.isfinite(layer(maps(1, 1, 1, 1))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_counts_only_where_it_is_said_to(kind):
    layer, x = build(kind, 4), maps(2, 4, 20, 3)
    for _ in range(3):
        layer(maps(2, 4, 20, 3, seed=2))
    layer.eval()
    changed = x.clone()
    changed[:, :, 12:] *= -3
    before, after = layer(x), layer(changed)
    assert torch.equal(before[:, :, :12], after[:, :, :12]) == (kind in CAUSAL)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("kind", ["instance", "global", "frame", "cumulative_instance", "cumulative"])
@pytest.mark.parametrize("offset", [0.0, 100.0, 3000.0])
def test_a_large_mean_costs_no_more_than_its_own_rounding(kind, offset):
    layer, x = norm(kind, 4), maps(1, 4, 400, 8, offset=offset)
    expected = in_numpy(kind, x.numpy(), np.ones(4), np.zeros(4))
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5 + 1e-6 * offset)


@pytest.mark.parametrize("kind", ["instance", "global", "cumulative_instance", "cumulative"])
def test_statistics_do_not_drift_over_a_long_recording(kind):
    layer, x = norm(kind, 2), maps(1, 2, 50_000, 3, offset=5.0)
    last = layer(x)[0, :, -1].detach().numpy()
    seen = x[0].numpy().astype(np.float64)
    axes = (1, 2) if "instance" in kind else (0, 1, 2)
    mean, variance = (f(axis=axes, keepdims=True).reshape(-1, 1) for f in (seen.mean, seen.var))
    np.testing.assert_allclose(last, (seen[:, -1] - mean) / np.sqrt(variance + 1e-5), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_channels_last(kind):
    if kind == "instance_running":
        pytest.skip("torch.nn.InstanceNorm2d does not keep it")
    for shape in ((2, 6, 5, 4), (1, 6, 5, 4), (1, 6, 5, 1)):
        y = build(kind, 6)(maps(*shape))
        assert y.stride() == (shape[1] * shape[2] * shape[3], 1, shape[1] * shape[3], shape[1])


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_single_precision(kind):
    layer, x = build(kind, 6), maps(2, 6, 50, 8, offset=1.0).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y.float(), layer(x.float()), atol=0.03, rtol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences_and_finite_in_silence(kind):
    layer = build(kind, 4).double()
    x = maps(2, 4, 5, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, x, atol=1e-4)
    silence = torch.zeros(1, 4, 5, 3, requires_grad=True)
    build(kind, 4)(silence).square().sum().backward()
    assert torch.isfinite(silence.grad).all()


def test_unknown_kinds_are_refused():
    with pytest.raises(UserError, match="norm is 'layer', expected one of instance, .* cumulative"):
        norm("layer", 4)
