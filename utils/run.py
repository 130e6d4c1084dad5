#!/usr/bin/env python3
"""Run a command, or an array of them, on this machine, with Kaldi's command line.

Usage: run.py [options] [JOB=1:N] [options] LOGFILE command arg...

  run.py JOB=1:4 exp/log/mix.JOB.log python -m senet.bin.mix --job JOB/4 ...

JOB is replaced by the index in the log's name and in the command; the output of each
job goes to its log, and how it ended to LOGDIR/q/<base>.<index>.status.
Options: --max-jobs-run N (default: the processors of this machine; with --gpu N>0 its
GPUs), --gpu N, --num-threads N, --pick all|failed|incomplete (look at the old logs and
leave out the jobs that ended with code 0), --dry-run. Others, such as --mem 4G, are for
the cluster's runners and do nothing here.
A signal reaches the commands as SIGTERM, and SIGKILL follows after 30 s, or a second Ctrl-C.
What stands in parentheses, "( python ... ; date )", is run by another bash, which ends at
SIGTERM and takes along at once what it runs: a training saves only without them.
Exit status: 0 when all jobs ended with 0; 1 when not; 128 + signal when interrupted.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time

import runner

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
GRACE = 30.0  # seconds between TERM and KILL: time for a training to finish its step and save


def kill_group(group, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(word) for word in f.read().split()]
    except OSError:
        return []


class Job:
    """One running command: a process group of its own, a log, a status file."""

    def __init__(self, line, index, guard, gpu=None):
        self.index, self.log, self.status, self.gpu = index, line.log_of(index), line.status_of(index), gpu
        self.threads = line.number("num_threads", 1)
        os.makedirs(os.path.dirname(self.log) or ".", exist_ok=True)
        self.status.unlink(missing_ok=True)
        self.start = time.time()
        with open(self.log, "w", encoding="utf-8") as log:
            log.write(f"# {line.command_of(index)}\n# Started at {runner.date(self.start)}\n#\n")
            log.flush()
            environment = dict(os.environ) if gpu is None else dict(os.environ, CUDA_VISIBLE_DEVICES=gpu)
            self.process = subprocess.Popen(
                ["bash", "-c", runner.STAY + line.shell_of(index)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: guard.toggle(os.getpid()),  # before the command can do anything
            )

    def stop(self):
        """Ask the command itself to end, not what it has started: a training needs its loaders to get to the point."""
        self.process.send_signal(signal.SIGTERM)
        for pid in children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill(self):
        kill_group(self.process.pid, signal.SIGKILL)

    def ended(self):
        """None while the job runs; then (code, signal) as its status file says, with log and status completed."""
        if self.process.poll() is None:
            return None
        code = self.process.returncode
        code = 128 - code if code < 0 else code
        number = code - 128 if 128 < code <= 192 else 0  # as bash says it
        end = time.time()
        how = f"code {code}; signal {number}" if number else f"code {code}"
        elapsed = round(end) - round(self.start)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"# Accounting: time={elapsed} threads={self.threads}\n")
            log.write(f"# Ended ({how}) at {runner.date(end)}, elapsed time {elapsed} seconds\n")
        runner.write_status(self.status, code=code, signal=number, start=self.start, end=end)
        status = runner.read_status(self.status) or {"code": code or 1, "signal": number}
        return status["code"], status["signal"]


class Guard:
    """A process that ends the jobs when this one is killed outright (SIGKILL).

    It holds the reading end of a pipe; when the writing end vanishes with us, it kills the
    process groups that were told to it. So a re-run never meets a job of the run before.
    """

    def __init__(self):
        reading, self.writing = os.pipe()
        if os.fork():
            os.close(reading)
            return
        try:
            os.setsid()
            os.close(self.writing)
            for number in (*STOP_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            groups = set()
            with os.fdopen(reading) as pipe:
                for text in pipe:
                    groups ^= {int(text)}
            for group in groups:
                kill_group(group, signal.SIGKILL)
        finally:
            os._exit(0)

    def toggle(self, group):
        """Called once when the process group starts and once when it has ended."""
        os.write(self.writing, f"{group}\n".encode())


def gpus():
    """Names of the GPUs for CUDA_VISIBLE_DEVICES."""
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
        return [str(i) for i, _ in enumerate(text for text in listed.splitlines() if text.startswith("GPU"))]
    except (OSError, subprocess.CalledProcessError):
        return []


def concurrency(line, n_jobs):
    """How many jobs run at a time, and the GPUs to share out, if any."""
    if line.number("gpu", 0) > 0:
        pool = gpus()
        if not pool:
            print(
                "run.py: warning: --gpu is given but nvidia-smi lists no GPU; running one job at a time",
                file=sys.stderr,
            )
        per_job = line.number("gpu")
        slots = [",".join(pool[i : i + per_job]) for i in range(0, len(pool) - per_job + 1, per_job)]
        return line.number("max_jobs_run", len(slots) or 1), slots
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    default = n_jobs if n_jobs <= 1.4 * processors else processors
    return max(1, line.number("max_jobs_run", default)), []


def ended_well(log):
    """Whether an earlier run of this job ended with code 0, by its log, of whichever runner."""
    try:
        return re.match(r"# (Ended \(code 0\)|Finished at .* with status 0$)", runner.last_lines(log, 1)[0]) is not None
    except IndexError:
        return False


def run_all(line, indices):
    """Run the jobs; returns ({index: (code, signal)} of the failed ones, the signal that stopped us or 0)."""
    limit, slots = concurrency(line, len(indices))
    guard = Guard()
    wake, wake_writing = os.pipe()
    os.set_blocking(wake_writing, False)
    signal.set_wakeup_fd(wake_writing, warn_on_full_buffer=False)
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored: under nohup
            signal.signal(number, lambda *_: None)  # the number arrives through the pipe
    waiting, running, failed, stopped, deadline = list(indices), [], {}, [], None
    while running or (waiting and not stopped):
        while waiting and not stopped and len(running) < limit:
            taken = {job.gpu for job in running}
            running.append(Job(line, waiting.pop(0), guard, next((slot for slot in slots if slot not in taken), None)))
        ready, _, _ = select.select([wake], [], [], None if deadline is None else max(0, deadline - time.time()))
        numbers = os.read(wake, 1024) if ready else b""
        news = [number for number in numbers if number in STOP_SIGNALS]
        if news and not stopped:
            deadline = time.time() + GRACE
            for job in running:
                job.stop()
        stopped += news
        # Of one Ctrl-C, SIGINT comes from the terminal and SIGTERM from the caller; a second one, and patience is over.
        again = stopped.count(signal.SIGINT) > 1 or stopped.count(signal.SIGTERM) > 1
        if deadline is not None and (again or time.time() >= deadline):
            deadline = None
            for job in running:
                job.kill()
        for job in [job for job in running if job.process.poll() is not None]:
            if stopped:
                job.kill()  # what the command left behind in its group
            running.remove(job)
            guard.toggle(job.process.pid)
            result = job.ended()
            if result != (0, 0):
                failed[job.index] = result
    return failed, min(stopped, default=0)


def main(argv, program="run.py", usage=__doc__, made=lambda line: line):
    """The whole runner; ``made`` turns the parsed line into one whose commands run elsewhere (ssh.py)."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return 0 if argv else 1
    try:
        line = made(runner.parse(argv))
        pick = line.options.get("pick", "all")
        if pick not in ("all", "failed", "incomplete"):
            raise runner.UsageError(f"--pick is all, failed or incomplete, not '{pick}'")
        indices = [i for i in line.tasks if pick == "all" or not ended_well(line.log_of(i))]
        if "dry_run" in line.options:
            for index in indices:
                print(f"{line.command_of(index)} > {line.log_of(index)}")
            return 0
        failed, stopped = run_all(line, indices)
    except runner.UsageError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{program}: {error.filename or line.log}: {error.strerror}", file=sys.stderr)
        return 1
    if stopped:
        killed = "; killed" if any(number == signal.SIGKILL for _, number in failed.values()) else ""
        print(f"{program}: stopped by {signal.Signals(stopped).name}; the jobs were ended{killed}", file=sys.stderr)
        return 128 + stopped
    if failed:
        runner.report(program, line, failed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
