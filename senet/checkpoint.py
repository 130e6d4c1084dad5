"""Checkpoints: whole, hashed files of tensors and plain values, with an index.

A folder holds ``step_00000400.pt`` and so on, and ``index.json``, which lists them
oldest first with SHA-256, step, epoch, score, and whether it is of the regular series,
one every so many steps or epochs. A checkpoint exists from the moment the index names
it; another one in the folder is the remains of a killed process, or of an index that was
lost: it is not used, and goes only by being replaced. A file whose SHA-256 differs from the index is
reported and the one before it is used. So is a damaged or missing index:
``index_before.json`` is the one before the last save.

torch is imported only to read and write states: listing a folder is instant.
"""

import functools
import hashlib
import io
import itertools
import json
import logging
from pathlib import Path

from senet.errors import UserError
from senet.files import whole_file, write_json

INDEX, BEFORE = "index.json", "index_before.json"
_FIELDS = ("file", "sha256", "step", "epoch", "score")
_DAMAGED = ValueError, KeyError, TypeError, AttributeError  # what reading another thing than an index ends with
_ALWAYS = 2  # newest ones that are kept in any case, so that there is one before a damaged one


def entries(folder):
    """What the index lists, oldest first: dicts of file, sha256, step, epoch, score, regular.

    Returns:
        list, empty when nothing has been saved.
    Raises:
        UserError: the index is damaged, or missing beside checkpoints, and there is none before it.
    """
    path = Path(folder) / INDEX
    try:
        return _listed(path)
    except FileNotFoundError:
        problem, content = "missing", b""
        if not path.with_name(BEFORE).exists() and not any(path.parent.glob("step_*.pt")):
            return []
    except _DAMAGED:
        problem, content = "damaged", path.read_bytes()
    try:
        before = _listed(path.with_name(BEFORE))
    except (OSError, *_DAMAGED):
        raise UserError(
            f"{path}: {problem}, and there is no {BEFORE} to go by. Restore it, or remove {folder} to start anew."
        ) from None
    _tell_once(path, problem, content)
    return before


@functools.cache
def _tell_once(path, problem, content):
    """Of one content of the file, and not each time that it is looked at."""
    logging.error("%s: %s; NOT USED, going by %s, without the last checkpoint", path, problem, BEFORE)


def _listed(path):
    index = json.loads(path.read_text(encoding="utf-8"))
    if index.get("sha256") not in (None, _digest(index["checkpoints"])):  # None: of an earlier version
        raise ValueError
    return [{k: e[k] for k in _FIELDS} | {"regular": e.get("regular", True)} for e in index["checkpoints"]]


def _digest(listed):
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def save(folder, state, *, step, epoch, score=None, regular=True, keep_best=1, keep_last=0):
    """Add a checkpoint and drop those that are no longer kept.

    Args:
        folder: where; made when missing.
        state: nested dict/list/tuple of tensors and plain values.
        step: updates done; entries from this step on are replaced.
        epoch: epochs completed.
        score: validation score, lower is better; None when there was no validation.
        regular: whether it is of the series whose last ones are averaged or scored; not one that an interruption made.
        keep_best: number of best-scored checkpoints to keep, besides the newest two.
        keep_last: number of the last regular ones to keep, besides the newest two.
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

    before = entries(folder)
    if not (folder / INDEX).exists():  # so that there is never a checkpoint without one
        _write_index(folder / INDEX, before)
    _remove(folder, _dropped_before(folder), before)  # if the process that did that save was killed
    kept = [e for e in before if e["step"] < step]
    name = f"step_{step:08d}.pt"
    if any(e["file"] == name for e in before):  # never overwrite what the index still names
        name = f"step_{step:08d}_b.pt"
    with whole_file(folder / name, "wb") as f:
        f.write(content)
    new = {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "step": step, "epoch": epoch, "score": score}
    new["regular"] = regular
    kept = _worth_keeping([*kept, new], keep_best, keep_last)
    if before:
        _write_index(folder / BEFORE, before)
    _write_index(folder / INDEX, kept)
    _remove(folder, before, kept)
    for path in folder.glob(".step_*.tmp"):
        path.unlink(missing_ok=True)
    return folder / name


def _write_index(path, listed):
    write_json(path, {"checkpoints": listed, "sha256": _digest(listed)})


def _dropped_before(folder):
    """What the index before the last save names, perhaps no longer needed."""
    try:
        return _listed(folder / BEFORE)
    except (OSError, *_DAMAGED):
        return []


def _remove(folder, listed, kept):
    """The files of the first entries that are not in the second: never one that no index has named."""
    for name in {e["file"] for e in listed} - {e["file"] for e in kept}:
        (folder / name).unlink(missing_ok=True)


def _worth_keeping(found, keep_best, keep_last):
    kept = [*found[-_ALWAYS:], *by_score(found)[:keep_best], *series(found)[:keep_last]]
    return [e for e in found if e in kept]


def by_score(found):
    """Entries that have a score, best (lowest) first, the earlier of two equal ones first."""
    return sorted((e for e in found if e["score"] is not None), key=lambda e: e["score"])


def series(found):
    """Entries of the regular series, newest first."""
    return [e for e in reversed(found) if e["regular"]]


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
    found = _some(folder)
    if which == "last":
        wanted = found[::-1]
    elif which == "best":
        wanted = by_score(found) or found[::-1]
    else:
        wanted = [e for e in found if e["file"] == Path(which).name]
        if not wanted:
            raise UserError(f"{folder}: no checkpoint '{which}'; there are {_names(found)}")
    for _, state in _usable(folder, wanted, map_location):
        return state
    raise UserError(
        f"{folder}: none of {_names(wanted)} is usable; see the messages above. Restore one from a copy, or remove "
        f"{folder.parent} to train anew"
    )


def load_file(path, map_location="cpu"):
    """The state in one file, wherever it lies; an index beside it that lists it knows whether it is damaged."""
    path = Path(path)
    if any(e["file"] == path.name for e in entries(path.parent)):
        return load(path.parent, path.name, map_location)
    try:
        return _unpickle(path, path.read_bytes(), map_location)
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None


def digest_of(tensors):
    """Hexadecimal SHA-256 of {name: tensor}, names and values."""
    import torch

    h = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        h.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def load_mean(folder, which, count, entry="model", map_location="cpu"):
    """The mean of a dict of tensors over several checkpoints.

    Args:
        folder, map_location: as for ``load``.
        which: ``"best"`` (by score) or ``"last"`` (of the regular series).
        count: number of checkpoints; a damaged one is reported, and the next one taken in its place.
        entry: of the state, which holds the tensors.
    Returns:
        dict: arithmetic means; tensors of integers, such as counters, as in the newest of the checkpoints.
    Raises:
        UserError: there are fewer than ``count``.
    """
    import torch

    folder = Path(folder)
    found = _some(folder)
    wanted = by_score(found) if which == "best" else series(found)
    used = list(itertools.islice(_usable(folder, wanted, map_location, entry), count))
    if len(used) < count:
        what = "with a validation score" if which == "best" else "of the regular series"
        raise UserError(
            f"{folder}: the mean of {count} checkpoints is wanted, and only {len(used)} {what} can be used; there are "
            f"{_names(found)}. A training with keep_{which}: {count} keeps enough"
        )
    states = [state for _, state in sorted(used, key=lambda pair: pair[0]["step"])]
    for state in states:
        require_fit(states[-1], state)

    def mean(name, newest):
        floats = newest.is_floating_point() or newest.is_complex()
        return torch.stack([state[name] for state in states]).mean(0) if floats else newest

    return {name: mean(name, newest) for name, newest in states[-1].items()}


def require_fit(expected, found, what="model"):
    """Refuse tensors of another model or configuration, naming the first that differs.

    Args:
        expected, found: dicts of tensors: the model's, and the checkpoint's.
        what: "model", or another network, for messages.
    """
    for name in [*expected, *(n for n in found if n not in expected)]:
        shapes = [tuple(state[name].shape) if name in state else "absent" for state in (found, expected)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the checkpoint is of another {what}: '{name}' is {shapes[0]} in the checkpoint and {shapes[1]} in "
                f"the {what}; config.yaml was changed after training, or two experiments were mixed"
            )


def _some(folder):
    found = entries(folder)
    if not found:
        raise UserError(f"{folder}: no checkpoint there; train first (stage train)")
    return found


def _names(found):
    return ", ".join(e["file"] for e in found)


def _usable(folder, wanted, map_location, part=None):
    """Yield (entry, state or one part of it) of the undamaged ones, in the order given."""
    for entry in wanted:
        path = folder / entry["file"]
        problem, content = _read(path, entry["sha256"])
        if problem is None:
            state = _unpickle(path, content, map_location)
            yield entry, state if part is None else state.get(part, {})
        else:
            logging.error("%s: %s; NOT USED, trying the one before it", path, problem)


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
