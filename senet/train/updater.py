"""One optimiser with all that belongs to it; every objective moves its networks by this.

A batch may be computed in parts, one after another (micro-batches) or by several processes (``Group``). The gradient is
that of the whole batch: each part's loss counts by its share of the batch's weight, items or what the loss says
(``weigh``). So the result is that of the whole batch to rounding, but for what is not a mean over items: batch norm and
virtual batch norm take statistics of each part alone, and spectral norm takes a power iteration for each. Chance
(dropout, z, noise) is drawn for each part from the step and the part's first item, so that n processes draw what one
process does in n parts; it differs from that of the whole batch.
"""

import inspect
import logging

import numpy as np
import torch

from senet import config
from senet.data.batching import part_of
from senet.errors import UserError, require_choice
from senet.train.distributed import Group
from senet.train.precision import ROUNDED, Scaler

log = logging.getLogger(__name__)


class Updater:
    """Moves parameters against the gradient of a loss: optimiser, learning-rate schedule, warm-up, clipping.

    Args:
        parameters: of a network, on their device.
        optim, optim_conf: class of ``senet.train.optim`` (which has those of torch.optim) and its arguments.
        scheduler, scheduler_conf: class of torch.optim.lr_scheduler and its arguments; None for a constant rate.
            ReduceLROnPlateau follows the validation loss.
        scheduler_interval: "epoch" or "step", when the other schedulers advance.
        warmup_steps: the rate rises linearly over so many updates. A scheduler of interval "step" begins after them;
            the others count epochs from the start of training.
        grad_clip: largest norm of the gradient; 0 leaves it as it is.
        option: what the configuration calls ``optim``, for messages.
        networks: what a step runs: of these the buffers are part of the state that a step starts from.
        micro_batch: items that are computed at a time; None: all. It shrinks by halves where memory does not suffice,
            and what it came to is part of the state, until another number is given here.
        oom: ``retry`` an update with half the micro-batch when memory is full, and half of that, or ``stop``.
        precision: of ``senet.train.precision``; fp16 scales the loss.
        group: the processes that share each batch; None: this one alone.
    """

    def __init__(
        self,
        parameters,
        *,
        optim="Adam",
        optim_conf=None,
        scheduler=None,
        scheduler_conf=None,
        scheduler_interval="epoch",
        warmup_steps=0,
        grad_clip=0.0,
        option="optim",
        networks=(),
        micro_batch=None,
        oom="retry",
        precision="fp32",
        group=None,
    ):
        require_choice("oom", oom, ("retry", "stop"))
        require_choice("precision", precision, ROUNDED)
        if micro_batch is not None and micro_batch < 1:
            raise UserError(f"micro_batch: {micro_batch}, expected at least 1, or null")
        self.parameters, self.networks, self.group = list(parameters), networks, group or Group()
        self.micro_batch, self.asked, self.oom = micro_batch, micro_batch, oom
        self.scaler = Scaler() if precision == "fp16" else None
        fused = _fused(optim, optim_conf or {}, self.parameters)
        self.optimizer = config.build("train.optim", optim, optim_conf, option=option, params=self.parameters, **fused)
        self.scheduler = None
        if scheduler:
            self.scheduler = config.build(
                "torch.optim.lr_scheduler", scheduler, scheduler_conf, optimizer=self.optimizer
            )
        self.scheduler_interval, self.warmup_steps, self.grad_clip = scheduler_interval, warmup_steps, grad_clip
        self.updates = 0

    @property
    def lr(self):
        """The learning rate of the next update."""
        return self.optimizer.param_groups[0]["lr"] * self._warmup()

    def step(self, compute, batch, weights=None, of=""):
        """Update once by the gradient of the loss on a batch.

        Args:
            compute: ``compute(part) -> (loss, {name: scalar})`` of a part of the batch, both means by ``weights``.
            batch: dict of tensors and lists with one row per item; ``first``, where it is there, is the number of its
                first item within the batch that all processes share. This process's share may be empty.
            weights: (B,) what each item counts for; None: all the same.
            of: words before "loss" and "gradient norm" in messages, such as "discriminator's ".
        Returns:
            {name: scalar tensor}: ``loss`` and the others, means over the whole batch (on a process whose share was
            empty the loss alone), and ``grad_norm`` before clipping.
        Raises:
            FloatingPointError: loss or gradient is not finite; the parameters are as they were. ``Overflow`` where that
                may come from the scale of fp16.
            torch.OutOfMemoryError: even for one item; or ``oom`` is "stop".
        """
        seed = torch.initial_seed()
        values, weight = self._gradient(compute, batch, weights, seed)
        if self.group.world > 1:
            values = self.group.mean_gradients(self.parameters, values, weight)
            self.group.share_buffers(self.networks)
        if self.group.world > 1 or self.micro_batch:
            torch.manual_seed(_seed(seed, 0))  # the same for what follows, whoever computed the last part
        if self.scaler:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], 1 / self.scaler.scale)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.grad_clip or float("inf"))
        _require_finite(f"{of}loss", values["loss"])
        if self.scaler:
            values["loss_scale"] = torch.tensor(self.scaler.scale)
            self.scaler.passed(norm, of)
        _require_finite(f"{of}gradient norm", norm)
        self._update()
        return values | {"grad_norm": norm}

    def end_epoch(self, valid_loss):
        """After each epoch, with its validation loss."""
        if self._on_plateau():
            self.scheduler.step(valid_loss)
        elif self.scheduler and self.scheduler_interval == "epoch":
            self.scheduler.step()

    def state_dict(self):
        return {
            "classes": self._classes(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "updates": self.updates,
            "micro_batch": {"asked": self.asked, "found": self.micro_batch},
            **({"scaler": self.scaler.state_dict()} if self.scaler else {}),
        }

    def load_state_dict(self, state):
        """Take up ``state_dict``; UserError when it is of another optimiser or scheduler."""
        for option, here in self._classes().items():
            there = state.get("classes", {}).get(option, here)  # an earlier version did not note it
            if here != there:
                raise UserError(f"{option} is {here}, but the checkpoint is of a training with {there}")
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.updates = state["updates"]
        micro_batch = state.get("micro_batch", {"asked": -1})  # an earlier version did not keep it
        if self.asked == micro_batch["asked"]:
            self.micro_batch = micro_batch["found"]
        if self.scaler and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
        # torch warns of a schedule that moves before the first update, and looks for one in this process only. Training
        # that was stopped between the last update of an epoch and its end goes on with the schedule.
        self.optimizer._opt_called = self.updates > 0

    def _classes(self):
        """Their state alone does not tell them apart: Adam's fits AdamW."""
        return {
            "optim": type(self.optimizer).__name__,
            "scheduler": type(self.scheduler).__name__ if self.scheduler else None,
        }

    def _gradient(self, compute, batch, weights, seed):
        """Leave the gradient on this process's share in the parameters; return its mean values, and its weight."""
        rows, kept = len(batch["ids"]), self._buffers()
        while True:
            try:
                return self._by_parts(compute, batch, weights, seed)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                size = min(rows, self.micro_batch or rows)
                if self.oom == "stop" or size <= 1 or not is_out_of_memory(error):
                    raise
            # Out of the clause above: the error holds on to what was in memory.
            self.micro_batch = -(-size // 2)
            for buffer, value in kept:
                buffer.copy_(value)
            self.optimizer.zero_grad(set_to_none=True)
            forget()
            log.warning(
                "out of memory with %d items at a time: repeated, and from here on, with %d; the batches stay the same",
                size, self.micro_batch,
            )  # fmt: skip

    def _by_parts(self, compute, batch, weights, seed):
        self.optimizer.zero_grad(set_to_none=True)
        rows, first, means = len(batch["ids"]), batch.get("first", 0), {}
        total = rows if weights is None else weights.sum()
        size = self.micro_batch or max(rows, 1)
        parts = -(-rows // size)
        for k in range(parts):
            part = part_of(rows, k, parts)
            if self.group.world > 1 or self.micro_batch:
                torch.manual_seed(_seed(seed, 1 + first + part.start))
            loss, values = compute(rows_of(batch, part))
            portion = (part.stop - part.start if weights is None else weights[part].sum()) / total
            (loss * portion * self.scaler.scale if self.scaler else loss * portion).backward()
            for name, value in ({"loss": loss} | values).items():
                means[name] = means.get(name, 0.0) + value.detach() * portion
        return means, total

    def _buffers(self):
        """(buffer, copy) of all, where a step may have to be repeated."""
        if self.oom == "stop":
            return []
        found = {id(b): b for network in self.networks for b in network.buffers()}
        return [(b, b.clone()) for b in found.values()]

    def _update(self):
        """One optimiser step, at the warm-up's share of the scheduled rate."""
        scheduled = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * self._warmup()
        self.optimizer.step()
        for group, lr in zip(self.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = lr  # schedulers multiply what they find, so they must find their own
        self.updates += 1
        by_step = self.scheduler and self.scheduler_interval == "step" and not self._on_plateau()
        if by_step and self.updates >= self.warmup_steps:
            self.scheduler.step()

    def _warmup(self):
        return min(1.0, (self.updates + 1) / self.warmup_steps) if self.warmup_steps else 1.0

    def _on_plateau(self):
        return isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)


def _require_finite(what, value):
    if not torch.isfinite(value):
        raise FloatingPointError(f"{what} is {value.item()}")


def rows_of(batch, part):
    """Some rows, a slice, of everything in a batch that has rows."""
    rows = len(batch["ids"])
    if part == slice(0, rows):
        return batch
    return {
        k: v[part] if isinstance(v, list) or (torch.is_tensor(v) and v.dim() and len(v) == rows) else v
        for k, v in batch.items()
    }


def _seed(seed, place):
    """32 bits, as torch's generator on the CPU takes no more of a seed."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])


def is_out_of_memory(error):
    """Whether a RuntimeError says so, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def forget():
    """Give back what the GPU's allocator keeps for later."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _fused(optim, conf, parameters):
    """On a GPU one kernel moves all parameters, if the optimiser has one and the configuration does not say."""
    accepted = inspect.signature(getattr(torch.optim, optim, dict)).parameters if optim in torch.optim.__all__ else ()
    chosen = {"fused", "foreach"} & set(conf)
    possible = "fused" in accepted and bool(parameters) and all(p.is_cuda and p.is_floating_point() for p in parameters)
    return {"fused": True} if possible and not chosen else {}
