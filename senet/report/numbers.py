"""The numbers of one test set, in plain values: what the pages show and report.json holds. None is "there is none"."""

import math

import numpy as np

from senet import metrics
from senet.report import breakdown
from senet.report.statistics import holm, signed_rank_p

GROUP_RESAMPLES = 1000  # for each of many groups; the ends' random error is 4 % of an interval's width


def test_set(comparison):
    """All that ``Report.as_dict`` says about a ``Comparison``."""
    summaries = [comparison.result(system).summary for system in comparison.systems]
    scores, differences = comparison.means()
    return {
        "name": comparison.title,
        "n": len(comparison.utts),
        "utterances": summaries[0]["utterances"],
        "references": summaries[0]["references"],
        "sample_rate": next((s["sample_rate"] for s in summaries if s.get("sample_rate")), None),
        "seconds": next((s["seconds"] for s in summaries if s.get("seconds")), None),
        "baseline": comparison.baseline.name if comparison.baseline else None,
        "metrics": [_metric(comparison, name) for name in comparison.metrics],
        "rows": [_row(comparison, system, scores) for system in comparison.systems],
        "differences": _differences(comparison, differences),
        "breakdowns": [
            {"by": by, "estimated": estimated, "total": total, "groups": [_group(comparison, *g) for g in groups]}
            for by, estimated, groups, total in breakdown.breakdowns(comparison.labels)
        ],
        "extremes": [comparison.extremes(system, comparison.metrics[0]) for system in comparison.systems],
        "series": [_series(comparison, system, found) for system, found in comparison.series.items()],
        "left_out": list(comparison.left_out),
    }


def _metric(comparison, name):
    found, _ = metrics.find(name)
    summaries = [comparison.result(system).summary["metrics"] for system in comparison.systems]
    return {
        "name": name,
        "label": metrics.label(name),
        "unit": found.unit,
        "digits": found.digits,
        "lower_is_better": found.lower_is_better,
        "version": next(s[name]["version"] for s in summaries if name in s),  # equal, or they would not be compared
        "best": _best(comparison, name),
    }


def _best(comparison, name):
    """Names of the systems of the best mean, as far as its digits show, over the utterances that all have a score of:
    one that failed where it is hard has a better mean of its own."""
    scores = {system.name: comparison.scores(system, name) for system in comparison.systems}
    scores = {system: values for system, values in scores.items() if np.isfinite(values).any()}
    if len(scores) < 2:
        return []
    values = np.stack(list(scores.values()))
    common = np.isfinite(values).all(axis=0)
    if not common.any():
        return []
    metric = metrics.find(name)[0]
    means = values[:, common].mean(axis=1).round(metric.digits)
    best = means.min() if metric.lower_is_better else means.max()
    return [system for system, mean in zip(scores, means, strict=True) if mean == best]


def _row(comparison, system, means):
    summary, scores = comparison.result(system).summary, {}
    for name in comparison.result(system).metrics:
        values = comparison.scores(system, name)
        scored = values[np.isfinite(values)]
        scores[name] = plain(means[system, name]) | {
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
        "made_with": summary.get("made_with"),
    }


def _differences(comparison, means):
    rows = []
    for (system, metric), mean in means.items():
        improvement = comparison.oriented(system, metric)  # exact zeros stay zeros
        paired = improvement[np.isfinite(improvement)]
        rows.append(
            {"system": system.name, "metric": metric}
            | plain(mean)
            | {
                "better": float((paired > 0).mean()) if len(paired) else None,
                "equal": float((paired == 0).mean()) if len(paired) else None,
                "p": signed_rank_p(improvement),
            }
        )
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_corrected"] = float(corrected)
    return rows


def _group(comparison, label, low, high, index):
    group = {"label": label, "low": low, "high": high, "n": len(index), "scores": {}, "differences": {}}
    for kind, means in zip(("scores", "differences"), comparison.means(index, GROUP_RESAMPLES), strict=True):
        for (system, metric), mean in means.items():
            lost = {"failed": len(index) - mean.n} if kind == "scores" else {}
            group[kind].setdefault(system.name, {})[metric] = plain(mean) | lost
    return group


def _series(comparison, system, found):
    """Mean and standard deviation over the last checkpoints of their means over utterances."""
    scores = {}
    for name in comparison.metrics:
        of = [result.summary["metrics"].get(name) for result in found.values()]
        means = [score["mean"] for score in of if score and score["mean"] is not None]
        if len(means) < len(found):
            scores[name] = {"mean": None, "std": None, "reason": "not scored" if None in of else "no score"}
        else:
            std = float(np.std(means, ddof=1)) if len(means) > 1 else None
            scores[name] = {"mean": float(np.mean(means)), "std": std}
    failed = sum(score["failed"] for result in found.values() for score in result.summary["metrics"].values())
    return {"system": system.name, "steps": list(found), "scores": scores, "failed": failed}


def plain(mean):
    """A ``statistics.Mean`` for JSON, which has no nan."""
    value, low, high = (x if math.isfinite(x) else None for x in mean[:3])
    return {"mean": value, "interval": [low, high], "n": mean.n}
