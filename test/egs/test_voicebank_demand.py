"""The recipe's lists of pairs and their formatting, on VoiceBank-DEMAND in miniature."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from senet.bin import mix
from senet.data import audio
from senet.data.scp import Scp, read_table

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "voicebank_demand"


def stage1(corpus, data, *words):
    """(exit status, output) of local/data.sh, run as se.sh does."""
    path = os.pathsep.join([str(ROOT / "utils"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", str(RECIPE / "local" / "data.sh"), "--corpus_dir", str(corpus), "--datadir", str(data), *words],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.fixture
def corpus(tmp_path):
    """Two pairs of each speaker, 48 kHz, as the archives unpack, one of them into a folder too many."""
    rng = np.random.default_rng(0)
    time = np.arange(36000) / 48000
    folders = {
        "trainset_28spk_wav": ("p226", "p227", "p287"),
        "testset_wav": ("p232", "p257"),
    }
    for part, speakers in folders.items():
        for speaker in speakers:
            for number in (1, 12):
                clean = 0.2 * np.sin(2 * np.pi * 440 * number * time) * (np.sin(2 * np.pi * 3 * time) > -0.5)
                for kind, x in (("clean", clean), ("noisy", clean + 0.02 * rng.standard_normal(len(clean)))):
                    nested = f"{kind}_{part}" if kind == "clean" else f"{kind}_{part}/{kind}_{part}"
                    path = tmp_path / "corpus" / nested / f"{speaker}_{number:03d}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, x, 48000, "PCM_16")
    return tmp_path / "corpus"


def test_sets_are_those_of_espnet_and_speechbrain(corpus, tmp_path):
    status, output = stage1(corpus, tmp_path / "data", "--counts", "any")
    assert status == 0, output
    speakers = {
        name: set(read_table(tmp_path / "data" / name / "utt2spk").values()) for name in ("tr_26spk", "cv_2spk")
    }
    assert speakers == {"tr_26spk": {"p227"}, "cv_2spk": {"p226", "p287"}}
    assert [utt for utt, _ in Scp(tmp_path / "data/tt_2spk/wav.scp")] == [
        "p232_001",
        "p232_012",
        "p257_001",
        "p257_012",
    ]


def test_pairs_are_formatted_at_16_kHz_with_labels_from_the_logs(corpus, tmp_path):
    log = "".join(f"{speaker}_{number} bus 2.5\n" for speaker in ("p232", "p257") for number in ("001", "012"))
    (corpus / "log_testset.txt").write_text(log)
    assert stage1(corpus, tmp_path / "data", "--counts", "any")[0] == 0
    out = tmp_path / "dump" / "tt_2spk"
    common = ["--config", str(RECIPE / "conf/mix_tt_2spk.yaml"), "--data", str(tmp_path / "data"), "--out", str(out)]
    assert mix.main([*common, "--sample_rate", "16000", "--nj", "1"]) in (None, 0)
    assert set(read_table(out / "utt2snr").values()) == {"2.5"}
    assert set(read_table(out / "utt2noise").values()) == {"bus"}
    scp = Scp(out / "wav.scp")
    x, rate = audio.read(scp.value(0), root=scp.root)
    assert (len(x), rate) == (12000, 16000)


def test_without_logs_the_snr_is_measured(corpus, tmp_path):
    assert stage1(corpus, tmp_path / "data", "--counts", "any")[0] == 0
    out = tmp_path / "dump" / "cv_2spk"
    common = ["--config", str(RECIPE / "conf/mix_cv_2spk.yaml"), "--data", str(tmp_path / "data"), "--out", str(out)]
    mix.main([*common, "--sample_rate", "16000", "--nj", "1"])
    noisy, clean = (Scp(out / name) for name in ("wav.scp", "spk1.scp"))
    (x, _), (s, _) = (audio.read(scp.value(0), root=scp.root) for scp in (noisy, clean))
    measured = 10 * np.log10(np.square(s).sum() / np.square(x - s).sum())
    assert float(read_table(out / "utt2snr")[noisy.key(0)]) == pytest.approx(measured, abs=0.01)


@pytest.mark.parametrize(
    "fault, message",
    [
        (lambda c: shutil.rmtree(c / "clean_testset_wav"), "no recordings in a folder 'clean_testset_wav'"),
        (lambda c: (c / "clean_testset_wav/p232_012.wav").unlink(), "has no 'p232_012' in clean_testset_wav"),
        (
            lambda c: soundfile.write(c / "clean_testset_wav/p232_012.wav", np.ones(35999) / 9, 48000),
            "36000 samples at 48000 Hz and 35999 samples at 48000 Hz",
        ),
        (
            lambda c: shutil.copytree(c / "clean_testset_wav", c / "again" / "clean_testset_wav"),
            "keep one copy of the corpus",
        ),
        (lambda c: (c / "log_testset.txt").write_text("p232_001 bus\n"), "log_testset.txt:1: 'p232_001 bus' is not"),
        (shutil.rmtree, "10.7488/ds/2117"),
    ],
)
def test_an_incomplete_corpus_is_refused(corpus, tmp_path, fault, message):
    fault(corpus)
    status, output = stage1(corpus, tmp_path / "data", "--counts", "any")
    assert status == 1
    assert message in output
    assert not (tmp_path / "data" / "tt_2spk" / "wav.scp").exists()


def test_a_part_of_the_corpus_is_refused_unless_asked_for(corpus, tmp_path):
    status, output = stage1(corpus, tmp_path / "data")
    assert status == 1
    assert "2 pairs for tr_26spk, expected 10802" in output
