"""senet.bin.compare: the files it writes, and what it refuses to put side by side."""

import csv
import json
import shutil

import numpy as np
import pytest
from experiments import agree

from senet import checkpoint
from senet.bin import compare, score
from senet.data.audio import read, write_wav
from senet.data.scp import read_table, write_table
from senet.errors import UserError
from senet.metrics import base

RECORD = {
    "command": "python -m senet.bin.train --config conf/train_half.yaml",
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "seed": 7,
    "threads": 1,
    "parameters": 1234567,
    "macs_per_second": 6_235_252_000,
    "hardware": {"cpu": "CPU X", "cores": 2, "gpus": []},
    "versions": {"torch": "2.13"},
    "data": {"train": {"path": "dump/raw/train", "utterances": 40}},
    "written": "2026-01-02T03:04:05+0000",
    "training_seconds": 1800.0,
}


def run_score(ref, out, enhanced, metrics="si_sdr stoi snri"):
    argv = ["--enhanced", enhanced, "--ref", ref, "--out", out, "--metrics", metrics]
    assert not score.main([str(a) for a in argv])


def make_system(small_set, folder, weight):
    """Takes away the share `weight` of the noise; scored as stage 6 does."""
    rows = []
    for utt, noisy in read_table(small_set / "wav.scp").items():
        clean = read(str(small_set / "spk1" / f"{utt}.wav"))[0]
        path = folder / "enhanced_test" / "wav" / f"{utt}.wav"
        write_wav(path, (1 - weight) * read(noisy)[0] + weight * clean, 16000)
        rows.append((utt, path))
    write_table(folder / "enhanced_test" / "wav.scp", rows)
    run_score(small_set, folder / "enhanced_test", folder / "enhanced_test" / "wav.scp")


@pytest.fixture(scope="module")
def scored(small_set, tmp_path_factory):
    """A recipe's folder: noisy and two systems; one has a record and a log of its training."""
    recipe = tmp_path_factory.mktemp("egs") / "corpus"
    run_score(small_set, recipe / "exp" / "noisy" / "enhanced_test", small_set / "wav.scp")
    make_system(small_set, recipe / "exp" / "train_half", 0.5)
    make_system(small_set, recipe / "exp" / "train_worse_x", -0.2)
    (recipe / "exp" / "train_half" / "record.json").write_text(json.dumps(RECORD))
    lines = [{"event": "train", "step": s, "epoch": 1 + s // 40, "loss": 3 / s} for s in range(10, 80, 10)]
    lines += [{"event": "valid", "step": s, "epoch": s // 40, "loss": 9 / s, "train_loss": 6 / s} for s in (40, 80)]
    (recipe / "exp" / "train_half" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (recipe / "conf").mkdir()
    for name in ("train_half", "train_worse", "train_never"):
        (recipe / "conf" / f"{name}.yaml").write_text("")
    return recipe


@pytest.fixture
def recipe(scored, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(scored, tmp_path / "corpus"))
    return tmp_path / "corpus"


def run_compare(recipe, *options):
    """The page."""
    compare.main([*(f"{p}/" for p in sorted(recipe.glob("exp/*"))), "--out", str(recipe / "RESULTS.md"), *options])
    return (recipe / "RESULTS.md").read_text()


def rows(page, heading):
    """The cells of the first table after a heading."""
    lines = page[page.index(heading) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    last = next(i for i, line in enumerate([*lines, ""]) if i > first and not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:last]]


def test_table_has_noisy_first_and_means_with_intervals(recipe):
    header, _, noisy, half, worse = rows(run_compare(recipe), "## Test set test")
    assert header == ["system", "parameters", "MACs/s", "SI-SDR (dB)", "STOI", "SNRi (dB)", "n", "failed"]
    assert [row[0] for row in (noisy, half, worse)] == ["noisy", "train_half", "train_worse_x"]
    assert [row[1] for row in (noisy, half, worse)] == ["–", "1,234,567", "–"]
    assert [row[2] for row in (noisy, half, worse)] == ["–", "6.235 G", "–"]
    for row, name in ((noisy, "noisy"), (half, "train_half")):
        found = json.loads((recipe / "exp" / name / "enhanced_test" / "summary.json").read_text())["metrics"]["si_sdr"]
        assert row[3] == f"{found['mean']:.2f} ± {(found['interval'][1] - found['interval'][0]) / 2:.2f}"
        assert row[-2:] == ["5", "0"]


def test_differences_are_paired(recipe):
    header, _, half, worse = rows(run_compare(recipe), "### Difference to noisy")
    assert header == ["system", "SI-SDR (dB)", "STOI", "SNRi (dB)"]  # an improvement whose score is not there
    a, b = (
        np.array([*map(float, read_table(recipe / "exp" / s / "enhanced_test" / "scores" / "si_sdr").values())])
        for s in ("train_half", "noisy")
    )
    mean, interval = half[1].split(" ", 1)
    assert float(mean) == pytest.approx((a - b).mean(), abs=0.005)
    interval, p = interval.split(", p ")
    low, high = map(float, interval.strip("[]").split(", "))
    assert float(p) >= 0.05 and "**" not in mean  # five pairs cannot show more
    assert 0 < low <= float(mean) <= high
    assert float(worse[1].split(" ")[0]) < 0


def test_records_and_what_was_not_run(recipe):
    shutil.copytree(recipe / "exp" / "noisy" / "enhanced_test", recipe / "exp" / "noisy" / "enhanced_other")
    path = recipe / "exp" / "noisy" / "enhanced_other" / "summary.json"
    path.write_text(path.read_text().replace('"test_set": "test"', '"test_set": "other"'))
    page = run_compare(recipe)
    assert "- train_never: not trained\n- train_half: not scored on other\n" in page
    for fact in (
        "- command: `python -m senet.bin.train --config conf/train_half.yaml`",
        "- commit: 0123456789abcdef with local changes",
        "- seed: 7",
        "- data: train: dump/raw/train, 40 utterances",
        "- hardware: 1 threads on 2 cores of CPU X",
        "- training: 0.50 h, last on 2026-01-02T03:04:05+0000",
    ):
        assert fact in page


def test_an_experiment_stands_for_the_configuration_that_it_is_called_after(recipe, tmp_path):
    for name in ("train_worse_x", "train_worse_x_y"):
        (recipe / "conf" / f"{name}.yaml").write_text("")
    shutil.copytree(recipe / "exp" / "train_half", tmp_path / "other" / "exp" / "train_never")
    argv = [*map(str, recipe.glob("exp/*")), str(tmp_path / "other" / "exp" / "train_never")]
    compare.main([*argv, "--out", "RESULTS.md"])
    listed = (recipe / "RESULTS.md").read_text().partition("## Not run here\n\n")[2].partition("\n\n")[0]
    assert listed.splitlines() == [f"- {n}: not trained" for n in ("train_never", "train_worse", "train_worse_x_y")]


def test_without_experiments_the_page_says_what_was_not_run(recipe):
    compare.main(["--out", str(recipe / "RESULTS.md")])
    page = (recipe / "RESULTS.md").read_text()
    assert "## Not run here\n\n- train_half: not trained\n- train_never: not trained\n" in page
    assert "|" not in page


class TestLastCheckpoints:
    STEPS = (100, 200, 300)

    @pytest.fixture
    def half(self, recipe):
        """The experiment train_half with three checkpoints, scored like worse and worse copies of it."""
        exp = recipe / "exp" / "train_half"
        for step in self.STEPS:
            checkpoint.save(exp / "checkpoints", {"model": {}}, step=step, epoch=0, keep_last=3)
            copy = shutil.copytree(exp / "enhanced_test", exp / f"step_{step:08d}" / "enhanced_test") / "summary.json"
            summary = json.loads(copy.read_text())
            summary["metrics"]["stoi"] |= {"mean": 0.9 - step / 1000, "failed": 1}
            copy.write_text(json.dumps(summary))
        return exp

    def table(self, recipe):
        return rows(run_compare(recipe), "over the last checkpoints")

    def test_get_a_mean_and_a_standard_deviation(self, recipe, half):
        header, _, row = self.table(recipe)
        assert header == ["system", "checkpoints", "steps", "SI-SDR (dB)", "STOI", "SNRi (dB)", "failed"]
        assert row[:3] == ["train_half", "3", "100, 200, 300"]
        assert row[4] == "0.700 ± 0.100" and row[3].endswith(" ± 0.00") and row[-1] == "3"

    def test_of_which_the_newest_is_not_scored_are_out_of_date(self, recipe, half):
        checkpoint.save(half / "checkpoints", {"model": {}}, step=400, epoch=0, keep_last=3)
        assert "last checkpoints" not in run_compare(recipe)
        shutil.copytree(half / "step_00000300", half / "step_00000400")
        assert self.table(recipe)[2][2] == "200, 300, 400"  # of 100 there is no checkpoint any more

    def test_that_were_scored_otherwise_are_left_out(self, recipe, half):
        path = half / "step_00000200" / "enhanced_test" / "summary.json"
        path.write_text(path.read_text().replace('"references": "', '"references": "0'))
        assert self.table(recipe)[2][:3] == ["train_half", "2", "100, 300"]
        assert "step_00000200/enhanced_test cannot be put side by side: their ref" in run_compare(recipe)

    def test_lacking_a_metric_or_a_score_say_so(self, recipe, half):
        path = half / "step_00000100" / "enhanced_test" / "summary.json"
        summary = json.loads(path.read_text())
        summary["metrics"].pop("si_sdr")
        summary["metric_order"].remove("si_sdr")
        summary["metrics"]["stoi"]["mean"] = None
        path.write_text(json.dumps(summary))
        assert self.table(recipe)[2][3:5] == ["not scored", "no score"]


class TestFiles:
    OUT = ("RESULTS.md", "exp/results.csv", "exp/results.json", "exp/report.html")

    def write(self, recipe, *options):
        argv = [str(p) for p in sorted(recipe.glob("exp/*")) if p.is_dir()]
        compare.main([*argv, "--out", *(str(recipe / name) for name in self.OUT), *options])
        return [(recipe / name).read_bytes() for name in self.OUT]

    def test_are_written_as_their_names_end_and_are_the_same_each_time(self, recipe):
        page, table, values, html = found = self.write(recipe)
        assert page.startswith(b"# Results of corpus\n") and html.startswith(b"<!DOCTYPE html>")
        header, *lines = csv.reader(table.decode().splitlines())
        assert header[:5] == ["test_set", "by", "group", "system", "metric"]
        assert [line[3:5] for line in lines if not line[1]][:3] == [["noisy", m] for m in ("si_sdr", "stoi", "snri")]
        assert json.loads(values)["test_sets"][0]["n"] == 5
        assert self.write(recipe) == found

    def test_say_the_same(self, recipe):
        _, table, values, _ = self.write(recipe)
        (test_set,) = json.loads(values)["test_sets"]
        lines = {
            (line["system"], line["metric"]): line
            for line in csv.DictReader(table.decode().splitlines())
            if not line["by"]
        }
        for row in test_set["rows"]:
            for metric, found in row["scores"].items():
                line = lines[row["system"], metric]
                assert float(line["mean"]) == found["mean"] and int(line["failed"]) == found["failed"]
                assert [float(line["low"]), float(line["high"])] == found["interval"]
        for found in test_set["differences"]:
            line = lines[found["system"], found["metric"]]
            assert float(line["difference"]) == found["mean"] and float(line["p_corrected"]) == found["p_corrected"]
            assert line["baseline"] == "noisy" and int(line["pairs"]) == found["n"]

    def test_that_are_among_the_experiments_are_passed_over(self, recipe):
        found = self.write(recipe)
        argv = [*map(str, sorted(recipe.glob("exp/*"))), "--out", *(str(recipe / name) for name in self.OUT)]
        compare.main(argv)
        assert [(recipe / name).read_bytes() for name in self.OUT] == found
        with pytest.raises(UserError, match="none of the folders holds scores"):
            compare.main([str(recipe / "exp" / "results.csv"), "--out", str(recipe / "RESULTS.md")])

    def test_elsewhere_are_a_comparison(self, recipe, tmp_path):
        compare.main([str(recipe / "exp" / "noisy"), "--out", str(tmp_path / "w" / "x.md")])
        assert (tmp_path / "w" / "x.md").read_text().startswith("# Comparison\n")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--audio", "-1"], "--audio -1: 0 or more"),
            (["--utterances", "spk0-utt0", "nope"], "--utterances nope: in no test set .* such as spk0-utt0"),
            (["--published", "nope.yaml"], "--published nope.yaml: no such file"),
        ],
    )
    def test_are_not_written_with_options_that_cannot_be(self, recipe, options, message):
        with pytest.raises(UserError, match=message):
            self.write(recipe, *options)

    def test_that_cannot_be_written_are_refused_before_anything_is(self, recipe):
        with pytest.raises(UserError, match=r"page.pdf: how is it to be written\? .* \.md, \.csv, \.json, \.html"):
            compare.main([str(recipe / "exp" / "noisy"), "--out", str(recipe / "RESULTS.md"), "page.pdf"])
        assert not (recipe / "RESULTS.md").exists()


class TestBaseline:
    def test_is_the_system_that_was_named(self, recipe):
        page = run_compare(recipe, "--baseline", "train_half")
        header, _, noisy, worse = rows(page, "### Difference to train_half")
        assert header == ["system", "SI-SDR (dB)", "STOI", "SNRi (dB)"]
        assert (noisy[0], worse[0]) == ("noisy", "train_worse_x")
        assert float(worse[1].strip("*").split()[0]) < float(noisy[1].strip("*").split()[0]) < 0

    def test_that_are_two(self, recipe, small_set, tmp_path):
        shutil.copytree(recipe / "exp" / "train_half", tmp_path / "other" / "exp" / "train_half")

        def run_with(baseline):
            folders = [*map(str, recipe.glob("exp/*")), *map(str, (tmp_path / "other" / "exp").iterdir())]
            compare.main([*folders, "--out", str(recipe / "RESULTS.md"), "--baseline", baseline])
            return (recipe / "RESULTS.md").read_text()

        with pytest.raises(UserError, match="which one on test. corpus/exp/train_half or other/exp/train_half$"):
            run_with("train_half")
        assert "### Difference to other/exp/train_half" in run_with("other/exp/train_half")
        shutil.copytree(recipe / "exp" / "noisy", tmp_path / "other" / "exp" / "noisy")
        assert "### Difference to corpus/exp/noisy" in run_with("noisy")

    def test_that_there_is_not(self, recipe):
        with pytest.raises(UserError, match="--baseline train_x: no such system; there are noisy, train_half, train_w"):
            run_compare(recipe, "--baseline", "train_x")


def fail(folder, metric, number, reason):
    """Make the first scores of a result failures."""
    scores = list(read_table(folder / "scores" / metric).items())
    utts = [utt for utt, _ in scores[:number]]
    write_table(folder / "scores" / metric, [*((utt, "nan") for utt in utts), *scores[number:]])
    summary = json.loads((folder / "summary.json").read_text())
    left = len(scores) - number
    summary["metrics"][metric] |= {"failed": number, "n": left, "reasons": {reason: {"n": number, "utts": utts}}}
    summary["metrics"][metric]["mean"] = float(np.mean([float(s) for _, s in scores[number:]])) if left else None
    if not left:
        summary["metrics"][metric]["interval"] = [None, None]
    (folder / "summary.json").write_text(json.dumps(summary))
    agree(folder)


def test_failures_are_shown(recipe):
    fail(recipe / "exp" / "train_half" / "enhanced_test", "stoi", 2, "the estimate is silent")
    page = run_compare(recipe)
    half = rows(page, "## Test set test")[3]
    assert half[-1] == "2 STOI" and half[4].endswith(" (n 3)")
    assert "Failed, the estimate is silent: STOI of train_half (2: spk0-utt0, spk0-utt2)." in page
    assert rows(page, "### Difference to noisy")[2][2].endswith(", 3 pairs")


class TestNotComparable:
    def test_other_utterances_are_left_out_with_the_reason(self, recipe, small_set, tmp_path):
        for name in ("wav.scp", "spk1.scp", "utt2num_samples"):
            write_table(tmp_path / "test" / name, list(read_table(small_set / name).items())[1:])
        out = recipe / "exp" / "train_half" / "enhanced_test"
        run_score(tmp_path / "test", out, tmp_path / "test" / "wav.scp")
        page = run_compare(recipe)
        assert "1 utterances are only in exp/noisy/enhanced_test, such as 'spk0-utt0'" in page.replace(f"{recipe}/", "")
        assert [row[0] for row in rows(page, "## Test set test")] == ["system", "---", "noisy", "train_worse_x"]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda s: s.update(references="0"), "their references differ"),
            (lambda s: s["metrics"]["stoi"].update(version="0 pystoi 0.1"), "'stoi' is of version '"),
        ],
    )
    def test_other_references_or_versions(self, recipe, change, reason):
        path = recipe / "exp" / "train_half" / "enhanced_test" / "summary.json"
        summary = json.loads(path.read_text())
        change(summary)
        path.write_text(json.dumps(summary))
        page = run_compare(recipe)
        assert reason in page
        assert len(rows(page, "## Test set test")) == 4

    def test_missing_metric_is_not_a_reason(self, recipe, small_set):
        out = recipe / "exp" / "train_half" / "enhanced_test"
        run_score(small_set, out, out / "wav.scp", metrics="si_sdr")
        assert rows(run_compare(recipe), "## Test set test")[3][4] == "not scored"


class TestSetsAndMetricsThatDiffer:
    @pytest.fixture
    def blind(self, recipe, small_set, monkeypatch):
        """A second test set, without references, that noisy and one system were scored on."""
        loudness = base.metric("Loudness", reference=False)(lambda est, sample_rate: np.abs(est).mean())
        monkeypatch.setitem(base._metrics(), "loudness", loudness)
        for name in ("wav.scp", "utt2num_samples"):
            write_table(recipe / "blind" / name, list(read_table(small_set / name).items()))
        for name, scp in (
            ("noisy", small_set / "wav.scp"),
            ("train_half", recipe / "exp/train_half/enhanced_test/wav.scp"),
        ):
            run_score(recipe / "blind", recipe / "exp" / name / "enhanced_blind", scp, metrics="si_sdr loudness")
        return recipe

    def test_set_without_references_has_a_table_of_its_own_metrics(self, blind):
        page = run_compare(blind)
        header, _, noisy, half = rows(page, "## Test set blind")
        assert header == ["system", "parameters", "MACs/s", "Loudness", "n", "failed"]
        assert [row[0] for row in (noisy, half)] == ["noisy", "train_half"]
        assert rows(page, "## Test set test")[0][3] == "SI-SDR (dB)"
        assert "- train_worse_x: not scored on blind" in page

    def test_metric_that_only_later_systems_have_is_held_to_one_version(self, recipe, small_set):
        for name in ("train_half", "train_worse_x"):
            out = recipe / "exp" / name / "enhanced_test"
            run_score(small_set, out, out / "wav.scp", metrics="si_sdr snr")
        header, _, noisy, half, worse = rows(run_compare(recipe), "## Test set test")
        column = header.index("SNR (dB)")
        assert noisy[column] == "not scored" and "±" in half[column] and "±" in worse[column]
        path = recipe / "exp" / "train_worse_x" / "enhanced_test" / "summary.json"
        summary = json.loads(path.read_text())
        summary["metrics"]["snr"]["version"] = "0"
        path.write_text(json.dumps(summary))
        page = run_compare(recipe)
        assert "'snr' is of version '1' and '0'" in page
        assert len(rows(page, "## Test set test")) == 4

    def test_nothing_in_common_with_the_noisy_input(self, recipe, small_set):
        out = recipe / "exp" / "train_half" / "enhanced_test"
        run_score(small_set, out, out / "wav.scp", metrics="snr")
        page = run_compare(recipe)
        assert [row[0] for row in rows(page, "### Difference to noisy")[2:]] == ["train_worse_x"]

    def test_what_was_not_computed_is_called_so(self, recipe):
        fail(recipe / "exp" / "train_half" / "enhanced_test", "stoi", 5, "not computed: no model")
        half = rows(run_compare(recipe), "## Test set test")[3]
        assert half[4] == "not computed" and half[-1] == "0"

    def test_distances_say_that_lower_is_better(self, recipe, small_set):
        out = recipe / "exp" / "train_half" / "enhanced_test"
        run_score(small_set, out, out / "wav.scp", metrics="llr ssnr")
        assert {"LLR capped ↓", "SSNR (dB)"} <= set(rows(run_compare(recipe), "## Test set test")[0])


class TestDamage:
    """What is damaged is left out with the reason; the rest is compared."""

    def left_out(self, recipe):
        page = run_compare(recipe)
        names = [row[0] for row in rows(page, "## Test set test")[2:]]
        return names, page[page.index("Left out: ") :]

    def test_half_written_scores_are_named(self, recipe):
        path = recipe / "exp" / "train_half" / "enhanced_test" / "scores" / "si_sdr"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
        names, reason = self.left_out(recipe)
        assert names == ["noisy", "train_worse_x"]
        assert "train_half/enhanced_test/scores/si_sdr: has 3 utterances, summary.json says 5: half written" in reason

    def test_score_that_is_no_number(self, recipe):
        path = recipe / "exp" / "train_half" / "enhanced_test" / "scores" / "si_sdr"
        path.write_text(path.read_text().replace("spk1-utt1 ", "spk1-utt1 x"))
        names, reason = self.left_out(recipe)
        assert names == ["noisy", "train_worse_x"] and "scores/si_sdr:4: 'x" in reason

    def test_scores_of_other_utterances_than_the_summary_says(self, recipe):
        path = recipe / "exp" / "train_half" / "enhanced_test" / "scores" / "stoi"
        path.write_text(path.read_text().replace("spk1-utt3 ", "spk1-utt4 "))
        agree(path.parents[1])
        names, reason = self.left_out(recipe)
        assert names == ["noisy", "train_worse_x"] and "scores/stoi: not the utterances of" in reason

    def test_summary(self, recipe):
        (recipe / "exp" / "noisy" / "enhanced_test" / "summary.json").write_text("{")
        names, reason = self.left_out(recipe)
        assert names == ["train_half", "train_worse_x"] and "noisy/enhanced_test/summary.json: damaged" in reason

    def test_of_everything_is_an_error(self, recipe):
        for path in recipe.glob("exp/*/enhanced_test/summary.json"):
            path.write_text("{")
        with pytest.raises(UserError, match=r"nothing is left to compare: .*summary.json: damaged, not JSON"):
            run_compare(recipe)

    def test_nothing_is_scored(self, tmp_path):
        (tmp_path / "exp" / "train_x" / "checkpoints").mkdir(parents=True)
        with pytest.raises(UserError, match="none of the folders holds scores"):
            run_compare(tmp_path)


def test_two_experiments_of_one_name_are_told_apart(recipe, tmp_path):
    other = tmp_path / "other" / "exp" / "train_half"
    shutil.copytree(recipe / "exp" / "train_half", other)
    argv = [str(p) for p in (*recipe.glob("exp/*"), other)]
    compare.main([*argv, "--out", str(recipe / "RESULTS.md")])
    names = [row[0] for row in rows((recipe / "RESULTS.md").read_text(), "## Test set test")[2:]]
    assert names == ["noisy", "corpus/exp/train_half", "other/exp/train_half", "train_worse_x"]


class TestPublished:
    ENTRY = "{system: A, test_set: test, metric: si_sdr, value: 9, source: 'A et al., 2020', status: figure}"

    def test_is_shown_apart(self, recipe):
        (recipe / "published.yaml").write_text(f"- {self.ENTRY}\n")
        page = run_compare(recipe)
        ours, theirs = page.split("## Published elsewhere")
        assert "| A |" not in ours
        assert rows(theirs, "### test") == [["system", "n", "SI-SDR (dB)"], ["---"] * 3, ["A", "–", "9 figure [1]"]]
        assert "1. A et al., 2020" in theirs

    def test_has_a_row_for_a_system_a_column_for_a_metric_and_a_mark_for_a_value(self, recipe):
        entries = [
            self.ENTRY,
            self.ENTRY.replace("si_sdr, value: 9, source: 'A", "stoi, value: 1, source: 'B").replace(
                "figure", "verified"
            ),
            self.ENTRY.replace("system: A", "system: C").replace("figure", "recalled"),
        ]
        (recipe / "published.yaml").write_text("".join(f"- {entry}\n" for entry in entries))
        table = rows(run_compare(recipe).split("## Published elsewhere")[1], "### test")
        assert table[0] == ["system", "n", "SI-SDR (dB)", "STOI"]
        assert table[2:] == [["A", "–", "9 figure [1]", "1 ✓ [2]"], ["C", "–", "9 recalled [1]", "–"]]

    def test_number_of_utterances(self, recipe):
        entry = self.ENTRY.replace("value: 9", "value: 9, n: 824, tolerance: 0.1")
        (recipe / "published.yaml").write_text(f"- {entry}\n")
        assert rows(run_compare(recipe), "Not our runs")[2][1] == "824"

    def test_entry_of_an_unknown_metric_is_left_out_with_the_reason(self, recipe):
        (recipe / "published.yaml").write_text(f"- {self.ENTRY}\n- {self.ENTRY.replace('si_sdr', 'sisdr')}\n")
        page = run_compare(recipe)
        assert len(rows(page, "### test")) == 3
        left_out = page.partition("## Left out")[2]
        assert "published.yaml: entry 2 (A): there is no metric 'sisdr'; did you mean 'si_sdr'" in left_out

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("si_sdr, value: 9", "stoi, value: 92.1", "STOI is from -1 to 1, not 92.1"),
            ("si_sdr, value: 9", "pesq_wbi, value: -4", "PESQ-WBi is from -3.65 to 3.65, not -4"),
            ("value: 9", "value: 8", "entry 1 has SI-SDR (dB) of this system, set and source already"),
        ],
    )
    def test_values_that_cannot_be_right_are_left_out_with_the_reason(self, recipe, old, new, reason):
        (recipe / "published.yaml").write_text(f"- {self.ENTRY}\n- {self.ENTRY.replace(old, new)}\n")
        page = run_compare(recipe)
        assert rows(page, "### test")[2:] == [["A", "–", "9 figure [1]"]]
        assert f"published.yaml: entry 2 (A): {reason}" in page.partition("## Left out")[2]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("status: figure", "status: sure", r"entry 1 \(A\): status 'sure' is none of verified, figure, recalled"),
            ("status: figure", "state: figure", "unknown key 'state'; an entry has system, test_set"),
            (", status: figure", "", "missing key 'status'"),
            ("value: 9", "value: high", "value 'high' is not a number"),
            ("value: 9", "value: .nan", "value 'nan' is not a number"),
            ("value: 9", "value: 9, n: 1.5", "n '1.5' is not a number of utterances"),
            ("value: 9", "value: 9, tolerance: -1", "tolerance '-1' is not a number above 0"),
            ("system: A", "system: ' '", r"entry 1 \( \): system ' ' is not a text"),
            ("system: A", "system: [A]", r"system '\['A'\]' is not a text"),
            ("source: 'A et al., 2020'", "source: [a, b]", r"entry 1 \(A\): source .* is not a text"),
            ("metric: si_sdr", "metric: 5", "metric '5' is not a text"),
            ("A et al.", "\xc4 et al.", "published.yaml: not valid YAML in UTF-8"),
            ("status: figure}", "status: figure", "published.yaml:2: not valid YAML in UTF-8: [^\n]*$"),
        ],
    )
    def test_entries_that_cannot_be_right_are_refused(self, recipe, old, new, message):
        (recipe / "published.yaml").write_text(f"- {self.ENTRY}\n".replace(old, new), encoding="latin-1")
        with pytest.raises(UserError, match=message):
            run_compare(recipe)
        assert not (recipe / "RESULTS.md").exists()
