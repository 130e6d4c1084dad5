"""How every parallel stage divides its work.

The work list is cut into shards of a fixed number of items, whatever the number
of jobs; job ``j`` of ``n`` does shards ``j-1, j-1+n, ...``. A shard's output is
written whole (``senet.files``), and a shard whose output exists is skipped. So the
bytes on disk do not depend on the number of jobs, and a killed job loses at most
one shard's work.

Commands take ``--job J/N`` (do that share, as ``JOB=1:N`` of ``cmd.sh`` gives it),
or ``--collect`` (check that every shard is there and write the final manifests);
with neither they do everything in one process.
"""

import argparse
from typing import NamedTuple

from senet.errors import UserError


class Shard(NamedTuple):
    index: int  # 0-based
    start: int  # first item
    stop: int  # one past the last item

    @property
    def name(self):
        """Zero-padded, so that file names sort in the order of the items."""
        return f"{self.index + 1:06d}"


def all_shards(n_items, shard_size):
    return [Shard(i, s, min(s + shard_size, n_items)) for i, s in enumerate(range(0, n_items, shard_size))]


def my_shards(n_items, shard_size, job=None):
    """The shards of ``job = (j, n)``, or all of them when ``job`` is None."""
    shards = all_shards(n_items, shard_size)
    if job is None:
        return shards
    j, n = job
    return shards[j - 1 :: n]


def parse_job(text):
    """``"2/8"`` -> ``(2, 8)``."""
    try:
        j, n = (int(x) for x in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form J/N, such as 2/8") from None
    if not 1 <= j <= n:
        raise argparse.ArgumentTypeError(f"'{text}': J must be between 1 and N")
    return j, n


def add_arguments(parser):
    group = parser.add_argument_group("parallel jobs")
    group.add_argument("--job", type=parse_job, metavar="J/N", help="do only the J-th of N shares")
    group.add_argument(
        "--collect", action="store_true", help="only check that all shares are done and write the manifests"
    )


def require_all(paths, command):
    """Raise UserError when one of a stage's shard outputs is not there."""
    missing = [p for p in paths if not p.exists()]
    if missing:
        raise UserError(
            f"{missing[0]}: missing ({len(missing)} of {len(paths)} shards are not done); "
            f"run '{command}' again without --collect"
        )
