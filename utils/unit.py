"""What is known about one unit of a recipe's work (see stage.py): its record, its inputs, and what follows from them.

Standard library only: the driver asks many times.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from senet.errors import UserError  # noqa: E402
from senet.files import sha256, walk_folders, write_json  # noqa: E402

LOG_FOLDERS = ("log", "logdir", "q")
SLOTS = ("old", "begun")


class BusyError(UserError):
    """Another process is at work there.

    Args:
        alike: on the same outputs, so that it is worth waiting for.
    """

    def __init__(self, message, alike):
        super().__init__(message)
        self.alike = alike


def walk(root):
    """Files below ``root``, relative, sorted; without hidden ones, logs, and folders that are a unit's own root."""
    found = []
    for folder, folders, files in os.walk(root):
        below = Path(folder)
        folders[:] = [
            f for f in folders if f[0] != "." and f not in LOG_FOLDERS and not (below / f / ".stages").is_dir()
        ]
        found += [(below / f).relative_to(root).as_posix() for f in files if f[0] != "."]
    return sorted(found)


def record_path(name, root):
    return Path(root, ".stages", f"{name}.json")


def slot_path(name, root, kind):
    """Hidden folder for a state of the unit that is set aside: "old", finished, or "begun", with other options."""
    return Path(root, f".{kind}-{name}")


def drop(name, root, kinds=SLOTS):
    for kind in kinds:
        (slot_path(name, root, kind) / "record.json").unlink(missing_ok=True)  # first: half a slot is none
        shutil.rmtree(slot_path(name, root, kind), ignore_errors=True)


def prune(root, files):
    """Remove the folders of ``files`` that are empty."""
    folders = {folder for file in files for folder in (root / file).parents if root in folder.parents}
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def move(source, target, files):
    for file in files:
        if os.path.lexists(source / file):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source / file, target / file)
    prune(source, files)


def made_since(path, record, root):
    """Files in ``root`` that were not there when the unit began, and that no other unit in it has recorded."""
    others = set(record["before"])
    for sibling in path.parent.glob("*.json"):
        if sibling != path:
            others.update(read_record(sibling)["outputs"])
    return [p for p in walk(root) if p not in others]


def read_record(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise UserError(f"{path}: not a stage record; remove it to do the stage again") from None


def content(path):
    """Fingerprint of an input; None when it is missing, or is the record of a unit that is not done.

    A record stands for what its unit made; without one, a folder was made by other means. Of a folder, the manifests
    in it count; of a YAML file, everything but comment lines.
    """
    path = Path(path)
    if path.parent.name == ".stages":
        record = read_record(path)
        if record is None:
            return "no record"
        return record["identity"] if record["state"] == "done" else None
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
        return digest([(p.name, sha256(p)) for p in files]) if files else None
    if not path.is_file():
        return None
    if path.suffix in (".yaml", ".yml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        return digest([line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")])
    return sha256(path)


def listing(folder):
    """Fingerprint of a corpus: names, sizes and times of all files below, without opening any."""
    h, separator = hashlib.sha256(), "["  # that of a JSON list, which with a million files is not held in memory
    for here, _, files in walk_folders(folder):
        for name in files:
            path = os.path.join(here, name)
            with contextlib.suppress(FileNotFoundError):  # a dangling link
                status = os.stat(path)
                found = (os.path.relpath(path, folder), status.st_size, status.st_mtime_ns)
                h.update((separator + json.dumps(found)).encode())
                separator = ", "
    h.update(b"]")
    return None if separator == "[" else h.hexdigest()


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def process(pid):
    """Names a running process so that a later one with the same number differs; None when it does not run."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as f:
            return f"{pid} {socket.gethostname()} {f.read().rpartition(')')[2].split()[19]}"
    except OSError:
        return None


def at_work(record):
    """The process that works on a unit, by its record: the number, or None."""
    owner = record and record["owner"]
    pid = owner and int(owner.split()[0])
    return pid if owner and owner == process(pid) else None


class Unit:
    """One unit of work.

    Args:
        name, root: where its state is kept and its outputs are.
        options: list of "name=value"; the values are part of its identity.
        inputs: list of [stage that makes them or "", path, path, ...].
        corpora: folders of recordings that it reads.
        experiment: its outputs are never removed, and other data are refused.
        keep: folders in ``root`` that the command itself keeps up to date.
    Attributes:
        inputs: {path: fingerprint, or None when it is missing}. maker: {path: stage that makes it}.
        record: what an earlier ``begin`` or ``finish`` wrote, or None.
    """

    def __init__(self, name, root, *, options=(), inputs=(), corpora=(), experiment=False, keep=()):
        self.name, self.root = name, Path(root)
        self.path = record_path(name, root)
        self.experiment, self.keep = experiment, keep
        self.read()
        self.names, self.options = [o.partition("=")[0] for o in options], [o.partition("=")[2] for o in options]
        self.inputs, self.maker = {}, {}
        for maker, *paths in inputs:
            for path in paths:
                self.inputs[path], self.maker[path] = content(path), maker
        for folder in corpora:  # one that is gone has not changed: what was made from it stays good
            was = self.record and self.record["inputs"].get(folder)
            self.inputs[folder], self.maker[folder] = listing(folder) or was or "absent", ""
        self.identity = digest([self.options, sorted(self.inputs.items())])

    def read(self):
        """Take the record as it is by now; of a training that was refused or saved nothing, the one before it."""
        self.record = read_record(self.path)
        before = self.record and self.record.get("was")
        if before and before["identity"] != self.record["identity"] and not at_work(self.record):
            self.record = before if self.record["index"] == self.index() else self.record

    def index(self):
        """What stands for all that a training has saved."""
        return content(self.root / "checkpoints" / "index.json")

    def missing(self):
        return [path for path, found in self.inputs.items() if found is None]

    def changed_inputs(self):
        """Paths that differ from the recorded ones, or are none of them."""
        old = self.record["inputs"]
        return [p for p in sorted(old.keys() | self.inputs.keys()) if old.get(p) != self.inputs.get(p)]

    def changes(self):
        """What differs from the recorded unit: ``conf/mix_train.yaml changed``, ``num_clips: 8 -> 400``."""
        old, paths = self.record["inputs"], self.changed_inputs()
        told = [f"{path} changed" for path in paths if path in old and path in self.inputs]
        gone, new = ([p for p in paths if p not in known] for known in (self.inputs, old))
        if gone or new:
            told.append(f"inputs: {', '.join(gone) or 'nothing'} -> {', '.join(new) or 'nothing'}")
        before = list(zip(self.record.get("names", self.names), self.record["options"], strict=False))
        now = list(zip(self.names, self.options, strict=True))
        for name in dict.fromkeys(name for name, _ in before + now):
            was, is_now = (
                " ".join(value for key, value in this if key == name and (key, value) not in that)
                for this, that in ((before, now), (now, before))
            )
            if was or is_now:
                told.append(f"{name}: {was or 'nothing'} -> {is_now or 'nothing'}")
        return told

    def damaged(self):
        """Outputs of a finished unit that are gone or have another size; logs of a training may have grown."""
        sizes = self.record["outputs"]
        if self.experiment:
            sizes = {p: sizes[p] for p in sizes if p.startswith("checkpoints/") or p == "config.yaml"}
        return [p for p in sizes if not (self.root / p).is_file() or (self.root / p).stat().st_size != sizes[p]]

    def state(self):
        """One line: ``done WHEN``, ``new``, or ``partly``, ``stale``, ``refused``, ``missing input`` and why."""
        if missing := self.missing():
            maker = self.maker[missing[0]]
            return f"missing input: {missing[0]}" + (f", which stage {maker} makes" if maker else "")
        if self.record is None:
            return "new"
        if data := self.other_data():
            return f"refused: trained on other data ({data} changed); choose --tag NAME, or --force"
        if self.record["identity"] != self.identity:
            if self.record["state"] == "begun" and not self.experiment and not self.slot("old").exists():
                return "new: what was begun with other options or inputs was never finished"
            what = self.changes() or ["options changed"]
            return f"stale: {', '.join(what[:3])}{' and more' if len(what) > 3 else ''}"
        if self.record["state"] == "begun":
            return "partly: it failed" if self.record.get("failed") else "partly: it was interrupted"
        if damaged := self.damaged():
            there = (self.root / damaged[0]).exists()
            return f"partly: {self.root / damaged[0]} {'has another size than it had' if there else 'is gone'}"
        return f"done {self.record['finished']}"

    def made(self):
        """Files in the root that this unit made, as far as is known."""
        if self.record["state"] == "done":
            return list(self.record["outputs"])
        return made_since(self.path, self.record, self.root)

    def movable(self):
        """Files that this unit made and that the command does not keep up to date itself."""
        return [output for output in self.made() if output.partition("/")[0] not in self.keep]

    def remove(self, outputs):
        for output in outputs:
            (self.root / output).unlink(missing_ok=True)
        prune(self.root, outputs)

    def slot(self, kind):
        return slot_path(self.name, self.root, kind)

    def slot_record(self, kind):
        return read_record(self.slot(kind) / "record.json")

    def stash(self, kind):
        """Move the outputs and a copy of the record into a slot. Cut off, `repair` undoes it."""
        slot, outputs = self.slot(kind), self.movable()
        drop(self.name, self.root, [kind])
        if outputs:
            write_json(slot / "record.json", self.record)
            move(self.root, slot / "files", outputs)

    def fetch(self, kind):
        """Bring back what is in a slot. Cut off, `repair` completes it."""
        slot = self.slot(kind)
        self.record = read_record(slot / "record.json")
        write_json(self.path, self.record)
        files = slot / "files"
        move(files, self.root, walk(files))
        drop(self.name, self.root, [kind])

    def repair(self):
        """Bring back what a move that was cut off has left in a slot: there, it has the present record."""
        for kind in SLOTS:
            if self.record and self.slot_record(kind) == self.record:
                self.fetch(kind)

    def recall(self, pid):
        """Before `begin`: mend what was cut off, and bring back what was set aside for the present options.

        Raises:
            BusyError: another process than ``pid`` is at work.
        """
        other = at_work(self.record)
        if other not in (None, pid):
            alike = self.record["identity"] == self.identity and not self.experiment
            since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.path.stat().st_mtime))
            where = f"on {socket.gethostname()}, since {since}"
            raise BusyError(
                f"{self.root}: process {other} is at work on {self.name} there ({where}); wait for it, or end it",
                alike,
            )
        self.repair()
        kinds = [kind for kind in SLOTS if (self.slot_record(kind) or {}).get("identity") == self.identity]
        if kinds and self.record and self.record["identity"] != self.identity:
            if self.record["state"] == "done":
                self.stash("old")
            else:
                self.remove(self.movable())
            self.fetch(kinds[0])

    def restore(self, pid, failed=False):
        """After ``pid`` ended early: bring the earlier, finished outputs back, and keep aside what the attempt made.

        Args:
            failed: by itself, not by a signal; where nothing finished is there, the record says it.
        """
        owner = self.record and self.record["owner"]
        if owner not in (None, process(pid)):
            return
        self.repair()
        if owner and failed:
            self.record = self.record | {"failed": True}
            write_json(self.path, self.record)
        if owner and self.slot_record("old"):
            try:
                self.stash("begun")
            except (OSError, UserError):  # no space: what failed gives way
                drop(self.name, self.root, ["begun"])
                self.remove(self.movable())
            self.fetch("old")
            kept = self.slot("begun")
            what = f"; the unfinished new ones are in {kept} and go on with the same options" if kept.exists() else ""
            print(f"{self.root}: the earlier outputs of {self.name} are back{what}", file=sys.stderr)

    def begin(self, *, force, pid):
        """Record that process ``pid`` starts the work; outputs of other options are set aside or removed.

        Raises:
            UserError: it is an experiment on data that are there no more.
        """
        if self.experiment:
            self.prepare_experiment(force)
        elif self.record and (force or self.record["identity"] != self.identity):
            self.set_aside()
            self.record = None
        elif self.record and self.record["state"] == "done":
            self.remove(self.damaged())  # the command makes what is missing again
        record = {"state": "begun", "identity": self.identity, "inputs": self.inputs}
        record |= {"names": self.names, "options": self.options}
        record["before"] = self.record["before"] if self.record else walk(self.root)
        if self.experiment and self.record:
            record |= {"was": {k: v for k, v in self.record.items() if k != "was"}, "index": self.index()}
        write_json(self.path, {**record, "outputs": {}, "owner": process(pid)})

    def set_aside(self):
        """Keep finished outputs in a slot until the new ones are there; unfinished ones are removed."""
        if self.record["state"] == "done":
            drop(self.name, self.root, ["begun"])
            self.stash("old")
        else:
            self.remove(self.movable())
        if self.slot("old").exists():
            print(f"the earlier outputs stay in {self.slot('old')} until the new ones are finished", file=sys.stderr)

    def other_data(self):
        """Of an experiment: the first of its data that is not what it was trained on."""
        data = [p for p in self.changed_inputs() if self.maker.get(p)] if self.record else []
        return data[0] if self.experiment and data else None

    def prepare_experiment(self, force):
        """Training goes on in its folder, and is never thrown away; other data is another experiment."""
        if force and self.root.exists():
            old = self.root.parent / ".old" / f"{self.root.name}-{time.strftime('%Y%m%dT%H%M%S')}"
            old.parent.mkdir(exist_ok=True)
            shutil.move(self.root, old)
            print(f"the earlier {self.root} is now {old}", file=sys.stderr)
            self.record = None
        elif data := self.other_data():
            raise UserError(
                f"{self.root} was trained on other data than is there now ({data} differs). "
                "Give the new experiment a name of its own with --tag NAME, or train again from the start with "
                f"--force (which keeps the old one under {self.root.parent / '.old'})."
            )


def finish(name, root, required):
    """Write the record of finished work, from the one that `begin` wrote."""
    path, root = record_path(name, root), Path(root)
    record = read_record(path)
    if record is None:
        raise UserError(f"{path}: missing, so {name} was never begun; run the stage again")
    for output in required:
        if not (root / output).is_file() or (root / output).stat().st_size == 0:
            raise UserError(f"{root / output}: {name} ended without making it, or it is empty; see the logs in {root}")
    outputs = {p: (root / p).stat().st_size for p in made_since(path, record, root)}
    record = {k: v for k, v in record.items() if k not in ("was", "index")}
    finished = time.strftime("%Y-%m-%d %H:%M:%S")
    write_json(path, {**record, "state": "done", "outputs": outputs, "owner": None, "finished": finished})
    drop(name, root)
