"""One process per GPU of this machine, and one exit status for all of them.

It is what ``torchrun --standalone --nproc_per_node N`` does, with three differences that a scheduler needs: SIGUSR1
reaches the processes, they have as long to save as they take, and a status of 75 (saved; run me again) stays one.
torchrun itself, or srun, may start the processes as well: see ``senet.train.distributed``.
"""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import time

from senet.signals import AGAIN, on_stop

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds for the others to end by themselves, and again after SIGTERM, when one has failed


def launch(command, n, grace=GRACE):
    """Run ``command``, a list of words, ``n`` times with ranks 0 to ``n`` - 1; signals that stop are passed on.

    Returns:
        0 when all ended so; ``AGAIN`` when the others ended with that; else the status of the one that failed first,
        128 + signal where it was killed.
    """
    port = str(_free_port())
    processes = []
    with on_stop(lambda number: _send(processes, number)):
        for rank in range(n):
            place = {"RANK": rank, "WORLD_SIZE": n, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": n}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            # A session of its own: Ctrl-C of a terminal comes from here, once.
            environ = os.environ | {name: str(value) for name, value in place.items()}
            processes.append(
                subprocess.Popen(command, env=environ, start_new_session=True, preexec_fn=_die_with_parent)
            )
        return _wait(processes, grace)


def _die_with_parent():
    """On Linux: in its session, nothing else would end it when this process is killed."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _wait(processes, grace):
    failed, end, sent = None, None, []
    while (codes := [process.poll() for process in processes]) and None in codes:
        bad = [rank for rank, code in enumerate(codes) if code not in (None, 0, AGAIN)]
        if bad and failed is None:
            failed, end = bad[0], time.monotonic() + grace
            log.error("rank %d %s; the others are ended", failed, _how(codes[failed]))
        if end and time.monotonic() > end and len(sent) < 2:
            sent.append((signal.SIGTERM, signal.SIGKILL)[len(sent)])
            _send(processes, sent[-1])
            end = time.monotonic() + grace
        time.sleep(0.05)
    if failed is not None:
        return _status(codes[failed])
    wrong = [code for code in codes if code not in (0, AGAIN)]
    return _status(wrong[0]) if wrong else max(codes)


def _send(processes, number):
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _status(code):
    return 128 - code if code < 0 else code


def _how(code):
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
