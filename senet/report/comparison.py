"""Systems side by side: what experiment folders hold, and the Markdown page that says it.

The page follows from the files of the experiments alone, so the same files give the same page.
"""

import logging
from collections import Counter
from pathlib import Path

from senet import metrics
from senet.errors import UserError
from senet.report import results
from senet.report.statistics import paired_difference

NOISY = "noisy"  # the folder in which the unprocessed input is scored like a system


class System:
    """An experiment folder with its results and its record of training."""

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.resolve().name
        record = self.path / "record.json"
        self.record = results.read_json(record, "train again (stage train)") if record.exists() else {}
        self.trained = (self.path / "checkpoints").is_dir()
        found = sorted(self.path.glob("enhanced_*/summary.json"))
        self.results = {r.test_set: r for r in (results.Result(p.parent) for p in found)}


def read_systems(paths):
    """The systems in experiment folders: noisy first, then by name; other folders are passed over.

    Raises:
        UserError: a path is not a folder, or none of them holds a system.
    """
    systems = []
    for path in {Path(p).resolve(): Path(p) for p in paths}.values():
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give experiment folders, such as exp/*")
        system = System(path)
        if system.trained or system.results:
            systems.append(system)
    if not any(system.results for system in systems):
        raise UserError("none of the folders holds scores; score the enhanced sets first (stage score)")
    count = Counter(system.name for system in systems)
    for system in systems:
        if count[system.name] > 1:  # of two recipes: corpus/exp/tag
            system.name = "/".join(system.path.resolve().parts[-3:])
    return sorted(systems, key=lambda system: (system.name.split("/")[-1] != NOISY, system.name))


class Comparison:
    """The systems that were scored on one test set and can be put side by side.

    Attributes:
        systems: those that can; the first, noisy where it was scored, sets the list of utterances.
        refused: ``(system, reason)`` of those that cannot, because lists, references or versions differ.
        metrics: names, in the order in which the systems were scored with them.
    """

    def __init__(self, test_set, systems):
        self.test_set = test_set
        self.systems, self.refused = [], []
        for system in systems:
            if test_set not in system.results:
                continue
            reason = self._mismatch(system)
            if reason:
                logging.error("%s", reason)
                self.refused.append((system, reason))
            else:
                self.systems.append(system)
        self.metrics = list(dict.fromkeys(m for s in self.systems for m in self.result(s).metrics))
        self.baseline = self.systems[0] if self.systems[0].name.split("/")[-1] == NOISY else None

    def result(self, system):
        return system.results[self.test_set]

    def _mismatch(self, system):
        if not self.systems:
            return None
        first, other = self.result(self.systems[0]), self.result(system)
        shared = [name for name in first.metrics if name in other.metrics]
        try:
            results.require_comparable(first.summary, other.summary, first.path, other.path, shared)
        except UserError as error:
            return str(error)
        return None

    def difference(self, system, name):
        """Paired difference to the noisy input, or None where one of the two was not scored with the metric."""
        a, b = self.result(system), self.result(self.baseline)
        if name not in a.metrics or name not in b.metrics:
            return None
        return paired_difference(a.scores(name)[1], b.scores(name)[1])


def compare(systems):
    """One Comparison for each test set, by name."""
    return [Comparison(name, systems) for name in sorted({name for s in systems for name in s.results})]


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
        for _, reason in comparison.refused:
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
        failed = [f"{f['failed']} {metrics.label(m)}" for m, f in summary["metrics"].items() if f["failed"]]
        scores = [_mean(name, summary["metrics"].get(name)) for name in comparison.metrics]
        parameters = f"{system.record['parameters']:,}" if "parameters" in system.record else "–"
        rows.append([system.name, parameters, *scores, summary["n"], ", ".join(failed) or 0])
    return _table(header, rows)


def _versions(comparison):
    """One line: the table holds only scores of equal versions, so the first system speaks for all."""
    found = comparison.result(comparison.systems[0]).summary["metrics"]
    versions = [f"{metrics.label(name)} {found[name]['version']}" for name in comparison.metrics if name in found]
    return f"Versions of the metrics (ours, then the package's): {', '.join(versions)}."


def _mean(name, found):
    if found is None:
        return "not scored"
    if found["mean"] is None:
        return "no score"
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
    yield "data", "; ".join(f"{name}: {d['path']}, {d['utterances']} utterances" for name, d in sets)
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
        (e["test_set"], e["metric"], e["system"], f"{e['value']:g}", e["status"], e["source"]) for e in entries
    )
    yield from _table(
        ["test set", "metric", "system", "value", "status", "source"],
        [[test_set, metrics.label(metric), *rest] for test_set, metric, *rest in rows],
    )
