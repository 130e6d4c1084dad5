"""Tiny models, losses and data for tests of training: milliseconds per step, with dropout and batch norm."""

import torch
from torch import nn

from senet.data.batching import part_of
from senet.losses.waveform import L1
from senet.models.segan import SEGAN
from senet.train.adversarial import Adversarial
from senet.train.supervised import Supervised
from senet.train.updater import rows_of


class TinyNet(nn.Module):
    sample_rate = 100

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 8))

    def stages(self, noisy):
        return [self.inner(noisy)]


class SquaredError(nn.Module):
    domain = "waveform"
    needs = ("clean",)

    def forward(self, stages, refs, lengths):
        error = (stages[-1] - refs["clean"]).square().mean()
        return error, {"twice": 2 * error.detach()}


class ToyBatches:
    """Batches from (seed, epoch, index), as senet.data.dataset.Batches; ``sizes[i]`` utterances in batch i."""

    def __init__(self, sizes, seed=0, length=8):
        self.sizes, self.seed, self.length = sizes, seed, length
        self.bad = {}  # (epoch, i) -> value put into the batch

    def num_batches(self, epoch):
        return len(self.sizes)

    def __getitem__(self, position):
        epoch, i = position
        g = torch.Generator().manual_seed(self.seed + 1000 * epoch + i)
        noisy = torch.randn(self.sizes[i], self.length, generator=g)
        batch = {"ids": [f"e{epoch}b{i}u{k}" for k in range(self.sizes[i])], "noisy": noisy, "clean": 0.5 * noisy}
        if position in self.bad:
            batch["clean"] = batch["clean"] * self.bad[position]
        return batch | {"lengths": torch.full((self.sizes[i],), self.length), "skipped": i % 2}

    def loader(self, epoch, start=0, num_workers=0, rank=0, world=1):
        for i in range(start, self.num_batches(epoch)):
            rows = part_of(self.sizes[i], rank, world)
            batch = rows_of(self[epoch, i], rows) | {"first": rows.start}
            yield batch | ({"skipped": 0} if rank else {})

    def finish(self, batch):
        return batch


def supervised(**options):
    torch.manual_seed(1)
    return Supervised(TinyNet(), SquaredError(), **{"optim_conf": {"lr": 0.01}, "grad_clip": 1.0} | options)


WINDOW = 64  # samples of the tiny SEGAN's
SIZES = {"channels": (2, 4, 4), "kernel": 7, "window": WINDOW}


def adversarial(loss=None, discriminator_conf=None, model_conf=None, **options):
    torch.manual_seed(1)
    model = SEGAN(sample_rate=100, **SIZES | (model_conf or {}))
    defaults = {
        "optim": "RMSpropTF",
        "optim_conf": {"lr": 0.01},
        "discriminator_conf": SIZES | (discriminator_conf or {}),
    }
    return Adversarial(model, loss or L1(), **defaults | options)
