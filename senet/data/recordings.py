"""Lists of recordings, a million long if need be, and the source sets that they are written to."""

import itertools
import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from senet.data.scp import spk2utt, write_table


class Source(NamedTuple):
    """One recording."""

    utt: str
    spk: str
    value: str  # path
    num_samples: int  # per channel, at the file's own rate
    sample_rate: int  # Hz
    channels: int
    fingerprint: str
    noise_type: str  # of noise
    recording: str  # shared by files that were cut from one recording; else the id


class Sources:
    """Recordings in columns; ``sources[i]`` and iteration give a Source. Paths are held as (folder, name)."""

    _LISTS = ("utt", "spk", "folder", "name", "noise_type", "recording")  # recording: None where it is the id
    _ARRAYS = {"num_samples": np.int64, "sample_rate": np.int32, "channels": np.int16, "fingerprint": "S32"}

    def __init__(self, rows=()):
        """From rows: tuples of what _LISTS and _ARRAYS name."""
        names = (*self._LISTS, *self._ARRAYS)
        for name, values in zip(names, list(zip(*rows, strict=True)) or [()] * len(names), strict=True):
            setattr(self, name, np.array(values, self._ARRAYS[name]) if name in self._ARRAYS else list(values))

    @classmethod
    def join(cls, parts):
        """All rows of a list of Sources."""
        if len(parts) == 1:
            return parts[0]
        whole = cls()
        for name in cls._LISTS:
            setattr(whole, name, list(itertools.chain.from_iterable(getattr(part, name) for part in parts)))
        for name, kind in cls._ARRAYS.items():
            setattr(whole, name, np.concatenate([np.empty(0, kind), *(getattr(part, name) for part in parts)]))
        return whole

    def take(self, rows):
        """The Sources of an array of row numbers or of booleans."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        part = Sources()
        for name in self._LISTS:
            setattr(part, name, list(map(getattr(self, name).__getitem__, rows)))
        for name in self._ARRAYS:
            setattr(part, name, getattr(self, name)[rows])
        return part

    def sort(self):
        """By id, in place: one column after the other, so that there are never two of all."""
        order = sorted(range(len(self)), key=self.utt.__getitem__)
        for name in self._LISTS:
            setattr(self, name, list(map(getattr(self, name).__getitem__, order)))
        for name in self._ARRAYS:
            setattr(self, name, getattr(self, name)[order])

    def __len__(self):
        return len(self.utt)

    def __getitem__(self, i):
        return Source(*(next(self.values(field, [i])) for field in Source._fields))

    def __iter__(self):
        return map(self.__getitem__, range(len(self)))

    def values(self, field, rows=None):
        """Iterator over a field of Source, of some rows or of all."""
        rows = range(len(self)) if rows is None else rows
        if field == "value":
            return (os.path.join(self.folder[i], self.name[i]) for i in rows)
        if field == "recording":
            return (self.recording[i] or self.utt[i] for i in rows)
        column = getattr(self, field)
        if field == "fingerprint":
            return (column[i].decode() for i in rows)
        return (column[i] for i in rows) if field in self._LISTS else (int(column[i]) for i in rows)

    def hours(self):
        return float((self.num_samples / self.sample_rate).sum()) / 3600


def write_set(folder, sources, kind):
    """Write a source set; wav.scp comes last, so a set that has it is complete."""
    folder = Path(folder)
    (folder / "wav.scp").unlink(missing_ok=True)
    columns = {
        "utt2spk": "spk",
        "utt2num_samples": "num_samples",
        "utt2fs": "sample_rate",
        "utt2fingerprint": "fingerprint",
        "utt2recording": "recording",
        **({"utt2noise": "noise_type"} if kind == "noise" else {}),
        "wav.scp": "value",
    }
    for name, field in columns.items():
        if name == "wav.scp":
            write_table(folder / "spk2utt", spk2utt(zip(sources.utt, sources.spk, strict=True)))
        write_table(folder / name, zip(sources.utt, sources.values(field), strict=True), sort=False)
    logging.info(
        "%s: %d recordings, %d %s, %.2f h",
        folder,
        len(sources),
        len(set(sources.spk)),
        "speakers" if kind == "speech" else "sources",
        sources.hours(),
    )
