"""What a training step of every system costs in its real size, in each precision: a table, in one call.

    python tools/bench/training.py [train_gagnet ...] [--modes fp32 tf32 bf16 bf16+compile] [--steps 30]
        [--train DIR] [--json FILE] [--curves FILE.html] [-- further options of senet train, such as --batch_size 4]

A system is a configuration ``egs/*/conf/train_*.yaml``; equal networks of several recipes are measured once. Each mode
of each is run in a process of its own: model, loss, optimiser and batches are those that the train command builds, of
validation, checkpoints and logs there are none. A mode is a precision, with what else is wanted: ``bf16+compile``,
``fp32+checkpointing``. All modes of a system see the same batches from the same weights, so that their losses can be
laid side by side: ``--curves`` draws them, ``--json`` has them. Without ``--train`` the data are generated, 4 s long or
what a configuration cuts out of them.

    steps/s, audio s/s   of the steps after the first ones, reading included
    peak MiB             of the GPU's memory, all steps; without one the largest resident set of the process
    busy                 share of the time in which the GPU computes, from the profiler, over five further steps
    waiting              share of the time in which training waits for its data, with ``--num_workers`` processes
    first, last          training loss, means over five steps
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from curves import write_curves
from models import ROOT, systems
from train_steps import build, peak_memory

from senet import config
from senet.bin import train
from senet.errors import UserError
from senet.train.precision import Overflow

MODES = ["fp32", "tf32", "bf16", "bf16+compile"]
COLUMNS = ["steps/s", "audio s/s", "peak MiB", "busy", "waiting", "first", "last"]
WARM_UP = 5  # steps, in which memory is found and networks are compiled
PROFILED = 5  # steps


def options_of(name):
    recipe, stem = name.split("/")
    words = ["--config", str(ROOT / "egs" / recipe / "conf" / f"{stem}.yaml")]
    return words, train.get_parser().parse([*words, "--train", "-", "--valid", "-", "--expdir", "-"])


def make_data(folder, sample_rate, seconds, count=64):
    """A data directory of bursts of coloured noise, as clean, in white noise."""
    from senet.data.audio import write_wav
    from senet.data.scp import write_table

    rng, n = np.random.default_rng(0), round(seconds * sample_rate)
    utts = [f"spk{i % 4}-{i:04d}" for i in range(count)]
    utts.sort()
    for utt in utts:
        bursts = np.sin(2 * np.pi * 3 * np.arange(n) / sample_rate + rng.uniform(0, 6)) > -0.3
        clean = 0.1 * bursts * np.convolve(rng.standard_normal(n), np.ones(8) / 2, "same")
        write_wav(folder / "spk1" / f"{utt}.wav", clean, sample_rate)
        write_wav(folder / "wav" / f"{utt}.wav", np.clip(clean + 0.05 * rng.standard_normal(n), -1, 1), sample_rate)
    for kind, name in (("wav", "wav.scp"), ("spk1", "spk1.scp")):
        write_table(folder / name, [(utt, folder / kind / f"{utt}.wav") for utt in utts])
    write_table(folder / "utt2num_samples", [(utt, n) for utt in utts])
    write_table(folder / "utt2spk", [(utt, utt.split("-")[0]) for utt in utts])
    return folder


# ------------------------------------------------------------ one mode of one system, in a process of its own


class Loader:
    """Batches on the device, epoch after epoch; ``waited``: seconds in which the caller did."""

    def __init__(self, stream, device, num_workers):
        self.stream, self.device, self.num_workers, self.waited = stream, device, num_workers, 0.0
        self.batches = self._endless()

    def _endless(self):
        epoch = 0
        while True:
            yield from self.stream.loader(epoch, num_workers=self.num_workers)
            epoch += 1

    def __next__(self):
        start = time.perf_counter()
        batch = next(self.batches)
        self.waited += time.perf_counter() - start
        moved = {k: v.to(self.device, non_blocking=True) if torch.is_tensor(v) else v for k, v in batch.items()}
        return self.stream.finish(moved)


def measure(words, steps):
    """name -> figure of the train command's ``words``."""
    args, objective, stream, device = build(words)
    loader, losses = Loader(stream, device, args.num_workers), []
    audio = 0.0

    def step():
        nonlocal audio
        batch = next(loader)
        torch.manual_seed(len(losses))
        try:
            losses.append(objective.step(batch)["loss"])
        except Overflow:  # fp16 looks for its scale
            losses.append(math.nan)
        audio += batch["lengths"].sum().item() / objective.model.sample_rate

    def run(count):
        start = finished(device)
        for _ in range(count):
            step()
        return finished(device) - start

    run(WARM_UP)
    loader.waited = audio = 0.0
    seconds = run(steps)
    waiting, heard = loader.waited / seconds, audio / seconds
    busy = profiled(run) if device.type == "cuda" else None
    losses = [float(loss) for loss in losses[: WARM_UP + steps]]
    return {
        "steps/s": steps / seconds,
        "audio s/s": heard,
        "peak MiB": peak_memory(device),
        "busy": busy,
        "waiting": waiting,
        "first": statistics.mean([loss for loss in losses if loss == loss][:5]),
        "last": statistics.mean([loss for loss in losses if loss == loss][-5:]),
        "batch_size": args.batch_size,
        "micro_batch": objective.updater.micro_batch,
        "parameters": sum(p.numel() for p in objective.model.parameters()),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "losses": losses,
    }


def finished(device):
    """The time when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def profiled(run):
    """Share of the time in which kernels run."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        seconds = run(PROFILED)
    spans = sorted(
        (e.time_range.start, e.time_range.end) for e in found.events() if e.device_type == DeviceType.CUDA
    )  # microseconds
    total, reached = 0.0, 0.0
    for start, end in spans:  # of several streams, which may overlap
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6 / seconds


# ------------------------------------------------------------ all of them


def run_mode(words, mode, steps, expdir):
    """The figures of one mode, or {"error": ...}."""
    precision, *more = mode.split("+")
    ngpu = int(torch.cuda.is_available())
    call = ["--one", str(steps), *words, "--expdir", str(expdir), "--ngpu", str(ngpu), "--precision", precision]
    call += [f"--{option}" for option in more]
    done = subprocess.run([sys.executable, __file__, *call], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if "rror" in line]
        return {"error": (lines or ["it was killed"])[-1].strip()[:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def told(value):
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", help="names of configurations; default: all networks")
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--train", help="data directory to train on, in place of generated data")
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    parser.add_argument("--curves", type=Path, help="draw the losses of all steps, a page in HTML")
    ours = sys.argv[1:]
    cut = ours.index("--") if "--" in ours else len(ours)
    args, words = parser.parse_args(ours[:cut]), ours[cut + 1 :]
    if not (chosen := systems(args.systems)):
        parser.error(f"no configuration is called {' or '.join(args.systems)}")
    print("| " + " | ".join(["system", "mode", "batch", *COLUMNS]) + " |")
    print("|" + "---|" * (3 + len(COLUMNS)), flush=True)
    found, failed = [], False
    with tempfile.TemporaryDirectory() as scratch:
        for name, (model, conf) in chosen.items():
            own, options = options_of(name)
            if options.loss is None:
                continue  # nothing to train
            rate = config.resolve("models", model, conf).get("sample_rate", 16000)
            data = args.train or Path(scratch) / str(rate)
            if not args.train and not data.exists():
                make_data(data, rate, 4.0)
            given = [*own, "--train", str(data), "--valid", str(data), "--num_workers", str(args.num_workers), *words]
            for mode in args.modes:
                figures = run_mode(given, mode, args.steps, Path(scratch) / "exp")
                found.append({"system": name, "mode": mode} | figures)
                failed |= "error" in figures
                cells = [told(figures.get(column)) for column in COLUMNS]
                cells[0] = figures.get("error", cells[0])
                print("| " + " | ".join([name, mode, told(figures.get("batch_size")), *cells]) + " |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.curves:
        write_curves(args.curves, found)
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        try:
            print(json.dumps(measure(sys.argv[3:], int(sys.argv[2]))))
        except UserError as error:
            sys.exit(f"error: {error}")
    else:
        sys.exit(main())
