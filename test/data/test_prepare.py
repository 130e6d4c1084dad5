import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from senet.bin import prepare as command
from senet.data import audio, prepare, splits
from senet.data.scp import Scp, read_ints, read_table
from senet.errors import UserError


def tone(path, seconds=1.0, rate=16000, frequency=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate), rate)
    return path


def listed(src, tmp_path, **options):
    options = {"speaker": "folder", "nj": 2, **options}
    return prepare.list_sources(src, cache_path=tmp_path / "cache", **options)


def run(*words):
    command.main([str(word) for word in words])


def test_set_has_one_line_a_file_with_the_files_own_rate_and_length(miniature, tmp_path):
    run(
        "--src", miniature / "clean_train", "--out", tmp_path / "speech", "--kind", "speech", "--speaker", "librispeech"
    )
    scp = Scp(tmp_path / "speech" / "wav.scp")
    assert len(scp) == 20
    assert scp["13-2-0000"].endswith("clean_train/13/2/13-2-0000.flac")
    samples = dict(zip([key for key, _ in scp], read_ints(tmp_path / "speech" / "utt2num_samples"), strict=True))
    assert samples["13-2-0000"] == 4 * 48000
    assert read_table(tmp_path / "speech" / "utt2fs")["13-2-0000"] == "48000"
    assert read_table(tmp_path / "speech" / "utt2spk")["13-2-0000"] == "13"
    assert read_table(tmp_path / "speech" / "spk2utt")["13"] == "13-1-0000 13-1-0001 13-2-0000"


def test_log_counts_rates_and_channels(miniature, tmp_path, caplog):
    caplog.set_level("INFO")
    listed(miniature / "clean_train", tmp_path, speaker="librispeech")
    assert "19 at 16000 Hz, 1 at 48000 Hz" in caplog.text
    assert "1 recordings have several channels: their mean is used" in caplog.text


@pytest.mark.parametrize(
    ("speaker", "name", "utt", "spk"),
    [
        ("librispeech", "1272/128104/1272-128104-0003.flac", "1272-128104-0003", "1272"),
        ("folder", "anna/session 1/take,1.wav", "anna-session_1-take_1", "anna"),
        ("folder", "loose.wav", "src-loose", "src"),
        ("file", "Babble_1.wav", "Babble_1", "Babble_1"),
        ("file", "deep/Babble_1.wav", "deep-Babble_1", "deep-Babble_1"),
    ],
)
def test_ids_are_made_of_speaker_and_path(speaker, name, utt, spk):
    assert prepare.name_source(Path("/x/src") / name, Path("/x/src"), speaker) == (utt, spk)


def test_names_that_are_not_librispeechs_are_refused(tmp_path):
    tone(tmp_path / "src" / "a.wav")
    with pytest.raises(UserError, match="not LibriSpeech's speaker-chapter-number.*--speaker folder"):
        listed(tmp_path / "src", tmp_path, speaker="librispeech")


def test_names_that_an_id_cannot_tell_apart_stay_apart(tmp_path):
    for name in ("a b.wav", "a_b.wav", "a_b.flac", "a_b_2.wav", "你好.wav", "再见.wav"):
        tone(tmp_path / "src" / name)
    sources = listed(tmp_path / "src", tmp_path, speaker="file")
    assert len({s.utt for s in sources}) == 6
    assert all(s.utt.isascii() and s.spk == s.utt for s in sources)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("AirConditioner_12.wav", "AirConditioner"), ("esc10_dog_1-187207-A.flac", "esc10_dog"), ("hum.wav", "hum"),
     ("street/0001.wav", "street"), ("street/car_3.wav", "car")],
)  # fmt: skip
def test_noise_type_is_in_the_name_or_the_folder(name, kind):
    assert prepare.noise_type(Path("/src") / name, Path("/src")) == kind


def test_broken_file_stops_and_is_named_or_is_left_out_and_counted(tmp_path, caplog):
    tone(tmp_path / "src" / "good.wav")
    cut = tone(tmp_path / "src" / "cut.wav")
    cut.write_bytes(cut.read_bytes()[:-1000])
    (tmp_path / "src" / "text.flac").write_text("not audio")
    with pytest.raises(UserError, match=r"(?s)cut\.wav.*31000 are there.*--bad_audio skip") as error:
        listed(tmp_path / "src", tmp_path)
    assert "text.flac: is not audio" in str(error.value)
    assert "2 of 3 files in" in str(error.value)
    assert [s.utt for s in listed(tmp_path / "src", tmp_path, bad_audio="skip")] == ["src-good"]
    assert "left out 2 unreadable files" in caplog.text
    for i in range(30):
        (tmp_path / "src" / f"x{i:02d}.wav").touch()
    with pytest.raises(UserError, match="(?s)x17.wav: the file is empty.*and 12 more\n32 of 33 files") as error:
        listed(tmp_path / "src", tmp_path)
    assert len(str(error.value).splitlines()) == 22


def test_short_files_are_left_out_and_an_empty_folder_is_an_error(tmp_path):
    tone(tmp_path / "src" / "long.wav", 2)
    tone(tmp_path / "src" / "short.wav", 0.5)
    assert [s.utt for s in listed(tmp_path / "src", tmp_path, min_seconds=1)] == ["src-long"]
    with pytest.raises(UserError, match="no recording to use.*2 under 3 s"):
        listed(tmp_path / "src", tmp_path, min_seconds=3)
    with pytest.raises(UserError, match="no such folder"):
        listed(tmp_path / "nowhere", tmp_path)


def test_second_run_reads_only_what_is_new(tmp_path, monkeypatch):
    for name in "abc":
        tone(tmp_path / "src" / f"{name}.wav")
    first = listed(tmp_path / "src", tmp_path)
    seen = []
    real = audio.info
    monkeypatch.setattr(audio, "info", lambda value: seen.append(Path(value).name) or real(value))
    assert listed(tmp_path / "src", tmp_path) == first
    assert seen == []
    tone(tmp_path / "src" / "b.wav", 2.0)
    assert listed(tmp_path / "src", tmp_path)[1].num_samples == 32000
    assert seen == ["b.wav"]


def test_run_after_a_kill_keeps_what_was_read(tmp_path, monkeypatch):
    for name in "abc":
        tone(tmp_path / "src" / f"{name}.wav")
    first = listed(tmp_path / "src", tmp_path)
    cache = tmp_path / "cache"
    cache.write_text(cache.read_text()[:-30])  # a kill in the middle of a line
    seen = []
    real = audio.info
    monkeypatch.setattr(audio, "info", lambda value: seen.append(Path(value).name) or real(value))
    for expected in (["c.wav"], ["c.wav"]):  # the second time it is remembered again
        assert listed(tmp_path / "src", tmp_path) == first
        assert seen == expected


def test_fingerprint_is_of_the_content(tmp_path):
    rng = np.random.default_rng(0)
    a = tmp_path / "a"
    for size in (100, 1 << 16, 1 << 20):
        data = bytearray(rng.bytes(size))
        a.write_bytes(data)
        shutil.copy(a, tmp_path / "b")
        assert prepare.fingerprint(a) == prepare.fingerprint(tmp_path / "b")
        for position in (0, size - 1):
            changed = bytearray(data)
            changed[position] ^= 1
            (tmp_path / "b").write_bytes(changed)
            assert prepare.fingerprint(a) != prepare.fingerprint(tmp_path / "b")
        (tmp_path / "b").write_bytes(data + b"x")
        assert prepare.fingerprint(a) != prepare.fingerprint(tmp_path / "b")


def source(utt, spk, content=None, recording=None):
    return prepare.Source(utt, spk, f"/{utt}.wav", 16000, 16000, 1, content or utt, "Type", recording or utt)


def test_linked_recordings_form_one_group():
    sources = [source("a-1", "a"), source("a-2", "a", content="same"), source("b-1", "b", content="same"),
               source("b-2", "b", recording="r"), source("c-1", "c", recording="r"), source("d-1", "d")]  # fmt: skip
    assert [[s.utt for s in g] for g in splits.groups(sources, True)] == [
        ["a-1", "a-2", "b-1", "b-2", "c-1"],
        ["d-1"],
    ]
    assert [len(g) for g in splits.groups(sources, False)] == [1, 2, 2, 1]


def test_split_shares_nothing_and_loses_nothing():
    rng = np.random.default_rng(0)
    sources = [source(f"s{i % 40:02d}-{i}", f"s{i % 40:02d}", content=str(rng.integers(900))) for i in range(300)]
    for seed in range(5):
        parts = splits.split(sources, {"train": 0.8, "valid": 0.1, "test": 0.1}, by_speaker=True, seed=seed)
        assert sorted(s for part in parts.values() for s in part) == sorted(sources)
        for field in ("spk", "fingerprint", "recording"):
            sets = [{getattr(s, field) for s in part} for part in parts.values()]
            assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]


def test_split_follows_the_seed_and_hardly_moves_when_a_speaker_is_added():
    sources = [source(f"s{i:03d}-1", f"s{i:03d}") for i in range(200)]
    shares = {"train": 0.9, "valid": 0.1}
    parts = splits.split(sources, shares, by_speaker=True, seed=0)
    assert parts == splits.split(sources[::-1], shares, by_speaker=True, seed=0)
    assert parts != splits.split(sources, shares, by_speaker=True, seed=1)
    more = splits.split([*sources, source("new-1", "new")], shares, by_speaker=True, seed=0)
    assert len({s.spk for s in parts["valid"]} - {s.spk for s in more["valid"]}) <= 1


@pytest.mark.parametrize(
    ("speakers", "expected"), [(921, 18), (226, 5), (30, 5), (12, 3), (3, 1), (2, 1)]
)  # 2 % of them, but at least 5, or a quarter where there are few
def test_small_parts_have_a_few_speakers(speakers, expected):
    sources = [source(f"s{i:03d}-1", f"s{i:03d}") for i in range(speakers)]
    parts = splits.split(sources, {"train": 0.98, "valid": 0.02}, by_speaker=True, seed=0)
    assert len(parts["valid"]) == expected
    assert len(parts["train"]) == speakers - expected


def test_too_few_speakers_for_the_parts():
    with pytest.raises(UserError, match="1 speakers cannot be split into train valid"):
        splits.split([source("a-1", "a"), source("a-2", "a")], {"train": 0.5, "valid": 0.5}, by_speaker=True, seed=0)


def test_content_that_the_test_set_has_is_found_whatever_its_name(miniature, tmp_path, capsys):
    run("--src", miniature / "noise_test", "--out", tmp_path / "noise_test", "--kind", "noise")
    words = ("--src", miniature / "noise_train", "--out", tmp_path / "noise", "--kind", "noise",
             "--split", "train=0.7 valid=0.3", "--disjoint_from", tmp_path / "noise_test")  # fmt: skip
    with pytest.raises(UserError, match=r"Babble_2\.wav: equal content is in .*noise_test.*--on_shared drop"):
        run(*words)
    run(*words, "--on_shared", "drop")
    assert "left out: " in (log := capsys.readouterr().err) and "Babble_2.wav: equal content" in log
    sets = [read_table(tmp_path / f"noise_{part}" / "utt2fingerprint") for part in ("train", "valid", "test")]
    assert sum(map(len, sets)) == 14 + 2
    assert not any("Babble_2" in part for part in sets[:2])
    assert any("Babble_1" in part for part in sets[:2])  # its name alone is no reason
    assert len({content for part in sets for content in part.values()}) == 16
    dogs = [part for part in sets if "dog_1-187207-A" in part]
    assert len(dogs) == 1 and "dog_1-187207-B" in dogs[0]


def test_speaker_of_the_test_set_is_refused(miniature, tmp_path):
    common = ("--src", miniature / "clean_test", "--kind", "speech", "--speaker", "librispeech")
    run(*common, "--out", tmp_path / "test")
    with pytest.raises(UserError, match="speaker 21 is in .*test too"):
        run(*common, "--out", tmp_path / "train", "--disjoint_from", tmp_path / "test")


def test_types_can_be_excluded_by_prefix(miniature, tmp_path):
    common = ("--src", miniature / "noise_train", "--out", tmp_path / "noise", "--kind", "noise")
    run(*common, "--exclude_types", "Babble,Air")
    assert set(read_table(tmp_path / "noise" / "utt2noise").values()) == {"Typing", "dog", "Munching"}
    with pytest.raises(UserError, match="leaves no recording of 15"):
        run(*common, "--exclude_types", "A,B,T,d,M")


def test_shares_have_to_add_up(capsys):
    with pytest.raises(SystemExit):
        run("--src", ".", "--out", "x", "--kind", "noise", "--split", "train=0.5 valid=0.2")
    assert "add up to 1" in capsys.readouterr().err
