"""Scores that others published, kept apart from our own: the recipe's published.yaml.

A list of entries such as::

    - {system: NameNet, test_set: test, metric: pesq_wb, value: 2.16, source: "Name et al., 2017", status: figure}

``status`` says how sure the value is: ``verified`` (read in the source's text or table), ``figure`` (read off a
figure), ``recalled`` (from memory, to be looked up). Optional: ``n``, the number of utterances, and ``tolerance``, how
far our own score of the same audio may lie from the value. ``senet.bin.score --expected`` holds the noisy input to it.
"""

import logging
import math
from pathlib import Path

import yaml

from senet import metrics
from senet.errors import UserError
from senet.report.results import finite_or_nan, not_computed

KEYS = ("system", "test_set", "metric", "value", "source", "status")
OPTIONAL = ("n", "tolerance")
STATUSES = ("verified", "figure", "recalled")


def read_published(path, left_out=None):
    """The entries, as dicts with ``KEYS`` and those of ``OPTIONAL`` that are there.

    Args:
        path: published.yaml.
        left_out: list that takes the reasons for entries of unknown metrics, of values that these cannot have, and for
            those that were there already; None: they are an error like others.
    Raises:
        UserError: not a list of such entries; names the entry, and what is wrong with it.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or []
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where, problem = f":{mark.line + 1}" if mark else "", getattr(error, "problem", None) or error
        raise UserError(f"{path}{where}: not valid YAML in UTF-8: {problem}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a list of entries with {', '.join(KEYS)}, found a {type(entries).__name__}")
    good, before = [], {}
    for number, entry in enumerate(entries, 1):
        where = f"{path}: entry {number}"
        _check(where, entry)
        try:
            _check_value(entry, before)
        except UserError as error:
            reason = f"{where} ({entry['system']}): {error}"
            if left_out is None:
                raise UserError(reason) from None
            logging.error("%s; left out", reason)
            left_out.append(reason)
        else:
            good.append(entry)
            before[_of(entry)] = number
    return good


def _of(entry):
    return tuple(entry[key] for key in ("system", "test_set", "metric", "source"))


def _check_value(entry, before):
    name, value = entry["metric"], entry["value"]
    low, high = metrics.bounds(name)
    if not low <= value <= high:
        label = metrics.label(name)
        raise UserError(f"{label} is from {low:g} to {high:g}, not {value:g}; is it in percent, or another metric?")
    if _of(entry) in before:
        raise UserError(f"entry {before[_of(entry)]} has {metrics.label(name)} of this system, set and source already")


def _check(where, entry):
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a mapping with {', '.join(KEYS)}, found '{entry}'")
    where += f" ({entry.get('system', 'no system')})"
    for word, keys in (("unknown", set(entry) - {*KEYS, *OPTIONAL}), ("missing", set(KEYS) - set(entry))):
        if keys:
            accepted = f"{', '.join(KEYS)}, and may have {', '.join(OPTIONAL)}"
            raise UserError(f"{where}: {word} key '{min(keys, key=str)}'; an entry has {accepted}")
    for key in ("system", "test_set", "metric", "source"):
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise UserError(f"{where}: {key} '{entry[key]}' is not a text; quote it where it looks like something else")
    if entry["status"] not in STATUSES:
        raise UserError(f"{where}: status '{entry['status']}' is none of {', '.join(STATUSES)}")
    if not _is_number(entry["value"]):
        raise UserError(f"{where}: value '{entry['value']}' is not a number")
    if not (_is_number(entry.get("tolerance", 1)) and entry.get("tolerance", 1) > 0):
        raise UserError(f"{where}: tolerance '{entry['tolerance']}' is not a number above 0")
    if not (_is_number(entry.get("n", 1)) and isinstance(entry.get("n", 1), int) and entry.get("n", 1) > 0):
        raise UserError(f"{where}: n '{entry['n']}' is not a number of utterances")


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_expected(summary, entries, path="published.yaml"):
    """Compare a summary of the noisy input with what was published of it.

    Args:
        summary: of ``scoring.collect``.
        entries: of published.yaml; those of system ``noisy`` and this test set that have a tolerance count.
        path: where they are from.
    Raises:
        UserError: means lie further from the published values than their tolerances; names them and what may be wrong.
    """
    where, n, wrong = summary["test_set"], summary["n"], []
    rows = [e for e in entries if e["system"] == "noisy" and e["test_set"] == where and "tolerance" in e]
    if entries and not rows:
        logging.warning(
            "%s: nothing to check: %s has no row of system noisy and this set with a tolerance", where, path
        )
    if others := [e for e in rows if e.get("n", n) != n]:
        labels = ", ".join(metrics.label(e["metric"]) for e in others)
        logging.warning("%s: not checked: %s: %d utterances here, %d published", where, labels, n, others[0]["n"])
    for e in (e for e in rows if e not in others):
        label, found = metrics.label(e["metric"]), summary["metrics"].get(e["metric"])
        if found is None or not_computed(found):
            logging.warning("%s: not checked: %s: there is no score", where, label)
            continue
        mean = finite_or_nan(found["mean"])
        if abs(mean - e["value"]) <= e["tolerance"]:
            logging.info("%s: %s as published: %.4f, %g ± %g", where, label, mean, e["value"], e["tolerance"])
        else:
            wrong.append(f"{label} is {mean:.4f}, published {e['value']:g} (tolerance {e['tolerance']:g})")
    if wrong:
        raise UserError(
            f"{where}: the noisy input does not score as published: {'; '.join(wrong)}. Something was done to the "
            "audio: look for another resampling, a wrong channel or level, clean and noisy mixed up, or an archive "
            "that was cut, and make the data again"
        )
