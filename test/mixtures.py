"""Small source sets, streams of mixtures of them made on the fly, and how streams are compared."""

from pathlib import Path

import numpy as np
import torch

from senet.bin import mix
from senet.data import mixture_set
from senet.data.audio import write_wav
from senet.data.online import Mixtures
from senet.data.scp import write_table

RATE = 16000


def make_sources(root, rirs=3):
    """Source sets ``speech`` (some recordings shorter than a second), ``noise`` and ``rir`` below ``root``."""
    rng = np.random.default_rng(0)
    signals = {"speech": [], "noise": [], "rir": []}
    for i in range(10):
        n = 6000 + 4000 * i
        bursts = np.sin(2 * np.pi * 3 * np.arange(n) / RATE + i) > -0.3
        signals["speech"].append(0.1 * bursts * np.convolve(rng.standard_normal(n), np.ones(8) / 2, "same"))
    signals["noise"] = [0.05 * rng.standard_normal(20000 + 3000 * i) for i in range(5)]
    for i in range(rirs):
        n = 2000 + 1500 * i
        signals["rir"].append(0.1 * np.exp(-np.arange(n) / 800) * rng.standard_normal(n))
        signals["rir"][-1][30 + i] = 0.8
    for kind, found in signals.items():
        rows = [(f"{kind}{i % 3}-{i:02d}", x) for i, x in enumerate(found)]
        write_source_set(root / kind, sorted(rows, key=lambda row: row[0]))
    return root


def write_source_set(folder, rows, rate=RATE):
    """A source set of (id, samples)."""
    for key, x in rows:
        write_wav(folder / "wav" / f"{key}.wav", x, rate)
    write_table(folder / "wav.scp", [(key, folder / "wav" / f"{key}.wav") for key, _ in rows])
    write_table(folder / "utt2spk", [(key, key.split("-")[0]) for key, _ in rows])
    write_table(folder / "utt2num_samples", [(key, len(x)) for key, x in rows])
    write_table(folder / "utt2fs", [(key, rate) for key, _ in rows])
    write_table(folder / "utt2fingerprint", [(key, f"{len(x):x}") for key, x in rows])


def stream(data, *words, number=24, on_device=False, crop_seconds=None, **options):
    """Mixtures of the sources below ``data``; ``words`` are options of senet.bin.mix."""
    sets = ["--data", str(data), "--speech", "speech", "--noise", "noise", "--out", "online"]
    policy, mixer = mixture_set.open_mixer(mix.get_parser().parse([*sets, *words]))
    return Mixtures(
        Path("conf/mix_train.yaml"),
        policy,
        mixer,
        number=number,
        on_device=on_device,
        crop_seconds=crop_seconds,
        **{"batch_size": 5, "seed": 3} | options,
    )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) if torch.is_tensor(v) else v == b[k] for k, v in a.items())


def same_stream(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    return len(ours) == len(theirs) > 0 and all(same(a, b) for a, b in zip(ours, theirs, strict=True))
