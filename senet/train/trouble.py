"""Errors that come from the machine, in words that say what to do."""

import errno
import re

from senet.train.distributed import is_lost
from senet.train.updater import is_out_of_memory

_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_WORKER_DIED = re.compile("DataLoader worker.*(killed by signal|exited unexpectedly)")


def explained(error, where, folder, batch, processes):
    """What happened and what to do, of an error that comes from the machine; None for others.

    Args:
        where: in training, as in "at step 3, epoch 1". folder: that is written to.
        batch: (shape, ids) of the present one, or None.
        processes: that train together.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"{error.filename or folder}: {error.strerror}, {where}. Free some space"
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        size = f" The batch, of shape {batch[0]}, is {' '.join(batch[1])}." if batch else ""
        lower = "Lower micro_batch, batch_size or crop_seconds"
        return f"out of memory {where}: {_first_sentence(error)}.{size} {lower}"
    if processes > 1 and is_lost(error):
        return (
            f"another process of this training ended {where}, see what it said in train.log ({_first_sentence(error)})"
        )
    if isinstance(error, RuntimeError) and _WORKER_DIED.search(str(error)):
        return (
            f"a process that reads data was killed {where}: {_first_sentence(error)}. Mostly that is for want of "
            "memory, or of shared memory (/dev/shm) at a 'Bus error': lower num_workers, batch_size or crop_seconds"
        )
    return None


def _first_sentence(error):
    """Without the place in its source, which gloo puts before it."""
    return re.sub(r"^\[\S+:\d+\] ", "", str(error)).partition(". ")[0].rstrip(".") or type(error).__name__
