"""What a training loses when it is killed, stopped, or its checkpoints are damaged: nothing, in figures.

    python tools/bench/nothing_lost.py [--kills 50] [--terms 20] [--steps 40] [--which saves flips steps terms]

saves: SIGKILL at random times in a loop that saves; how often the last checkpoint that the index names was unreadable.
flips: one flipped byte in each of 20 places of a checkpoint; how often it was refused and the one before it used.
steps: a training stopped and resumed after each step against one that was not, for both objectives, with and without
    processes that read; tensors that differ in any bit, of parameters, their average, optimisers and buffers.
terms: SIGTERM at random times; exit status, and seconds until the process is gone beside those of a step.
Everything is done by senet.bin.train with tiny models on generated audio, on the CPU; but for terms in forked children
of this process, so that torch is imported once.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401 (this and the next ones: what the children need, imported once)

from senet import checkpoint
from senet.bin import run, train
from senet.data import dataset  # noqa: F401
from senet.data.audio import write_wav
from senet.data.scp import write_table
from senet.models import lowlatency, segan  # noqa: F401
from senet.signals import AGAIN
from senet.train import adversarial, session  # noqa: F401
from senet.train.trainer import Trainer

SIZES = "{channels: [2, 4, 4], kernel: 7, window: 512}"
SYSTEMS = {
    "supervised": "--model lowlatency.LowLatencyNet --loss spectral.CompressedSpectrum --crop_seconds 0.25 "
    "--model_conf |{channels: 2, maps: 1, lstm_units: 4, fc_units: 4, causal: true}|--scheduler ReduceLROnPlateau",
    "adversarial": f"--model segan.SEGAN --objective adversarial --loss waveform.L1 --model_conf |{SIZES}"
    "|--objective_conf |{noise_std: 0.05, discriminator_conf: {channels: [2, 4, 4], kernel: 7, window: 512, norm: bn}}"
    "|--crop_seconds 0.032",
}


def words(system):
    parts = SYSTEMS[system].split("|")
    return [word for i, part in enumerate(parts) for word in ([part] if i % 2 else part.split())]


def make_set(folder, n):
    rng = np.random.default_rng(n)
    utts = [f"s-{i:02d}" for i in range(n)]
    for i, utt in enumerate(utts):
        clean = 0.1 * np.sin(np.arange(8000) * 0.05 * (i + 1))
        write_wav(folder / "spk1" / f"{utt}.wav", clean, 16000)
        write_wav(folder / "wav" / f"{utt}.wav", clean + 0.1 * rng.standard_normal(8000), 16000)
    for kind, name in (("wav", "wav.scp"), ("spk1", "spk1.scp")):
        write_table(folder / name, [(utt, folder / kind / f"{utt}.wav") for utt in utts])
    write_table(folder / "utt2num_samples", [(utt, 8000) for utt in utts])
    write_table(folder / "utt2spk", [(utt, "s") for utt in utts])


def options_of(expdir, system, *more):
    fixed = "--train train --valid valid --num_threads 1 --batch_size 2 --ema_decay 0.9 --log_every 2 --save_every 7"
    return [*words(system), *fixed.split(), "--expdir", str(expdir), *more]


def start(expdir, system, *more, stop_after=None):
    """The pid of a training; with ``stop_after`` it tells itself to stop after so many steps."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        log = os.open(f"{expdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        if stop_after:
            stopping(stop_after)
        status = run(train.main, options_of(expdir, system, *more))
    except SystemExit as stop:
        status = stop.code
    finally:
        os._exit(status)


def stopping(steps):
    inner, done = Trainer._train_step, []

    def train_step(self, batch):
        done.append(batch)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        inner(self, batch)

    Trainer._train_step = train_step


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def tensors(value, where=""):
    """Yield (place, tensor or plain value) of nested dicts and lists."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{where}/{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from tensors(item, f"{where}/{i}")
    else:
        yield where, value


def differences(a, b):
    a, b = dict(tensors(a)), dict(tensors(b))
    same = {k: torch.equal(v, b[k]) if torch.is_tensor(v) else v == b[k] for k, v in a.items() if k in b}
    return len(a.keys() ^ b.keys()) + list(same.values()).count(False), sum(map(torch.is_tensor, a.values()))


def saves(options):
    """Kills in a loop of saves."""
    rng, unreadable, reached = random.Random(1), 0, 0
    folder = Path("saves")
    for _ in range(options.kills):
        pid = os.fork()
        if pid == 0:
            for step in range(reached + 1, reached + 100_000):
                state = {"model": {"w": torch.full((200, 200), float(step))}, "step": step}
                checkpoint.save(folder, state, step=step, epoch=0, score=float(step % 7))
        before = checkpoint.entries(folder)
        while checkpoint.entries(folder) == before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        wait(pid)
        newest = checkpoint.entries(folder)[-1]["step"]
        state = checkpoint.load(folder)
        whole = state["step"] == newest and bool((state["model"]["w"] == newest).all())
        unreadable, reached = unreadable + (not whole), state["step"]
    print(f"saves: {options.kills} SIGKILLs in {reached} saves: {unreadable} unreadable last checkpoints")


def flips(options):
    folder = Path("flips")
    for step in (1, 2):
        checkpoint.save(folder, {"model": {"w": torch.full((50, 50), float(step))}}, step=step, epoch=0)
    path = folder / checkpoint.entries(folder)[-1]["file"]
    content, refused = path.read_bytes(), 0
    for place in random.Random(0).sample(range(len(content)), 20):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused += bool((checkpoint.load(folder)["model"]["w"] == 1).all())
    print(f"flips: of 20 places with a flipped byte {refused} refused, and the checkpoint before used")


def steps(options):
    for system in SYSTEMS:
        for workers in (0, 2):
            more = ["--max_steps", str(options.steps), "--num_workers", str(workers)]
            calm, stopped, stops = Path(f"{system}{workers}_calm"), Path(f"{system}{workers}_stopped"), 0
            assert wait(start(calm, system, *more)) == 0, f"see {calm}.log"
            while (status := wait(start(stopped, system, *more, stop_after=1))) == AGAIN:
                stops += 1
            assert status == 0, f"exit status {status}, see {stopped}.log"
            a, b = (checkpoint.load(expdir / "checkpoints") for expdir in (calm, stopped))
            for state in (a, b):
                state["trainer"].pop("seconds")
            different, total = differences(a, b)
            print(
                f"steps: {system}, {workers} workers: {a['trainer']['step']} steps, {stops} stops, "
                f"{different} of {total} tensors and their plain values differ",
                flush=True,
            )


def terms(options):
    rng, longest, statuses, took, number = random.Random(0), 0.0, [], [], 0
    while len(statuses) < options.terms:
        number += 1
        expdir = Path(f"terms{number % 2}")
        words = options_of(expdir, list(SYSTEMS)[number % 2], "--max_epoch", "100000", "--num_workers", "2")
        before = lines(expdir)
        with open(f"{expdir}.log", "a") as log:
            process = subprocess.Popen([sys.executable, "-m", "senet.bin.train", *words], stderr=log)
        while lines(expdir) <= before:
            assert process.poll() is None, f"see {expdir}.log"
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        statuses.append(process.wait())
        took.append(time.monotonic() - sent)
        record = [r for r in records(expdir) if r["event"] == "train"][-1]
        longest = max(longest, took[-1] - 1 / record["steps_per_second"])
    print(
        f"terms: {len(statuses)} SIGTERMs, exit statuses {sorted(set(statuses))}; to the exit {np.median(took):.2f} s "
        f"in the median, {max(took):.2f} s at most, and at most {longest:.2f} s beyond a step"
    )


def lines(expdir):
    return len(records(expdir))


def records(expdir):
    path = expdir / "train.jsonl"
    return (
        [json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line]
        if path.exists()
        else []
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checks = {check.__name__: check for check in (saves, flips, steps, terms)}
    parser.add_argument("--which", nargs="+", choices=checks, default=list(checks), help="checks to make")
    for name, default in (("kills", 50), ("terms", 20), ("steps", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_set(Path("train"), 12)
        make_set(Path("valid"), 3)
        for name in options.which:
            checks[name](options)


if __name__ == "__main__":
    main()
