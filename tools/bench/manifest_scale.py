"""What a manifest of a million utterances costs: time to open, memory of each worker process, time of an item.

For each size a fresh process opens a paired data directory (wav.scp, spk1.scp, noise1.scp, utt2num_samples), then
forks workers that look up random utterances, as loaders of training data do. "private" is memory that a process shares
with no other (Private_* in /proc/self/smaps_rollup); "index" is 8 bytes for each line of each file, which workers share
with their parent. Linux only.
"""

import argparse
import ctypes
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NAMES = ("wav.scp", "spk1.scp", "noise1.scp")


def write_manifests(folder, n):
    """A data directory of ``n`` utterances without the audio, its lines as long as those of a real one."""
    folder.mkdir()
    for name in (*NAMES, "utt2num_samples"):
        with open(folder / name, "w", encoding="ascii") as f:
            for i in range(n):
                ark = f"dump/raw/train/ark/{name[:-4]}.{i // 128 + 1:06d}.ark:{i % 128 * 96100 + 40}"
                f.write(f"{i // 100:05d}-noisy{i:08d}_SNRdb_-3.00 {48000 + i % 7 if name[0] == 'u' else ark}\n")


def memory():
    """kB of this process: private, proportional set size (its share of shared pages), resident."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as f:
        fields = {line.split(":")[0]: int(line.split()[1]) for line in f if line.rstrip().endswith("kB")}
    return {"private": fields["Private_Clean"] + fields["Private_Dirty"], "pss": fields["Pss"], "rss": fields["Rss"]}


def work(data, items, seed):
    """Look up random utterances as a worker does; processor microseconds per item."""
    rng = random.Random(seed)
    begin = time.process_time()
    for _ in range(items):
        i = rng.randrange(len(data))
        data.check_item(i), data.noisy.value(i), data.clean.value(i), data.noise.value(i), data.num_samples[i]
    return (time.process_time() - begin) / items * 1e6


def measure(folder, workers, items):
    """Everything about one data directory, in this process and its children."""
    from senet.data.datadir import DataDir
    from senet.data.scp import Scp

    before, peak_before = memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clocks = [(time.perf_counter(), time.process_time())]
    Scp(folder / "wav.scp")
    clocks.append((time.perf_counter(), time.process_time()))
    data = DataDir(folder)
    data.num_samples  # noqa: B018 (a property that reads)
    clocks.append((time.perf_counter(), time.process_time()))
    scp_times, datadir_times = np.diff(clocks, axis=0)
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that malloc keeps for reuse is not the manifest's
    after, peak = memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipes = []
    gate_read, gate_write = os.pipe()
    for worker in range(workers):
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            os.close(gate_write)
            start = memory()
            us = work(data, items, worker)
            with os.fdopen(write_end, "w") as f:  # all workers are alive while each is measured
                json.dump({"us": us, "start": start, "end": memory()}, f)
            os.read(gate_read, 1)
            os._exit(0)
        os.close(write_end)
        pipes.append(read_end)
    results = []
    for pipe in pipes:
        with os.fdopen(pipe) as f:
            results.append(json.load(f))
    os.close(gate_write)
    for _ in pipes:
        os.wait()
    return {
        "utterances": len(data),
        "text_mb": sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        "open_scp_s": scp_times[0],
        "open_scp_cpu_s": scp_times[1],
        "open_datadir_s": datadir_times[0],
        "open_datadir_cpu_s": datadir_times[1],
        "index_mb": 8 * (len(NAMES) + 1) * len(data) / 1e6,
        "parent_private_mb": (after["private"] - before["private"]) / 1e3,
        "transient_peak_mb": (peak - peak_before) / 1e3,
        "worker_private_mb": max(r["end"]["private"] for r in results) / 1e3,
        "worker_pss_mb": max(r["end"]["pss"] for r in results) / 1e3,
        "worker_rss_mb": max(r["end"]["rss"] for r in results) / 1e3,
        "cpu_us_per_item": sorted(r["us"] for r in results)[len(results) // 2],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--items", type=int, default=20_000, help="utterances that each worker looks up")
    parser.add_argument("--dir", help="folder for the generated manifests, deleted afterwards")
    parser.add_argument("--json", help="write the figures to this file as well")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.workers, args.items)))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        for n in args.sizes:
            path = Path(folder) / str(n)
            write_manifests(path, n)
            command = [sys.executable, __file__, "--measure", path, "--workers", args.workers, "--items", args.items]
            rows.append(json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout))
    print(f"{args.workers} workers, {args.items} random utterances each; the worker with the most memory is shown")
    for name in rows[0]:
        style = "12,.0f" if name == "utterances" else "12.3f"
        print(f"{name:18s} " + " ".join(format(row[name], style) for row in rows))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
