import math

import pytest
import torch

from senet.errors import UserError
from senet.losses.resynthesis import Hybrid


def tones():
    """440 Hz, clean, and the same with another tone 6.02 dB below."""
    time = torch.arange(16000, dtype=torch.float64) / 16000
    clean = 0.1 * torch.sin(2 * torch.pi * 440 * time)
    est = clean + 0.05 * torch.sin(2 * torch.pi * 1000 * time + 0.3)
    return est[None].float(), clean[None].float()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_of(est, ref, lengths=None, **conf):
    lengths = torch.full((est.shape[0],), est.shape[1]) if lengths is None else torch.tensor(lengths)
    return Hybrid(**conf)([est], {"clean": ref}, lengths)


def test_value_equals_setrains():
    loss, terms = loss_of(*tones())
    assert float(terms["complex"]) == pytest.approx(0.008245 + 0.045655, abs=1e-6)
    assert float(terms["magnitude"]) == pytest.approx(0.024423, abs=1e-6)
    assert float(terms["si_snr"]) == pytest.approx(10 * math.log10(4), abs=1e-4)
    # SEtrain takes the SI-SNR of what it synthesises, 62 hops.
    si_snr = loss_of(*(wave[:, : 62 * 256] for wave in tones()))[1]["si_snr"]
    assert float(si_snr) == pytest.approx(6.02012, abs=1e-5)
    assert float(loss + (terms["si_snr"] - si_snr) / 10) == pytest.approx(2.724582, abs=1e-5)


def test_value_equals_acceleration123s():
    loss, terms = loss_of(*tones(), mag_exponent=0.7)
    assert float(30 * terms["complex"] + 70 * terms["magnitude"]) == pytest.approx(9.039304, abs=5e-5)
    assert float(loss) == pytest.approx(8.437243, abs=5e-5)


def test_each_weight_belongs_to_its_term():
    terms = loss_of(*tones())[1]
    none = {"complex_weight": 0.0, "magnitude_weight": 0.0, "si_snr_weight": 0.0}
    for name, sign in (("complex", 1), ("magnitude", 1), ("si_snr", -0.1)):
        loss = loss_of(*tones(), **(none | {f"{name}_weight": 2.0}))[0]
        torch.testing.assert_close(loss, 2 * sign * terms[name])


def test_padding_does_not_count():
    est, ref = noise(2, 3000), noise(2, 3000, seed=1)
    loss = loss_of(est, ref, [1500, 3000])[0]
    est[0, 1500:], ref[0, 1500:] = 7, -1
    torch.testing.assert_close(loss_of(est, ref, [1500, 3000])[0], loss)
    assert loss_of(est, ref)[0] != loss


def test_a_batch_has_the_mean_of_its_clips():
    est, ref = noise(3, 2560), noise(3, 2560, seed=1)
    alone = torch.stack([loss_of(est[i : i + 1], ref[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(loss_of(est, ref)[0], alone.mean())


@pytest.mark.parametrize("length", [1, 100, 256, 257, 3000])
@pytest.mark.parametrize("silent", ["estimate", "clean", "both", "equal"])
def test_silence_and_perfection_have_finite_losses_and_gradients(silent, length):
    est, ref = noise(1, length), noise(1, length, seed=1)
    est = {"estimate": 0 * est, "both": 0 * est, "equal": ref}.get(silent, est).clone().requires_grad_()
    ref = 0 * ref if silent in ("clean", "both") else ref
    loss, _ = loss_of(est, ref)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(est.grad).all()


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"exponent": 0.0}, "Hybrid: exponent is 0, expected more than 0"),
        ({"mag_exponent": -0.3}, "Hybrid: mag_exponent is -0.3, expected more than 0"),
        (
            {"si_snr_weight": -1.0},
            r"magnitude and si_snr are \[30.0, 70.0, -1.0\], expected none below 0",
        ),
    ],
)
def test_values_that_mean_nothing_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        Hybrid(**conf)
