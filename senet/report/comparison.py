"""Systems side by side: which of their results can be compared, and every number that a report shows of them.

A report computes nothing: page, table and HTML take a ``Report`` and write what it says.
"""

import functools
import logging
import math

import numpy as np

from senet import metrics
from senet.errors import UserError
from senet.report import breakdown, results
from senet.report.statistics import Mean, holm, mean_intervals, signed_rank_p
from senet.report.systems import NOISY, System, read_systems

__all__ = ["NOISY", "Comparison", "Report", "System", "compare", "read_systems"]

EXTREMES = 5  # utterances shown at either end
_GROUP_RESAMPLES = 1000  # for each of many small groups


class Comparison:
    """The systems that were scored on one test set and can be put side by side.

    Attributes:
        test_set: its name.
        systems: those that can; the baseline, or the first, sets the list of utterances.
        baseline: one of these, or None.
        metrics: names, in the order in which the systems were scored with them.
        utts: their ids, list of n str.
        series: {system: {step: Result}} of those whose last checkpoints were scored, too.
        left_out: reasons for what cannot be compared: other lists, references, rates, versions, or a damaged file.
    """

    def __init__(self, test_set, systems, baseline=NOISY):
        self.test_set = test_set
        baseline = next((s for s in _called(systems, baseline) if test_set in s.results), None)
        self.systems, self.utts, self.series, self.left_out = [], None, {}, []
        self._scores = {}
        for system in sorted(systems, key=lambda system: system is not baseline):
            if test_set in system.damaged:
                self._leave_out(system.damaged[test_set])
            if test_set in system.results and self._accepts(self.result(system)) and self._read(system):
                self.systems.append(system)
                found = {step: r for step, r in system.series.get(test_set, {}).items() if self._accepts(r)}
                if found:
                    self.series[system] = found
        self.systems.sort(key=systems.index)
        self.metrics = list(dict.fromkeys(m for s in self.systems for m in self.result(s).metrics))
        self.baseline = baseline if baseline in self.systems else None

    @property
    def refused(self):
        return self.left_out

    def result(self, system):
        """The system's ``Result`` on this set: where its audio and its references are, its own summary."""
        return system.results[self.test_set]

    def scores(self, system, metric):
        """Float64 (n,) in the order of ``utts``; nan where the metric failed, or was not asked for."""
        found = self._scores.get((system, metric))
        return np.full(len(self.utts), np.nan) if found is None else found

    def difference(self, system, metric):
        """Mean of the paired difference to the baseline, or None where one of the two was not scored with it."""
        return self._differences.get((system, metric))

    def oriented(self, system, metric):
        """What is better is larger: the difference to the baseline where there is one, else the score; (n,)."""
        score = self.scores(system, metric)
        if (system, metric) in self._differences:
            score = score - self.scores(self.baseline, metric)
        return -score if metrics.find(metric)[0].lower_is_better else score

    @functools.cached_property
    def labels(self):
        """{column of scores.csv: array (n,)} of what is known of the utterances besides scores."""
        found = {}
        for system in self.systems:
            found = breakdown.read_labels(self.result(system).path) | found
        return {k: v for k, v in found.items() if len(v) == len(self.utts)}

    def _accepts(self, other):
        """Whether a result can be put beside those that are there; if not, the reason is noted."""
        try:
            for there in map(self.result, self.systems):
                shared = [name for name in there.metrics if name in other.metrics]
                results.require_comparable(there.summary, other.summary, there.path, other.path, shared)
        except UserError as error:
            return self._leave_out(str(error))
        return True

    def _read(self, system):
        """Whether the scores could be read; if not, the reason is noted."""
        result, found = self.result(system), {}
        try:
            for name in result.metrics:
                utts, found[system, name] = result.scores(name)
                self.utts = self.utts or utts
                if utts != self.utts:
                    raise UserError(f"{result.path}/scores/{name}: of other utterances than its summary.json")
        except UserError as error:
            return self._leave_out(str(error))
        self._scores |= found
        return True

    def _leave_out(self, reason):
        logging.error("%s: left out: %s", self.test_set, reason)
        self.left_out.append(reason)
        return False

    @functools.cached_property
    def _pairs(self):
        """(system, metric) of the differences; an improvement is a difference to the noisy input already."""
        names = [m for m in self.metrics if not metrics.find(m)[1]]
        pairs = [(s, m) for s in self.systems if s is not self.baseline for m in names]
        return [(s, m) for s, m in pairs if (s, m) in self._scores and (self.baseline, m) in self._scores]

    def _means(self, index=slice(None), **options):
        """``(scores, differences)``: {(system, metric): Mean} over the utterances ``index``."""
        columns = [values[index] for values in self._scores.values()]
        columns += [self.scores(s, m)[index] - self.scores(self.baseline, m)[index] for s, m in self._pairs]
        found = mean_intervals(np.stack(columns, axis=1), **options)
        number = len(self._scores)
        return (
            dict(zip(self._scores, found[:number], strict=True)),
            dict(zip(self._pairs, found[number:], strict=True)),
        )

    @functools.cached_property
    def _all_means(self):
        return self._means()

    @property
    def _differences(self):
        return self._all_means[1]

    def as_dict(self):
        """All of it in plain values; see ``Report.as_dict``."""
        summaries = [self.result(system).summary for system in self.systems]
        return {
            "name": self.test_set,
            "n": len(self.utts),
            "sample_rate": next((s["sample_rate"] for s in summaries if s.get("sample_rate")), None),
            "seconds": next((s["seconds"] for s in summaries if s.get("seconds")), None),
            "baseline": self.baseline.name if self.baseline else None,
            "metrics": [self._metric(name) for name in self.metrics],
            "rows": [self._row(system) for system in self.systems],
            "differences": self._difference_rows(),
            "breakdowns": [
                {"by": by, "estimated": estimated, "groups": [self._group(*group) for group in groups]}
                for by, estimated, groups in breakdown.breakdowns(self.labels)
            ],
            "extremes": [self.extremes(system, self.metrics[0]) for system in self.systems],
            "series": [self._series(system, found) for system, found in self.series.items()],
            "left_out": list(self.left_out),
        }

    def _metric(self, name):
        found = metrics.find(name)[0]
        version = next(self.result(s).summary["metrics"][name]["version"] for s, m in self._scores if m == name)
        return {
            "name": name,
            "label": metrics.label(name),
            "unit": found.unit,
            "digits": found.digits,
            "lower_is_better": found.lower_is_better,
            "version": version,
        }

    def _row(self, system):
        summary, scores = self.result(system).summary, {}
        for name in self.result(system).metrics:
            values = self.scores(system, name)
            scored = values[np.isfinite(values)]
            scores[name] = _plain(self._all_means[0][system, name]) | {
                "std": float(scored.std(ddof=1)) if len(scored) > 1 else None,
                "failed": len(values) - len(scored),
                "reasons": summary["metrics"][name]["reasons"],
            }
        timing = summary.get("real_time_factor")
        return {
            "system": system.name,
            "scores": scores,
            "real_time_factor": timing["computing"] / timing["audio"] if timing and timing["audio"] else None,
            "timed_on": {k: timing.get(k) for k in ("device", "threads")} if timing else None,
            "clipped": summary.get("clipped"),
        }

    def _difference_rows(self):
        rows = []
        for system, metric in self._pairs:
            difference = self.scores(system, metric) - self.scores(self.baseline, metric)
            paired, better = np.isfinite(difference), self.oriented(system, metric) > 0
            rows.append(
                {"system": system.name, "metric": metric}
                | _plain(self._differences[system, metric])
                | {
                    "better": float(better[paired].mean()) if paired.any() else None,
                    "equal": float((difference[paired] == 0).mean()) if paired.any() else None,
                    "p": signed_rank_p(difference),
                }
            )
        for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row["p_corrected"] = float(corrected)
        return rows

    def _group(self, label, low, high, index):
        scores, differences = self._means(index, resamples=_GROUP_RESAMPLES)
        group = {"label": label, "low": low, "high": high, "n": len(index), "scores": {}, "differences": {}}
        for kind, found in (("scores", scores), ("differences", differences)):
            for (system, metric), mean in found.items():
                if mean.n < breakdown.MIN_FOR_INTERVAL:
                    mean = mean._replace(low=math.nan, high=math.nan)
                group[kind].setdefault(system.name, {})[metric] = _plain(mean)
        return group

    def extremes(self, system, metric, number=EXTREMES):
        """The utterances of the largest and smallest improvement, or of the best and worst score."""
        value, score = self.oriented(system, metric), self.scores(system, metric)
        order = np.argsort(-value, kind="stable")[: np.count_nonzero(np.isfinite(value))]  # nan sorts last
        base = self.scores(self.baseline, metric) if (system, metric) in self._differences else None

        def listed(index):
            return [
                {
                    "utt": self.utts[i],
                    "score": float(score[i]),
                    "difference": None if base is None else float(score[i] - base[i]),
                }
                for i in index
            ]

        ends = {"best": listed(order[:number]), "worst": listed(order[::-1][:number])}
        return {"system": system.name, "metric": metric} | ends

    def _series(self, system, found):
        """Mean and standard deviation over the last checkpoints of their means over utterances."""
        scores = {}
        for name in self.metrics:
            of = [result.summary["metrics"].get(name) for result in found.values()]
            means = [score["mean"] for score in of if score and score["mean"] is not None]
            if len(means) == len(found):
                std = float(np.std(means, ddof=1)) if len(means) > 1 else None
                scores[name] = {"mean": float(np.mean(means)), "std": std}
            else:
                scores[name] = {"mean": None, "std": None, "reason": "not scored" if None in of else "no score"}
        failed = sum(score["failed"] for r in found.values() for score in r.summary["metrics"].values())
        return {"system": system.name, "steps": list(found), "scores": scores, "failed": failed}


class Report:
    """Everything that a report says.

    Attributes:
        systems: all that were found, noisy first.
        comparisons: one for each test set.
        baseline: name of the system that differences are taken to, or None.
        published: entries of published.yaml.
        not_run: sentences on configurations without an experiment and sets that a system was not scored on.
        left_out: reasons for what is in no comparison and belongs to none.
    """

    def __init__(self, systems, comparisons, baseline=None, published=(), not_trained=(), left_out=()):
        self.systems, self.comparisons, self.baseline = systems, comparisons, baseline
        self.published, self.left_out = list(published), list(left_out)
        self.not_run = [f"{name}: not trained" for name in not_trained]
        for system in systems:
            there = {*system.results, *system.damaged}
            sets = [c.test_set for c in comparisons if c.test_set not in there]
            if sets:
                self.not_run.append(f"{system.name}: not scored on {', '.join(sets)}")

    def as_dict(self):
        """The report in plain values, as report.json has it; a number that there is not is None."""
        return {
            "baseline": self.baseline,
            "systems": [
                {"name": s.name, "path": str(s.path), "record": s.record, "config": s.config or None}
                for s in self.systems
            ],
            "test_sets": [comparison.as_dict() for comparison in self.comparisons],
            "published": self.published,
            "not_run": self.not_run,
            "left_out": self.left_out,
        }


def compare(paths, baseline=None, published=(), not_trained=()):
    """Read experiment folders and compare what is in them.

    Args:
        paths: experiment folders.
        baseline: name of the system that differences are taken to; None for the noisy input.
        published, not_trained: see Report.
    Returns:
        Report.
    Raises:
        UserError: nothing is left to compare, or there is no such baseline.
    """
    systems = read_systems(paths)
    if baseline and not _called(systems, baseline):
        raise UserError(f"--baseline {baseline}: no such system; there are {', '.join(s.name for s in systems)}")
    names = sorted({name for system in systems for name in system.results})
    comparisons = [c for name in names if (c := Comparison(name, systems, baseline or NOISY)).systems]
    left_out = [r for s in systems for name, r in s.damaged.items() if name not in {c.test_set for c in comparisons}]
    if not comparisons:
        raise UserError("nothing is left to compare: " + "; ".join(left_out))
    if any(c.baseline for c in comparisons):
        baseline = baseline or NOISY
    return Report(systems, comparisons, baseline, published, not_trained, left_out)


def _called(systems, name):
    """Those of this name, or of this folder where others are called so, too."""
    return [system for system in systems if name in (system.name, system.path.resolve().name)]


def _plain(mean: Mean):
    """A Mean for JSON, which has no nan."""
    number = {k: v if math.isfinite(v) else None for k, v in mean._asdict().items()}
    return {"mean": number["mean"], "interval": [number["low"], number["high"]], "n": mean.n}
