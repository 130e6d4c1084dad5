"""Batches for training on spectra: from audio, transformed in the training process, or from stored spectra.

One generated set, the same batches, turn by turn in one run, one thread; the figures are medians. "raw" reads int16
crops and computes the STFT of noisy and clean as a model does; "stft" reads what stage 3 stored. "warm" has the files
in the page cache, "cold" has them dropped before each epoch, which is what a corpus larger than memory gives.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from senet.bin.feats import main as feats
from senet.data.audio import WavArkWriter
from senet.data.dataset import Batches
from senet.data.scp import write_table
from senet.dsp.stft import STFT

RATE = 16000


def make_set(folder, n, seconds):
    """``n`` utterances of noise, as stage 2 packs them."""
    rng = np.random.default_rng(0)
    utts = [f"spk-{i:06d}" for i in range(n)]
    for name, scp in (("noisy", "wav.scp"), ("clean", "spk1.scp")):
        with WavArkWriter(folder / "ark" / f"{name}.ark") as ark:
            samples = (rng.standard_normal((n, round(seconds * RATE))) * 3000).astype(np.int16)
            write_table(folder / scp, [(utt, ark.write(utt, x, RATE)) for utt, x in zip(utts, samples, strict=True)])
    write_table(folder / "utt2num_samples", [(utt, samples.shape[1]) for utt in utts])
    write_table(folder / "utt2spk", [(utt, "spk") for utt in utts])


def arks(folder):
    return list((folder / "ark").glob("*.ark"))


def drop_from_cache(folder):
    for path in arks(folder):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def epoch_from_raw(batches, stft, epoch, workers):
    for batch in batches.loader(epoch, num_workers=workers):
        noisy, clean = stft(batch["noisy"]), stft(batch["clean"])
    return noisy, clean


def epoch_from_stored(batches, _, epoch, workers):
    for batch in batches.loader(epoch, num_workers=workers):
        noisy, clean = batch["noisy_stft"], batch["clean_stft"]
    return noisy, clean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--utterances", type=int, default=160, help="in the set")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each")
    parser.add_argument("--crop_seconds", type=float, default=3.0, help="used of each")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances per batch")
    parser.add_argument("--num_workers", type=int, default=0, help="processes that read; 0: the training process")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each kind, in turn")
    args = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        raw, stored = Path(folder) / "raw", Path(folder) / "stft"
        make_set(raw, args.utterances, args.seconds)
        feats(["--feats_type", "stft", "--src", str(raw), "--out", str(stored)])
        common = {"batch_size": args.batch_size, "crop_seconds": args.crop_seconds, "sample_rate": RATE, "seed": 0}
        kinds = {
            "raw": (raw, Batches(raw, **common), epoch_from_raw),
            "stft": (stored, Batches(stored, feats=stored, **common), epoch_from_stored),
        }
        stft, seconds = STFT(), {(kind, cache): [] for kind in kinds for cache in ("warm", "cold")}
        for epoch in range(args.rounds):
            for kind, (where, batches, run) in kinds.items():
                for cache in ("warm", "cold"):
                    run(batches, stft, epoch, 0)  # brings this epoch's crops into the cache
                    if cache == "cold":
                        drop_from_cache(where)
                    start = time.perf_counter()
                    run(batches, stft, epoch, args.num_workers)
                    seconds[kind, cache].append(time.perf_counter() - start)
        speed = {key: args.utterances / statistics.median(values) for key, values in seconds.items()}
        sizes = {kind: sum(path.stat().st_size for path in arks(where)) for kind, (where, *_) in kinds.items()}

    for cache in ("warm", "cold"):
        ratio = speed["stft", cache] / speed["raw", cache]
        faster = f"stft {ratio:.2f} times as fast as raw" if ratio > 1 else f"raw {1 / ratio:.2f} times as fast as stft"
        print(f"{cache}: raw {speed['raw', cache]:.0f} items/s, stft {speed['stft', cache]:.0f} items/s: {faster}")
    more = sizes["stft"] / sizes["raw"]
    print(f"disk: raw {sizes['raw'] / 1e6:.1f} MB, stft {sizes['stft'] / 1e6:.1f} MB: {more:.1f} times as much")
    figures = {f"{kind}_{cache}_items_per_second": round(value, 1) for (kind, cache), value in speed.items()}
    print(json.dumps({**vars(args), **figures, **{f"{kind}_bytes": size for kind, size in sizes.items()}}))


if __name__ == "__main__":
    main()
