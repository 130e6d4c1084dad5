"""What goes wrong in a training that was to last for days: what is said, what is kept, and what goes on."""

import errno
import json
import logging
import math
import os
import signal
import time

import pytest
import torch
from test_trainer import assert_equal, fit_in_pieces, last_state, records, trainer
from toys import WINDOW, ToyBatches, adversarial, supervised

from senet import checkpoint, files
from senet.data.dataset import Stream
from senet.errors import UserError


def with_bad(sizes=(4,) * 5, bad=(), value=math.nan, **options):
    batches = ToyBatches(list(sizes), **options)
    batches.bad = dict.fromkeys(bad, value)
    return batches


# ------------------------------------------------------------ losses that are not finite


class TestSkipping:
    BAD = ((0, 1), (0, 2), (1, 4), (2, 0))

    def fit(self, expdir, signals=(), objective=supervised, **options):
        return fit_in_pieces(
            expdir, signals, objective=objective, train=with_bad(bad=self.BAD), **{"max_nonfinite": 3} | options
        )

    def test_such_batches_are_left_out_counted_and_named(self, tmp_path, caplog):
        self.fit(tmp_path)
        found = records(tmp_path, "nonfinite")
        assert [(r["step"], r["epoch"]) for r in found] == [(2, 1), (3, 1), (10, 2), (11, 3)]
        assert found[2]["ids"] == [f"e1b4u{k}" for k in range(4)] and found[2]["problem"] == "loss is nan"
        assert [r["nonfinite"] for r in records(tmp_path, "valid")] == [2, 3, 4]
        said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert said[1] == (
            "loss is nan at step 3, epoch 1: NOT LEARNED FROM (2 in a row, 2 of them in all); "
            "the batch is e0b2u0 e0b2u1 e0b2u2 e0b2u3"
        )
        state = last_state(tmp_path)
        assert state["updates"] == 11 and state["trainer"]["step"] == 15
        assert all(value.isfinite().all() for value in state["model"].values())  # running statistics, too
        assert all(math.isfinite(r["loss"]) for r in records(tmp_path, "train"))

    @pytest.mark.parametrize("ema_decay", [0.0, 0.5])
    def test_the_model_is_as_if_there_had_been_no_such_batch(self, tmp_path, ema_decay):
        def objective():
            made = supervised(ema_decay=ema_decay)
            made.model.inner[2].p = 0.0  # what dropout draws depends on the step
            return made

        self.fit(tmp_path / "bad", objective=objective, max_epoch=1)
        without = ToyBatches([4] * 3)
        without.__class__ = type("Without", (ToyBatches,), {"__getitem__": self.without})
        trainer(tmp_path / "without", objective(), without, max_epoch=1).fit()
        assert_equal(last_state(tmp_path / "bad")["model"], last_state(tmp_path / "without")["model"])

    @staticmethod
    def without(batches, position):
        epoch, i = position
        batches.sizes = [4] * 5
        batch = ToyBatches.__getitem__(batches, (epoch, (0, 3, 4)[i]))
        batches.sizes = [4] * 3
        return batch

    @pytest.mark.parametrize("signals", [[("step", k)] for k in (1, 2, 3, 4, 9, 10, 11)] + [[("step", 1)] * 10])
    def test_stopping_there_changes_no_bit(self, tmp_path, signals):
        # objective.step raises at a bad batch, so that the signal of the k-th good one is what comes
        self.fit(tmp_path / "calm")
        self.fit(tmp_path / "stopped", signals)
        assert_equal(last_state(tmp_path / "calm"), last_state(tmp_path / "stopped"))
        assert records(tmp_path / "calm") == records(tmp_path / "stopped")

    def test_too_many_in_a_row_end_it(self, tmp_path):
        with pytest.raises(
            UserError,
            match=r"loss is nan at step 3, epoch 1, the last of 2 in a row; .* checkpoint is step 2. .* e0b2u0 ",
        ):
            self.fit(tmp_path, max_nonfinite=2)
        assert [r["step"] for r in records(tmp_path, "nonfinite")] == [2, 3]

    def test_all_of_an_epoch_may_be_left_out(self, tmp_path):
        bad = [(0, i) for i in range(5)]
        trainer(tmp_path, train=with_bad(bad=bad), max_nonfinite=9, max_epoch=2).fit()
        assert [r["event"] for r in records(tmp_path)] == ["nonfinite"] * 5 + ["valid", "train", "train", "valid"]

    @pytest.mark.parametrize("order", ["d_first", "g_first"])
    def test_adversarial_training_goes_on_too(self, tmp_path, order):
        train = with_bad([8] * 4, [(0, 2)], length=WINDOW)
        valid = ToyBatches([2], seed=9, length=WINDOW)
        objective = adversarial(order=order)
        trainer(tmp_path, objective, train, valid, max_epoch=2, max_nonfinite=2).fit()
        state = last_state(tmp_path)
        assert state["updates"] == 7 and state["trainer"]["nonfinite"] == 1
        for network in ("model", "discriminator"):
            assert all(value.isfinite().all() for value in state[network].values())


# ------------------------------------------------------------ memory, disks, processes that read


def failing(error, at=7):
    objective = supervised()

    def step(batch, inner=objective.step):
        if objective.updater.updates == at - 1:
            raise error
        return inner(batch)

    objective.step = step
    return objective


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 3 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_out_of_memory_names_the_batch_and_what_to_do(tmp_path, error):
    message = (
        r"out of memory at step 7, epoch 2: .*The batch, of shape \(4, 8\), is e1b1u0 .*Lower micro_batch, "
        r"batch_size or crop_seconds; the last checkpoint is step 6, and the same command continues there"
    )
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, failing(error)).fit()
    trainer(tmp_path).fit()
    assert checkpoint.entries(tmp_path / "checkpoints")[-1]["step"] == 15


def cramped(room):
    """Validates at most so many utterances at a time."""
    objective = supervised()

    def evaluate(batch, inner=objective.evaluate):
        if len(batch["ids"]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(batch)

    objective.evaluate = evaluate
    return objective


def test_validation_for_which_memory_does_not_suffice_goes_on_in_parts(tmp_path, caplog):
    valid = ToyBatches([7, 5], seed=99)
    trainer(tmp_path / "roomy", valid=valid, max_epoch=2).fit()
    trainer(tmp_path / "cramped", cramped(3), valid=valid, max_epoch=2).fit()
    losses = [[r["loss"] for r in records(tmp_path / name, "valid")] for name in ("roomy", "cramped")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    told = [r.getMessage() for r in caplog.records if "out of memory in validation" in r.getMessage()]
    assert [t.partition(" at a time")[0][-12:] for t in told] == ["7 utterances", "4 utterances"]


@pytest.mark.parametrize(
    ("room", "oom", "message"),
    [
        (
            0,
            "retry",
            r"in validation at step 6, epoch 1, with one utterance at a time, in a batch of shape \(3, 8\): e0b0",
        ),
        (1, "stop", r"out of memory at step 6, epoch 1: CUDA out of memory. The batch, of shape \(3, 8\)"),
    ],
)
def test_validation_without_room_for_one_or_a_retry_is_an_error(tmp_path, room, oom, message):
    with pytest.raises(UserError, match=f"{message}.* the last checkpoint is step 4, and the same command continues"):
        trainer(tmp_path, cramped(room), oom=oom).fit()


def test_other_errors_are_not_explained_away(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"):
        trainer(tmp_path, failing(RuntimeError("shapes do not fit"))).fit()


@pytest.mark.parametrize("name", [".step_00000008.pt.tmp", ".index.json.tmp", "train.jsonl"])
def test_a_full_disk_ends_it_and_the_checkpoint_before_leads_to_the_same_end(tmp_path, monkeypatch, name):
    trainer(tmp_path / "calm").fit()
    fsync, full = os.fsync, []

    def refuse(fd):
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.endswith(name) and len(checkpoint.entries(tmp_path / "full" / "checkpoints")) > 1:
            full.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(UserError, match="No space left on device"):
        trainer(tmp_path / "full").fit()
    assert full
    monkeypatch.undo()
    trainer(tmp_path / "full").fit()
    assert_equal(last_state(tmp_path / "full"), last_state(tmp_path / "calm"))
    assert records(tmp_path / "full") == records(tmp_path / "calm")


class Readers(ToyBatches):
    """Read by torch's loader, in processes, slowly if so asked."""

    unit, items, num_samples = "utterance", None, None
    loader, pause, kill = Stream.loader, 0.0, None

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.shuffle, self._orders = False, []

    def __getitem__(self, position):
        time.sleep(self.pause)
        if position == self.kill and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


def test_a_reading_process_that_was_killed_is_told(tmp_path):
    train = Readers([4] * 5)
    train.kill = 1, 2
    with pytest.raises(UserError, match=r"a process that reads data was killed .*lower num_workers, .*last checkpoint"):
        trainer(tmp_path, train=train, num_workers=2).fit()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_job_still_saves(tmp_path, number):
    """As a scheduler sends it: the readers, which torch has die of SIGTERM, are told as well."""
    train = Readers([4] * 5)
    train.pause = 0.02
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.setsid()
            os.write(writing, b".")
            trainer(tmp_path, train=train, num_workers=2, max_epoch=1000).fit()
        except SystemExit as stop:
            status = stop.code
        finally:
            os._exit(status)
    os.read(reading, 1)
    wait_for_steps(tmp_path, 9)
    os.killpg(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    assert checkpoint.load(tmp_path / "checkpoints")["trainer"]["step"] >= 9


def wait_for_steps(expdir, step):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        path = expdir / "train.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.01)
    raise TimeoutError


def test_a_second_interrupt_does_not_wait(tmp_path):
    objective = supervised()

    def step(batch):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError

    objective.step = step
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, objective).fit()
