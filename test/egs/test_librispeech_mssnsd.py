"""The recipe's own scripts and mixing set-ups, on LibriSpeech and MS-SNSD in miniature."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import soundfile

from senet.bin import mix
from senet.data.scp import Scp, read_ints, read_table

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "librispeech_mssnsd"
CONFIGS = sorted((RECIPE / "conf").glob("mix_*.yaml"))


def script(name, *words, cwd=RECIPE):
    """Run one of the recipe's scripts as se.sh does; (exit status, output of both kinds)."""
    path = os.pathsep.join([str(ROOT / "utils"), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable if name.endswith(".py") else "bash", str(RECIPE / "local" / name), *map(str, words)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def places(miniature):
    return [
        word
        for kind in ("clean", "noise")
        for part in ("train", "test")
        for word in (f"--{kind}_{part}_path", miniature / f"{kind}_{part}")
    ]


@pytest.fixture(scope="module")
def data(miniature, tmp_path_factory):
    """The six source sets that stage 1 makes, and what it printed."""
    folder = tmp_path_factory.mktemp("stage1") / "data"
    status, output = script("data.sh", "--datadir", folder, *places(miniature))
    assert status == 0, output
    return folder, output


@pytest.fixture(scope="module")
def train(data, tmp_path_factory):
    """A small training set by conf/mix_train.yaml."""
    out = tmp_path_factory.mktemp("dump") / "raw" / "train"
    mix.main(
        [
            "--config",
            str(RECIPE / "conf" / "mix_train.yaml"),
            "--data",
            str(data[0]),
            "--out",
            str(out),
            "--num_clips",
            "12",
        ]
    )
    return out


def test_stage_1_makes_the_six_sets_and_they_share_nothing(data):
    folder, output = data
    sets = {
        f"{kind}_{part}": folder / f"{kind}_{part}"
        for kind in ("speech", "noise")
        for part in ("train", "valid", "test")
    }
    sizes = {name: len(set(read_table(path / "utt2spk").values())) for name, path in sets.items()}
    assert [sizes[f"speech_{part}"] for part in ("train", "valid", "test")] == [6, 2, 2]
    for kind in ("speech", "noise"):
        tables = ["utt2fingerprint", "utt2recording"] + ["utt2spk"] * (kind == "speech")
        for table in tables:
            values = [set(read_table(sets[f"{kind}_{part}"] / table).values()) for part in ("train", "valid")]
            if table != "utt2recording":  # ids are the same in MS-SNSD's two folders
                values.append(set(read_table(sets[f"{kind}_test"] / table).values()))
            assert sum(map(len, values)) == len(set().union(*values)), (kind, table)
    assert "Babble_2.wav: equal content is in" in output
    assert sum(len(Scp(sets[f"noise_{part}"] / "wav.scp")) for part in ("train", "valid")) == 14


def test_test_sets_alone_need_no_training_corpora(miniature, tmp_path):
    words = [*places(miniature)[2:4], *places(miniature)[6:], "--sets", "speech_test noise_test"]
    status, output = script("data.sh", "--datadir", tmp_path / "data", *words, cwd=tmp_path)
    assert status == 0, output
    assert sorted(p.name for p in (tmp_path / "data").iterdir() if p.name[0] != ".") == ["noise_test", "speech_test"]


def test_missing_corpora_are_explained_all_at_once(miniature, tmp_path):
    status, output = script("data.sh", *places(miniature)[:4], cwd=tmp_path)
    assert status == 1
    assert "--noise_train_path downloads/MS-SNSD/noise_train" in output and "--noise_test_path" in output
    for text in ("openslr.org/12", "<speaker>/<chapter>", "microsoft/MS-SNSD", "local/download.sh --download true"):
        assert text in output
    assert "--clean_train_path downloads" not in output
    assert not (tmp_path / "data").exists()


def test_broken_recording_stops_stage_1_or_is_left_out(miniature, tmp_path):
    shutil.copytree(miniature / "noise_train", tmp_path / "noise_train")
    (tmp_path / "noise_train" / "Typing_9.wav").write_bytes(b"RIFF")
    words = [*places(miniature), "--datadir", tmp_path / "data", "--noise_train_path", tmp_path / "noise_train"]
    status, output = script("data.sh", *words)
    assert status == 1 and "Typing_9.wav" in output and "--bad_audio skip" in output
    status, output = script("data.sh", *words, "--bad_audio", "skip")
    assert status == 0 and "left out 1 unreadable files" in output, output


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_each_set_up_mixes_what_it_says(config, data, tmp_path):
    out = tmp_path / config.stem.removeprefix("mix_")
    mix.main(["--config", str(config), "--data", str(data[0]), "--out", str(out), "--num_clips", "10"])
    snrs = {float(snr) for snr in read_table(out / "utt2snr").values()}
    lengths = read_ints(out / "utt2num_samples")
    assert len(lengths) == 10
    if config.stem.endswith("snsd"):
        assert snrs == {0.0, 5.0, 10.0, 15.0, 20.0}
        assert (lengths > 160000).all()
    else:
        assert snrs <= set(map(float, range(-6, 10)))
        assert (lengths == 48000).all()
    own = {
        kind: set(read_table(data[0] / f"{kind}_{out.name.removesuffix('_snsd')}" / "utt2spk"))
        for kind in ("speech", "noise")
    }
    lines = (out / "plan.tsv").read_text().splitlines()[2:]
    for column, kind in ((2, "speech"), (3, "noise")):
        parts = [part for line in lines for part in line.split("\t")[column].split(",") if part[0] != "~"]
        assert {part.split("@")[0] for part in parts} <= own[kind]


def test_sizes_are_those_of_the_cited_repository(capsys, tmp_path):
    for name, hours in (("train", "8.33 h"), ("test", "0.83 h")):
        mix.main(["--config", str(RECIPE / "conf" / f"mix_{name}.yaml"), "--out", str(tmp_path / name), "--dry_run"])
        assert hours in capsys.readouterr().out


def test_export_has_the_repositorys_names_and_samples(train, tmp_path):
    status, output = script("export_wav.py", "--set", train, "--out", tmp_path, "--stft")
    assert status == 0, output
    snr = read_table(train / "utt2snr")
    for utt, value in snr.items():
        i = int(utt.split("noisy")[1].split("_")[0])
        noisy, rate = soundfile.read(
            tmp_path / "NoisySpeech_training" / f"noisy{i}_SNRdb_{value}_clnsp{i}.wav", dtype="int16"
        )
        clean, _ = soundfile.read(tmp_path / "CleanSpeech_training" / f"clnsp{i}.wav", dtype="int16")
        noise, _ = soundfile.read(tmp_path / "Noise_training" / f"noisy{i}_SNRdb_{value}.wav", dtype="int16")
        assert rate == 16000
        assert np.array_equal(noisy.astype(int), clean.astype(int) + noise)
        spectra = scipy.io.loadmat(tmp_path / "Training_STFT" / f"noisy{i}_SNRdb_{value}_clnsp{i}.mat")
        found = [spectra[f"{name}_stft"] for name in ("noisy", "clean", "noise")]
        assert all(x.shape == (257, 301) and np.iscomplexobj(x) for x in found)
        assert np.abs(found[0] - found[1] - found[2]).max() < 1e-4
        # Frame 100 by hand: 400 samples around sample 16000, Hann (periodic), in the middle of 512.
        frame = np.zeros(512)
        frame[56:456] = noisy[15800:16200] / 32768 * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
        expected = np.fft.rfft(frame)
        np.testing.assert_allclose(np.abs(found[0][:, 100]), np.abs(expected), atol=1e-4)
    assert len(list((tmp_path / "CleanSpeech_training").iterdir())) == 12


def test_joined_clips_share_their_clean_file_and_print_the_snr_plainly(data, tmp_path):
    config = RECIPE / "conf" / "mix_test_snsd.yaml"
    mix.main(
        ["--config", str(config), "--data", str(data[0]), "--out", str(tmp_path / "test_snsd"), "--num_clips", "10"]
    )
    status, output = script("export_wav.py", "--set", tmp_path / "test_snsd", "--out", tmp_path / "wav")
    assert status == 0, output
    assert sorted(path.name for path in (tmp_path / "wav" / "CleanSpeech_testing").iterdir()) == [
        "clnsp1.wav",
        "clnsp2.wav",
    ]
    names = {path.name for path in (tmp_path / "wav" / "NoisySpeech_testing").iterdir()}
    assert {"noisy1_SNRdb_5.0_clnsp1.wav", "noisy2_SNRdb_20.0_clnsp2.wav"} <= names
    assert len(names) == 10


@pytest.fixture
def server(tmp_path):
    """A folder that stands for the two servers: an archive with its list, and a git repository."""
    site = tmp_path / "site"
    (site / "LibriSpeech" / "test-clean" / "61").mkdir(parents=True)
    (site / "LibriSpeech" / "test-clean" / "61" / "a.flac").write_bytes(os.urandom(50000))
    with tarfile.open(site / "test-clean.tar.gz", "w:gz") as archive:
        archive.add(site / "LibriSpeech", "LibriSpeech")
    write_list(site, hashlib.sha256((site / "test-clean.tar.gz").read_bytes()).hexdigest())
    (site / "noise" / "noise_train").mkdir(parents=True)
    (site / "noise" / "noise_train" / "Babble_1.wav").write_bytes(b"x")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(site / "noise")]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    return site


def write_list(site, digest):
    item = f"{{file: test-clean.tar.gz, sha256: '{digest}'}}"
    (site / "archives.yaml").write_text(f"parts: {{test-clean: {{archives: [{item}]}}}}")


def download(site, tmp_path):
    return script(
        "download.sh", "--download", "true", "--downloads", tmp_path / "downloads", "--part", "test-clean",
        "--url", f"file://{site}", "--mssnsd_url", f"file://{site}/noise", "--archives", site / "archives.yaml",
    )  # fmt: skip


def test_nothing_is_downloaded_unasked(tmp_path):
    status, output = script("download.sh", "--downloads", tmp_path / "downloads")
    assert status == 0 and "nothing is fetched without '--download true'" in output
    assert "train-clean-360" in output and "23.05 GB to transfer" in output
    assert not (tmp_path / "downloads").exists()


def test_download_goes_on_where_it_was_interrupted(server, tmp_path):
    archive = (server / "test-clean.tar.gz").read_bytes()
    downloads = tmp_path / "downloads"
    for there in (len(archive) // 2, len(archive)):
        shutil.rmtree(downloads, ignore_errors=True)
        downloads.mkdir()
        (downloads / "test-clean.tar.gz.part").write_bytes(archive[:there])
        status, output = download(server, tmp_path)
        assert status == 0, output
        assert (downloads / "LibriSpeech" / "test-clean" / "61" / "a.flac").stat().st_size == 50000
        assert (downloads / "MS-SNSD" / "noise_train" / "Babble_1.wav").exists()
        assert [path.name for path in downloads.iterdir() if path.is_file()] == []
    status, output = download(server, tmp_path)
    assert status == 0 and "test-clean is there" in output and "fetching" not in output


def test_download_of_another_content_is_refused(server, tmp_path):
    write_list(server, "0" * 64)
    status, output = download(server, tmp_path)
    assert status == 1 and "test-clean.tar.gz: its sha256 sum is" in output
    assert not (tmp_path / "downloads" / "LibriSpeech").exists()


def test_download_that_fails_says_so(server, tmp_path):
    (server / "test-clean.tar.gz").unlink()
    status, output = download(server, tmp_path)
    assert status == 1 and "test-clean.tar.gz: the transfer did not finish" in output
