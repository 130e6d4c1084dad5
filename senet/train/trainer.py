"""The training loop, written once for every model, loss and objective.

Everything that decides the parameters follows from the configuration and the step: batches from (seed, epoch, index)
(``senet.data.dataset``), random numbers of a step from (seed, step), the rest from the checkpoint. So a run that was
killed anywhere continues to the same bits, on the same machine and number of threads.
"""

import logging
import math
import os
import signal
import time
from pathlib import Path

import torch

from senet import checkpoint
from senet.errors import UserError
from senet.train.log import Mean, TrainLog, clock

log = logging.getLogger(__name__)


class Trainer:
    """Train an objective until an epoch, a step or the patience is reached.

    Args:
        objective: see ``senet.train.supervised``.
        train, valid: ``senet.data.dataset.Stream``.
        expdir: experiment folder; continues what ``expdir/checkpoints`` holds.
        sample_rate: Hz, to tell the speed in seconds of audio.
        device: of the model; batches are moved there.
        max_epoch: epochs to train.
        max_steps: updates to train; 0 for no limit.
        patience: stop after so many epochs without a better validation loss; 0 never stops early.
        log_every: updates per log line.
        save_every: updates per checkpoint, besides one at the end of each epoch; 0 for none.
        keep_best: checkpoints to keep by validation loss, besides the last two.
        keep_last: checkpoints to keep of those at multiples of ``save_every`` (of those at the ends of epochs where
            that is 0), besides the last two. Their steps do not depend on interruptions.
        seed: of dropout and the like.
        num_workers: processes that read batches.
    """

    def __init__(
        self,
        objective,
        train,
        valid,
        expdir,
        *,
        sample_rate,
        device="cpu",
        max_epoch=100,
        max_steps=0,
        patience=0,
        log_every=50,
        save_every=500,
        keep_best=1,
        keep_last=0,
        seed=0,
        num_workers=0,
    ):
        self.objective, self.train, self.valid, self.expdir = objective, train, valid, Path(expdir)
        self.sample_rate, self.device, self.num_workers, self.seed = sample_rate, device, num_workers, seed
        self.max_epoch, self.max_steps, self.patience = max_epoch, max_steps, patience
        self.log_every, self.save_every = log_every, save_every
        self.keep_best, self.keep_last = keep_best, keep_last
        # Where training is. All of this, and nothing else, is in a checkpoint beside the objective.
        self.step = 0  # updates done
        self.epoch = 0  # epochs completed
        self.position = 0  # batches done in the present epoch
        self.best_score = math.inf
        self.stale = 0  # epochs since the best
        self.seconds = 0.0  # of training, over all runs
        self.interval = Mean()  # since the last log line
        self.epoch_mean = Mean()  # since the start of the epoch
        self.skipped = 0  # unreadable utterances in the present epoch
        self.validated = -1  # the step of the last validation

    # ------------------------------------------------------------ the loop

    def fit(self):
        """Train to the end, or to the next signal.

        Raises:
            SystemExit: SIGTERM or SIGINT came; everything is saved. Status 143 or 130.
            UserError: a loss is not finite, a disk is full, data cannot be read.
        """
        lines = self._resume()
        if reason := self._finished():
            log.info("%s: nothing to do: %s", self.expdir, reason)
            return
        self.log = TrainLog(self.expdir, lines, self.step)
        self.speed = _Speed(self.seconds)
        try:
            with _Signals() as self.signals:
                while not (reason := self._finished()):
                    self._run_epoch()
        finally:
            self.log.close()
        log.info("finished after %s: %s; best validation loss %.6g", clock(self.seconds), reason, self.best_score)

    def _run_epoch(self):
        batches = self.train.num_batches(self.epoch)
        loader = self.train.loader(self.epoch, start=self.position, num_workers=self.num_workers)
        for batch in loader:
            if self._out_of_steps():
                break
            self._train_step(batch)
            if self.step % self.log_every == 0:
                self._log_interval(batches)
            elif self.speed.total_steps == 3:
                log.info("%.3g s per step, about %s per epoch", *self._epoch_seconds(batches))
            if self.signals.received:
                self._stop()
            if self.save_every and self.step % self.save_every == 0 and self.position < batches:
                self._save()
        valid = self._validate()
        better = valid["loss"] < self.best_score
        self.best_score, self.validated = min(self.best_score, valid["loss"]), self.step
        self._log_valid(valid, better)
        if self.position == batches:  # not when max_steps fell inside the epoch
            self.objective.end_epoch(valid)
            self.stale = 0 if better else self.stale + 1
            self.epoch, self.position, self.epoch_mean, self.skipped = self.epoch + 1, 0, Mean(), 0
        self._save(score=valid["loss"])

    def _train_step(self, batch):
        torch.manual_seed(self.seed * 1_000_003 + self.step)  # no random state to save: the step is enough
        finished = self._to_device(batch, self.train)
        try:
            values = self.objective.step(finished)
        except FloatingPointError as error:
            raise self._not_finite("", error, finished["ids"]) from None
        self.step += 1
        self.position += 1
        self.interval.add(values)
        self.epoch_mean.add(values)
        self.skipped += finished.get("skipped", 0)
        self.speed.count(batch["lengths"].sum().item() / self.sample_rate)
        self.seconds = self.speed.seconds()

    def _validate(self):
        mean = Mean()
        for batch in self.valid.loader(0, num_workers=self.num_workers):
            values, weight = self.objective.evaluate(self._to_device(batch, self.valid))
            if not math.isfinite(values["loss"]):
                raise self._not_finite("validation ", f"loss is {float(values['loss'])}", batch["ids"])
            mean.add(values, weight)
            if self.signals.received:
                self._stop()
        if not mean.weight:
            raise UserError("the validation set has no utterances")
        self.seconds = self.speed.seconds()
        return mean.values()

    def _to_device(self, batch, stream):
        moved = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        return stream.finish(moved)

    def _finished(self):
        """Why training is over, or None."""
        if self.epoch >= self.max_epoch:
            return f"max_epoch {self.max_epoch} is reached"
        if self._out_of_steps() and self.validated == self.step:
            return f"max_steps {self.max_steps} is reached"
        if self.patience and self.stale >= self.patience:
            return f"no better validation loss for {self.stale} epochs (patience {self.patience})"
        return None

    def _out_of_steps(self):
        return 0 < self.max_steps <= self.step

    def _not_finite(self, phase, problem, ids):
        last = checkpoint.entries(self.expdir / "checkpoints")
        kept = f"the last checkpoint is step {last[-1]['step']}" if last else "there is no checkpoint yet"
        return UserError(
            f"{phase}{problem} at step {self.step + 1}, epoch {self.epoch + 1}; stopped before the update, {kept}. "
            f"The batch is {' '.join(ids)}. Check these recordings (senet.bin.validate --check_audio), "
            "or lower optim_conf.lr or grad_clip."
        )

    # ------------------------------------------------------------ saving and resuming

    _STATE = ("step", "epoch", "position", "best_score", "stale", "seconds", "skipped", "validated")

    def _save(self, score=None):
        self.log.sync()
        state = {name: getattr(self, name) for name in self._STATE}
        state |= {"interval": self.interval.state_dict(), "epoch_mean": self.epoch_mean.state_dict()}
        checkpoint.save(
            self.expdir / "checkpoints",
            {**self.objective.state_dict(), "trainer": state | {"log_lines": self.log.lines}},
            step=self.step,
            epoch=self.epoch,
            score=score,
            regular=self.step % self.save_every == 0 if self.save_every else self.position == 0,
            keep_best=self.keep_best,
            keep_last=self.keep_last,
        )

    def _resume(self):
        """Take up the last checkpoint, if there is one; return the number of log records that stand."""
        folder = self.expdir / "checkpoints"
        if not checkpoint.entries(folder):
            return 0
        state = checkpoint.load(folder, "last", map_location=self.device)
        try:
            trainer = state.pop("trainer")
            self.objective.load_state_dict(state)
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        except KeyError as missing:
            raise UserError(f"{folder}: the checkpoint is of another way of training: it has no {missing}") from None
        for name in self._STATE:
            setattr(self, name, trainer[name])
        self.interval, self.epoch_mean = Mean(**trainer["interval"]), Mean(**trainer["epoch_mean"])
        log.info("%s: %d epochs and %d steps are done", self.expdir, self.epoch, self.step)
        return trainer["log_lines"]

    def _stop(self):
        self._save()
        name = signal.Signals(self.signals.received).name
        log.warning("%s: saved at step %d and stopped; the same command continues from there", name, self.step)
        raise SystemExit(128 + self.signals.received)

    # ------------------------------------------------------------ telling

    def _log_interval(self, batches):
        steps_per_second, audio_per_second = self.speed.rates()
        values = self.interval.values()
        self.interval = Mean()
        record = {"event": "train", "step": self.step, "epoch": self.epoch + 1, **values, "lr": self.objective.lr}
        record |= {"seconds": self.seconds, "steps_per_second": steps_per_second, "audio_per_second": audio_per_second}
        self.log.write(record)
        terms = "  ".join(f"{name} {value:.3g}" for name, value in values.items() if name != "loss")
        log.info(
            "epoch %d/%d  step %d (%d/%d)  loss %.5g  (%s)  lr %.3g  %.3g steps/s  %.3g x real time  %s left",
            self.epoch + 1, self.max_epoch, self.step, self.position, batches, values["loss"], terms,
            self.objective.lr, steps_per_second, audio_per_second, clock(self._seconds_left(batches)),
        )  # fmt: skip

    def _log_valid(self, valid, better):
        train = {f"train_{name}": value for name, value in self.epoch_mean.values().items()}
        record = {"event": "valid", "step": self.step, "epoch": self.epoch + 1, **valid, **train}
        record |= {"best": better, "lr": self.objective.lr, "skipped": self.skipped, "seconds": self.seconds}
        self.log.write(record)
        self.speed.restart()
        skipped = f"  skipped {self.skipped} unreadable utterances" if self.skipped else ""
        log.info(
            "epoch %d/%d  step %d  validation loss %.5g (%s)  training loss %.5g%s",
            self.epoch + 1, self.max_epoch, self.step, valid["loss"],
            "best so far" if better else f"best {self.best_score:.5g}", train["train_loss"], skipped,
        )  # fmt: skip

    def _epoch_seconds(self, batches):
        """Seconds of a step and duration of an epoch, for those who wait for the first log line."""
        per_step = self.speed.seconds_per_step()
        return per_step, clock(per_step * batches)

    def _seconds_left(self, batches):
        """By this run's speed, validation included; the most it can take, as patience may end it earlier."""
        steps = (self.max_epoch - self.epoch) * batches - self.position
        if self.max_steps:
            steps = min(steps, self.max_steps - self.step)
        return steps * self.speed.seconds_per_step()


class _Speed:
    """Seconds, steps and audio, of this run and since the last log line."""

    def __init__(self, seconds_before):
        self.before, self.start = seconds_before, time.monotonic()
        self.total_steps = 0
        self.restart()

    def restart(self):
        self.mark, self.steps, self.audio = time.monotonic(), 0, 0.0

    def count(self, audio_seconds):
        self.steps, self.audio, self.total_steps = self.steps + 1, self.audio + audio_seconds, self.total_steps + 1

    def rates(self):
        """Steps per second and seconds of audio per second since the last call."""
        elapsed = max(time.monotonic() - self.mark, 1e-9)
        rates = self.steps / elapsed, self.audio / elapsed
        self.restart()
        return rates

    def seconds(self):
        return self.before + time.monotonic() - self.start

    def seconds_per_step(self):
        return (time.monotonic() - self.start) / max(self.total_steps, 1)


class _Signals:
    """Note SIGTERM and SIGINT instead of dying of them; a second one kills as usual."""

    def __enter__(self):
        self.received, self.pid = None, os.getpid()
        self.old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number, frame):
        if os.getpid() == self.pid:  # loader processes inherit this; they end with the trainer
            self.received = number
            signal.signal(number, self.old[number])

    def __exit__(self, *exc):
        for number, handler in self.old.items():
            signal.signal(number, handler)
