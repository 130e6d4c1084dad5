"""Experiment folders: their results, their record of training, and names that tell them apart."""

import logging
from pathlib import Path

import yaml

from senet import checkpoint
from senet.errors import UserError
from senet.report import results

NOISY = "noisy"  # the folder in which the unprocessed input is scored like a system


class System:
    """An experiment folder with its results and its record of training.

    Attributes:
        name: of the folder, with as much of its path before it as tells it from others.
        record, config: what record.json and config.yaml say; empty where there is none. "unfinished" in the record: how
            far a training is that status.json, or the record of one elsewhere, says has not come to its end.
        results: {test set: Result}.
        series: {test set: {step: Result}} of the last checkpoints, each scored for itself (se.sh --score_checkpoints).
        damaged: {test set: reason} of results that cannot be read.
        problems: reasons why other things in the folder cannot.
        place: of its recipe among those that were given, 0 first.
    """

    def __init__(self, path):
        self.path, self.place = Path(path), 0
        self.name = self.path.resolve().name
        self.is_noisy = self.name == NOISY
        self.results, self.damaged, self.problems = {}, {}, []
        record = self.path / "record.json"
        hint = "the report does without it; training (stage train) writes it"
        self.record = self._tried(lambda: results.read_json(record, hint) if record.exists() else {})
        self.config = self._tried(lambda: _read_config(self.path / "config.yaml"))
        self.record |= self._tried(lambda: _how_far(self.path / "status.json"))
        self.trained = (self.path / "checkpoints").is_dir()
        alone = self.path / "summary.json"  # of senet.bin.score --out, without an experiment around it
        for path in [*sorted(self.path.glob("enhanced_*/summary.json")), *[alone] * alone.exists()]:
            try:
                result = results.Result(path.parent)
            except UserError as error:
                self.damaged[path.parent.name.removeprefix("enhanced_")] = str(error)
            else:
                self.results[result.test_set] = result
        self.series = self._tried(self._read_series)

    def _tried(self, read):
        """What ``read()`` gives, or nothing and a noted problem."""
        try:
            return read()
        except UserError as error:
            logging.error("%s", error)
            self.problems.append(str(error))
            return {}

    def _read_series(self):
        found = {}
        for entry in checkpoint.series(checkpoint.entries(self.path / "checkpoints")):  # newest first
            scored = sorted(self.path.glob(f"step_{entry['step']:08d}/enhanced_*/summary.json"))
            if not scored:
                break  # what lies further back is of an earlier state of the training
            for result in (results.Result(p.parent) for p in scored):
                found[result.test_set] = {entry["step"]: result} | found.get(result.test_set, {})
        return found


def _how_far(path):
    """{"unfinished": "stopped at step 101 of 2100"} of a training that has not come to its end; else empty."""
    said = results.read_json(path, "remove it, or continue the training") if path.exists() else {}
    if said.get("state") in (None, "finished"):
        return {}
    of = f" of {said['steps']}" if said.get("steps") else ""
    return {"unfinished": f"{said['state']} at step {said.get('step', '?')}{of}"}


def _read_config(path):
    if not path.exists():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: damaged, not YAML; the report does without it; training (stage train) writes it")
    return found


def read_systems(paths):
    """The systems in experiment folders: noisy first, then by name; other folders, and files, are passed over.

    Raises:
        UserError: there is nothing at a path, or none of them holds a system.
    """
    systems = []
    for path in {Path(p).resolve(): Path(p) for p in paths}.values():
        if path.is_file():
            continue  # a report of before, in exp/*
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give experiment folders, such as exp/*")
        system = System(path)
        if system.trained or system.results or system.damaged:
            systems.append(system)
    if not any(system.results or system.damaged for system in systems):
        raise UserError("none of the folders holds scores; score the enhanced sets first (stage score)")
    folders = list(dict.fromkeys(system.path.resolve().parent for system in systems))
    for system in systems:
        system.place = folders.index(system.path.resolve().parent)
    _name(systems)
    return sorted(systems, key=lambda system: (not system.is_noisy, system.name))


def test_sets(systems):
    """The test sets that systems were scored on: [(title, name, systems that have results or damaged ones)].

    Sets of one name are taken for one, and results that are of other utterances will be refused. But where recipes give
    the name to sets that have no utterance in common, these are different sets, and their titles say the recipes, too.
    Those of the recipe that was given first come first.
    """
    found = []
    for name in sorted({name for system in systems for name in system.results}):
        parts = _apart(name, [system for system in systems if name in {*system.results, *system.damaged}])
        recipe = _recipes({system.path.resolve().parent for of in parts for system in of})
        for of in parts:
            recipes = ", ".join(dict.fromkeys(recipe[system.path.resolve().parent] for system in of))
            found.append((name if len(parts) == 1 else f"{recipes}: {name}", name, of))
    return sorted(found, key=lambda one: min(system.place for system in one[2] if one[1] in system.results))


def _apart(name, systems):
    """Systems in lists, one for each of the sets called ``name`` that share no utterance; a folder stays together."""
    lists = {s: s.results[name].summary["utterances"] for s in systems if name in s.results}
    if len(set(lists.values())) == 1:
        return [systems]
    folders = {}
    for system in systems:
        folders.setdefault(system.path.resolve().parent, []).append(system)
    parts = []
    for of in folders.values():
        different = {lists[s]: s.results[name].path for s in of if s in lists}
        utts = set().union(*map(results.utterances, different.values()))
        shared = [part for part in parts if not utts.isdisjoint(part[1])]
        parts = [part for part in parts if part not in shared]
        parts.append(([*(s for part in shared for s in part[0]), *of], utts.union(*(part[1] for part in shared))))
    return [sorted(of, key=systems.index) for of, _ in parts]


def _recipes(folders):
    """{folder of experiments: what tells it from the others}: egs/mini/exp and egs/dns5/exp are mini and dns5."""
    parts = {folder: folder.parts for folder in folders}
    while len(parts) > 1 and len({of[-1] for of in parts.values()}) == 1:
        parts = {folder: of[:-1] for folder, of in parts.items()}
    length = 1
    while len({of[-length:] for of in parts.values()}) < len(parts):
        length += 1
    return {folder: "/".join(of[-length:]) for folder, of in parts.items()}


def _name(systems):
    """Give systems of one name as much of their paths as tells them apart, from three parts up: corpus/exp/tag."""
    clash, parts = systems, 1
    while clash:
        for system in clash:
            system.name = "/".join(system.path.resolve().parts[-parts:])
        names = [system.name for system in systems]
        clash = [system for system in systems if names.count(system.name) > 1]
        parts = max(3, parts + 1)
