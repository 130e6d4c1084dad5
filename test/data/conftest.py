import numpy as np
import pytest

from senet.data.audio import WavArkWriter
from senet.data.scp import spk2utt, write_table

FILES = {"noisy": "wav.scp", "clean": "spk1.scp", "noise": "noise1.scp"}


@pytest.fixture
def pack():
    """Make a packed set: ``pack(folder, lengths)`` -> name -> list of float32 signals, in the order of the ids."""

    def make(folder, lengths, sample_rate=16000, signals=("noisy", "clean", "noise"), seed=0):
        utts = [f"spk{i % 3}-utt{i:04d}" for i in range(len(lengths))]
        order = sorted(range(len(utts)), key=utts.__getitem__)
        utts, lengths = [utts[i] for i in order], [lengths[i] for i in order]
        rng = np.random.default_rng(seed)
        clean, noise = ([0.1 * rng.standard_normal(n) for n in lengths] for _ in range(2))
        audio = {"noisy": [c + n for c, n in zip(clean, noise, strict=True)], "clean": clean, "noise": noise}
        stored = {}
        for name in signals:
            stored[name] = [(np.rint(x * 32768) / 32768).astype(np.float32) for x in audio[name]]
            with WavArkWriter(folder / "ark" / f"{name}.ark") as ark:
                values = [ark.write(utt, x, sample_rate) for utt, x in zip(utts, stored[name], strict=True)]
            write_table(folder / FILES[name], zip(utts, values, strict=True))
        utt2spk = [(utt, utt.split("-")[0]) for utt in utts]
        write_table(folder / "utt2num_samples", zip(utts, lengths, strict=True))
        write_table(folder / "utt2spk", utt2spk)
        write_table(folder / "spk2utt", spk2utt(utt2spk))
        return stored

    return make
