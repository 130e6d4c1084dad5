import pytest
import torch

from senet.layers.conv import TimeConv


@pytest.mark.parametrize("future", [0, 3, 8, 11, 16])
@pytest.mark.parametrize("frames", [1, 5, 32, 101])
def test_frames_are_kept_by_zeros_before_and_after(frames, future):
    torch.manual_seed(0)
    conv = TimeConv(3, 6, (5, 5), (4, 1), future=future)
    x = torch.randn(2, 3, frames, 11, requires_grad=True)
    trained = conv(x)
    trained.square().sum().backward()
    gradients = [conv.weight.grad.clone(), conv.bias.grad.clone(), x.grad.clone()]
    padded = torch.nn.functional.pad(x.detach(), (2, 2, 16 - future, future)).requires_grad_()
    plain = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, dilation=(4, 1))
    with torch.no_grad():
        torch.testing.assert_close(conv(x), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trained, plain, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad(plain.square().sum(), [conv.weight, conv.bias, padded])
    expected = [*expected[:2], expected[2][:, :, 16 - future :][:, :, :frames, 2:-2]]
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "kernel, conf, padding",  # padding of the signal: left, right, before, after
    [
        ((2, 3), {}, (1, 1, 1, 0)),
        ((2, 3), {"stride": 2}, (1, 1, 1, 0)),
        ((1, 3), {"stride": 2, "groups": 2}, (1, 1, 0, 0)),
        ((2, 3), {"stride": 2, "margin": 0}, (0, 0, 1, 0)),
        ((2, 5), {"dilation": (4, 2)}, (4, 4, 4, 0)),
        ((2, 3), {"dilation": (2, 2), "groups": 4}, (2, 2, 2, 0)),
        ((3, 1), {"future": 2, "bias": False}, (0, 0, 0, 2)),
        ((3, 1), {"future": 1}, (0, 0, 1, 1)),
    ],
)
@pytest.mark.parametrize("bins", [16, 15, 8])
def test_frequency_is_padded_on_both_sides_and_time_before(kernel, conf, padding, bins):
    torch.manual_seed(0)
    conv = TimeConv(8, 4, kernel, **conf)
    x = torch.randn(2, 8, 9, bins)
    expected = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, padding),
        conv.weight,
        conv.bias,
        (1, conf.get("stride", 1)),
        0,
        conf.get("dilation", (1, 1)),
        conf.get("groups", 1),
    )
    assert expected.shape[2] == 9
    torch.testing.assert_close(conv(x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bins, halved", [(256, 128), (2, 1), (5, 3)])
def test_stride_two_halves_the_bins(bins, halved):
    assert TimeConv(1, 1, (2, 3), stride=2)(torch.zeros(1, 1, 4, bins)).shape == (1, 1, 4, halved)


@pytest.mark.parametrize("future", [0, 1, 3])
def test_no_frame_sees_further_ahead_than_told(future):
    torch.manual_seed(0)
    conv, x = TimeConv(2, 3, (3, 3), (2, 1), future=future), torch.randn(1, 2, 12, 5)
    changed = x.clone()
    changed[:, :, 8:] += 1
    difference = (conv(x) - conv(changed)).abs().amax((0, 1, 3))
    first = min(t for t in range(12) if difference[t] > 0)
    assert first in (8 - future, 8 - future + 1)  # the taps are two frames apart
    assert not difference[: 8 - future].any()


def test_channels_last_memory_stays_so():
    x = torch.randn(2, 8, 6, 4).to(memory_format=torch.channels_last)
    assert TimeConv(8, 8, (2, 3))(x).is_contiguous(memory_format=torch.channels_last)
