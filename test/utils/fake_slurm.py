#!/usr/bin/env python3
"""Stands in for sbatch, squeue, scancel and scontrol, by the name it is called by; what it does wrong says FAKE_SLURM.

refuse: no job is taken. pending: it waits with the reason in FAKE_REASON. vanish: it is forgotten. kill: the script is
killed. limit: so, for its time is over. late: status first, log a second later. preempt: ended once by SIGTERM, back in
the queue, then run.
Everything is in the folder FAKE_FOLDER: `job` (the script), `calls`, `pid.<task>`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

name, words, folder = Path(sys.argv[0]).name, sys.argv[1:], Path(os.environ["FAKE_FOLDER"])
wrong = os.environ.get("FAKE_SLURM", "")
with open(folder / "calls", "a") as calls:
    print(name, *words, file=calls)


def running(task):
    pid = int((folder / f"pid.{task}").read_text())
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_task(task, delay=0.0):
    command = f"sleep {delay}; exec bash {words[-1]}"
    environment = {**os.environ, "SLURM_JOB_ID": f"7{task}", "SLURM_ARRAY_TASK_ID": str(task)}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["bash", "-c", command], env=environment, start_new_session=True, **quiet)
    (folder / f"pid.{task}").write_text(str(process.pid))
    return process


tasks = sorted(int(path.suffix[1:]) for path in folder.glob("pid.*"))
if name == "sbatch":
    if wrong == "refuse":
        sys.exit("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    array = next((word.split("=")[1] for word in words if word.startswith("--array")), "1")
    first, _, last = array.partition("%")[0].partition("-")
    (folder / "array").write_text(array)
    if wrong == "late":
        text = Path(words[-1]).read_text()
        log, status = Path("x.log"), Path("q/x.1.status")
        assert str(log) in text and "q/x." in text
        write = f"sleep 1; printf 'a late line\\n# Finished at now with status 3\\n' > {log}"
        subprocess.Popen(["bash", "-c", write], start_new_session=True, stdout=subprocess.DEVNULL)
        status.write_text('{"code": 3, "signal": 0}')
    elif wrong == "preempt":
        Path("q/x.1.status").write_text('{"code": 143, "signal": 15}')
        run_task(1, delay=2)
    elif wrong not in ("pending", "vanish"):
        for task in range(int(first), int(last or first) + 1):
            process = run_task(task)
            if wrong in ("kill", "limit"):
                time.sleep(0.5)
                if wrong == "limit":
                    output = next(word.partition("=")[2] for word in words if word.startswith("--output="))
                    Path(output).write_text("slurmstepd: error: *** JOB 7 ON n CANCELLED AT t DUE TO TIME LIMIT ***\n")
                os.killpg(process.pid, signal.SIGKILL)
    print("7")
elif name == "squeue" and "%o" not in words:
    if wrong == "pending":
        print(f"7|PENDING|{os.environ['FAKE_REASON']}")
    for task in filter(running, tasks):
        print(f"7_{task}|RUNNING|None" if "-" in (folder / "array").read_text() else "7|RUNNING|None")
elif name == "scancel":
    for task in filter(running, tasks):
        os.killpg(int((folder / f"pid.{task}").read_text()), signal.SIGTERM)
elif name == "scontrol" and words[0] == "requeue":
    os.killpg(int((folder / f"pid.{words[1][1:]}").read_text()), signal.SIGKILL)
elif name == "scontrol" and wrong == "pending":
    print(
        "JobId=7 Partition=cpu NumNodes=2-2"
        if words[2] == "job"
        else "PartitionName=cpu MaxNodes=UNLIMITED TotalNodes=1"
    )
elif name == "scontrol" and wrong == "kill":
    print("JobId=7 JobState=OUT_OF_MEMORY ExitCode=0:9")
