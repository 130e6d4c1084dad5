"""senet.bin.enhance: files, folders, and the wav.scp of a test set."""

import io
import json
import logging
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from senet.bin import enhance, run
from senet.data.audio import WavArkWriter, read
from senet.data.scp import Scp, read_table, write_table
from senet.errors import UserError
from senet.infer import sets
from senet.infer.item import Outcome, Progress
from senet.infer.load import load_model
from senet.models.lowlatency import LowLatencyNet


@pytest.fixture(scope="module")
def expdir(make_experiment, tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("exp") / "small", 1)


def run_enhance(expdir, *argv):
    """The exit status."""
    return run(enhance.main, [*map(str, argv), "--model", str(expdir)])


def noise(n, channels=None, seed=0):
    shape = n if channels is None else (n, channels)
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


def files(folder):
    """All but the notes of how long it took, and what is hidden."""
    found = {p.relative_to(folder): p for p in sorted(folder.rglob("[!.]*")) if p.is_file()}
    return {k: p.read_bytes() for k, p in found.items() if not p.name.endswith(("time.json", "enhance.json"))}


def test_one_file_is_what_the_model_makes_of_it(expdir, tmp_path):
    soundfile.write(tmp_path / "noisy.wav", noise(4000), 16000)
    assert run_enhance(expdir, tmp_path / "noisy.wav", "-o", tmp_path / "new" / "clean.wav") == 0
    x = soundfile.read(tmp_path / "noisy.wav", dtype="float32")[0]
    expected = load_model(expdir).model(torch.from_numpy(x)[None])[0].numpy()
    y, rate = soundfile.read(tmp_path / "new" / "clean.wav")
    assert rate == 16000
    assert np.abs(y - expected).max() <= 0.5 / 32768 + 1e-7


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"), [("flac", 44100, 2), ("ogg", 48000, 1), ("mp3", 22050, 2), ("wav", 8000, 6)]
)
def test_formats_rates_and_channels(expdir, tmp_path, suffix, rate, channels):
    soundfile.write(tmp_path / f"a.{suffix}", noise(rate // 4, channels), rate)
    assert run_enhance(expdir, tmp_path / f"a.{suffix}", "-o", tmp_path / "out") == 0
    source, found = read(str(tmp_path / f"a.{suffix}"))[0], soundfile.info(next((tmp_path / "out").glob("a.*")))
    assert (found.samplerate, found.channels, found.frames) == (rate, channels, len(source))
    assert (found.format, found.subtype) == ("FLAC" if suffix == "flac" else "WAV", "PCM_16")


def test_folder_keeps_its_structure_and_one_broken_file_does_not_stop_it(expdir, tmp_path, caplog):
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac", "deep/er/c.WAV", "same.wav", "same.flac"):
        soundfile.write(folder / name, noise(2000), 16000)
    (folder / "deep" / "broken.wav").write_text("this is no audio")
    (folder / "notes.txt").write_text("left alone")
    before = files(folder)
    assert run_enhance(expdir, folder, "-o", tmp_path / "out") == 1
    assert {str(p) for p in files(tmp_path / "out")} == {
        "a.wav", "deep/b.flac", "deep/er/c.WAV", "same.wav", "same.flac",
    }  # fmt: skip
    assert files(folder) == before
    assert "broken.wav" in caplog.text and "not audio" in caplog.text and "not enhanced" in caplog.text
    assert "enhanced 5 of 6 files" in caplog.text


@pytest.mark.parametrize("content", [np.zeros(0), np.array([0.1, np.nan, 0.2])])
def test_audio_without_usable_samples_is_named(expdir, tmp_path, capsys, caplog, content):
    soundfile.write(tmp_path / "bad.wav", content, 16000, subtype="FLOAT")
    assert run_enhance(expdir, tmp_path / "bad.wav", "-o", tmp_path / "out.wav") == 1
    assert "bad.wav" in caplog.text
    assert not (tmp_path / "out.wav").exists()


def test_clipped_samples_are_reported(expdir, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("senet.models.lowlatency.LowLatencyNet.forward", lambda self, noisy: noisy * 20)
    soundfile.write(tmp_path / "a.wav", noise(2000), 16000)
    assert run_enhance(expdir, tmp_path / "a.wav", "-o", tmp_path / "b.wav") == 0
    y = soundfile.read(tmp_path / "b.wav", dtype="int16")[0]
    clipped = np.count_nonzero((y == 32767) | (y == -32768))
    assert f"exceeds 1: {clipped} samples clipped" in caplog.text
    assert "with clipped samples 1" in caplog.text


def test_report_compares_what_was_enhanced(expdir, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "in" / "deep" / "a.wav", noise(4000, 2), 44100)
    (tmp_path / "in" / "broken.wav").write_text("no audio")
    page = tmp_path / "new" / "page.html"
    assert run_enhance(expdir, tmp_path / "in", "-o", tmp_path / "out", "--report", page) == 1
    text = page.read_text(encoding="utf-8")
    assert "2 recordings," in text and "deep/a.wav</a>" in text and text.count("<audio") == 3
    assert f"<pre>senet enhance {tmp_path / 'in'} -o {tmp_path / 'out'} --report {page} --model {expdir}</pre>" in text
    assert "broken.wav: is not audio that can be read" in text and "<dd>lowlatency.LowLatencyNet</dd>" in text


class TestRefusals:
    @pytest.fixture(autouse=True)
    def audio(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", noise(2000), 16000)
        soundfile.write(tmp_path / "b.wav", noise(2000), 16000)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["a.wav", "-o", "a.wav"], "'.*a.wav' is an input file and would be overwritten"),
            ([".", "-o", "."], "is an input file and would be overwritten"),
            (["a.wav", "b.wav", "-o", "c.wav"], "c.wav: is one file, and the input is a folder or several"),
            (["a.wav", "-o", "c.ogg"], "only .wav and .flac are written; name the output c.wav"),
            (["gone.wav", "-o", "c.wav"], "gone.wav: no such file or folder"),
            (["empty", "-o", "out"], "empty: holds no audio"),
            (["a.wav", "--job", "1/2", "-o", "out"], "are for an .scp"),
            (["a.wav", "b.scp", "-o", "out"], "b.scp: an .scp is enhanced alone"),
            (["b.scp", "--resume", "-o", "out"], "--resume is for files and folders"),
            (["gone.scp", "-o", "out"], "gone.scp: no such file"),
            (["a.wav", "-o", "b.wav"], "'b.wav' is there already; --overwrite makes it again"),
            (
                ["a.wav", "-o", "c.wav", "--report", "./c.wav"],
                "--report ./c.wav: an HTML page is written; name it c.html",
            ),
            (["a.wav", "-o", "c.wav", "--report", "page.html"], "--report page.html: is a folder or one of the"),
            (["a.wav", "-o", "c.flac", "--subtype", "FLOAT"], "--subtype FLOAT: .flac has"),
            (["a.wav", "-o", "-", "--report", "a.html"], "--report a.html: compares files, and '-' is none"),
        ],
    )
    def test_with_inputs_untouched(self, expdir, tmp_path, monkeypatch, argv, message):
        (tmp_path / "empty").mkdir()
        (tmp_path / "page.html").mkdir()
        monkeypatch.chdir(tmp_path)
        before = files(tmp_path)
        with pytest.raises(UserError, match=message) as error:
            enhance.main([*argv, "--model", str(expdir)])
        assert error.value.status == 2 and files(tmp_path) == before

    @pytest.mark.parametrize(
        "words", [["--window", "0"], ["--window", "nan"], ["--ngpu", "-1"], ["--overwrite", "--resume"]]
    )
    def test_of_options(self, expdir, tmp_path, words):
        with pytest.raises(SystemExit) as stop:
            enhance.main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "c.wav"), "--model", str(expdir), *words])
        assert stop.value.code == 2

    def test_of_a_folder_that_is_in_use(self, expdir, tmp_path):
        before = files(tmp_path)
        code = "import sys; from senet.lock import Lock; Lock(sys.argv[1]).__enter__(); print(flush=True); input()"
        words = [sys.executable, "-c", code, str(tmp_path / "out")]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            other.stdout.readline()
            with pytest.raises(UserError, match=f"out: in use by process {other.pid} on .* or take another folder"):
                enhance.main([str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), "--model", str(expdir)])
            other.communicate(b"\n")
        assert files(tmp_path) == before


class TestScp:
    @pytest.fixture
    def scp(self, small_set, tmp_path):
        """The small set's noisy audio in an ark."""
        rows = []
        with WavArkWriter(tmp_path / "noisy.ark") as ark:
            for utt, path in read_table(small_set / "wav.scp").items():
                rows.append((utt, ark.write(utt, read(path)[0], 16000)))
        write_table(tmp_path / "wav.scp", rows)
        return tmp_path / "wav.scp"

    @pytest.fixture
    def enhanced(self, monkeypatch):
        """Files the model has run on."""
        calls, original = [], sets.enhance_items

        def enhance_items(enhancer, items, how):
            calls.extend(item.target.stem for item in items)
            return original(enhancer, items, how)

        monkeypatch.setattr(sets, "enhance_items", enhance_items)
        monkeypatch.setattr(sets, "SHARD_SIZE", 2)
        return calls

    def test_writes_wav_files_and_their_scp(self, expdir, scp, tmp_path):
        assert run_enhance(expdir, scp, "-o", tmp_path / "out") == 0
        out = Scp(tmp_path / "out" / "wav.scp")
        assert [key for key, _ in out] == [key for key, _ in Scp(scp)]
        for key, value in Scp(scp):
            x, y = read(value)[0], read(out[key], root=out.root)[0]
            expected = load_model(expdir).model(torch.from_numpy(x)[None])[0].numpy()
            assert np.abs(y - expected).max() <= 0.5 / 32768 + 1e-7

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_jobs_give_the_same_bytes(self, expdir, scp, tmp_path, monkeypatch, enhanced, jobs):
        monkeypatch.chdir(tmp_path)
        assert run_enhance(expdir, scp, "-o", "out") == 0
        first = files(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        for j in range(1, jobs + 1):
            assert run_enhance(expdir, scp, "-o", "out", "--job", f"{j}/{jobs}") == 0
        assert not (tmp_path / "out" / "wav.scp").exists()
        assert run_enhance(expdir, scp, "-o", "out", "--collect") == 0
        assert files(tmp_path / "out") == first

    def test_finished_work_is_not_repeated(self, expdir, scp, tmp_path, enhanced):
        run_enhance(expdir, scp, "-o", tmp_path / "out")
        first = files(tmp_path / "out")
        assert len(enhanced) == 5
        (tmp_path / "out" / "wav" / "spk0-utt2.wav").unlink()  # as if the disk had lost one
        del enhanced[:]
        assert run_enhance(expdir, scp, "-o", tmp_path / "out") == 0
        assert enhanced == ["spk0-utt2"]
        assert files(tmp_path / "out") == first

    @pytest.mark.parametrize("after", [1, 2, 3])
    def test_a_run_that_was_killed_ends_in_the_same_bytes(self, expdir, scp, tmp_path, monkeypatch, enhanced, after):
        run_enhance(expdir, scp, "-o", tmp_path / "out")
        first = files(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        del enhanced[:]
        original = sets.enhance_items

        def enhance_until_killed(*args):
            if len(enhanced) == after:
                raise SystemExit("killed")
            return original(*args)

        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(sets, "enhance_items", enhance_until_killed)
            run_enhance(expdir, scp, "-o", tmp_path / "out")
        assert not (tmp_path / "out" / "wav.scp").exists()
        assert run_enhance(expdir, scp, "-o", tmp_path / "out") == 0
        assert files(tmp_path / "out") == first

    def test_time_it_took(self, expdir, scp, tmp_path, enhanced):
        def time():
            return json.loads((tmp_path / "out" / "enhance.json").read_text())

        run_enhance(expdir, scp, "-o", tmp_path / "out", "--checkpoint", "last")
        found = time()
        assert found.keys() == {
            "computing_seconds", "audio_seconds", "device", "threads", "host", "cpu", "checkpoint", "sha256",
            "batch_size",
        }  # fmt: skip
        assert found["audio_seconds"] == pytest.approx(5 + 0.1 * (1 + 2 + 3 + 4)) and found["computing_seconds"] > 0
        assert (found["device"], found["threads"], found["checkpoint"]) == ("cpu", 1, "last")
        (tmp_path / "out" / "wav" / "spk0-utt2.wav").unlink()
        run_enhance(expdir, scp, "-o", tmp_path / "out", "--checkpoint", "last")
        assert time() == found  # that of the whole, not of the file that was lost

    def test_time_is_that_of_one_kind_of_machine_and_of_the_present_model(
        self, expdir, make_experiment, scp, tmp_path, monkeypatch, enhanced
    ):
        for job, cpu in (("1/3", "slow"), ("2/3", "slow"), ("3/3", "fast")):
            monkeypatch.setattr(sets.provenance, "cpu_name", lambda cpu=cpu: cpu)
            run_enhance(expdir, scp, "-o", tmp_path / "out", "--job", job)
        run_enhance(expdir, scp, "-o", tmp_path / "out", "--collect")
        found = json.loads((tmp_path / "out" / "enhance.json").read_text())
        assert found["cpu"] == "slow"
        assert found["audio_seconds"] == pytest.approx(sum(len(read(v)[0]) for _, v in list(Scp(scp))[:4]) / 16000)
        other = make_experiment(tmp_path / "other", 2)
        run_enhance(other, scp, "-o", tmp_path / "out")
        again = json.loads((tmp_path / "out" / "enhance.json").read_text())
        assert again["cpu"] == "fast" and again["sha256"] != found["sha256"]

    def test_another_model_does_everything_again(self, expdir, make_experiment, scp, tmp_path, enhanced):
        run_enhance(expdir, scp, "-o", tmp_path / "out")
        first = files(tmp_path / "out")
        other = make_experiment(tmp_path / "other", 2)
        del enhanced[:]
        assert run_enhance(other, scp, "-o", tmp_path / "out") == 0
        assert len(enhanced) == 5
        assert all(files(tmp_path / "out")[p] != data for p, data in first.items() if p.suffix == ".wav")

    def test_changed_audio_is_done_again(self, expdir, small_set, tmp_path, enhanced):
        rows = [(utt, shutil.copy(path, tmp_path)) for utt, path in read_table(small_set / "wav.scp").items()]
        write_table(tmp_path / "wav.scp", rows)
        run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "out")
        soundfile.write(rows[1][1], noise(3000), 16000)
        del enhanced[:]
        run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "out")
        assert enhanced == [rows[1][0]]

    def test_broken_utterance_is_named_and_the_rest_done(self, expdir, small_set, tmp_path, caplog, enhanced):
        rows = [(utt, shutil.copy(path, tmp_path)) for utt, path in read_table(small_set / "wav.scp").items()]
        write_table(tmp_path / "wav.scp", rows)
        whole = (tmp_path / "spk0-utt2.wav").read_bytes()
        (tmp_path / "spk0-utt2.wav").write_bytes(whole[:-50])
        assert run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "out") == 1
        assert "spk0-utt2.wav: " in caplog.text and "header claims" in caplog.text
        assert len(list((tmp_path / "out" / "wav").iterdir())) == 4
        with pytest.raises(UserError, match="1 utterances are not enhanced, such as 'spk0-utt2'"):
            sets.collect(tmp_path / "wav.scp", tmp_path / "out")
        (tmp_path / "spk0-utt2.wav").write_bytes(whole)
        del enhanced[:]
        assert run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "out") == 0
        assert enhanced == ["spk0-utt2"]

    def test_output_must_not_be_the_input(self, expdir, small_set, tmp_path):
        folder = shutil.copytree(small_set, tmp_path / "set")
        write_table(folder / "wav.scp", [(p.stem, p) for p in (folder / "wav").iterdir()])
        before = files(folder)
        with pytest.raises(UserError, match="is an input file and would be overwritten"):
            enhance.main([str(folder / "wav.scp"), "-o", str(folder), "--model", str(expdir)])
        assert files(folder) == before

    def test_ids_that_are_no_file_names_are_refused(self, expdir, small_set, tmp_path):
        write_table(tmp_path / "wav.scp", [("../../escape", next(iter(read_table(small_set / "wav.scp").values())))])
        with pytest.raises(UserError, match="the id '../../escape' has a '/'"):
            enhance.main([str(tmp_path / "wav.scp"), "-o", str(tmp_path / "out"), "--model", str(expdir)])


@pytest.fixture(autouse=True)
def _log(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(enhance, "setup_logging", lambda: None)  # it would take caplog's handler away


SINE = (1.6 * np.sin(np.arange(8000) / 5)).astype(np.float32)


class TestResults:
    """What becomes of the enhanced signal: the network here gives a sine of amplitude 1.6."""

    @pytest.fixture(autouse=True)
    def loud(self, tmp_path, monkeypatch):
        def forward(self, noisy):
            return torch.from_numpy(SINE)[None, : noisy.shape[1]]

        monkeypatch.setattr("senet.models.lowlatency.LowLatencyNet.forward", forward)
        soundfile.write(tmp_path / "a.wav", noise(8000), 16000, "PCM_24")

    def enhanced(self, expdir, tmp_path, *words, name="b.wav"):
        assert run_enhance(expdir, tmp_path / "a.wav", "-o", tmp_path / name, "--overwrite", *words) == 0
        return soundfile.read(tmp_path / name)[0], soundfile.info(tmp_path / name).subtype

    def test_peaks(self, expdir, tmp_path, caplog):
        y, subtype = self.enhanced(expdir, tmp_path)
        assert subtype == "PCM_24" and np.abs(y - SINE.clip(-1, 1)).max() < 1e-6
        y, subtype = self.enhanced(expdir, tmp_path, "--subtype", "FLOAT")
        assert subtype == "FLOAT" and np.abs(y - SINE).max() < 1e-6
        y, subtype = self.enhanced(expdir, tmp_path, "--peak", "scale", name="b.flac")
        assert subtype == "PCM_24" and np.abs(y - SINE * (1 - 2**-15) / np.abs(SINE).max()).max() < 1e-6
        caplog.clear()
        assert run_enhance(expdir, tmp_path / "a.wav", "-o", tmp_path / "c.wav", "--peak", "error") == 1
        assert "a.wav: its peak would be 1.600, beyond 1; nothing is written" in caplog.text
        assert not (tmp_path / "c.wav").exists()

    def test_level_of_the_input(self, expdir, tmp_path):
        y, _ = self.enhanced(expdir, tmp_path, "--keep_level")
        x = soundfile.read(tmp_path / "a.wav")[0]
        assert np.sqrt((y**2).mean()) == pytest.approx(np.sqrt((x**2).mean()), rel=1e-4)

    def test_mix(self, expdir, tmp_path):
        y, _ = self.enhanced(expdir, tmp_path, "--mix", "0.25")
        expected = 0.25 * SINE + 0.75 * soundfile.read(tmp_path / "a.wav")[0]
        assert np.abs(y - expected).max() < 1e-6


def test_a_recording_of_any_length_in_blocks(expdir, tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(9 * 22050, 2), 22050)
    for window, name in ((5.5, "blocks.flac"), (60, "whole.flac")):
        assert run_enhance(expdir, tmp_path / "a.flac", "-o", tmp_path / name, "--window", window) == 0
    blocks, whole = (soundfile.read(tmp_path / name)[0] for name in ("blocks.flac", "whole.flac"))
    assert blocks.shape == whole.shape == (9 * 22050, 2)
    assert np.abs(blocks - whole).max() <= 1.01 / 32768


def test_pipes(expdir, tmp_path, monkeypatch, capsysbinary):
    soundfile.write(tmp_path / "a.wav", noise(8000, 2), 44100)
    run_enhance(expdir, tmp_path / "a.wav", "-o", tmp_path / "b.wav")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = b"\xff" * 4  # not known, as ffmpeg writes it
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    assert run_enhance(expdir, "-", "-o", "-") == 0
    (tmp_path / "c.wav").write_bytes(capsysbinary.readouterr().out)
    expected, found = read(str(tmp_path / "b.wav"))[0], read(str(tmp_path / "c.wav"))[0]
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 1.01 / 32768


def test_several_processes_give_the_same_files(expdir, tmp_path, caplog):
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", noise(2000 + 300 * i, seed=i), 16000)
    inputs = sorted(tmp_path.glob("*.wav"))
    assert run_enhance(expdir, *inputs, "-o", tmp_path / "one", "--num_threads", 1) == 0
    inputs[2].write_bytes(b"")
    assert run_enhance(expdir, *inputs, "-o", tmp_path / "two", "--nj", 2) == 1
    assert "2.wav: the file is empty" in caplog.text and "enhanced 4 of 5" in caplog.text
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert two == {path: data for path, data in one.items() if path.name != "2.wav"}


def test_a_run_that_was_stopped_goes_on(expdir, tmp_path, caplog):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", noise(2000), 16000)
    inputs = sorted(tmp_path.glob("*.wav"))
    assert run_enhance(expdir, *inputs[:2], "-o", tmp_path / "out") == 0
    before = (tmp_path / "out" / "a.wav").stat()
    assert run_enhance(expdir, *inputs, "-o", tmp_path / "out") == 2  # there already: refused
    assert run_enhance(expdir, *inputs, "-o", tmp_path / "out", "--resume") == 0
    assert (tmp_path / "out" / "a.wav").stat() == before
    assert "enhanced 1 of 1 files" in caplog.text and (tmp_path / "out" / "c.wav").exists()


def test_resuming_keeps_what_this_model_made_in_this_way(expdir, make_experiment, tmp_path, capsys):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", noise(2000), 16000)
    a, b, out = tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "out"
    other = make_experiment(tmp_path / "other", 2)
    assert run_enhance(expdir, a, "-o", out, "--resume") == 0
    before = files(out)
    for words in ([other], [expdir, "--mix", "0.5"]):
        assert run_enhance(*words[:1], a, b, "-o", out, "--resume", *words[1:]) == 2
        assert files(out) == before
    said = capsys.readouterr().err.splitlines()
    assert "out: its results were made by small; to go on with --resume choose the same again" in said[0]
    assert "by another model or other options" in said[1]
    assert run_enhance(other, b, "-o", out) == 0  # what is there is now older than the note of the model
    assert run_enhance(other, a, b, "-o", out, "--resume") == 0
    assert files(out)[Path("a.wav")] == files(out)[Path("b.wav")] != before[Path("a.wav")]
    (out / ".senet.jsonl").unlink()
    assert run_enhance(other, a, b, "-o", out, "--resume") == 2
    assert "in a way that is not known" in capsys.readouterr().err


def test_what_is_done_is_said_where_a_run_is_interrupted(expdir, tmp_path, caplog, monkeypatch):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", noise(2000), 16000)
    calls, forward = [], LowLatencyNet.forward

    def interrupted(self, noisy):
        calls.append(noisy)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forward(self, noisy)

    model = load_model(expdir)
    monkeypatch.setattr("senet.infer.load.load_model", lambda *_: model)
    monkeypatch.setattr(LowLatencyNet, "forward", interrupted)
    assert run_enhance(expdir, *sorted(tmp_path.glob("*.wav")), "-o", tmp_path / "out") == 130
    assert "1 of 3 files are done; --resume goes on with the others" in caplog.text
    assert [str(path) for path in files(tmp_path / "out")] == ["a.wav"]


def test_time_that_is_left(monkeypatch, caplog):
    """By what was enhanced after the first recording, which took long to come."""
    clock = iter([0, 100, 120, 140])
    monkeypatch.setattr("senet.infer.item.time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    progress = Progress(9, seconds=240)
    for seconds in (40, 40, 40):
        progress.add(Outcome("a", "b", seconds, 1.0))
    assert [text.rpartition(", ")[2] for text in caplog.messages] == [
        "real-time factor 0.025",
        "80 s left",
        "60 s left",
    ]


def test_mistakes_are_told_without_torch(tmp_path, expdir):
    soundfile.write(tmp_path / "a.wav", noise(2000), 16000)
    code = (
        "import sys; from senet.bin import run, enhance; status = run(enhance.main); assert 'torch' not in sys.modules"
    )
    for words in (["gone.wav", "-o", "b.wav"], ["a.wav", "-o", "b.ogg"], ["a.wav", "-o", "b.wav", "--model", "gone"]):
        words = ["--model", str(expdir), *words]
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr.startswith("error: "), done.stderr


def test_full_disk_ends_the_run_with_one_message(expdir, tmp_path, monkeypatch, capsys):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", noise(2000), 16000)
    before, calls = files(tmp_path), []

    def full(path, *_):
        calls.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("senet.data.wav.header", full)
    assert run_enhance(expdir, *sorted(tmp_path.glob("*.wav")), "-o", tmp_path / "out") == 1
    assert "out/a.wav: cannot write: No space left on device" in capsys.readouterr().err
    assert len(calls) == 1 and files(tmp_path) == before


def test_dry_run_touches_nothing(expdir, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", noise(16000), 16000)
    assert run_enhance(expdir, tmp_path / "a.wav", "-o", tmp_path / "out", "--dry_run") == 0
    assert "a.wav: 1.0 s, 16000 Hz, 1 channels" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_report(expdir, tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", noise(8000), 16000)
    inputs = sorted(tmp_path.glob("*.wav"))
    assert run_enhance(expdir, *inputs, "-o", tmp_path / "out", "--report", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "a.wav" in page and "b.wav" in page


def test_too_little_memory_for_one_file_is_said(expdir, tmp_path, monkeypatch, caplog):
    def forward(self, noisy):
        if noisy.shape[1] > 5000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return noisy

    monkeypatch.setattr("senet.models.lowlatency.LowLatencyNet.forward", forward)
    for name, n in (("long.wav", 6000), ("short.wav", 1000)):
        soundfile.write(tmp_path / name, noise(n), 16000)
    assert run_enhance(expdir, *sorted(tmp_path.glob("*.wav")), "-o", tmp_path / "out") == 1
    assert "long.wav: too little memory for windows of 30 s; take a smaller --window" in caplog.text
    assert [str(path) for path in files(tmp_path / "out")] == ["short.wav"]


class TestBatches:
    """Recordings of equal rate and length share a call of the model."""

    @pytest.fixture
    def calls(self, monkeypatch):
        """The shapes the model was called with."""
        shapes, forward = [], LowLatencyNet.forward
        monkeypatch.setattr(
            LowLatencyNet, "forward", lambda self, noisy: shapes.append(tuple(noisy.shape)) or forward(self, noisy)
        )
        return shapes

    @pytest.fixture
    def recordings(self, tmp_path):
        """Of three lengths, two rates, one and two channels."""
        forms = [(3000, 1, 16000), (2000, 1, 16000), (3000, 2, 16000), (3000, 1, 16000), (3000, 1, 8000),
                 (3000, 1, 16000), (2000, 1, 16000), (2500, 1, 16000), (3000, 1, 16000)]  # fmt: skip
        (tmp_path / "in").mkdir()
        for i, (n, channels, rate) in enumerate(forms):
            soundfile.write(tmp_path / "in" / f"{i}.wav", noise(n, channels, seed=i), rate, "FLOAT")
        return tmp_path / "in"

    def assert_equal(self, one, other):
        for path in sorted(one.rglob("*.wav")):
            x, y = (soundfile.read(p)[0] for p in (path, other / path.relative_to(one)))
            assert x.shape == y.shape and np.abs(x - y).max() < 1e-5

    @pytest.mark.parametrize("words", [[], ["--keep_level", "--mix", "0.7", "--peak", "scale"], ["--nj", 2]])
    def test_give_what_one_by_one_gives(self, expdir, tmp_path, recordings, calls, words):
        assert run_enhance(expdir, recordings, "-o", tmp_path / "one", *words) == 0
        del calls[:]
        assert run_enhance(expdir, recordings, "-o", tmp_path / "three", "--batch_size", 3, *words) == 0
        self.assert_equal(tmp_path / "one", tmp_path / "three")
        if "--nj" not in words:  # rows are channels: the first three of 3000 samples have four
            assert calls == [(4, 3000), (2, 2000), (1, 6000), (2, 3000), (1, 2500)]

    @pytest.mark.parametrize("trouble", ["cut", "not finite", "memory"])
    def test_one_that_fails_does_not_hurt_the_others(
        self, expdir, tmp_path, recordings, calls, caplog, monkeypatch, trouble
    ):
        assert run_enhance(expdir, recordings, "-o", tmp_path / "one") == 0
        bad = recordings / "3.wav"
        if trouble == "cut":
            bad.write_bytes(bad.read_bytes()[:-50])
        elif trouble == "not finite":
            soundfile.write(bad, np.full(3000, np.nan), 16000, "FLOAT")
        else:
            original = LowLatencyNet.forward

            def forward(self, noisy):
                if len(noisy) > 2:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return original(self, noisy)

            monkeypatch.setattr(LowLatencyNet, "forward", forward)
        status = run_enhance(expdir, recordings, "-o", tmp_path / "all", "--batch_size", 8)
        if trouble == "memory":
            assert status == 0 and "too little memory for 5 recordings at once: enhanced one by one" in caplog.text
        else:
            assert status == 1 and "3.wav" in caplog.text and "failed 1," in caplog.text
            assert not (tmp_path / "all" / "3.wav").exists()
            (tmp_path / "one" / "3.wav").unlink()
        self.assert_equal(tmp_path / "one", tmp_path / "all")

    def test_memory_is_that_of_as_many_windows(self, expdir, tmp_path, calls):
        for i in range(5):
            soundfile.write(tmp_path / f"{i}.wav", noise(5 * 16000, 3, seed=i), 16000)
        inputs = sorted(tmp_path.glob("*.wav"))
        words = ["--batch_size", 4, "--window", 6]
        assert run_enhance(expdir, *inputs, "-o", tmp_path / "out", *words) == 0
        assert max(rows * n for rows, n in calls) <= 4 * 6 * 16000
        assert sum(rows for rows, _ in calls) == 15 and len(calls) == 4

    def test_of_a_set(self, expdir, small_set, tmp_path, calls):
        table = read_table(small_set / "wav.scp")
        for i, path in enumerate(table.values()):
            soundfile.write(tmp_path / f"{i}.wav", read(path)[0][: 8000 - 100 * (i == 1)], 16000)
        write_table(tmp_path / "wav.scp", ((utt, tmp_path / f"{i}.wav") for i, utt in enumerate(table)))
        assert run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "one") == 0
        del calls[:]
        assert run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "all", "--batch_size", 8) == 0
        assert calls == [(len(table) - 1, 8000), (1, 7900)]
        self.assert_equal(tmp_path / "one" / "wav", tmp_path / "all" / "wav")
        assert [key for key, _ in Scp(tmp_path / "all" / "wav.scp")] == list(table)
        del calls[:]
        assert run_enhance(expdir, tmp_path / "wav.scp", "-o", tmp_path / "all", "--batch_size", 2) == 0
        assert calls == []  # the same work
