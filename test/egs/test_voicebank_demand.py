"""The recipe on VoiceBank-DEMAND in miniature, with the corpus's folders and names: from a server to the table."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from senet.bin import mix
from senet.data.scp import Scp, read_ints, read_table
from senet.report.published import read_published

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "voicebank_demand"
SPEAKERS = {"trainset_28spk": ("p226", "p227", "p243", "p287"), "testset": ("p232", "p257")}
NUMBERS = (1, 12)  # not contiguous
SETS = {"tr_26spk": ("p227", "p243"), "cv_2spk": ("p226", "p287"), "tt_2spk": ("p232", "p257")}


def voice(rng, n, rate):
    """Harmonics in bursts and a little noise: enough of a voice for PESQ and for linear prediction."""
    time = np.arange(n) / rate
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 1.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 30))
    return 0.1 * harmonics * (np.sin(2 * np.pi * 2 * time) > -0.5) + 0.003 * rng.standard_normal(n)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The unpacked archives as the server's zips have them, 48 kHz; the noisy testset has a folder more and what a Mac
    leaves behind. Do not change it: the tests share it."""
    root = tmp_path_factory.mktemp("archives")
    rng = np.random.default_rng(0)
    for part, speakers in SPEAKERS.items():
        for speaker in speakers:
            for number in NUMBERS:
                n = 72000 + 48 * number + 1
                clean = voice(rng, n, 48000)
                for kind, x in (("clean", clean), ("noisy", clean + 0.02 * rng.standard_normal(n))):
                    name = f"{kind}_{part}_wav"
                    folder = root / name / name / name if name == "noisy_testset_wav" else root / name / name
                    folder.mkdir(parents=True, exist_ok=True)
                    soundfile.write(folder / f"{speaker}_{number:03d}.wav", x, 48000, "PCM_16")
    mac = root / "noisy_testset_wav" / "__MACOSX" / "noisy_testset_wav"
    mac.mkdir(parents=True)
    (mac / "._p232_001.wav").write_bytes(b"no audio")
    (root / "logfiles").mkdir()
    for part, speakers in SPEAKERS.items():
        lines = [f"{spk}_{number:03d} bus {2.5 * number}\n" for spk in speakers for number in NUMBERS]
        (root / "logfiles" / f"log_{part}.txt").write_text("".join(lines))
    return root


@pytest.fixture
def corpus(archives, tmp_path):
    """A copy of the four archives that a test may spoil, without the log files."""
    for folder in archives.glob("*_wav"):
        shutil.copytree(folder, tmp_path / "corpus", dirs_exist_ok=True)
    return tmp_path / "corpus"


def run(command, cwd, **variables):
    """(exit status, output of both kinds) of a bash script."""
    path = os.pathsep.join([str(ROOT / "utils"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", *map(str, command)],
        cwd=cwd,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C", "SENET_ROOT": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout


def stage1(corpus, data, *words, counts="any", **variables):
    place = ["--corpus_dir", corpus] if corpus else []
    command = [RECIPE / "local" / "data.sh", *place, "--datadir", data, "--counts", counts, *words]
    return run(command, data.parent, **variables)


def stage2(data, name):
    out = data.parent / "dump" / name
    words = ["--config", RECIPE / "conf" / f"mix_{name}.yaml", "--data", data, "--out", out, "--nj", "1"]
    mix.main([*map(str, words), "--sample_rate", "16000"])
    return out


def test_sets_are_those_of_espnet_and_speechbrain(corpus, tmp_path):
    status, output = stage1(None, tmp_path / "data", VOICEBANK_DEMAND=str(corpus))
    assert status == 0, output
    for name, speakers in SETS.items():
        utts = [utt for utt, _ in Scp(tmp_path / "data" / name / "wav.scp")]
        assert utts == [f"{spk}_{number:03d}" for spk in speakers for number in NUMBERS]
        assert [utt for utt, _ in Scp(tmp_path / "data" / name / "spk1.scp")] == utts
        assert set(read_table(tmp_path / "data" / name / "utt2spk").values()) == set(speakers)
    assert re.search(r"tt_2spk: 4 pairs of 2 speakers, 0.00 h; 4 at 48000 Hz; labels: estimated", output)


def test_pairs_are_formatted_at_16_kHz_with_labels_from_the_logs(archives, corpus, tmp_path):
    shutil.copytree(archives / "logfiles", corpus / "logfiles")
    assert stage1(corpus, tmp_path / "data")[0] == 0
    out = stage2(tmp_path / "data", "tt_2spk")
    assert read_table(out / "utt2snr") == {
        f"{spk}_{number:03d}": f"{2.5 * number}" for spk in SETS["tt_2spk"] for number in NUMBERS
    }
    assert set(read_table(out / "utt2noise").values()) == {"bus"}
    assert not (out / "utt2snr_estimated").exists() and not (out / "utt2noise_estimated").exists()
    assert read_ints(out / "utt2num_samples").tolist() == [-(-(72000 + 48 * n + 1) // 3) for n in NUMBERS] * 2
    assert "| tt_2spk | 4 | 2 | 0.00 | 4 at 48000 Hz | log file |" in (tmp_path / "data" / "data_card.md").read_text()


def test_without_logs_noise_and_snr_are_estimated_and_say_so(corpus, tmp_path):
    assert stage1(corpus, tmp_path / "data")[0] == 0
    out = stage2(tmp_path / "data", "cv_2spk")
    assert not (out / "utt2snr").exists() and not (out / "utt2noise").exists()
    estimated = [float(snr) for snr in read_table(out / "utt2snr_estimated").values()]
    assert len(estimated) == 4 and all(10 < snr < 25 for snr in estimated)
    assert set(read_table(out / "utt2noise_estimated").values()) <= {f"noise{i}" for i in range(1, 11)}
    assert "utt2noise_estimated" in (tmp_path / "data" / "data_card.md").read_text()


def test_the_test_set_alone_needs_no_training_archives(corpus, tmp_path):
    for folder in corpus.glob("*_trainset_28spk_wav"):
        shutil.rmtree(folder)
    assert "no recordings in a folder 'clean_trainset_28spk_wav'" in stage1(corpus, tmp_path / "data")[1]
    status, output = stage1(corpus, tmp_path / "data", "--sets", " tt_2spk ")
    assert status == 0, output
    assert [p.name for p in (tmp_path / "data").iterdir() if p.is_dir()] == ["tt_2spk"]
    assert (
        "there is no 'test'; there are tr_26spk, cv_2spk, tt_2spk"
        in stage1(corpus, tmp_path / "x", "--sets", "test")[1]
    )


def test_a_log_that_lacks_utterances_is_not_used_and_named(archives, corpus, tmp_path):
    log = (archives / "logfiles" / "log_testset.txt").read_text().splitlines(keepends=True)
    (corpus / "log_testset.txt").write_text("".join(log[1:]))
    status, output = stage1(corpus, tmp_path / "data")
    assert status == 0 and "tt_2spk: the log names 3 of 4 utterances, so it is not used" in output
    assert not (tmp_path / "data" / "tt_2spk" / "utt2snr").exists()


def test_logs_are_found_where_links_lead_may_be_there_twice_and_end_in_blank_lines(archives, corpus, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    log = (archives / "logfiles" / "log_testset.txt").read_text()
    (tmp_path / "elsewhere" / "log_testset.txt").write_text(log + "\n\n")
    (corpus / "logfiles").symlink_to(tmp_path / "elsewhere")
    (corpus / "log_testset.txt").write_text(log)
    (corpus / "round").symlink_to(corpus)
    status, output = stage1(corpus, tmp_path / "data")
    assert status == 0, output
    assert set(read_table(tmp_path / "data" / "tt_2spk" / "utt2noise").values()) == {"bus"}


def resampled(corpus, rate, channels=1):
    from senet.dsp.resample import resample

    for path in corpus.rglob("p*.wav"):
        x = resample(soundfile.read(path)[0], 48000, rate)
        soundfile.write(path, np.stack([x] * channels, 1), rate)


def test_copies_at_16_kHz_are_taken_and_written_down(corpus, tmp_path):
    resampled(corpus, 16000)
    status, output = stage1(corpus, tmp_path / "data")
    assert status == 0 and "copies at 16 kHz instead of the corpus's 48 kHz" in output
    card = (tmp_path / "data" / "data_card.md").read_text()
    assert "| cv_2spk | 4 | 2 | 0.00 | 4 at 16000 Hz | estimated |" in card
    assert "tr_26spk, cv_2spk, tt_2spk: copies at 16 kHz" in card
    from senet.data import audio

    source, scp = Scp(tmp_path / "data/tt_2spk/wav.scp"), Scp(stage2(tmp_path / "data", "tt_2spk") / "wav.scp")
    for utt, value in source:
        assert np.array_equal(audio.read(scp[utt], root=scp.root)[0], audio.read(value)[0])


@pytest.mark.parametrize("rate, channels", [(8000, 1), (44100, 1), (48000, 2)])
def test_other_rates_and_channels_are_refused(corpus, tmp_path, rate, channels):
    resampled(corpus, rate, channels)
    status, output = stage1(corpus, tmp_path / "data")
    assert status == 1 and f"{channels} channels at {rate} Hz; expected 1 at 48000 Hz" in output


CLEAN = "clean_testset_wav/p232_012.wav"


@pytest.mark.parametrize(
    "fault, message",
    [
        (
            lambda c: shutil.rmtree(c / "clean_testset_wav"),
            "no recordings in a folder 'clean_testset_wav', at any depth (found: clean_trainset_28spk_wav 8, "
            "noisy_trainset_28spk_wav 8, clean_testset_wav 0, noisy_testset_wav 4)",
        ),
        (lambda c: (c / CLEAN).unlink(), "has no 'p232_012' in clean_testset_wav (3 clean files, 4 noisy ones)"),
        (
            lambda c: (c / CLEAN).write_bytes((c / CLEAN).read_bytes()[:50000]),
            "p232_012.wav: its header claims 145154 bytes of samples, 49956 are there",
        ),
        (
            lambda c: soundfile.write(c / CLEAN, np.ones(35999) / 9, 48000),
            "72577 samples at 48000 Hz and 35999 samples at 48000 Hz",
        ),
        (
            lambda c: shutil.copytree(c / "clean_testset_wav", c / "again" / "clean_testset_wav"),
            "keep one copy of the corpus",
        ),
        (
            lambda c: [
                shutil.copy(next(c.glob(f"**/{kind}_testset_wav/p257_001.wav")), c / f"{kind}_trainset_28spk_wav")
                for kind in ("clean", "noisy")
            ],
            "speaker p257 is in the training and in the test folders",
        ),
        (lambda c: shutil.copy(c / CLEAN, c / "clean_testset_wav/a copy.wav"), "a copy.wav: not a name of the corpus"),
        (lambda c: (c / "log_testset.txt").write_text("p232_001 bus\n"), "log_testset.txt:1: 'p232_001 bus' is not"),
        (
            lambda c: (c / "log_testset.txt").write_bytes(b"p232_001 caf\xe9 2.5\n"),
            "log_testset.txt: is not UTF-8 text",
        ),
        (
            lambda c: [
                (c / where / "log_testset.txt").write_text(f"p232_001 {noise} 2.5\n")
                for where, noise in (("clean_testset_wav", "bus"), ("noisy_testset_wav", "cafe"))
            ],
            "noisy_testset_wav/log_testset.txt:1: 'p232_001 cafe 2.5', but ",
        ),
    ],
)
def test_an_incomplete_corpus_is_refused(corpus, tmp_path, fault, message):
    fault(corpus)
    status, output = stage1(corpus, tmp_path / "data")
    assert status == 1 and message in output
    assert not (tmp_path / "data" / "tt_2spk" / "wav.scp").exists()


def test_a_part_of_the_corpus_is_refused_unless_asked_for(corpus, tmp_path):
    status, output = stage1(corpus, tmp_path / "data", counts="published")
    assert status == 1 and "4 pairs for tr_26spk, expected 10802, of the folders clean_trainset_28spk_wav" in output
    assert "noisy_trainset_28spk_wav 8, clean_testset_wav 4" in output and "--counts any" in output


def test_a_missing_corpus_is_explained(tmp_path):
    status, output = stage1(tmp_path / "nowhere", tmp_path / "data")
    assert status == 1
    for text in (
        f"--corpus_dir {tmp_path}/nowhere: no such folder",
        "clean_trainset_28spk_wav/p226_001.wav",
        "./run.sh --corpus_dir DIR",
        "VOICEBANK_DEMAND=DIR in the environment or in conf/local.conf",
        "10.7488/ds/2117",
        "./run.sh --local_args '--download true'",
    ):
        assert text in output


def test_the_noisy_row_is_published_with_tolerances():
    noisy = {e["metric"]: e for e in read_published(RECIPE / "published.yaml") if e["system"] == "noisy"}
    assert {name: (e["value"], e["tolerance"]) for name, e in noisy.items()} == {
        "pesq_wb": (1.97, 0.02),
        "csig": (3.35, 0.05),
        "cbak": (2.44, 0.05),
        "covl": (2.63, 0.05),
        "ssnr": (1.68, 0.1),
        "stoi": (0.921, 0.005),
    }
    assert {e["n"] for e in noisy.values()} == {824} and {e["test_set"] for e in noisy.values()} == {"tt_2spk"}


@pytest.fixture(scope="module")
def server(archives, tmp_path_factory):
    """A list of the miniature's zips, as conf/archives.yaml, and their addresses."""
    site = tmp_path_factory.mktemp("site")
    listed = {}
    for folder in sorted(path for path in archives.iterdir()):
        path = site / f"{folder.name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder))
        content = path.read_bytes()
        listed[path.name] = {"file": path.name, "bytes": len(content), "md5": hashlib.md5(content).hexdigest()}
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}", listed
        http_server.shutdown()


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    """A copy of the recipe in which ./run.sh did all stages, and what it printed."""
    if not (ROOT / "tools" / "env.sh").exists():
        pytest.skip("not installed by tools/install.sh, which the recipe would start")
    recipe = tmp_path_factory.mktemp("egs") / "voicebank_demand"
    shutil.copytree(RECIPE, recipe, ignore=shutil.ignore_patterns("data", "dump", "exp", "downloads", "local.conf"))
    url, listed = server
    archives = yaml.safe_load((recipe / "conf" / "archives.yaml").read_text())
    for part in archives["parts"].values():
        part["archives"] = [listed.get(archive["file"], archive) for archive in part["archives"]]
    (recipe / "conf" / "archives.yaml").write_text(yaml.safe_dump(archives | {"url": url}))
    status, output = run_recipe(recipe)
    assert status == 0, output
    return recipe, output


def run_recipe(recipe, *words):
    small = "--model_conf '{channels: 8, d_feat: 32, cd1: 8, p: 1, dilations: [1, 2]}' --max_steps 2 --batch_size 2"
    options = ["--nj", "2", "--num_threads", "1", "--train_args", small, *words]
    fetch = "--download true --part 'testset trainset_28spk logfiles' --counts any"
    return run([recipe / "run.sh", "--local_args", fetch, *options], recipe, SENET_CMD_BACKEND="local")


def test_one_command_goes_from_the_server_to_the_table(made):
    recipe, output = made
    card = (recipe / "data" / "data_card.md").read_text()
    assert "| tr_26spk | 4 | 2 | 0.00 | 4 at 48000 Hz | log file |" in card
    raw = recipe / "dump" / "raw" / "tt_2spk"
    assert set(read_table(raw / "utt2snr").values()) == {"2.5", "30.0"} and (raw / "noise1.scp").exists()
    for system in ("noisy", "train_gagnet"):
        summary = json.loads((recipe / "exp" / system / "enhanced_tt_2spk" / "summary.json").read_text())
        assert summary["metric_order"] == ["pesq_wb", "csig", "cbak", "covl", "ssnr", "stoi", "si_sdr"]
        assert summary["n"] == 4 and not any(found["failed"] for found in summary["metrics"].values())
    table = (recipe / "RESULTS.md").read_text()
    assert "| train_gagnet |" in table and "| GaGNet | – | 2.94 ✓ [" in table.partition("## Published elsewhere")[2]
    assert all((recipe / "exp" / name).is_file() for name in ("results.csv", "results.json", "report.html"))


def test_noisy_scores_of_another_number_of_pairs_are_not_held_against_the_published(made):
    assert re.search(r"4 utterances.*824", made[1]), made[1]


def test_a_second_run_does_nothing_again(made):
    status, output = run_recipe(made[0])
    assert status == 0 and "fetching" not in output, output
    done = re.findall(r"stage \d: \w+ \S+: done", output)
    assert len(done) == 13, output


def test_a_noisy_row_that_is_off_stops_before_the_training(made):
    recipe, _ = made
    entries = [e | {"n": 4} for e in read_published(recipe / "published.yaml") if e["system"] == "noisy"]
    (recipe / "off.yaml").write_text(yaml.safe_dump(entries))
    status, output = run_recipe(recipe, "--expected", "off.yaml", "--tag", "other")
    assert status == 1 and "the noisy input does not score as published" in output, output
    assert re.search(r"SSNR \(dB\) is [\d.]+, published 1.68 \(tolerance 0.1\)", output)
    assert not (recipe / "exp" / "train_gagnet_other").exists()


def test_estimated_snrs_of_real_pairs_lie_on_the_corpus_s_grid(real_data):
    """The test set was made at 2.5, 7.5, 12.5 and 17.5 dB."""
    from senet.dsp.active_level import active_level_db
    from senet.dsp.level import rms_db

    folder = real_data / "VoiceBank-DEMAND"
    errors = []
    for path in sorted((folder / "clean_testset_wav").glob("*.wav")):
        clean, rate = soundfile.read(path)
        noise = soundfile.read(folder / "noisy_testset_wav" / path.name)[0] - clean
        snr = active_level_db(clean, rate) - rms_db(noise)
        errors.append(min((snr - nominal for nominal in (2.5, 7.5, 12.5, 17.5)), key=abs))
    errors = np.abs(errors)
    assert len(errors) == 32 and np.median(errors) < 0.06
    assert (
        np.sort(errors)[29] < 0.2 and errors.max() < 0.8
    )  # of two, whose noise has much at 8 kHz and so, it seems, beyond
