"""A number of training steps of one system on real data: speed, memory, and whether the loss falls.

The model, the loss, the optimiser and the batches are those that the train command would build from the same options;
all options not listed here are the train command's. Of it only validation, checkpoints and logs are missing.

    python tools/bench/train_steps.py --steps 20 --config egs/dns5/conf/train_x.yaml --train DIR --batch_size 2 --ngpu 1

``before`` and ``after`` are the mean validation loss of the objective on the first four batches; they are not trained
on before the data come round again. First and last step are the training loss, on another batch each time. Steps per
second include the reading of data and leave out the first three steps. Peak memory is that of the GPU, or without one
the largest resident set of the process. A row of a Markdown table goes to stdout, progress to stderr.
"""

import argparse
import json
import math
import resource
import statistics
import sys
import time
from pathlib import Path

import torch

from senet.bin import train
from senet.errors import UserError
from senet.train.build import build_model, build_objective, choose_device, set_threads
from senet.train.data import open_data
from senet.train.distributed import Group
from senet.train.precision import Overflow

WARM_UP = 3  # steps
HELD = 4  # batches


def build(words):
    """(options, objective, batches, device) of the train command's ``words``."""
    parser = train.get_parser()
    args = parser.parse([*words, "--expdir", "-"])
    train.resolve_options(args, parser)
    device = choose_device(args)
    set_threads(args.num_threads, Group())
    model = build_model(args, device)
    objective = build_objective(args, model, device)
    batches, _ = open_data(args, model, objective.passes)
    return args, objective, batches, device


def endless(batches, args, device):
    """Batches on the device, epoch after epoch."""
    epoch = 0
    while True:
        for batch in batches.loader(epoch, num_workers=args.num_workers):
            yield {k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        epoch += 1


def measure(args, objective, batches, device, steps):
    """name -> figure; tells each step on stderr."""
    loader = endless(batches, args, device)
    held = [next(loader) for _ in range(HELD)]
    figures = {"before": mean_loss(objective, held)}
    losses, clock, audio = [], [], 0.0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for step, batch in zip(range(steps), loader, strict=False):
        torch.manual_seed(step)
        try:
            values = objective.step(batch)
        except Overflow:  # fp16 looks for its scale
            values = {"loss": math.nan}
        losses.append(float(values["loss"]))  # waits for the device
        clock.append(time.perf_counter())
        audio += batch["lengths"].sum().item() / objective.model.sample_rate
        told = "  ".join(f"{name} {float(value):.5g}" for name, value in values.items())
        print(f"step {step + 1}/{steps}  {told}", file=sys.stderr, flush=True)
    figures |= {"after": mean_loss(objective, held), "first_step": losses[0], "last_step": losses[-1]}
    counted = len(clock) - WARM_UP
    figures["steps_per_second"] = counted / (clock[-1] - clock[WARM_UP - 1])
    figures["audio_seconds_per_step"] = audio / steps
    figures["peak_memory_mib"] = peak_memory(device)
    return figures


def mean_loss(objective, batches):
    return statistics.mean(float(objective.evaluate(batch)[0]["loss"]) for batch in batches)


def peak_memory(device):
    """MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help=f"more than {WARM_UP}")
    parser.add_argument("--train", required=True, metavar="DIR", help="data directory to train on")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    own, words = parser.parse_known_args()
    if own.steps <= WARM_UP:
        parser.error(f"--steps {own.steps}: expected more than {WARM_UP}")
    try:
        args, objective, batches, device = build([*words, "--train", own.train, "--valid", own.train])
        figures = measure(args, objective, batches, device, own.steps)
    except UserError as error:
        sys.exit(f"error: {error}")
    figures = {
        "system": Path(args.config).stem if args.config else args.model,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "parameters": sum(p.numel() for p in objective.model.parameters()),
        "batch_size": args.batch_size,
        "steps": own.steps,
    } | figures
    print("| " + " | ".join(figures) + " |")
    print("|" + "---|" * len(figures))
    print("| " + " | ".join(told(value) for value in figures.values()) + " |")
    if own.json:
        own.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def told(value):
    return f"{value:.5g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
