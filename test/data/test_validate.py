import os

import numpy as np
import pytest

from senet.bin import run
from senet.bin.validate import main as validate_command
from senet.data.audio import write_wav
from senet.data.scp import read_table, spk2utt, write_table
from senet.data.validate import validate


def line(number, content):
    """A change for ``edit``: another content for one line, counted from 1."""
    return lambda lines: lines.__setitem__(number - 1, content)


def test_a_sound_set_is_summarised(original):
    report = validate(original, check_audio=True, sample_rate=16000)
    assert report.problems == []
    samples = sum(int(n) for n in read_table(original / "utt2num_samples").values())
    assert (report.utterances, report.speakers, report.rates) == (12, 3, {16000: 12})
    assert report.seconds == pytest.approx(samples / 16000)
    assert validate(original)._replace(path=None) == report._replace(path=None)


def test_source_sets_have_lengths_and_rates_of_their_own(tmp_path):
    rates = {"a-0": 8000, "a-1": 48000}
    for utt, rate in rates.items():
        write_wav(tmp_path / f"{utt}.wav", 0.1 * np.random.default_rng(0).standard_normal((rate, 2)), rate)
    write_table(tmp_path / "wav.scp", [(utt, tmp_path / f"{utt}.wav") for utt in rates])
    write_table(tmp_path / "utt2spk", [(utt, "a") for utt in rates])
    write_table(tmp_path / "spk2utt", [("a", "a-0 a-1")])
    write_table(tmp_path / "utt2num_samples", rates.items())
    write_table(tmp_path / "utt2fs", rates.items())
    for check_audio in (False, True):
        report = validate(tmp_path, check_audio=check_audio)
        assert (report.problems, report.seconds, report.rates) == ([], 2.0, {8000: 1, 48000: 1})
    assert [p.message.split()[-1] for p in validate(tmp_path, check_audio=True, channels=1).problems] == [
        "[channels]",
        "[channels]",
    ]
    write_table(tmp_path / "utt2fs", [("a-0", 8000), ("a-1", 44100)])
    (problem,) = validate(tmp_path, check_audio=True).problems
    assert "has 48000 Hz, 44100 Hz expected" in str(problem)
    assert str(problem).startswith(f"{tmp_path / 'wav.scp'}:2: 'a-1'")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spk1.scp", lambda lines: lines.pop(2), "spk1.scp:3: 'a-002' of wav.scp:3 is missing"),
        ("spk1_feats.scp", lambda lines: lines.pop(), "spk1_feats.scp:11: 'c-004' of wav.scp:12 is missing"),
        ("utt2snr", lambda lines: lines.append("x 1\n"), "utt2snr:13: 'x' is not in wav.scp (12 ids)"),
        ("wav.scp", lambda lines: lines.reverse(), "wav.scp:2: 'c-003' comes after 'c-004'"),
        ("noise1.scp", lambda lines: lines.insert(1, lines[0]), "noise1.scp:2: 'a-000' is there twice"),
        ("wav.scp", line(4, "a-003 cat x.wav |\n"), "wav.scp:4: the value is a shell"),
        ("wav.scp", line(1, "a-000 x.wav\r\n"), "wav.scp:1: there is a carriage"),
        ("utt2num_samples", line(2, "a-001 0\n"), "utt2num_samples:2: 'a-001': '0' found"),
        ("utt2spk", line(2, "a-001 a b\n"), "utt2spk:2: 'a-001': 'a b' is 2 speakers"),
        ("utt2spk", line(2, "a-001 z\n"), "utt2spk:3: speaker 'a' of 'a-002' comes after 'z'"),
        ("spk2utt", lambda lines: lines.pop(), "spk2utt: speaker 'c' of utt2spk is missing"),
        ("spk2utt", line(3, "c c-000\n"), "spk2utt:3: the utterances of 'c' are not those"),
        ("spk2gender", line(2, "a-b x\n"), "spk2gender:2: 'a-b': 'x' found, m or f expected"),
        ("spk2gender", lambda lines: lines.pop(), "spk2gender: speaker 'c' of spk2utt is missing"),
        ("spk2gender", lambda lines: lines.reverse(), "spk2gender:2: 'a-b' comes after 'c'"),
        ("utt2spk", lambda lines: lines.clear(), "utt2spk:1: the file is empty"),
    ],
)
def test_names_file_and_line(paired, capsys, name, change, message, edit):
    edit(paired / name, change)
    assert run(validate_command, [str(paired)]) == 1
    assert f"{paired}/{message}" in capsys.readouterr().err


def test_cmvn_is_keyed_by_speaker(paired):
    write_table(paired / "cmvn.scp", [("a", "cmvn.ark:2"), ("a-000", "cmvn.ark:9"), ("a-b", "cmvn.ark:16")])
    messages = [str(problem) for problem in validate(paired).problems]
    assert len(messages) == 2
    assert messages[0].startswith(f"{paired}/cmvn.scp:2: speaker 'a-000' is not in spk2utt")
    assert messages[1].startswith(f"{paired}/cmvn.scp: speaker 'c' of spk2utt is missing")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a-1 r 0.5 1.0", None),
        ("a-1 r 1.0 1.0", "segments:2: 'a-1': 'r 1.0 1.0' found"),
        ("a-1 r -1 1.0", "segments:2: 'a-1': 'r -1 1.0' found"),
        ("a-1 r 0 nan", "segments:2: 'a-1': 'r 0 nan' found"),
        ("a-1 r 1.0", "segments:2: 'a-1': 'r 1.0' found"),
        ("a-1 q 0.5 1.0", "segments:2: 'a-1': recording 'q' is not in wav.scp"),
        ("a-2 r 0.5 1.0", "segments:2: 'a-1' of utt2spk:2 is missing"),
    ],
)
def test_segments_cut_utterances_from_recordings(tmp_path, row, message):
    write_wav(tmp_path / "r.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    write_table(tmp_path / "wav.scp", [("r", tmp_path / "r.wav")])
    write_table(tmp_path / "utt2spk", [("a-0", "a"), ("a-1", "a")])
    write_table(tmp_path / "spk2utt", [("a", "a-0 a-1")])
    (tmp_path / "segments").write_text(f"a-0 r 0 0.5\n{row}\n")
    report = validate(tmp_path, check_audio=True)
    if message:
        assert str(report.problems[0]).startswith(f"{tmp_path}/{message}")
    else:
        assert (report.problems, report.utterances, report.seconds) == ([], 2, 1.0)


def test_every_one_of_many_broken_files_is_named(paired, capsys, utts):
    write_table(paired / "wav.scp", [(utt, f"/absent/{utt}.wav") for utt in utts(paired)])
    assert run(validate_command, [str(paired), "--check_audio", "--non-print"]) == 1
    errors = capsys.readouterr().err
    assert errors.count("/absent/") == 12
    assert " more" not in errors


def test_missing_files_and_folders(paired, capsys):
    for name in ("utt2spk", "spk2utt"):
        content = (paired / name).read_text()
        (paired / name).unlink()
        assert run(validate_command, [str(paired)]) == 1
        assert f"{name}: missing" in capsys.readouterr().err
        (paired / name).write_text(content)
    assert run(validate_command, [str(paired / "absent")]) == 1
    assert "absent: no such folder" in capsys.readouterr().err


def test_speakers_out_of_order_may_be_allowed(paired, edit, utts):
    write_table(paired / "utt2spk", [(utt, f"{9 - i:02d}") for i, utt in enumerate(utts(paired)[:10])])
    for name in os.listdir(paired):
        if name.startswith("utt2") or name.endswith(".scp"):
            edit(paired / name, lambda lines: lines.__delitem__(slice(10, None)))
    write_table(paired / "spk2utt", spk2utt(read_table(paired / "utt2spk").items()))
    (paired / "spk2gender").unlink()
    (problem,) = validate(paired).problems
    assert "utt2spk:2: speaker '08' of 'a-001' comes after '09'" in str(problem)
    assert run(validate_command, [str(paired), "--no-spk-sort"]) == 0


def test_audio_that_is_not_sound_is_named_where_the_manifest_has_it(paired, tmp_path, capsys, edit):
    def replace(name, line, x, rate=16000):
        path = tmp_path / f"{name}{line}.wav"
        write_wav(path, x, rate)
        edit(paired / name, lambda lines: lines.__setitem__(line - 1, f"{lines[line - 1].split()[0]} {path}\n"))

    noise = 0.1 * np.random.default_rng(1).standard_normal(4000)
    replace("wav.scp", 1, np.zeros(4000))
    replace("spk1.scp", 2, noise[:3899])  # the others have 3900
    replace("noise1.scp", 3, noise[:3800], 8000)
    edit(paired / "spk1.scp", line(5, "a-b-000 /absent.wav\n"))
    assert validate(paired).problems == []
    assert run(validate_command, [str(paired), "--check_audio"]) == 1
    errors = capsys.readouterr().err
    for message in (
        f"wav.scp:1: 'a-000': {tmp_path}/wav.scp1.wav: is digital silence; leave it out [silent]",
        f"spk1.scp:2: 'a-001': {tmp_path}/spk1.scp2.wav: has 3899 samples, and utt2num_samples says 3900",
        f"noise1.scp:3: 'a-002': {tmp_path}/noise1.scp3.wav: has 8000 Hz, 16000 Hz expected",
        "spk1.scp:5: 'a-b-000': /absent.wav: cannot be opened: No such file",
    ):
        assert f"{paired}/{message}" in errors
    assert errors.count("[") == 4
    clean = (paired / "spk1.scp").read_text().splitlines(keepends=True)[0]
    edit(paired / "wav.scp", line(1, clean))
    messages = [str(p) for p in validate(paired, check_audio=True, length_tolerance=1).problems]
    assert len(messages) == 2  # one sample less is tolerated now
    assert not any("spk1.scp:2:" in message for message in messages)
