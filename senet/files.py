"""Files that appear whole or not at all.

A reader never sees half a file: it is written beside its final place under a
hidden temporary name, flushed to the disk, and renamed. The temporary name is
fixed, so the remains of a killed job are overwritten by the next one.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from senet.errors import UserError


@contextlib.contextmanager
def whole_file(path, mode="w", durable=True):
    """Open ``path`` for writing so that it appears complete, or not at all.

    Args:
        path: the final name; missing parent folders are made.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.
        durable: wait until it is on the disk. Otherwise a machine that loses its power soon after may leave an empty
            file: for what whoever goes on looks into, and makes again.
    Yields:
        the open file. An exception inside the block removes the temporary file
        and leaves an earlier ``path`` as it was.
    Raises:
        UserError: the disk refused (full, read-only, no permission); names the file.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.tmp")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, mode, **text) as f:
            yield f
            if durable:
                f.flush()
                os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        # An OSError about another file (a source that vanished, say) passes as it is.
        ours = (None, *map(str, (part, path, *path.parents)))
        if isinstance(error, OSError) and error.filename in ours:
            raise UserError(
                f"{path}: cannot write: {error.strerror or error}; "
                "what was there before is unchanged. Free some space or check the permissions, and run again."
            ) from error
        raise


def write_json(path, value):
    """Write ``value`` as indented JSON with sorted keys, whole."""
    with whole_file(path) as f:
        json.dump(value, f, indent=2, sort_keys=True, ensure_ascii=False)
        f.write("\n")


def walk_folders(root):
    """As os.walk from the top, in sorted order; links are followed, to each folder once, so that none is in itself.

    Yields:
        (path, names of the folders in it, names of its files); of the first list may be removed what is not to be
        entered.
    """
    entered = set()
    for here, folders, files in os.walk(root, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        yield here, folders, sorted(files)


def sha256(path):
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(f)


def _digest(f):  # Python 3.10 has no hashlib.file_digest
    h = hashlib.sha256()
    while block := f.read(1 << 20):
        h.update(block)
    return h.hexdigest()
