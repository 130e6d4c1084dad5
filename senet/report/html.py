"""The report as one HTML file to read, sort and listen to; it needs no network and stays under a size.

Numbers are those of ``Report``; here they become places in charts (``charts``) and recordings (``listening``), and
``template_comparison.html`` makes the page of them. The same files give the same page.
"""

import math

from senet.report import charts, listening, template
from senet.report.charts import Axis
from senet.report.origin import models, published, training
from senet.report.page import SIGNIFICANT, failures, number_scored

_MOST_GROUPS = 60  # of a breakdown are shown
_NUMERIC = {"snr": "SNR (dB)", "level": "level (dB)", "duration": "duration (s)"}
_CATEGORIES = {"noise": "noise type", "speaker": "speaker", "rir": "room impulse response"}


def page(report, title, audio=3, utterances=(), megabytes=25):
    """The page.

    Args:
        report: senet.report.comparison.Report.
        title: heading.
        audio: how many utterances of each test set to listen to, spread evenly from the worst to the best.
        utterances: ids of utterances to listen to instead.
        megabytes: the file's largest size, of 2^20 bytes; recordings that do not fit are left out, which is said.
    Returns:
        the text.
    """
    said = report.as_dict()
    colours = _colours(report)
    sets = [_test_set(c, d, colours) for c, d in zip(report.comparisons, said["test_sets"], strict=True)]
    values = {
        "title": title,
        "report": said,
        "colours": colours,
        "ids": {s.name: i for i, s in enumerate(report.systems)},
        "sets": sets,
        "compared": [s.name for s in report.systems if any(s in c.systems for c in report.comparisons)],
        "asked_for": bool(utterances),
        "metrics": {m["name"]: m["label"] for d in said["test_sets"] for m in d["metrics"]},
        "megabytes": megabytes,
        "training": [t for s in report.systems if (t := training(s))],
        "models": models(said["systems"]),
        "published": published(said["published"]),
    }
    room = megabytes * template.MB - len(template.page("comparison", values).encode())
    listening.add_recordings(sets, report.comparisons, audio, utterances, room)
    return template.page("comparison", values)


def _colours(report):
    """{name: number of its colour}: 0 is the unprocessed input's; those on one test set differ as far as 10 can."""
    colours = {s.name: 0 for s in report.systems}
    for system in (s for s in report.systems if not s.is_noisy):
        beside = {colours[other.name] for c in report.comparisons if system in c.systems for other in c.systems}
        used = list(colours.values())
        colours[system.name] = min(range(1, 11), key=lambda k: (k in beside, used.count(k), k))
    return colours


def _test_set(comparison, said, colours):
    """What the page shows of one test set."""
    differences = {(d["system"], d["metric"]): d for d in said["differences"]}
    for (_, name), d in differences.items():
        lower = next(m["lower_is_better"] for m in said["metrics"] if m["name"] == name)
        d["mark"] = 0 if d["p_corrected"] >= SIGNIFICANT or not d["mean"] else 1 if (d["mean"] > 0) != lower else -1
    rows = {row["system"]: row["scores"] for row in said["rows"]}
    return said | {
        "difference": differences,
        "failures": [
            {"system": row["system"], "metric": m["label"], "reason": reason, **found}
            for row in said["rows"]
            for m in said["metrics"]
            for reason, found in row["scores"].get(m["name"], {"reasons": {}})["reasons"].items()
        ],
        "details": [_detail(comparison, said, metric, rows, differences) for metric in said["metrics"]],
        "counts": {row["system"]: _counts(row, said) for row in said["rows"]},
        "records": {s.name: s.record for s in comparison.systems},
        "left_out_number": len(said["left_out"]),
        "utterances": [],
        "unheard": [],
    }


def _counts(row, said):
    """How many utterances have scores, and how many lack any, with a line for each reason."""
    found = list(failures(said, row))
    return {
        "n": number_scored(row),
        "failed": max((n for _, n, _ in found), default=0),
        "why": "\n".join(f"{label}: {of['n']} {why}" for label, _, reasons in found for why, of in reasons.items()),
    }


def _detail(comparison, said, metric, rows, differences):
    """What the page shows of one metric on one test set."""
    name = metric["name"]
    systems = [s for s in comparison.systems if rows[s.name].get(name, {"n": 0})["n"]]
    compared = [s for s in systems if (s.name, name) in differences]
    found = [differences[s.name, name] for s in compared]
    forest = Axis([v for d in found for v in (d["mean"], *d["interval"]) if v is not None], zero=True)
    scores = [comparison.scores(s, name) for s in systems]
    base = comparison.scores(comparison.baseline, name) if compared else None
    return {
        "metric": metric,
        "forest": forest if found else None,
        "differences": [d | {"line": _line(forest, d)} for d in found],
        "distributions": _ridges(systems, scores, [rows[s.name][name]["mean"] for s in systems], comparison.baseline),
        "changes": _ridges(
            compared,
            [s - base for s in (comparison.scores(c, name) for c in compared)],
            [d["mean"] for d in found],
            zero=True,
        ),
        "breakdowns": [_breakdown(b, metric, systems, compared) for b in said["breakdowns"]],
        "extremes": [comparison.extremes(s, name) for s in compared or systems],
    }


def _line(axis, mean):
    """Where a mean and its interval are on an axis."""
    if mean["mean"] is None:
        return None
    low, high = mean["interval"]
    return {"at": axis(mean["mean"]), "low": None if low is None else (axis(low), axis(high))}


def _ridges(systems, columns, means, baseline=None, zero=False):
    """One histogram above another, all over the same axis; the baseline's lies behind each."""
    if not systems:
        return None
    axis, paths = charts.histograms(columns, zero)
    behind = dict(zip(systems, paths, strict=True)).get(baseline)
    rows = [
        {"system": s.name, "path": path, "behind": None if s is baseline else behind, "mean": m, "at": axis(m)}
        for s, path, m in zip(systems, paths, means, strict=True)
        if m is not None
    ]
    return {"axis": axis, "rows": rows, "zero": axis(0) if zero else None}


def _breakdown(said, metric, systems, compared):
    """A table of the groups and, where these are ordered, curves over them."""
    by, name = said["by"], metric["name"]
    groups = said["groups"]
    if by in _NUMERIC:
        groups = [g | {"label": g["label"].replace("-", "−")} for g in groups]
    shown = sorted(sorted(groups, key=lambda g: -g["n"])[:_MOST_GROUPS], key=groups.index)
    largest = max((abs(d["mean"]) for g in groups for d in _of(g, "differences", compared, name).values()), default=0)
    sign = -1 if metric["lower_is_better"] else 1
    ordered = [g for g in groups if g["low"] is not None] if by in _NUMERIC else []
    return {
        "by": by,
        "title": (_NUMERIC | _CATEGORIES).get(by, by),
        "estimated": said["estimated"],
        "systems": [s.name for s in systems],
        "total": said["total"],
        "kept": len(groups),
        "rows": [
            {
                "group": g,
                "cells": [
                    {
                        "system": s.name,
                        "score": g["scores"].get(s.name, {}).get(name),
                        "tint": _tint(sign, g["differences"].get(s.name, {}).get(name), largest),
                    }
                    for s in systems
                ],
            }
            for g in shown
        ],
        "curves": [
            _curves(ordered, kind, of, name)
            for kind, of in (("scores", systems), ("differences", compared))
            if len(ordered) > 1 and of
        ],
    }


def _of(group, kind, systems, name):
    found = {s.name: group[kind].get(s.name, {}).get(name) for s in systems}
    return {k: v for k, v in found.items() if v and v["mean"] is not None}


def _tint(sign, difference, largest):
    """-4 (much worse than the baseline) to 4 (much better)."""
    if not difference or difference["mean"] is None or not largest:
        return 0
    return round(4 * sign * difference["mean"] / largest)


def _curves(groups, kind, systems, name):
    """Means with their intervals over groups, which are as far apart as they come: (x, y) in percent."""
    means = [_of(g, kind, systems, name) for g in groups]
    values = [v for of in means for m in of.values() for v in (m["mean"], *m["interval"]) if v is not None]
    y = Axis(values, zero=kind == "differences", margin=0.06)
    lines = []
    for k, system in enumerate(systems):
        aside = 50 / len(groups) * 0.5 * ((k + 0.5) / len(systems) - 0.5)  # so that intervals do not cover each other
        points = []
        for i, (g, of) in enumerate(zip(groups, means, strict=True)):
            if mean := of.get(system.name):
                x = round(100 * (i + 0.5) / len(groups) + aside, 2)
                points.append({"x": x, **_line(y, mean), "mean": mean, "group": g["label"]})
        path = "L".join(f"{p['x']:g} {100 - p['at']:g}" for p in points)
        lines.append({"system": system.name, "path": f"M{path}", "points": points})
    every = math.ceil(len(groups) / 12)
    labels = [(round(100 * (i + 0.5) / len(groups), 2), g["label"]) for i, g in enumerate(groups) if i % every == 0]
    return {"kind": kind, "axis": y, "lines": lines, "labels": labels, "zero": y(0) if kind == "differences" else None}
