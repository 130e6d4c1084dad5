"""What is put side by side, and the numbers of a report on simulated scores."""

import csv
import json
import math

import numpy as np
import pytest
from experiments import agree, make_experiments

from senet.data.scp import read_table, write_table
from senet.errors import UserError
from senet.report import comparison
from senet.report.statistics import mean_interval, paired_difference, signed_rank_p


def change(folder, test_set="test", **values):
    """Change a summary; ``metric=version`` sets versions."""
    path = folder / f"enhanced_{test_set}" / "summary.json"
    summary = json.loads(path.read_text())
    for name, value in values.items():
        if name in summary["metrics"]:
            summary["metrics"][name] |= value
        else:
            summary[name] = value
    path.write_text(json.dumps(summary))


def values_of(folder, metric):
    return np.array([float(v) for v in read_table(folder / "enhanced_test" / "scores" / metric).values()])


def numbers_of(folders, **options):
    report = comparison.compare(folders, **options).as_dict()
    json.dumps(report, allow_nan=False)
    assert len(report["test_sets"]) == 1
    return report["test_sets"][0]


def names(test_set):
    return [row["system"] for row in test_set["rows"]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    names = ("pesq_wb", "stoi", "si_sdr", "llr")
    return make_experiments(tmp_path_factory.mktemp("made"), n=60, failed=4, names=names)


@pytest.fixture(scope="module")
def found(folders):
    return numbers_of(folders)


class TestNumbers:
    def test_scores_are_those_of_each_column_alone(self, folders, found):
        for folder, row in zip(folders, found["rows"], strict=True):
            assert row["system"] == folder.name
            for metric in ("stoi", "si_sdr"):
                mean, low, high, n = mean_interval(values_of(folder, metric))
                score = row["scores"][metric]
                assert (score["mean"], score["n"]) == (mean, n)
                assert score["interval"] == pytest.approx([low, high], abs=1e-5 * (high - low))
                assert score["std"] == pytest.approx(values_of(folder, metric).std(ddof=1))

    def test_failed_utterances_are_in_no_mean_and_counted_with_their_reasons(self, folders, found):
        values, score = values_of(folders[1], "pesq_wb"), found["rows"][1]["scores"]["pesq_wb"]
        assert score["mean"] == pytest.approx(np.nanmean(values))
        assert (score["n"], score["failed"]) == (56, 4)
        assert score["reasons"]["the estimate is silent"]["n"] == 4
        scored = mean_interval(values[np.isfinite(values)])
        assert score["interval"] == pytest.approx([scored.low, scored.high], abs=0.1 * (scored.high - scored.low))

    def test_differences_are_of_pairs_in_which_both_have_a_score(self, folders, found):
        assert [(d["system"], d["metric"]) for d in found["differences"]] == [
            (folder.name, metric) for folder in folders[1:] for metric in ("pesq_wb", "stoi", "si_sdr", "llr")
        ]
        for d in found["differences"]:
            a, b = (values_of(folders[0].with_name(name), d["metric"]) for name in (d["system"], "noisy"))
            paired = paired_difference(a, b)
            assert d["mean"] == pytest.approx(paired.mean) and d["n"] == paired.n
            assert d["interval"] == pytest.approx([paired.low, paired.high], abs=0.1 * (paired.high - paired.low))
            assert d["p"] == pytest.approx(signed_rank_p(a - b))
            assert d["p"] <= d["p_corrected"] <= 8 * d["p"]

    def test_best_is_over_the_utterances_that_all_have(self, tmp_path):
        folders = make_experiments(tmp_path, n=20, systems={"noisy": 0, "a": 1.0, "b": 3.0}, names=("stoi",))
        a, b = (folder / "enhanced_test" / "scores" / "stoi" for folder in folders[1:])
        scores = {utt: float(value) for utt, value in read_table(b).items()}
        hard = sorted(scores, key=scores.get)[:12]  # a fails on these, and is worse on each of the others
        write_table(a, [(utt, "nan" if utt in hard else repr(x - 0.01)) for utt, x in scores.items()])
        agree(folders[1] / "enhanced_test")
        found = numbers_of(folders)
        means = {row["system"]: row["scores"]["stoi"]["mean"] for row in found["rows"]}
        assert means["a"] > means["b"] and found["metrics"][0]["best"] == ["b"]

    def test_better_is_lower_for_a_distance(self, folders, found):
        differences = {(d["system"], d["metric"]): d for d in found["differences"]}
        distance = differences["train_gagnet", "llr"]
        assert distance["mean"] < 0
        gains = values_of(folders[0], "llr") - values_of(folders[1], "llr")
        assert distance["better"] == pytest.approx((gains > 0).mean()) and distance["better"] > 0.9
        assert next(m for m in found["metrics"] if m["name"] == "llr")["lower_is_better"]

    def test_extremes_are_the_largest_and_smallest_improvements(self, folders, found):
        gains = values_of(folders[1], "pesq_wb") - values_of(folders[0], "pesq_wb")
        utts = list(read_table(folders[0] / "enhanced_test" / "scores" / "stoi"))
        (extremes,) = (e for e in found["extremes"] if e["system"] == folders[1].name)
        order = [i for i in np.argsort(gains) if math.isfinite(gains[i])]
        assert [e["utt"] for e in extremes["worst"]] == [utts[i] for i in order[:5]]
        assert [e["utt"] for e in extremes["best"]] == [utts[i] for i in order[:-6:-1]]
        assert extremes["best"][0]["difference"] == pytest.approx(gains[order[-1]])

    def test_extremes_of_a_distance_are_the_other_way_round(self, folders):
        (found,) = comparison.compare(folders).comparisons
        extremes = found.extremes(found.systems[1], "llr")
        assert extremes["best"][0]["difference"] < extremes["worst"][0]["difference"]

    def test_breakdown_groups_hold_the_utterances_of_their_label(self, folders, found):
        with open(folders[0] / "enhanced_test" / "scores.csv", newline="") as f:
            lines = list(csv.DictReader(f))
        by = {b["by"]: b for b in found["breakdowns"]}
        assert list(by) == ["snr", "noise", "speaker", "rir", "level", "duration"]
        for group in by["noise"]["groups"]:
            inside = np.array([line["utt2noise"] == group["label"] for line in lines])
            for folder in folders[:2]:
                values = values_of(folder, "si_sdr")[inside]
                score = group["scores"][folder.name]["si_sdr"]
                assert score["mean"] == pytest.approx(values.mean()) and score["n"] == inside.sum() == group["n"]
            gain = group["differences"][folders[1].name]["si_sdr"]
            assert gain["mean"] == pytest.approx((values - values_of(folders[0], "si_sdr")[inside]).mean())
            assert gain["interval"][0] < gain["mean"] < gain["interval"][1]

    def test_files_alone_decide(self, folders, found):
        assert numbers_of(folders[::-1]) == found

    def test_what_a_page_does_with_the_values_does_not_reach_another(self, folders):
        report = comparison.compare(folders)
        report.as_dict()["test_sets"][0]["differences"].clear()
        assert report.as_dict()["test_sets"][0]["differences"]


def test_real_time_factor_says_how_it_was_measured(tmp_path):
    noisy, timed, _ = make_experiments(tmp_path, n=20)
    change(timed, real_time_factor={"computing": 3.0, "audio": 12.0, "device": "cpu", "threads": 2})
    found = numbers_of([noisy, timed])["rows"]
    assert found[1]["real_time_factor"] == 0.25 and found[1]["timed_on"] == {"device": "cpu", "threads": 2}
    assert found[0]["real_time_factor"] is None and found[0]["timed_on"] is None


class TestBaseline:
    def test_without_noisy_there_are_no_differences_and_extremes_are_by_score(self, tmp_path):
        found = numbers_of(make_experiments(tmp_path, n=20)[1:])
        assert found["baseline"] is None and found["differences"] == []
        best = found["extremes"][0]["best"]
        assert best[0]["difference"] is None and best[0]["score"] >= best[1]["score"]

    def test_keeps_the_order_of_the_rows(self, tmp_path):
        folders = make_experiments(tmp_path, n=20)
        found = numbers_of(folders, baseline="train_lowlatency_small")
        assert found["baseline"] == "train_lowlatency_small"
        assert names(found) == ["noisy", "train_gagnet", "train_lowlatency_small"]
        assert {d["system"] for d in found["differences"]} == {"noisy", "train_gagnet"}

    def test_improvements_are_differences_to_a_system_if_their_score_is_not_there(self, tmp_path):
        folders = make_experiments(tmp_path, n=20, names=("si_sdri", "stoi"))
        for baseline in ("noisy", "train_gagnet"):
            found = numbers_of(folders, baseline=baseline)
            assert {d["metric"] for d in found["differences"]} == {"si_sdri", "stoi"}
        folders = make_experiments(tmp_path, n=20, names=("si_sdr", "si_sdri", "stoi"))
        assert {d["metric"] for d in numbers_of(folders)["differences"]} == {"si_sdr", "stoi"}

    def test_is_not_there_on_a_set_that_it_was_not_scored_on(self, tmp_path):
        folders = make_experiments(tmp_path, n=20)
        make_experiments(tmp_path, n=20, test_set="other", systems={"noisy": 0, "train_gagnet": 1})
        report = comparison.compare(folders, baseline="train_lowlatency_small").as_dict()
        assert [(t["name"], t["baseline"], bool(t["differences"])) for t in report["test_sets"]] == [
            ("other", None, False),
            ("test", "train_lowlatency_small", True),
        ]
        assert report["not_run"] == ["train_lowlatency_small: not scored on other"]


class TestRefusals:
    """A system is left out with a reason that names both files; the rest is compared."""

    @pytest.fixture
    def folders(self, tmp_path):
        return make_experiments(tmp_path, n=20)

    def left_out(self, folders):
        found = numbers_of(folders)
        assert names(found) == ["noisy", "train_lowlatency_small"]
        (reason,) = found["left_out"]
        return reason.replace(f"{folders[0].parent}/", "")

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"sample_rate": 8000}, "their audio has 16000 and 8000 Hz"),
            ({"references": "0"}, "their references differ; score both against the same data directory"),
            ({"stoi": {"version": "0"}}, "'stoi' is of version"),
            ({"utterances": "0"}, "their lists of utterances differ"),
        ],
    )
    def test_other_conditions(self, folders, values, reason):
        change(folders[1], **values)
        said = self.left_out(folders)
        assert said.startswith("noisy/enhanced_test and train_gagnet/enhanced_test cannot be put side by side: ")
        assert reason in said

    def test_an_utterance_too_many(self, folders):
        for path in (folders[1] / "enhanced_test" / "scores").iterdir():
            write_table(path, [*read_table(path).items(), ("spk9-utt9", "1.0")])
        change(folders[1], n=21, utterances="0")
        agree(folders[1] / "enhanced_test")
        assert "1 utterances are only in train_gagnet/enhanced_test, such as 'spk9-utt9'" in self.left_out(folders)

    def test_a_rate_that_is_not_known_is_no_reason(self, folders):
        change(folders[1], sample_rate=None)
        assert len(names(numbers_of(folders))) == 3

    def test_scores_of_other_utterances_than_the_summary_says(self, folders):
        for path in (folders[1] / "enhanced_test" / "scores").iterdir():
            write_table(path, [(f"{utt}x", value) for utt, value in read_table(path).items()])
        agree(folders[1] / "enhanced_test")
        assert "not the utterances of train_gagnet/enhanced_test/summary.json" in self.left_out(folders)

    def test_scores_of_an_earlier_senet_have_no_digest_but_the_same_mean(self, folders):
        for name in ("pesq_wb", "stoi", "si_sdr"):
            change(folders[1], **{name: {"sha256": None}})
        assert names(numbers_of(folders)) == ["noisy", "train_gagnet", "train_lowlatency_small"]
        path = folders[1] / "enhanced_test" / "scores" / "stoi"
        write_table(path, [(utt, "0.5") for utt in read_table(path)])
        assert "scores/stoi: not the scores that summary.json was made from" in self.left_out(folders)

    def test_a_metric_that_there_is_no_more(self, folders):
        path = folders[1] / "enhanced_test" / "summary.json"
        path.write_text(path.read_text().replace('"stoi"', '"stoy"'))
        assert self.left_out(folders).startswith("train_gagnet/enhanced_test: there is no metric 'stoy'")

    def test_changed_scores_are_noticed_although_their_mean_is_the_same(self, folders):
        path = folders[1] / "enhanced_test" / "scores" / "stoi"
        (a, x), (b, y), *others = read_table(path).items()
        write_table(path, [(a, y), (b, x), *others])
        assert "scores/stoi: not the scores that summary.json was made from" in self.left_out(folders)

    @pytest.mark.parametrize("key", ["references", "version", "mean"])
    def test_a_summary_that_lacks_something(self, folders, key):
        path = folders[1] / "enhanced_test" / "summary.json"
        summary = json.loads(path.read_text())
        (summary if key in summary else summary["metrics"]["stoi"]).pop(key)
        path.write_text(json.dumps(summary))
        where = {"references": "references"}.get(key, "metrics/stoi")
        reason = self.left_out(folders)
        assert where in reason and reason.endswith("score the set again")

    def test_damaged_labels_are_said_and_done_without(self, folders):
        path = folders[0] / "enhanced_test" / "scores.csv"
        path.write_text("\n".join(path.read_text().splitlines()[:7]))
        found = numbers_of(folders)
        assert found["breakdowns"] and len(names(found)) == 3  # another system's table has them, too
        (reason,) = found["left_out"]
        assert "noisy/enhanced_test/scores.csv: " in reason and "half written" in reason

    def test_labels_are_not_confused_with_metrics_of_the_same_name(self, tmp_path):
        found = numbers_of(make_experiments(tmp_path / "snr", n=20, names=("snr", "stoi")))
        by = next(b for b in found["breakdowns"] if b["by"] == "snr")
        assert {group["label"] for group in by["groups"]} <= {"-5", "0", "5", "10"}

    @pytest.mark.parametrize("name", ["record.json", "config.yaml", "checkpoints/index.json"])
    def test_a_damaged_record_is_said_and_its_scores_are_compared(self, folders, name):
        (folders[1] / name).parent.mkdir(exist_ok=True)
        (folders[1] / name).write_text("{")
        report = comparison.compare(folders).as_dict()
        assert len(names(report["test_sets"][0])) == 3
        (reason,) = report["left_out"]
        assert f"train_gagnet/{name}: damaged" in reason

    def test_a_set_of_which_nothing_is_left_is_told_apart_from_those_that_are_compared(self, folders, tmp_path):
        make_experiments(tmp_path, n=20, test_set="other", systems={"train_gagnet": 1})
        (folders[1] / "enhanced_other" / "scores" / "stoi").unlink()
        report = comparison.compare(folders)
        assert [c.test_set for c in report.comparisons] == ["test"]
        assert "enhanced_other/scores/stoi: missing" in report.left_out[0]

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(UserError, match="no such folder"):
            comparison.compare([tmp_path / "exp"])


class TestRecipes:
    """Experiments of two recipes that were scored on one test set."""

    def make(self, tmp_path, seed=0):
        one = make_experiments(tmp_path / "one", n=20, systems={"noisy": 0, "train_a": 1})
        other = make_experiments(tmp_path / "other", n=20, systems={"noisy": 0, "train_b": 1}, seed=seed)
        return [*one, *other]

    def test_the_noisy_input_of_both_is_one_row(self, tmp_path):
        found = numbers_of(self.make(tmp_path))
        assert names(found) == ["one/exp/noisy", "train_a", "train_b"] and not found["left_out"]
        assert found["baseline"] == "one/exp/noisy"

    def test_that_with_more_metrics_is_taken(self, tmp_path):
        folders = self.make(tmp_path)
        make_experiments(tmp_path / "one", n=20, systems={"noisy": 0}, names=("pesq_wb",))
        found = numbers_of(folders)
        assert found["baseline"] == "other/exp/noisy" and len(found["differences"]) == 6

    def test_other_mixtures_of_the_same_recordings_are_refused_although_references_agree(self, tmp_path):
        folders = self.make(tmp_path, seed=1)
        for given in (folders, folders[:2] + folders[3:]):  # it shows without the second noisy folder, too
            found = numbers_of(given)
            assert names(found)[1:] == ["train_a"]
            assert "other/exp/train_b/enhanced_test is of other noisy audio: PESQ-WB is " in found["left_out"][-1]

    def test_sets_of_the_recipe_given_first_come_first(self, tmp_path):
        here = make_experiments(tmp_path / "b", n=8, systems={"train_z": 1}, test_set="y")
        there = make_experiments(tmp_path / "a", n=8, systems={"train_a": 1}, test_set="x", utt="other")
        for folders, order in ((here + there, ["y", "x"]), (there + here, ["x", "y"])):
            assert [c.title for c in comparison.compare(folders).comparisons] == order

    def test_each_set_has_its_own_noisy_input(self, tmp_path):
        folders = make_experiments(tmp_path / "one", n=20, systems={"noisy": 0, "train_a": 1}, test_set="first")
        folders += make_experiments(tmp_path / "other", n=20, systems={"noisy": 0, "train_b": 1}, test_set="second")
        report = comparison.compare(folders).as_dict()
        assert [t["baseline"] for t in report["test_sets"]] == ["one/exp/noisy", "other/exp/noisy"]
        assert report["not_run"] == ["train_a: not scored on second", "train_b: not scored on first"]

    def test_sets_of_one_name_without_a_common_utterance_are_two(self, tmp_path):
        folders = self.make(tmp_path)[:2]
        folders += make_experiments(tmp_path / "other", n=20, systems={"noisy": 0, "train_b": 1}, utt="u")
        report = comparison.compare(folders).as_dict()
        assert [(t["name"], names(t)) for t in report["test_sets"]] == [
            ("one: test", ["one/exp/noisy", "train_a"]),
            ("other: test", ["other/exp/noisy", "train_b"]),
        ]
        assert report["not_run"] == ["train_a: not scored on other: test", "train_b: not scored on one: test"]
        assert not any(t["left_out"] for t in report["test_sets"]) and not report["left_out"]

    def test_sets_of_one_name_that_overlap_are_refused(self, tmp_path):
        folders = self.make(tmp_path)[:2]
        folders += make_experiments(tmp_path / "other", n=22, systems={"train_b": 1})  # other speakers from the 4th on
        found = numbers_of(folders)
        assert found["name"] == "test" and names(found) == ["noisy", "train_a"]
        assert "utterances are only in" in found["left_out"][0] and "train_b" in found["left_out"][0]

    def test_a_set_that_was_replaced_between_two_scorings_is_refused(self, tmp_path):
        folders = make_experiments(tmp_path, n=20, systems={"noisy": 0, "train_a": 1})
        folders += make_experiments(tmp_path, n=20, systems={"train_b": 1}, utt="u")
        found = numbers_of(folders)
        assert names(found) == ["noisy", "train_a"] and "20 utterances are only in" in found["left_out"][0]

    def test_a_model_of_elsewhere_is_in_the_set_that_it_shares(self, tmp_path):
        folders = self.make(tmp_path)
        folders += make_experiments(tmp_path / "third", n=20, systems={"train_c": 1}, utt="u")
        report = comparison.compare(folders).as_dict()
        found = {t["name"]: len(t["rows"]) for t in report["test_sets"]}
        assert found == {"one, other: test": 3, "third: test": 1}

    def test_names_are_as_long_as_it_takes(self, tmp_path):
        folders = [
            make_experiments(tmp_path / place / "recipe", n=20, systems={"train_a": 1})[0] for place in ("x", "y")
        ]
        assert names(numbers_of(folders)) == ["x/recipe/exp/train_a", "y/recipe/exp/train_a"]
