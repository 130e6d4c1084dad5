import shutil

import numpy as np
import pytest

from senet.data.audio import WavArkWriter, write_wav
from senet.data.scp import read_table, spk2utt, write_table
from senet.data.validate import validate

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


SPEAKERS = {"a": 4, "a-b": 3, "c": 5}  # utterances; 'a-b' sorts between 'a' and 'c', and so do its utterances


def _make_set(folder, prefix=""):
    """A paired set of 12 utterances with all kinds of manifests, as wav files; the features are only claimed."""
    rng = np.random.default_rng(0)
    rows = {name: [] for name in ("wav.scp", "spk1.scp", "noise1.scp", "feats.scp", "spk1_feats.scp", "utt2spk")}
    rows |= {"utt2num_samples": [], "utt2snr": []}
    for spk, count in SPEAKERS.items():
        for i in range(count):
            utt, n = f"{prefix}{spk}-{i:03d}", 4000 - 100 * i
            clean, noise = 0.1 * rng.standard_normal((2, n))
            for name, x in {"wav": clean + noise, "spk1": clean, "noise1": noise}.items():
                write_wav(folder / name / f"{utt}.wav", x, 16000)
                rows[f"{name}.scp"].append((utt, f"{folder}/{name}/{utt}.wav"))
            rows["feats.scp"].append((utt, f"{folder}/feats.ark:{i}"))
            rows["spk1_feats.scp"].append((utt, f"{folder}/spk1_feats.ark:{i}"))
            rows["utt2spk"].append((utt, prefix + spk))
            rows["utt2num_samples"].append((utt, n))
            rows["utt2snr"].append((utt, -3.0 + i))
    for name, table in rows.items():
        write_table(folder / name, table)
    write_table(folder / "spk2utt", spk2utt(sorted(rows["utt2spk"])))
    write_table(folder / "spk2gender", [(prefix + spk, "f") for spk in SPEAKERS])
    (folder / "frame_shift").write_text("0.01\n")
    return folder


@pytest.fixture(scope="session")
def make_set():
    """``make_set(folder, prefix="")`` makes a paired set of 12 utterances of three speakers, with all manifests."""
    return _make_set


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The folder of such a set, shared by all tests."""
    return _make_set(tmp_path_factory.mktemp("original") / "train")


@pytest.fixture
def paired(original, tmp_path):
    """A copy of its manifests that a test may spoil; the audio is that of ``original``."""
    folder = tmp_path / "train"
    folder.mkdir()
    for path in original.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def edit():
    """``edit(path, change)`` rewrites a file; ``change(lines)`` changes the list of its lines in place."""

    def rewrite(path, change):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        change(lines)
        path.write_text("".join(lines), encoding="utf-8", newline="")

    return rewrite


@pytest.fixture(scope="session")
def utts():
    """``utts(folder)``: the ids of a set, after a look whether every file has them."""

    def listed(folder):
        report = validate(folder)
        assert not report.problems, [str(problem) for problem in report.problems]
        return list(read_table(folder / "utt2spk"))

    return listed
