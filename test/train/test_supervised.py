"""The supervised objective: domains, references, stored spectra, clipping, warm-up."""

import math

import pytest
import torch
from toys import SquaredError, TinyNet, ToyBatches, supervised

from senet.errors import UserError
from senet.losses.spectral import CompressedSpectrum
from senet.models.lowlatency import LowLatencyNet
from senet.train.supervised import Supervised


@pytest.fixture
def spectral():
    def make(loss=None):
        torch.manual_seed(0)
        model = LowLatencyNet(channels=2, maps=1, lstm_units=4, fc_units=4, causal=True)
        return Supervised(model, loss or CompressedSpectrum(), optim_conf={"lr": 0.01})

    return make


def audio_batch(lengths=(1600, 1111)):
    g = torch.Generator().manual_seed(0)
    clean = torch.zeros(len(lengths), max(lengths))
    for row, n in zip(clean, lengths, strict=True):
        row[:n] = 0.1 * torch.randn(n, generator=g)
    ids = [f"u{i}" for i in range(len(lengths))]
    return {"ids": ids, "noisy": clean + 0.1 * clean.roll(5, 1), "clean": clean, "lengths": torch.tensor(lengths)}


def stored(batch, stft):
    frames = stft.num_frames(batch["lengths"])
    return {
        "ids": batch["ids"], "noisy_stft": stft(batch["noisy"]), "clean_stft": stft(batch["clean"]),
        "lengths": batch["lengths"], "frame_lengths": frames,
    }  # fmt: skip


def test_stored_spectra_give_the_losses_and_weights_that_waveforms_give(spectral):
    raw, stft = spectral(), spectral()
    batch = audio_batch()
    for _ in range(3):
        a, b = raw.step(batch), stft.step(stored(batch, stft.model.stft))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert all(torch.equal(*pair) for pair in zip(raw.model.parameters(), stft.model.parameters(), strict=True))


def test_padding_does_not_count(spectral):
    alone, padded = audio_batch((1111,)), audio_batch((1111,))
    for name in ("noisy", "clean"):
        padded[name] = torch.nn.functional.pad(padded[name], (0, 800))
    losses = [spectral().evaluate(b)[0]["loss"].item() for b in (alone, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0] > 1


def test_a_reference_that_the_data_lack_is_named(spectral):
    class OnNoise(CompressedSpectrum):
        needs = ("noise",)

    with pytest.raises(UserError, match=r"OnNoise needs 'noise', which the data .* hold noisy, clean, lengths"):
        spectral(OnNoise()).step(audio_batch())


def test_what_is_not_stored_with_spectra_is_asked_of_waveforms(spectral):
    class OnNoise(CompressedSpectrum):
        needs = ("clean", "noise")

    objective = spectral(OnNoise())
    with pytest.raises(
        UserError, match="OnNoise needs 'noise', which is not stored with spectra; train with feats_type: "
    ):
        objective.step(stored(audio_batch(), objective.model.stft))


def test_a_loss_on_waveforms_asks_for_waveforms(spectral):
    objective = spectral(SquaredError())
    batch = stored(audio_batch(), objective.model.stft)
    with pytest.raises(UserError, match="SquaredError compares waveforms; train with feats_type: raw"):
        objective.step(batch)
    assert objective.step(audio_batch())["loss"] > 0


def test_a_loss_on_spectra_asks_for_a_spectral_model():
    with pytest.raises(UserError, match=r"CompressedSpectrum compares spectra, but TinyNet has no analysis\(\)"):
        Supervised(TinyNet(), CompressedSpectrum())


def test_evaluating_changes_nothing_and_weighs_by_utterances():
    objective = supervised()
    before = {k: v.clone() for k, v in objective.model.state_dict().items()}
    values, weight = objective.evaluate(ToyBatches([3])[0, 0])
    assert weight == 3 and not values["loss"].requires_grad
    assert values["loss"] == objective.evaluate(ToyBatches([3])[0, 0])[0]["loss"]  # no dropout
    assert all(torch.equal(v, before[k]) for k, v in objective.model.state_dict().items())


@pytest.mark.parametrize(("grad_clip", "moved"), [(0.0, None), (1e-3, 1e-3)])
def test_the_gradient_is_clipped_and_its_norm_before_that_is_told(grad_clip, moved):
    objective = supervised(optim="SGD", optim_conf={"lr": 1.0}, grad_clip=grad_clip)
    before = [p.detach().clone() for p in objective.model.parameters()]
    norm = objective.step(ToyBatches([4])[0, 0])["grad_norm"].item()
    moves = [(p.detach() - q).flatten() for p, q in zip(objective.model.parameters(), before, strict=True)]
    assert torch.cat(moves).norm().item() == pytest.approx(moved or norm, rel=1e-3)
    assert norm > 0.1


def rates_used(updates, **options):
    """The learning rate of each update, as the optimiser met it and as the objective told it before."""
    objective, used, shown = supervised(optim="SGD", **options), [], []
    objective.updater.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
    )
    batch = ToyBatches([4])[0, 0]
    for _ in range(updates):
        shown.append(objective.lr)
        objective.step(batch)
    assert shown == used
    return used


STEPWISE = {"scheduler_interval": "step", "optim_conf": {"lr": 0.8}}


def test_a_scheduler_by_steps_begins_after_the_warm_up():
    schedule = {"scheduler": "StepLR", "scheduler_conf": {"step_size": 2, "gamma": 0.5}} | STEPWISE
    assert rates_used(4, **schedule) == pytest.approx([0.8, 0.8, 0.4, 0.4])
    assert rates_used(7, **schedule, warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.4, 0.4])


def test_warm_up_and_cosine_are_the_published_schedule():
    """max s / warm, then min + (1 + cos(pi (s - warm) / (end - warm))) (max - min) / 2, for update s = 1, 2, ..."""
    top, least, warm, end = 0.8, 0.01, 5, 30
    cosine = {"scheduler": "CosineAnnealingLR", "scheduler_conf": {"T_max": end - warm, "eta_min": least}}
    expected = [
        top * s / warm if s < warm else least + (1 + math.cos(math.pi * (s - warm) / (end - warm))) / 2 * (top - least)
        for s in range(1, end + 1)
    ]
    assert rates_used(end, **cosine, **STEPWISE, warmup_steps=warm) == pytest.approx(expected)
    assert expected[warm - 1] == top and expected[-1] == pytest.approx(least)


def test_the_plateau_scheduler_follows_the_validation_loss_only():
    objective = supervised(
        scheduler="ReduceLROnPlateau", scheduler_conf={"patience": 1, "factor": 0.5}, scheduler_interval="step"
    )
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9):
        objective.step(ToyBatches([4])[0, 0])
        objective.end_epoch({"loss": torch.tensor(loss).item()})
        rates.append(objective.lr)
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.005])


def test_two_batches_can_be_learnt_by_heart():
    torch.manual_seed(0)
    model = TinyNet()
    model.inner = torch.nn.Linear(8, 8)
    objective, batches = Supervised(model, SquaredError(), optim_conf={"lr": 0.02}), ToyBatches([4, 4])
    losses = [objective.step(batches[0, i % 2])["loss"].item() for i in range(400)]
    assert sum(losses[-2:]) < 1e-3 * sum(losses[:2])
