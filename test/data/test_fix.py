import os
import shutil

import pytest

from senet.bin import run
from senet.bin.validate import main as validate_command
from senet.data.datadir import DataDir
from senet.data.fix import fix
from senet.data.scp import read_table, write_table
from senet.errors import UserError


def line(number, content):
    """A change for ``edit``: another content for one line, counted from 1."""
    return lambda lines: lines.__setitem__(number - 1, content)


def test_a_sound_set_is_left_alone(paired):
    before = {path: path.stat().st_mtime_ns for path in paired.iterdir()}
    assert fix(paired) == []
    assert {path: path.stat().st_mtime_ns for path in paired.iterdir()} == before


def test_keeps_what_is_sound_in_all_files_and_says_what_it_dropped(paired, capsys, edit, utts):
    originals = {name: (paired / name).read_bytes() for name in os.listdir(paired)}
    edit(paired / "wav.scp", lambda lines: lines.reverse())
    edit(paired / "spk1.scp", lambda lines: lines.pop(0))  # a-000
    (paired / "utt2snr").write_bytes(originals["utt2snr"].replace(b"\n", b"\r\n"))
    edit(paired / "utt2spk", lambda lines: lines.insert(3, lines[2]))  # the same again: harmless
    edit(paired / "feats.scp", lambda lines: lines.insert(2, "a-001 feats.ark:99\n"))  # which is right?
    edit(paired / "utt2num_samples", line(5, "a-b-000 many\n"))
    (paired / "noise1.scp").write_bytes(originals["noise1.scp"][:-5])  # c-004 may have lost part of its value
    (paired / "spk2utt").unlink()
    spoiled = {name: (paired / name).read_bytes() for name in os.listdir(paired)}
    assert run(validate_command, ["--fix", str(paired)]) == 0
    output = capsys.readouterr().out
    for message in (
        "spk1.scp: 'a-000' dropped: no sound line in spk1.scp",
        "feats.scp:3: dropped: 'a-001' is there with two values",
        "utt2spk:4: 'a-002' is there twice with one value: kept once",
        "utt2num_samples:5: dropped: 'a-b-000': 'many' found",
        "noise1.scp:12: dropped: the last line does not end",
        "noise1.scp: 'c-004' dropped: no sound line in noise1.scp",
        "utt2snr: 12 carriage returns removed",
    ):
        assert f"{paired}/{message}" in output
    kept = utts(paired)
    assert kept == ["a-002", "a-003", "a-b-001", "a-b-002", "c-000", "c-001", "c-002", "c-003"]
    for name in ("wav.scp", "spk1_feats.scp", "utt2snr"):
        wanted = [line for line in originals[name].splitlines() if line.split()[0].decode() in kept]
        assert (paired / name).read_bytes().splitlines() == wanted
    for name in os.listdir(paired / ".backup"):
        assert (paired / ".backup" / name).read_bytes() == spoiled[name]
    assert set(spoiled) - set(os.listdir(paired / ".backup")) == {"frame_shift", "spk2gender"}


def test_a_byte_order_mark_goes_and_its_line_stays(paired, edit, utts):
    edit(paired / "wav.scp", lambda lines: lines.insert(0, "\ufeff" + lines.pop(0)))
    assert "wav.scp:1: byte order mark removed" in str(fix(paired)[0])
    assert len(utts(paired)) == 12


def test_speaker_files_are_sorted_and_freed_of_carriage_returns(paired, utts):
    (paired / "spk2gender").write_bytes(b"c f\r\na-b f\r\na m\r\n")
    fix(paired)
    assert (paired / "spk2gender").read_text() == "a m\na-b f\nc f\n"
    assert len(utts(paired)) == 12


def test_originals_survive_a_second_fix(paired, edit):
    original = (paired / "wav.scp").read_text()
    for _ in range(2):
        edit(paired / "spk1.scp", lambda lines: lines.pop(0))
        fix(paired)
    assert (paired / ".backup" / "wav.scp").read_text() == original
    assert (paired / ".backup" / "wav.scp.1").read_text() == "".join(original.splitlines(keepends=True)[1:])


def test_speakers_without_utterances_go_too(paired, edit):
    edit(paired / "wav.scp", lambda lines: lines.__delitem__(slice(4, 7)))
    fix(paired)
    assert list(read_table(paired / "spk2gender")) == list(read_table(paired / "spk2utt")) == ["a", "c"]


def test_refuses_to_leave_nothing(paired):
    before = {name: (paired / name).read_bytes() for name in os.listdir(paired)}
    write_table(paired / "spk1.scp", [("other", "x.wav")])
    with pytest.raises(UserError, match="no utterance has a sound line in all of .*nothing was changed"):
        fix(paired)
    before["spk1.scp"] = b"other x.wav\n"
    assert {name: (paired / name).read_bytes() for name in os.listdir(paired)} == before


def test_drops_broken_audio_when_asked(paired, tmp_path, edit, utts):
    (tmp_path / "text.wav").write_text("no audio")
    edit(paired / "spk1.scp", line(2, f"a-001 {tmp_path}/text.wav\n"))
    assert fix(paired) == []
    (dropped,) = fix(paired, check_audio=True)
    assert "spk1.scp:2: 'a-001'" in str(dropped)
    assert "[format]" in str(dropped)
    assert "a-001" not in utts(paired)
    assert len(utts(paired)) == 11


def test_more_files_may_be_named(paired, edit):
    shutil.copy(paired / "utt2snr", paired / "loudness")
    edit(paired / "wav.scp", lambda lines: lines.pop(0))
    arguments = ["--fix", "--utt_extra_files", "loudness", str(paired)]
    assert run(validate_command, arguments) == 0
    assert "a-000" not in read_table(paired / "loudness")


def test_lengths_are_made_from_the_headers_where_there_are_none(small_set, tmp_path):
    for name in ("wav.scp", "utt2spk"):
        shutil.copy(small_set / name, tmp_path)
    found = fix(tmp_path)
    assert [str(problem) for problem in found] == [f"{tmp_path}/utt2num_samples: made from the headers of the audio"]
    assert read_table(tmp_path / "utt2num_samples") == read_table(small_set / "utt2num_samples")
    (tmp_path / "utt2num_samples").unlink()
    with pytest.raises(UserError, match=f"outside a recipe utils/fix_data_dir.sh {tmp_path}"):
        _ = DataDir(tmp_path).num_samples
    rows = read_table(tmp_path / "wav.scp")
    write_table(tmp_path / "wav.scp", [(utt, "gone.wav") for utt in rows])
    assert fix(tmp_path) == [] and not (tmp_path / "utt2num_samples").exists()
