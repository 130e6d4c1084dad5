import pytest
import torch

from senet.errors import UserError
from senet.losses.spectral import CompressedSpectrum, RIMagnitude
from senet.losses.stages import Stages


def spectra(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def loss_of(est, ref, lengths=None, **conf):
    lengths = torch.full((est.shape[0],), est.shape[2]) if lengths is None else torch.tensor(lengths)
    return CompressedSpectrum(**conf)([est], {"clean": ref}, lengths)[0]


def test_the_clean_spectrum_has_no_loss():
    ref = spectra(2, 257, 5)
    assert loss_of(ref, ref) == 0


def test_value_equals_the_formula():
    est, ref = spectra(2, 9, 5), spectra(2, 9, 5, seed=1)
    compress = [x.abs() ** 0.3 * torch.exp(1j * x.angle()) for x in (est, ref)]
    magnitude = (est.abs() ** 0.3 - ref.abs() ** 0.3).square().sum((1, 2)).mean()
    expected = magnitude + 0.113 * (compress[0] - compress[1]).abs().square().sum((1, 2)).mean()
    torch.testing.assert_close(loss_of(est, ref), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("complex_weight", [0.0, 0.113, 2.0])
def test_exponent_one_is_plain_squared_distance(complex_weight):
    est, ref = spectra(2, 9, 5), spectra(2, 9, 5, seed=1)
    plain = (est.abs() - ref.abs()).square().sum() / 2 + complex_weight * (est - ref).abs().square().sum() / 2
    loss = loss_of(est, ref, exponent=1.0, complex_weight=complex_weight)
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=0)


def test_mean_is_the_sum_over_the_number_of_valid_bins():
    est, ref = spectra(1, 9, 5), spectra(1, 9, 5, seed=1)
    total, mean = (loss_of(est, ref, [4], reduction=reduction) for reduction in ("sum", "mean"))
    torch.testing.assert_close(mean, total / (9 * 4))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_padded_frames_do_not_count(reduction):
    est, ref = spectra(2, 9, 5), spectra(2, 9, 5, seed=1)
    loss = loss_of(est, ref, [3, 5], reduction=reduction)
    est[0, :, 3:], ref[0, :, 3:] = 7, 100
    torch.testing.assert_close(loss_of(est, ref, [3, 5], reduction=reduction), loss)


def test_each_term_can_be_left_out_and_is_reported():
    est, ref, lengths = spectra(1, 9, 5), spectra(1, 9, 5, seed=1), torch.tensor([5])
    loss, terms = CompressedSpectrum()([est], {"clean": ref}, lengths)
    for weights, name in (((0.0, 1.0), "magnitude"), ((1.0, 0.0), "complex")):
        alone, reported = CompressedSpectrum(complex_weight=weights[0], magnitude_weight=weights[1])(
            [est], {"clean": ref}, lengths
        )
        assert list(reported) == [name] and alone == reported[name] == terms[name]
    torch.testing.assert_close(loss, terms["magnitude"] + 0.113 * terms["complex"])


def test_gradients_are_finite_where_all_is_zero():
    est = torch.zeros(1, 9, 5, dtype=torch.complex64, requires_grad=True)
    loss_of(est, torch.zeros_like(est)).backward()
    assert torch.isfinite(torch.view_as_real(est.grad)).all()


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"reduction": "max"}, "reduction is 'max', expected one of sum, mean"),
        ({"exponent": 0.0}, "CompressedSpectrum: exponent is 0, expected more than 0"),
        ({"magnitude_weight": 0.0, "complex_weight": 0.0}, r"are \[0.0, 0.0\], expected none below 0 and one above"),
        ({"complex_weight": -0.1}, r"magnitude and complex are \[1.0, -0.1\], expected none below 0"),
    ],
)
def test_values_that_mean_nothing_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        CompressedSpectrum(**conf)


# ---------------------------------------------------------------- real and imaginary parts, and magnitudes


def test_ri_magnitude_of_a_padded_batch_by_hand():
    est = torch.tensor([[[3 + 4j, 7j, 7j]], [[6 + 8j, 1j, -2]]])  # B = 2, F = 1, T = 3
    ref = torch.tensor([[[0j, 1, 1]], [[6j, 1, 1 + 0j]]])
    # Valid: 1 and 3 frames. Differences of parts squared: 25; 36 + 4, 1 + 1, 9. Of magnitudes: 5; 4, 0, 1.
    parts, magnitude = (25 + 40 + 2 + 9) / (2 * 4), (25 + 16 + 0 + 1) / 4
    loss, terms = RIMagnitude()([est], {"clean": ref}, torch.tensor([1, 3]))
    assert terms["complex"].item() == pytest.approx(parts)
    assert terms["magnitude"].item() == pytest.approx(magnitude)
    assert loss.item() == pytest.approx(0.5 * parts + 0.5 * magnitude)
    loss, _ = RIMagnitude(0.2, 3.0)([est], {"clean": ref}, torch.tensor([1, 3]))
    assert loss.item() == pytest.approx(0.2 * parts + 3 * magnitude)


def test_ri_magnitude_over_stages():
    stages, ref, lengths = [spectra(2, 9, 5, seed=k) for k in (1, 2, 3)], spectra(2, 9, 5), torch.tensor([5, 4])
    loss, _ = Stages("spectral.RIMagnitude", weights=(0.1, 0.1, 1.0))(stages, {"clean": ref}, lengths)
    one, two, three = (RIMagnitude()([stage], {"clean": ref}, lengths)[0] for stage in stages)
    torch.testing.assert_close(loss, 0.1 * one + 0.1 * two + three)


def test_ri_magnitude_has_a_finite_gradient_at_zero_and_none_in_the_padding():
    est = torch.zeros(2, 9, 5, dtype=torch.complex64, requires_grad=True)
    loss, _ = RIMagnitude()([est], {"clean": spectra(2, 9, 5)}, torch.tensor([3, 5]))
    loss.backward()
    assert torch.isfinite(torch.view_as_real(est.grad)).all() and est.grad.abs()[:, :, :3].min() > 0
    assert est.grad[0, :, 3:].abs().max() == 0


def test_ri_magnitude_without_weight_is_refused():
    with pytest.raises(UserError, match=r"complex and magnitude are \[-1.0, 0.5\], expected none below 0"):
        RIMagnitude(complex_weight=-1.0)
