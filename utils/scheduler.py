"""What slurm.py and queue.py share: submitting a job, waiting for its tasks' status files, saying how they ended.

One call is one (array) job. Each task runs ``LOGDIR/q/<base>.sh``, whose last act is the task's status file. The
runner decides by these files, and asks the scheduler only about tasks without a good one: a task that failed, but is
still in the queue, may be requeued (preempted, say), and one that is in no queue and has no status file has vanished.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import runner
from job_script import script_of
from option_file import OptionFile

from senet.errors import UserError

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
LOOK = (0.1, 1.0)  # seconds between two looks for status files: at first, in the end
ASK = (1.0, 10.0)  # between two questions to the scheduler
LATE = 10.0  # seconds that a status file may come after its task is gone: file systems are late
HOPELESS = 5.0  # a reason for which a job waits for ever has to hold for so long
REMIND = 60.0  # between two messages that the job waits
CANCELLING = 30.0  # time for cancelled tasks to end
ANSWER = 60.0  # for the scheduler's commands
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # other SLURM_* are those of a job that we are in: not the new one's
BUILT_IN = ("max_jobs_run", "pick", "dry_run", "config", "name")  # the others need a line in the option file


def ask(words):
    """(exit status, stdout, stderr) of a scheduler's command; status None: no answer. No signal to us reaches it."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER,
            env={name: value for name, value in os.environ.items() if name[:6] != "SLURM_" or name in KEPT},
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, []),  # ours are blocked
        )
    except subprocess.TimeoutExpired:
        return None, "", f"{words[0]} gave no answer within {ANSWER:.0f} s"
    except OSError as error:
        return None, "", f"{words[0]}: {error.strerror}"
    return done.returncode, done.stdout, done.stderr.strip()


class Refused(Exception):
    """The scheduler will not run the job; says why."""


class Call:
    """One call of a runner.

    Args:
        scheduler: an object with the attributes and methods of ``slurm.Slurm``.
        line: the parsed command line. indices: the tasks to run.
    Attributes:
        tasks: {index: the task's number for the scheduler, None where there is no array}.
        base, output: ``LOGDIR/q/<base>``; the scheduler's own output.
    """

    def __init__(self, scheduler, line, indices):
        self.scheduler, self.line, self.indices = scheduler, line, list(indices)
        first, last = self.indices[0], self.indices[-1]
        status = line.status_of(first)
        self.base = status.with_name(status.name.removesuffix(f".{first}.status"))
        self.script, self.output, self.record = (Path(f"{self.base}.{end}") for end in ("sh", "log", "job"))
        # and the job's id while a call waits for it: a later one cancels what a killed one left behind
        self.status = {index: line.status_of(index) for index in self.indices}
        if len(line.tasks) == 1:
            self.tasks = {first: None}
        elif self.indices == list(range(first, last + 1)):
            self.tasks = {index: index for index in self.indices}
        else:  # not each scheduler's arrays have gaps
            self.tasks = {index: task for task, index in enumerate(self.indices, 1)}
        self.job = None

    def submission(self):
        """The submit command, as words."""
        options, line = self.scheduler.options, self.line
        given = {name: value for name, value in line.options.items() if name not in BUILT_IN}
        return [*options.command, *options.words(given), *self.scheduler.words(self), *line.passed, str(self.script)]

    def submit(self):
        """Cancel what a killed call left in the queue, and submit the job. Raises Refused."""
        try:
            earlier = self.record.read_text(encoding="utf-8").strip()
        except OSError:
            earlier = ""
        if earlier and self.scheduler.is_of(earlier, self.script):
            self.say(f"job {earlier} of an earlier call is still in the queue; cancelling it")
            self.cancel(earlier)
        self.base.parent.mkdir(parents=True, exist_ok=True)
        for index in self.indices:
            log = Path(self.line.log_of(index))
            log.parent.mkdir(parents=True, exist_ok=True)
            for path in (log, self.status[index]):
                path.unlink(missing_ok=True)
        self.output.unlink(missing_ok=True)
        with runner.whole_file(self.script) as f:
            f.write(script_of(self))
        words = self.submission()
        code, out, error = ask(words)
        match = re.match(r"\d+", out.strip())
        if code != 0 or not match:
            raise self.refused(
                f"{error or out.strip() or f'{words[0]}: exit status {code}'}\n  the call was: {shlex.join(words)}\n"
                f"  its options come from cmd.sh, the caller, and {self.scheduler.options.name}; "
                "SENET_CMD_BACKEND=local runs on this machine"
            )
        self.job = match[0]
        with runner.whole_file(self.record) as f:
            f.write(f"{self.job}\n")

    def refused(self, why):
        """The error; the tasks' logs tell it, too, for those who look there (senet status)."""
        told = why.replace("\n", "\n# ")
        for index in self.indices:
            Path(self.line.log_of(index)).write_text(f"# Refused: {told}\n", encoding="utf-8")
        return Refused(why)

    def say(self, text):
        print(f"{self.scheduler.PROGRAM}: {text}", file=sys.stderr, flush=True)

    def cancel(self, job):
        """Cancel a job, and wait until it is gone, if that is soon."""
        code, _, error = ask([*self.scheduler.CANCEL, job])
        end = time.monotonic() + CANCELLING
        while time.monotonic() < end and self.scheduler.queue(job) != {}:
            time.sleep(0.5)
        if code != 0 and self.scheduler.queue(job):
            self.say(
                f"job {job} could not be cancelled: {error}; cancel it by: {' '.join(self.scheduler.CANCEL)} {job}"
            )

    def wait(self):
        """Wait for all tasks.

        Returns:
            {index: (code, signal, why or "")} of the failed ones, and the signal that stopped us or 0.
        Raises:
            Refused: the scheduler holds the job for a reason that will not pass.
        """
        left, failed, gone, seen = set(self.indices), {}, {}, set()
        look, pause, next_question, next_reminder, hopeless = LOOK[0], ASK[0], 0.0, time.monotonic() + 3, None
        while left:
            number = signal.sigtimedwait(STOP_SIGNALS, look)
            if number is not None:
                return failed, number.si_signo
            now = time.monotonic()
            look = min(look * 1.3, LOOK[1])
            ended = self.statuses(left)
            left -= {index for index, status in ended.items() if status["code"] == 0}
            doubtful = {index for index in left if index in ended}
            if doubtful - seen:
                next_question, pause = now, ASK[0]
            seen = doubtful
            if not left or now < next_question:
                continue
            next_question, pause = now + pause, min(pause * 1.5, ASK[1])
            states = self.scheduler.queue(self.job)
            if states is None:  # nothing is known
                if now >= next_reminder:
                    next_reminder = now + REMIND
                    self.say(f"job {self.job}: the scheduler does not answer; waiting for it and for the tasks")
                continue
            for index in sorted(left):
                if self.tasks[index] in states:  # also one that has failed, and may be requeued
                    gone.pop(index, None)
                elif status := runner.read_status(self.status[index]):
                    left.discard(index)
                    if status["code"]:
                        failed[index] = status["code"], status["signal"]
                elif now - gone.setdefault(index, now) >= LATE:
                    left.discard(index)
                    failed[index] = self.vanished(index)
                else:
                    next_question = min(next_question, now + ASK[0])
            reasons = {states[self.tasks[index]] for index in left if self.tasks[index] in states}
            if not reasons or None in reasons:  # a task runs
                hopeless = None
                continue
            hopeless = (hopeless or now) if reasons & self.scheduler.HOPELESS else None
            if hopeless is not None and now - hopeless >= HOPELESS:
                self.cancel(self.job)
                raise self.refused(
                    f"job {self.job} would wait for ever, and was cancelled: {'; '.join(sorted(reasons))}"
                    f"{self.scheduler.explain(self.job)}\n  the call was: {shlex.join(self.submission())}\n"
                    f"  ask for less, or change {self.scheduler.options.name}"
                )
            if now >= next_reminder and any(reasons):
                next_reminder = now + REMIND
                self.say(f"job {self.job} waits in the queue: {'; '.join(sorted(reasons - {''}))}")
        return failed, 0

    def statuses(self, indices):
        """{index: status} of the tasks that have written one.

        Opening a folder makes a network file system look again; of a file that was missing it may go on saying so.
        """
        folders = {folder: set(os.listdir(folder)) for folder in {self.status[i].parent for i in indices}}
        there = [i for i in indices if self.status[i].name in folders[self.status[i].parent]]
        return {i: status for i in there if (status := runner.read_status(self.status[i]))}

    def vanished(self, index):
        """How a task ended that left no status, as (code, signal, why); written in its place."""
        known = self.scheduler.post_mortem(self.job, self.tasks[index])
        begun = os.path.exists(self.line.log_of(index))
        unknown = "killed with its script?" if begun else "cancelled before it began?"
        code, number, why = known or (1, 0, f"gone from the queue without a status ({unknown})")
        now = time.time()
        runner.write_status(self.status[index], code=code, signal=number, start=now, end=now, job_id=self.job)
        return code, number, why

    def wait_for_log(self, index):
        """A log may come later than its status; what it says last is needed."""
        end = time.monotonic() + LATE / 2
        while not finished(self.line.log_of(index)) and time.monotonic() < end:
            time.sleep(0.2)


def finished(log):
    return any(re.match("# Finished at .* with status", text) for text in runner.last_lines(log, 3))


def ended_well(line, index):
    """Whether an earlier run of this task ended with code 0, through whichever runner."""
    status = runner.read_status(line.status_of(index))
    return bool(status) and status["code"] == 0


def dry_run(call):
    print(shlex.join(call.submission()))
    print(f"# {call.script}:\n{script_of(call)}", end="")
    for index in call.indices:
        print(f"# task {index}: {call.line.command_of(index)} > {call.line.log_of(index)}")


def run(scheduler, line, indices):
    """Submit, wait, report; returns the exit status."""
    signals = {s for s in STOP_SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN}  # under nohup
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    call = Call(scheduler, line, indices)
    call.submit()
    try:
        try:
            failed, stopped = call.wait()
        except OSError:  # the folder is gone, say
            call.cancel(call.job)
            raise
        if stopped:
            call.cancel(call.job)
            call.say(f"stopped by {signal.Signals(stopped).name}; job {call.job} was cancelled")
            return 128 + stopped
    finally:
        call.record.unlink(missing_ok=True)
    if failed:
        if len(failed[min(failed)]) == 2:
            call.wait_for_log(min(failed))
        runner.report(scheduler.PROGRAM, line, failed)
        said = [text for text in runner.last_lines(call.output, 5) if text.strip()] if call.output.exists() else []
        if said:
            print(
                "\n".join([f"the scheduler's own words, {call.output}:", *(f"  | {t}" for t in said)]), file=sys.stderr
            )
        if any("DUE TO TIME LIMIT" in text for text in said):
            print('hint: its time was over; ask for more, as in cmd.sh by "slurm.py --time 24:0:0"', file=sys.stderr)
        return 1
    return 0


def main(scheduler, argv, usage):
    """The whole runner; ``scheduler(path, options)`` makes the scheduler from its option file."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage)
        return 0 if argv else 1
    try:
        line = runner.parse(argv)
        pick = line.options.get("pick", "all")
        if pick not in ("all", "failed", "incomplete"):
            raise runner.UsageError(f"--pick is all, failed or incomplete, not '{pick}'")
        indices = [index for index in line.tasks if pick == "all" or not ended_well(line, index)]
        path = line.options.get("config") or (scheduler.CONFIG if os.path.exists(scheduler.CONFIG) else None)
        scheduler = scheduler(OptionFile(path, scheduler.OPTIONS))
        if not indices:
            return 0
        if "dry_run" in line.options:
            dry_run(Call(scheduler, line, indices))
            return 0
        return run(scheduler, line, indices)
    except (runner.UsageError, UserError, Refused) as error:
        print(f"{scheduler.PROGRAM}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{scheduler.PROGRAM}: {error.filename or line.log}: {error.strerror}", file=sys.stderr)
    return 1
