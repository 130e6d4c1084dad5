"""Run senet.bin.train in forked children, so that one import of torch serves many kills. Prints JSON.

Usage: killing.py FOLDER KILLS TERMS    (FOLDER has conf.yaml, train/, valid/)
"""

import json
import os
import random
import signal
import sys
import time
import traceback

import torch._dynamo  # noqa: F401 (this and the next: what the children need, imported once; optimisers want this one)
import torch.optim.lr_scheduler  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

from senet.bin import run, train
from senet.data import dataset  # noqa: F401
from senet.models import lowlatency, segan  # noqa: F401
from senet.train import adversarial, experiment, trainer  # noqa: F401


def start(folder, expdir):
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.chdir(folder)
            log = os.open(f"{expdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 (pytest's or ours is gone)
            argv = ["--config", "conf.yaml", "--train", "train", "--valid", "valid", "--num_threads", "1"]
            status = run(train.main, [*argv, "--expdir", expdir])
        except SystemExit as stop:
            status = stop.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def finish(folder, expdir):
    status = wait(start(folder, expdir))
    assert status == 0, f"exit status {status}, see {expdir}.log"


def progress(folder, expdir):
    """Changes with every log line and every checkpoint."""
    stats = []
    for name in ("train.jsonl", "checkpoints/index.json"):
        try:
            stat = os.stat(os.path.join(folder, expdir, name))
        except FileNotFoundError:
            continue
        stats.append((name, stat.st_size, stat.st_mtime_ns))
    return stats


def wait_for_progress(pid, folder, expdir, events):
    """Until so many log lines or checkpoints have come, or the run has ended."""
    seen = progress(folder, expdir)
    while events and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
        now = progress(folder, expdir)
        if now != seen:
            seen, events = now, events - 1


def killed_often(folder, expdir, number, times):
    """End the run ``times`` times at random moments, then let it finish; the exit statuses and the seconds to exit.

    The moments are told by progress: up to five events and a random part of the time between two. A fast machine is
    then not done before it was ended that often.
    """
    rng, statuses, waits = random.Random(0), [], []
    between = seconds_between_events(folder, "undisturbed")
    while len(statuses) < times and 0 not in statuses:  # 0: it was done before the signal came
        pid = start(folder, expdir)
        wait_for_progress(pid, folder, expdir, rng.randrange(6))
        time.sleep(rng.random() * between)
        sent = time.monotonic()
        os.kill(pid, number)
        statuses.append(wait(pid))
        waits.append(time.monotonic() - sent)
    finish(folder, expdir)
    return {"asked": times, "statuses": statuses, "longest_wait": max(waits)}


def seconds_between_events(folder, expdir):
    """Between the log lines of a finished run, in the mean."""
    with open(os.path.join(folder, expdir, "record.json")) as record:
        seconds = json.load(record)["training_seconds"]
    with open(os.path.join(folder, expdir, "train.jsonl")) as lines:
        return seconds / sum(1 for _ in lines)


def main(folder, kills, terms):
    finish(folder, "undisturbed")
    report = {
        "killed": killed_often(folder, "killed", signal.SIGKILL, int(kills)),
        "terminated": killed_often(folder, "terminated", signal.SIGTERM, int(terms)),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
