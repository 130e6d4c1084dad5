import numpy as np
import pytest
import torch

from senet.errors import UserError
from senet.losses.resynthesis import PlainSpectrum

MODES = {  # weights of magnitude, complex and time, as in the table of the class
    "mag+real+imag": (1, 1, 0),
    "real+imag": (0, 1, 0),
    "mag": (1, 0, 0),
    "time": (0, 0, 1),
    "time+mag": (1, 0, 1),
}
DISTANCES = {"l1": np.abs, "l2": np.square}


def waves(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_of(est, ref, lengths=None, **conf):
    lengths = torch.full((est.shape[0],), est.shape[1]) if lengths is None else torch.tensor(lengths)
    return PlainSpectrum(**conf)([est], {"clean": ref}, lengths)[0]


def spectrum(wave):
    """Frames by numpy: 300 zeros around the signal, Hamming window of 400, hop 100, 512-point FFT."""
    padded = np.pad(wave.double().numpy(), ((0, 0), (300, 300)))
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, padded.shape[1] - 399, 100)
    return np.stack([np.fft.rfft(window * padded[:, start : start + 400], 512) for start in starts], 2)


def terms_of(est, ref, distance):
    """The means that the modes put together: of magnitudes, real parts, imaginary parts and samples."""
    e, r, d = spectrum(est), spectrum(ref), DISTANCES[distance]
    magnitude = [np.sqrt(x.real**2 + x.imag**2 + 1e-7) for x in (e, r)]
    return {
        "mag": d(magnitude[0] - magnitude[1]).mean(),
        "real": d(e.real - r.real).mean(),
        "imag": d(e.imag - r.imag).mean(),
        "time": d((est - ref).double().numpy()).mean(),
    }


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_of_the_public_code_is_a_choice_of_weights(mode, distance):
    est, ref = waves(2, 1200), waves(2, 1200, seed=1)
    term = terms_of(est, ref, distance)
    parts = (term["real"] + term["imag"]) / 2  # as one term, so that c1 = c2 = 1 weigh it like the magnitudes
    terms = mode.replace("real+imag", "parts").split("+")
    expected = np.mean([{"parts": parts, **term}[name] for name in terms])
    weights = dict(zip(("magnitude_weight", "complex_weight", "time_weight"), MODES[mode], strict=True))
    loss = loss_of(est, ref, **weights, spectrum_distance=distance, time_distance=distance)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_default_weighs_magnitudes_and_parts_alike():
    est, ref = waves(2, 1200), waves(2, 1200, seed=1)
    term = terms_of(est, ref, "l1")
    expected = (term["mag"] + (term["real"] + term["imag"]) / 2) / 2
    assert loss_of(est, ref).item() == pytest.approx(expected, rel=1e-4)


def test_nunets_loss_is_half_squared_samples_and_half_absolute_magnitudes():
    est, ref = waves(2, 1200), waves(2, 1200, seed=1)
    expected = (terms_of(est, ref, "l2")["time"] + terms_of(est, ref, "l1")["mag"]) / 2
    loss = loss_of(est, ref, complex_weight=0.0, time_weight=1.0, time_distance="l2")
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_weights_are_relative():
    est, ref = waves(2, 1200), waves(2, 1200, seed=1)
    term = terms_of(est, ref, "l1")
    expected = (3 * term["mag"] + (term["real"] + term["imag"]) / 2) / 4
    assert loss_of(est, ref, magnitude_weight=6.0, complex_weight=2.0).item() == pytest.approx(expected, rel=1e-4)


def test_a_constant_offset_by_hand():
    est, ref = torch.full((1, 1200), 0.75), torch.full((1, 1200), 0.25)
    conf = {"magnitude_weight": 0.0, "complex_weight": 0.0, "time_weight": 1.0}
    assert loss_of(est, ref, **conf) == 0.5
    assert loss_of(est, ref, **conf, time_distance="l2") == 0.25


def test_padding_does_not_count():
    est, ref = waves(2, 1200), waves(2, 1200, seed=1)
    conf = {"time_weight": 1.0}
    value = loss_of(est, ref, [700, 1200], **conf)
    est[0, 700:], ref[0, 700:] = 5, -3
    torch.testing.assert_close(loss_of(est, ref, [700, 1200], **conf), value)
    alone = [loss_of(est[i : i + 1, :n], ref[i : i + 1, :n], **conf) for i, n in enumerate((700, 1200))]
    torch.testing.assert_close(sum(alone) / 2, value)


def test_the_clean_signal_has_no_loss_and_each_term_is_reported():
    x = waves(1, 700)
    loss, terms = PlainSpectrum(time_weight=1.0)([x], {"clean": x}, torch.tensor([700]))
    assert loss == 0 and set(terms) == {"magnitude", "complex", "time"}


@pytest.mark.parametrize("length", [1, 700])
def test_silence_gives_finite_gradients(length):
    est = torch.zeros(1, length, requires_grad=True)
    loss_of(est, torch.zeros(1, length), time_weight=1.0).backward()
    assert torch.isfinite(est.grad).all()


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"magnitude_weight": 0.0, "complex_weight": 0.0}, "expected none below 0 and one above"),
        ({"time_weight": -1.0}, r"are \[1.0, 1.0, -1.0\]"),
        ({"spectrum_distance": "l3"}, "spectrum_distance is 'l3', expected one of l1, l2"),
    ],
)
def test_weights_and_distances_that_mean_nothing_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        PlainSpectrum(**conf)
