"""Scores on the disk: one experiment's result on one test set, and whether two of them may be compared."""

import hashlib
import json
import math
from pathlib import Path

from senet.data.scp import read_floats, read_table
from senet.errors import UserError

# What is known of an utterance besides scores -> the data directory's file, which names the column of scores.csv: a
# column "snr" is the metric.
LABELS = {
    "speaker": "utt2spk",
    "snr": "utt2snr",
    "snr_estimated": "utt2snr_estimated",
    "noise": "utt2noise",
    "noise_estimated": "utt2noise_estimated",
    "level": "utt2level",
    "rir": "utt2rir",
}
_SUMMARY = {"test_set": str, "n": int, "utterances": str, "references": str, "metric_order": list, "metrics": dict}
_METRIC = {"mean", "failed", "reasons", "version"}


class Result:
    """What ``senet.bin.score`` wrote for one system on one test set.

    Args:
        path: folder with summary.json and scores/, such as ``exp/<tag>/enhanced_<set>``.
    Raises:
        UserError: there is no summary, or it is damaged.
    """

    def __init__(self, path):
        self.path = Path(path)
        path = self.path / "summary.json"
        self.summary = read_json(path, "score this set first (stage score)")
        lacking = [key for key, kind in _SUMMARY.items() if not isinstance(self.summary.get(key), kind)]
        if not lacking:
            found = self.summary["metrics"]
            whole = {name for name, of in found.items() if isinstance(of, dict) and of.keys() >= _METRIC}
            lacking = [f"metrics/{name}" for name in self.summary["metric_order"] if name not in whole]
        if lacking:
            what = ", ".join(lacking)
            raise UserError(f"{path}: not a summary of senet.bin.score, {what} missing; score the set again")

    @property
    def test_set(self):
        return self.summary["test_set"]

    @property
    def metrics(self):
        """Names of the metrics, in the order in which they were asked for."""
        return self.summary["metric_order"]

    def scores(self, name):
        """``(utts, values)``: list of str, float64 (n,) with nan where the metric failed.

        Raises:
            UserError: the score file is missing, damaged, or not the one that the summary was made from.
        """
        path = self.path / "scores" / name
        if not path.exists():
            raise UserError(f'{path}: missing; score {self.path} with --metrics "... {name}"')
        utts, values = read_floats(path)
        if len(values) != self.summary["n"]:
            raise UserError(
                f"{path}: has {len(values)} utterances, summary.json says {self.summary['n']}: "
                "half written, or of another run; score the set again"
            )
        if not self._agrees(name, path, values):
            # the summary is written after the scores: a run that was killed in between leaves an older one
            raise UserError(
                f"{path}: not the scores that summary.json was made from: changed, or of another run; "
                "score the set again"
            )
        return utts, values

    def _agrees(self, name, path, values):
        """Whether these are the scores of the summary: by digest, and where an earlier senet noted none by the mean."""
        found = self.summary["metrics"][name]
        if digest := found.get("sha256"):
            return hashlib.sha256(path.read_bytes()).hexdigest() == digest
        scored = values[values == values]
        if not len(scored) or found["mean"] is None:
            return not len(scored) and found["mean"] is None
        return math.isclose(scored.mean(), found["mean"], rel_tol=1e-6)


def read_json(path, hint):
    """A JSON file's mapping; UserError with ``hint`` when there is none, or it is damaged."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {hint}") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged, not JSON ({error}); {hint}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping, found a {type(value).__name__}; {hint}")
    return value


def require_comparable(a, b, path_a, path_b, names):
    """Refuse two summaries that are not about the same utterances, references and versions of the metrics ``names``.

    Raises:
        UserError: says which it is; for utterances how many and which.
    """
    where = f"{path_a} and {path_b} cannot be put side by side"
    if a["utterances"] != b["utterances"]:
        raise UserError(f"{where}: {_list_difference(path_a, path_b)}; enhance and score both on one test set")
    if a["references"] != b["references"]:
        raise UserError(f"{where}: their references differ; score both against the same data directory")
    for name in names:
        versions = [s["metrics"][name]["version"] if name in s["metrics"] else None for s in (a, b)]
        if None in versions:
            lacking = (path_a, path_b)[versions.index(None)]
            raise UserError(f"{where}: {lacking} was not scored with '{name}'; score it with the same --metrics")
        if versions[0] != versions[1]:
            raise UserError(f"{where}: '{name}' is of version '{versions[0]}' and '{versions[1]}'; score both again")


def utterances(path):
    """Set of those that a result's folder has scores of; empty where there are none to be read."""
    names = sorted(p for p in (Path(path) / "scores").glob("*") if p.is_file() and not p.name.startswith("."))
    return set(read_table(names[0])) if names else set()


def _list_difference(path_a, path_b):
    a, b = utterances(path_a), utterances(path_b)
    parts = [
        f"{len(only)} utterances are only in {path}, such as '{min(only)}'"
        for only, path in ((a - b, path_a), (b - a, path_b))
        if only
    ]
    return "; ".join(parts) or "their lists of utterances differ"


def not_computed(found):
    """Whether a summary's metric is missing for want of a package or a model's file, not because of the audio."""
    reasons = found["reasons"]
    return found["mean"] is None and bool(reasons) and all(reason.startswith("not computed") for reason in reasons)


def finite_or_nan(number):
    """A number of a summary, where None stands for nan."""
    return math.nan if number is None else number
