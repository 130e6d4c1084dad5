"""One process of a training, for test_ranks.py: ``ranks.py KIND EXPDIR MICRO_BATCH MAX_STEPS [EVENT]``.

It leaves the states of the trained model, the evaluated one and the last network, the discriminator if there is one.
"""

import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from toys import WINDOW, ToyBatches, adversarial, supervised

from senet.bin import setup_logging
from senet.train.distributed import connected, find_place, leave
from senet.train.trainer import Trainer

SIZES = [8, 8, 8, 7, 1]  # an uneven batch, and one that has nothing for the second process


def objective(kind, **options):
    if kind == "adversarial":
        return adversarial(batches=1, **options)  # z, virtual batch norm
    if kind == "adversarial_adam":
        return adversarial(batches=1, optim="Adam", **options)
    if kind == "plain":
        made = supervised(**options)  # nothing depends on the parts
        made.model.inner[1], made.model.inner[2] = torch.nn.LayerNorm(16, elementwise_affine=False), torch.nn.Identity()
        return made
    return supervised(ema_decay=0.5, **options)  # dropout, batch norm


def main(kind, expdir, micro_batch, max_steps, event=""):
    setup_logging()
    torch.set_num_threads(1)
    place = find_place()
    status = 0
    try:
        train(kind, Path(expdir), int(micro_batch) or None, int(max_steps), event, place)
    except SystemExit as stop:
        status = stop.code
    except Exception:
        traceback.print_exc()
        status = 1
    leave(status)


def train(kind, expdir, micro_batch, max_steps, event, place):
    sizes = [8, 8, 8, 8, 8] if kind == "supervised" else SIZES  # batch norm does not take one item
    length = WINDOW if kind.startswith("adversarial") else 8
    with connected(place, "cpu", 120) as group:
        torch.manual_seed(1)
        made = objective(kind, micro_batch=micro_batch, group=group)
        train, valid = ToyBatches(sizes, length=length), ToyBatches([4, 3, 1], seed=99, length=length)
        if event == "nan":
            train.bad[0, 2] = float("nan")
        step = made.step

        def disturbed(batch):
            if made.updater.updates == 6 and place.rank == 1:
                if event == "signal":
                    os.kill(os.getpid(), signal.SIGUSR1)
                if event == "error":
                    raise RuntimeError("a fault of rank 1")
                if event == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
            return step(batch)

        made.step = disturbed
        options = {"max_epoch": 100, "max_steps": max_steps, "log_every": 5, "save_every": 10, "max_nonfinite": 2}
        Trainer(made, train, valid, expdir, sample_rate=100, group=group, **options).fit()
        weights = [made.model.state_dict(), made.weights.evaluated.state_dict(), made.networks[-1].state_dict()]
        torch.save(weights, expdir / f"rank{place.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
