import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from senet.bin import prepare as command
from senet.data import audio, naming, prepare, splits
from senet.data.recordings import Sources
from senet.data.scp import Scp, read_ints, read_table
from senet.errors import UserError


def tone(path, seconds=1.0, rate=16000, frequency=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate), rate)
    return path


def listed(src, tmp_path, **options):
    options = {"kind": "speech", "speaker": "folder", "nj": 2, **options}
    return list(prepare.list_sources([src], cache_path=tmp_path / "cache", **options))


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
    assert naming.name_source(name, "src", speaker) == (utt, spk)


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
    assert naming.noise_type(name, "src") == kind


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
    return (utt, spk, "", f"{utt}.wav", "Type", recording, 16000, 16000, 1, content or utt)


def test_linked_recordings_form_one_group():
    rows = [source("a-1", "a"), source("a-2", "a", content="same"), source("b-1", "b", content="same"),
            source("b-2", "b", recording="r"), source("c-1", "c", recording="r"), source("d-1", "d")]  # fmt: skip
    sources = Sources(rows)
    assert splits.groups(sources, True).tolist() == [0, 0, 0, 0, 0, 5]
    assert splits.groups(sources, False).tolist() == [0, 1, 1, 3, 3, 5]


def test_a_chain_of_links_is_one_group_whatever_its_order():
    rng = np.random.default_rng(0)
    for _ in range(20):  # a path through 30 sources, linked by content and speaker in turn, and 5 lone ones
        order = rng.permutation(30)
        contents, speakers = {}, {}
        for place, i in enumerate(order):
            contents[i], speakers[i] = f"c{place // 2}", f"s{(place + 1) // 2}"
        rows = [source(f"u{i:02d}", speakers.get(i, f"x{i}"), contents.get(i)) for i in range(35)]
        assert splits.groups(Sources(rows), True).tolist() == [0] * 30 + [30, 31, 32, 33, 34]


def test_split_shares_nothing_and_loses_nothing():
    rng = np.random.default_rng(0)
    rows = [source(f"s{i % 40:02d}-{i}", f"s{i % 40:02d}", content=str(rng.integers(900))) for i in range(300)]
    sources = Sources(rows)
    sources.sort()
    for seed in range(5):
        parts = splits.split(sources, {"train": 0.8, "valid": 0.1, "test": 0.1}, by_speaker=True, seed=seed)
        assert sorted(s for part in parts.values() for s in part) == list(sources)
        for field in ("spk", "fingerprint", "recording"):
            sets = [{getattr(s, field) for s in part} for part in parts.values()]
            assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]


def test_split_follows_the_seed_and_hardly_moves_when_a_speaker_is_added():
    rows = [source(f"s{i:03d}-1", f"s{i:03d}") for i in range(200)]
    sources = Sources(rows)
    shares = {"train": 0.9, "valid": 0.1}
    parts = splits.split(sources, shares, by_speaker=True, seed=0)
    assert parts["valid"].utt == splits.split(sources, shares, by_speaker=True, seed=0)["valid"].utt
    assert parts["valid"].utt != splits.split(sources, shares, by_speaker=True, seed=1)["valid"].utt
    more = splits.split(Sources([source("new-1", "new"), *rows]), shares, by_speaker=True, seed=0)
    assert len({s.spk for s in parts["valid"]} - {s.spk for s in more["valid"]}) <= 1


@pytest.mark.parametrize(
    ("speakers", "expected"), [(921, 18), (226, 5), (30, 5), (12, 3), (3, 1), (2, 1)]
)  # 2 % of them, but at least 5, or a quarter where there are few
def test_small_parts_have_a_few_speakers(speakers, expected):
    sources = Sources([source(f"s{i:03d}-1", f"s{i:03d}") for i in range(speakers)])
    parts = splits.split(sources, {"train": 0.98, "valid": 0.02}, by_speaker=True, seed=0)
    assert len(parts["valid"]) == expected
    assert len(parts["train"]) == speakers - expected


def test_too_few_speakers_for_the_parts():
    with pytest.raises(UserError, match="1 speakers cannot be split into train valid"):
        sources = Sources([source("a-1", "a"), source("a-2", "a")])
        splits.split(sources, {"train": 0.5, "valid": 0.5}, by_speaker=True, seed=0)


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


@pytest.mark.parametrize(
    ("name", "utt", "spk"),
    [
        ("read_speech/book_00000_chp_0009_reader_06709_3_seg_2.wav",
         "reader_06709-book_00000_chp_0009_reader_06709_3_seg_2", "reader_06709"),
        ("vctk_wav48_silence_trimmed/p225/p225_001_mic1.wav", "p225-p225_001_mic1", "p225"),
        ("emotional_speech/crema_d/1001_DFA_ANG_XX.wav", "crema_1001-1001_DFA_ANG_XX", "crema_1001"),
        ("VocalSet_48kHz_mono/vocalset_female7_scales_fast_forte_f7_scales_f_fast_forte_i_48kHz.wav", None,
         "vocalset_female7"),
        ("singing_voice/VocalSet11/FULL/female1/arpeggios/belt/f1_arpeggios_belt_c_i_16k.wav",
         "vocalset_female1-f1_arpeggios_belt_c_i_16k", "vocalset_female1"),
        ("french_speech/M-AILABS_Speech_Dataset/fr_FR_190hrs_16k/female/ezwa/l_epouvante/wavs/l_epouvante_01_f000001.wav",
         "fr_FR_ezwa-l_epouvante_01_f000001", "fr_FR_ezwa"),
        ("italian_speech/M-AILABS_Speech_Dataset/it_IT_128hrs_16k/mix/novelle_02/wavs/novelle_02_f000039.wav",
         "it_IT_mix-novelle_02_f000039", "it_IT_mix"),
        ("german_speech/CC_BY_SA_4.0_249hrs_339spk_German_Wikipedia_16k/German_Wikipedia_Otto_Hahn_audio_48kHz_seg_3.wav",
         "German_Wikipedia-German_Wikipedia_Otto_Hahn_audio_48kHz_seg_3", "German_Wikipedia"),
        ("spanish_speech/SLR39_48kHz/SLR39_100_11_48kHz.wav", "SLR39_100-SLR39_100_11_48kHz", "SLR39_100"),
        ("spanish_speech/SLR39_5_337_48kHz_seg_0.wav", None, "SLR39_5"),
        ("spanish_speech/SLR39_native-f-Mexico-190-45-62-NA-mgh8170_s120_48kHz.wav", None,
         "SLR39_native-f-Mexico-190-45-62-NA-mgh8170"),
        ("spanish_speech/SLR61_es_ar_female_arf_03397_01665251952_48kHz.wav", None, "SLR61_es_ar_female_arf_03397"),
        ("german_speech/CC_4.0_148hrs/data/2014-03-18-13-10-12-mic-2_train_16k.wav",
         "german_speech-CC_4.0_148hrs-data-2014-03-18-13-10-12-mic-2_train_16k", "german_speech"),
        ("loose.wav", "clean_fullband-loose", "clean_fullband"),
    ],
)  # fmt: skip
def test_dns_names_tell_the_speaker_or_the_corpus_stands_for_one(name, utt, spk):
    found = naming.name_source(name, "clean_fullband", "dns")
    assert found[1] == spk
    assert found[0] == (utt or f"{spk}-{Path(name).stem}")


def test_dns_names_are_known_from_whatever_folder_the_search_begins(tmp_path):
    tone(tmp_path / "it_IT_128hrs_16k" / "male" / "riccardo" / "galatea" / "wavs" / "galatea_01.wav")
    for src in ("", "it_IT_128hrs_16k"):
        assert [s.spk for s in listed(tmp_path / src, tmp_path, speaker="dns")] == ["it_IT_riccardo"]


def test_files_whose_speaker_no_name_tells_are_counted_by_group(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("book_00000_chp_0009_reader_06709_0.wav", "mandarin/a.wav", "mandarin/deep/b.wav", "tamil/c.wav"):
        tone(tmp_path / "src" / name)
    assert len({s.spk for s in listed(tmp_path / "src", tmp_path, speaker="dns")}) == 3
    assert "names tell no speaker, so each group counts as one: 2 in mandarin, 1 in tamil" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind", "origin"),
    [("door_Freesound_validated_349356_0", "door", "freesound349356"), ("-0Kp4S9337k", "AudioSet", None),
     ("_UAmp-NJwko", "AudioSet", None), ("breath_spit_Freesound_validated_422419_3", "breath_spit", "freesound422419")],
)  # fmt: skip
def test_dns_noise_has_type_and_recording(name, kind, origin):
    assert naming.noise_type(f"{name}.wav", "noise_fullband", "dns") == kind
    assert naming.recording(f"{name}.wav", "noise") == origin


def test_impulse_responses_of_a_room_stay_together_and_have_no_noise_types(tmp_path):
    for i in range(120):
        tone(
            tmp_path / "rir" / f"room{i % 2}" / f"Room{i // 12:03d}" / f"Room{i // 12:03d}-{i:05d}.wav", frequency=i + 1
        )
    tone(tmp_path / "rir" / "real.wav")
    run("--kind", "rir", "--speaker", "dns", "--src", tmp_path / "rir", "--out", tmp_path / "rir_set",
        "--split", "train=0.6 valid=0.2 test=0.2")  # fmt: skip
    sets = [read_table(tmp_path / f"rir_set_{part}" / "utt2recording") for part in ("train", "valid", "test")]
    rooms = [set(values.values()) for values in sets]
    assert sum(map(len, sets)) == 121 and sum(map(len, rooms)) == len(set.union(*rooms)) == 21
    assert "room1-Room003" in set.union(*rooms)
    assert not (tmp_path / "rir_set_train" / "utt2noise").exists()


def test_several_folders_make_one_set(tmp_path):
    for name in (
        "a/book_1_chp_1_reader_1_0.wav",
        "a/deep/book_1_chp_1_reader_2_0.wav",
        "b/book_1_chp_1_reader_1_0.wav",
    ):
        tone(tmp_path / name)
    common = ("--kind", "speech", "--speaker", "dns", "--out", tmp_path / "out")
    run(*common, "--src", tmp_path / "a", tmp_path / "b")
    table = read_table(tmp_path / "out" / "utt2spk")
    assert sorted(table.values()) == ["reader_1", "reader_1", "reader_2"]
    assert "reader_1-book_1_chp_1_reader_1_0_2" in table
    with pytest.raises(UserError, match="b: no recording to use"):
        shutil.rmtree(tmp_path / "b")
        (tmp_path / "b").mkdir()
        run(*common, "--src", tmp_path / "a", "--src", tmp_path / "b")


def test_fingerprints_of_names_read_only_headers_and_are_not_mixed_with_those_of_contents(tmp_path, monkeypatch):
    for name in ("a/1.wav", "b/1.wav", "b/2.wav"):
        tone(tmp_path / "one" / name)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    monkeypatch.setattr(prepare, "fingerprint", lambda path: pytest.fail("the content is read"))
    one = listed(tmp_path / "one", tmp_path, fingerprints="name")
    assert len({s.fingerprint for s in one}) == 3  # of equal content
    assert [s.fingerprint for s in listed(tmp_path / "two", tmp_path, fingerprints="name")] == [
        s.fingerprint for s in one
    ]
    monkeypatch.undo()
    common = ("--kind", "noise", "--src", tmp_path / "one")
    run(*common, "--out", tmp_path / "names", "--fingerprint", "name")
    for how in ("name", "content"):  # a cache of headers only is not taken for one of contents
        run(*common, "--out", tmp_path / "names2", "--fingerprint", how)
    assert len(set(read_table(tmp_path / "names2" / "utt2fingerprint").values())) == 1
    with pytest.raises(UserError, match="made with another --fingerprint"):
        run(*common, "--out", tmp_path / "x", "--disjoint_from", tmp_path / "names")


def test_files_that_vanish_after_they_were_listed_and_folders_that_cannot_be_read_are_named_or_counted(
    tmp_path, monkeypatch, caplog
):
    for name in ("a.wav", "b.wav", "locked/c.wav"):
        tone(tmp_path / "src" / name)
    (tmp_path / "src" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    scandir, stat = prepare.os.scandir, prepare.os.stat

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def vanish(path, *args, **options):
        if str(path).endswith("b.wav"):
            (tmp_path / "src" / "b.wav").unlink(missing_ok=True)
        return stat(path, *args, **options)

    monkeypatch.setattr("os.scandir", refuse)
    monkeypatch.setattr("os.stat", vanish)
    assert [s.utt for s in listed(tmp_path / "src", tmp_path, bad_audio="skip")] == ["src-a"]
    for text in ("locked: the folder cannot be read: Permission denied", "gone.wav: cannot be read: No such file"):
        assert text in caplog.text
    assert "b.wav: cannot be read: No such file" in caplog.text
    assert "left out 3 unreadable files" in caplog.text
    with pytest.raises(UserError, match=r"(?s)locked: the folder cannot be read.*gone\.wav: cannot be read.*skip"):
        listed(tmp_path / "src", tmp_path)


def test_run_that_is_killed_at_any_point_goes_on_with_what_is_new(tmp_path, monkeypatch):
    for i in range(9):
        tone(tmp_path / "src" / f"{i}.wav", frequency=100 + i)
    real, seen = audio.info, []

    def info(value):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(value)
        return real(value)

    monkeypatch.setattr(prepare, "_AT_ONCE", 2)
    for _ in range(5):  # each attempt gets a little further
        seen.clear()
        monkeypatch.setattr(audio, "info", info)
        try:
            found = listed(tmp_path / "src", tmp_path, nj=1)
            break
        except KeyboardInterrupt:
            continue
    assert len(found) == 9 and len(seen) < 4
