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
