"""senet.bin.enhance: files, folders, and the wav.scp of a test set."""

import json
import logging
import shutil

import numpy as np
import pytest
import soundfile
import torch

from senet.bin import enhance, run
from senet.data.audio import WavArkWriter, read
from senet.data.scp import Scp, read_table, write_table
from senet.errors import UserError
from senet.infer import sets
from senet.infer.load import load_model


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
    """All but the notes of how long it took."""
    found = {p.relative_to(folder): p for p in sorted(folder.rglob("*")) if p.is_file()}
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
    source, found = read(str(tmp_path / f"a.{suffix}"))[0], soundfile.info(next((tmp_path / "out").iterdir()))
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
    assert "1 recording," in text and "deep/a.wav</a>" in text and text.count("<audio") == 3
    assert f"<pre>senet enhance {tmp_path / 'in'} -o {tmp_path / 'out'} --report {page} --model {expdir}</pre>" in text
    assert "broken.wav" not in text and "<dd>lowlatency.LowLatencyNet</dd>" in text


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
            (["a.wav", "-o", "c.wav", "--report", "./c.wav"], "--report ./c.wav: is a folder or one of the recordings"),
            (["a.wav", "-o", "-", "--report", "a.html"], "--report a.html: compares files, and '-' is none"),
        ],
    )
    def test_with_inputs_untouched(self, expdir, tmp_path, monkeypatch, argv, message):
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path)
        before = files(tmp_path)
        with pytest.raises(UserError, match=message):
            enhance.main([*argv, "--model", str(expdir)])
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
        calls, original = [], sets.enhance_item
        monkeypatch.setattr(sets, "enhance_item", lambda *args: calls.append(args[1].target.stem) or original(*args))
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
        original = sets.enhance_item

        def enhance_until_killed(*args):
            if len(enhanced) == after:
                raise SystemExit("killed")
            return original(*args)

        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(sets, "enhance_item", enhance_until_killed)
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
            "computing_seconds", "audio_seconds", "device", "threads", "host", "cpu", "checkpoint", "sha256"
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
