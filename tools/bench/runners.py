#!/usr/bin/env python3
"""What a job runner costs: seconds for an array of 'true', by each runner, and by the scheduler's own waiting call.

Usage: tools/bench/runners.py [--tasks 2] [--repeats 5]
       eval "$(tools/cluster.sh slurm start)" first, for Slurm; the same with sge for GridEngine

All ways take turns, so that the machine's load is shared, and each finds the queue empty. Above the submission:
the difference to sbatch (qsub) alone, which only submits; the tasks' own start is in it (target: at most 2 s).
"""

import argparse
import getpass
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UTILS = Path(__file__).resolve().parents[2] / "utils"


def call(*words):
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout.strip()


def answers(*words):
    """Whether there is such a command, and a scheduler behind it."""
    return bool(shutil.which(words[0])) and subprocess.run(words, capture_output=True).returncode == 0


def ours(name, tasks):
    return [sys.executable, UTILS / name, f"JOB=1:{tasks}", "log/x.JOB.log", "true"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    ways, queue = {"run.py": (ours("run.py", args.tasks), None)}, []  # name: command, what it is compared with
    if answers("sinfo"):
        words = ["-o", "/dev/null", f"--array=1-{args.tasks}", "--wrap", "true"]
        ways["sbatch"] = ["sbatch", *words], None
        ways["sbatch --wait"] = ["sbatch", "--wait", *words], "sbatch"
        ways["slurm.py"] = ours("slurm.py", args.tasks), "sbatch"
        queue.append(["squeue", "-h", "-u", getpass.getuser()])
    if answers("qstat"):
        words = ["-b", "y", "-o", "/dev/null", "-j", "y", "-t", f"1-{args.tasks}", "true"]
        ways["qsub"] = ["qsub", *words], None
        ways["qsub -sync y"] = ["qsub", "-sync", "y", *words], "qsub"
        ways["queue.py"] = ours("queue.py", args.tasks), "qsub"
        queue.append(["qstat", "-u", getpass.getuser()])
    times = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for _ in range(args.repeats):
            for name, (command, _) in ways.items():
                begin = time.perf_counter()
                call(*command)
                times[name].append(time.perf_counter() - begin)
                while any(call(*words) for words in queue):
                    time.sleep(0.2)
        os.chdir("/")
    print(f"{args.tasks} tasks of 'true', median of {args.repeats} (least to most), seconds")
    for name, (_, base) in ways.items():
        found = times[name]
        line = f"{name:<15}{statistics.median(found):6.2f} ({min(found):.2f} to {max(found):.2f})"
        if base:
            above = [a - b for a, b in zip(found, times[base], strict=True)]
            line += f"   above the submission: {statistics.median(above):.2f}, at most {max(above):.2f}"
        print(line)


if __name__ == "__main__":
    main()
