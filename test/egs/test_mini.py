"""egs/mini/run.sh from nothing to the table, in a tiny size; then on folders of one's own."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from senet.data import audio
from senet.data.scp import Scp, read_table

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "egs" / "mini"
TINY_NET = (
    "--model_conf.channels 4 --model_conf.maps 2 --model_conf.lstm_units 16 --model_conf.fc_units 16 "
    "--max_epoch 1 --max_steps 2 --batch_size 4"
)


def places(folder, *, downloads=None):
    """Options that keep all outputs below ``folder``."""
    options = ["--datadir", folder / "data", "--dumpdir", folder / "dump", "--expdir", folder / "exp"]
    return [*options, "--local_args", f"--downloads {downloads}"] if downloads else options


def run_recipe(*options, code=0):
    if not (ROOT / "tools" / "env.sh").exists():
        pytest.skip("not installed by tools/install.sh, which the recipe would start")
    words = [
        "./run.sh",
        "--num_clips",
        "train=12 valid=4 test=4",
        "--train_args",
        TINY_NET,
        "--nj",
        "2",
        "--num_threads",
        "1",
        *options,
    ]
    environment = {**os.environ, "SENET_CMD_BACKEND": "local"}
    done = subprocess.run(list(map(str, words)), cwd=MINI, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


REPORT = ("RESULTS.md", "results.csv", "results.json", "report.html")  # made anew each time


def contents(folder):
    """Hash and time of each file, so that a file written again is seen."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".log" and path.name not in REPORT
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of one complete run, and what the run printed."""
    folder = tmp_path_factory.mktemp("mini")
    done = run_recipe(*places(folder, downloads=folder / "downloads"))
    return folder, done.stdout


def test_all_stages_leave_what_they_promise(made):
    folder, printed = made
    exp = folder / "exp" / "train_lowlatency"
    for name, clips in (("train", 12), ("valid", 4), ("test", 4)):
        raw = folder / "dump" / "raw" / name
        for scp in ("wav.scp", "spk1.scp", "noise1.scp", "utt2num_samples", "utt2snr"):
            assert len(read_table(raw / scp)) == clips, (name, scp)
    assert (exp / "config.yaml").is_file() and (exp / "checkpoints" / "index.json").is_file()
    for system in (folder / "exp" / "noisy", exp):
        summary = json.loads((system / "enhanced_test" / "summary.json").read_text())
        for metric in ("pesq_wb", "stoi", "si_sdr"):
            assert len(read_table(system / "enhanced_test" / "scores" / metric)) == 4, (system, metric)
            assert metric in json.dumps(summary)
    table = (folder / "RESULTS.md").read_text()
    assert "noisy" in table and "train_lowlatency" in table and table.strip().splitlines()[-1] in printed


def test_enhanced_audio_has_the_length_of_the_noisy_and_differs(made):
    folder, _ = made
    noisy = Scp(folder / "dump" / "raw" / "test" / "wav.scp")
    lengths = read_table(folder / "dump" / "raw" / "test" / "utt2num_samples")
    enhanced = Scp(folder / "exp" / "train_lowlatency" / "enhanced_test" / "wav.scp")
    assert [utt for utt, _ in enhanced] == [utt for utt, _ in noisy]
    for utt, value in enhanced:
        out, rate = audio.read(value, root=enhanced.root)
        before, _ = audio.read(noisy[utt], root=noisy.root)
        assert rate == 16000 and len(out) == len(before) == int(lengths[utt]) == 48000
        assert np.abs(out).max() > 0 and not np.array_equal(out, before)


def test_second_run_does_nothing_again(made):
    folder, _ = made
    before = contents(folder)
    run_recipe(*places(folder, downloads=folder / "downloads"))
    assert contents(folder) == before


def test_a_system_without_parameters_goes_through_all_stages(made):
    folder, _ = made
    options = ["--train_config", "../voicebank_demand/conf/train_logmmse.yaml", "--train_args", "", "--stage", "train"]
    done = run_recipe(*places(folder, downloads=folder / "downloads"), *options, "--score_checkpoints", "1")
    assert "classical.LogMMSE has no trainable parameters, so there is nothing to train" in done.stdout
    table = (folder / "RESULTS.md").read_text()
    assert "| train_logmmse | 0 |" in table
    assert "| train_logmmse | 1 | 0 |" in table.partition("over the last checkpoints")[2]


def test_its_model_is_scored_on_the_test_set_of_another_recipe(made, tmp_path):
    """VoiceBank-DEMAND's folders with pairs of this recipe in them; its test set has two speakers of four pairs."""
    folder, _ = made
    raw = folder / "dump" / "raw" / "test"
    speakers = {"trainset_28spk": ("p226", "p227", "p243", "p287"), "testset": ("p232", "p257")}
    for kind, scp in (("clean", "spk1.scp"), ("noisy", "wav.scp")):
        pairs = [audio.read(value, root=raw)[0] for value in read_table(raw / scp).values()]
        for part, names in speakers.items():
            place = tmp_path / "corpus" / f"{kind}_{part}_wav"
            place.mkdir(parents=True)
            for name in names:
                for i, x in enumerate(pairs):
                    soundfile.write(place / f"{name}_{i:03d}.wav", x, 16000, "PCM_16")
    model = folder / "exp" / "train_lowlatency"
    words = ["./run.sh", "--corpus_dir", tmp_path / "corpus", "--local_args", "--counts any", *places(tmp_path)]
    words += ["--model", model, "--metrics", "si_sdr stoi", "--compare", model, "--nj", "2"]
    environment = {**os.environ, "SENET_CMD_BACKEND": "local"}
    there = ROOT / "egs" / "voicebank_demand"
    done = subprocess.run(list(map(str, words)), cwd=there, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "dump" / "raw").iterdir()) == ["tt_2spk"]
    name = f"{folder.name}_train_lowlatency"
    summary = json.loads((tmp_path / "exp" / name / "enhanced_tt_2spk" / "summary.json").read_text())
    assert summary["n"] == 8 and summary["metrics"]["si_sdr"]["failed"] == 0
    report = json.loads((tmp_path / "exp" / "results.json").read_text())
    record = next(s["record"] for s in report["systems"] if s["name"] == name)
    assert (tmp_path / "x" / record["trained_in"]["path"]).name == "train_lowlatency"
    assert record["macs_per_second"] > 0 and record["parameters"] > 0
    rows = {t["name"]: [row["system"] for row in t["rows"]] for t in report["test_sets"]}
    assert rows == {"test": ["train_lowlatency"], "tt_2spk": ["noisy", name]}  # --compare: its own recipe's test set
    page = (tmp_path / "RESULTS.md").read_text()
    assert "- trained elsewhere: " in page


def test_the_training_set_can_be_mixed_while_training(made):
    folder, _ = made
    words = ["--online", "true", "--tag", "online", "--dumpdir", folder / "online", "--expdir", folder / "exp_online"]
    run_recipe(*places(folder, downloads=folder / "downloads"), *words, "--stop_stage", "train")
    assert sorted(path.name for path in (folder / "online" / "raw").iterdir()) == ["test", "valid"]
    record = json.loads((folder / "exp_online" / "train_lowlatency_online" / "record.json").read_text())
    assert "--mix_conf.num_clips 12" in record["command"]
    assert record["data"]["train speech"]["path"] == str(folder / "data" / "speech_train")


def test_sets_share_no_voice_and_no_recording(made):
    data = made[0] / "data"
    for kind, field in (("speech", "utt2spk"), ("noise", "utt2fingerprint")):
        seen = [set(read_table(data / f"{kind}_{part}" / field).values()) for part in ("train", "valid", "test")]
        assert all(seen) and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_corpus_is_the_same_each_time(made, tmp_path):
    """One speaker and one noise are removed and made again, in a corpus that is otherwise complete."""
    corpus = made[0] / "downloads" / "mini"
    again = tmp_path / "mini"
    subprocess.run(["cp", "-rl", corpus, again], check=True)  # hard links: removing one does not touch the other
    speaker = sorted((again / "speech" / "train").iterdir())[0]
    old = {path.name: path.read_bytes() for path in speaker.iterdir()}
    for path in speaker.iterdir():
        path.unlink()
    speaker.rmdir()
    babble = again / "noise" / "train" / "babble_03.wav"
    old_babble = babble.read_bytes()
    babble.unlink()
    script = [MINI / "local" / "make_corpus.py", "--out", again, "--nj", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([_python(), *script], check=True, env=environment, timeout=300, capture_output=True)
    assert {path.name: path.read_bytes() for path in speaker.iterdir()} == old and len(old) == 6
    assert babble.read_bytes() == old_babble


def _python():
    text = (ROOT / "tools" / "env.sh").read_text()
    return Path(text.split("SENET_PYTHON_DIR=")[1].splitlines()[0]) / "python"


def voice(rng, rate, seconds):
    """A buzz with pauses: enough of a voice for the pipeline."""
    t = np.arange(int(rate * seconds)) / rate
    pitch = rng.uniform(90, 220)
    y = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 12))
    return 0.1 * y * (np.sin(2 * np.pi * 2.5 * t) > -0.4)


def test_folders_of_ones_own(tmp_path):
    """Nested folders, four formats, five rates, stereo, blanks in names."""
    rng = np.random.default_rng(0)
    speech, noise = tmp_path / "my speech", tmp_path / "noise"
    forms = [("a b/one.flac", 44100), ("c/deep/er/two.ogg", 48000), ("d/three.wav", 8000), ("e/four.mp3", 22050)]
    for name, rate in forms * 1:
        path = speech / name
        path.parent.mkdir(parents=True)
        x = voice(rng, rate, 4.5)
        soundfile.write(path, np.stack([x, 0.5 * x], 1) if rate == 8000 else x, rate)
    for i, (name, rate) in enumerate([("x.wav", 16000), ("y/z.flac", 44100), ("y/w.ogg", 32000)]):
        path = noise / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, (i + 1) * 0.02 * rng.standard_normal(rate * 5), rate)
    done = run_recipe("--speech_dir", speech, "--noise_dir", noise, *places(tmp_path / "own"), "--stop_stage", "train")
    sets = [tmp_path / "own" / "data" / f"speech_{part}" for part in ("train", "valid", "test")]
    rates = [rate for folder in sets for rate in read_table(folder / "utt2fs").values()]
    assert sorted(map(int, rates)) == [8000, 22050, 44100, 48000]
    assert len(read_table(tmp_path / "own" / "dump" / "raw" / "train" / "wav.scp")) == 12
    assert (tmp_path / "own" / "exp" / "train_lowlatency" / "checkpoints" / "index.json").is_file(), done.stdout


@pytest.mark.parametrize("missing", ["none", "empty"])
def test_own_folder_that_is_missing_or_empty_is_named(tmp_path, missing):
    noise = tmp_path / "noise"
    noise.mkdir()
    (tmp_path / "empty").mkdir()
    script = MINI / "local" / "data.sh"
    options = ["--speech_dir", tmp_path / missing, "--noise_dir", noise, "--datadir", tmp_path / "data"]
    environment = {**os.environ, "PATH": f"{ROOT / 'utils'}:{_python().parent}:{os.environ['PATH']}"}
    done = subprocess.run([script, *options], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert str(tmp_path / missing) in done.stderr and "recording" in done.stderr
    assert not (tmp_path / "data" / "speech_train").exists()


@pytest.mark.parametrize(
    "script", [f"{r}/local/{n}.sh" for r in ("mini", "librispeech_mssnsd") for n in ("data", "download")]
)
def test_local_scripts_work_in_a_clean_shell(tmp_path, script):
    _python()
    clean = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    words = ["bash", ROOT / "egs" / script]
    done = subprocess.run([*words, "--help"], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("Usage: "), done.stderr
    done = subprocess.run([*words, "--oops", "1"], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "unknown option --oops" in done.stderr


def test_damaged_recordings_can_be_left_out(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        for kind in ("speech", "noise"):
            (tmp_path / kind / name).mkdir(parents=True)
            soundfile.write(tmp_path / kind / name / f"{name}.wav", 0.1 * rng.standard_normal(16000), 16000)
    (tmp_path / "speech" / "a" / "broken.wav").write_bytes(b"no audio")
    options = ["--speech_dir", tmp_path / "speech", "--noise_dir", tmp_path / "noise", "--datadir", tmp_path / "data"]
    for name in ("download", "data"):
        script = ["bash", MINI / "local" / f"{name}.sh", *options, "--bad_audio", "skip"]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    listed = [read_table(tmp_path / "data" / f"speech_{part}" / "wav.scp") for part in ("train", "valid", "test")]
    assert sum(map(len, listed)) == 4


def test_both_folders_of_ones_own_are_asked_for(tmp_path):
    assert "--noise_dir is missing; give both" in run_recipe("--speech_dir", tmp_path, code=1).stderr
    said = run_recipe("--speech_dir", "/nope", "--noise_dir", tmp_path, code=1).stderr
    assert "--speech_dir /nope: no such folder; give both" in said


def test_making_the_corpus_is_interrupted_without_a_word_of_its_processes(tmp_path):
    command = [sys.executable, MINI / "local" / "make_corpus.py", "--out", tmp_path / "corpus", "--nj", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not any((tmp_path / "corpus").rglob("*.wav")) and process.poll() is None:
        time.sleep(0.1)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and len(said.splitlines()) == 1, said
