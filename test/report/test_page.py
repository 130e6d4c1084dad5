"""RESULTS.md on simulated experiments: what a reader is told, and that what was not run is said to be so."""

import json

import pytest
from experiments import agree, make_experiments

from senet.report import comparison, page

PUBLISHED = {
    "system": "A",
    "test_set": "test",
    "metric": "stoi",
    "value": 0.9,
    "source": "A et al.",
    "status": "figure",
}


@pytest.fixture
def text(tmp_path):
    """``text(published=(), **options of make_experiments)``: the page."""

    def make(published=(), **options):
        report = comparison.compare(make_experiments(tmp_path, **options), published=published)
        return page.markdown("Results", report)

    return make


def table(text, heading):
    """Cells of the first table after a heading."""
    lines = text[text.index(f"{heading}\n") :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    last = next(i for i, line in enumerate([*lines, ""]) if i > first and not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[first:last]]


def test_the_table_says_what_a_system_costs(text):
    header, _, noisy, gagnet, _ = table(text(), "## Test set test")
    assert header[:4] == ["system", "parameters", "MACs/s", "RTF"]
    assert noisy[:4] == ["noisy", "–", "–", "–"]
    assert gagnet[:4] == ["train_gagnet", "2,000,000", "4 G", "0.05"]
    assert "RTF: computing time over the audio's duration, cpu with 1 thread." in text()


def test_only_differences_that_the_corrected_test_finds_are_bold(text):
    found = text(systems={"noisy": 0, "good": 1.0, "same": 0.001}, n=40)
    good, same = table(found, "### Difference to noisy")[2:]
    assert all(cell.startswith("**+") and "** ▲" in cell and cell.endswith("p < 0.001") for cell in good[1:])
    assert not any("**" in cell for cell in same[1:])
    assert "with Holm's correction for the 6 comparisons" in found and found.count("the two can disagree") == 1


def test_significantly_worse_is_marked_so(text):
    found = text(systems={"noisy": 0, "bad": -1.0}, names=("stoi", "llr"))
    ((_, stoi, llr),) = table(found, "### Difference to noisy")[2:]
    assert stoi.startswith("**-") and "** ▼" in stoi and llr.startswith("**+") and "** ▼" in llr


def test_failures_are_counted_listed_and_in_no_pair(text):
    found = text(failed=3)
    row = table(found, "## Test set test")[3]
    assert row[4].endswith(" (n 57)") and row[-2:] == ["57–60", "3 PESQ-WB"]
    assert "Failed, the estimate is silent: PESQ-WB of train_gagnet (3: " in found
    assert table(found, "### Difference to noisy")[2][1].endswith(", 57 pairs")
    parts = table(found, "### PESQ-WB by speaker")[2:]
    assert sum(int(row[1]) - int(row[3].partition("(n ")[2].strip(")") or row[1]) for row in parts) == 3


def test_a_cause_that_many_scores_share_is_said_once(tmp_path):
    for folder in (folders := make_experiments(tmp_path)):
        path = folder / "enhanced_test" / "summary.json"
        summary = json.loads(path.read_text())
        for metric in ("stoi", "si_sdr"):
            scores = folder / "enhanced_test" / "scores" / metric
            lines = scores.read_text().splitlines()
            scores.write_text("\n".join([lines[0].split()[0] + " nan", *lines[1:]]) + "\n")
            values = [float(line.split()[1]) for line in lines[1:]]
            reasons = {"the reference is silent": {"n": 1, "utts": ["spk0-utt00000"]}}
            summary["metrics"][metric] |= {"mean": sum(values) / len(values), "reasons": reasons}
        path.write_text(json.dumps(summary))
        agree(folder / "enhanced_test")
    text = page.markdown("Results", comparison.compare(folders))
    assert "\nFailed, the reference is silent: STOI, SI-SDR (dB) of all systems (1: spk0-utt00000).\n" in text
    assert text.count("is silent") == 1


def test_parts_of_the_set_are_those_of_the_first_metric(text):
    found = text()
    by_snr = table(found, "### PESQ-WB by SNR")
    assert by_snr[0] == ["SNR (dB)", "n", "noisy", "train_gagnet", "train_lowlatency_small"]
    assert [row[0] for row in by_snr[2:]] == ["-5", "0", "5", "10"] and sum(int(row[1]) for row in by_snr[2:]) == 60
    assert "### PESQ-WB by noise" in found and "### PESQ-WB by level" not in found


def test_of_many_speakers_those_with_most_utterances_are_shown(text, monkeypatch):
    monkeypatch.setattr(page, "_MOST_GROUPS", 2)
    found = text()
    assert "The 2 of 6 that have most utterances." in found
    assert len(table(found, "### PESQ-WB by speaker")) == 2 + 2


def test_best_and_worst_utterances_have_their_difference(text):
    noisy, gagnet = table(text(), "### Best and worst utterances")[2:4]
    assert noisy[2].count("spk") == gagnet[2].count("spk") == gagnet[3].count("spk") == 5
    values = [float(word.split("(")[1]) for word in gagnet[2].split(")")[:-1]]
    assert values == sorted(values, reverse=True) and "(+" in gagnet[2] and "(+" not in noisy[2]


def test_published_values_carry_their_status_and_are_never_among_ours(text):
    entries = [PUBLISHED, PUBLISHED | {"metric": "pesq_wb", "status": "verified", "value": 2.5, "n": 824}]
    ours, theirs = text(published=entries).split("## Published elsewhere")
    assert "| A |" not in ours and "824" not in ours
    assert table(theirs, "### test")[2] == ["A", "824", "0.9 figure [1]", "2.5 ✓ [1]"]
    assert theirs.rstrip().endswith("1. A et al.")


def test_without_experiments_the_page_says_not_run_here():
    report = comparison.Report([], [], None, [PUBLISHED], ["train_x"])
    text = page.markdown("Results", report)
    assert "## Not run here\n\n- train_x: not trained\n" in text
    assert "## Test set" not in text and "0.9 figure" in text


def test_the_record_is_told_whole(text, tmp_path):
    folders = make_experiments(tmp_path, n=20)
    record = json.loads((folders[1] / "record.json").read_text())
    record["data"]["train"]["fingerprint"] = "0123456789abcdef"
    record |= {"updates": 5, "epochs": 2, "trained_in": {"path": "../other/exp/train_gagnet"}}
    (folders[1] / "record.json").write_text(json.dumps(record))
    said = page.markdown("Results", comparison.compare(folders)).partition("### train_gagnet\n")[2]
    for fact in (
        "- model: train_gagnet.Net\n",
        "- trained elsewhere: ../other/exp/train_gagnet\n",
        "- data: train: dump/raw/train, 40 utterances (fingerprint 0123456789ab)\n",
        "- training: 0.50 h, 5 updates, 2 epochs, last on 2026-01-02",
    ):
        assert fact in said


def test_a_bar_in_a_name_does_not_break_the_table(text):
    row = table(text(systems={"noisy": 0, "a|b": 1.0}), "## Test set test")[3]
    assert row[0] == "a\\|b" and len(row) == 9


def test_names_and_sources_are_text_and_no_html(text):
    entry = PUBLISHED | {"system": "<i>A", "source": "A <script>alert(1)</script> et al."}
    found = text(systems={"noisy": 0, "a<b>c": 1.0, "d|<img src=x>": 0.5}, published=[entry])
    outside_code = "".join(found.split("`")[::2])
    assert not any(tag in outside_code for tag in ("<b>", "<img", "<i>", "<script", "</script"))
    assert "| a&lt;b>c |" in found and "A &lt;script>alert(1)&lt;/script> et al." in found
    assert "p < 0.001" in found and len(table(found, "## Test set test")[4]) == 9


@pytest.mark.parametrize(
    ("number", "shown"), [(None, "–"), (0, "0"), (141_458_400, "141.5 M"), (34_195_836_000, "34.2 G")]
)
def test_quantity(number, shown):
    assert page.quantity(number) == shown
