"""Systems side by side: what experiment folders hold, and which of it can be compared."""

import logging
from collections import Counter
from pathlib import Path

from senet import checkpoint
from senet.errors import UserError
from senet.report import results
from senet.report.statistics import paired_difference

NOISY = "noisy"  # the folder in which the unprocessed input is scored like a system


class System:
    """An experiment folder with its results and its record of training.

    Attributes:
        results: {test set: Result}.
        series: {test set: {step: Result}} of the last checkpoints, each scored for itself (se.sh --score_checkpoints).
    """

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.resolve().name
        record = self.path / "record.json"
        self.record = results.read_json(record, "train again (stage train)") if record.exists() else {}
        self.trained = (self.path / "checkpoints").is_dir()
        found = sorted(self.path.glob("enhanced_*/summary.json"))
        self.results = {r.test_set: r for r in (results.Result(p.parent) for p in found)}
        self.series = self._read_series()

    def _read_series(self):
        found = {}
        for entry in checkpoint.series(checkpoint.entries(self.path / "checkpoints")):  # newest first
            scored = sorted(self.path.glob(f"step_{entry['step']:08d}/enhanced_*/summary.json"))
            if not scored:
                break  # what lies further back is of an earlier state of the training
            for result in (results.Result(p.parent) for p in scored):
                found[result.test_set] = {entry["step"]: result} | found.get(result.test_set, {})
        return found


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
        series: {system: {step: Result}} of those whose last checkpoints were scored, too.
        refused: reasons for those that cannot, because lists, references or versions differ.
        metrics: names, in the order in which the systems were scored with them.
    """

    def __init__(self, test_set, systems):
        self.test_set = test_set
        self.systems, self.series, self.refused = [], {}, []
        for system in systems:
            if test_set in system.results and self._accepts(self.result(system)):
                self.systems.append(system)
                found = {step: r for step, r in system.series.get(test_set, {}).items() if self._accepts(r)}
                if found:
                    self.series[system] = found
        self.metrics = list(dict.fromkeys(m for s in self.systems for m in self.result(s).metrics))
        self.baseline = self.systems[0] if self.systems[0].name.split("/")[-1] == NOISY else None

    def result(self, system):
        return system.results[self.test_set]

    def _accepts(self, other):
        """Whether a result can be put beside those that are there; if not, the reason is noted."""
        try:
            for there in map(self.result, self.systems):
                shared = [name for name in there.metrics if name in other.metrics]
                results.require_comparable(there.summary, other.summary, there.path, other.path, shared)
        except UserError as error:
            logging.error("%s", error)
            self.refused.append(str(error))
            return False
        return True

    def difference(self, system, name):
        """Paired difference to the noisy input, or None where one of the two was not scored with the metric."""
        a, b = self.result(system), self.result(self.baseline)
        if name not in a.metrics or name not in b.metrics:
            return None
        return paired_difference(a.scores(name)[1], b.scores(name)[1])


def compare(systems):
    """One Comparison for each test set, by name."""
    return [Comparison(name, systems) for name in sorted({name for s in systems for name in s.results})]
