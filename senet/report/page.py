"""RESULTS.md: the systems in tables, how they were made, and, apart from ours, what others published.

It says what a ``Report`` holds and computes nothing; the same files give the same page.
"""

import re
from itertools import chain

from senet import metrics
from senet.report.results import not_computed

SIGNIFICANT = 0.05
_SHOWN = ("snr", "noise", "speaker")  # breakdowns on the page, of the first metric; the other files have all
_MOST_GROUPS = 12  # rows of one
_MARKS = {"verified": "✓", "figure": "figure", "recalled": "recalled"}


def markdown(title, report):
    """The page, a string; ``report``: a ``senet.report.comparison.Report``."""
    data = report.as_dict()
    records = {system["name"]: system["record"] for system in data["systems"]}
    lines = [f"# {title}", "", "Written by `senet compare`; changes made here are lost."]
    if data["test_sets"]:
        lines += [
            "A value is the mean over utterances ± half of its 95 % bootstrap interval. n utterances have a score;",
            "failed are those that have none; they are in no mean. Intervals and p take utterances for independent:",
            "they are about other utterances of the same speakers and noises, not about other speakers.",
        ]
    for test_set in data["test_sets"]:
        lines += ["", f"## Test set {test_set['name']}", "", *_test_set(test_set, records)]
    lines += _bullets("## Left out", data["left_out"])
    lines += _bullets("## Not run here", data["not_run"])
    lines += _how_made(data["systems"])
    lines += _published(data["published"])
    return _without_html("\n".join(lines) + "\n")


def _without_html(text):
    """Names, reasons and sources are text: no "<" opens a tag, but in code, where it is one."""
    return re.sub(r"`[^`\n]*`|<(?=[a-zA-Z/!?])", lambda found: "&lt;" if found[0] == "<" else found[0], text)


def quantity(number):
    """``6.24 G``; ``–`` for None."""
    if number is None:
        return "–"
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return str(number)


def _table(header, rows):
    cells = (
        [" ".join(str(cell).split()).replace("|", "\\|") for cell in row]
        for row in (header, ["---"] * len(header), *rows)
    )
    return ["| " + " | ".join(row) + " |" for row in cells]


def _bullets(heading, items):
    return ["", heading, "", *(f"- {item}" for item in items)] if items else []


def _test_set(data, records):
    about = [f"{data['n']} utterances"]
    about += [f"{data['seconds'] / 60:.1f} min"] if data["seconds"] else []
    about += [f"{data['sample_rate']} Hz"] if data["sample_rate"] else []
    lines = [", ".join(about) + ".", "", *_scores(data, records), "", *_notes(data, records)]
    if data["differences"]:
        lines += ["", f"### Difference to {data['baseline']}", "", *_differences(data)]
    elif len(data["rows"]) > 1 and not data["baseline"]:
        lines += ["", "No differences: the baseline, noisy or that of `--baseline NAME`, is not among these systems."]
    for breakdown in data["breakdowns"]:
        if breakdown["by"] in _SHOWN:
            lines += ["", *_breakdown(data, breakdown)]
    lines += ["", "### Best and worst utterances", "", *_extremes(data)]
    if data["series"]:
        lines += ["", "### Last checkpoints", "", *_series(data)]
    for reason in data["left_out"]:
        lines += ["", f"Left out: {reason}."]
    return lines


# ---------------------------------------------------------------- scores


def _scores(data, records):
    timed = any(row["real_time_factor"] is not None for row in data["rows"])
    header = ["system", "parameters", "MACs/s", *(["RTF"] if timed else []), *_labels(data["metrics"]), "n", "failed"]
    rows = []
    for row in data["rows"]:
        record = records[row["system"]]
        parameters = f"{record['parameters']:,}" if "parameters" in record else "–"
        cost = [parameters, quantity(record.get("macs_per_second"))]
        factor = row["real_time_factor"]
        cost += ["–" if factor is None else f"{factor:.3g}"] if timed else []
        scores = [_score(metric, row["scores"].get(metric["name"])) for metric in data["metrics"]]
        failed = [f"{n} {label}" for label, n, _ in failures(data, row)]
        far = f" (training not finished: {record['unfinished']})" if "unfinished" in record else ""
        rows.append([row["system"] + far, *cost, *scores, number_scored(row), ", ".join(failed) or 0])
    return _table(header, rows)


def _labels(of):
    return [metric["label"] for metric in of]


def _score(metric, found):
    if found is None:
        return "not scored"
    if found["mean"] is None:
        return "not computed" if not_computed(found) else "no score"
    fewer = f" (n {found['n']})" if found["failed"] else ""
    return _with_half(found["mean"], found["interval"], metric["digits"]) + fewer


def _with_half(mean, interval, digits):
    low, high = interval
    return f"{mean:.{digits}f}" + ("" if low is None else f" ± {(high - low) / 2:.{digits}f}")


def number_scored(row):
    """How many utterances a system has scores of; a range where it depends on the metric. Those not computed apart."""
    found = sorted({score["n"] for score in row["scores"].values() if not not_computed(score)}) or [0]
    return f"{found[0]}–{found[-1]}" if len(found) > 1 else str(found[0])


def failures(data, row):
    """(label, number, reasons) of the metrics that failed on utterances of a system."""
    for metric in data["metrics"]:
        found = row["scores"].get(metric["name"])
        if found and found["failed"] and not not_computed(found):
            yield metric["label"], found["failed"], found["reasons"]


def _notes(data, records):
    """What the table leaves out: why scores failed, clipping, how the time was taken, versions."""
    notes = list(_why_failed(data))
    for row in data["rows"]:
        if (row["clipped"] or {}).get("files"):
            notes.append(f"{row['system']}: samples were clipped in {row['clipped']['files']} files.")
    ways = {_way(row["timed_on"]) for row in data["rows"] if row["real_time_factor"] is not None}
    if ways:
        notes.append(f"RTF: computing time over the audio's duration, {' or '.join(sorted(ways))}.")
    if any("macs_per_second" in records[row["system"]] for row in data["rows"]):
        notes.append("MACs/s: multiply-accumulates of convolutions and matrix products for a second more of audio.")
    versions = [f"{metric['label']} {metric['version']}" for metric in data["metrics"]]
    notes.append(f"Versions of the metrics (ours, then the package's): {', '.join(versions)}.")
    return list(chain.from_iterable((note, "") for note in notes))[:-1]


def _why_failed(data):
    """A line for each reason: which metrics of which systems have no score for it, and of which utterances."""
    found = {}
    for row in data["rows"]:
        lacking = {}
        for label, _, reasons in failures(data, row):
            for reason, of in reasons.items():
                lacking.setdefault((reason, f"{of['n']}: {_few(of['utts'])}"), []).append(label)
        for (reason, utts), labels in lacking.items():
            found.setdefault(reason, {}).setdefault((", ".join(labels), utts), []).append(row["system"])
    for reason, parts in found.items():
        said = (
            f"{labels} of {'all systems' if 1 < len(of) == len(data['rows']) else ', '.join(of)} ({utts})"
            for (labels, utts), of in parts.items()
        )
        yield f"Failed, {reason}: {'; '.join(said)}."


def _few(utts, number=3):
    return ", ".join(utts[:number]) + (", ..." if len(utts) > number else "")


def _way(timed_on):
    threads = timed_on.get("threads")
    return f"{timed_on.get('device')}" + (f" with {threads} thread{'s' * (threads != 1)}" if threads else "")


# ---------------------------------------------------------------- differences


def _differences(data):
    found = {(d["system"], d["metric"]): d for d in data["differences"]}
    of = [metric for metric in data["metrics"] if any(d["metric"] == metric["name"] for d in data["differences"])]
    systems = list(dict.fromkeys(d["system"] for d in data["differences"]))
    rows = [[s, *(_difference(m, found.get((s, m["name"])), data["n"]) for m in of)] for s in systems]
    yield from _table(["system", *_labels(of)], rows)
    yield ""
    yield (
        f"Means over pairs of the same utterance, with their 95 % intervals. **Bold**, ▲ better, ▼ worse: "
        f"p < {SIGNIFICANT} in Wilcoxon's signed-rank test, two-sided, with Holm's correction for the "
        f"{len(data['differences'])} comparisons. The test asks whether differences lie evenly around 0, the interval "
        "is that of their mean: the two can disagree."
    )


def _difference(metric, found, n):
    if found is None or not found["n"]:
        return "–"
    mean, (low, high), digits = f"{found['mean']:+.{metric['digits']}f}", found["interval"], metric["digits"]
    if found["p_corrected"] < SIGNIFICANT and found["mean"]:
        mean = f"**{mean}** {'▲' if (found['mean'] > 0) != metric['lower_is_better'] else '▼'}"
    interval = "" if low is None else f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    pairs = "" if found["n"] == n else f", {found['n']} pairs"
    return f"{mean}{interval}, p {_p(found['p_corrected'])}{pairs}"


def _p(p):
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


# ---------------------------------------------------------------- parts of a set


def _breakdown(data, breakdown):
    metric, systems = data["metrics"][0], [row["system"] for row in data["rows"]]
    name = {"snr": "SNR"}.get(breakdown["by"], breakdown["by"])
    yield f"### {metric['label']} by {name}{', estimated' if breakdown['estimated'] else ''}"
    yield ""
    groups = breakdown["groups"]
    if len(groups) > _MOST_GROUPS:
        shown = sorted(groups, key=lambda group: -group["n"])[:_MOST_GROUPS]
        yield f"The {_MOST_GROUPS} of {breakdown['total']} that have most utterances."
        yield ""
        groups = [group for group in groups if any(group is one for one in shown)]
    rows = []
    for group in groups:
        found = [group["scores"].get(system, {}).get(metric["name"]) for system in systems]
        means = [_score(metric, f) if f and f["n"] else "–" for f in found]
        rows.append([group["label"], group["n"], *means])
    yield from _table([name + " (dB)" * (name == "SNR"), "n", *systems], rows)


def _extremes(data):
    digits = {metric["name"]: metric["digits"] for metric in data["metrics"]}
    labels = {metric["name"]: metric["label"] for metric in data["metrics"]}

    def listed(of, metric):
        shown = (
            f"{u['utt']} ({u['score']:.{digits[metric]}f})"
            if u["difference"] is None
            else f"{u['utt']} ({u['difference']:+.{digits[metric]}f})"
            for u in of
        )
        return ", ".join(shown) or "–"

    differs = any(u["difference"] is not None for found in data["extremes"] for u in found["best"])
    yield f"By the difference to {data['baseline']} where there is one, else by the score." if differs else "By score."
    yield ""
    rows = [
        [found["system"], labels[found["metric"]], *(listed(found[end], found["metric"]) for end in ("best", "worst"))]
        for found in data["extremes"]
    ]
    yield from _table(["system", "metric", "best", "worst"], rows)


def _series(data):
    yield "Mean ± standard deviation (n - 1) over the last checkpoints, each scored for itself:"
    yield ""
    rows = []
    for found in data["series"]:
        spreads = [_spread(metric, found["scores"][metric["name"]]) for metric in data["metrics"]]
        steps = ", ".join(map(str, found["steps"]))
        rows.append([found["system"], len(found["steps"]), steps, *spreads, found["failed"]])
    yield from _table(["system", "checkpoints", "steps", *_labels(data["metrics"]), "failed"], rows)


def _spread(metric, found):
    if found["mean"] is None:
        return found["reason"]
    deviation = "" if found["std"] is None else f" ± {found['std']:.{metric['digits']}f}"
    return f"{found['mean']:.{metric['digits']}f}{deviation}"


# ---------------------------------------------------------------- records


def _how_made(systems):
    lines = []
    for system in systems:
        model = (system["config"] or {}).get("model")
        items = [f"- {name}: {value}" for name, value in [("model", model), *facts(system["record"])] if value]
        lines += ["", f"### {system['name']}", "", *items] if items else []
    return ["", "## How the models were made", *lines] if lines else []


def facts(record):
    """What record.json says about a training, as far as it says it."""
    if trained := record.get("trained_in"):
        yield "trained elsewhere", trained["path"]
    if command := record.get("command"):
        yield "command", f"`{command}`"
    if git := record.get("git"):
        yield "commit", git["commit"] + (" with local changes" if git.get("dirty") else "")
    if "seed" in record:
        yield "seed", str(record["seed"])
    sets = record.get("data", {}).items()
    yield "data", "; ".join(f"{name}: {_described(description)}" for name, description in sets)
    if hardware := record.get("hardware"):
        threads = f"{record['threads']} threads on " if "threads" in record else ""
        cpu = f"{threads}{hardware.get('cores', '?')} cores of {hardware.get('cpu', '?')}"
        yield "hardware", ", ".join([*(hardware.get("gpus") or []), cpu])
    if "training_seconds" in record:
        counts = [f"{record[name]} {name}" for name in ("updates", "epochs") if name in record]
        spent = ", ".join([f"{record['training_seconds'] / 3600:.2f} h", *counts])
        yield "training", f"{spent}, last on {record.get('written', 'an unknown day')}"
    versions = record.get("versions", {}).items()
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions if version)


def _described(data):
    unit = "utterances" if "utterances" in data else "recordings"  # sources to mix from
    fingerprint = f" (fingerprint {data['fingerprint'][:12]})" if "fingerprint" in data else ""
    return f"{data['path']}, {data[unit]} {unit}{fingerprint}"


# ---------------------------------------------------------------- literature


def _published(entries):
    """A table for each test set, one row for a system, one column for a metric, a mark and a source at each value."""
    if not entries:
        return []
    sources = list(dict.fromkeys(entry["source"] for entry in entries))
    lines = [
        "",
        "## Published elsewhere",
        "",
        "Not our runs: their mixtures, references and metric code may differ from those above. ✓: read in the source's",
        "text or table; figure: read off a figure; recalled: from memory, to be looked up; in brackets the source.",
    ]
    for test_set in dict.fromkeys(entry["test_set"] for entry in entries):
        of = [entry for entry in entries if entry["test_set"] == test_set]
        names = list(dict.fromkeys(entry["metric"] for entry in of))
        rows = []
        for system in dict.fromkeys(entry["system"] for entry in of):
            cells = (
                ", ".join(
                    f"{entry['value']:g} {_MARKS[entry['status']]} [{sources.index(entry['source']) + 1}]"
                    for entry in of
                    if (entry["system"], entry["metric"]) == (system, name)
                )
                for name in names
            )
            n = dict.fromkeys(str(entry["n"]) for entry in of if entry["system"] == system and "n" in entry)
            rows.append([system, ", ".join(n) or "–", *(cell or "–" for cell in cells)])
        lines += ["", f"### {test_set}", "", *_table(["system", "n", *map(metrics.label, names)], rows)]
    return [*lines, "", *(f"{number}. {source}" for number, source in enumerate(sources, 1))]
