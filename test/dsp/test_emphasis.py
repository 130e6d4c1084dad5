import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from senet.dsp.emphasis import de_emphasis, pre_emphasis
from senet.errors import UserError


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_pre_emphasis_subtracts_the_sample_before():
    x = torch.tensor([[1.0, 2.0, 4.0]])
    torch.testing.assert_close(pre_emphasis(x, 0.5), torch.tensor([[1.0, 1.5, 3.0]]))


@pytest.mark.parametrize("factor", [0.5, 0.95, 0.97, 0.999])
@pytest.mark.parametrize("length", [1, 2, 511, 16000])
def test_de_emphasis_undoes_pre_emphasis(length, factor):
    x = noise(2, length).clamp(-1, 1)
    torch.testing.assert_close(de_emphasis(pre_emphasis(x, factor), factor), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.5, 0.95, 0.999])
def test_de_emphasis_is_the_recursive_filter(factor):
    y = 0.1 * noise(1, 60 * 16000) + 0.01  # a minute, with a mean that the filter raises 20-fold for 0.95
    expected = lfilter([1.0], [1.0, -factor], y.double().numpy())
    error = np.abs(de_emphasis(y, factor).numpy() - expected).max()
    assert error < 2e-6 * np.abs(expected).max()


def test_an_extreme_input_stays_bounded_over_a_minute():
    y = torch.ones(1, 60 * 16000)
    x = de_emphasis(y, 0.95)
    torch.testing.assert_close(x[:, 1000:], torch.full_like(x[:, 1000:], 20.0), atol=2e-5, rtol=0)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_factor_of_zero_or_less_is_off(factor):
    x = noise(1, 10)
    assert pre_emphasis(x, factor) is x and de_emphasis(x, factor) is x


def test_gradients_flow_through_both():
    x = noise(1, 20).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pre_emphasis(x, 0.95), x)
    assert torch.autograd.gradcheck(lambda x: de_emphasis(x, 0.95), x)


def test_a_factor_that_has_no_stable_inverse_is_refused():
    with pytest.raises(UserError, match="emphasis is 1.0, expected less than 1"):
        de_emphasis(noise(1, 10), 1.0)
