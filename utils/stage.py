#!/usr/bin/env python3
"""The state of a recipe's stages: what is done, what has to be done again, and why.

A unit is a stage's work on one set, such as "mix train". It has a root folder, options and inputs. Its record,
ROOT/.stages/NAME.json, holds a hash of the options and of the inputs' content, and once the work is done the
list of its outputs with their sizes; it is written before the work ("begun") and after the check ("done").

  stage.py state NAME ROOT ...   print one line: done WHEN | new | partly: why | stale: why | refused: why |
                                 missing input: which
  stage.py begin NAME ROOT ...   exit status 0: do the work; 3: it is done already; 5: another process does just this;
                                 4: or with other options, or it trains; 1: it cannot be done
  stage.py wait  NAME ROOT       until no process does it any more
  stage.py end   NAME ROOT [--require PATH...]    the work is finished: check the outputs, write the record
  stage.py restore NAME ROOT [--failed]    the work failed, or was interrupted: bring back what was finished before it
  stage.py sources CONF DATADIR WORDS             the source sets that a mixing config and its overrides name
  stage.py mix_conf WORDS        options of mixing as training takes them: --mix_conf.NAME VALUE, a word a line
  stage.py data_options TEXT     options for the scripts in local/, without those of fetching
  stage.py words TEXT            split as a shell does, one word a line, without running anything
  stage.py checkpoints EXP N     folder, file and SHA-256 of the last N checkpoints of the regular series, oldest first
  stage.py borrow MODEL EXP      config.yaml and record.json of a model trained elsewhere, or of a pack, for the report
  stage.py unfinished EXP        how far a training is that has not come to its end; else nothing
  stage.py jobs NJ FILE [SIZE]   NJ, or the number of shards of SIZE lines in FILE where that is less

After a mere interruption what is there is kept, to be continued. When options or inputs have changed, `begin` moves the
finished outputs into ROOT/.old-NAME, and `end` removes them. When the work fails, `restore` moves them back, and the
unfinished new ones into ROOT/.begun-NAME, from where the next `begin` with the same options takes them.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

from unit import BusyError, Unit, UserError, at_work, drop, finish, read_record, record_path


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


def mix_conf(text):
    """Print mixing options for a training that mixes; those that it decides by itself are left out."""
    given, values = {}, None
    for word in shlex.split(text):
        if re.match("--[a-z]", word):
            values = given[word[2:]] = []
        elif values is None:
            raise UserError(f"--mix_args: what is '{word}'? Options come as --name value")
        else:
            values.append(word)
    for name, values in given.items():
        if name not in ("seed", "sample_rate", "nj", "allow_pipes"):
            print(f"--mix_conf.{name}", f"[{', '.join(values)}]" if len(values) > 1 else "".join(values), sep="\n")
    return 0


def data_options(text):
    """Print what of the options for local/ decides the source sets: how archives came to be there does not."""
    kept, fetching = [], False
    for word in shlex.split(text):
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            fetching = name in ("download", "part", "archives", "keep_archives") or name.endswith("url")
        if not fetching:
            kept.append(word)
    print(shlex.join(kept))
    return 0


def checkpoints(exp, count):
    from senet import checkpoint

    folder = os.path.join(exp, "checkpoints")
    kept = checkpoint.series(checkpoint.entries(folder))
    if len(kept) < count:
        raise UserError(
            f"{folder} has {len(kept)} of the regular series (one at each multiple of save_every updates), {count} are "
            f"wanted; train (stage train) with keep_last: {count} or more and, if it was short, a smaller save_every"
        )
    for entry in reversed(kept[:count]):
        print(f"step_{entry['step']:08d}", entry["file"], entry["sha256"])
    return 0


def borrow(model, exp):
    """Copy what says how a model was made into the experiment that enhances with it."""
    from senet.files import whole_file, write_json

    if Path(model).is_file():
        return borrow_pack(model, exp)
    record = Path(model, "record.json")
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    unfinished = {"unfinished": how_far(model)} if how_far(model) else {}
    write_json(Path(exp, "record.json"), known | unfinished | {"trained_in": {"path": model}})
    with whole_file(Path(exp, "config.yaml")) as f:
        f.write(Path(model, "config.yaml").read_text(encoding="utf-8"))
    return 0


def borrow_pack(model, exp):
    """The same for a pack, of which only what was checked goes into pages; its card has the rest."""
    from senet.files import write_json
    from senet.infer.pack import Pack

    found = Pack(model).record
    sizes = {name: found[name] for name in ("parameters", "macs_per_second")}
    write_json(Path(exp, "record.json"), sizes | {"trained_in": {"path": model}})
    write_json(Path(exp, "config.yaml"), {name: found[name] for name in ("model", "model_conf")})  # JSON is YAML, too
    return 0


def how_far(exp):
    """Of a training that has not come to its end what status.json says: "stopped at step 101 of 2100"; else ""."""
    try:
        said = json.loads(Path(exp, "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    if said.get("state") in (None, "finished"):
        return ""
    of = f" of {said['steps']}" if said.get("steps") else ""
    return f"{said['state']} at step {said.get('step', '?')}{of}"


def wait(name, root):
    """Until no process works on a unit any more."""
    while at_work(read_record(record_path(name, root))):
        time.sleep(0.5)
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
    for command in ("state", "begin", "end", "restore"):
        sub = commands.add_parser(command, allow_abbrev=False)
        sub.add_argument("name")
        sub.add_argument("root")
        sub.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="part of the identity")
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
        sub.add_argument("--failed", action="store_true", help="with restore: it was no signal")
        sub.add_argument("--pid", type=int, default=os.getppid())
    sub = commands.add_parser("wait")
    sub.add_argument("name")
    sub.add_argument("root")
    sub = commands.add_parser("sources")
    sub.add_argument("conf")
    sub.add_argument("datadir")
    sub.add_argument("words")
    for command in ("words", "mix_conf", "data_options"):
        commands.add_parser(command).add_argument("text")
    sub = commands.add_parser("checkpoints")
    sub.add_argument("exp")
    sub.add_argument("count", type=int)
    sub = commands.add_parser("borrow")
    sub.add_argument("model")
    sub.add_argument("exp")
    commands.add_parser("unfinished").add_argument("exp")
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
    if args.command == "mix_conf":
        return mix_conf(args.text)
    if args.command == "data_options":
        return data_options(args.text)
    if args.command == "checkpoints":
        return checkpoints(args.exp, args.count)
    if args.command == "borrow":
        return borrow(args.model, args.exp)
    if args.command == "unfinished":
        print(how_far(args.exp))
        return 0
    if args.command == "jobs":
        return jobs(args.nj, args.path, args.size)
    if args.command == "wait":
        return wait(args.name, args.root)
    if args.command == "end":
        finish(args.name, args.root, args.require)
        return 0
    unit = Unit(
        args.name,
        args.root,
        options=args.option,
        inputs=args.input,
        corpora=args.corpus,
        experiment=args.experiment,
        keep=args.keep,
    )
    if args.command == "restore":
        unit.restore(args.pid, args.failed)
        return 0
    if args.command == "state":
        print(unit.state())
        return 0
    return begin(unit, args.force, args.pid)


def begin(unit, force, pid):
    with contextlib.suppress(OSError):  # no locks there
        fcntl.flock(os.open(".", os.O_RDONLY), fcntl.LOCK_EX)  # until this process ends: of two runs one begins
    unit.read()  # as it is by now
    try:
        unit.recall(pid)
    except BusyError as error:
        if not error.alike or force:
            raise
        print(error)
        return 5
    state = unit.state()
    if not state.startswith("refused"):
        print(state)
    if state.startswith("missing"):
        return 1
    if state.startswith("done") and not force:
        drop(unit.name, unit.root)
        return 3
    unit.begin(force=force, pid=pid)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UserError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(4 if isinstance(error, BusyError) else 1)
