"""RMSprop as in TensorFlow 1."""

import pytest
import torch

from senet.train.optim import RMSpropTF


def displacement(optimizer, steps, gradient=1e-3):
    """How far a constant gradient moves a parameter."""
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer([x])
    for _ in range(steps):
        x.grad = torch.full_like(x, gradient)
        optimizer.step()
    return -x[0].item()


@pytest.mark.parametrize(("steps", "expected"), [(1, 2.1e-7), (50, 5.0e-5), (200, 1.7e-2)])
def test_it_moves_as_far_as_tensorflows(steps, expected):
    assert displacement(lambda x: RMSpropTF(x, lr=2e-4), steps) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("steps", "expected"), [(1, 6.3e-4), (50, 1.2e-2), (200, 4.2e-2)])
def test_torchs_does_not_even_with_the_same_decay(steps, expected):
    moved = displacement(lambda x: torch.optim.RMSprop(x, lr=2e-4, alpha=0.9), steps)
    assert moved == pytest.approx(expected, rel=0.03)


def test_it_follows_its_formula():
    torch.manual_seed(0)
    x = torch.randn(4, 3, requires_grad=True)
    expected, square = x.detach().clone(), torch.ones(4, 3)
    optimizer = RMSpropTF([x], lr=0.01, decay=0.8, eps=1e-3)
    for _ in range(5):
        x.grad = torch.randn(4, 3)
        optimizer.step()
        square = 0.8 * square + 0.2 * x.grad**2
        expected -= 0.01 * x.grad / (square + 1e-3).sqrt()
    torch.testing.assert_close(x.detach(), expected)


def test_parameters_without_a_gradient_stay():
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = RMSpropTF([x, y])
    (2 * x).sum().backward()
    optimizer.step()
    assert (x < 1).all() and (y == 1).all() and y not in optimizer.state


@pytest.mark.parametrize("values", [{"lr": -1.0}, {"decay": 1.0}, {"eps": 0.0}])
def test_values_outside_their_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RMSpropTF([torch.zeros(1, requires_grad=True)], **values)
