"""Systems side by side: which of their results can be compared, and the report on them.

The pages compute nothing: they write down what a ``Report`` says.
"""

import functools
import hashlib
import logging
import pickle

import numpy as np

from senet import metrics
from senet.errors import UserError
from senet.report import breakdown, numbers, results
from senet.report.statistics import RESAMPLES, mean_intervals
from senet.report.systems import NOISY, read_systems, test_sets

EXTREMES = 5  # utterances shown at either end


class Comparison:
    """The systems that were scored on one test set and can be put side by side.

    A result is compared if it is of the same utterances, references and sample rate as those that are there, was made
    from the same noisy input as far as that can be seen, and its metrics have the same versions.

    Args:
        test_set: its name in the folders of experiments.
        systems: those that were scored on it, in the order of the tables.
        baseline: name of the one that differences are taken to. It, or the first, sets what the others are held to.
        title: its name in the report; None for the same.
    Attributes:
        scored: the ``systems`` given.
        systems: those that can be compared.
        baseline: one of these, or None.
        metrics: names, in the order in which the systems were scored with them.
        utts: their ids, list of n str.
        series: {system: {step: Result}} of those whose last checkpoints were scored, too.
        labels: {label: array (n,)} of what is known of the utterances besides scores, see ``breakdown.read_labels``.
        left_out: reasons for those that cannot be compared, and for labels that cannot be read.
    """

    def __init__(self, test_set, systems, baseline=NOISY, title=None):
        self.test_set, self.title, self.scored = test_set, title or test_set, systems
        self.systems, self.utts, self.series, self.left_out = [], None, {}, []
        self._scores, self._input = {}, None
        self.left_out += [s.damaged[test_set] for s in systems if test_set in s.damaged]
        scored = [s for s in systems if test_set in s.results]
        first = max(called(scored, baseline), key=lambda s: len(self.result(s).metrics), default=None)
        for system in sorted(scored, key=lambda s: s is not first):
            try:
                self._add(system)
            except UserError as error:
                self.left_out.append(str(error))
        self.systems.sort(key=systems.index)
        self.labels = self._read_labels()
        for reason in self.left_out:
            logging.error("%s: left out: %s", self.title, reason)
        self.metrics = list(dict.fromkeys(m for s in self.systems for m in self.result(s).metrics))
        self.baseline = first if first in self.systems else None

    def _add(self, system):
        for name in self.result(system).metrics:
            try:
                metrics.find(name)
            except UserError as error:
                raise UserError(f"{self.result(system).path}: {error}; score the set again") from None
        self._require_comparable(self.result(system))
        self._require_same_input(system)
        if system.is_noisy and any(s.is_noisy for s in self.systems):
            return  # another recipe's scores of the same audio
        self._read(system)
        self.systems.append(system)
        for step, result in system.series.get(self.test_set, {}).items():
            try:
                self._require_comparable(result)
            except UserError as error:
                self.left_out.append(str(error))
            else:
                self.series.setdefault(system, {})[step] = result

    def _require_comparable(self, other):
        for there in map(self.result, self.systems):
            shared = [name for name in there.metrics if name in other.metrics]
            results.require_comparable(there.summary, other.summary, there.path, other.path, shared)
            rates = [r.summary.get("sample_rate") for r in (there, other)]
            if None not in rates and rates[0] != rates[1]:
                raise UserError(
                    f"{there.path} and {other.path} cannot be put side by side: their audio has {rates[0]} and "
                    f"{rates[1]} Hz; prepare the set at one rate (--sample_rate), and enhance and score it with both"
                )

    def _require_same_input(self, system):
        """Refuse what was enhanced from other mixtures: the noisy input beside it has other scores."""
        beside = system.path.resolve().parent / NOISY / self.result(system).path.name
        try:
            found = results.Result(beside)
        except UserError:
            return  # there is none, or it is damaged and will be left out
        if self._input is None:
            self._input = found
        ours, theirs = self._input.summary["metrics"], found.summary["metrics"]
        for name in ours:
            if name not in theirs or ours[name]["version"] != theirs[name]["version"]:
                continue
            a, b = ours[name]["mean"], theirs[name]["mean"]
            if (a is None) != (b is None) or (a is not None and abs(a - b) > 0.1 ** metrics.find(name)[0].digits):
                label = metrics.label(name)
                raise UserError(
                    f"{self.result(system).path} is of other noisy audio: {label} is {b} in {beside}, "
                    f"{a} in {self._input.path}; enhance the same mixtures with all systems"
                )

    def _read(self, system):
        result, found, expected = self.result(system), {}, self.utts
        for name in result.metrics:
            utts, found[system, name] = result.scores(name)
            if utts != expected and _keys_digest(utts) != result.summary["utterances"]:
                where = f"{result.path}/scores/{name}"
                raise UserError(f"{where}: not the utterances of {result.path}/summary.json; score the set again")
            expected = utts
        self.utts = self.utts or expected
        self._scores |= found

    def result(self, system):
        """The system's ``Result`` on this set: where its audio and its references are, its own summary."""
        return system.results[self.test_set]

    def scores(self, system, metric):
        """Float64 (n,) in the order of ``utts``; nan where the metric failed, or was not asked for."""
        found = self._scores.get((system, metric))
        return np.full(len(self.utts), np.nan) if found is None else found

    def has_differences(self, metric):
        return any(name == metric for _, name in self._pairs)

    def oriented(self, system, metric):
        """(n,), larger where it is better: the difference to the baseline where there is one, else the score."""
        score = self.scores(system, metric)
        if (system, metric) in self._pairs:
            score = score - self.scores(self.baseline, metric)
        return -score if metrics.find(metric)[0].lower_is_better else score

    def extremes(self, system, metric, number=EXTREMES):
        """The utterances of the largest and smallest improvement, or of the best and worst score, as a dict."""
        value, score = self.oriented(system, metric), self.scores(system, metric)
        order = np.argsort(-value, kind="stable")[: np.count_nonzero(np.isfinite(value))]  # nan sorts last
        difference = score - self.scores(self.baseline, metric) if (system, metric) in self._pairs else None

        def told(i):
            gain = None if difference is None else float(difference[i])
            return {"utt": self.utts[i], "score": float(score[i]), "difference": gain}

        ends = {"best": [told(i) for i in order[:number]], "worst": [told(i) for i in order[::-1][:number]]}
        return {"system": system.name, "metric": metric} | ends

    def _read_labels(self):
        """Those of the first system that has them: they are the same for all."""
        for system in self.systems:
            try:
                if found := breakdown.read_labels(self.result(system).path, self.utts):
                    return found
            except UserError as error:
                self.left_out.append(f"{error} (until then, the next system's scores.csv tells the parts of the set)")
        return {}

    @functools.cached_property
    def _pairs(self):
        """{(system, metric)} of the differences to the baseline, in the order of tables.

        An improvement's is the same as its score's, and is there only if that is not.
        """
        pairs = ((s, m) for s in self.systems if s is not self.baseline for m in self.metrics)
        pairs = [(s, m) for s, m in pairs if (s, m) in self._scores and (self.baseline, m) in self._scores]
        same = {(s, f"{m}i") for s, m in pairs}
        return dict.fromkeys(pair for pair in pairs if pair not in same)

    def means(self, index=slice(None), resamples=RESAMPLES):
        """``(scores, differences)``: {(system, metric): Mean} over the utterances ``index``; bootstrapped together."""
        columns = [values[index] for values in self._scores.values()]
        columns += [self._scores[s, m][index] - self._scores[self.baseline, m][index] for s, m in self._pairs]
        found = mean_intervals(columns, resamples=resamples)
        number = len(self._scores)
        return tuple(
            dict(zip(keys, means, strict=True))
            for keys, means in ((self._scores, found[:number]), (self._pairs, found[number:]))
        )


class Report:
    """Everything that a report says.

    Attributes:
        systems: all that were found, noisy first.
        comparisons: one for each test set.
        baseline: name of the system that differences are taken to, or None.
        published: entries of published.yaml.
        not_run: sentences on configurations without an experiment and sets that a system was not scored on.
        left_out: reasons for what belongs to no comparison.
    """

    def __init__(self, systems, comparisons, baseline=None, published=(), not_trained=(), left_out=()):
        self.systems, self.comparisons, self.baseline = systems, comparisons, baseline
        self.published, self.left_out = list(published), list(left_out)
        self.not_run = [f"{name}: not trained" for name in not_trained]
        for system in systems:
            missing = [c.title for c in comparisons if system not in c.scored]
            if missing and not system.is_noisy:
                self.not_run.append(f"{system.name}: not scored on {', '.join(missing)}")

    def as_dict(self):
        """The report in plain values, as report.json has it."""
        return pickle.loads(self._values)  # a copy, in half the time of copy.deepcopy

    @functools.cached_property
    def _values(self):
        values = {
            "baseline": self.baseline,
            "systems": [
                {"name": s.name, "path": str(s.path), "record": s.record, "config": s.config or None}
                for s in self.systems
            ],
            "test_sets": [numbers.test_set(comparison) for comparison in self.comparisons],
            "published": self.published,
            "not_run": self.not_run,
            "left_out": self.left_out,
        }
        return pickle.dumps(values)


def compare(paths, baseline=None, published=(), not_trained=()):
    """Read experiment folders and compare what is in them.

    Args:
        paths: experiment folders, from any recipes.
        baseline: name of the system that differences are taken to; None for the noisy input where it was scored.
        published, not_trained: see Report.
    Returns:
        Report.
    Raises:
        UserError: nothing is left to compare, or there is no such baseline, or on a test set more than one.
    """
    systems = read_systems(paths)
    if baseline and not called(systems, baseline):
        raise UserError(f"--baseline {baseline}: no such system; there are {', '.join(s.name for s in systems)}")
    sets = test_sets(systems)
    for title, name, of in sets if baseline else ():
        found = [s for s in called(of, baseline) if name in s.results]
        if len(found) > 1 and not all(s.is_noisy for s in found):
            raise UserError(f"--baseline {baseline}: which one on {title}? {' or '.join(s.name for s in found)}")
    comparisons = [Comparison(name, of, baseline or NOISY, title) for title, name, of in sets]
    names = {c.test_set for c in comparisons}
    compared = [c for c in comparisons if c.systems]
    left_out = [reason for system in systems for reason in system.problems]
    left_out += [reason for c in comparisons if not c.systems for reason in c.left_out]
    left_out += [reason for s in systems for name, reason in s.damaged.items() if name not in names]
    if not compared:
        raise UserError("nothing is left to compare: " + "; ".join(left_out))
    if any(c.baseline for c in compared):
        baseline = baseline or NOISY
    return Report(systems, compared, baseline, published, not_trained, left_out)


def called(systems, name):
    """The systems of this name, or of this folder where the name has more of the path."""
    return [system for system in systems if name in (system.name, system.path.resolve().name)]


def _keys_digest(utts):
    """As that of a Scp."""
    return hashlib.blake2b("".join(f"{utt}\n" for utt in utts).encode(), digest_size=16).hexdigest()
