"""RESULTS.md: the systems of a recipe in tables, how they were made, and what others published.

The page follows from the files of the experiments alone, so the same files give the same page.
"""

import numpy as np

from senet import metrics
from senet.report.results import not_computed


def markdown(title, systems, comparisons, published=(), not_trained=()):
    """The page.

    Args:
        title: heading.
        systems, comparisons: what ``read_systems`` and ``compare`` gave.
        published: entries of published.yaml.
        not_trained: configurations of the recipe without an experiment.
    """
    lines = [
        f"# {title}",
        "",
        "Written by `senet.bin.compare` from the experiments' files; changes made here are lost.",
        "A value is the mean over utterances ± half of its 95 % bootstrap interval. A difference is the mean over",
        "pairs of the same utterance, with its 95 % interval. Failed utterances are counted, and are in no mean.",
    ]
    for comparison in comparisons:
        lines += ["", f"## Test set {comparison.test_set}", "", *_scores(comparison)]
        lines += ["", _versions(comparison)]
        if comparison.baseline and len(comparison.systems) > 1:
            lines += ["", "Difference to the noisy input:", "", *_differences(comparison)]
        if comparison.series:
            lines += ["", "Mean ± standard deviation (n - 1) over the last checkpoints, each scored for itself:"]
            lines += ["", *_series(comparison)]
        for reason in comparison.refused:
            lines += ["", f"Left out: {reason}."]
    missing = _not_run(systems, comparisons, not_trained)
    if missing:
        lines += ["", "## Not run here", "", *missing]
    lines += _records(systems)
    if published:
        lines += ["", "## Published elsewhere", "", *_published(published)]
    return "\n".join(lines) + "\n"


def _table(header, rows):
    yield from ("| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows))


def _scores(comparison):
    header = ["system", "parameters", *map(metrics.label, comparison.metrics), "n", "failed"]
    rows = []
    for system in comparison.systems:
        summary = comparison.result(system).summary
        found = summary["metrics"].items()
        failed = [f"{f['failed']} {metrics.label(m)}" for m, f in found if f["failed"] and not not_computed(f)]
        scores = [_mean(name, summary["metrics"].get(name)) for name in comparison.metrics]
        parameters = f"{system.record['parameters']:,}" if "parameters" in system.record else "–"
        rows.append([system.name, parameters, *scores, summary["n"], ", ".join(failed) or 0])
    return _table(header, rows)


def _versions(comparison):
    """One line: the table holds only scores of equal versions, so any system speaks for all."""
    found = {k: v for s in comparison.systems for k, v in comparison.result(s).summary["metrics"].items()}
    versions = [f"{metrics.label(name)} {found[name]['version']}" for name in comparison.metrics]
    return f"Versions of the metrics (ours, then the package's): {', '.join(versions)}."


def _mean(name, found):
    if found is None:
        return "not scored"
    if found["mean"] is None:
        return "not computed" if not_computed(found) else "no score"
    digits = metrics.find(name)[0].digits
    low, high = found["interval"]
    half = "" if low is None else f" ± {(high - low) / 2:.{digits}f}"
    return f"{found['mean']:.{digits}f}{half}"


def _differences(comparison):
    # An improvement metric is a difference to the noisy input already.
    names = [name for name in comparison.metrics if not metrics.find(name)[1]]
    rows = [
        [system.name, *(_difference(name, comparison.difference(system, name)) for name in names)]
        for system in comparison.systems
        if system is not comparison.baseline
    ]
    return _table(["system", *map(metrics.label, names)], rows)


def _difference(name, found):
    if found is None or not found.n:
        return "–"
    digits = metrics.find(name)[0].digits
    interval = "" if found.n < 2 else f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
    return f"{found.mean:+.{digits}f}{interval}"


def _not_run(systems, comparisons, not_trained):
    lines = [f"- {name}: not trained" for name in not_trained]
    for system in systems:
        sets = [c.test_set for c in comparisons if c.test_set not in system.results]
        if sets:
            lines.append(f"- {system.name}: not scored on {', '.join(sets)}")
    return lines


def _series(comparison):
    header = ["system", "checkpoints", "steps", *map(metrics.label, comparison.metrics), "failed"]
    rows = []
    for system, found in comparison.series.items():
        scores = [[r.summary["metrics"].get(name) for r in found.values()] for name in comparison.metrics]
        spreads = [_spread(name, of) for name, of in zip(comparison.metrics, scores, strict=True)]
        failed = sum(score["failed"] for of in scores for score in of if score)
        rows.append([system.name, len(found), ", ".join(map(str, found)), *spreads, failed])
    return _table(header, rows)


def _spread(name, found):
    """Mean and standard deviation over checkpoints of their means over utterances."""
    if None in found:
        return "not scored"
    means = [score["mean"] for score in found]
    if None in means:
        return "no score"
    digits = metrics.find(name)[0].digits
    deviation = f" ± {np.std(means, ddof=1):.{digits}f}" if len(means) > 1 else ""
    return f"{np.mean(means):.{digits}f}{deviation}"


def _records(systems):
    lines = []
    for system in systems:
        facts = [f"- {name}: {value}" for name, value in _facts(system.record) if value]
        lines += ["", f"### {system.name}", "", *facts] if facts else []
    return ["", "## How the models were made", *lines] if lines else []


def _facts(record):
    """What record.json says about a training, as far as it says it."""
    if command := record.get("command"):
        yield "command", f"`{command}`"
    if git := record.get("git"):
        yield "commit", git["commit"] + (" with local changes" if git.get("dirty") else "")
    if "seed" in record:
        yield "seed", str(record["seed"])
    sets = record.get("data", {}).items()
    units = {name: "utterances" if "utterances" in d else "recordings" for name, d in sets}  # sources to mix from
    yield "data", "; ".join(f"{name}: {d['path']}, {d[units[name]]} {units[name]}" for name, d in sets)
    if hardware := record.get("hardware"):
        threads = f"{record['threads']} threads on " if "threads" in record else ""
        cpu = f"{threads}{hardware.get('cores', '?')} cores of {hardware.get('cpu', '?')}"
        yield "hardware", ", ".join([*hardware.get("gpus", []), cpu])
    if "training_seconds" in record:
        yield (
            "training",
            f"{record['training_seconds'] / 3600:.2f} h, last on {record.get('written', 'an unknown day')}",
        )
    versions = record.get("versions", {}).items()
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions if version)


def _published(entries):
    yield "Not our runs: their mixtures, references and metric code may differ from those above."
    yield ""
    rows = sorted(
        (e["test_set"], e["metric"], e["system"], f"{e['value']:g}", str(e.get("n", "–")), e["status"], e["source"])
        for e in entries
    )
    yield from _table(
        ["test set", "metric", "system", "value", "n", "status", "source"],
        [[test_set, metrics.label(metric), *rest] for test_set, metric, *rest in rows],
    )
