import math

import numpy as np
import pytest
import torch

from senet.losses.waveform import L1, SISDR


def waves(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_of(loss, est, ref, lengths=None):
    lengths = torch.full((est.shape[0],), est.shape[1]) if lengths is None else torch.tensor(lengths)
    return loss([est], {"clean": ref}, lengths)[0]


def test_si_sdr_equals_an_independent_formula():
    est, ref = waves(1, 4000), waves(1, 4000, seed=1)
    est = est * 0.3 + ref + 0.5
    e, r = (x[0].double().numpy() - x[0].double().numpy().mean() for x in (est, ref))
    target = r * np.dot(e, r) / np.dot(r, r)
    expected = 10 * math.log10(np.sum(target**2) / np.sum((e - target) ** 2))
    assert abs(loss_of(SISDR(), est, ref).item() + expected) < 1e-3


def test_si_sdr_ignores_the_estimates_level_and_offset():
    est, ref = waves(2, 4000), waves(2, 4000, seed=1)
    torch.testing.assert_close(loss_of(SISDR(), 3 * est + 0.2, ref), loss_of(SISDR(), est, ref), rtol=1e-4, atol=1e-4)


def test_l1_is_the_mean_absolute_difference():
    assert loss_of(L1(), torch.full((2, 10), 0.5), torch.tensor([[0.0] * 10, [1.5] * 10])) == 0.75


@pytest.mark.parametrize("loss", [SISDR(), L1()])
def test_padding_does_not_count(loss):
    est, ref = waves(2, 500), waves(2, 500, seed=1)
    value = loss_of(loss, est, ref, [300, 500])
    est[0, 300:], ref[0, 300:] = 5, -3
    torch.testing.assert_close(loss_of(loss, est, ref, [300, 500]), value)
    alone = [loss_of(loss, est[i : i + 1, :n], ref[i : i + 1, :n]) for i, n in enumerate((300, 500))]
    torch.testing.assert_close(sum(alone) / 2, value)


@pytest.mark.parametrize("loss", [SISDR(), L1()])
@pytest.mark.parametrize("est, ref", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_silence_and_perfection_give_finite_gradients(loss, est, ref):
    signal = waves(1, 500)
    est = (est * signal).requires_grad_()
    value = loss_of(loss, est, ref * signal)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(est.grad).all()
