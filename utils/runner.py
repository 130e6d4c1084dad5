"""What all job runners share: Kaldi's command line, the words for bash, status files, the failure report.

    <runner> [options] [JOB=1:N] [options] LOGFILE command arg...

``run.py`` runs the jobs on this machine. A runner for a scheduler parses the same line with
:func:`parse`, has each task write its status with :func:`write_status`, and ends with :func:`report`.
"""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from senet.files import whole_file  # noqa: E402

FLAGS = ("V", "notify", "dry_run")  # options without a value
NUMBERS = ("max_jobs_run", "num_threads", "gpu", "num_nodes")
HINTS = (
    ("CUDA out of memory", "the GPU is out of memory: use a smaller batch_size"),
    ("No space left on device", "the disk is full: free some space and run again; finished parts are kept"),
    ("Bus error", "shared memory (/dev/shm) is too small for the data loader: lower --num_workers"),
    ("No such file or directory", "a file is missing: did an earlier stage finish? (./run.sh --list)"),
)
# Put before a command for bash, which so stays until what it runs has ended, and then does nothing that would follow.
# Signals that ask for an end then go to this bash and to its children.
STAY = "trap exit TERM USR1 USR2; "
# Of an array, and of a single job, which is a training.
KILLED_HINTS = (
    "killed: unless somebody did that, memory was full: lower --nj, or ask for more by train_cmd and decode_cmd in "
    'cmd.sh, as in "slurm.py --mem 8G"',
    "killed: unless somebody did that, memory was full: lower batch_size, --micro_batch or --num_workers, or ask for "
    'more by cuda_cmd in cmd.sh, as in "slurm.py --mem 16G"',
)


class UsageError(Exception):
    """The runner's command line is wrong."""


class Line:
    """A runner's command line.

    Attributes:
        options: option name with underscores -> text.
        name: the identifier (``JOB``), or None for a single job.
        tasks: the indices; ``range(1, 2)`` for a single job.
        log, words: the log file and the command, the identifier still in them.
        passed: the options with a single dash, as words: they are for the scheduler's submit command.
    """

    def __init__(self, options, name, tasks, log, words, passed=()):
        self.options, self.name, self.tasks, self.log, self.words = options, name, tasks, log, words
        self.passed = list(passed)

    def number(self, option, default=None):
        """Value of a numeric option."""
        return int(self.options.get(option, default))

    def substitute(self, text, index):
        """Replace the identifier where no letter or digit stands next to it.

        ``keys.JOB.scp``, ``/JOB/``, ``_JOB`` and ``${JOB}`` change; ``JOBS`` and ``myJOB`` do not.
        """
        if self.name is None:
            return text
        return re.sub(rf"(?<![A-Za-z0-9]){re.escape(self.name)}(?![A-Za-z0-9])", str(index), text)

    def log_of(self, index):
        return self.substitute(self.log, index)

    def command_of(self, index):
        """The command for bash: words without white space act as they are, others are quoted."""
        return " ".join(_bash_word(self.substitute(word, index)) for word in self.words)

    def shell_of(self, index):
        """What bash runs on this machine for it."""
        return self.command_of(index)

    def status_of(self, index):
        """Path of the task's status file, ``LOGDIR/q/<base>.<index>.status``."""
        log = Path(self.log_of(index))
        folder = log.parent.with_name("q") if log.parent.name == "log" else log.parent / "q"
        base = Path(self.log).name.removesuffix(".log")
        if self.name is not None:
            base = re.sub(r"([._-]?)\0([._-]?)", r"\2", self.substitute(base, "\0")).strip("._-") or "task"
        return folder / f"{base}.{index}.status"


def _bash_word(word):
    if re.fullmatch(r"\S+", word):
        return word
    return f"'{word}'" if '"' in word else f'"{word}"'


def parse(argv):
    """Parse ``argv``, without the program's name, into a :class:`Line`.

    Raises:
        UsageError: names the wrong word and what was expected.
    """
    args, options, passed, name, tasks = list(argv), {}, [], None, range(1, 2)
    while args:
        if args[0].startswith("-") and args[0].strip("-"):
            option = args[0].lstrip("-").replace("-", "_")
            count = 0 if option in FLAGS else 2 if args[0] == "-pe" else 1
            if len(args) <= count:
                raise UsageError(f"option {args[0]} needs {'two values' if count == 2 else 'a value'}")
            value = " ".join(args[1 : 1 + count])
            option = "max_jobs_run" if option == "tc" else option
            if option in NUMBERS and not value.isdigit():
                raise UsageError(f"option {args[0]} takes a whole number, not '{value}'")
            if option == "max_jobs_run":  # may be given twice, as by cmd.sh and by the caller: the smallest wins
                value = min(value, options.get(option, value), key=int)
            if args[0].startswith("--") or option == "max_jobs_run":
                options[option] = value
            else:
                passed += args[: 1 + count]
            del args[: 1 + count]
        elif re.fullmatch(r"[A-Za-z_]\w*=[\d:]*", args[0]):
            match = re.fullmatch(r"(\w+)=(\d+)(?::(\d+))?", args[0])
            first, last = (int(match[2]), int(match[3] or match[2])) if match else (0, 0)
            if name or not 1 <= first <= last:
                raise UsageError(f"bad job range '{args[0]}': expected one range such as JOB=1:4, from 1 upwards")
            name, tasks = match[1], range(first, last + 1)
            del args[0]
        else:
            break
    if len(args) < 2:
        raise UsageError("expected a log file and a command after the options")
    line = Line(options, name, tasks, args[0], args[1:], passed)
    if len(tasks) > 1 and line.log_of(1) == line.log_of(2):
        raise UsageError(f"{len(tasks)} jobs would write one log: put {name} into '{args[0]}', as in log.{name}.txt")
    here = os.getcwd()
    if line.substitute(here, 0) != here and any(here in word for word in [line.log, *line.words]):
        print(
            f"warning: {name} is also part of this folder's own path, {here}, and is replaced there too",
            file=sys.stderr,
        )
    return line


def write_status(path, *, code, signal, start, end, job_id=None):
    """Write how a task ended, whole; ``start`` and ``end`` are seconds since 1970."""
    status = {
        "code": code,
        "signal": signal,
        "host": socket.gethostname(),
        "start": start,
        "end": end,
        "job_id": job_id,
    }
    with whole_file(path) as f:
        f.write(json.dumps(status) + "\n")


def read_status(path):
    """The status that a task wrote, or None."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def date(seconds=None):
    """As the shell's ``date`` prints it in the C locale."""
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(seconds))


def last_lines(path, count=20):
    try:
        with open(path, "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - 200 * count))
            return f.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError as error:
        return [f"(cannot read it: {error.strerror})"]


def report(program, line, failed, shown=10):
    """Say on stderr which tasks failed and why.

    Args:
        failed: {index: (code, signal)}, signal 0 when there was none; a third item, if there is one, says why.
    """
    logs = line.substitute(line.log, "*")
    count = f"{len(failed)} / {len(line.tasks)}" if len(line.tasks) > 1 else "job"
    say = [f"{program}: {count} failed, log is in {logs if len(line.tasks) > 1 else line.log_of(line.tasks[0])}"]
    for index in sorted(failed)[:shown]:
        code, signal, *why = failed[index]
        how = ", ".join([f"signal {signal}" if signal else f"code {code}", *why])
        say.append(f"  task {index}: {how}, log {line.log_of(index)}")
    if len(failed) > shown:
        say.append(f"  and {len(failed) - shown} more: {' '.join(map(str, sorted(failed)[shown:]))}")
    first = min(failed)
    tail = last_lines(line.log_of(first))
    output = [text for text in tail if not text.startswith(("# ", "(cannot read"))]
    if "SENET_LOG_SHOWN" not in os.environ:
        say += [f"last lines of {line.log_of(first)}:", *(f"  | {text}" for text in tail)]
    hints = [hint for text, hint in HINTS if any(text in t for t in output)]
    if any(code == 137 or signal == 9 for code, signal, *_ in failed.values()) or any("Killed" in t for t in output):
        hints.append(KILLED_HINTS[line.name is None])
    say += [f"hint: {hint}" for hint in hints]
    if line.name is None and re.search("JOB", line.log):
        say.append(f"hint: the log's name has JOB in it, but no range such as JOB=1:4 was given to {program}")
    print("\n".join(say), file=sys.stderr, flush=True)
