import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senet.bin import prepare
from senet.data.mixture_set import draw
from senet.data.plan import Line, Part, Plan, parse_parts, silence, write_plan
from senet.data.policies import Crop, Dns, Snsd, snr_levels
from senet.data.sources import SourceSet
from senet.errors import UserError

RATE = 16000
PARTS = st.one_of(
    st.builds(silence, st.integers(1, 10**6)),
    st.builds(
        Part,
        st.text("abcXYZ019_.-", min_size=1, max_size=12),
        st.integers(0, 10**9),
        st.integers(1, 10**9),
    ),
)
LINE = Line(
    "11-noisy000001_SNRdb_-3.00",
    "11",
    (Part("11-1-0000", 5, 90), silence(10)),
    (Part("n", 0, 100),),
    -3.0,
    0.0,
    None,
    100,
)


@pytest.fixture(scope="module")
def sources(miniature, tmp_path_factory):
    """SourceSets (speech, noise) of the miniature's training part."""
    data = tmp_path_factory.mktemp("sources")
    for kind, folder, speaker in (("speech", "clean_train", "librispeech"), ("noise", "noise_train", "file")):
        words = ["--src", miniature / folder, "--out", data / kind, "--kind", kind, "--speaker", speaker]
        prepare.main([str(word) for word in words])
    return SourceSet(data / "speech", RATE), SourceSet(data / "noise", RATE)


def crop(sources, name="train", seed=0, seconds=3.0, **options):
    options = {"snrs": snr_levels(-6, 9, 16), "min_rms_db": -60, "exclude_types": (), **options}
    return Crop(name, *sources, seed=seed, num_samples=round(seconds * RATE), **options)


def snsd(sources, name="train", seed=0, seconds=10.0, **options):
    options = {"snrs": snr_levels(0, 20, 5), "min_rms_db": -60, "exclude_types": (), **options}
    return Snsd(name, *sources, seed=seed, min_samples=round(seconds * RATE), gap_samples=3200, **options)


def dns(sources, name="train", seed=0, seconds=6.0, **options):
    options = {"rir": None, "rir_prob": 0.5, "min_rms_db": -80, "exclude_types": (), **options}
    options = {"snr_range": (-5, 20), "level_range": (-35, -15), "gap_samples": 3200, **options}
    return Dns(name, *sources, seed=seed, num_samples=round(seconds * RATE), **options)


def lines_of(policy, n, nj=1):
    return draw(policy, num_clips=n, total_samples=None, nj=nj)


# The file


@given(st.lists(PARTS, max_size=4))
def test_parts_survive_the_round_trip(parts):
    assert parse_parts(",".join(map(str, parts)) or "-") == tuple(parts)


@pytest.mark.parametrize("text", ["", "a", "a@1", "a@-1+2", "a@1+2,", "a b@1+2", "~", "a@1+2;b@1+2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match="is not a part"):
        parse_parts(text)


def test_plan_survives_the_round_trip(tmp_path):
    other = LINE._replace(utt="x", noise=(), snr_db=None, level_db=None, rir="room@3", num_samples=7)
    write_plan(tmp_path / "plan.tsv", {"policy": "crop", "seed": 3}, [LINE, other])
    plan = Plan(tmp_path / "plan.tsv")
    assert (plan.settings, len(plan), plan[0], plan[1]) == ({"policy": "crop", "seed": "3"}, 2, LINE, other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("# senet plan 1", "# senet plan 9"), r"plan.tsv:1: not a mixing plan"),
        (lambda text: text[:-5], r"plan.tsv:1: not a mixing plan"),
        (lambda text: text.replace("snr_db", "snr"), r"plan.tsv:2: columns are"),
        (lambda text: text.replace("11-1-0000@5", "11-1-0000"), r"plan.tsv:3: '11-1-0000\+90' is not a part.*--plan"),
        (lambda text: text.replace("-3.0\t", "x\t"), r"plan.tsv:3: could not convert string to float: 'x'"),
    ],
)
def test_damaged_plan_is_refused_with_its_line(tmp_path, damage, message):
    write_plan(tmp_path / "plan.tsv", {"seed": 0}, [LINE])
    text = (tmp_path / "plan.tsv").read_text()
    (tmp_path / "plan.tsv").write_text(damage(text))
    with pytest.raises(UserError, match=message):
        Plan(tmp_path / "plan.tsv")[0]


def test_missing_plan_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match="run this command with --plan first"):
        Plan(tmp_path / "plan.tsv")


def test_digest_covers_the_settings_and_its_own_lines_only(tmp_path):
    def digests(settings, lines):
        write_plan(tmp_path / "plan.tsv", settings, lines)
        plan = Plan(tmp_path / "plan.tsv")
        return plan.digest(0, 1), plan.digest(1, 2)

    second = LINE._replace(utt="b")
    before = digests({"peak": 0.99}, [LINE, second])
    after = digests({"peak": 0.99}, [LINE, second._replace(snr_db=0.0)])
    assert after[0] == before[0] and after[1] != before[1]
    assert digests({"peak": 1.0}, [LINE, second])[0] != before[0]


# All policies


@pytest.mark.parametrize("policy", [crop, snsd, dns])
def test_line_follows_from_seed_set_and_number_alone(sources, policy):
    lines = lines_of(policy(sources), 40)
    assert lines_of(policy(sources), 40, nj=7) == lines
    assert lines_of(policy(sources), 12) == lines[:12]
    per_draw = policy(sources).lines_per_draw
    assert policy(sources).lines(7) == lines[7 * per_draw : 8 * per_draw]
    assert policy(sources).draw(np.random.default_rng(3), 0) == policy(sources).draw(np.random.default_rng(3), 0)
    for other in (policy(sources, seed=1), policy(sources, name="valid")):
        assert [line.clean for line in lines_of(other, 40)] != [line.clean for line in lines]


@pytest.mark.parametrize("policy", [crop, snsd, dns])
def test_ids_are_unique_sortable_and_carry_speaker_and_snr(sources, policy):
    lines = lines_of(policy(sources), 40)
    assert len({line.utt for line in lines}) == 40
    for line in lines:
        assert line.utt.startswith(f"{line.spk}-noisy0000")
        assert line.utt.endswith(f"_SNRdb_{line.snr_db:.2f}")
        assert line.spk == line.clean[0].source.split("-")[0]


@pytest.mark.parametrize("policy", [crop, snsd, dns])
def test_silent_recordings_are_never_drawn(sources, policy):
    used = {part.source for line in lines_of(policy(sources), 100) for part in line.clean}
    assert "12-1-0000" in used
    assert "12-2-0000" not in used


@pytest.mark.parametrize("policy", [crop, snsd, dns])
def test_excluded_types_are_never_drawn(sources, policy):
    lines = lines_of(policy(sources, exclude_types=("Babble", "Air")), 60)
    used = {part.source for line in lines for part in line.noise if part.source}
    assert used and not any(source.startswith(("Babble", "Air")) for source in used)
    with pytest.raises(UserError, match="noise: --exclude_types A,B,T,d,M leaves no recording of 15"):
        policy(sources, exclude_types=tuple("ABTdM"))


@pytest.mark.parametrize("policy", [crop, snsd, dns])
def test_nothing_but_silence_is_a_clear_error(sources, policy):
    with pytest.raises(UserError, match="speech: 1000 draws in a row are under 10 dBFS RMS.*--min_rms_db"):
        policy(sources, min_rms_db=10).lines(0)


# crop


def test_crops_lie_inside_and_reach_both_ends(sources):
    speech, noise = sources
    starts = []
    for line in lines_of(crop(sources, seconds=3.4), 400):
        (clean,), (background,) = line.clean, line.noise
        assert clean.length == background.length == line.num_samples == round(3.4 * RATE)
        for part, source in ((clean, speech), (background, noise)):
            assert part.start + part.length <= source.lengths[source.scp.index(part.source)]
        if background.source.startswith("dog"):  # 3.5 s: 1600 + 1 places
            starts.append(background.start)
    assert min(starts) < 200 and max(starts) > 1400
    whole = Crop("t", noise, noise, seed=0, num_samples=int(1.5 * RATE), snrs=[0.0], min_rms_db=-60, exclude_types=())
    ends = [p.clean[0].start for i in range(300) if (p := whole.lines(i)[0]).clean[0].source == "Munching_1"]
    assert ends and set(ends) == {0}  # exactly as long as the crop


def test_short_recordings_are_passed_over_and_the_number_is_exact(sources):
    lines = lines_of(crop(sources), 300)
    assert len(lines) == 300
    assert not {"11-2-0000", "Munching_1"} & {part.source for line in lines for part in (*line.clean, *line.noise)}


def test_no_recording_that_is_long_enough_is_a_clear_error(sources):
    with pytest.raises(
        UserError, match=r"speech: none of 20 recordings is 5 s long \(the longest has 4.10 s\).*--seconds"
    ):
        crop(sources, seconds=5)


def test_snr_levels_are_as_asked_for_and_equally_likely(sources):
    assert snr_levels(-6, 9, 16) == [float(x) for x in range(-6, 10)]
    assert snr_levels(0, 20, 5) == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert snr_levels(3, 3, 1) == [3.0]
    with pytest.raises(UserError, match="lower <= upper"):
        snr_levels(5, 0, 3)
    counts = Counter(line.snr_db for line in lines_of(crop(sources), 1600))
    assert set(counts) == set(snr_levels(-6, 9, 16))
    assert max(abs(n - 100) for n in counts.values()) < 45  # 4.6 standard deviations


# snsd


def test_each_clip_comes_at_each_snr(sources):
    lines = lines_of(snsd(sources), 30)
    for _, clip in itertools.groupby(lines, key=lambda line: line.utt.split("_")[0]):
        clip = list(clip)
        assert [line.snr_db for line in clip] == [0.0, 5.0, 10.0, 15.0, 20.0]
        assert len({(line.clean, line.noise, line.num_samples) for line in clip}) == 1
        assert {line.level_db for line in clip} == {-25.0}


def test_files_are_joined_in_order_with_silence_until_longer_than_the_minimum(sources):
    speech, noise = sources
    for line in lines_of(snsd(sources), 200)[::5]:
        for parts, source in ((line.clean, speech), (line.noise, noise)):
            recordings = [source.scp.index(part.source) for part in parts[::2]]
            assert all(part == silence(3200) for part in parts[1:-1:2])
            for a, b in itertools.pairwise(recordings):
                silent = 1 if source is speech and source.id(a + 1 if a + 1 < len(source) else 0) == "12-2-0000" else 0
                assert b == a + 1 + silent or a + silent == len(source) - 1
            assert all(part.start == 0 for part in parts)
        assert all(p.length == speech.lengths[speech.scp.index(p.source)] for p in line.clean[::2])  # not cut
        length = sum(part.length for part in line.clean)
        assert length == line.num_samples == sum(part.length for part in line.noise)
        assert length > 10 * RATE >= length - line.clean[-1].length - 3200


def test_clip_of_exactly_the_minimum_is_not_long_enough(sources):
    lines = [snsd(sources, seconds=4.0).lines(i)[0] for i in range(30)]
    assert all(line.num_samples > 4 * RATE for line in lines)
    assert {len(line.clean) for line in lines} == {1, 3}  # files of 4.1 s stay alone, those of 4.0 s do not


def test_hours_end_the_plan_with_the_mixture_that_reaches_them(sources):
    lines = draw(snsd(sources), num_clips=None, total_samples=0.05 * 3600 * RATE, nj=2)
    total = sum(line.num_samples for line in lines)
    assert total - lines[-1].num_samples < 0.05 * 3600 * RATE <= total
    assert lines == lines_of(snsd(sources), len(lines))


# dns


def test_snr_and_level_are_evenly_spread_over_their_ranges(sources):
    lines = lines_of(dns(sources, seconds=1), 1500)
    for values, lower, upper in (
        ([line.snr_db for line in lines], -5, 20),
        ([line.level_db for line in lines], -35, -15),
    ):
        assert lower <= min(values) < max(values) < upper
        counts, _ = np.histogram(values, 10, (lower, upper))
        assert np.abs(counts - 150).max() < 53  # 4.6 standard deviations
        assert len(set(values)) == 1500


def test_crops_of_long_recordings_and_short_ones_joined_with_a_pause_between_speech_only(sources):
    speech, noise = sources
    lines = lines_of(dns(sources, seconds=6), 200)
    for line in lines:
        assert line.num_samples == 6 * RATE
        for parts, source, gap in ((line.clean, speech, 3200), (line.noise, noise, 0)):
            assert sum(part.length for part in parts) == 6 * RATE
            recordings = [part for part in parts if part.source]
            assert len(recordings) > 1  # none lasts 6 s
            pauses = [part for part in parts if not part.source]
            assert len(pauses) == (len(recordings) - 1 if gap else 0) or parts[-1] in pauses
            assert all(pause.length == gap for pause in pauses[:-1])
            for part in recordings[:-1]:  # whole, but for the last
                assert (part.start, part.length) == (0, source.lengths[source.scp.index(part.source)])
            last = recordings[-1]
            assert last.start + last.length <= source.lengths[source.scp.index(last.source)]
    assert any(line.clean[-1].start for line in lines) and any(line.noise[-1].start for line in lines)
    for line in lines_of(dns(sources, seconds=1), 50):
        assert len(line.clean) == len(line.noise) == 1


def test_a_single_noise_that_is_too_short_is_repeated_from_a_random_place_on(sources):
    policy = dns(sources, exclude_types=("A", "B", "T", "d"))  # leaves one of 1.5 s
    starts = set()
    for line in lines_of(policy, 20):
        first, *further = line.noise
        assert first.start + first.length == 24000 and sum(part.length for part in line.noise) == 6 * RATE
        assert [part.start for part in further] == [0] * len(further)
        assert {part.length for part in further[:-1]} == {24000}
        starts.add(first.start)
    assert len(starts) > 15
    inside = dns(sources, seconds=1, exclude_types=("A", "B", "T", "d"))
    assert all(line.noise[0].start <= 8000 and len(line.noise) == 1 for line in lines_of(inside, 20))


def test_quiet_parts_are_drawn_again_however_short(sources):
    """-80 dBFS is a mean square of 1e-8."""
    speech, _ = sources
    for line in lines_of(dns(sources, seconds=0.05), 200):
        (part,) = line.clean
        assert np.mean(speech.read(speech.scp.index(part.source), part.start, part.length) ** 2) > 1e-8


# Sources


def test_sources_of_another_rate_are_counted_at_ours(sources):
    speech, _ = sources
    i = speech.scp.index("13-2-0000")
    assert speech.lengths[i] == 4 * RATE
    whole = speech.read(i)
    assert len(whole) == 4 * RATE
    np.testing.assert_array_equal(speech.read(i, 1000, 50), whole[1000:1050])
    with pytest.raises(UserError, match="the plan was made from other sources"):
        speech.read(i, 4 * RATE - 5, 6)


def test_channels_are_averaged(sources, miniature):
    import soundfile

    speech, _ = sources
    x, _ = soundfile.read(miniature / "clean_train" / "14" / "2" / "14-2-0000.WAV", dtype="float32")
    assert x.shape[1] == 2
    np.testing.assert_allclose(speech.read(speech.scp.index("14-2-0000")), x.mean(axis=1), atol=1e-7)
