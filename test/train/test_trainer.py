"""The trainer: what it does with an objective, and that stopping anywhere changes nothing."""

import json
import logging
import math
import os
import signal

import pytest
import torch
from mixtures import make_sources, stream
from toys import ToyBatches, supervised

from senet import checkpoint
from senet.errors import UserError
from senet.train.log import TrainLog
from senet.train.trainer import Trainer

TIMES = ("seconds", "steps_per_second", "audio_per_second", "waiting")


def trainer(expdir, objective=None, train=None, valid=None, **options):
    return Trainer(
        objective or supervised(),
        train or ToyBatches([4] * 5),
        valid or ToyBatches([3, 1], seed=99),
        expdir,
        sample_rate=100,
        **{"max_epoch": 3, "log_every": 3, "save_every": 2} | options,
    )


def records(expdir, event=None):
    lines = [json.loads(line) for line in (expdir / "train.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in TIMES} for r in lines if event in (None, r["event"])]


def last_state(expdir):
    state = checkpoint.load(expdir / "checkpoints")
    state["trainer"].pop("seconds")
    return state


def assert_equal(a, b):
    """The same nested values, tensors to the bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert torch.equal(a, b) if torch.is_tensor(a) else a == b


def fit_in_pieces(expdir, signals, **options):
    """Train, stopped by a signal after each of these steps (or validation batches), until done."""
    exits = []
    for where in [*signals, None]:
        objective = options.get("objective", supervised)()
        if where is not None:
            _signal_after(objective, *where)
        try:
            trainer(expdir, **{**options, "objective": objective}).fit()
        except SystemExit as stop:
            exits.append(stop.code)
    return exits


def _signal_after(objective, method, calls, number=signal.SIGTERM):
    inner, count = getattr(objective, method), 0

    def counted(batch):
        nonlocal count
        count += 1
        result = inner(batch)
        if count == calls:
            os.kill(os.getpid(), number)
        return result

    setattr(objective, method, counted)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    expdir = tmp_path_factory.mktemp("undisturbed")
    trainer(expdir).fit()
    return expdir


@pytest.mark.parametrize("step", range(1, 16))
def test_stopping_after_any_step_changes_no_bit(undisturbed, tmp_path, step):
    assert fit_in_pieces(tmp_path, [("step", step)]) == [75]
    assert_equal(last_state(tmp_path), last_state(undisturbed))
    assert records(tmp_path) == records(undisturbed)


@pytest.mark.parametrize(
    "signals",
    [[("step", 1)] * 14, [("evaluate", 1)], [("evaluate", 2)] * 3, [("step", 5), ("evaluate", 1), ("step", 1)]],
    ids=["every_step", "validation", "every_validation", "mixed"],
)
def test_stopping_again_and_again_changes_no_bit(undisturbed, tmp_path, signals):
    assert fit_in_pieces(tmp_path, signals) == [75] * len(signals)
    assert_equal(last_state(tmp_path), last_state(undisturbed))
    assert records(tmp_path) == records(undisturbed)


@pytest.mark.parametrize(
    "objective",
    [
        lambda: supervised(optim="RMSprop", scheduler="StepLR", scheduler_conf={"step_size": 1, "gamma": 0.5}),
        lambda: supervised(
            optim="SGD", scheduler="MultiStepLR", scheduler_conf={"milestones": [4, 9]}, scheduler_interval="step",
            warmup_steps=6,
        ),
        lambda: supervised(scheduler="ReduceLROnPlateau", scheduler_conf={"patience": 0, "threshold": 0.9}),
        lambda: supervised(
            scheduler="OneCycleLR", scheduler_conf={"max_lr": 0.1, "total_steps": 30}, scheduler_interval="step"
        ),
        lambda: supervised(scheduler="CosineAnnealingLR", scheduler_conf={"T_max": 3}),
    ],
    ids=["StepLR", "MultiStepLR", "ReduceLROnPlateau", "OneCycleLR", "CosineAnnealingLR"],
)  # fmt: skip
def test_schedules_resume_exactly(tmp_path, objective):
    trainer(tmp_path / "a", objective()).fit()
    fit_in_pieces(tmp_path / "b", [("step", 7), ("step", 1)], objective=objective)
    assert_equal(last_state(tmp_path / "a"), last_state(tmp_path / "b"))
    assert len({r["lr"] for r in records(tmp_path / "a")}) > 1  # there was a schedule


@pytest.mark.parametrize("on_device", [False, True])
def test_stopping_within_an_epoch_of_mixtures_made_on_the_fly_changes_no_bit(tmp_path, on_device):
    sources = make_sources(tmp_path / "data")
    words = ["--policy", "dns", "--rir", "rir", "--seconds", "0.5"]

    def options(num_workers):
        train = stream(sources, *words, number=15, batch_size=4, crop_seconds=8 / 16000, on_device=on_device)
        return {"train": train, "num_workers": num_workers}

    trainer(tmp_path / "calm", **options(0)).fit()
    assert fit_in_pieces(tmp_path / "disturbed", [("step", 2), ("step", 3), ("evaluate", 1)], **options(1)) == [75] * 3
    assert_equal(last_state(tmp_path / "calm"), last_state(tmp_path / "disturbed"))
    assert records(tmp_path / "calm") == records(tmp_path / "disturbed")


def test_a_crash_repeats_the_steps_since_the_checkpoint_and_their_log_lines(undisturbed, tmp_path):
    objective = supervised()

    def crash(batch, inner=objective.step):
        if len(objective.updater.optimizer.state) and objective.updater.updates == 9:
            raise KeyError
        return inner(batch)

    objective.step = crash
    with pytest.raises(KeyError):
        trainer(tmp_path, objective).fit()
    assert [r["step"] for r in records(tmp_path)][-1] == 9 and checkpoint.entries(tmp_path / "checkpoints")[-1][
        "step"
    ] == 8
    trainer(tmp_path).fit()
    assert records(tmp_path) == records(undisturbed)
    assert_equal(last_state(tmp_path), last_state(undisturbed))


def test_with_a_damaged_last_checkpoint_the_one_before_leads_to_the_same_end(undisturbed, tmp_path, caplog):
    fit_in_pieces(tmp_path, [("step", 9)])  # and to the end
    path = tmp_path / "checkpoints" / checkpoint.entries(tmp_path / "checkpoints")[-1]["file"]
    path.write_bytes(path.read_bytes()[:-100])
    trainer(tmp_path).fit()
    assert "damaged" in caplog.text
    assert_equal(last_state(tmp_path), last_state(undisturbed))
    assert records(tmp_path) == records(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_saves_within_the_step_and_says_so(tmp_path, caplog, number):
    objective = supervised()
    _signal_after(objective, "step", 3, number)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        trainer(tmp_path, objective, save_every=0).fit()
    assert stop.value.code == 75 and checkpoint.entries(tmp_path / "checkpoints")[-1]["step"] == 3
    assert f"{number.name}: saved at step 3 and stopped; the same command continues" in caplog.text
    assert signal.getsignal(number) is before


def test_a_finished_experiment_says_so_and_changes_nothing(undisturbed, caplog):
    before = {p: p.read_bytes() for p in undisturbed.rglob("*") if p.is_file()}
    with caplog.at_level(logging.INFO):
        trainer(undisturbed).fit()
    assert "nothing to do: max_epoch 3 is reached" in caplog.text
    assert {p: p.read_bytes() for p in undisturbed.rglob("*") if p.is_file()} == before


def test_raising_max_epoch_continues_as_if_it_had_been_so_from_the_start(undisturbed, tmp_path):
    trainer(tmp_path, max_epoch=1).fit()
    trainer(tmp_path, max_epoch=3).fit()
    assert_equal(last_state(tmp_path), last_state(undisturbed))


def test_max_steps_ends_within_an_epoch_with_a_validation_and_can_be_raised(undisturbed, tmp_path):
    trainer(tmp_path, max_steps=7).fit()
    assert [r["step"] for r in records(tmp_path, "valid")] == [5, 7]
    assert checkpoint.entries(tmp_path / "checkpoints")[-1]["score"] is not None
    trainer(tmp_path).fit()
    whole = last_state(undisturbed)
    assert_equal(last_state(tmp_path)["model"], whole["model"])
    assert_equal(last_state(tmp_path)["optimizer"], whole["optimizer"])


def test_a_signal_at_the_last_of_max_steps_does_not_lose_the_validation(tmp_path):
    assert fit_in_pieces(tmp_path, [("step", 7)], max_steps=7) == [75]
    assert [r["step"] for r in records(tmp_path, "valid")] == [5, 7]


@pytest.mark.parametrize(("save_every", "series"), [(2, [10, 12, 14]), (4, [4, 8, 12]), (0, [5, 10, 15])])
def test_the_last_of_a_series_are_kept_whatever_came_between(tmp_path, save_every, series):
    options = {"save_every": save_every, "keep_last": 3}
    for name, signals in (("calm", []), ("disturbed", [("step", 11), ("step", 2), ("evaluate", 1)])):
        fit_in_pieces(tmp_path / name, signals, **options)
        found = checkpoint.entries(tmp_path / name / "checkpoints")
        assert [e["step"] for e in reversed(checkpoint.series(found))] == series
        assert found[-1]["step"] == 15


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer(tmp_path, max_epoch=1).fit()
    objective = supervised()
    objective.model.inner[0] = torch.nn.Linear(8, 16, bias=False)
    with pytest.raises(
        UserError, match=r"checkpoints: .* 'inner.0.bias' is \(16,\) in the checkpoint and absent in the mo"
    ):
        trainer(tmp_path, objective).fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim": "AdamW"}, "optim is AdamW, but the checkpoint is of a training with Adam"),
        ({"optim": "SGD"}, "optim is SGD, but the checkpoint is of a training with Adam"),
        ({"scheduler": "StepLR", "scheduler_conf": {"step_size": 1}}, "scheduler is StepLR, but .* with None"),
    ],
)
def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path, options, message):
    trainer(tmp_path, max_epoch=1).fit()
    with pytest.raises(UserError, match=f"checkpoints: {message}"):
        trainer(tmp_path, supervised(**options)).fit()


@pytest.mark.parametrize("state", [{"model": supervised().model.state_dict(), "trainer": {}}, {"model": {}}], ids=len)
def test_a_checkpoint_of_another_way_of_training_is_refused(tmp_path, state):
    checkpoint.save(tmp_path / "checkpoints", state, step=1, epoch=1)
    with pytest.raises(UserError, match="checkpoints: the checkpoint is of another way of training: it has no '"):
        trainer(tmp_path).fit()


def test_validation_counts_utterances_not_batches(tmp_path):
    valid = ToyBatches([3, 1], seed=99)
    objective = supervised()
    trainer(tmp_path, objective, valid=valid, max_steps=1).fit()
    objective.model.eval()
    with torch.no_grad():
        errors = [(objective.model.stages(valid[0, i]["noisy"])[-1] - valid[0, i]["clean"]).square() for i in range(2)]
    expected = torch.cat(errors).mean().item()  # over the 4 utterances at once
    (record,) = records(tmp_path, "valid")
    assert record["loss"] == pytest.approx(expected, rel=1e-6) and record["twice"] == pytest.approx(
        2 * expected, rel=1e-6
    )


def test_logged_losses_are_means_over_the_interval(tmp_path):
    objective, losses = supervised(), []

    def step(batch, inner=objective.step):
        values = inner(batch)
        losses.append(values["loss"].item())
        return values

    objective.step = step
    trainer(tmp_path, objective, log_every=4, max_epoch=2).fit()
    train, valid = records(tmp_path, "train"), records(tmp_path, "valid")
    assert [r["step"] for r in train] == [4, 8] and [r["epoch"] for r in train] == [1, 2]
    assert train[0]["loss"] == pytest.approx(sum(losses[:4]) / 4) and train[1]["loss"] == pytest.approx(
        sum(losses[4:8]) / 4
    )
    assert valid[1]["train_loss"] == pytest.approx(sum(losses[5:10]) / 5)
    assert valid[1]["skipped"] == 2  # of the epoch


def test_training_stops_when_the_validation_gets_no_better(tmp_path, caplog):
    objective = supervised()
    scores = iter([3.0, 2.0, 2.0, 2.5, 1.0])
    objective.evaluate = lambda batch: ({"loss": next(scores)}, 1)
    with caplog.at_level(logging.INFO):
        trainer(tmp_path, objective, valid=ToyBatches([1]), patience=2, max_epoch=9).fit()
    assert [r["best"] for r in records(tmp_path, "valid")] == [True, True, False, False]
    assert "no better validation loss for 2 epochs (patience 2); best validation loss 2" in caplog.text
    assert checkpoint.load(tmp_path / "checkpoints", "best")["trainer"]["epoch"] == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_batch(tmp_path, bad):
    train, objective = ToyBatches([2] * 5), supervised()
    train.bad[1, 2] = bad
    with pytest.raises(
        UserError, match=r"loss is \w+ at step 8, epoch 2; .* checkpoint is step 6. The batch is e1b2u0 e1b2u1\."
    ):
        trainer(tmp_path, objective, train).fit()
    assert objective.updater.updates == 7
    reference = supervised()
    trainer(tmp_path / "reference", reference, ToyBatches([2] * 5), max_steps=7).fit()
    assert_equal(
        {k: v for k, v in objective.model.state_dict().items() if "running" not in k and "tracked" not in k},
        {k: v for k, v in reference.model.state_dict().items() if "running" not in k and "tracked" not in k},
    )


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    objective = supervised()
    objective.model.inner[3].weight.register_hook(lambda grad: grad * math.nan)
    before = [p.clone() for p in objective.model.parameters()]
    with pytest.raises(UserError, match="gradient norm is nan at step 1, .* there is no checkpoint yet"):
        trainer(tmp_path, objective).fit()
    assert_equal(before, list(objective.model.parameters()))


def test_a_validation_loss_that_is_not_finite_names_the_batch(tmp_path):
    valid = ToyBatches([2, 1])
    valid.bad[0, 1] = math.nan
    with pytest.raises(UserError, match=r"validation loss is nan at step .*The batch is e0b1u0\."):
        trainer(tmp_path, valid=valid).fit()


def test_the_progress_line_tells_what_one_wants_to_know(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        trainer(tmp_path).fit()
    lines = [r.getMessage() for r in caplog.records]
    assert not any("\r" in line for line in lines)
    (line,) = [line for line in lines if "step 6 " in line and "left" in line]
    for part in (
        "epoch 2/3 1/5 ",
        "loss ",
        "twice ",
        "lr 0.01",
        "grad_norm ",
        " steps/s",
        " x real time",
        " left",
    ):
        assert part in line


def test_the_time_that_training_waits_for_its_data_is_told(tmp_path, monkeypatch, caplog):
    """Batches that take 1 s each, and steps of 3 s."""
    now = [0.0]
    monkeypatch.setattr("senet.train.speed.time.monotonic", lambda: now[0])

    class Slow(ToyBatches):
        def __getitem__(self, position):
            now[0] += 1.0
            return super().__getitem__(position)

    objective = supervised()

    def step(batch, inner=objective.step):
        now[0] += 3.0
        return inner(batch)

    objective.step = step
    with caplog.at_level(logging.INFO):
        trainer(tmp_path, objective, Slow([4] * 8), max_epoch=1, log_every=4).fit()
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line["waiting"] for line in lines if line["event"] == "train"] == pytest.approx([0.25, 0.25])
    assert "25% waiting for data" in caplog.text


@pytest.mark.parametrize("log_every", [1, 2, 3, 5])
def test_slow_first_steps_spoil_neither_the_speed_nor_the_time_left(tmp_path, monkeypatch, log_every):
    """The first step takes 100 s, each other one 2 s: what was logged in the steps after it tells of 2 s."""
    now = [0.0]
    monkeypatch.setattr("senet.train.speed.time.monotonic", lambda: now[0])
    objective, left = supervised(), {}

    def slow(batch, inner=objective.step):
        now[0] += 2.0 if now[0] else 100.0
        return inner(batch)

    objective.step = slow
    training = trainer(tmp_path, objective, ToyBatches([4] * 20), max_epoch=1, log_every=log_every)
    write = TrainLog.write

    def noted(self, record):
        left[record["step"]] = training._progress()["seconds_left"]
        write(self, record)

    monkeypatch.setattr(TrainLog, "write", noted)
    training.fit()
    told = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    for record in told[:-1]:
        if record["step"] > 2:
            assert record["steps_per_second"] == pytest.approx(0.5)
            assert left[record["step"]] == pytest.approx(2 * (20 - record["step"]))
