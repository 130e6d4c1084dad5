import pytest
import torch

from senet.dsp.compress import compress_magnitude, power_compress


@pytest.mark.parametrize("value, expected", [(1 + 1j, 0.78460 + 0.78460j), (-1 + 1j, -0.78460 + 0.78460j)])
def test_compression_keeps_the_phase(value, expected):
    assert abs(complex(power_compress(torch.tensor(value), 0.3)) - expected) < 1e-4


def test_magnitude_form_is_the_magnitude_of_the_complex_form():
    x = torch.randn(1000, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compress_magnitude(x), power_compress(x).abs(), atol=1e-4, rtol=1e-3)


def test_exponent_one_changes_nothing():
    x = torch.randn(100, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(power_compress(x, 1.0), x)


@pytest.mark.parametrize("compress", [power_compress, compress_magnitude])
def test_zero_gives_zero_and_a_finite_gradient(compress):
    x = torch.zeros(5, dtype=torch.complex64, requires_grad=True)
    y = compress(x, 0.3)
    assert y.abs().max() == 0
    y.abs().sum().backward()
    assert torch.isfinite(torch.view_as_real(x.grad)).all()
