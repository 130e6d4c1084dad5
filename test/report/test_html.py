"""senet.report.html: what the page says, that it stands alone, and that it stays small; charts and recordings."""

import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
import soundfile
from experiments import make_experiments
from pages import Page, decoded

from senet.data.audio import read, write_wav
from senet.data.scp import read_table
from senet.dsp import spectrogram
from senet.report import charts, html, listening
from senet.report.comparison import compare
from senet.report.page import markdown


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_experiments(tmp_path_factory.mktemp("recipe"), n=40, audio=True, failed=3)


@pytest.fixture(scope="module")
def report(folders):
    return compare(folders)


@pytest.fixture(scope="module")
def text(report):
    return html.page(report, "Results")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


class TestPage:
    def test_asks_for_nothing_outside_itself(self, text, page):
        for _, attributes in page.elements:
            for name, value in attributes.items():
                if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                    assert value.startswith(("data:image/png;base64,", "data:audio/flac;base64,", "#")), value[:80]
        assert not page.all("link") and not re.search(r"https?://|url\(|@import|fetch\(", text)
        assert page.all("meta", content="default-src 'none'")

    def test_anchors_lead_somewhere(self, page):
        ids = {a["id"] for _, a in page.elements if "id" in a}
        assert {a["href"][1:] for a in page.all("a")} <= ids

    def test_has_every_system_metric_and_mean(self, report, page):
        for row in report.as_dict()["test_sets"][0]["rows"]:
            assert row["system"] in page.text
            for metric, digits in (("pesq_wb", 3), ("stoi", 3), ("si_sdr", 2)):
                assert charts.number(row["scores"][metric]["mean"], digits) in page.text
        assert {"PESQ-WB", "STOI", "SI-SDR (dB)"} <= set(page.words)
        assert [a["data-metric"] for a in page.all("div", **{"class": "detail"})] == ["pesq_wb", "stoi", "si_sdr"]

    def test_marks_the_baseline_and_what_is_significant(self, report, page):
        assert page.words.count("baseline") == 1
        differences = report.as_dict()["test_sets"][0]["differences"]
        better = sum(d["p_corrected"] < 0.05 and d["mean"] > 0 for d in differences)
        assert 0 < better <= len(differences)
        marks = page.all("span", **{"class": "mark good", "title": "better than the baseline, corrected p"})
        assert len(marks) == 2 * better  # in the table of scores and in that of differences

    def test_lower_may_be_better(self, tmp_path):
        found = Page(html.page(compare(make_experiments(tmp_path, names=("llr",))), "Results"))
        assert found.all("span", title="better than the baseline")
        assert not found.all("span", title="worse than the baseline")

    def test_counts_failures_and_says_why(self, page):
        assert "the estimate is silent" in page.text
        assert page.all("td", title="PESQ-WB: 3 the estimate is silent")

    def test_breakdowns_have_curves_or_tables(self, page):
        for by in ("SNR (dB)", "noise type", "speaker", "level (dB)", "room impulse response"):
            assert f"PESQ-WB by {by}" in page.text
        assert page.all("svg", **{"aria-label": "PESQ-WB by SNR (dB)"})
        assert re.search(r"train_gagnet, 5: \+?\d\.\d{3} \[", page.text)  # said of a point

    def test_is_the_same_for_the_same_files(self, folders, text):
        assert html.page(compare(folders), "Results") == text

    def test_does_not_grow_with_the_utterances(self, tmp_path):
        sizes = [len(html.page(compare(make_experiments(tmp_path / str(n), n=n)), "Results")) for n in (400, 4000)]
        assert sizes[1] < 1.5 * sizes[0]

    def test_shows_the_largest_of_many_groups(self, tmp_path):
        folders = make_experiments(tmp_path, n=200)
        for path in tmp_path.glob("exp/*/enhanced_test/scores.csv"):
            lines = path.read_text().splitlines()
            column = lines[0].split(",").index("utt2spk")
            rows = [line.split(",") for line in lines[1:]]
            for i, row in enumerate(rows):
                row[column] = f"s{i // 2:03d}"
            path.write_text("\n".join([lines[0], *map(",".join, rows)]) + "\n")
        assert "The 60 largest of 100 groups are shown" in Page(html.page(compare(folders), "Results")).text


class TestNames:
    NASTY = "a<b>&\"c'{{ d }}" + "long" * 20

    def test_are_text_and_nothing_else(self, tmp_path):
        systems = {"noisy": 0.0, self.NASTY: 1.0}
        made = compare(make_experiments(tmp_path, n=20, systems=systems, audio=True))
        utt = "<script>alert('&amp;')</script>"
        for comparison in made.comparisons:
            comparison.utts[:] = [utt if i == 3 else u for i, u in enumerate(comparison.utts)]
        text = html.page(made, f"Results of {self.NASTY}", audio=0, utterances=[utt])
        found = Page(text)
        assert text.count("<script") == 1 and "<b>&" not in text
        assert f"Results of {self.NASTY}" in found.words
        assert found.words.count(self.NASTY) > 5
        assert utt in found.text


class TestTestSetsOfAllKinds:
    def test_single_system_without_a_baseline(self, tmp_path):
        folders = make_experiments(tmp_path, n=20, systems={"train_x": 1.0}, audio=True)
        found = Page(html.page(compare(folders), "Results"))
        assert "1 system on 1 test set" in found.text
        assert "difference to" not in found.text and "baseline" not in found.words and "No diff" not in found.text
        assert len(found.all("audio")) == 3 * 3  # noisy, clean, enhanced of the worst, median and best

    def test_systems_of_one_have_different_colours(self, tmp_path):
        """Also where there are more systems than colours, on all sets together."""
        folders = []
        for name in "ab":
            systems = {"noisy": 0.0} | {f"train_{i}_{name}": 1.0 for i in range(8)}
            folders += make_experiments(tmp_path / name, n=8, systems=systems, test_set=name)
        text = html.page(compare(folders), "Results")
        for part in text.split("<section")[1:3]:
            rows = re.findall(r'scope="row" title="(train\w+)"><span class="swatch (c\d+)">', part)
            assert len(rows) == 8 and len({colour for _, colour in rows}) == 8

    def test_several_without_a_baseline(self, tmp_path):
        report = compare(make_experiments(tmp_path, n=12)[1:])
        assert "No differences: the baseline, noisy or that of --baseline NAME" in Page(html.page(report, "R")).text
        assert "No differences: the baseline, noisy or that of `--baseline NAME`" in markdown("R", report)

    def test_a_metric_that_was_not_computed_is_no_failure(self, tmp_path):
        folders = make_experiments(tmp_path, n=12, systems={"noisy": 0.0, "train_x": 1.0}, failed=12)
        path = folders[1] / "enhanced_test" / "summary.json"
        path.write_text(path.read_text().replace("NaN", "null").replace("the estimate is", "not computed: pesq is"))
        report = compare(folders)
        found = Page(html.page(report, "Results")).text
        assert "train_x not computed " in found and " 12 0 2 M" in found
        line = next(line for line in markdown("R", report).splitlines() if line.startswith("| train_x "))
        assert line.endswith("| 12 | 0 |") and "not computed" in line

    @pytest.mark.parametrize("file", ["status.json", "record.json"])
    def test_a_training_that_is_not_finished_is_marked(self, tmp_path, file):
        folders = make_experiments(tmp_path, n=12)
        said = {"state": "stopped", "step": 101, "steps": 2100}
        if file == "record.json":  # of a training elsewhere
            said = {"unfinished": "stopped at step 101 of 2100"}
        (folders[1] / file).write_text(json.dumps(said))
        (folders[2] / "status.json").write_text(json.dumps({"state": "finished", "step": 2100}))
        report = compare(folders)
        found = Page(html.page(report, "Results"))
        (mark,) = found.all("span", title="stopped at step 101")
        assert "train_gagnet training not finished" in found.text
        assert "| train_gagnet (training not finished: stopped at step 101 of 2100) |" in markdown("R", report)

    def test_no_score_at_all(self, tmp_path):
        folders = make_experiments(tmp_path, n=12, failed=12)
        for folder in folders:
            summary = folder / "enhanced_test" / "summary.json"
            summary.write_text(summary.read_text().replace("NaN", "null"))  # as senet.bin.score writes it
        found = Page(html.page(compare(folders), "Results"))
        assert "no score" in found.text and "12 the estimate is silent" in str(found.elements)

    def test_without_labels(self, tmp_path):
        found = Page(html.page(compare(make_experiments(tmp_path, n=12, labels=False)), "Results"))
        assert "by speaker" not in found.text

    def test_two_of_which_each_has_its_own_baseline(self, tmp_path):
        folders = [*make_experiments(tmp_path / "a", n=12), *make_experiments(tmp_path / "b", n=12, utt="other")]
        found = Page(html.page(compare(folders), "Results"))
        assert "a/exp/noisy baseline" in found.text and "b/exp/noisy baseline" in found.text

    def test_two_with_different_metrics(self, tmp_path):
        folders = make_experiments(tmp_path, n=12)
        make_experiments(tmp_path, n=12, test_set="blind", names=("stoi",))
        found = Page(html.page(compare(folders), "Results"))
        assert [a["id"] for a in found.all("section", **{"class": "test-set"})] == ["set-1", "set-2"]
        assert len(found.all("option")) == 3

    def test_what_was_left_out_is_said(self, tmp_path):
        folders = make_experiments(tmp_path, n=12)
        (folders[1] / "enhanced_test" / "summary.json").write_text("{")
        found = Page(html.page(compare(folders, not_trained=["train_never"]), "Results"))
        assert "damaged, not JSON" in found.text and "train_never: not trained" in found.text
        assert "2 systems on 1 test set" in found.text
        assert [b["title"] for b in found.all("button", title="")] == ["noisy", "train_lowlatency_small"]
        assert found.all("a", href="#left-out")


class TestTrainingAndModels:
    @pytest.fixture
    def trained(self, tmp_path):
        folders = make_experiments(tmp_path, n=12)
        lines = [{"event": "train", "step": s, "epoch": 1, "loss": 3 / s} for s in range(10, 8000, 10)]
        lines += [
            {"event": "valid", "step": s, "epoch": s // 40, "loss": abs(s - 80) + 0.5, "train_loss": 1.0}
            for s in (40, 80, 120)
        ]
        (folders[1] / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for folder, channels in zip(folders[1:], (16, 32), strict=True):
            (folder / "config.yaml").write_text(f"model: x.X\nmodel_conf:\n  channels: {channels}\n")
        (folders[1] / "record.json").write_text(
            json.dumps({"command": "train <this>", "seed": 7, "parameters": 1234567, "training_seconds": 1800.0})
        )
        return folders

    def test_curves_are_thinned_and_the_best_epoch_is_marked(self, trained):
        text = html.page(compare(trained), "Results")
        found = Page(text)
        assert "least validation loss 0.5 at step 80, epoch 2" in found.text
        curves = [a["d"].count("L") for a in found.all("path", **{"class": "line rough"})]
        assert curves == [399, 19]

    def test_records_and_differences_of_configurations(self, trained):
        found = Page(html.page(compare(trained), "Results"))
        assert "train <this>" in found.words and "1.235 M" in found.text
        rows = found.text[found.text.index("Where the configurations differ") :]
        assert "model_conf.channels 16 32" in rows and "x.X" not in rows

    def test_damaged_log_is_no_reason_to_fail(self, trained):
        (trained[1] / "train.jsonl").write_text('{"event": "train"}\n{')
        assert "Its train.jsonl is damaged" in Page(html.page(compare(trained), "Results")).text


def test_published_values_stand_apart_with_their_status(tmp_path):
    entries = [
        {"system": "NetA", "test_set": "test", "metric": "stoi", "value": 0.9, "source": "A & B", "status": "recalled"},
        {"system": "NetA", "test_set": "test", "metric": "pesq_wb", "value": 2.16, "source": "C", "status": "verified"},
    ]
    text = html.page(compare(make_experiments(tmp_path, n=12), published=entries), "Results")
    found = Page(text)
    assert "NetA" not in text[: text.index('id="published"')]
    assert "0.90 ? 1" in found.text and "2.16 ✓ 2" in found.text and "A & B" in found.words
    assert found.all("span", title="recalled: A & B")


class TestListening:
    def test_the_worst_median_and_best_are_chosen(self, report):
        comparison = report.comparisons[0]
        base, *others = (comparison.scores(s, "pesq_wb") for s in comparison.systems)
        gain = np.nanmean([o - base for o in others], axis=0)
        order = [comparison.utts[i] for i in np.argsort(gain, kind="stable")]
        chosen = listening.choose(comparison, 3)
        assert [utt for utt, _, _ in chosen] == [order[round(0.5 * 39)], order[-1], order[0]]
        assert chosen[1][2] == pytest.approx(np.nanmax(gain))
        assert [utt for utt, *_ in listening.choose(comparison, 1)] == [order[round(0.5 * 39)]]
        assert len(listening.choose(comparison, 100)) == 40
        wanted = listening.choose(comparison, 3, [order[7], "gone"])
        assert [(utt, place) for utt, place, _ in wanted] == [(order[7], None)]

    def test_audio_is_that_of_the_files(self, report, page):
        utt = listening.choose(report.comparisons[0], 1)[0][0]
        assert utt in page.text
        audio = page.all("audio")
        assert len(audio) == 3 * 4 and all("preload" in a for a in audio)
        x, rate = soundfile.read(io.BytesIO(decoded(audio[0]["src"])), dtype="float32")
        expected, expected_rate = read(
            read_table(report.comparisons[0].result(report.systems[0]).summary["enhanced"])[utt]
        )
        assert rate == expected_rate
        np.testing.assert_array_equal(x, expected)

    def test_pictures_have_one_scale(self):
        """A tone 40 dB below that of another recording is as much darker in its picture, at 1 kHz in both."""
        t = np.arange(16000) / 16000
        signals = {
            name: (gain * np.sin(2 * np.pi * 1000 * t * 16000 / rate)[:rate], rate)
            for name, gain, rate in (("loud", 0.5, 16000), ("soft", 0.005, 8000))
        }
        levels = []
        for _, take in listening.recordings_of(signals):
            png = decoded(take["picture"])
            width, height = struct.unpack(">II", png[16:24])
            data = png[png.index(b"IDAT") + 4 :]
            rows = np.frombuffer(zlib.decompressobj().decompress(data), np.uint8).reshape(height, width + 1)[::-1, 1:]
            middle = rows[:, width // 2]
            assert (height, middle.argmax()) == (257, 32)  # of 8 kHz
            assert take["top"] == 8 and take["seconds"] == 1
            levels.append(int(middle.max()))
        assert levels[0] == 63 and levels[0] - levels[1] == pytest.approx(63 * 40 / spectrogram.RANGE_DB, abs=1)

    def test_long_utterances_are_shortened(self):
        ((_, take),) = listening.recordings_of({"long": (np.zeros(20 * 8000), 8000)})
        assert take["shortened"] and take["seconds"] == listening.SECONDS

    def test_size_is_limited_and_what_is_missing_said(self, report, text):
        limit = 0.6 * len(text) / (1 << 20)
        small = html.page(report, "Results", megabytes=limit)
        assert len(small.encode()) <= 0.6 * len(text)
        found = Page(small)
        assert 0 < len(found.all("audio")) < 12
        assert re.search(r"\d more utterances? would exceed the size limit", found.text)

    def test_audio_that_is_gone_is_said(self, tmp_path):
        folders = make_experiments(tmp_path, n=12, audio=True)
        for path in (folders[1] / "enhanced_test").rglob("*.wav"):
            path.unlink()
        found = Page(html.page(compare(folders), "Results"))
        assert len(found.all("audio")) == 3 * 3 and "Not to be heard: its audio cannot be read: missing" in found.text
        (folders[1] / "enhanced_test" / "wav.scp").unlink()
        assert "the list of its audio is not there any more" in Page(html.page(compare(folders), "Results")).text

    def test_of_two_checkouts_each_plays_its_own(self, tmp_path, monkeypatch):
        """Paths of summaries start from the recipe in old ones, and from the summary's folder in those of today."""
        systems = {"noisy": 0.0, "train_x": 0.5}
        recipes = [tmp_path / "one" / "egs" / "mini", tmp_path / "two" / "egs" / "mini"]
        for recipe, gain in zip(recipes, (0.3, 0.9), strict=True):
            make_experiments(recipe, n=8, systems=systems | {"train_x": gain}, audio=True)
        for path, start in ((recipes[0], ""), (recipes[1], "../../../")):
            for summary in path.glob("exp/*/enhanced_test/summary.json"):
                summary.write_text(summary.read_text().replace(f'"{path}/', f'"{start}'))
        for here in recipes:  # a wav.scp of the other recipe's is to be found from here
            monkeypatch.chdir(here)
            (comparison,) = compare([r / "exp" / "train_x" for r in recipes]).comparisons
            missing = []
            found = listening.Recordings(comparison, missing).signals(comparison.utts[0])
            assert not missing and len(found) == 4
            for system, recipe in zip(comparison.systems, recipes, strict=True):
                expected, _ = read(str(recipe / f"exp/train_x/enhanced_test/wav/{comparison.utts[0]}.wav"))
                np.testing.assert_array_equal(found[system][0], expected)

    def test_audio_that_was_not_scored_has_no_player(self, tmp_path, caplog):
        folders = make_experiments(tmp_path, n=8, audio=True)
        for path in (folders[1] / "enhanced_test" / "wav").iterdir():
            write_wav(path, np.zeros(16000), 16000)
        found = Page(html.page(compare(folders), "Results"))
        assert len(found.all("audio")) == 3 * 3
        assert "Not to be heard: its audio is not that which was scored; enhance and score" in found.text
        assert "3 recordings, or lists of them, cannot be heard; the first: train_gagnet: " in caplog.text
        for path in (folders[2] / "enhanced_test" / "shards").iterdir():
            path.unlink()
        found = Page(html.page(compare(folders), "Results"))
        assert len(found.all("audio")) == 2 * 3 and "not on record which audio was scored" in found.text

    def test_chosen_by_a_metric_that_systems_have(self, tmp_path):
        """Not by the first, with which only the noisy input was scored."""
        folders = make_experiments(tmp_path, n=8, systems={"noisy": 0.0, "train_x": 1.0}, audio=True)
        path = folders[1] / "enhanced_test" / "summary.json"
        path.write_text(path.read_text().replace('    "pesq_wb",\n', "", 1))
        found = Page(html.page(compare(folders), "Results"))
        assert "Chosen by STOI." in found.text and "Median: STOI +0." in found.text and len(found.all("audio")) == 9

    def test_no_score_to_choose_by(self, tmp_path):
        folders = make_experiments(tmp_path, n=8, names=("pesq_wb",), failed=8, audio=True)
        for folder in folders:
            summary = folder / "enhanced_test" / "summary.json"
            summary.write_text(summary.read_text().replace("NaN", "null"))
        found = Page(html.page(compare(folders), "Results"))
        assert "There is no score to choose utterances by; --utterances names some." in found.text
        assert "None of the utterances asked for" in Page(html.page(compare(folders), "Results", 3, ["no"])).text

    def test_nothing_to_hear_at_all(self, tmp_path, caplog):
        found = Page(html.page(compare(make_experiments(tmp_path, n=12)), "Results"))
        assert not found.all("audio") and "not there any more" in found.text
        (warning,) = caplog.messages  # three systems and the test set
        assert warning.startswith("4 recordings, or lists of them, cannot be heard; the first: noisy: ")
        assert warning.endswith("enhanced_test/wav.scp: No such file or directory")

    def test_references_without_the_noisy_recordings(self, tmp_path, caplog):
        """As of folders that senet score compared without --noisy."""
        folders = make_experiments(tmp_path, n=12, audio=True)
        (tmp_path / "dump" / "test" / "wav.scp").unlink()
        found = Page(html.page(compare(folders), "Results"))
        assert len(found.all("audio")) == 3 * 3 and "clean" in found.words  # two systems and the references
        assert ["noisy: " in message for message in caplog.messages] == [True]

    def test_set_without_references(self, tmp_path):
        folders = make_experiments(tmp_path, n=12, audio=True)
        (tmp_path / "dump" / "test" / "spk1.scp").unlink()
        found = Page(html.page(compare(folders), "Results"))
        assert len(found.all("audio")) == 3 * 3 and "clean" not in found.words


class TestCharts:
    @pytest.mark.parametrize(
        ("values", "ticks"),
        [
            ([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            ([-0.9, 0.3], ["−0.75", "−0.50", "−0.25", "0.00", "0.25"]),
            ([0, 52000], ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
        ],
    )
    def test_ticks_are_round(self, values, ticks):
        assert [text for _, text in charts.Axis(values).ticks] == ticks

    @pytest.mark.parametrize("values", [[], [np.nan], [3.0], [0.0, 0.0], [1e-9, 2e-9], [-1e6, 1e6]])
    def test_axis_of_anything_has_ticks_within(self, values):
        axis = charts.Axis(values)
        assert axis.ticks and all(-0.01 <= at <= 100.01 for at, _ in axis.ticks)

    def test_histogram_shows_shares(self):
        """Heights of the outline times widths of the bins are the same for 1000 and 100,000 values."""
        rng = np.random.default_rng(0)
        _, paths = charts.histograms([rng.standard_normal(n) for n in (100_000, 1000)] + [np.full(5, np.nan)])
        assert paths[2] == "" and all(len(p) < 1500 for p in paths)
        areas = []
        for path in paths[:2]:
            heights = [100 - float(v) for v in re.findall(r"V([\d.]+)H", path)]
            areas.append(sum(heights))
        assert areas[0] == pytest.approx(areas[1], rel=0.02)

    def test_zero_is_on_the_edge_of_a_bin(self):
        axis, (path,) = charts.histograms([np.array([-1.0, 0.1, 0.2, 0.7])], zero=True)
        assert any(float(x) == pytest.approx(axis(0), abs=0.02) for x in re.findall(r"[MH]([\d.]+)", path))

    def test_curve_breaks_where_there_is_nothing(self):
        axis = charts.Axis([0, 10], margin=0)
        assert charts.curve(axis, axis, [0, 5, 10], [0, np.nan, 10]) == "M0 100M100 0"

    @pytest.mark.parametrize(
        ("value", "sign", "text"),
        [(-1.25, False, "−1.2"), (0.04, True, "0.0"), (-0.01, False, "0.0"), (2.0, True, "+2.0"), (None, True, "–"),
         (float("nan"), False, "–"), (12345.6, False, "12,345.6")],
    )  # fmt: skip
    def test_numbers(self, value, sign, text):
        assert charts.number(value, 1, sign) == text
