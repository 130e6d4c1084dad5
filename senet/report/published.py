"""Scores that others published, kept apart from our own: the recipe's published.yaml.

A list of entries such as::

    - {system: NameNet, test_set: test, metric: pesq_wb, value: 2.16, source: "Name et al., 2017", status: figure}

``status`` says how sure the value is: ``verified`` (read in the source's text or table), ``figure`` (read off a
figure), ``recalled`` (from memory, to be looked up).
"""

from pathlib import Path

import yaml

from senet import metrics
from senet.errors import UserError

KEYS = ("system", "test_set", "metric", "value", "source", "status")
STATUSES = ("verified", "figure", "recalled")


def read_published(path):
    """The entries, as dicts with ``KEYS``.

    Raises:
        UserError: not a list of such entries; names the entry, and what is wrong with it.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or []
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a list of entries with {', '.join(KEYS)}, found a {type(entries).__name__}")
    for number, entry in enumerate(entries, 1):
        _check(f"{path}: entry {number}", entry)
    return entries


def _check(where, entry):
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a mapping with {', '.join(KEYS)}, found '{entry}'")
    where += f" ({entry.get('system', 'no system')})"
    for word, keys in (("unknown", set(entry) - set(KEYS)), ("missing", set(KEYS) - set(entry))):
        if keys:
            raise UserError(f"{where}: {word} key '{min(keys, key=str)}'; an entry has {', '.join(KEYS)}")
    if entry["status"] not in STATUSES:
        raise UserError(f"{where}: status '{entry['status']}' is none of {', '.join(STATUSES)}")
    if isinstance(entry["value"], bool) or not isinstance(entry["value"], int | float):
        raise UserError(f"{where}: value '{entry['value']}' is not a number")
    try:
        metrics.find(str(entry["metric"]))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
