import re

import pytest
import torch

from senet.errors import UserError
from senet.losses.stages import Progressive, Stages
from senet.losses.waveform import L1

LENGTHS = torch.tensor([4000, 3000])


def waves(seed=0):
    """Speech of -26 dB, at 12 and -4 dB SNR, with offsets, padded to 4000 samples."""
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 2, 4000, generator=generator)
    clean = 0.05 * clean + 0.01
    noise = 0.05 * noise * 10 ** (-torch.tensor([[12.0], [-4.0]]) / 20) - 0.02
    inside = torch.arange(4000) < LENGTHS[:, None]
    return {"clean": clean * inside, "noise": noise * inside, "noisy": (clean + noise) * inside}


def snr_db(clean, target, length):
    """Of variances, in double."""
    clean, noise = clean[:length].double(), (target - clean)[:length].double()
    return float(10 * torch.log10(clean.var() / noise.var()))


def targets(k, **conf):
    refs = waves()
    return refs, Progressive("waveform.L1", **conf).targets(refs, LENGTHS, k)["clean"]


def test_stages_adds_the_weighted_loss_of_each_stage():
    refs = waves()
    stages = [waves(seed)["noisy"] for seed in (1, 2, 3)]
    loss, terms = Stages("waveform.L1", weights=(0.5, 0.0, 2.0))(stages, refs, LENGTHS)
    each = [L1()([stage], refs, LENGTHS)[0] for stage in stages]
    torch.testing.assert_close(loss, 0.5 * each[0] + 2 * each[2])
    assert [terms[f"stage{k}"] for k in (1, 2, 3)] == each
    assert terms["l1"] == each[2]


def test_stages_passes_on_what_the_inner_loss_is():
    loss = Stages("spectral.CompressedSpectrum", {"exponent": 0.5})
    assert (loss.domain, loss.needs, loss.loss.exponent) == ("spectrum", ("clean",), 0.5)


@pytest.mark.parametrize("kind", [Stages, Progressive])
def test_another_number_of_stages_is_refused(kind):
    with pytest.raises(UserError, match="2 weights for a model of 1 stage;"):
        kind("waveform.L1", weights=(1.0, 1.0))([waves()["noisy"]], waves(), LENGTHS)


@pytest.mark.parametrize("k, expected", [(1, 0.0), (2, 5.0), (3, 10.0), (4, 15.0)])
def test_absolute_targets_have_their_snr_whatever_the_inputs(k, expected):
    refs, target = targets(k)
    for i in range(2):
        assert snr_db(refs["clean"][i], target[i], LENGTHS[i]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("k, expected", [(1, (12, 0)), (2, (12, 5)), (3, (12, 10)), (4, (15, 15))])
def test_absolute_max_targets_are_never_noisier_than_the_input(k, expected):
    refs, target = targets(k, target="absolute_max")
    for i in range(2):
        inputs = snr_db(refs["clean"][i], refs["noisy"][i], LENGTHS[i])
        wanted = inputs if expected[i] == 12 else expected[i]
        assert snr_db(refs["clean"][i], target[i], LENGTHS[i]) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_gain_targets_rise_from_the_inputs_snr(k):
    refs, target = targets(k, target="gain", step_db=3.0)
    for i in range(2):
        inputs = snr_db(refs["clean"][i], refs["noisy"][i], LENGTHS[i])
        assert snr_db(refs["clean"][i], target[i], LENGTHS[i]) == pytest.approx(inputs + 3 * k, abs=0.01)


@pytest.mark.parametrize("target", ["absolute", "absolute_max", "gain"])
def test_the_last_target_is_the_clean_signal(target):
    refs, last = targets(5, target=target)
    assert torch.equal(last, refs["clean"])


@pytest.mark.parametrize("target", ["absolute", "absolute_max", "gain"])
def test_targets_hold_the_inputs_own_noise_and_untouched_speech(target):
    refs, mixed = targets(2, target=target)
    noise = (refs["noisy"] - refs["clean"])[0]
    residual = (mixed - refs["clean"])[0]
    torch.testing.assert_close(residual, noise * (residual @ noise / (noise @ noise)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("target", ["absolute", "absolute_max", "gain"])
def test_clips_without_noise_or_speech_have_targets(target):
    refs = waves()
    refs["noisy"][0] = refs["clean"][0]  # no noise
    refs["noisy"][1] -= refs["clean"][1]
    refs["clean"][1] = 0  # no speech
    mixed = Progressive("waveform.L1", target=target).targets(refs, LENGTHS, 2)["clean"]
    assert torch.equal(mixed[0], refs["clean"][0])
    assert torch.isfinite(mixed).all() and mixed[1].abs().max() <= refs["noisy"][1].abs().max()


def test_progressive_loss_is_zero_at_its_targets():
    refs = waves()
    loss = Progressive("waveform.L1", weights=(0.1, 0.1, 1.0))
    stages = [loss.targets(refs, LENGTHS, k)["clean"] for k in (1, 2, 3)]
    assert loss(stages, refs, LENGTHS)[0] == 0
    assert loss([refs["clean"]] * 3, refs, LENGTHS)[0] > 0
    assert set(loss.needs) == {"clean", "noisy"}


def test_progressive_learning_on_spectra_is_refused():
    with pytest.raises(UserError, match="Progressive mixes waveforms"):
        Progressive("spectral.CompressedSpectrum")


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="is 'relative', expected one of absolute, absolute_max, gain"):
        Progressive("waveform.L1", target="relative")


@pytest.mark.parametrize("kind", [Stages, Progressive])
@pytest.mark.parametrize("weights", [(), (1.0, -0.5), (0.0, 0.0)])
def test_weights_that_mean_nothing_are_refused(kind, weights):
    found = re.escape(str(list(weights)))
    with pytest.raises(UserError, match=f"loss_conf.weights are {found}, expected none below 0 and one above"):
        kind("waveform.L1", weights=weights)


@pytest.mark.parametrize("step_db", [0.0, -5.0])
def test_targets_that_do_not_rise_are_refused(step_db):
    with pytest.raises(UserError, match=f"loss_conf: step_db is {step_db:g}, expected more than 0"):
        Progressive("waveform.L1", step_db=step_db)


def test_the_inner_loss_is_refused_by_its_own_place():
    with pytest.raises(UserError, match="^loss_conf.loss: 'waveform.L2' not found"):
        Stages("waveform.L2")
    with pytest.raises(UserError, match="^loss_conf.loss_conf: Hybrid has no 'exponnt'; did you mean 'exponent'"):
        Stages("resynthesis.Hybrid", {"exponnt": 1.0})
