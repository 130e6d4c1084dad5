#!/usr/bin/env python3
"""How long --help takes, as a share of ``import torch``: both alternate in one run, so the machine's load cancels.

Usage: tools/bench/startup.py [--repeats 9] [COMMAND...]      (default: train; target: at most 0.15)
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(*arguments):
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", default=["train"], metavar="COMMAND", help="module of senet.bin")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()

    runs = {name: ["-m", f"senet.bin.{name}", "--help"] for name in args.commands}
    torch, times = [], {name: [] for name in runs}
    for i in range(args.repeats + 1):
        torch.append(seconds("-c", "import torch"))
        for name, arguments in runs.items():
            times[name].append(seconds(*arguments))
        if i == 0:  # files were not cached yet
            torch.clear()
            for values in times.values():
                values.clear()
    print(f"import torch: median {statistics.median(torch):.3f} s of {args.repeats}")
    for name, values in times.items():
        ratio = statistics.median(t / base for t, base in zip(values, torch, strict=True))
        print(
            f"senet.bin.{name} --help: median {statistics.median(values):.3f} s, median ratio {ratio:.3f} (target 0.15)"
        )


if __name__ == "__main__":
    main()
