"""How fast random 3 s crops are read: senet from an audio ark, soundfile from wav files, kaldiio from the ark.

The same crops of the same generated corpus are read each way, turn by turn, in one process, with all pages in memory.
"limit" is the work that cannot be avoided: reading the bytes of the crop from an open file and turning int16 into
float32. Target: senet takes at most 0.7 of soundfile's time.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import kaldiio
import numpy as np
import soundfile

from senet.data.audio import WavArkWriter, read_mono, write_wav
from senet.data.scp import Scp, read_ints, write_table

RATE = 16000


def make_corpus(folder, n, seconds, seed):
    """``n`` signals of random lengths around ``seconds``, as one ark and as wav files; returns the ark's scp."""
    rng = np.random.default_rng(seed)
    rows, lengths = [], []
    with WavArkWriter(folder / "noisy.ark") as ark:
        for i in range(n):
            key = f"spk{i % 10}-{i:06d}"
            length = int(RATE * seconds * rng.uniform(0.8, 1.2))
            x = (rng.standard_normal(length) * 3000).astype(np.int16)
            rows.append((key, ark.write(key, x, RATE)))
            lengths.append((key, length))
            write_wav(folder / f"{key}.wav", x, RATE)
    write_table(folder / "wav.scp", rows)
    write_table(folder / "utt2num_samples", lengths)
    return folder / "wav.scp"


def readers(folder, crop):
    """name -> function (line, start) -> float32 samples."""
    scp = Scp(folder / "wav.scp")
    lengths = read_ints(folder / "utt2num_samples")
    wavs = [str(folder / f"{key}.wav") for key, _ in scp]
    values = [value for _, value in scp]
    offsets = [int(value.rpartition(":")[2]) + 44 for value in values]
    ark = os.open(folder / "noisy.ark", os.O_RDONLY)

    def senet(i, start):
        return read_mono(scp.value(i), start, crop, root=scp.root, num_samples=int(lengths[i]), sample_rate=RATE)

    def soundfile_wav(i, start):
        return soundfile.read(wavs[i], crop, start, dtype="float32")[0]

    def kaldiio_ark(i, start):
        return kaldiio.load_mat(values[i])[1][start : start + crop].astype(np.float32) / 32768

    def limit(i, start):
        stored = np.frombuffer(os.pread(ark, 2 * crop, offsets[i] + 2 * start), "<i2")
        return stored.astype(np.float32) * np.float32(1 / 32768)

    return {"senet ark": senet, "soundfile wav": soundfile_wav, "kaldiio ark": kaldiio_ark, "limit": limit}, lengths


def measure(folder, crop, n_crops, repetitions, seed):
    """name -> median microseconds per crop; also verifies that all read the same samples."""
    ways, lengths = readers(folder, crop)
    rng = np.random.default_rng(seed)
    lines = rng.permutation(len(lengths)).repeat(-(-n_crops // len(lengths)))[:n_crops]
    rng.shuffle(lines)
    crops = [(int(i), int(rng.integers(0, lengths[i] - crop + 1))) for i in lines]
    for i, start in crops[:50]:
        first, *others = (way(i, start) for way in ways.values())
        assert all(np.array_equal(first, other) for other in others), "the readers disagree"
    times = {name: [] for name in ways}
    for _ in range(repetitions + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            for i, start in crops:
                way(i, start)
            times[name].append((time.perf_counter() - begin) / len(crops) * 1e6)
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first round warms up


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10, help="mean length of a file")
    parser.add_argument("--crop_seconds", type=float, default=3)
    parser.add_argument("--crops", type=int, default=1000, help="per repetition")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--dir", help="folder for the generated corpus, deleted afterwards")
    parser.add_argument("--json", help="write the figures to this file as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        make_corpus(Path(folder), args.files, args.seconds, seed=0)
        times = measure(Path(folder), round(RATE * args.crop_seconds), args.crops, args.repetitions, seed=1)
    print(f"{args.files} files of about {args.seconds:g} s, crops of {args.crop_seconds:g} s, {RATE} Hz")
    for name, value in times.items():
        print(f"{name:14s} {value:8.1f} us per crop   senet takes {times['senet ark'] / value:5.2f} of it")
    if args.json:
        Path(args.json).write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
