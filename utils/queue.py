#!/usr/bin/env python3
"""Run a command, or an array of them, as one GridEngine job, with Kaldi's command line.

Usage: queue.py [options] [JOB=1:N] [options] LOGFILE command arg...

  queue.py --mem 4G JOB=1:40 exp/log/mix.JOB.log python -m senet.bin.mix --job JOB/40 ...

JOB is replaced by the index in the log's name and in the command. It waits for all tasks; how each ended is in
LOGDIR/q/<base>.<index>.status, the job script in q/<base>.sh, GridEngine's own output in q/<base>.log.
Options: --mem 4G, --num-threads N, --gpu N, --time T, --max-jobs-run N (tasks at a time), --name S, and what else
the option file has a line for; --config FILE (an option file; default conf/queue.conf where it exists, else the
lines below); options with one dash go to qsub as they are; --pick all|failed|incomplete (leave out the tasks whose
status is good); --dry-run (print the call and the script).
A command that ends with 75 has saved what it did and is started again. With -notify, GridEngine says when it is about
to suspend or to end a job, upon which a training saves; so it does at a soft limit, -l s_rt=T.
A task that has left the queue without a status has failed 10 s later: file systems are late.
Exit status: 0 when all tasks ended with 0; 1 when not; 128 + signal when interrupted, which cancels the job.

The option file says what to call, and what the options add to it, $0 being the value. Names of resources and of the
parallel environment are those of the site:
"""

import getpass
import re
import sys

if __name__ == "queue":  # a neighbour's library wants the standard one of this name: be that
    import importlib.util
    import sysconfig

    spec = importlib.util.spec_from_file_location("queue", f"{sysconfig.get_path('stdlib')}/queue.py")
    sys.modules["queue"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["queue"])
else:
    import scheduler


class GridEngine:
    """What scheduler.Call needs to know about GridEngine; explained in slurm.py."""

    PROGRAM, CONFIG = "queue.py", "conf/queue.conf"
    OPTIONS = """\
command qsub -V -w e  # -w e: refuse at once what no machine has
option mem=* -l mem_free=$0
option mem=0
option num_threads=* -pe smp $0
option num_threads=1
option time=* -l h_rt=$0
option gpu=* -l gpu=$0
option gpu=0
"""
    CANCEL = ["qdel"]
    HOPELESS = {"error"}
    TASK, JOB_ID = "SGE_TASK_ID", "$JOB_ID"
    TRAPS = "trap signalled=true USR1 USR2 # of -notify: the command gets them, too"
    REQUEUE = "exit 99 # which means: again"

    def __init__(self, options):
        self.options = options

    def launch(self, line):
        return ""

    def words(self, call):
        name = call.line.options.get("name", call.base.name)
        words = ["-terse", "-cwd", "-S", "/bin/bash", "-j", "y", "-r", "y", "-o", str(call.output)]
        words += ["-N", re.sub(r"^(?=\d)|[^\w.+-]", "_", name)]
        tasks = call.tasks.values()
        if None not in tasks:
            words += ["-t", f"{min(tasks)}-{max(tasks)}"]
            if "max_jobs_run" in call.line.options:
                words += ["-tc", call.line.options["max_jobs_run"]]
        return words

    def queue(self, job):
        code, out, _ = scheduler.ask(["qstat", "-u", getpass.getuser(), "-g", "d"])
        if code != 0:
            return None
        found = {}
        for line in out.splitlines():
            # number, priority, name, user, state, date, time, perhaps the queue, slots, and the task of an array
            fields = line.split()
            if fields and fields[0] == job:
                state, array = fields[4], not fields[-2].count(":") and fields[-2].isdigit()
                waits = "error" if "E" in state else "" if "w" in state else None
                found[int(fields[-1]) if array else None] = waits
        return found

    def is_of(self, job, script):
        return re.search(rf"^script_file:\s+\S*{re.escape(str(script))}$", scheduler.ask(["qstat", "-j", job])[1], re.M)

    def explain(self, job):
        """Why the job is not started, in GridEngine's words."""
        _, out, _ = scheduler.ask(["qstat", "-j", job])
        return "".join(f"\n  {line}" for line in re.findall(r"^(?:error reason.*|scheduling info:.*)", out, re.M))

    def post_mortem(self, job, task):
        """From the accounting file, where there is one and it is up to date."""
        _, out, _ = scheduler.ask(["qacct", "-j", job, *([] if task is None else ["-t", str(task)])])
        state, failed = re.search(r"^exit_status\s+(\d+)", out, re.M), re.search(r"^failed\s+(.*?)\s*$", out, re.M)
        if not state:
            return None
        code = int(state[1])
        return code or 1, code - 128 if 128 < code <= 192 else 0, f"failed by GridEngine's account: {failed[1]}"


if __name__ == "__main__":
    usage = __doc__ + "\n" + "".join(f"  {line}\n" for line in GridEngine.OPTIONS.splitlines())
    sys.exit(scheduler.main(GridEngine, sys.argv[1:], usage.rstrip()))
