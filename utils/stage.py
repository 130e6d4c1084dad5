#!/usr/bin/env python3
"""The state of a recipe's stages: what is done, what has to be done again, and why.

A unit is a stage's work on one set, such as "mix train". It has a root folder, options and inputs. Its record,
ROOT/.stages/NAME.json, holds a hash of the options and of the inputs' content, and once the work is done the
list of its outputs with their sizes; it is written before the work ("begun") and after the check ("done").

  stage.py state NAME ROOT ...   print one line: done WHEN | new | partly: why | stale: why | missing input: which
  stage.py begin NAME ROOT ...   exit status 0: do the work; 3: it is done already; 1: it cannot be done
  stage.py end   NAME ROOT [--require PATH...]    the work is finished: check the outputs, write the record
  stage.py sources CONF DATADIR WORDS             the source sets that a mixing config and its overrides name
  stage.py words TEXT            split as a shell does, one word a line, without running anything
  stage.py jobs NJ FILE [SIZE]   NJ, or the number of shards of SIZE lines in FILE where that is less

When options or inputs have changed, `begin` removes what the unit made before; after a mere interruption it
keeps it, to be continued. Standard library only: it is called many times.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from senet.errors import UserError  # noqa: E402
from senet.files import sha256, write_json  # noqa: E402

LOG_FOLDERS = ("log", "logdir", "q")


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


def read_record(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise UserError(f"{path}: not a stage record; remove it to do the stage again") from None


def content(path):
    """Fingerprint of an input; None when it is missing, or is the record of a unit that is not done.

    A record stands for what its unit made; without one, a folder was made by other means. Of a folder, the manifests in it count; of a YAML file
    everything but comment lines.
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
    found = []
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(here, name)
            with contextlib.suppress(FileNotFoundError):  # a dangling link
                status = os.stat(path)
                found.append((os.path.relpath(path, folder), status.st_size, status.st_mtime_ns))
    return digest(found) if found else None


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


class Unit:
    """One unit of work, as the command line describes it.

    Attributes:
        options: list of text; inputs: {path: fingerprint or None}; maker: {path: stage that makes it}.
        record: what an earlier begin or end wrote, or None.
    """

    def __init__(self, args):
        self.name, self.root = args.name, Path(args.root)
        self.path = self.root / ".stages" / f"{args.name}.json"
        self.record = read_record(self.path)
        self.experiment, self.keep, self.options = args.experiment, args.keep, args.option
        self.inputs, self.maker = {}, {}
        for maker, *paths in args.input:
            for path in paths:
                self.inputs[path], self.maker[path] = content(path), maker
        for folder in args.corpus:  # one that is gone has not changed: what was made from it stays good
            was = self.record and self.record["inputs"].get(folder)
            self.inputs[folder], self.maker[folder] = listing(folder) or was or "absent", ""
        self.identity = digest([self.options, sorted(self.inputs.items())])

    def missing(self):
        return [path for path, found in self.inputs.items() if found is None]

    def changes(self):
        """What differs from the recorded unit: paths, and 'the options'."""
        old = self.record["inputs"]
        paths = [p for p in sorted(old.keys() | self.inputs.keys()) if old.get(p) != self.inputs.get(p)]
        new = [o for o in self.options if o not in self.record["options"]]
        gone = [o for o in self.record["options"] if o not in self.options]
        options = [f"options ({' '.join(gone) or 'nothing'} -> {' '.join(new) or 'nothing'})"] if new or gone else []
        return paths, options

    def damaged(self):
        """Outputs of a finished unit that are gone or have another size."""
        sizes = self.record["outputs"]
        return [p for p in sizes if not (self.root / p).is_file() or (self.root / p).stat().st_size != sizes[p]]

    def state(self):
        if missing := self.missing():
            maker = self.maker[missing[0]]
            return f"missing input: {missing[0]}" + (f", which stage {maker} makes" if maker else "")
        if self.record is None:
            return "new"
        if self.record["identity"] != self.identity:
            paths, options = self.changes()
            what = [*paths, *options]
            return f"stale: {', '.join(what[:3])}{' and more' if len(what) > 3 else ''} changed"
        if self.record["state"] == "begun":
            return "partly: it was interrupted"
        if damaged := self.damaged():
            there = (self.root / damaged[0]).exists()
            return f"partly: {self.root / damaged[0]} {'has another size than it had' if there else 'is gone'}"
        return f"done {self.record['finished']}"

    def siblings(self):
        """Outputs that other units recorded in the same root."""
        records = [read_record(p) for p in self.path.parent.glob("*.json") if p != self.path]
        return {output for record in records for output in record["outputs"]}

    def made(self):
        """Files in the root that this unit made, as far as is known."""
        if self.record["state"] == "done":
            return list(self.record["outputs"])
        others = self.siblings() | set(self.record["before"])
        return [p for p in walk(self.root) if p not in others]

    def remove(self, outputs):
        outputs = [output for output in outputs if output.partition("/")[0] not in self.keep]
        for output in outputs:
            (self.root / output).unlink(missing_ok=True)
        for folder in sorted(
            {p for o in outputs for p in (self.root / o).parents if self.root in p.parents}, reverse=True
        ):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

    def begin(self, force, pid):
        state = self.state()
        print(state)
        if state.startswith("missing"):
            return 1
        if state.startswith("done") and not force:
            return 3
        owner = self.record and self.record["owner"]
        if owner and owner != process(pid) and owner == process(int(owner.split()[0])):
            raise UserError(
                f"{self.root}: process {owner.split()[0]} is at work on {self.name} there; wait for it, or end it"
            )
        if self.experiment:
            self.prepare_experiment(force)
        elif self.record and (force or state.startswith("stale")):
            self.remove(self.made())
            self.record = None
        elif self.record and self.record["state"] == "done":
            self.remove(self.damaged())  # the command makes what is missing again
        before = self.record["before"] if self.record else walk(self.root)
        self.write("begun", before=before, owner=process(pid))
        return 0

    def prepare_experiment(self, force):
        """Training goes on in its folder, and is never thrown away; other data is another experiment."""
        if force and self.root.exists():
            old = self.root.parent / ".old" / f"{self.root.name}-{time.strftime('%Y%m%dT%H%M%S')}"
            old.parent.mkdir(exist_ok=True)
            shutil.move(self.root, old)
            print(f"the earlier {self.root} is now {old}")
            self.record = None
        elif self.record:
            data = [p for p in self.changes()[0] if self.maker.get(p)]
            if data:
                raise UserError(
                    f"{self.root} was trained on other data than is there now ({data[0]} differs). "
                    "Give the new experiment a name of its own with --tag NAME, or train again from the start with "
                    f"--force (which keeps the old one under {self.root.parent / '.old'})."
                )

    def write(self, state, *, outputs=None, **more):
        value = {"state": state, "identity": self.identity, "options": self.options, "inputs": self.inputs}
        write_json(self.path, {**value, "outputs": outputs or {}, **more})


def finish(name, root, required):
    """Write the record of finished work, from the one that `begin` wrote."""
    path = root / ".stages" / f"{name}.json"
    record = read_record(path)
    if record is None:
        raise UserError(f"{path}: missing; 'stage.py begin' writes it")
    for output in required:
        if not (root / output).is_file() or (root / output).stat().st_size == 0:
            raise UserError(f"{root / output}: {name} ended without making it, or it is empty; see the logs in {root}")
    siblings = [read_record(p) for p in path.parent.glob("*.json") if p != path]
    others = {o for sibling in siblings for o in sibling["outputs"]} | set(record["before"])
    outputs = {p: (root / p).stat().st_size for p in walk(root) if p not in others}
    write_json(
        path,
        {**record, "state": "done", "outputs": outputs, "owner": None, "finished": time.strftime("%Y-%m-%d %H:%M:%S")},
    )
    return 0


def sources(conf, datadir, words):
    """Print the folders of the source sets that a mixing config names, or that its overrides name instead."""
    named = {}
    with open(conf, encoding="utf-8") as f:
        for line in f:
            if match := re.match(r"(speech|noise|rir|source):\s*([^#\s]+)", line):
                named[match[1]] = match[2].strip("'\"")
    words = shlex.split(words)
    for option, value in zip(words, words[1:], strict=False):
        if option.lstrip("-") in ("speech", "noise", "rir", "source"):
            named[option.lstrip("-")] = value
    for name in named.values():
        print(os.path.join(datadir, name))
    return 0


def jobs(nj, path, size):
    with open(path, "rb") as f:
        lines = sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))
    print(max(1, min(nj, -(-lines // size))))
    return 0


def get_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("state", "begin", "end"):
        sub = commands.add_parser(command, allow_abbrev=False)
        sub.add_argument("name")
        sub.add_argument("root")
        sub.add_argument("--option", action="append", default=[], help="text that is part of the identity")
        sub.add_argument(
            "--input",
            action="append",
            nargs="+",
            default=[],
            metavar=("STAGE", "PATH"),
            help="'' or the stage that makes the paths, and paths",
        )
        sub.add_argument("--corpus", nargs="*", default=[], help="folders of recordings")
        sub.add_argument("--experiment", action="store_true", help="never remove outputs; refuse other data")
        sub.add_argument(
            "--keep", nargs="*", default=[], help="folders in ROOT that the command itself keeps up to date"
        )
        sub.add_argument("--require", nargs="*", default=[], help="outputs that must be there and not empty")
        sub.add_argument("--force", action="store_true")
        sub.add_argument("--pid", type=int, default=os.getppid())
    sub = commands.add_parser("sources")
    sub.add_argument("conf")
    sub.add_argument("datadir")
    sub.add_argument("words")
    commands.add_parser("words").add_argument("text")
    sub = commands.add_parser("jobs")
    sub.add_argument("nj", type=int)
    sub.add_argument("path")
    sub.add_argument("size", type=int, nargs="?", default=128)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    if args.command == "sources":
        return sources(args.conf, args.datadir, args.words)
    if args.command == "words":
        print("".join(word + "\n" for word in shlex.split(args.text)), end="")
        return 0
    if args.command == "jobs":
        return jobs(args.nj, args.path, args.size)
    if args.command == "end":
        return finish(args.name, Path(args.root), args.require)
    unit = Unit(args)
    if args.command == "begin":
        return unit.begin(args.force, args.pid)
    print(unit.state())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
