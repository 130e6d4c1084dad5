"""The long table: each row says what was measured and how it was made."""

import csv
import io
import json

from experiments import make_experiments

from senet.report import comparison, tables


def rows(folders):
    text = io.StringIO()
    tables.write_csv(text, comparison.compare(folders))
    return list(csv.DictReader(io.StringIO(text.getvalue())))


def test_a_row_says_how_it_was_made(tmp_path):
    folders = make_experiments(tmp_path)
    record = json.loads((folders[1] / "record.json").read_text())
    record["data"]["train"]["fingerprint"] = "0123abcd"
    record["git"]["dirty"] = True
    (folders[1] / "record.json").write_text(json.dumps(record))
    summary = folders[1] / "enhanced_test" / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"made_with": {"versions": {"numpy": "2.0"}}}))
    row = next(r for r in rows(folders) if (r["system"], r["metric"], r["by"]) == ("train_gagnet", "stoi", ""))
    assert row["command"] == "python -m senet.bin.train --config conf/train_gagnet.yaml"
    assert row["commit"] == "0123456789abcdef0123456789abcdef01234567 with local changes"
    assert json.loads(row["config"])["model"] == "train_gagnet.Net"
    assert json.loads(row["scored_with"]) == {"versions": {"numpy": "2.0"}}
    assert {name: row[name] for name in ("seed", "data", "packages", "hardware", "training_seconds", "references")} == {
        "seed": "7",
        "data": "train 0123abcd",
        "packages": "numpy 2.0; torch 2.13",
        "hardware": "CPU X",
        "training_seconds": "1800.0",
        "references": "f" * 64,
    }
    assert (row["parameters"], row["macs_per_second"]) == ("2000000", "4000000000") and row["version"]


def test_a_row_of_a_part_says_it_too_and_counts_its_failures(tmp_path):
    found = [r for r in rows(make_experiments(tmp_path, failed=5)) if r["system"] == "train_gagnet"]
    whole = next(r for r in found if (r["metric"], r["by"]) == ("pesq_wb", ""))
    parts = [r for r in found if (r["metric"], r["by"]) == ("pesq_wb", "speaker")]
    same = ("version", "commit", "seed", "command", "references", "utterance_list", "experiment", "parameters")
    assert all(whole[name] and {r[name] for r in parts} == {whole[name]} for name in same)
    assert sum(int(r["failed"]) for r in parts) == 5
    assert all(int(r["n"]) + int(r["failed"]) == int(r["utterances"]) for r in parts)
    summary = json.loads((tmp_path / "exp" / "noisy" / "enhanced_test" / "summary.json").read_text())
    assert whole["utterance_list"] == summary["utterances"]


def test_what_nobody_trained_has_no_record(tmp_path):
    row = next(r for r in rows(make_experiments(tmp_path)) if r["system"] == "noisy" and not r["by"])
    assert not any(row[name] for name in ("command", "commit", "seed", "config", "data", "packages", "hardware"))
    assert row["mean"] and row["references"]
