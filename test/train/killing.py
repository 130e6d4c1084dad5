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
from senet.models import lowlatency  # noqa: F401
from senet.train import experiment, trainer  # noqa: F401


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


def killed_often(folder, expdir, number, times, longest):
    """End the run ``times`` times at random moments, then let it finish; the exit statuses and the seconds to exit."""
    rng, statuses, waits = random.Random(0), [], []
    while len(statuses) < times:
        pid = start(folder, expdir)
        time.sleep(rng.uniform(0.0, longest))
        sent = time.monotonic()
        os.kill(pid, number)
        status = wait(pid)
        waits.append(time.monotonic() - sent)
        statuses.append(status)
        if status == 0:  # it was done before the signal came
            break
    finish(folder, expdir)
    return {"statuses": statuses, "longest_wait": max(waits)}


def main(folder, kills, terms):
    begin = time.monotonic()
    finish(folder, "undisturbed")
    longest = (time.monotonic() - begin) / 6  # so that there are many kills before it is done
    report = {
        "killed": killed_often(folder, "killed", signal.SIGKILL, int(kills), longest),
        "terminated": killed_often(folder, "terminated", signal.SIGTERM, int(terms), longest),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
