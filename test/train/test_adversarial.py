"""The adversarial objective: its losses by hand, who learns from what, two batches, noise, resuming."""

import logging

import pytest
import torch
from test_trainer import assert_equal, fit_in_pieces, last_state, records, trainer
from toys import WINDOW, SquaredError, TinyNet, ToyBatches, adversarial

from senet import checkpoint
from senet.errors import UserError
from senet.losses.spectral import CompressedSpectrum
from senet.losses.stages import Stages
from senet.losses.waveform import L1
from senet.models.lowlatency import LowLatencyNet
from senet.train.adversarial import Adversarial

BATCH = ToyBatches([8], length=WINDOW)[0, 0]
STAGES = {"loss": Stages("waveform.L1", weights=(50.0, 100.0)), "model_conf": {"num_stages": 2}}
STILL = {"optim": "SGD", "optim_conf": {"lr": 0.0}}  # nothing moves, so that losses can be computed afterwards


def half(batch, which):
    return {name: value[4 * which : 4 * which + 4] for name, value in batch.items() if name != "skipped"}


def recorded(objective):
    """The candidates, noisy windows and references that the discriminator is given, one list of each per call."""
    calls, inner = [], objective.discriminator.judge

    def judge(candidates, noisy, reference=None):
        calls.append((candidates, noisy, reference))
        return inner(candidates, noisy, reference)

    objective.discriminator.judge = judge
    return calls


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


# ------------------------------------------------------------ losses


@pytest.mark.parametrize("options", [{}, STAGES], ids=["one stage", "two stages"])
@pytest.mark.parametrize("gan_half", [False, True])
def test_the_losses_are_those_of_the_formulas(options, gan_half):
    objective = adversarial(**options, **STILL, gan_half=gan_half)
    calls = recorded(objective)
    values = objective.step(BATCH)
    score = objective.discriminator
    (d_candidates, d_noisy, _), (candidates, noisy, reference) = calls
    clean, *fakes = d_candidates
    stages, factor = len(fakes), 0.5 if gan_half else 1.0
    with torch.no_grad():
        real = score(clean, d_noisy)
        fake = [score(x, d_noisy, (clean, d_noisy)) for x in fakes]
        d_loss = factor * (((real - 1) ** 2).mean() + sum((s**2).mean() for s in fake) / stages)
        fooled = [score(x, noisy, reference) for x in candidates]
        g_loss = factor * sum(((s - 1) ** 2).mean() for s in fooled) / stages
        weights = [50.0, 100.0] if stages == 2 else [1.0]
        g_loss += sum(w * (x - reference[0]).abs().mean() for w, x in zip(weights, candidates, strict=True))
    assert len(fakes) == len(candidates) == objective.model.num_stages
    assert values["d_loss"].item() == pytest.approx(d_loss.item(), rel=1e-5)
    assert values["loss"].item() == pytest.approx(g_loss.item(), rel=1e-5)
    assert values["d_real"].item() == pytest.approx(real.mean().item(), rel=1e-4)
    assert values["d_fake"].item() == pytest.approx(torch.stack(fake).mean().item(), rel=1e-4)


def test_the_discriminator_sees_encoded_signals():
    objective = adversarial(**STILL)
    calls = recorded(objective)
    objective.step(BATCH)
    encode = objective.model.encode
    assert torch.equal(calls[0][0][0], encode(BATCH["clean"][:4])) and torch.equal(
        calls[0][1], encode(BATCH["noisy"][:4])
    )


def test_each_update_draws_its_own_z():
    objective = adversarial(**STILL, batches=1, model_conf={"num_stages": 2, "shared": True}, loss=STAGES["loss"])
    calls = recorded(objective)
    objective.step(BATCH)
    assert torch.equal(calls[0][1], calls[1][1])
    assert not torch.equal(calls[0][0][-1], calls[1][0][-1])  # of the same noisy windows, by the same weights


# ------------------------------------------------------------ who learns from what


def test_with_two_batches_each_network_learns_from_its_own():
    objective = adversarial(**STILL)
    assert objective.passes == 2
    calls = recorded(objective)
    objective.step(BATCH)
    for k, (_, noisy, _) in enumerate(calls):
        assert torch.equal(noisy, objective.model.encode(half(BATCH, k)["noisy"]))
    assert torch.equal(calls[1][2][0], objective.model.encode(half(BATCH, 1)["clean"]))


def test_with_one_batch_both_learn_from_it():
    objective = adversarial(**STILL, batches=1)
    assert objective.passes == 1
    calls = recorded(objective)
    objective.step(BATCH)
    assert all(torch.equal(noisy, objective.model.encode(BATCH["noisy"])) for _, noisy, _ in calls)


@pytest.mark.parametrize(("order", "sizes"), [("d_first", [2, 1]), ("g_first", [1, 2])])
def test_the_order_is_as_said_and_the_second_meets_the_first_updated(order, sizes):
    objective = adversarial(order=order)
    calls, seen = recorded(objective), []
    for updater in (objective.updater, objective.discriminator_updater):
        updater.optimizer.register_step_pre_hook(lambda *_, u=updater: seen.append((u, len(calls))))
    objective.step(BATCH)
    assert [len(candidates) for candidates, _, _ in calls] == sizes
    expected = [(objective.discriminator_updater, 1), (objective.updater, 2)]
    if order == "g_first":
        expected = [(objective.updater, 1), (objective.discriminator_updater, 2)]
    assert seen == expected


def test_neither_network_gathers_gradients_in_the_others_update():
    objective = adversarial()
    gathered = {}

    def note(updater, other, name):
        def hook(*_):
            gathered[name] = [None if p.grad is None else p.grad.clone() for p in other.parameters()]

        updater.optimizer.register_step_pre_hook(hook)

    note(objective.discriminator_updater, objective.model, "in D's")
    note(objective.updater, objective.discriminator, "in G's")
    objective.step(BATCH)
    assert all(grad is None for grad in gathered["in D's"])
    alone = [p.grad for p in objective.discriminator.parameters()]  # of its own update, which came first
    assert all(torch.equal(a, b) for a, b in zip(alone, gathered["in G's"], strict=True))
    assert all(p.requires_grad for p in objective.discriminator.parameters())


def test_gradients_of_the_second_stages_loss_reach_the_first_generator():
    objective = adversarial(loss=Stages("waveform.L1", weights=(0.0, 1.0)), model_conf={"num_stages": 2})
    objective.step(BATCH)
    weight = objective.model.generators[0].encoder[0].weight
    assert weight.grad.abs().max() > 0


def test_the_discriminators_optimiser_may_differ():
    objective = adversarial(optim_conf={"lr": 0.01, "decay": 0.8}, discriminator_optim_conf={"lr": 0.002})
    groups = [u.optimizer.param_groups[0] for u in (objective.updater, objective.discriminator_updater)]
    assert [(g["lr"], g["decay"]) for g in groups] == [(0.01, 0.8), (0.002, 0.8)] and objective.lr == 0.01


def test_schedule_and_warm_up_hold_for_both_networks():
    objective = adversarial(warmup_steps=4, scheduler="StepLR", scheduler_conf={"step_size": 1, "gamma": 0.5})
    for _ in range(2):
        objective.step(BATCH)
        objective.end_epoch({"loss": 1.0})
    assert objective.updater.lr == objective.discriminator_updater.lr == pytest.approx(0.01 * 0.25 * 3 / 4)


@pytest.mark.parametrize("norm", ["vbn", "bn", "none"])
def test_every_norm_of_the_discriminator_learns(norm):
    objective = adversarial(discriminator_conf={"norm": norm})
    before = snapshot(objective.discriminator)
    values = objective.step(BATCH)
    assert all(torch.isfinite(value) for value in values.values())
    assert any(not torch.equal(value, before[name]) for name, value in objective.discriminator.state_dict().items())


def test_the_larger_discriminator_fits_too():
    conf = {"channels": (2, 4), "kernel": 7, "stride": 4, "hidden": (4,), "window": WINDOW}
    torch.manual_seed(1)
    model = adversarial().model
    objective = Adversarial(
        model, STAGES["loss"].loss, discriminator="segan.DiscriminatorPlus", discriminator_conf=conf
    )
    assert objective.step(BATCH)["loss"] > 0


# ------------------------------------------------------------ noise, reconstruction, warning


def test_the_discriminators_noise_decays_by_epochs_and_ends():
    objective = adversarial(noise_std=0.03, noise_decay=0.7, noise_decay_epoch=2)
    used = []
    for _ in range(6):
        used.append(objective._noise())
        objective.end_epoch({"loss": 1.0})
    assert used == pytest.approx([0.03, 0.03, 0.021, 0.0147, 0.01029, 0.0])


def test_noise_is_on_all_that_the_discriminator_sees():
    objective = adversarial(**STILL, noise_std=0.5, batches=1)
    calls = recorded(objective)
    objective.step(BATCH)
    clean, noisy = (objective.model.encode(BATCH[name]) for name in ("clean", "noisy"))
    for got, signal in [(calls[0][0][0], clean), (calls[0][1], noisy), (calls[1][1], noisy), (calls[1][2][0], clean)]:
        assert (got - signal).std().item() == pytest.approx(0.5, rel=0.15)


def test_the_reconstruction_term_can_end():
    objective = adversarial(l1_remove_epoch=1)
    values = objective.step(BATCH)
    assert values["loss"].item() == pytest.approx((values["adversarial"] + values["reconstruction"]).item())
    objective.end_epoch({"loss": 1.0})
    values = objective.step(BATCH)
    assert values["loss"].item() == values["adversarial"].item() and values["reconstruction"] > 0


@pytest.mark.parametrize(("real", "fake", "warned"), [(1.0, 0.0, 1), (0.6, 0.4, 0), (0.0, 0.0, 0)])
def test_a_discriminator_that_wins_is_reported_once_per_epoch(caplog, real, fake, warned):
    objective = adversarial(**STILL)

    def judge(candidates, noisy, reference=None):
        scores = [fake] * len(candidates) if reference else [real] + [fake] * (len(candidates) - 1)
        graph = objective.discriminator.score.weight.sum()
        return [score + 0 * (x.sum(1) + graph) for score, x in zip(scores, candidates, strict=True)]

    objective.discriminator.judge = judge
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            objective.step(BATCH)
        objective.end_epoch({"loss": 1.0})
        objective.end_epoch({"loss": 1.0})  # nothing was learnt in between
    told = "epoch 1: the discriminator wins: the model's adversarial loss was 1.00 in the mean"
    assert caplog.text.count(told) == len(caplog.records) == warned


# ------------------------------------------------------------ evaluation


def test_evaluation_compares_whole_utterances_of_the_last_stage_and_changes_nothing():
    objective = adversarial(**STAGES)
    objective.step(BATCH)
    networks = (objective.model, objective.discriminator)
    before = [snapshot(network) for network in networks]
    batch = ToyBatches([3], length=150)[0, 0]
    batch["lengths"] = torch.tensor([150, 100, 7])
    state = torch.get_rng_state()
    values, weight = objective.evaluate(batch)
    assert weight == 3 and not values["loss"].requires_grad
    assert torch.equal(state, torch.get_rng_state())
    for network, old in zip(networks, before, strict=True):
        assert_equal(old, network.state_dict())
    with torch.no_grad():
        estimate, clean = map(objective.model.encode, (objective.model.eval()(batch["noisy"]), batch["clean"]))
    rows = [(estimate[i, :n] - clean[i, :n]).abs().mean() for i, n in enumerate([150, 100, 7])]
    assert values["loss"].item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)


# ------------------------------------------------------------ faults


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stops_before_the_update(bad):
    objective = adversarial(order="g_first")
    networks = (objective.model, objective.discriminator)
    before = [snapshot(network) for network in networks]
    with pytest.raises(FloatingPointError, match="^loss is"):
        objective.step(BATCH | {"clean": BATCH["clean"] * bad})
    objective.order = "d_first"
    with pytest.raises(FloatingPointError, match="discriminator's loss is"):
        objective.step(BATCH | {"clean": BATCH["clean"] * bad})
    for network, old in zip(networks, before, strict=True):
        assert_equal(old, network.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "both"}, "objective_conf.order is 'both', expected one of d_first, g_first"),
        ({"batches": 3}, "objective_conf.batches is 3, expected 1 or 2"),
        ({"noise_std": -1.0}, "objective_conf.noise_std is -1, expected at least 0"),
        ({"noise_decay": -1.0}, "objective_conf.noise_decay is -1, expected more than 0, at most 1"),
        ({"noise_decay": 2.0}, "objective_conf.noise_decay is 2, expected more than 0, at most 1"),
        ({"l1_remove_epoch": -1}, "objective_conf.l1_remove_epoch is -1, expected at least 0, or null"),
        ({"loss": CompressedSpectrum()}, "CompressedSpectrum compares spectra; .* such as waveform.L1"),
        (
            {"discriminator": "segan.Discriminater"},
            "objective_conf.discriminator: 'segan.Discriminater' not found: .* did you mean 'Discriminator'",
        ),
        (
            {"discriminator_conf": {"chanels": [2]}},
            "objective_conf.discriminator_conf: Discriminator has no 'chanels'; did you mean 'channels'",
        ),
        ({"discriminator_conf": {"kernel": "x"}}, "objective_conf.discriminator_conf.kernel: expected int"),
        (
            {"discriminator_optim_conf": {"alpha": 0.9}},
            "objective_conf.discriminator_optim_conf: RMSpropTF has no 'alpha'",
        ),
        ({"optim_conf": {"alpha": 0.9}}, "^optim_conf: RMSpropTF has no 'alpha'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        adversarial(**options)


@pytest.mark.parametrize("dotted", ["segan.SEGAN", "tfgridnet.TFGridNet"])
def test_a_class_that_is_no_discriminator_is_refused(dotted):
    conf = {"channels": [2, 2]} if "SEGAN" in dotted else {"emb_dim": 4, "lstm_units": 2, "n_layers": 1}
    with pytest.raises(UserError, match=rf"objective_conf.discriminator: {dotted} has no judge\(\) and window"):
        Adversarial(adversarial().model, L1(), discriminator=dotted, discriminator_conf=conf)


@pytest.mark.parametrize("model", [TinyNet, lambda: LowLatencyNet(channels=2, maps=1, lstm_units=2, fc_units=2)])
def test_a_model_without_encoded_waveforms_is_refused(model):
    with pytest.raises(
        UserError, match="adversarial training needs a model with encode.* such as segan.SEGAN; .*Net is"
    ):
        Adversarial(model(), SquaredError())


def test_windows_of_another_size_than_the_discriminators_are_refused():
    with pytest.raises(
        UserError, match="takes windows of 64 samples, and the batch has 128: set crop_seconds: 0.64 and"
    ):
        adversarial().step(ToyBatches([4], length=128)[0, 0])


def test_stored_spectra_are_refused():
    spec = torch.zeros(4, 5, 3, dtype=torch.complex64)
    batch = {"ids": list("abcd"), "noisy_stft": spec, "clean_stft": spec, "lengths": torch.full((4,), 8)}
    with pytest.raises(UserError, match="L1 compares waveforms; train with feats_type: raw"):
        adversarial().step(batch)


# ------------------------------------------------------------ the same again


def test_the_same_seed_gives_the_same_losses():
    runs = []
    for _ in range(2):
        objective = adversarial(**STAGES, noise_std=0.1)
        batches = ToyBatches([4] * 10, length=WINDOW)
        runs.append([{k: v.item() for k, v in objective.step(batches[0, i]).items()} for i in range(10)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"discriminator_conf": {"vbn_ref": "fixed"}, "noise_std": 0.1, "noise_decay_epoch": 1},
        {"discriminator_conf": {"spectral_norm": True, "norm": "bn"}, "model_conf": {"spectral_norm": True}},
        {"ema_decay": 0.9, "scheduler": "StepLR", "scheduler_conf": {"step_size": 1}, "l1_remove_epoch": 1},
    ],
    ids=["published", "fixed reference", "spectral and batch norm", "average"],
)
@pytest.mark.filterwarnings("error:Detected call of `lr_scheduler")
def test_a_training_that_was_stopped_ends_with_the_same_bits(tmp_path, options):
    data = {"train": ToyBatches([4] * 5, length=WINDOW), "valid": ToyBatches([3, 1], seed=99, length=100)}
    trainer(tmp_path / "whole", adversarial(**options), **data).fit()
    pieces = [("step", 1), ("step", 3), ("evaluate", 2), ("step", 4)]
    exits = fit_in_pieces(tmp_path / "pieces", pieces, objective=lambda: adversarial(**options), **data)
    assert exits == [75] * 4
    assert_equal(last_state(tmp_path / "whole"), last_state(tmp_path / "pieces"))
    assert records(tmp_path / "whole") == records(tmp_path / "pieces")


def test_a_checkpoint_of_another_discriminator_or_objective_is_refused(tmp_path):
    data = {"train": ToyBatches([4], length=WINDOW), "valid": ToyBatches([3], seed=99, length=100)}
    trainer(tmp_path, adversarial(), **data, max_epoch=1).fit()
    with pytest.raises(UserError, match=r"another discriminator: 'norms\.0\.weight' is \(2,\) .* and absent in"):
        trainer(tmp_path, adversarial(discriminator_conf={"norm": "none"}), **data).fit()
    with pytest.raises(UserError, match="another discriminator: 'reference' is absent in the checkpoint"):
        trainer(tmp_path, adversarial(discriminator_conf={"vbn_ref": "fixed"}), **data).fit()
    state = checkpoint.load(tmp_path / "checkpoints")
    checkpoint.save(tmp_path / "checkpoints", {k: state[k] for k in state if "discr" not in k}, step=2, epoch=2)
    with pytest.raises(UserError, match="of another way of training: it has no 'discriminator'"):
        trainer(tmp_path, adversarial(), **data).fit()


def test_the_kept_reference_of_any_size_is_not_what_differs():
    kept = {"vbn_ref": "fixed"}
    first = adversarial(discriminator_conf=kept)
    first.step(BATCH)
    state = first.state_dict()
    assert len(state["discriminator"]["reference"]) == 4
    adversarial(discriminator_conf=kept).load_state_dict(state)
    with pytest.raises(UserError, match=r"another discriminator: 'convs.0.weight' is \(2, 2, 7\) .* and \(2, 2, 9\)"):
        adversarial(discriminator_conf=kept | {"kernel": 9}).load_state_dict(state)


def test_two_windows_can_be_learnt_by_heart():
    objective = adversarial(
        batches=1, optim="Adam", optim_conf={"lr": 0.01}, loss=Stages("waveform.L1", weights=(100.0,)),
        model_conf={"z": "none", "channels": (8, 8, 8)}, discriminator_conf={"norm": "none"},
    )  # fmt: skip
    batch = ToyBatches([2], length=WINDOW)[0, 0]
    batch |= {name: 0.2 * batch[name] for name in ("noisy", "clean")}  # within the network's range
    first = objective.evaluate(batch)[0]["loss"].item()
    for _ in range(100):
        objective.step(batch)
    assert objective.evaluate(batch)[0]["loss"].item() < 0.3 * first


def test_a_weight_for_each_stage_is_asked_for_at_once():
    with pytest.raises(UserError, match="loss_conf.weights: 2 weights for a model of 3 stages"):
        adversarial(Stages("waveform.L1", weights=(50.0, 100.0)), model_conf={"num_stages": 3})
