"""Test sets in parts: what is known of each utterance, and the groups of utterances that it makes."""

import csv
import math

import numpy as np

from senet.errors import UserError
from senet.report.results import LABELS

_MOST_GROUPS = 500  # of one label; of thousands of rooms or speakers, a report would say nothing and have no end
_MAX_VALUES = 8  # so many different numbers are a group each; of more, intervals of numbers are
_BIN = 5  # width of these, in dB
_SECONDS = (0, 2, 4, 8, math.inf)
# What is known of utterances, and what a breakdown by it is called. Of two of one name, the first that is there counts.
COLUMNS = {
    "snr": "snr",
    "snr_estimated": "snr",
    "noise": "noise",
    "noise_estimated": "noise",
    "speaker": "speaker",
    "rir": "rir",
    "level": "level",
    "seconds": "duration",
}
_NUMERIC = {"snr", "snr_estimated", "level", "seconds"}


def read_labels(folder, utts):
    """What ``folder/scores.csv`` says about the utterances besides scores: {label: array (n,)}, float64 or str.

    Labels are those of ``COLUMNS``. An empty cell is nan, or "". Empty where there is no such file.

    Raises:
        UserError: it is damaged, or of other utterances.
    """
    path = folder / "scores.csv"
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as f:
        header, *rows = list(csv.reader(f)) or [[]]
    if any(len(row) != len(header) for row in rows) or [row[0] for row in rows] != utts:
        raise UserError(f"{path}: not the utterances of {folder / 'scores'}, or half written; score the set again")
    found = {}
    for label in COLUMNS:
        if (column := LABELS.get(label, label)) in header:
            cells = [row[header.index(column)] for row in rows]
            try:
                found[label] = np.array([float(c or "nan") for c in cells] if label in _NUMERIC else cells)
            except ValueError:
                raise UserError(f"{path}: no numbers in column '{column}'; score the set again") from None
    return found


def breakdowns(labels):
    """Yield ``(by, estimated, groups, total)`` for each label that divides the set, a group being
    ``(label, low, high, index)``: low <= value < high in numeric ones, else None, and the utterances' numbers. If the
    total is above 500, the groups are those of most utterances."""
    done = set()
    for column, by in COLUMNS.items():
        if column not in labels or by in done:
            continue
        groups = list(_numeric(by, labels[column]) if column in _NUMERIC else _named(labels[column]))
        if 1 < len(groups) <= len(labels[column]) / 2:
            done.add(by)
            yield by, column.endswith("_estimated"), _largest(groups), len(groups)


def _largest(groups):
    kept = sorted(range(len(groups)), key=lambda i: -len(groups[i][-1]))[:_MOST_GROUPS]
    return [groups[i] for i in sorted(kept)]


def _named(values):
    names, group = np.unique(values, return_inverse=True)
    order = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    yield from ((str(name) or "unknown", None, None, index) for name, index in zip(names, order, strict=True))


def _numeric(by, values):
    distinct = np.unique(values[np.isfinite(values)])
    if by == "duration":
        edges = zip(_SECONDS, _SECONDS[1:], strict=False)
    elif len(distinct) <= _MAX_VALUES:
        edges = zip(distinct, distinct, strict=True)
    else:
        first = math.floor(distinct[0] / _BIN) * _BIN
        edges = ((low, low + _BIN) for low in range(first, math.floor(distinct[-1]) + 1, _BIN))
    for low, high in edges:
        index = np.flatnonzero((low <= values) & ((values < high) | (values == low)))
        if len(index):
            yield _span(low, high), float(low), None if math.isinf(high) else float(high), index
    if len(index := np.flatnonzero(~np.isfinite(values))):
        yield "unknown", None, None, index


def _span(low, high):
    if low == high:
        return f"{low:g}"
    return f"{low:g} and more" if math.isinf(high) else f"{low:g} to {high:g}"
