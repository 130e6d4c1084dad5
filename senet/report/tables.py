"""The report's numbers as a long table, for other programs; ``Report.as_dict`` holds more."""

import csv
import json

_RECORD = ("parameters", "macs_per_second", "training_seconds", "command", "seed")
_COLUMNS = (
    "test_set", "by", "group", "system", "metric", "version", "utterances", "n", "failed", "mean", "low", "high", "std",
    "baseline", "difference", "difference_low", "difference_high", "pairs", "better", "equal", "p", "p_corrected",
    *_RECORD, "real_time_factor", "experiment", "config", "commit", "data", "packages", "hardware", "references",
    "utterance_list", "scored_with",
)  # fmt: skip


def write_csv(f, report):
    """One line for each test set, system and metric, and, with ``by`` and ``group`` filled in, for its parts.

    Each says how it was made, too: what record.json and config.yaml of the system say, and digests of the data and of
    the list of utterances. Only the long ``config`` and ``scored_with`` are not repeated for parts: they are those of
    the line of the same test_set, system and metric without ``by``. Parts have no p.

    Args:
        f: file open for text.
        report: senet.report.comparison.Report.
    """
    data = report.as_dict()
    made = {system["name"]: _made(system) for system in data["systems"]}
    configs = {system["name"]: system["config"] and json.dumps(system["config"]) for system in data["systems"]}
    writer = csv.DictWriter(f, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for test_set in data["test_sets"]:
        versions = {metric["name"]: metric["version"] for metric in test_set["metrics"]}
        differences = {(d["system"], d["metric"]): d for d in test_set["differences"]}
        facts = {}
        for row in test_set["rows"]:
            facts[row["system"]] = made[row["system"]] | {"real_time_factor": row["real_time_factor"]}
            long = {
                "config": configs[row["system"]],
                "scored_with": row["made_with"] and json.dumps(row["made_with"]),
            }
            for metric, score in row["scores"].items():
                line = _line(test_set, row["system"], metric, score, differences.get((row["system"], metric)))
                line |= {"version": versions[metric], "utterances": test_set["n"]}
                writer.writerow(line | facts[row["system"]] | long)
        for breakdown in test_set["breakdowns"]:
            by = breakdown["by"] + "_estimated" * breakdown["estimated"]
            for group in breakdown["groups"]:
                part = {"by": by, "group": group["label"], "utterances": group["n"]}
                for system, scores in group["scores"].items():
                    for metric, score in scores.items():
                        difference = group["differences"].get(system, {}).get(metric)
                        line = _line(test_set, system, metric, score, difference) | part
                        writer.writerow(line | {"version": versions[metric]} | facts[system])


def _made(system):
    """How a system was made, a cell for each fact."""
    record = system["record"]
    git, hardware = record.get("git") or {}, record.get("hardware") or {}
    return {name: record.get(name) for name in _RECORD} | {
        "experiment": system["path"],
        "commit": git.get("commit", "") + " with local changes" * bool(git.get("dirty")),
        "data": "; ".join(f"{name} {d.get('fingerprint')}" for name, d in record.get("data", {}).items()),
        "packages": "; ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        "hardware": "; ".join([*hardware.get("gpus", []), *([hardware["cpu"]] if "cpu" in hardware else [])]),
    }


def _line(test_set, system, metric, score, difference):
    line = {"test_set": test_set["name"], "system": system, "metric": metric}
    line |= {"utterance_list": test_set["utterances"], "references": test_set["references"]}
    line |= {name: score.get(name) for name in ("n", "failed", "mean", "std")}
    line["low"], line["high"] = score["interval"]
    if difference:
        line |= {name: difference.get(name) for name in ("better", "equal", "p", "p_corrected")}
        line |= {"baseline": test_set["baseline"], "difference": difference["mean"], "pairs": difference["n"]}
        line["difference_low"], line["difference_high"] = difference["interval"]
    return line
