"""What training says while it runs: log lines, train.jsonl, status.json, and TensorBoard where it is wanted.

``train.jsonl`` has one object per line. ``{"event": "train", "step", "epoch", "loss", ..., "lr", "grad_norm"}`` holds
means over the updates since the line before; ``{"event": "valid", "step", "epoch", "loss", ..., "train_loss",
"best"}`` means over the validation utterances, after each epoch. Epochs count from 1. ``seconds`` (of training so far),
``steps_per_second``, ``audio_per_second`` (seconds of audio per second) and ``waiting`` (share of the time in which
training waits for its data) depend on the machine, the rest does not.
"""

import json
import logging
import os
from pathlib import Path

from senet.files import whole_file
from senet.train.status import Status

log = logging.getLogger("senet.train")


class TrainLog:
    """Writes the records of one experiment; within ``with``, after which its status says how it ended.

    Args:
        expdir: experiment folder.
        lines: how many records of an earlier run stand; later ones are cut off, because their steps are repeated.
        step: the step this run starts from.
        progress: see ``senet.train.status.Status``.
        board: makes a ``senet.train.board.Board`` of that step; None: no TensorBoard.
    """

    def __init__(self, expdir, lines, step, progress, board=None):
        self.lines = lines
        path = Path(expdir) / "train.jsonl"
        kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines] if path.exists() else []
        with whole_file(path) as f:
            f.writelines(kept)
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self.status = Status(expdir, progress, _last_records(kept))
        self.board = board(step) if board else None

    def __enter__(self):
        self.status.beat()
        return self

    def __exit__(self, kind, error, trace):
        self.close()
        self.status.end(error)

    def write(self, record):
        """One record into every log; it is on its way to the disk when this returns."""
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        self.lines += 1
        self.status.add(record)
        if self.board:
            self.board.add(record)

    def listen(self, model, step):
        """After a validation: what the model makes of the board's utterances."""
        if self.board:
            self.board.listen(model, step)

    def sync(self):
        """Before a checkpoint counts the lines, they are on the disk."""
        os.fsync(self.file.fileno())

    def close(self):
        self.file.close()
        if self.board:
            self.board.close()


class Silent:
    """In place of ``TrainLog`` in processes that write nothing."""

    lines = 0

    @property
    def status(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def write(self, record):
        pass

    def listen(self, model, step):
        pass

    def beat(self):
        pass


def _last_records(lines):
    """Of the lines of train.jsonl, the last of training, then all of validation."""
    train = next((line for line in reversed(lines) if '"event": "train"' in line[:40]), None)
    return map(json.loads, [*([train] if train else []), *(line for line in lines if '"event": "valid"' in line[:40])])


class Mean:
    """Running means of named values, which survive in a checkpoint as plain numbers."""

    def __init__(self, sums=None, weight=0):
        self.sums, self.weight = dict(sums or {}), weight

    @classmethod
    def of(cls, states):
        """Of all that went into several means, given by their ``state_dict``."""
        found = cls()
        for state in states:
            for name, value in state["sums"].items():
                found.sums[name] = found.sums.get(name, 0.0) + value
            found.weight += state["weight"]
        return found

    def add(self, values, weight=1):
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * weight
        self.weight += weight

    def values(self):
        return {name: total / self.weight for name, total in self.sums.items()} if self.weight else {}

    def state_dict(self):
        return {"sums": dict(self.sums), "weight": self.weight}


def clock(seconds):
    """``1:02:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
