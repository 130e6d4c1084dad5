"""Checkpoints: whole, hashed files of tensors and plain values, with an index.

A folder holds ``step_00000400.pt`` and so on, and ``index.json``, which lists them
oldest first with SHA-256, step, epoch and score. A checkpoint exists from the moment
the index names it; anything else in the folder is the remains of a killed process and
is removed by the next save. A file whose SHA-256 differs from the index is reported and
the one before it is used.

torch is imported only to read and write states: listing a folder is instant.
"""

import hashlib
import io
import json
import logging
from pathlib import Path

from senet.errors import UserError
from senet.files import whole_file, write_json

INDEX = "index.json"
_FIELDS = ("file", "sha256", "step", "epoch", "score")


def entries(folder):
    """What the index lists, oldest first: dicts of file, sha256, step, epoch, score.

    Returns:
        list, empty when nothing has been saved.
    Raises:
        UserError: the index is damaged.
    """
    path = Path(folder) / INDEX
    if not path.exists():
        return []
    try:
        return [{k: e[k] for k in _FIELDS} for e in json.loads(path.read_text(encoding="utf-8"))["checkpoints"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: damaged: not an index of checkpoints. Restore it, or remove {folder} to start anew."
        ) from None


def save(folder, state, *, step, epoch, score=None, keep_best=1, keep_last=2):
    """Add a checkpoint and drop those that are no longer kept.

    Args:
        folder: where; made when missing.
        state: nested dict/list/tuple of tensors and plain values.
        step: updates done; entries from this step on are replaced.
        epoch: epochs completed.
        score: validation score, lower is better; None when there was no validation.
        keep_best: number of best-scored checkpoints to keep.
        keep_last: number of newest ones to keep, at least 1.
    Returns:
        Path of the new file.
    Raises:
        TypeError: something in the state is neither a tensor nor a plain value.
        UserError: the disk refused; earlier checkpoints are untouched.
    """
    import torch

    folder = Path(folder)
    _require_plain(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()

    kept = [e for e in entries(folder) if e["step"] < step]
    name = f"step_{step:08d}.pt"
    if any(e["file"] == name for e in entries(folder)):  # never overwrite what the index still names
        name = f"step_{step:08d}_b.pt"
    with whole_file(folder / name, "wb") as f:
        f.write(content)
    new = {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "step": step, "epoch": epoch, "score": score}
    kept = _worth_keeping([*kept, new], keep_best, keep_last)
    write_json(folder / INDEX, {"checkpoints": kept})

    names = {e["file"] for e in kept}
    for path in [*folder.glob("step_*.pt"), *folder.glob(".step_*.tmp")]:
        if path.name not in names:
            path.unlink(missing_ok=True)
    return folder / name


def _worth_keeping(found, keep_best, keep_last):
    best = by_score(found)[:keep_best]
    last = found[-keep_last:]
    return [e for e in found if e in best or e in last]


def by_score(found):
    """Entries that have a score, best (lowest) first, the earlier of two equal ones first."""
    return sorted((e for e in found if e["score"] is not None), key=lambda e: e["score"])


def load(folder, which="last", map_location="cpu"):
    """Read a checkpoint.

    Args:
        folder: folder of checkpoints.
        which: ``"last"``, ``"best"`` (by score; the last one when none has a score), or the
            path or name of one file of the folder.
        map_location: device for the tensors.
    Returns:
        the state as saved. A damaged file is reported as an error in the log, and the next best
        or next older one is read instead, unless it was asked for by name.
    Raises:
        UserError: there is none, or none that is undamaged.
    """
    folder = Path(folder)
    found = entries(folder)
    if not found:
        raise UserError(f"{folder}: no checkpoint there; train first (stage train)")
    if which == "last":
        wanted = found[::-1]
    elif which == "best":
        wanted = by_score(found) or found[::-1]
    else:
        wanted = [e for e in found if e["file"] == Path(which).name]
        if not wanted:
            raise UserError(f"{folder}: no checkpoint '{which}'; there are {', '.join(e['file'] for e in found)}")
    for entry in wanted:
        path = folder / entry["file"]
        problem, content = _read(path, entry["sha256"])
        if problem is None:
            return _unpickle(path, content, map_location)
        logging.error("%s: %s; NOT USED, trying the one before it", path, problem)
    raise UserError(f"{folder}: none of {', '.join(e['file'] for e in wanted)} is usable; see the messages above")


def _read(path, sha256):
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"cannot read: {error.strerror}", None
    if hashlib.sha256(content).hexdigest() != sha256:
        return "damaged: its SHA-256 is not the one in the index", None
    return None, content


def _unpickle(path, content, map_location):
    import pickle

    import torch

    try:
        return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: holds more than tensors and plain values: {error}") from None


def _require_plain(value, where="state"):
    import torch

    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _require_plain(item, f"{where}[{i}]")
    elif type(value) not in (torch.Tensor, torch.nn.Parameter, bool, int, float, str, bytes, type(None)):
        raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")
