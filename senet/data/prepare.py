"""Source sets from folders of recordings: find, look at, name, write (``senet.data.splits`` divides them).

Only headers are read, and a fingerprint: of the content, file size and four blocks of 16 KiB spread over the file, or
of path and size alone (``name_fingerprint``). Of content, equal files have equal ones; that two different recordings
share one is next to impossible.

A corpus may have a million files: they are held in columns (``Sources``), and what was read before stays on the disk.
"""

import collections
import contextlib
import hashlib
import itertools
import json
import logging
import os
import sys
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import numpy as np

from senet.data import audio
from senet.data.naming import dns_speaker, is_noise, name_source, noise_type, recording
from senet.data.parallel import parallel_map
from senet.data.recordings import Sources
from senet.errors import UserError

_BLOCK = 1 << 14
_NAMED = 20  # broken files in one error
_AT_ONCE = 256  # files that a thread looks at: one task for each would cost more memory than all that is found


def fingerprint(path):
    """32 hexadecimal digits that equal files share."""
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        h = hashlib.blake2b(str(size).encode(), digest_size=16)
        # A file of up to four blocks is read whole.
        for i in range(4):
            f.seek(max(i * _BLOCK, (size - _BLOCK) * i // 3))
            h.update(f.read(_BLOCK))
    return h.hexdigest()


def name_fingerprint(relative, size):
    """16 hexadecimal digits that files of equal path (below the folder that is searched) and size share.

    Nothing of the file is read for it, so a copy under another name is not noticed, nor a change that keeps the size.
    """
    return hashlib.blake2b(f"{size} {relative}".encode(), digest_size=8).hexdigest()


class _Cache:
    """What was read of files before, so that a killed run goes on where it was.

    One JSON line for each look, appended; what a kill left of the last line is passed over. In memory are only a hash
    of the path and the place of the line; of several lines for a path the last one holds.
    """

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115 (closed by __exit__)
        self._file.seek(0)
        starts, hashes, line = array("q", [0]), array("q"), b"\n"
        for line in self._file:
            try:
                hashes.append(hash(json.loads(line)[0]))
            except ValueError:
                hashes.append(0)
            starts.append(starts[-1] + len(line))
        if not line.endswith(b"\n"):
            self._file.write(b"\n")
        order = np.argsort(np.array(hashes), kind="stable")
        self._hashes = array("q", np.array(hashes, np.int64)[order].tobytes())
        self._starts = array("q", np.array(starts)[:-1][order].tobytes())
        self._ends = array("q", np.array(starts)[1:][order].tobytes())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def get(self, path):
        """The fields of the last ``add`` before this run, or None."""
        key = hash(path)
        i = bisect_right(self._hashes, key) - 1
        if i < 0 or self._hashes[i] != key:
            return None
        line = os.pread(self._file.fileno(), self._ends[i] - self._starts[i], self._starts[i])
        with contextlib.suppress(ValueError):
            name, *fields = json.loads(line)
            return tuple(fields) if name == path else None

    def add(self, path, fields):
        self._file.write(json.dumps([path, *fields]).encode() + b"\n")


class _Looked(NamedTuple):
    """What a thread found out about some files."""

    sources: Sources
    errors: list
    short: int
    grouped: collections.Counter  # files for which dns_speaker knows no speaker -> the folder that stands for it
    new: list  # (path, fields) for the cache


class _Search:
    """Looks at the files of one folder. Arguments as of ``list_sources``."""

    def __init__(self, src, cache, kind, speaker, fingerprints, min_seconds):
        self.src, self.name, self.cache, self.kind = src, Path(src).resolve().name, cache, kind
        self.speaker, self.by_content, self.min_seconds = speaker, fingerprints == "content", min_seconds

    def look(self, files):
        """The _Looked of a list of (folder, name)."""
        rows, errors, short, grouped, new = [], [], 0, collections.Counter(), []
        for folder, name in files:
            path = os.path.join(folder, name)
            try:
                size, modified, frames, rate, channels, content, known = self._header(path)
            except UserError as error:
                errors.append(error)
                continue
            if not known:
                new.append((path, (size, modified, frames, rate, channels, content)))
            if frames < self.min_seconds * rate:
                short += 1
                continue
            relative = path[len(self.src) :].lstrip("/") if self.src != "." else path
            if self.speaker == "dns":  # its archives bring the folder's name along, so some have it twice
                relative = f"/{relative}".rpartition(f"/{self.name}/")[2].lstrip("/")
            print_ = content if self.by_content else name_fingerprint(relative, size)
            utt, spk = self._name(relative, grouped)
            kind = sys.intern(noise_type(relative, self.name, self.speaker)) if self.kind == "noise" else ""
            origin = recording(relative, self.kind)
            rows.append((utt, sys.intern(spk), folder, name, kind, origin, frames, rate, channels, print_))
        return _Looked(Sources(rows), errors, short, grouped, new)

    def _name(self, relative, grouped):
        if self.speaker == "dns" and self.kind != "speech":
            return name_source(relative, self.name, "file")
        utt, spk = name_source(relative, self.name, self.speaker)
        if self.speaker == "dns" and dns_speaker(relative, self.name) is None:
            grouped[spk] += 1
        return utt, spk

    def _header(self, path):
        """(size, time, samples, rate, channels, fingerprint, whether that was known); UserError says what is wrong."""
        if not path.isprintable():  # bytes that are not UTF-8, or a line break, cannot stand in a wav.scp
            raise UserError(f"{path!r}: the name has characters that cannot be printed; rename the file")
        try:
            status = os.stat(path)
            stamp = (status.st_size, status.st_mtime_ns)
            known = self.cache.get(path)
            if known and known[:2] == stamp and (known[5] or not self.by_content):
                return *known, True
            found = audio.info(path)
            content = fingerprint(path) if self.by_content else ""
            return *stamp, found.frames, found.sample_rate, found.channels, content, False
        except OSError as error:
            raise audio.AudioError(f"{path}: cannot be read: {error.strerror}", "missing") from error


def list_sources(
    folders,
    *,
    kind,
    speaker,
    cache_path,
    nj,
    bad_audio="raise",
    min_seconds=0.0,
    fingerprints="content",
):
    """All recordings below some folders.

    Args:
        folders: searched at any depth; a folder that is found twice counts once.
        kind: ``speech``, ``noise`` or ``rir``.
        speaker: see ``senet.data.naming.name_source``.
        cache_path: file that remembers what was read, for the next run.
        nj: threads.
        bad_audio: ``raise``, or ``skip`` to leave out and count files and folders that cannot be read.
        min_seconds: shorter files are left out and counted.
        fingerprints: ``content``, or ``name``: see ``name_fingerprint``.
    Returns:
        Sources, sorted by id.
    Raises:
        UserError: no such folder, nothing in it, a broken file.
    """
    parts, seen = [], set()
    with _Cache(cache_path) as cache:
        for src in map(Path, folders):
            if not src.is_dir():
                raise UserError(f"{src}: no such folder; give --src the folder that holds the recordings")
            search = _Search(str(src), cache, kind, speaker, fingerprints, min_seconds)
            parts.append(_list_folder(search, seen, nj, bad_audio))
    sources = Sources.join(parts)
    _tell_apart(sources, speaker == "file")
    sources.sort()
    return sources


def _list_folder(search, seen, nj, bad_audio):
    """The Sources below one folder, in the order of their paths."""
    parts, bad, num_bad, short, grouped = [], [], 0, 0, collections.Counter()

    def broken(error):
        nonlocal num_bad
        num_bad += 1
        if bad_audio == "skip":
            logging.warning("left out: %s", error)
        elif len(bad) < _NAMED:
            bad.append(error)

    def broken_folder(error):
        broken(f"{error.filename}: the folder cannot be read: {error.strerror}")

    # One string for each folder, not for each file.
    files = [(sys.intern(f), n) for f, n in _shorten(audio.walk_audio(search.src, seen, broken_folder))]
    if search.kind == "rir" and (noises := {file for file in files if is_noise(os.path.join(*file))}):
        files = [file for file in files if file not in noises]
        logging.info("%s: left out %d noises among the impulse responses", search.src, len(noises))
    batches = [files[i : i + _AT_ONCE] for i in range(0, len(files), _AT_ONCE)]
    total = len(files)
    del files
    what = f"{search.src}: headers read, in parts of {_AT_ONCE} files"
    with contextlib.closing(parallel_map(search.look, batches, nj, what)) as looked:
        for found in looked:
            parts.append(found.sources)
            short += found.short
            grouped += found.grouped
            for error in found.errors:
                broken(error)
            for path, fields in found.new:
                search.cache.add(path, fields)
    if bad:
        more = [f"and {num_bad - _NAMED} more"] if num_bad > _NAMED else []
        found = f"{num_bad} of {total} files in {search.src} cannot be read"
        advice = "mend them, or leave them out: --bad_audio skip, of a recipe --local_args '--bad_audio skip'"
        raise UserError("\n".join([*map(str, bad), *more, f"{found}; {advice}"]))
    sources = Sources.join(parts)
    if not len(sources):
        raise UserError(
            f"{search.src}: no recording to use ({total} audio files, {num_bad} unreadable, {short} under "
            f"{search.min_seconds:g} s); {', '.join(audio.EXTENSIONS)} files are looked for, at any depth"
        )
    _log_summary(search, sources, num_bad, short, grouped)
    return sources


def _shorten(files):
    """Without the ``./`` that paths below the working directory begin with."""
    return (("" if folder == "." else folder.removeprefix("./"), name) for folder, name in files)


def _tell_apart(sources, own_speaker):
    """Number ids that are there twice: a.wav beside a.flac, or names that differ only in letters an id cannot have."""
    taken = set()
    for i, utt in enumerate(sources.utt):
        if utt in taken:
            utt = next(name for n in itertools.count(2) if (name := f"{utt}_{n}") not in taken)
            sources.utt[i] = utt
            if own_speaker:
                sources.spk[i] = utt
        taken.add(utt)


def _log_summary(search, sources, bad, short, grouped):
    src = search.src
    rates = collections.Counter(sources.sample_rate.tolist())
    rates = ", ".join(f"{n} at {rate} Hz" for rate, n in sorted(rates.items()))
    logging.info("%s: %d recordings, %.2f h; %s", src, len(sources), sources.hours(), rates)
    several = int((sources.channels > 1).sum())
    if several:
        used = "the first" if search.kind == "rir" else "their mean"
        logging.info("%s: %d recordings have several channels: %s is used", src, several, used)
    if grouped:
        groups = ", ".join(f"{n} in {spk}" for spk, n in sorted(grouped.items()))
        logging.info("%s: names tell no speaker, so each group counts as one: %s", src, groups)
    if bad or short:
        logging.warning("%s: left out %d unreadable files and %d under %g s", src, bad, short, search.min_seconds)
