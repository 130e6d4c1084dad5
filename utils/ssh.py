#!/usr/bin/env python3
"""Run a command, or an array of them, on other machines through ssh, with Kaldi's command line.

Usage: ssh.py [options] [JOB=1:N] [options] LOGFILE command arg...

  ssh.py JOB=1:40 exp/log/mix.JOB.log python -m senet.bin.mix --job JOB/40 ...

The machines are in .queue/machines, one to a line, as ssh takes them (name, user@name); job i runs on the i-th, and
again from the first after the last. They must let you in without a password and have this folder at the same place.
Logs, status files and options are those of run.py. By default all jobs run at once: --max-jobs-run N limits them.
A job ends when this program, or its connection, does.
"""

import os
import shlex
import sys

import run
import runner

MACHINES = ".queue/machines"
# What runs over there. Its standard input is ours: when that closes, the job's process group is ended.
REMOTE = """\
cd {folder} || exit 1
if [ -f path.sh ]; then . ./path.sh || exit 1; fi
exec 3<&0
setsid bash -c {command} < /dev/null 3<&- &
job=$!
{{ cat <&3; kill -TERM -- -$job; sleep {grace}; kill -KILL -- -$job; }} > /dev/null 2>&1 &
watch=$!
wait $job
code=$?
kill $watch 2> /dev/null
exit $code
"""
# What runs here: ssh with an input that stays open as long as it runs.
LOCAL = "exec 3< <(exec sleep 2147483647); hold=$!; ssh {options} {remote} <&3; code=$?; kill $hold; exit $code"
OPTIONS = "-o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15"


class Line(runner.Line):
    """A command line whose commands run on ``machines``."""

    def __init__(self, line, machines):
        super().__init__(line.options, line.name, line.tasks, line.log, line.words, line.passed)
        self.machines = machines
        self.options.setdefault("max_jobs_run", str(len(line.tasks)))
        self.options.pop("gpu", None)  # those of this machine are not asked for

    def shell_of(self, index):
        remote = REMOTE.format(
            folder=shlex.quote(os.getcwd()),
            command=shlex.quote(runner.STAY + self.command_of(index)),
            grace=int(run.GRACE),
        )
        machine = self.machines[(index - 1) % len(self.machines)]
        words = [machine, f"bash -c {shlex.quote(remote)}"]  # whatever the login shell there is
        return LOCAL.format(options=OPTIONS, remote=shlex.join(words))


def machines():
    try:
        with open(MACHINES, encoding="utf-8") as f:
            found = [line.split("#")[0].strip() for line in f]
    except OSError as error:
        raise runner.UsageError(f"{MACHINES}: {error.strerror}; it lists the machines, one to a line") from None
    found = [name for name in found if name]
    if not found:
        raise runner.UsageError(f"{MACHINES}: lists no machine; expected names as ssh takes them, one to a line")
    return found


if __name__ == "__main__":
    sys.exit(run.main(sys.argv[1:], "ssh.py", __doc__, lambda line: Line(line, machines())))
