"""Files and folders on the command line: their targets, what is kept, and the disk."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile

from senet.errors import UserError
from senet.infer import files
from senet.infer.files import Item, subtype_for


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.wav", "in/deep/b.flac", "in/deep/c.mp3", "in/d.WAV"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(name, np.zeros(1600), 16000)
    return tmp_path


def targets(*args, **kwargs):
    return [str(item.target) for item in files.list_items(*args, **kwargs)]


def test_format_is_kept_where_it_can_be_written(folder):
    assert targets(["in"], "out") == ["out/a.wav", "out/d.WAV", "out/deep/b.flac", "out/deep/c.mp3.wav"]
    assert targets(["in"], "out", ".flac") == [
        "out/a.wav.flac", "out/d.WAV.flac", "out/deep/b.flac", "out/deep/c.mp3.flac",
    ]  # fmt: skip
    assert targets(["in/a.wav"], "new.flac") == ["new.flac"]
    assert targets(["-"], "-") == ["-"] and targets(["-"], "x.wav") == ["x.wav"]


def test_results_within_the_input_folder_are_not_its_content(folder):
    shutil.copytree("in", "in/out")
    assert targets(["in"], "in/out") == [
        "in/out/a.wav", "in/out/d.WAV", "in/out/deep/b.flac", "in/out/deep/c.mp3.wav",
    ]  # fmt: skip


def test_a_name_does_not_depend_on_its_neighbours(folder):
    before = targets(["in"], "out")
    for name in ("in/deep/c.ogg", "in/deep/c.aiff", "in/deep/c.wav"):
        soundfile.write(name, np.zeros(1600), 16000)
    after = targets(["in"], "out")
    assert set(before) < set(after)
    assert {"out/deep/c.mp3.wav", "out/deep/c.ogg.wav", "out/deep/c.aiff.wav", "out/deep/c.wav"} < set(after)


def test_audio_that_is_not_read_is_named(folder, caplog):
    for name in ("in/deep/x.m4a", "in/y.wma", "in/notes.txt", "in/.z.m4a"):
        Path(name).write_bytes(b"...")
    assert len(targets(["in"], "out")) == 4
    assert "in: left out in/y.wma and 1 more; read are .wav" in caplog.text


def test_two_that_would_become_one_are_refused(folder):
    with pytest.raises(UserError, match="two inputs would both become 'out/a.wav'"):
        targets(["in/a.wav", "./in/a.wav"], "out")


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["-", "in"], "out", "'-', standard input, is enhanced alone"),
        (["-"], "out", "standard input has no name; give a .wav or .flac file, or '-'"),
        (["in"], "-", "is one file, and the input is a folder"),
        (["in/a.wav"], "x.mp3", "only .wav and .flac are written; name the output x.wav"),
        (["in/a.wav"], "in/../in/a.wav", "is an input file and would be overwritten"),
        (["in/a.wav"], "symbolic.wav", "is an input file and would be overwritten"),
        (["in/a.wav"], "hard.wav", "is an input file and would be overwritten"),
        (["in/a.wav"], "in/d.WAV/x.wav", "in/d.WAV is no folder; choose another place"),
        (["in/a.wav"], "/dev/null", "/dev/null is no folder"),
        (["in"], "in", "is an input file and would be overwritten"),
        (["in"], "alias", "is an input file and would be overwritten"),
    ],
)
def test_refusals(folder, inputs, output, message):
    os.symlink("in/a.wav", "symbolic.wav")
    os.link("in/a.wav", "hard.wav")
    os.symlink("in", "alias")
    with pytest.raises(UserError, match=message):
        files.list_items(inputs, output)


def test_format_and_target_must_agree(folder):
    with pytest.raises(UserError, match="--format wav says otherwise"):
        files.list_items(["in/a.wav"], "x.flac", ".wav")


def test_a_page_where_nothing_can_be_written(folder):
    with pytest.raises(UserError, match="--report in/a.wav: .*in/a.wav is no folder"):
        files.require_report("in/a.wav/page.html", files.list_items(["in"], "out"))


class TestRemaining:
    @pytest.fixture
    def items(self, folder):
        items = files.list_items(["in"], "out")
        Path("out").mkdir()
        shutil.copy("in/a.wav", "out/a.wav")
        return items

    def test_results_that_are_there_are_not_replaced_unasked(self, items):
        with pytest.raises(UserError, match="'out/a.wav' is there already; --overwrite makes it again, --resume goes"):
            files.remaining(items)
        shutil.copy("in/d.WAV", "out/d.WAV")
        with pytest.raises(UserError, match="'out/a.wav' and 1 more is there already"):
            files.remaining(items)
        assert files.remaining(items, overwrite=True) == items

    def test_resume_keeps_whole_results_that_are_newer_than_the_recording(self, items):
        os.utime("in/a.wav", (1e9, 1e9))
        assert files.remaining(items, resume=True) == items[1:]
        os.utime("out/a.wav", (1e8, 1e8))
        assert files.remaining(items, resume=True) == items
        os.utime("out/a.wav", None)
        os.truncate("out/a.wav", 100)
        assert files.remaining(items, resume=True) == items

    def test_a_target_that_is_a_folder(self, items):
        os.mkdir("out/d.WAV")
        with pytest.raises(UserError, match="'out/d.WAV' is there and is no file"):
            files.remaining(items, overwrite=True)


class TestNeeds:
    def test_are_told(self, folder, capsys):
        Path("in/broken.wav").write_bytes(b"RIFF")
        needs = files.needs(files.list_items(["in"], "out"), "PCM_24")
        a, broken = needs[0], needs[1]
        assert (a.info.sample_rate, a.seconds, a.bytes, a.error) == (16000, 0.1, 3 * 1600 + 64, None)
        assert "broken.wav" in broken.error and broken.bytes == 0
        assert files.tell(needs, 3) == 1
        out = capsys.readouterr().out
        assert "in/a.wav -> out/a.wav: 0.1 s, 16000 Hz, 1 channels" in out
        assert "5 to do, 3 are there, 1 cannot be read as far as headers tell" in out
        assert not Path("out").exists()

    def test_too_small_a_disk_is_refused(self, folder, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 6000))
        needs = files.needs([Item("in/a.wav", Path("out/x/a.wav")), Item("in/d.WAV", Path("out/d.wav"))])
        files.require_space(needs[:1])
        with pytest.raises(UserError, match=r"0.0 MB will be written, 0.0 MB are free"):
            files.require_space(needs)


def test_subtypes():
    assert subtype_for(".wav", "PCM_24") == "PCM_24" and subtype_for(".flac", "FLOAT") == "PCM_24"
    assert subtype_for(".wav", "VORBIS") == subtype_for(".flac", "PCM_U8") == subtype_for(".wav", "ULAW") == "PCM_16"
    assert subtype_for(".wav", "PCM_S8") == "PCM_16"
    with pytest.raises(UserError, match="--subtype FLOAT: .flac has PCM_S8, PCM_16, PCM_24"):
        subtype_for(".flac", "PCM_16", "FLOAT")
