"""The training loop, written once for every model, loss and objective.

Everything that decides the parameters follows from the configuration and the step: batches from (seed, epoch, index)
(``senet.data.dataset``), random numbers of a step from (seed, step), the rest from the checkpoint. So a run that was
killed anywhere continues to the same bits, on the same machine and number of threads.
"""

import logging
import math
import signal
from pathlib import Path

import torch

from senet import checkpoint
from senet.errors import UserError
from senet.signals import AGAIN, STOPPING, on_stop
from senet.train.distributed import Group
from senet.train.log import Mean, Silent, TrainLog, clock
from senet.train.precision import Overflow
from senet.train.speed import Speed
from senet.train.status import note_finished
from senet.train.trouble import explained
from senet.train.updater import forget, is_out_of_memory, rows_of

log = logging.getLogger(__name__)

_MUCH_WAITING = 0.03  # of the time, from where it is worth a word


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
        max_nonfinite: stop at so many batches in a row without a finite loss and gradient; those before it are skipped,
            and named in the log. 1: at the first. Those by which fp16 finds its scale are skipped, counted and named as
            well, and no reason to stop: ``senet.train.precision.Scaler`` has one.
        oom: out of memory in validation: ``retry`` with half of a batch at a time, from there on, or ``stop``.
        seed: of dropout and the like.
        num_workers: processes that read batches.
        board: makes a ``senet.train.board.Board`` of the step that is started from; None: no TensorBoard.
        group: the processes that train together, each with its share of every batch; None: this one alone. Rank 0
            writes; all decide the same, as they know the same losses and signals.
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
        max_nonfinite=1,
        oom="retry",
        seed=0,
        num_workers=0,
        board=None,
        group=None,
    ):
        self.objective, self.train, self.valid, self.expdir = objective, train, valid, Path(expdir)
        self.sample_rate, self.device, self.num_workers, self.seed = sample_rate, device, num_workers, seed
        self.max_epoch, self.max_steps, self.patience = max_epoch, max_steps, patience
        self.log_every, self.save_every = log_every, save_every
        self.keep_best, self.keep_last, self.max_nonfinite = keep_best, keep_last, max_nonfinite
        self.oom, self.board, self.group = oom, board, group or Group()
        self.signal = None  # that came to this process
        self.stop = None  # the signal that all processes know of
        self.batch = None  # shape and ids of the present one
        self.most = None  # utterances that are validated at a time; None: all of a batch
        # Where training is. All of this, and nothing else, is in a checkpoint beside the objective.
        self.step = 0  # updates done, and batches skipped in place of one
        self.epoch = 0  # epochs completed
        self.position = 0  # batches done in the present epoch
        self.best_score = math.inf
        self.stale = 0  # epochs since the best
        self.seconds = 0.0  # of training, over all runs
        self.interval = Mean()  # since the last log line
        self.epoch_mean = Mean()  # since the start of the epoch
        self.skipped = 0  # unreadable utterances in the present epoch
        self.validated = -1  # the step of the last validation
        self.nonfinite = 0  # batches skipped because a loss or a gradient was not finite
        self.nonfinite_row = 0  # of these, the last ones, without one between that was good

    # ------------------------------------------------------------ the loop

    def fit(self):
        """Train to the end, or to the next signal.

        Raises:
            SystemExit: one of ``senet.signals.STOPPING`` came; everything is saved. Status ``senet.signals.AGAIN``.
            UserError: a loss is not finite, memory or a disk is full, data cannot be read; the last checkpoint stands.
        """
        try:
            self._fit()
        except Exception as error:
            told = explained(error, self._where(), self.expdir, self.batch, self.group.world)
            if told is None:
                raise
            raise UserError(f"{told}; {self._kept()}, and the same command continues there") from error

    def _fit(self):
        lines = self._resume()
        self._require_equal()
        if reason := self._finished():
            log.info("%s: nothing to do: %s", self.expdir, reason)
            if not self.group.rank:
                note_finished(self.expdir)
            return
        self.speed = Speed(self.seconds)
        writer = Silent() if self.group.rank else TrainLog(self.expdir, lines, self.step, self._progress, self.board)
        with writer as self.log, on_stop(self._note):
            while not (reason := self._finished()):
                self._run_epoch()
        log.info("finished after %s: %s; best validation loss %.6g", clock(self.seconds), reason, self.best_score)

    def _run_epoch(self):
        batches = self.train.num_batches(self.epoch)
        for batch in self.speed.timed(self._loader(self.train, self.epoch, self.position)):
            if self._out_of_steps():
                break
            self._train_step(batch)
            if self.step % self.log_every == 0:
                self._log_interval(batches)
            elif self.speed.total_steps == 3:
                log.info("%.3g s per step, about %s per epoch", *self._epoch_seconds(batches))
            if self.stop:
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
        may_skip = self.max_nonfinite > 1 or any(updater.scaler for updater in self.objective.updaters)
        buffers = self._buffers() if may_skip else ()
        counts = finished.get("skipped", 0), batch["lengths"].sum().item()
        self.group.note = lambda: (*self._signals(), *counts)
        try:
            values = self.objective.step(finished)
        except FloatingPointError as error:
            self._skip(error, sum(self.group.gather(finished["ids"]), []), buffers)
        else:
            self.nonfinite_row = 0
            self.interval.add(values)
            self.epoch_mean.add(values)
        self.step += 1
        self.position += 1
        skipped, samples = self._hear(self.group.noted())
        self.skipped += round(skipped)
        self.speed.count(samples / self.sample_rate)
        self.seconds = self.speed.seconds()
        self.log.status.beat()

    def _validate(self):
        mean = Mean()
        for batch in self._loader(self.valid, 0):
            if batch["ids"]:  # not in each process's share of a short batch
                for values, weight in self._evaluate(self._to_device(batch, self.valid)):
                    if not math.isfinite(values["loss"]):
                        raise self._not_finite("validation ", f"loss is {float(values['loss'])}", batch["ids"])
                    mean.add(values, weight)
            self._hear(self.group.sums(self._signals()))
            self.log.status.beat()
            if self.stop:
                self._stop()
        mean = Mean.of(self.group.gather(mean.state_dict()))
        if not mean.weight:
            raise UserError("the validation set has no utterances")
        self.seconds = self.speed.seconds()
        return mean.values()

    def _evaluate(self, batch):
        """[(values, weight)] of a batch, in parts where memory does not suffice for all of it: the mean is the same."""
        rows = len(batch["ids"])
        while True:
            size = min(rows, self.most or rows)
            try:
                return [self.objective.evaluate(rows_of(batch, slice(k, k + size))) for k in range(0, rows, size)]
            except RuntimeError as error:
                if self.oom == "stop" or not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise UserError(
                        f"out of memory in validation {self._where()}, with one utterance at a time, in a batch of "
                        f"shape {self.batch[0]}: {' '.join(self.batch[1])}; leave the longest out of the validation "
                        f"set, or cut it in parts; {self._kept()}, and the same command continues there"
                    ) from error
            # Out of the clause above: the error holds on to what was in memory.
            self.most = -(-size // 2)
            forget()
            log.warning(
                "out of memory in validation with %d utterances at a time: repeated, and from here on, with %d",
                size, self.most,
            )  # fmt: skip

    def _loader(self, stream, epoch, start=0):
        share = {"rank": self.group.rank, "world": self.group.world}
        return stream.loader(epoch, start=start, num_workers=self.num_workers, **share)

    def _signals(self):
        """Which came to this process, as numbers that can be added up."""
        return [float(self.signal == number) for number in STOPPING]

    def _hear(self, sums):
        """Learn from sums over all processes of a signal that one of them got; returns what else was added up."""
        self.stop = next((number for number, heard in zip(STOPPING, sums, strict=False) if heard), None)
        return sums[len(STOPPING) :]

    def _to_device(self, batch, stream):
        shapes = (tuple(v.shape) for v in batch.values() if torch.is_tensor(v) and v.dim() > 1)
        self.batch = next(shapes, ()), batch["ids"]
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

    # ------------------------------------------------------------ what goes wrong

    def _skip(self, problem, ids, buffers):
        """Go on without this batch, unless there were too many of the kind."""
        overflow = isinstance(problem, Overflow)
        self.nonfinite, self.nonfinite_row = self.nonfinite + 1, self.nonfinite_row + (not overflow)
        record = {"event": "nonfinite", "step": self.step + 1, "epoch": self.epoch + 1, "problem": str(problem)}
        self.log.write(record | {"ids": ids})
        if not overflow and self.nonfinite_row >= self.max_nonfinite:
            raise self._not_finite("", problem, ids, self.nonfinite_row) from None
        for module, name, value in buffers:
            if getattr(module, name).shape == value.shape:
                getattr(module, name).copy_(value)  # an average of the weights holds on to this tensor
            else:
                setattr(module, name, value)
        log.log(
            logging.WARNING if overflow else logging.ERROR,
            "%s at step %d, epoch %d: NOT LEARNED FROM (%d in a row, %d of them in all); the batch is %s",
            problem, self.step + 1, self.epoch + 1, self.nonfinite_row, self.nonfinite, " ".join(ids),
        )  # fmt: skip

    def _buffers(self):
        """(module, name, copy) of all buffers: running statistics of a batch that is not learned from are not kept."""
        modules = [module for network in self.objective.networks for module in network.modules()]
        found = [(module, name) for module in modules for name in module._buffers]
        values = ((module, name, getattr(module, name)) for module, name in dict.fromkeys(found))
        return [(module, name, value.clone()) for module, name, value in values if value is not None]

    def _not_finite(self, phase, problem, ids, in_row=1):
        row = f", the last of {in_row} in a row" if in_row > 1 else ""
        return UserError(
            f"{phase}{problem} {self._where()}{row}; stopped before the update, "
            f"{self._kept()}. The batch is {' '.join(ids)}. Check these recordings (senet.bin.validate --check_audio), "
            "or lower optim_conf.lr or grad_clip; --max_nonfinite 10 goes on without up to nine such batches in a row."
        )

    def _where(self):
        return f"at step {self.step + 1}, epoch {self.epoch + 1}"

    def _kept(self):
        last = checkpoint.entries(self.expdir / "checkpoints")
        return f"the last checkpoint is step {last[-1]['step']}" if last else "there is no checkpoint yet"

    # ------------------------------------------------------------ saving and resuming

    _STATE = (
        "step", "epoch", "position", "best_score", "stale", "seconds", "skipped", "validated", "nonfinite",
        "nonfinite_row",
    )  # fmt: skip

    def _save(self, score=None):
        if self.group.rank:
            return
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
            setattr(self, name, trainer.get(name, getattr(self, name)))  # an earlier version did not know each
        self.interval, self.epoch_mean = Mean(**trainer["interval"]), Mean(**trainer["epoch_mean"])
        log.info("%s: %d epochs and %d steps are done", self.expdir, self.epoch, self.step)
        return trainer["log_lines"]

    def _require_equal(self):
        """Refuse to train with processes that stand elsewhere, such as where each machine has a disk of its own."""
        weights = sum(p.detach().double().sum().item() for p in self.objective.model.parameters())
        found = self.group.gather((self.step, weights))
        if len(set(found)) > 1:
            told = ", ".join(f"{step} on {host}" for (step, _), host in zip(found, self.group.hosts, strict=True))
            raise UserError(
                f"{self.expdir}: the processes do not have the same weights (steps: {told}); they need one folder that "
                "all machines see, and the same code"
            )

    def _note(self, number):
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt  # pressed again: without waiting for the step
        self.signal = number

    def _stop(self):
        self._save()
        self.group.barrier()  # who starts the processes may end those that others have left behind
        log.warning(
            "%s: saved at step %d and stopped; the same command continues from there", self.stop.name, self.step
        )
        raise SystemExit(AGAIN)

    # ------------------------------------------------------------ telling

    def _log_interval(self, batches):
        steps_per_second, audio_per_second, waiting = self.speed.rates()
        values = self.interval.values()
        self.interval = Mean()
        if not values:  # none of these batches was learned from
            return
        record = {"event": "train", "step": self.step, "epoch": self.epoch + 1, **values, "lr": self.objective.lr}
        record |= {"seconds": self.seconds, "steps_per_second": steps_per_second, "audio_per_second": audio_per_second}
        record["waiting"] = waiting
        self.log.write(record)
        terms = "  ".join(f"{name} {value:.3g}" for name, value in values.items() if name != "loss")
        if waiting > _MUCH_WAITING:
            terms += f"  {waiting:.0%} waiting for data"
        log.info(  # what is looked for most comes first, where a narrow window does not break the line
            "epoch %d/%d %d/%d  loss %.5g  %s left  %.3g steps/s  %.3g x real time  lr %.3g  step %d  %s",
            self.epoch + 1, self.max_epoch, self.position, batches, values["loss"],
            clock(self._progress()["seconds_left"]), steps_per_second, audio_per_second, self.objective.lr, self.step,
            terms,
        )  # fmt: skip

    def _log_valid(self, valid, better):
        train = {f"train_{name}": value for name, value in self.epoch_mean.values().items()}
        record = {"event": "valid", "step": self.step, "epoch": self.epoch + 1, **valid, **train}
        record |= {"best": better, "lr": self.objective.lr, "skipped": self.skipped, "seconds": self.seconds}
        record |= {"nonfinite": self.nonfinite} if self.nonfinite else {}
        self.log.write(record)
        self.log.listen(self.objective.weights.evaluated, self.step)
        self.speed.restart()
        skipped = f"  skipped {self.skipped} unreadable utterances" if self.skipped else ""
        log.info(
            "epoch %d/%d  validation loss %.5g (%s)  training loss %.5g  step %d%s",
            self.epoch + 1, self.max_epoch, valid["loss"],
            "best so far" if better else f"best {self.best_score:.5g}", train.get("train_loss", math.nan), self.step,
            skipped,
        )  # fmt: skip

    def _epoch_seconds(self, batches):
        """Seconds of a step and duration of an epoch, for those who wait for the first log line."""
        per_step = self.speed.seconds_per_step()
        return per_step, clock(per_step * batches)

    def _progress(self):
        """How far it is, and how long it will take at this run's speed, validation included; patience may end it
        earlier."""
        left = max(0, self.max_epoch - self.epoch) * self.train.num_batches(self.epoch) - self.position
        if self.max_steps:
            left = max(0, min(left, self.max_steps - self.step))
        return {
            "step": self.step,
            "steps": self.step + left,
            "epoch": min(self.epoch + 1, self.max_epoch),
            "max_epoch": self.max_epoch,
            "seconds_left": left * self.speed.seconds_per_step() if self.speed.total_steps else None,
        }
