"""Signals that ask for an orderly end. Nothing heavy is imported here: they may come while that is being done."""

import contextlib
import os
import signal

# SIGUSR1: Slurm (sbatch --signal) and GridEngine (-notify) warn by it; SIGUSR2: GridEngine, before it kills.
STOPPING = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2

# Exit status (EX_TEMPFAIL) that says: what was done is saved, and the same command continues. utils/slurm.py and
# queue.py put such a job back into the queue.
AGAIN = 75


@contextlib.contextmanager
def on_stop(call):
    """Within this, ``call(signal)`` in place of what a signal of ``STOPPING`` does; not in processes forked here."""
    pid = os.getpid()

    def handle(number, frame):
        if os.getpid() == pid:
            call(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop(*_):
    """For a helper process: it ends with the one that it works for, not by a signal that a scheduler sends to all."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
