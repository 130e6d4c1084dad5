"""Data directories: manifests that describe the same utterances, line by line.

A paired set has ``wav.scp`` (noisy), ``spk1.scp`` (clean), ``noise1.scp`` where known, ``utt2spk``, ``spk2utt`` and
``utt2num_samples``; a source set has ``wav.scp``, ``utt2spk``, ``spk2utt``, ``utt2num_samples`` and ``utt2fs``, lengths
and rates being those of the file itself. All ``*.scp``, ``utt2*`` and ``text`` have the same keys; ``spk2*`` and
``cmvn.scp`` are keyed by speaker. Speakers sort as their utterances do: the speaker, and a ``-``, which sorts before
digits and letters, begin the utterance id.
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

from senet.data.scp import Scp, read_ints_and_digest
from senet.errors import UserError

FIX = "drop what is not in all files with utils/fix_data_dir.sh, or make the folder again"


class DataDir:
    """The signals of a data directory; utterance ``i`` is line ``i`` of every file.

    Args:
        path: the folder; wav.scp has to be there, the rest as it is used.
        allow_pipes: accept shell commands in place of files.
    Attributes:
        noisy, clean, noise: Scp of wav.scp, spk1.scp, noise1.scp; the last two None when absent.
    Raises:
        UserError: with ``file:line`` where a file is malformed or lacks an utterance that another has.
    """

    def __init__(self, path, allow_pipes=False):
        self.path, self.allow_pipes = Path(path), allow_pipes
        if not (self.path / "wav.scp").exists():
            raise UserError(f"{self.path / 'wav.scp'}: missing; stage 1 or 2 makes it")
        self.noisy = Scp(self.path / "wav.scp", allow_pipes)
        self.clean, self.noise = self.table("spk1.scp"), self.table("noise1.scp")

    def __reduce__(self):
        return DataDir, (self.path, self.allow_pipes)

    def table(self, name):
        """One of the files that have a line per utterance, as a Scp of these utterances; None when there is none."""
        if not (self.path / name).exists():
            return None
        scp = Scp(self.path / name, self.allow_pipes)
        for problem in key_differences(scp, self.noisy):
            raise UserError(str(problem))
        return scp

    def __len__(self):
        return len(self.noisy)

    @functools.cached_property
    def num_samples(self):
        """int64 (len,): samples of each utterance."""
        path = self.path / "utt2num_samples"
        if not path.exists():
            raise UserError(
                f"{path}: missing; stage 1 or 2 makes it, and outside a recipe utils/fix_data_dir.sh {self.path}"
            )
        values, digest = read_ints_and_digest(path)
        if digest != self.noisy.keys_digest:
            raise UserError(str(next(key_differences(Scp(path), self.noisy))))
        return values

    @functools.cached_property
    def _speakers(self):
        speakers = self.table("utt2spk")
        if speakers is None:
            raise UserError(f"{self.path / 'utt2spk'}: missing; stage 1 or 2 makes it")
        return speakers

    def speaker(self, i):
        """The speaker of utterance ``i``."""
        return self._speakers.value(i)

    def check_item(self, i):
        """The id of utterance ``i``, after a look whether all files still have it in line ``i``.

        Opening compared all lines; this is for a file that was edited in place since.
        """
        key = self.noisy.key(i)
        for scp in (self.clean, self.noise):
            if scp is not None and scp.key(i) != key:
                raise UserError(f"{scp.path}:{i + 1}: '{scp.key(i)}', but {self.noisy.path} has '{key}'; {FIX}")
        return key


class Problem(NamedTuple):
    """One fault of a data directory."""

    path: Path
    line: int | None  # from 1
    message: str
    utt: str | None = None

    def __str__(self):
        return f"{self.path}{f':{self.line}' if self.line else ''}: {self.message}"


def utterance_files(path):
    """Names of the files that have a line per utterance, sorted."""
    return _matching(path, r"(?!cmvn\.scp).+\.scp|utt2\w+|text")


def speaker_files(path):
    """Names of the files, other than spk2utt, that have a line per speaker, sorted."""
    return _matching(path, r"cmvn\.scp|spk2(?!utt$)\w+")


def _matching(path, pattern):
    return sorted(file.name for file in Path(path).iterdir() if re.fullmatch(pattern, file.name) and file.is_file())


def key_differences(scp, base):
    """Yield a Problem for each key that only one of two Scp has."""
    if scp.keys_digest == base.keys_digest:
        return
    i = j = 0
    while i < len(scp) or j < len(base):
        here = scp.key(i) if i < len(scp) else None
        there = base.key(j) if j < len(base) else None
        if here == there:
            i, j = i + 1, j + 1
        elif there is None or (here is not None and here < there):
            message = f"'{here}' is not in {base.path.name} ({len(base)} ids); {FIX}"
            yield Problem(scp.path, i + 1, message, here)
            i += 1
        else:
            message = f"'{there}' of {base.path.name}:{j + 1} is missing ({len(scp)} ids here); {FIX}"
            yield Problem(scp.path, min(i + 1, len(scp)), message, there)
            j += 1
