#!/usr/bin/env python3
"""Run a command, or an array of them, as one Slurm job, with Kaldi's command line.

Usage: slurm.py [options] [JOB=1:N] [options] LOGFILE command arg...

  slurm.py --mem 4G JOB=1:40 exp/log/mix.JOB.log python -m senet.bin.mix --job JOB/40 ...

JOB is replaced by the index in the log's name and in the command. It waits for all tasks; how each ended is in
LOGDIR/q/<base>.<index>.status, the job script in q/<base>.sh, Slurm's own output in q/<base>.log.
Options: --mem 4G, --num-threads N, --gpu N, --time T, --max-jobs-run N (tasks at a time), --name S, and what else
the option file has a line for; --config FILE (an option file; default conf/slurm.conf where it exists, else the
lines below); options with one dash go to sbatch as they are; --pick all|failed|incomplete (leave out the tasks whose
status is good); --dry-run (print the call and the script); --num-nodes N (N nodes, and the command once for each GPU
of each, by srun; MASTER_ADDR and MASTER_PORT are set).
A command that ends with 75 has saved what it did and is requeued; so does Slurm with a preempted one, by itself. A
single job, which mostly is a training, gets SIGUSR1 a minute before its time ends (--signal=B:USR1@60, unless something
else is given), upon which a training saves.
A job that waits for what does not come by itself, such as more nodes than there are, is cancelled after some 5 s.
A task that has left the queue without a status has failed 10 s later: file systems are late.
Exit status: 0 when all tasks ended with 0; 1 when not; 128 + signal when interrupted, which cancels the job.

The option file says what to call, and what the options add to it, $0 being the value:
"""

import re
import sys

import scheduler

# A node's name need be none that others find it by; its address is, and is the name where nothing else was configured.
FIRST_NODE = """\
if [ -z "${MASTER_ADDR:-}" ]; then
  node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  address=$(scontrol -o show node "$node" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
  export MASTER_ADDR=${address:-$node}
fi
export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
"""
# Slurm gives this reason also where nodes are only down at present.
MORE_NODES = "PartitionNodeLimit: more nodes than the partition has"


class Slurm:
    """What scheduler.Call needs to know about Slurm.

    Args:
        options: option_file.OptionFile.
    """

    PROGRAM, CONFIG = "slurm.py", "conf/slurm.conf"
    OPTIONS = """\
command sbatch
option mem=* --mem-per-cpu $0
option mem=0
option num_threads=* --cpus-per-task $0
option num_nodes=* --nodes $0
option time=* --time $0
option gpu=* --gres=gpu:$0
option gpu=0
"""
    CANCEL = ["scancel"]
    HOPELESS = {
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionConfig",
        "PartitionTimeLimit",
        MORE_NODES,
    }
    # For the job script.
    TASK, JOB_ID = "SLURM_ARRAY_TASK_ID", "$SLURM_JOB_ID"
    TRAPS = """\
# Near the end of the time, sbatch --signal=B:USR1@60 tells this script only.
trap 'signalled=true; tell USR1' USR1"""
    REQUEUE = 'scontrol requeue "$SLURM_JOB_ID" && sleep 60 # which ends this script'

    def __init__(self, options):
        self.options = options

    def launch(self, line):
        """What the job script puts before ``bash -c COMMAND``."""
        if "num_nodes" not in line.options:
            return ""
        return FIRST_NODE + f"srun --kill-on-bad-exit=1 --cpus-per-task={line.number('num_threads', 1)} "

    def words(self, call):
        """Words for sbatch that follow from the call."""
        line, output = call.line, str(call.output).replace("%", "%%")
        words = ["--parsable", "--open-mode=append", f"--output={output}"]
        words.append(f"--job-name={line.options.get('name', call.base.name)}")
        if None not in call.tasks.values():
            limit = f"%{line.number('max_jobs_run')}" if "max_jobs_run" in line.options else ""
            tasks = sorted(call.tasks.values())
            words.append(f"--array={tasks[0]}-{tasks[-1]}{limit}")
        if line.name is None and not any("--signal" in word for word in (*self.options.command, *line.passed)):
            words.append("--signal=B:USR1@60")  # tasks of an array would lose their last minute to no end
        if "num_nodes" in line.options:
            words.append(f"--ntasks-per-node={max(1, line.number('gpu', 0))}")
        return words

    def queue(self, job):
        """{task: why it waits, "" when that is not known, None when it does not wait} of the job's tasks in the queue.

        The task is None when the job is no array. The answer is None when there is no answer.
        """
        code, out, error = scheduler.ask(["squeue", "-h", "-r", "-j", job, "-o", "%i|%T|%r"])
        if code != 0:
            return {} if "Invalid job id" in error else None
        found = {}
        for line in out.splitlines():
            task, state, reason = line.split("|", 2)
            task = int(task.partition("_")[2]) if "_" in task else None
            if reason == "PartitionNodeLimit" and self._asks_more_nodes(job):
                reason = MORE_NODES
            found[task] = ("" if reason == "None" else reason) if state in ("PENDING", "CONFIGURING") else None
        return found

    def _asks_more_nodes(self, job):
        _, job, _ = scheduler.ask(["scontrol", "-o", "show", "job", job])
        asked, name = re.search(r" NumNodes=(\d+)", job), re.search(r" Partition=([^ ,]+)", job)
        if not asked or not name:
            return False
        _, partition, _ = scheduler.ask(["scontrol", "-o", "show", "partition", name[1]])
        limits = re.findall(r" (?:TotalNodes|MaxNodes)=(\d+)", partition)  # the second may be UNLIMITED
        return any(int(asked[1]) > int(limit) for limit in limits)

    def is_of(self, job, script):
        """Whether the job, if there is one of this number, runs ``script``."""
        return str(script) in scheduler.ask(["squeue", "-h", "-j", job, "-o", "%o"])[1]

    def explain(self, job):
        """What else is known of why it waits."""
        return ""

    def post_mortem(self, job, task):
        """(code, signal, why) of a task that is gone, from what Slurm remembers for some minutes, or None."""
        _, out, _ = scheduler.ask(["scontrol", "-o", "show", "job", job if task is None else f"{job}_{task}"])
        state = re.search(r"JobState=(\S+)", out)
        ended = re.search(r"ExitCode=(\d+):(\d+)", out)
        if not state:
            return None
        code, number = (int(ended[1]), int(ended[2])) if ended else (0, 0)
        return code or 1, number, f"{state[1]} by Slurm; it left no status"


if __name__ == "__main__":
    usage = __doc__ + "\n" + "".join(f"  {line}\n" for line in Slurm.OPTIONS.splitlines())
    sys.exit(scheduler.main(Slurm, sys.argv[1:], usage.rstrip()))
