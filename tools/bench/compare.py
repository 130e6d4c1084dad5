"""What a comparison of many utterances costs: time and memory of `senet compare`, and of a loop with scipy's bootstrap.

Simulated scores of a test set are written as stage score leaves them, and compared in a process of its own. The loop
does a part of that work: scipy.stats.bootstrap of each mean and each paired difference and wilcoxon, for scores that
are in memory already; no parts of the set, no files. It is run for some systems and metrics, from which its time for
all follows.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

METRICS = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "snr", "csig", "llr")
FORMATS = ("RESULTS.md", "results.csv", "results.json", "report.html")
RESAMPLES = 4000


def write_experiments(root, n, systems):
    """Folders of `systems` systems, noisy among them, with labels of 6 kinds and 1 % failures in one metric."""
    from senet import metrics
    from senet.data.scp import Scp, write_table
    from senet.files import write_json
    from senet.report.results import LABELS

    rng = np.random.default_rng(0)
    utts = [f"spk{i * 200 // n:04d}-utt{i:06d}" for i in range(n)]
    write_table(root / "keys", [(utt, "x") for utt in utts])
    labels = {
        "speaker": [utt[:7] for utt in utts],
        "snr": np.round(rng.uniform(-5, 20, n), 2),
        "noise": rng.choice(["Babble", "Bus", "Cafe", "Car", "Metro", "Office", "Street", "Typing"], n),
        "level": np.round(rng.uniform(-35, -15, n), 2),
        "rir": rng.choice([f"room{i}" for i in range(60)], n),
        "seconds": np.round(rng.uniform(1, 15, n), 3),
    }
    difficulty = rng.normal(0, 1, n)
    for i in range(systems):
        out = root / "exp" / (f"train_{i}" if i else "noisy") / "enhanced_test"
        scores = {m: np.round(2 + difficulty + 0.1 * i + rng.normal(0, 0.5, n), 4) for m in METRICS}
        scores[METRICS[0]][rng.random(n) < 0.01] = np.nan
        for name, values in scores.items():
            write_table(out / "scores" / name, zip(utts, map(repr, values.tolist()), strict=True))
        rows = zip(utts, *labels.values(), *(v.tolist() for v in scores.values()), strict=True)
        with open(out / "scores.csv", "w", encoding="utf-8") as f:
            f.write(",".join(["utt", *(LABELS.get(label, label) for label in labels), *scores]) + "\n")
            f.writelines(",".join(map(str, row)) + "\n" for row in rows)
        failed = {name: int(np.isnan(values).sum()) for name, values in scores.items()}
        summary = {
            "test_set": "test",
            "enhanced": str(out / "wav.scp"),
            "ref": str(root / "test"),
            "n": n,
            "utterances": Scp(root / "keys").keys_digest.hex(),
            "references": "0" * 64,
            "metric_order": METRICS,
            "metrics": {
                name: {
                    "mean": float(np.nanmean(values)),
                    "failed": failed[name],
                    "reasons": {"the estimate is silent": {"n": failed[name], "utts": []}} if failed[name] else {},
                    "version": metrics.find(name)[0].version,
                    "sha256": hashlib.sha256((out / "scores" / name).read_bytes()).hexdigest(),
                }
                for name, values in scores.items()
            },
        }
        write_json(out / "summary.json", summary)


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(root):
    """Run in a process of its own: `senet compare` as a user calls it."""
    from senet.bin import compare

    folders = sorted(str(p) for p in (root / "exp").iterdir())
    begin = time.perf_counter(), time.process_time()
    compare.main([*folders, "--out", *(str(root / name) for name in FORMATS), "--audio", "0"])
    seconds, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return {"seconds": seconds, "processor_seconds": processor, "peak_mb": peak_mb()}


def loop(root, columns):
    """Run in a process of its own: each mean and each paired difference with its interval and p by the loop."""
    from scipy import stats

    from senet.report.results import Result

    folders = sorted((root / "exp").iterdir())
    results = [Result(p / "enhanced_test") for p in folders]
    jobs = [(result, name) for name in METRICS for result in results][:columns]
    read = {job: job[0].scores(job[1])[1] for job in [*jobs, *((results[0], name) for name in METRICS)]}
    scores = [(read[result, name], read[results[0], name]) for result, name in jobs]
    begin = time.perf_counter(), time.process_time()
    for values, base in scores:
        for x in (values, values - base) if values is not base else (values,):
            x = x[np.isfinite(x)]
            options = {"method": "percentile", "n_resamples": RESAMPLES, "vectorized": True, "batch": 100, "rng": 0}
            stats.bootstrap((x,), np.mean, **options)
        if values is not base:
            stats.wilcoxon(x)
    seconds, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return {"columns": len(jobs), "seconds": seconds, "processor_seconds": processor, "peak_mb": peak_mb()}


def run(root, *words):
    command = [sys.executable, __file__, *map(str, words), "--measure", root]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 50_000], help="utterances")
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8, help="systems x metrics that the loop does of each set")
    parser.add_argument("--json", help="write the figures to this file as well")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(loop(args.measure, args.columns) if args.loop else compare(args.measure)))
        return
    rows = []
    for n in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_experiments(root, n, args.systems)
            ours, theirs = run(root), run(root, "--loop", "--columns", args.columns)
        whole = args.systems * len(METRICS) / theirs["columns"] * theirs["processor_seconds"]
        found = {"compare": ours, "loop": theirs, "loop_for_all_seconds": whole}
        rows.append({"utterances": n, **found, "ratio": whole / ours["processor_seconds"]})
    print(f"{args.systems} systems x {len(METRICS)} metrics, {RESAMPLES} resamples; seconds of processor time")
    print("| utterances | senet compare (s) | peak memory (MB) | loop (s) | its peak memory (MB) | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        ours, theirs = row["compare"], row["loop"]
        print(
            f"| {row['utterances']:,} | {ours['processor_seconds']:.1f} | {ours['peak_mb']:.0f} | "
            f"{row['loop_for_all_seconds']:.1f} | {theirs['peak_mb']:.0f} | {row['ratio']:.1f} |"
        )
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
