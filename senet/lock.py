"""One process at a time in a folder, also where the folder is seen from several machines.

The kernel's lock on ``<folder>/.lock`` ends with the process that holds it, however that ends. Some network file
systems keep locks to each machine, or have none. So the holder also changes the file every few seconds, and whoever
finds that it belongs to a process elsewhere looks on for a while: a process that was killed does not stir.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
import time
from pathlib import Path

from senet.errors import UserError

PULSE = 2.0  # seconds between two signs of life
PATIENCE = 15.0  # without one, after which a process is taken for dead; file systems show changes late


class Lock:
    """Held within ``with``; the file says host, pid, and since when.

    Args:
        folder: made when missing.
    Raises:
        UserError: another process holds it; names it. Or nothing can be written there.
    """

    def __init__(self, folder):
        self.path = Path(folder) / ".lock"

    def __enter__(self):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise UserError(
                f"{error.filename or self.path}: cannot write: {error.strerror}; choose a folder where you may"
            ) from error
        try:
            self._take()
        except BaseException:
            self.file.close()
            raise
        self.released = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.released.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.file.truncate(0)
        self.file.close()

    def _take(self):
        ours, known = _try(self.file), _holder(self.file)
        if ours is False or (known and not (ours and known["host"] == platform.node()) and self._lives(known)):
            raise UserError(
                f"{self.path.parent}: in use by {_name(known)}. Wait until that ends, or end it; "
                "or take another folder (--tag of run.sh, --expdir of senet train, -o of senet enhance)"
            )
        self.file.truncate(0)
        record = {"host": platform.node(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def _lives(self, known):
        """Whether the file changes while we look."""
        before, end = self._stirred(), time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(PULSE / 4)
            if self._stirred() != before:
                return True
        return False

    def _stirred(self):
        return os.fstat(self.file.fileno()).st_mtime_ns

    def _live(self):
        while not self.released.wait(PULSE):
            with contextlib.suppress(OSError):
                os.utime(self.file.fileno())


def _try(file):
    """True: locked; False: another process has the lock; None: there are no locks here."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def _holder(file):
    """{host, pid, since} of who holds the lock, or was killed with it; None: nobody, or it is being written."""
    file.seek(0)
    try:
        return json.loads(file.read())
    except ValueError:
        return None


def _name(known):
    return "process {pid} on {host} since {since}".format(**known) if known else "another process"
