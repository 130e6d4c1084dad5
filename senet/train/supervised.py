"""Supervised training: the estimate is compared with references that came with the noisy signal.

An objective is what the trainer drives. It owns the optimisers and offers
    step(batch) -> {name: scalar tensor or float}: one update; has "loss"; raises FloatingPointError when that is not
        finite, before the parameters are changed by it;
    evaluate(batch) -> ({name: scalar}, weight): no update; has "loss", lower is better; by weight, means over batches
        are means over all utterances;
    end_epoch(valid): after each epoch's validation, with its means;
    lr: the learning rate to show;
    updaters, networks: lists of its ``Updater`` and of what they move, the model first;
    passes: how many independently drawn batches, joined in one, a step takes (``senet.data.dataset``);
    state_dict() / load_state_dict(): plain values and tensors; the entry "model" is what enhancement loads.
Other ways of training (adversarial, ...) are other classes with these; the trainer knows none by name.
"""

import torch

from senet.errors import UserError
from senet.train.ema import Weights
from senet.train.faster import prepared
from senet.train.updater import Updater


class Supervised:
    """One model, one loss, one optimiser.

    Args:
        model: see ``senet.models.base``; already on its device.
        loss: module with ``domain`` ("spectrum" or "waveform"), ``needs`` (names of references) and
            ``forward(stages, refs, lengths) -> (scalar, {name: scalar})``, lengths in frames or samples.
        ema_decay: of the exponential moving average of the weights, which is evaluated and kept as the model; 0: none.
        precision, compile, checkpointing: how the model is run in training; see ``senet.train.faster``.
        update: optimiser, schedule, warm-up, clipping, micro-batches and processes; see ``Updater``.

    The loss is a mean over items, or has ``weigh(lengths)`` -> (B,): by what it is a mean.
    """

    passes = 1

    def __init__(self, model, loss, *, ema_decay=0.0, precision="fp32", compile=False, checkpointing=False, **update):
        self.model, self.loss = model, loss
        self.weights = Weights(model, ema_decay)
        self.updater = Updater(model.parameters(), networks=[model], precision=precision, **update)
        if loss.domain == "spectrum" and not hasattr(model, "analysis"):
            raise UserError(
                f"loss: {type(loss).__name__} compares spectra, but {type(model).__name__} has no analysis(); "
                "take a loss of senet.losses.waveform"
            )
        run = "stages" if loss.domain == "waveform" else "network"
        self.run = prepared(model, run, precision, compile, checkpointing)

    @property
    def lr(self):
        return self.updater.lr

    @property
    def updaters(self):
        return [self.updater]

    @property
    def networks(self):
        return [self.model]

    def step(self, batch):
        self.model.train()
        weigh = getattr(self.loss, "weigh", None)
        weights = weigh(self._lengths(batch)) if weigh and batch["ids"] else None
        values = self.updater.step(lambda part: self._compare(self.model, self.run, part), batch, weights)
        self.weights.update()
        return values

    @torch.no_grad()
    def evaluate(self, batch):
        model = self.weights.evaluated.eval()
        loss, parts = self._compare(model, model.stages if self.loss.domain == "waveform" else model.network, batch)
        weigh = getattr(self.loss, "weigh", None)
        return {"loss": loss, **parts}, weigh(self._lengths(batch)).sum().item() if weigh else len(batch["ids"])

    def end_epoch(self, valid):
        self.updater.end_epoch(valid["loss"])

    def state_dict(self):
        return {**self.weights.state_dict(), **self.updater.state_dict()}

    def load_state_dict(self, state):
        self.weights.load_state_dict(state)
        self.updater.load_state_dict(state)

    def _compare(self, model, run, batch):
        """(loss, parts) of what ``run`` makes of a batch, in the domain the loss asks for."""
        require_references(self.loss, batch)
        if self.loss.domain == "waveform":
            return self.loss(run(batch["noisy"]), {n: batch[n] for n in self.loss.needs}, batch["lengths"])
        noisy = self._spectrum(model, batch, "noisy")
        level = model.level(noisy)
        estimates = run(model.encode(noisy, level))
        refs = {n: model.encode(self._spectrum(model, batch, n), level) for n in self.loss.needs}
        return self.loss(estimates, refs, self._lengths(batch))

    def _lengths(self, batch):
        """(B,) of what the loss compares, in samples or frames."""
        if self.loss.domain == "waveform":
            return batch["lengths"]
        return batch["frame_lengths"] if "frame_lengths" in batch else self.model.stft.num_frames(batch["lengths"])

    def _spectrum(self, model, batch, name):
        stored = batch.get(f"{name}_stft")
        return model.analysis(batch[name]) if stored is None else stored


def require_references(loss, batch):
    """Refuse a batch without a reference that ``loss`` needs, or with stored spectra in place of waveforms."""
    if "noisy_stft" in batch:
        why = "which is not stored with spectra; train with feats_type: raw"
    else:
        why = f"which the data directory does not have (its batches hold {', '.join(k for k in batch if k != 'ids')})"
    for name in loss.needs:
        if name not in batch and f"{name}_stft" not in batch:
            raise UserError(f"loss: {type(loss).__name__} needs '{name}', {why}")
    if loss.domain == "waveform" and "noisy" not in batch:
        raise UserError(f"loss: {type(loss).__name__} compares waveforms; train with feats_type: raw")
