"""How a training is getting on, for whoever looks at its folder: ``status.json``, and what follows from it.

A training writes the file when it begins, at most once a minute as it goes on, after each validation, and when it ends.
The process itself lives as long as it holds the folder's lock (``senet.lock``). So one that lives and whose file does
not change hangs, and a file that says "running" without a living process is that of one which was killed.
"""

import fcntl
import itertools
import json
import logging
import os
import platform
import re
import struct
import time
from pathlib import Path

from senet import checkpoint
from senet.errors import UserError
from senet.files import write_json
from senet.signals import AGAIN

log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two writes, at least
FRESH = 60.0  # a lock that changed so many seconds ago, on another machine, is held; file systems show changes late
TAIL = 1 << 16  # bytes at the end of a log in which an error is looked for
_ERROR = re.compile(
    r"error: |.* (ERROR|CRITICAL): |\w[\w.]*(Error|Exception|Interrupt)\b(:|$)|slurmstepd: error"
    r"|.*\b(Killed|Bus error|Segmentation fault)\b"
)
_ENDED = re.compile(rf"# Ended \((?!code (0|{AGAIN})\))|# Refused: ")  # by the job's runner, or by the scheduler
_OVER = re.compile(r"# (?:Ended \(code|Finished .* with status) (\d+)")
_BEFORE_TEXT = re.compile(r"^\S+ \(\S+\) \w+: ")  # time and place of a log line
_JOB = "SLURM_JOB_ID", "JOB_ID"


class Status:
    """``expdir/status.json`` of a training at work.

    Args:
        expdir: experiment folder.
        progress: function that gives step, steps, epoch, max_epoch and seconds_left.
        records: of train.jsonl that stand: the last of training, and all of validation.
    """

    def __init__(self, expdir, progress, records=()):
        self.path, self.progress, self.written = Path(expdir) / "status.json", progress, -EVERY
        job = next((os.environ[name] for name in _JOB if name in os.environ), None)
        self.values = {"host": platform.node(), "pid": os.getpid(), "job": job, "started": time.time()}
        for record in records:
            self.add(record)

    def add(self, record):
        """Take from a record of train.jsonl what is shown."""
        if record["event"] == "train":
            self.values |= {k: record[k] for k in ("steps_per_second", "audio_per_second")}
            self.values["train_loss"] = record["loss"]
        elif record["event"] == "valid":
            self.values |= {"valid_loss": record["loss"], "valid_epoch": record["epoch"]}
            if record["best"]:
                self.values |= {"best_loss": record["loss"], "best_epoch": record["epoch"]}
            self.written = -EVERY  # is worth telling at the next step

    def beat(self):
        """A sign of life, after each step; mostly it is not time to write it."""
        if time.monotonic() - self.written >= EVERY:
            self._write("running")

    def _write(self, state, **values):
        """A disk that is full is no reason to end a training here: what has to be kept will say so."""
        self.written = time.monotonic()
        self.values |= {"state": state, **self.progress(), **values}
        try:
            write_json(self.path, self.values)
        except (UserError, OSError) as error:
            log.warning("not told to senet status: %s", error)

    def end(self, error):
        """The training ends, by ``error`` or at its end (None)."""
        if error is None:
            self._write("finished", seconds_left=0)
        elif isinstance(error, SystemExit | KeyboardInterrupt):
            self._write("stopped")
        else:
            self._write("failed", error=_in_a_line(error))


def _in_a_line(error):
    return " ".join(str(error).split()) or type(error).__name__


def note_failed(expdir, error):
    """Of a training that ended by ``error``, perhaps before it told anything. One that was finished is so still."""
    path = Path(expdir) / "status.json"
    said = _read_json(path)
    if said.get("state") != "finished":
        write_json(path, said | {"state": "failed", "seconds_left": None, "error": _in_a_line(error)})


def note_finished(expdir):
    """Of a training that has nothing left to do: it may have been killed before it said so, or may do less than it was
    to do."""
    path = Path(expdir) / "status.json"
    said = _read_json(path)
    if said.get("state") != "finished":
        write_json(path, said | {"state": "finished", "seconds_left": 0})


# ---------------------------------------------------------------- for those who look


def is_experiment(folder):
    """Whether something is, was or will be trained there."""
    return any((Path(folder) / name).exists() for name in ("status.json", ".lock", ".stages/train.json", "checkpoints"))


def read(expdir, silent_after=600.0):
    """How the training in a folder is getting on.

    Args:
        expdir: experiment folder.
        silent_after: seconds without progress after which a living training counts as silent.
    Returns:
        dict: ``experiment``, ``state``; what status.json says; ``heard``, seconds since it changed; ``error``, the last
        one of the training or in logdir/train.log. What is not known is None. States:
            running; starting: its job has begun, it reads data, builds the model; silent: it lives and does not get on;
            waiting: run.sh has handed it to a scheduler, which has not begun it;
            finished; stopped by a signal, to be continued; failed by an error, or refused; dead: killed without a word.
    """
    expdir = Path(expdir)
    said, heard = _read_json(expdir / "status.json"), _age(expdir / "status.json")
    known = dict.fromkeys(
        ("host", "pid", "job", "started", "step", "steps", "epoch", "max_epoch", "seconds_left", "steps_per_second",
         "audio_per_second", "train_loss", "valid_loss", "valid_epoch", "best_loss", "best_epoch", "error")
    )  # fmt: skip
    known |= said
    holder, lives = _holder(expdir / ".lock")
    state = said.get("state")
    if lives:
        ours = state == "running" and all(said.get(k) == holder[k] for k in ("host", "pid"))
        state = "starting" if not ours else "running" if heard < silent_after else "silent"
        known |= {k: holder[k] for k in ("host", "pid")}
    elif _driver_lives(expdir):
        state = _of_job(expdir / "logdir" / "train.log") or state or "starting"
    elif holder and any(said.get(k) != holder[k] for k in ("host", "pid")):
        state = "dead"  # killed as it started, whatever one before it said
        known |= {k: holder[k] for k in ("host", "pid")} | {"error": None}
    elif state in (None, "running"):
        state = "dead" if state else _without_status(expdir)
    if said.get("step") is None:
        known |= _of_checkpoints(expdir)
    if state not in ("running", "silent"):
        known |= {"seconds_left": 0 if state == "finished" else None}
    known["error"] = known["error"] or _last_error(expdir / "logdir" / "train.log", known["started"])
    if state == "stopped" and ((not said and known["error"]) or _start_failed(expdir)):
        state = "failed"  # before the training began
    return {"experiment": str(expdir), **known, "state": state, "heard": heard}


def _read_json(path):
    """Empty where there is none; a lock may be being written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _age(path):
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def _holder(path):
    """({host, pid, since} or {}, whether it lives) of a lock. It is not taken, not even for a moment."""
    holder = _read_json(path)
    if not {"host", "pid"} <= holder.keys():
        return {}, False
    if holder["host"] != platform.node():
        age = _age(path)
        return holder, age is not None and age < FRESH
    with open(path, "rb") as f:
        query = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(f, fcntl.F_GETLK, query)
    return holder, struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK


def _driver_lives(expdir):
    """Whether a run.sh on this machine is at stage train there."""
    record = _read_json(expdir / ".stages" / "train.json")
    pid, host, start = (record.get("owner") or "0 - 0").split()
    if record.get("state") != "begun" or host != platform.node():
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == start
    except OSError:
        return False


def _of_job(log):
    """The state of a job that run.sh waits for, by the log that its runner makes anew; None: it has ended well."""
    lines = _last_lines(log)
    over = _OVER.match(lines[-1]) if lines else None
    if over and not int(over[1]):
        return None
    return "starting" if lines and not over else "waiting"  # also when it was put back into the queue


def _start_failed(expdir):
    """Whether run.sh saw the last attempt fail, after the training told something, if it ever did."""
    record, said = expdir / ".stages" / "train.json", _age(expdir / "status.json")
    return bool(_read_json(record).get("failed")) and (said is None or _age(record) <= said)


def _without_status(expdir):
    """Of a folder in which no training was seen: a model without parameters has one checkpoint, of step 0."""
    done = _read_json(expdir / ".stages" / "train.json").get("state") == "done"
    return "finished" if done or _of_checkpoints(expdir).get("step") == 0 else "stopped"


def _of_checkpoints(expdir):
    try:
        found = checkpoint.entries(expdir / "checkpoints")
    except UserError as error:
        return {"error": str(error)}
    return {"step": found[-1]["step"], "epoch": found[-1]["epoch"]} if found else {}


def _last_error(path, started):
    """The last line of a log that tells an error; None where there is none, or it is of an earlier training."""
    lines = _last_lines(path, started)
    for kind in (_ERROR, _ENDED):
        for k in range(len(lines) - 1, -1, -1):
            if kind.match(lines[k]):
                text = _BEFORE_TEXT.sub("", lines[k]).removeprefix("error: ").removeprefix("# Refused: ").strip()
                rest = itertools.takewhile(lambda line: line[:1].isspace(), lines[k + 1 :])  # such as differences
                return _in_a_line("\n".join([text, *rest])) if text.endswith(":") else text
    return None


def _last_lines(path, since=None):
    """Of a log; none where there is none, or nothing came ``since``."""
    try:
        with open(path, "rb") as f:
            status = os.fstat(f.fileno())
            if since and status.st_mtime < since:
                return []
            f.seek(max(0, status.st_size - TAIL))
            return f.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
