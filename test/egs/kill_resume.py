#!/usr/bin/env python3
"""Kill a whole recipe at random moments, run it again each time, and compare what it leaves with an undisturbed run.

    test/egs/kill_resume.py --kills 20 --seed 0 [--work DIR]

egs/mini runs in a tiny size, once in peace and then with SIGKILL to the process group of run.sh. The moments are
drawn evenly over the units of work (one stage on one set) and within each over its duration, so that short stages are
hit as often as long ones. Afterwards no process of a killed run may be left, and in the end the manifests, audio, model
parameters, enhanced audio and scores have to be equal to the byte. Exit status 0 when they are.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
TINY_NET = (
    "--model_conf.channels 4 --model_conf.maps 2 --model_conf.lstm_units 8 --model_conf.fc_units 8 "
    "--max_epoch 2 --batch_size 3 --save_every 1 --log_every 1"
)
UNIT = re.compile(r"stage (\d): (\w+) (\S+) \(")  # the driver's line when it begins a unit
STAGE = re.compile(r"^(\S+) \(se\.sh:\d+:\w+\) stage ")  # that, or the line when a stage ends
# What tells the time of day, or how fast or by how many pieces it went, not what was computed.
TIMED = re.compile(
    r"\.stages/|/logdir/|/log/|\.log$|\.jsonl$|record\.json$|index(_before)?\.json$|tensorboard/|\.headers$|/run\.sh$"
    r"|\.pt$|status\.json$|enhance\.json$|\.time\.json$|RESULTS\.md$|results\.csv$|report\.html$"
)


def make_corpus(folder, seed=0):
    """A few seconds of noisy tones by six speakers, and of coloured noises."""
    rng = np.random.default_rng(seed)
    t = np.arange(16000 * 2) / 16000
    for kind, groups, files in (("speech", 6, 2), ("noise", 1, 8)):
        for group in range(groups):
            for i in range(files):
                x = rng.standard_normal(len(t))
                if kind == "speech":
                    x = 0.05 * x + np.sin(2 * np.pi * (120 + 25 * group) * t) * (np.sin(2 * np.pi * (2 + i) * t) > 0)
                else:
                    x = np.convolve(x, np.ones(i + 1) / (i + 1), mode="same")
                path = folder / kind / f"s{group}" / f"{i}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * x / np.abs(x).max(), 16000)


class Recipe:
    """egs/mini on a corpus of its own, with all outputs below ``folder``/run."""

    def __init__(self, folder):
        self.folder, self.run = folder, folder / "run"
        make_corpus(folder / "corpus")

    def start(self, log):
        words = ["--speech_dir", self.folder / "corpus" / "speech", "--noise_dir", self.folder / "corpus" / "noise"]
        words += ["--datadir", self.run / "data", "--dumpdir", self.run / "dump", "--expdir", self.run / "exp"]
        words += ["--num_clips", "train=12 valid=2 test=4", "--mix_args", "--seconds 1", "--train_args", TINY_NET]
        words += ["--metrics", "stoi si_sdr", "--nj", "2", "--num_threads", "1"]
        return subprocess.Popen(
            ["./run.sh", *map(str, words)],
            cwd=ROOT / "egs" / "mini",
            env={**os.environ, "SENET_CMD_BACKEND": "local"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def finish(self, log_path):
        with open(log_path, "w") as log:
            code = self.start(log).wait()
        if code:
            sys.exit(f"run.sh ended with {code}:\n{log_path.read_text()[-4000:]}")

    def survivors(self):
        """Processes that work on this folder, by their command lines."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                command = Path("/proc", pid, "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.run).encode() in command and int(pid) != os.getpid():
                found.append(pid)
        return found


def units(log):
    """[(name, seconds)] of an undisturbed run, from the driver's log lines."""
    stamped = []
    for line in log.read_text().splitlines():
        if match := STAGE.match(line):
            begin = UNIT.search(line)
            stamped.append((time.mktime(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")), begin and begin[0]))
    return [
        (name, next(when for when, _ in stamped[i + 1 :]) - begin + 0.5)
        for i, (begin, name) in enumerate(stamped)
        if name
    ]


def kill_once(recipe, log_path, name, delay):
    """Start the recipe and kill it ``delay`` seconds after the unit ``name`` began, or after the start when it is past.

    Returns what was going on, or None when the run had ended before.
    """
    with open(log_path, "w") as log:
        process = recipe.start(log)
        while process.poll() is None:
            said = log_path.read_text()
            begun = UNIT.findall(said)
            if begun and (name in said or order(begun[-1]) > order(UNIT.search(name).groups())):
                break
            time.sleep(0.02)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            if process.returncode:
                sys.exit(f"run.sh ended with {process.returncode} by itself:\n{log_path.read_text()[-4000:]}")
            return None
    end = time.time() + 5
    while recipe.survivors():
        if time.time() > end:
            sys.exit(f"processes {recipe.survivors()} outlive the run that was killed")
        time.sleep(0.02)
    begun = UNIT.findall(log_path.read_text())
    return " ".join(begun[-1][:2]) + " " + Path(begun[-1][2]).name if begun else "before the first unit"


def order(unit):
    return int(unit[0])


def contents(folder):
    """{relative path: content} of all that has to be equal; checkpoints and packs as their model's parameters."""
    import torch

    from senet.infer.pack import SUFFIX, Pack

    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.suffix == ".pt":
            state = torch.load(path, weights_only=True)
            found[name] = {k: v.numpy().tobytes() for k, v in tensors(state, "")}
        elif path.suffix == SUFFIX:
            pack = Pack(path)
            found[name] = {k: v.numpy().tobytes() for k, v in pack.tensors().items()} | pack.record["scores"]
        elif path.name in ("summary.json", "results.json"):
            found[name] = without_times(json.loads(path.read_text()))
        elif path.is_file() and not TIMED.search(name):
            found[name] = path.read_bytes()
    return found


def without_times(value):
    """A summary, or the report, but for what was measured in seconds or tells the commit."""
    if isinstance(value, dict):
        told = {"real_time_factor", "timed_on", "made_with", "record"}
        return {key: without_times(inner) for key, inner in value.items() if key not in told}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def tensors(value, name):
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{name}.{key}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for it all (default: a temporary one, removed in the end)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        return compare(Recipe(work.resolve()), args.kills, random.Random(args.seed))


def compare(recipe, kills, rng):
    peace = recipe.folder / "undisturbed"
    for folder in (recipe.run, peace):
        shutil.rmtree(folder, ignore_errors=True)
    log = recipe.folder / "undisturbed.txt"
    start = time.time()
    recipe.finish(log)
    print(f"undisturbed: {time.time() - start:.0f} s")
    recipe.run.rename(peace)  # so that both runs have the same paths in their manifests
    durations = units(log)
    moments = sorted((i := rng.randrange(len(durations)), rng.uniform(0, durations[i][1])) for _ in range(kills))
    done = 0
    for i, delay in moments:
        name, _ = durations[i]
        killed = kill_once(recipe, recipe.folder / "killed.txt", name, delay)
        done += killed is not None
        print(f"kill {done}: {killed or 'the run had ended before'}", flush=True)
    recipe.finish(recipe.folder / "last.txt")
    expected, found = contents(peace), contents(recipe.run)
    differing = sorted(p for p in expected.keys() | found.keys() if expected.get(p) != found.get(p))
    for path in differing:
        what = "differs" if path in expected and path in found else "missing" if path in expected else "not expected"
        print(f"{path}: {what}")
    print(f"{done} kills; {len(found)} files compared, {len(differing)} differ")
    return 1 if differing or not done else 0


if __name__ == "__main__":
    sys.exit(main())
