"""Supervised training: the estimate is compared with references that came with the noisy signal.

An objective is what the trainer drives. It owns the optimisers and offers
    step(batch) -> {name: scalar tensor or float}: one update; has "loss"; raises FloatingPointError, with nothing
        changed, when it is not finite;
    evaluate(batch) -> ({name: scalar}, weight): no update; has "loss", lower is better; weight counts utterances;
    end_epoch(valid): after each epoch's validation, with its means;
    lr: the learning rate to show;
    state_dict() / load_state_dict(): plain values and tensors; the entry "model" is what enhancement loads.
Other ways of training (adversarial, ...) are other classes with these five; the trainer knows none by name.
"""

import torch

from senet import config
from senet.errors import UserError


class Supervised:
    """One model, one loss, one optimiser.

    Args:
        model: see ``senet.models.base``; already on its device.
        loss: module with ``domain`` ("spectrum" or "waveform"), ``needs`` (names of references) and
            ``forward(stages, refs, lengths) -> (scalar, {name: scalar})``, lengths in frames or samples.
        optim, optim_conf: class of torch.optim and its arguments.
        scheduler, scheduler_conf: class of torch.optim.lr_scheduler and its arguments; None for a constant rate.
            ReduceLROnPlateau follows the validation loss.
        scheduler_interval: "epoch" or "step", when the other schedulers advance.
        warmup_steps: the rate rises linearly over so many updates, whatever the scheduler says.
        grad_clip: largest norm of the gradient; 0 leaves it as it is.
    """

    def __init__(
        self,
        model,
        loss,
        *,
        optim="Adam",
        optim_conf=None,
        scheduler=None,
        scheduler_conf=None,
        scheduler_interval="epoch",
        warmup_steps=0,
        grad_clip=0.0,
    ):
        self.model, self.loss = model, loss
        self.optimizer = config.build("torch.optim", optim, optim_conf, params=model.parameters())
        self.scheduler = None
        if scheduler:
            self.scheduler = config.build(
                "torch.optim.lr_scheduler", scheduler, scheduler_conf, optimizer=self.optimizer
            )
        self.scheduler_interval, self.warmup_steps, self.grad_clip = scheduler_interval, warmup_steps, grad_clip
        self.updates = 0
        if loss.domain == "spectrum" and not hasattr(model, "analysis"):
            raise UserError(
                f"loss: {type(loss).__name__} compares spectra, but {type(model).__name__} has no analysis(); "
                "take a loss of senet.losses.waveform"
            )

    @property
    def lr(self):
        return self.optimizer.param_groups[0]["lr"] * self._warmup()

    def step(self, batch):
        self.model.train()
        loss, parts = self._compare(batch)
        _require_finite("loss", loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip or float("inf"))
        _require_finite("gradient norm", norm)
        self._update()
        return {"loss": loss.detach(), **{k: v.detach() for k, v in parts.items()}, "grad_norm": norm}

    @torch.no_grad()
    def evaluate(self, batch):
        self.model.eval()
        loss, parts = self._compare(batch)
        return {"loss": loss, **parts}, len(batch["ids"])

    def end_epoch(self, valid):
        if self._on_plateau():
            self.scheduler.step(valid["loss"])
        elif self.scheduler and self.scheduler_interval == "epoch":
            self.scheduler.step()

    def state_dict(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "updates": self.updates,
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.updates = state["updates"]

    def _compare(self, batch):
        """(loss, parts) of the model's estimate on a batch, in the domain the loss asks for."""
        for name in self.loss.needs:
            if name not in batch and f"{name}_stft" not in batch:
                raise UserError(
                    f"loss: {type(self.loss).__name__} needs '{name}', which the data directory does not have "
                    f"(its batches hold {', '.join(k for k in batch if k != 'ids')})"
                )
        if self.loss.domain == "waveform":
            if "noisy" not in batch:
                raise UserError(f"loss: {type(self.loss).__name__} compares waveforms; train with feats_type: raw")
            return self.loss(
                self.model.stages(batch["noisy"]), {n: batch[n] for n in self.loss.needs}, batch["lengths"]
            )
        noisy = self._spectrum(batch, "noisy")
        level = self.model.level(noisy)
        estimates = self.model.network(self.model.encode(noisy, level))
        refs = {n: self.model.encode(self._spectrum(batch, n), level) for n in self.loss.needs}
        frames = batch["frame_lengths"] if "frame_lengths" in batch else self.model.stft.num_frames(batch["lengths"])
        return self.loss(estimates, refs, frames)

    def _spectrum(self, batch, name):
        stored = batch.get(f"{name}_stft")
        return self.model.analysis(batch[name]) if stored is None else stored

    def _update(self):
        """One optimiser step, at the warm-up's share of the scheduled rate."""
        scheduled = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * self._warmup()
        self.optimizer.step()
        for group, lr in zip(self.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = lr  # schedulers multiply what they find, so they must find their own
        self.updates += 1
        if self.scheduler and self.scheduler_interval == "step" and not self._on_plateau():
            self.scheduler.step()

    def _warmup(self):
        return min(1.0, (self.updates + 1) / self.warmup_steps) if self.warmup_steps else 1.0

    def _on_plateau(self):
        return isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)


def _require_finite(what, value):
    if not torch.isfinite(value):
        raise FloatingPointError(f"{what} is {value.item()}")
