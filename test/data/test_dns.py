"""Mixtures by the rules of the DNS challenges: what is stored is what the plan says."""

import hashlib
import math

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from senet.bin import mix as command
from senet.bin import prepare
from senet.data import audio
from senet.data.mixing import FULL_SCALE, mix_to_level
from senet.data.mixture_set import open_mixer
from senet.data.plan import Plan
from senet.data.scp import Scp, read_table, write_table
from senet.data.sources import SourceSet
from senet.data.synthesis import nearest_active_snr
from senet.dsp.level import active_rms
from senet.dsp.resample import resample
from senet.errors import UserError

RATE = 16000


def run(*words):
    return command.main([str(word) for word in words])


def ints(value):
    return np.rint(audio.read(value)[0] * FULL_SCALE).astype(int)


def db(x):
    return 10 * math.log10(np.mean(np.square(x, dtype=np.float64)))


def write_set(folder, recordings):
    """A source set of ``{id: (samples, rate)}``."""
    (folder / "files").mkdir(parents=True)
    rows = [(key, folder / "files" / f"{key}.wav", len(x), rate) for key, (x, rate) in recordings.items()]
    for key, path, _, rate in rows:
        soundfile.write(path, recordings[key][0], rate, "FLOAT")
    write_table(folder / "utt2spk", [(row[0], row[0]) for row in rows])
    write_table(folder / "utt2num_samples", [(row[0], row[2]) for row in rows])
    write_table(folder / "utt2fs", [(row[0], row[3]) for row in rows])
    write_table(folder / "wav.scp", [row[:2] for row in rows])


def room(seconds, rate, channels=1, delay=0.003, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate))[:, None] / rate - delay
    rir = 0.1 * rng.standard_normal((len(t), channels)) * np.exp(-6.9 * t / seconds) * (t >= 0)
    rir[round(delay * rate)] = 0.8
    return rir


@pytest.fixture(scope="module")
def data(miniature, tmp_path_factory):
    """Source sets speech, noise, and rir: at our rate, 48 kHz with two channels, longer than the mixtures, silent."""
    folder = tmp_path_factory.mktemp("data")
    for kind, name, speaker in (("speech", "clean_train", "librispeech"), ("noise", "noise_train", "file")):
        words = ["--src", miniature / name, "--out", folder / kind, "--kind", kind, "--speaker", speaker]
        prepare.main([str(word) for word in words])
    rirs = {"near": (room(0.3, RATE), RATE), "far_48k": (room(0.6, 48000, 2), 48000)}
    write_set(folder / "rir", rirs | {"hall": (room(3, RATE), RATE), "none_here": (np.zeros(4000), RATE)})
    write_set(folder / "silent", {"a": (np.zeros(4000), RATE)})
    return folder


@pytest.fixture
def options(data):
    names = ["--data", data, "--speech", "speech", "--noise", "noise", "--rir", "rir"]
    return [*names, "--policy", "dns", "--seconds", 2, "--num_clips", 60]


def stored(out):
    """Yield (line of the plan, noisy, clean, noise) in steps of 16 bit."""
    plan = Plan(out / "plan.tsv")
    scps = [Scp(out / name) for name in ("wav.scp", "spk1.scp", "noise1.scp")]
    for i in range(len(plan)):
        yield plan[i], *(ints(scp[plan[i].utt]) for scp in scps)


def guarded(signals):
    return max(np.abs(x).max() for x in signals) >= 0.99 * FULL_SCALE - 1


def test_snr_level_and_sum_are_those_of_the_plan_and_the_labels_say_so(options, tmp_path):
    out = tmp_path / "train"
    run(*options, "--out", out)
    labels = {name: read_table(out / name) for name in ("utt2snr", "utt2level", "utt2rir", "utt2noise", "utt2spk")}
    clipped = 0
    for line, noisy, clean, noise in stored(out):
        np.testing.assert_array_equal(noisy - clean - noise, 0)
        assert abs(db(clean) - db(noise) - line.snr_db) < 0.01
        level = db(noisy / FULL_SCALE)
        if guarded((noisy, clean, noise)):
            clipped += 1
            assert level < line.level_db
        else:
            assert abs(level - line.level_db) < 0.01
        assert abs(float(labels["utt2level"][line.utt]) - level) < 0.006
        assert labels["utt2snr"][line.utt] == f"{line.snr_db:.2f}"
        assert labels["utt2rir"][line.utt] == (line.rir or "none")
        kinds = labels["utt2noise"][line.utt].split(",")
        assert set(kinds) == {part.source.split("_")[0] for part in line.noise}
    assert clipped < 20
    used = list(labels["utt2rir"].values())
    assert set(used) == {"near", "far_48k", "hall", "none"}  # the silent one is never drawn
    assert 15 < used.count("none") < 45
    assert labels.keys() == {path.name for path in out.glob("utt2*")} - {"utt2dur", "utt2num_samples"}


def test_guard_brings_the_largest_of_the_three_to_its_peak(options, tmp_path):
    run(
        *options,
        "--out",
        tmp_path / "t",
        "--level_lower",
        -3,
        "--level_upper",
        0,
        "--snr_lower",
        -30,
        "--num_clips",
        20,
    )
    for line, *signals in stored(tmp_path / "t"):
        assert abs(max(np.abs(x).max() for x in signals) - 0.99 * FULL_SCALE) <= 2
        assert abs(db(signals[1]) - db(signals[2]) - line.snr_db) < 0.01


def test_a_stored_active_snr_that_is_not_the_label_is_refused(options, tmp_path):
    out = tmp_path / "train"
    run(*options, "--out", out, "--snr_mode", "active", "--num_clips", 4, "--level_lower", -60, "--level_upper", -50)
    table = next((out / "ark").glob("shard.*.tsv"))
    rows = table.read_text().splitlines()[1:]
    for line, row in zip((out / "plan.tsv").read_text().splitlines()[2:], rows, strict=True):
        assert abs(float(line.split("\t")[4]) - float(row.split("\t")[5])) < 0.05  # quiet, so that rounding has a say
    plan = Plan(out / "plan.tsv")
    _, _, clean, noise = next(stored(out))
    assert abs(nearest_active_snr(clean, noise, RATE, plan[0].snr_db) - plan[0].snr_db) < 0.05
    assert abs(nearest_active_snr(3 * clean, noise, RATE, plan[0].snr_db) - plan[0].snr_db) > 5
    head, first, *rest = table.read_text().splitlines(keepends=True)
    fields = first.split("\t")
    fields[5] = str(float(fields[5]) + 0.1)
    table.write_text("".join([head, "\t".join(fields), *rest]))
    with pytest.raises(UserError, match=r"SNR .* dB, labelled "):
        run(*options, "--out", out, "--collect")


def test_what_is_checked_of_early_targets_is_said(options, tmp_path, capsys):
    run(*options, "--out", tmp_path / "train", "--target", "early", "--num_clips", 8)
    assert "8 mixtures, 0.00 h; SNR of the dry ones within 0.00" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--target", "early"]])
def test_a_response_that_pushes_the_speech_out_of_the_mixture_is_drawn_again(data, tmp_path, words):
    """The response begins after 1.9 of 2 s, and the recordings with nothing but zeros for half a second."""
    rng = np.random.default_rng(0)
    late = np.r_[np.zeros(round(1.9 * RATE)), 0.8, 0.01 * rng.standard_normal(800)]
    folder = tmp_path / "data"
    speech = {f"s{i}": (np.r_[np.zeros(8000), 0.1 * rng.standard_normal(24000)], RATE) for i in range(3)}
    write_set(folder / "speech", speech)
    write_set(folder / "noise", {"n": (0.1 * rng.standard_normal(40000), RATE)})
    write_set(folder / "rir", {"late": (late, RATE), "near": (room(0.3, RATE), RATE)})
    options = ["--data", folder, "--speech", "speech", "--noise", "noise", "--rir", "rir", "--policy", "dns"]
    options += ["--seconds", 2, "--num_clips", 12, "--rir_prob", 1, *words]
    run(*options, "--out", tmp_path / "train")
    assert set(read_table(tmp_path / "train" / "utt2rir").values()) == {"near"}
    write_set(folder / "rir_late", {"late": (late, RATE)})
    with pytest.raises(UserError, match=r"rir_late: after 1000 draws .* within 2 s, so late .* cut the silence"):
        run(*options, "--out", tmp_path / "other", "--rir", "rir_late")


def test_types_to_exclude_that_are_not_there_are_told(options, tmp_path, capsys):
    run(*options, "--out", tmp_path / "t", "--num_clips", 2, "--exclude_types", "Bab,nosuchtype", "--plan")
    told = capsys.readouterr().err
    assert "--exclude_types: nothing begins with 'nosuchtype'; there are the types " in told
    assert "Babble" in told and "'Bab'" not in told


def response(data, name):
    """The response as scipy and a plain reading see it: first channel, at our rate."""
    x, rate = soundfile.read(data / "rir" / "files" / f"{name}.wav", always_2d=True)
    return resample(x[:, 0], rate, RATE).astype(float)


@pytest.mark.parametrize("target", ["reverberant", "early"])
def test_target_is_the_speech_with_all_or_the_early_part_of_the_response(data, options, tmp_path, target):
    out = tmp_path / "train"
    run(*options, "--out", out, "--rir_prob", 1, "--target", target)
    speech = SourceSet(data / "speech", RATE)
    for line, noisy, clean, noise in stored(out):
        dry = np.concatenate(
            [
                speech.read(speech.scp.index(part.source), part.start, part.length)
                if part.source
                else np.zeros(part.length)
                for part in line.clean
            ]
        ).astype(float)
        rir = response(data, line.rir)
        reverberant = fftconvolve(dry, rir)[: len(dry)]
        direct = int(np.argmax(np.abs(rir)))
        rir[direct + 800 :] = 0
        early = fftconvolve(dry, rir)[: len(dry)]
        wanted = reverberant if target == "reverberant" else early
        gain = np.dot(clean, wanted) / np.dot(wanted, wanted)
        np.testing.assert_allclose(clean, gain * wanted, atol=0.6)  # rounded, and so was the response, to 22 bits
        added = noise - gain * (reverberant - wanted)
        assert abs(db(gain * reverberant) - db(added) - line.snr_db) < 0.02
        if not guarded((noisy, clean, noise)):
            assert abs(db(noisy / FULL_SCALE) - line.level_db) < 0.01
        np.testing.assert_array_equal(noisy - clean - noise, 0)


def test_a_48_khz_response_is_resampled_not_stretched(data, options, tmp_path):
    args = command.get_parser().parse([str(word) for word in (*options, "--out", tmp_path / "t")])
    _, mixer = open_mixer(args)
    found = mixer.rir.read(mixer.rir.scp.index("far_48k"))
    x, rate = soundfile.read(data / "rir" / "files" / "far_48k.wav", dtype="float32")
    np.testing.assert_array_equal(found, resample(x[:, 0], rate, RATE))
    assert len(found) == len(x) // 3


def test_active_snr_counts_frames_within_50_db_of_the_loudest(options, tmp_path):
    """Speech in the second half only: its level over everything is 3 dB lower than while it is there."""
    rng = np.random.default_rng(0)
    speech = np.where(np.arange(32000) < 16000, 0, 0.1 * rng.standard_normal(32000)).astype(np.float32)
    noise = (0.1 * rng.standard_normal(32000)).astype(np.float32)

    def measured(**options):
        (_, clean, rest), _ = mix_to_level(speech, noise, 5.0, -25.0, **options)
        return db(clean) - db(rest)

    assert abs(measured() - 5) < 0.01
    assert abs(measured(measure=lambda x: active_rms(x, RATE)) - (5 + 10 * math.log10(0.5))) < 0.01
    out = tmp_path / "train"
    run(*options, "--out", out, "--snr_mode", "active", "--level_lower", -20)
    for line, *_, clean, noise in stored(out):
        levels = []
        for x in (clean, noise):
            frames = [x[i : i + 1600].astype(float) for i in range(0, len(x), 1600)]
            powers = np.array([np.mean(frame**2) for frame in frames])
            levels.append(
                db(np.concatenate([f for f, p in zip(frames, powers, strict=True) if p >= max(powers) / 1e5]))
            )
        assert abs(levels[0] - levels[1] - line.snr_db) < 0.01


def content(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix == ".ark" or path.name.startswith(("utt2", "plan"))
    }


def test_any_number_of_jobs_in_any_order_makes_the_same_bytes(options, tmp_path):
    words = [*options, "--num_clips", 300, "--target", "early"]
    found = {}
    for nj in (1, 2, 7):
        out = tmp_path / str(nj) / "train"
        run(*words, "--out", out, "--plan", "--nj", nj)
        for j in range(nj, 0, -1):
            run(*words, "--out", out, "--job", f"{j}/{nj}")
        run(*words, "--out", out, "--collect")
        found[nj] = content(out)
    assert len(found[1]) == 9 + 8
    assert found[1] == found[2] == found[7]


def test_drawn_and_rendered_in_one_process_is_what_a_set_stores(options, tmp_path):
    """Training on the fly and the set on the disk come from one source."""
    args = command.get_parser().parse([str(word) for word in (*options, "--out", tmp_path / "train")])
    run(*options, "--out", tmp_path / "train")
    policy, mixer = open_mixer(args)
    for i, (line, *signals) in enumerate(stored(tmp_path / "train")):
        assert policy.lines(i) == [line]
        rendered, clipped = mixer.render(line)
        np.testing.assert_array_equal(rendered, signals)
        assert clipped == 0
        again, _ = mixer.mix(mixer.read(line), line)
        np.testing.assert_array_equal(again, rendered)


def test_a_drawn_mixture_is_read_from_the_disk_once(options, tmp_path, monkeypatch):
    args = command.get_parser().parse([str(word) for word in (*options, "--out", tmp_path / "train")])
    policy, mixer = open_mixer(args)
    read, count = audio.read, []
    monkeypatch.setattr(audio, "read", lambda *args, **more: count.append(args[0]) or read(*args, **more))
    rng = np.random.default_rng(0)
    (line,) = policy.draw(rng, 0)
    drawn = len(count)
    mixer.read(line)
    assert len(count) == drawn


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rir", "silent"], "silent: 1000 draws in a row are silent"),
        (["--rir", "nowhere"], r"nowhere/wav.scp: missing; run stage 1"),
        (["--exclude_types", "A,B,T,d,M"], "leaves no recording of 15"),
        (["--rir_prob", 1.5], "--rir_prob 1.5 is not a share"),
        (["--level_lower", -10], "--level_lower -10 is more than --level_upper -15"),
        (["--snr_lower", 30], "--snr_lower 30 is more than --snr_upper 20"),
        (["--snr_levels", 3], "--snr_levels is for --policy crop and snsd"),
        (["--policy", "crop"], "--rir rir is for --policy dns"),
        (["--policy", "crop", "--rir", "", "--target", "early"], "--target early is for --policy dns"),
    ],
)
def test_wrong_options_are_explained(options, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(*options, "--out", tmp_path / "t", "--rir_prob", 1, *words)


def test_responses_that_changed_since_the_plan_are_refused(options, data, tmp_path):
    run(*options, "--out", tmp_path / "t", "--plan")
    plan = tmp_path / "t" / "plan.tsv"
    plan.write_text(plan.read_text().replace("rir=rir", "rir=silent"))
    with pytest.raises(UserError, match="silent changed since the plan was made; run --plan again"):
        run(*options, "--out", tmp_path / "t", "--job", "1/1")
