"""One optimiser with all that belongs to it; every objective moves its networks by this."""

import torch

from senet import config
from senet.errors import UserError


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
    ):
        self.parameters = list(parameters)
        self.optimizer = config.build("train.optim", optim, optim_conf, option=option, params=self.parameters)
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

    def step(self, loss, of=""):
        """Update once by the gradient of ``loss``.

        Args:
            loss: scalar with a graph.
            of: words before "loss" and "gradient norm" in messages, such as "discriminator's ".
        Returns:
            norm of the gradient before clipping, a scalar tensor.
        Raises:
            FloatingPointError: loss or gradient is not finite; the parameters are as they were.
        """
        _require_finite(f"{of}loss", loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.grad_clip or float("inf"))
        _require_finite(f"{of}gradient norm", norm)
        self._update()
        return norm

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
        # torch warns of a schedule that moves before the first update, and looks for one in this process only. Training
        # that was stopped between the last update of an epoch and its end goes on with the schedule.
        self.optimizer._opt_called = self.updates > 0

    def _classes(self):
        """Their state alone does not tell them apart: Adam's fits AdamW."""
        return {
            "optim": type(self.optimizer).__name__,
            "scheduler": type(self.scheduler).__name__ if self.scheduler else None,
        }

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
