import hashlib
import math
import shutil

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from senet.bin import mix as command
from senet.bin import prepare
from senet.data import audio
from senet.data.mixing import FULL_SCALE, Mixer, assemble, mix
from senet.data.plan import Line, Part, silence
from senet.data.scp import Scp, read_ints, read_table, write_table
from senet.data.sources import SourceSet
from senet.data.stored import open_command
from senet.dsp.level import rms_db
from senet.errors import UserError

RATE = 16000


def run(*words):
    return command.main([str(word) for word in words])


def ints(value):
    return np.rint(audio.read(value)[0] * FULL_SCALE).astype(int)


def measured_snr(clean, noise):
    return 10 * math.log10(np.sum(clean.astype(float) ** 2) / np.sum(noise.astype(float) ** 2))


def content(folder):
    """Digest of everything that is stored, apart from the logs of shards."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data(miniature, tmp_path_factory):
    """Source sets of the miniature: speech_train, noise_train."""
    folder = tmp_path_factory.mktemp("data")
    for kind, name, speaker in (("speech", "clean_train", "librispeech"), ("noise", "noise_train", "file")):
        words = ["--src", miniature / name, "--out", folder / f"{kind}_train", "--kind", kind, "--speaker", speaker]
        prepare.main([str(word) for word in words])
    return folder


@pytest.fixture
def options(data):
    return ["--data", data, "--speech", "speech_train", "--noise", "noise_train"]


@pytest.fixture(scope="module")
def mixed(data, tmp_path_factory):
    """300 mixtures (three shards) by the default rules, and the folder."""
    out = tmp_path_factory.mktemp("dump") / "raw" / "train"
    run(
        "--data",
        data,
        "--speech",
        "speech_train",
        "--noise",
        "noise_train",
        "--out",
        out,
        "--num_clips",
        300,
        "--seconds",
        1,
    )
    return out


# Arithmetic


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    snr=st.floats(-20, 40),
    level=st.floats(-35, 0),
    gains=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
)
def test_mixing_at_x_db_measures_x_db_and_adds_up_exactly(seed, snr, level, gains):
    rng = np.random.default_rng(seed)
    speech, noise = (g * 0.1 * rng.standard_normal(4000).astype(np.float32) for g in gains)
    (noisy, clean, background), clipped = mix(speech, noise, snr, level)
    assert abs(measured_snr(clean, background) - snr) < 0.01
    assert np.array_equal(noisy.astype(int), clean.astype(int) + background)
    assert clipped == 0
    assert max(np.abs(x.astype(int)).max() for x in (noisy, clean, background)) <= math.ceil(0.99 * FULL_SCALE)


def test_twenty_db_are_twenty_db():
    """One public version takes a square root of the gain, which makes 10 dB of nominal 20."""
    rng = np.random.default_rng(0)
    (_, clean, noise), _ = mix(rng.standard_normal(16000), rng.standard_normal(16000), 20.0, -25.0)
    assert abs(measured_snr(clean, noise) - 20) < 0.01


def test_level_is_kept_where_the_guard_is_not_needed():
    rng = np.random.default_rng(0)
    (_, clean, _), _ = mix(rng.standard_normal(16000), rng.standard_normal(16000), 5.0, -25.0)
    assert abs(rms_db(clean / FULL_SCALE) + 25) < 0.01


def test_unit_rms_mixtures_end_with_the_peak_at_the_guard():
    rng = np.random.default_rng(0)
    (noisy, _, _), _ = mix(rng.standard_normal(16000), rng.standard_normal(16000), 0.0, 0.0)
    assert abs(np.abs(noisy.astype(int)).max() - 0.99 * FULL_SCALE) <= 1


def test_guard_looks_at_all_three_signals():
    speech = np.tile([1.0, -1.0], 800)
    noise = -speech.copy()
    noise[0] = 1.0  # they cancel all but once
    (_, clean, background), clipped = mix(speech, noise, 0.0, 0.0)
    assert clipped == 0
    assert max(np.abs(clean).max(), np.abs(background).max()) <= math.ceil(0.99 * FULL_SCALE)


def test_without_guard_samples_are_clipped_and_counted():
    speech, noise = np.tile([1.0, -1.0], 800), np.tile([1.0, 1.0, -1.0, -1.0], 400)
    (noisy, _, _), clipped = mix(speech, noise, 20.0, -0.5, on_clip="none")
    assert clipped == np.count_nonzero((noisy == 32767) | (noisy == -32768)) == 800


# Assembling


@pytest.fixture(scope="module")
def mixer(data):
    fields = {"peak": "0.99", "on_clip": "scale_all", "parts": "as_is", "level_of": "clean"}
    return Mixer(fields, SourceSet(data / "speech_train", RATE), SourceSet(data / "noise_train", RATE))


def test_parts_are_joined_with_zeros_between(mixer):
    parts = (Part("11-1-0000", 100, 50), silence(7), Part("13-2-0000", 5, 20))
    x = assemble(parts, mixer.speech)
    assert len(x) == 77
    np.testing.assert_array_equal(x[50:57], 0)
    np.testing.assert_array_equal(x[57:], mixer.speech.read(mixer.speech.scp.index("13-2-0000"), 5, 20))


def test_joined_recordings_are_equally_loud_where_the_plan_says_so(mixer):
    parts = (Part("Babble_1", 0, 5 * RATE), Part("dog_1-187207-A", 0, 1000))
    x = assemble(parts, mixer.noise, equal_rms=True)
    assert abs(rms_db(x[: 5 * RATE])) < 1e-3
    whole = mixer.noise.read(mixer.noise.scp.index("dog_1-187207-A"))  # the level is that of the file, not of the cut
    np.testing.assert_allclose(x[5 * RATE :], whole[:1000] / np.sqrt(np.mean(whole**2)), rtol=1e-4)


def test_what_a_plan_asks_for_beyond_this_version_is_refused(mixer):
    line = Line("u", "s", (Part("11-1-0000", 0, 9),), (Part("Babble_1", 0, 9),), 0.0, 0.0, "room", 9)
    with pytest.raises(UserError, match="'u' asks for the RIR 'room', but there is no set of them"):
        mixer.render(line)
    with pytest.raises(UserError, match="'u' has 9 samples of speech and 9 of noise, and says 10"):
        mixer.render(line._replace(rir=None, num_samples=10))
    with pytest.raises(UserError, match="level_of=loudness is not known"):
        Mixer({"peak": "1", "on_clip": "none", "parts": "as_is", "level_of": "loudness"}, mixer.speech, mixer.noise)


# Sets


def test_stored_mixtures_keep_what_the_manifests_say(mixed):
    noisy, clean, noise = (Scp(mixed / name) for name in ("wav.scp", "spk1.scp", "noise1.scp"))
    assert len(noisy) == 300
    snr, spk = read_table(mixed / "utt2snr"), read_table(mixed / "utt2spk")
    lengths = read_ints(mixed / "utt2num_samples")
    peaks = []
    for i, (utt, value) in enumerate(noisy):
        x, s, n = ints(value), ints(clean[utt]), ints(noise[utt])
        assert np.array_equal(x, s + n)
        assert len(x) == lengths[i] == RATE
        assert abs(measured_snr(s, n) - float(snr[utt])) < 0.01
        assert f"_SNRdb_{snr[utt]}" in utt and utt.startswith(spk[utt] + "-")
        peaks.append(max(np.abs(y).max() for y in (x, s, n)))
    assert max(peaks) <= math.ceil(0.99 * FULL_SCALE) and min(peaks) >= 0.99 * FULL_SCALE - 1


def test_manifests_have_the_same_sorted_ids(mixed):
    keys = [key for key, _ in Scp(mixed / "wav.scp")]
    assert keys == sorted(keys)
    for name in ("spk1.scp", "noise1.scp", "utt2spk", "utt2num_samples", "utt2dur", "utt2snr", "utt2noise"):
        assert list(read_table(mixed / name)) == keys
    assert set(read_table(mixed / "utt2noise").values()) == {"AirConditioner", "Babble", "Typing", "dog", "Munching"}
    assert set(read_table(mixed / "utt2dur").values()) == {"1.0000"}
    listed = [utt for utts in read_table(mixed / "spk2utt").values() for utt in utts.split()]
    assert listed == keys


@pytest.mark.parametrize("nj", [1, 2, 7])
def test_any_number_of_jobs_in_any_order_makes_the_same_bytes(mixed, options, tmp_path, monkeypatch, nj):
    out = tmp_path / "raw" / "train"
    words = [*options, "--out", out, "--num_clips", 300, "--seconds", 1]
    run(*words, "--plan", "--nj", nj)
    for j in range(nj, 0, -1):
        run(*words, "--job", f"{j}/{nj}")
    run(*words, "--collect")
    for scp in ("wav.scp", "spk1.scp", "noise1.scp"):
        for (utt, value), (_, expected) in zip(Scp(out / scp), Scp(mixed / scp), strict=True):
            assert value.rpartition("/")[2] == expected.rpartition("/")[2], utt
    ours, theirs = content(out), content(mixed)
    same = [name for name in theirs if name.endswith(".ark") or name.startswith(("utt2", "spk2utt", "plan"))]
    assert len(same) == 9 + 8
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


@pytest.mark.parametrize("gone", ["ark/clean.000002.ark", "ark/shard.000001.tsv", "wav.scp", "plan.tsv"])
def test_what_is_missing_is_made_again_to_the_same_bytes(mixed, options, gone):
    before = content(mixed)
    (mixed / gone).unlink()
    other = (mixed / "ark" / "noisy.000003.ark").stat().st_mtime_ns
    run(*options, "--out", mixed, "--num_clips", 300, "--seconds", 1)
    assert content(mixed) == before
    assert (mixed / "ark" / "noisy.000003.ark").stat().st_mtime_ns == other  # the rest was kept


def test_cut_shard_is_noticed_and_made_again(mixed, options):
    before = content(mixed)
    ark = mixed / "ark" / "noise.000002.ark"
    ark.write_bytes(ark.read_bytes()[:-10])
    words = [*options, "--out", mixed, "--num_clips", 300, "--seconds", 1]
    with pytest.raises(
        UserError, match=r"shard\.000002\.tsv: missing, damaged or of an earlier plan \(1 of 3 shards\)"
    ):
        run(*words, "--collect")
    run(*words)
    assert content(mixed) == before


def test_other_options_redo_the_set_and_leave_nothing_old(mixed, options, tmp_path):
    out = tmp_path / "train"
    shutil.copytree(mixed, out)
    words = [*options, "--out", out, "--num_clips", 200, "--seconds", 1, "--seed", 1]
    run(*words, "--plan")
    assert not (out / "wav.scp").exists()  # what is there does not belong to this plan
    assert not (out / "ark" / "noisy.000003.ark").exists()
    with pytest.raises(UserError, match="2 of 2 shards"):
        run(*words, "--collect")
    run(*words)
    fresh = tmp_path / "fresh" / "train"
    run(*words[:-4], *words[-4:], "--out", fresh)
    assert content(out / "ark").keys() == content(fresh / "ark").keys()
    assert content(out)["ark/noisy.000001.ark"] == content(fresh)["ark/noisy.000001.ark"]


def test_longer_set_keeps_the_shards_it_has(mixed, options, tmp_path):
    """A line follows from its number, so more lines do not change the first ones."""
    out = tmp_path / "train"
    shutil.copytree(mixed, out)
    run(*options, "--out", out, "--num_clips", 400, "--seconds", 1)
    assert content(out)["ark/clean.000001.ark"] == content(mixed)["ark/clean.000001.ark"]
    assert len(Scp(out / "wav.scp")) == 400


def test_wrong_label_does_not_pass_the_check(mixed, options, tmp_path):
    out = tmp_path / "train"
    run(*options, "--out", out, "--num_clips", 3, "--seconds", 1)
    table = out / "ark" / "shard.000001.tsv"
    first, row, rest = table.read_text().split("\n", 2)
    fields = row.split("\t")
    for i, value, message in [(5, "99.0", "SNR 99.000 dB, labelled"), (6, "3", "noisy - clean - noise reaches 3"),
                              (7, "4", "4 clipped samples"), (4, "5", "5 samples, 16000 planned")]:  # fmt: skip
        table.write_text("\n".join([first, "\t".join([*fields[:i], value, *fields[i + 1 :]]), rest]))
        with pytest.raises(UserError, match=message):
            run(*options, "--out", out, "--collect")


def test_sources_that_changed_since_the_plan_are_refused(options, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    words = ["--data", tmp_path / "data", *options[2:], "--out", tmp_path / "train", "--num_clips", 3, "--seconds", 1]
    run(*words, "--plan")
    prints = tmp_path / "data" / "noise_train" / "utt2fingerprint"
    prints.write_text(prints.read_text().replace("a", "b"))
    with pytest.raises(UserError, match="changed since the plan was made; run --plan again"):
        run(*words, "--job", "1/1")


def test_source_that_vanishes_is_named_and_nothing_half_done_is_left(miniature, tmp_path):
    shutil.copytree(miniature / "noise_train", tmp_path / "noise_train")
    for kind, src, speaker in (
        ("speech", miniature / "clean_test", "folder"),
        ("noise", tmp_path / "noise_train", "file"),
    ):
        words = ["--src", src, "--out", tmp_path / kind, "--kind", kind, "--speaker", speaker]
        prepare.main([str(word) for word in words])
    words = ["--data", tmp_path, "--speech", "speech", "--noise", "noise", "--out", tmp_path / "x", "--num_clips", 40]
    run(*words, "--plan")
    for path in (tmp_path / "noise_train").glob("Typing*"):
        path.unlink()
    with pytest.raises(UserError, match="Typing_.*No such file"):
        run(*words, "--job", "1/1")
    assert [path.name for path in (tmp_path / "x").iterdir()] in (
        ["plan.tsv"],
        ["plan.tsv", "ark"],
        ["ark", "plan.tsv"],
    )
    assert not any((tmp_path / "x" / "ark").iterdir())


def test_joined_clips_at_every_snr(options, tmp_path):
    out = tmp_path / "train"
    run(*options, "--out", out, "--policy", "snsd", "--seconds", 6, "--snr_lower", 0, "--snr_upper", 20,
        "--num_snr_levels", 5, "--num_clips", 15)  # fmt: skip
    clean, noise = Scp(out / "spk1.scp"), Scp(out / "noise1.scp")
    snr = read_table(out / "utt2snr")
    for utt, value in Scp(out / "wav.scp"):
        assert np.array_equal(ints(value), ints(clean[utt]) + ints(noise[utt]))
        assert abs(measured_snr(ints(clean[utt]), ints(noise[utt])) - float(snr[utt])) < 0.05
        assert abs(rms_db(ints(clean[utt]) / FULL_SCALE) + 25) < 0.01
    assert sorted(set(snr.values()), key=float) == ["0.00", "5.00", "10.00", "15.00", "20.00"]


def test_clipping_is_allowed_counted_and_reported_when_asked_for(options, tmp_path, capsys):
    run(*options, "--out", tmp_path / "t", "--num_clips", 5, "--seconds", 1, "--on_clip", "none")
    assert " 0 clipped samples" not in capsys.readouterr().err


def test_listed_levels_replace_the_range(options, tmp_path):
    run(*options, "--out", tmp_path / "t", "--num_clips", 20, "--seconds", 1, "--snr_levels", "-2.5", "7.25")
    assert set(read_table(tmp_path / "t" / "utt2snr").values()) == {"-2.50", "7.25"}


def test_dry_run_says_the_disk_it_needs(options, tmp_path, capsys):
    run("--out", tmp_path / "t", "--num_clips", 10000, "--dry_run")
    assert "8.33 h of mixtures, 480000000 samples, 2880000000 bytes" in capsys.readouterr().out
    run("--out", tmp_path / "t", "--policy", "snsd", "--total_hours", 30, "--dry_run")
    assert "30.00 h of mixtures" in capsys.readouterr().out
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--speech", "nowhere"], r"nowhere/wav.scp: missing; run stage 1"),
        (["--noise", ""], "--noise is not given"),
        (["--seconds", "0"], "--seconds 0 is not a length"),
        (["--num_clips", "0"], "must be more than 0"),
        (["--plan", "--collect"], "choose one of --plan"),
        (["--job", "1/2"], "run this command with --plan first"),
    ],
)
def test_wrong_options_are_explained(options, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(*options, "--out", tmp_path / "t", *words)


def test_option_file_is_read_and_unknown_keys_are_refused(options, tmp_path):
    (tmp_path / "mix.yaml").write_text("num_clips: 4\nseconds: 1\nsample_rate: 8k\n")
    run("--config", tmp_path / "mix.yaml", *options, "--out", tmp_path / "t")
    assert set(read_ints(tmp_path / "t" / "utt2num_samples")) == {8000}
    assert audio.info(Scp(tmp_path / "t" / "wav.scp").value(0)).sample_rate == 8000
    (tmp_path / "mix.yaml").write_text("num_clip: 4\n")
    with pytest.raises(UserError, match=r"mix.yaml:1: there is no option 'num_clip'; did you mean 'num_clips'"):
        run("--config", tmp_path / "mix.yaml", *options, "--out", tmp_path / "t")


# Existing pairs


@pytest.fixture
def pairs(tmp_path):
    """data/pairs: three stereo-free pairs at 48 kHz without noise1.scp; the second is near full scale."""
    rng = np.random.default_rng(0)
    rows = {"wav.scp": [], "spk1.scp": []}
    for i in range(3):
        clean = 0.1 * rng.standard_normal(48000)
        noisy = clean + 0.05 * rng.standard_normal(48000)
        if i == 1:
            noisy = np.sign(noisy) * 0.9999
        for name, x in (("wav.scp", noisy), ("spk1.scp", clean)):
            path = tmp_path / "files" / f"{name}{i}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, x, 48000)
            rows[name].append((f"p{i}-a", path))
    for name, lines in rows.items():
        write_table(tmp_path / "data" / "pairs" / name, lines)
    write_table(tmp_path / "data" / "pairs" / "utt2spk", [(f"p{i}-a", f"p{i}") for i in range(3)])
    return tmp_path / "data"


def test_pairs_come_out_at_our_rate_with_the_difference_as_noise(pairs, tmp_path):
    out = tmp_path / "dump"
    run("--data", pairs, "--speech", "pairs", "--policy", "pairs", "--out", out)
    assert set(read_ints(out / "utt2num_samples")) == {16000}
    clean, noise = Scp(out / "spk1.scp"), Scp(out / "noise1.scp")
    for utt, value in Scp(out / "wav.scp"):
        assert np.array_equal(ints(value), ints(clean[utt]) + ints(noise[utt]))
    assert read_table(out / "utt2spk") == {f"p{i}-a": f"p{i}" for i in range(3)}
    assert abs(float(read_table(out / "utt2snr_estimated")["p0-a"]) - 6.02) < 0.2
    first = audio.read(Scp(pairs / "pairs" / "spk1.scp")["p0-a"])[0]
    assert (
        abs(rms_db(ints(clean["p0-a"]) / FULL_SCALE) - rms_db(first) + 10 * math.log10(3)) < 0.4
    )  # a third of the band is left
    assert not (out / "utt2noise").exists()


def test_labels_of_pairs_are_passed_on_and_some_can_be_chosen(pairs, tmp_path):
    write_table(pairs / "pairs" / "utt2snr", [(f"p{i}-a", f"{i}.5") for i in range(3)])
    write_table(pairs / "pairs" / "utt2noise", [(f"p{i}-a", "bus") for i in range(3)])
    out = tmp_path / "dump"
    run("--data", pairs, "--speech", "pairs", "--policy", "pairs", "--out", out, "--num_clips", 2)
    assert read_table(out / "utt2snr") == {"p0-a": "0.5", "p2-a": "2.5"}
    assert read_table(out / "utt2noise") == {"p0-a": "bus", "p2-a": "bus"}


def test_set_that_mixing_did_not_make_is_not_overwritten(pairs):
    before = content(pairs)
    with pytest.raises(UserError, match="holds a wav.scp that was not made by mixing"):
        run("--data", pairs, "--speech", "pairs", "--policy", "pairs", "--out", pairs / "pairs")
    assert content(pairs) == before


def test_pairs_of_unequal_length_are_refused(pairs, tmp_path):
    soundfile.write(tmp_path / "files" / "spk1.scp2.wav", np.zeros(47000), 48000)
    with pytest.raises(
        UserError, match=r"wav.scp:3: 'p2-a' and its references differ: 48000 samples at 48000 Hz, 47000"
    ):
        run("--data", pairs, "--speech", "pairs", "--policy", "pairs", "--out", tmp_path / "dump")


def test_pairs_with_other_ids_are_refused(pairs, tmp_path):
    rows = [(key.replace("p2", "p3"), value) for key, value in Scp(pairs / "pairs" / "spk1.scp")]
    write_table(pairs / "pairs" / "spk1.scp", rows)
    with pytest.raises(UserError, match="spk1.scp: its ids differ from those of"):
        run("--data", pairs, "--speech", "pairs", "--policy", "pairs", "--out", tmp_path / "dump")


def through_pipes(pairs, change=lambda name, utt, path: f"cat {path} |"):
    """Make the values of the set commands."""
    for name in ("wav.scp", "spk1.scp"):
        rows = [(utt, change(name, utt, path)) for utt, path in Scp(pairs / "pairs" / name, allow_pipes=True)]
        write_table(pairs / "pairs" / name, rows)


def test_pipes_are_run_when_that_is_allowed_and_only_then(pairs, tmp_path):
    words = ["--data", pairs, "--speech", "pairs", "--policy", "pairs", "--nj", 2]
    run(*words, "--out", tmp_path / "files_set")
    marker = tmp_path / "ran"
    through_pipes(pairs, lambda name, utt, path: f"touch {marker}; cat {path} | cat |")
    with pytest.raises(UserError, match=r"wav.scp:1: the value is a shell command .*--allow_pipes"):
        run(*words, "--out", tmp_path / "refused")
    with pytest.raises(UserError, match="--allow_pipes is for --policy pairs"):
        run("--data", pairs, "--speech", "pairs", "--noise", "n", "--out", tmp_path / "refused", "--allow_pipes")
    assert not marker.exists()
    run(*words, "--out", tmp_path / "pipes_set", "--allow_pipes")
    assert marker.exists()
    from_files, from_pipes = (
        {path: digest for path, digest in content(tmp_path / name).items() if path.endswith(".ark")}
        for name in ("files_set", "pipes_set")
    )
    assert from_files
    assert from_pipes == from_files


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\xf0\xff\x7f"])
def test_a_wav_of_unknown_length_from_a_pipe_is_read_to_its_end(tmp_path, subtype, size):
    x = 0.1 * np.random.default_rng(0).standard_normal((5000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", x, 16000, subtype=subtype)
    written = bytearray((tmp_path / "x.wav").read_bytes())
    at = written.index(b"data") + 4
    written[4:8] = written[at : at + 4] = size
    wanted, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    (tmp_path / "x.wav").write_bytes(written)
    entry = open_command(f"cat {tmp_path / 'x.wav'} |", "here")
    assert audio.info(entry)[:3] == (16000, 2, 5000)
    assert np.array_equal(audio.read(entry)[0], wanted)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo one >&2; echo two >&2; exit 3", "failed with exit status 3; stderr ends with: two"),
        ("false | cat {path}", "failed with exit status 1; stderr ends with: nothing"),
        ("no-such-program", "failed with exit status 127; .*no-such-program"),
        ("true", "wrote no audio with exit status 0"),
        ("echo hello", "is not audio that can be read"),
        ("head -c 1000 {path}", "its header claims 96000 bytes of samples, 956 are there"),
    ],
)
def test_a_pipe_without_audio_is_named_with_utterance_and_file(pairs, tmp_path, command, message):
    def change(name, utt, path):
        return f"{command.format(path=path)} |" if (name, utt) == ("spk1.scp", "p1-a") else path

    through_pipes(pairs, change)
    with pytest.raises(UserError, match=rf"spk1\.scp:2: 'p1-a': .*{message}"):
        run("--data", pairs, "--speech", "pairs", "--policy", "pairs", "--out", tmp_path / "dump", "--allow_pipes")
