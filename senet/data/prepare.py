"""Source sets from folders of recordings: find, look at, name, write (``senet.data.splits`` divides them).

Only headers are read, and a fingerprint of the content: file size and four blocks of 16 KiB spread over the file.
Files of equal content have equal fingerprints; that two different recordings share one is next to impossible.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from senet.data import audio
from senet.data.parallel import parallel_map
from senet.data.scp import spk2utt, write_table
from senet.errors import UserError

_BLOCK = 1 << 14
_NAMED = 20  # broken files in one error


class Source(NamedTuple):
    """One recording."""

    utt: str
    spk: str
    value: str  # path
    num_samples: int  # per channel, at the file's own rate
    sample_rate: int  # Hz
    channels: int
    fingerprint: str
    noise_type: str
    recording: str  # shared by files that were cut from one recording


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


def slug(text):
    """``text`` with only letters, digits, ``_ . -``; other alphabets are told apart by a checksum."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return plain if text.isascii() else f"{plain}_{zlib.crc32(text.encode()):08x}"


def name_source(path, src, speaker):
    """(utt, spk) of a file.

    Args:
        path, src: the file and the folder that was searched.
        speaker: ``librispeech``: .../speaker/chapter/speaker-chapter-number; ``folder``: the topmost folder below
            ``src`` (``src`` itself for files right in it); ``file``: each file is its own speaker.
    """
    relative = path.relative_to(src).with_suffix("")
    name = "-".join(slug(part) for part in relative.parts)
    if speaker == "librispeech":
        match = re.fullmatch(r"(\d+)-(\d+)-(\d+)", relative.name)
        if not match:
            raise UserError(
                f"{path}: the name is not LibriSpeech's speaker-chapter-number, such as 1272-128104-0000.flac; "
                "use --speaker folder or --speaker file for other corpora"
            )
        return relative.name, match[1]
    if speaker == "file":
        return name, name
    spk = slug(relative.parts[0] if len(relative.parts) > 1 else src.resolve().name)
    return (name if len(relative.parts) > 1 else f"{spk}-{name}"), spk


def noise_type(path, src):
    """The name up to its last underscore, as MS-SNSD names files (``AirConditioner_12``); else the folder's name."""
    inside = path.parent if path.parent != src else path.with_suffix("")
    return slug(path.stem.rpartition("_")[0] or inside.name)


def recording(stem):
    """The freesound number in ESC names (fold-number-take, ``1-187207-A``): takes of one number are one recording."""
    match = re.search(r"(?:^|_)\d-(\d+)-[A-Z](?:-\d+)?$", stem)
    return f"esc{match[1]}" if match else None


class _Cache:
    """Headers and fingerprints of files that were looked at before, so that a killed run goes on where it was.

    One JSON line for each look, appended; what a kill left of the last line is passed over.
    """

    def __init__(self, path):
        self.rows = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
        self._file.seek(0)
        line = "\n"
        for line in self._file:
            with contextlib.suppress(ValueError):
                name, *fields = json.loads(line)
                self.rows[name] = tuple(fields)
        if not line.endswith("\n"):
            self._file.write("\n")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def add(self, name, fields):
        if self.rows.get(name) != fields:
            self._file.write(json.dumps([name, *fields]) + "\n")


def _look(path, cache):
    """(size, time, samples, rate, channels, fingerprint), or the UserError that says what is wrong."""
    try:
        if not str(path).isprintable():  # bytes that are not UTF-8, or a line break, cannot stand in a wav.scp
            raise UserError(f"{str(path)!r}: the name has characters that cannot be printed; rename the file")
        status = os.stat(path)
        known = cache.rows.get(str(path))
        stamp = (status.st_size, status.st_mtime_ns)
        if known and known[:2] == stamp:
            return known
        found = audio.info(str(path))
        if found.frames == 0:
            raise audio.AudioError(f"{path}: has a header but no samples; remove it or make it again", "no samples")
        return (*stamp, found.frames, found.sample_rate, found.channels, fingerprint(path))
    except UserError as error:
        return error


def list_sources(src, *, speaker, cache_path, nj, bad_audio="raise", min_seconds=0.0):
    """All recordings below a folder.

    Args:
        src: folder, searched at any depth.
        speaker: see ``name_source``.
        cache_path: file that remembers what was read, for the next run.
        nj: threads.
        bad_audio: ``raise``, or ``skip`` to leave out and count files that cannot be read.
        min_seconds: shorter files are left out and counted.
    Returns:
        list of Source, sorted by id.
    Raises:
        UserError: no such folder, nothing in it, a broken file.
    """
    src = Path(src)
    if not src.is_dir():
        raise UserError(f"{src}: no such folder; give --src the folder that holds the recordings")
    paths = audio.find_audio(src)
    sources, bad, short, taken = [], [], 0, set()
    with (
        _Cache(cache_path) as cache,
        contextlib.closing(parallel_map(lambda path: _look(path, cache), paths, nj, f"{src}: headers read")) as looked,
    ):
        for path, row in zip(paths, looked, strict=True):
            if isinstance(row, UserError):
                bad.append(row)
                continue
            cache.add(str(path), row)
            _, _, frames, rate, channels, content = row
            if frames < min_seconds * rate:
                short += 1
                continue
            utt, spk = name_source(path, src, speaker)
            if utt in taken:  # a.wav beside a.flac, or names that differ only in letters an id cannot have
                utt = next(name for n in itertools.count(2) if (name := f"{utt}_{n}") not in taken)
                spk = utt if speaker == "file" else spk
            taken.add(utt)
            origin = recording(path.stem) or utt
            sources.append(Source(utt, spk, str(path), frames, rate, channels, content, noise_type(path, src), origin))
    if bad and bad_audio == "raise":
        more = [f"and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
        found = f"{len(bad)} of {len(paths)} files in {src} cannot be read"
        raise UserError("\n".join([*map(str, bad[:_NAMED]), *more, f"{found}; mend them or pass --bad_audio skip"]))
    for error in bad:
        logging.warning("left out: %s", error)
    if not sources:
        raise UserError(
            f"{src}: no recording to use ({len(paths)} audio files, {len(bad)} unreadable, {short} under "
            f"{min_seconds:g} s); {', '.join(audio.EXTENSIONS)} files are looked for, at any depth"
        )
    _log_summary(src, sources, bad, short, min_seconds)
    return sorted(sources)


def _log_summary(src, sources, bad, short, min_seconds):
    hours = sum(s.num_samples / s.sample_rate for s in sources) / 3600
    rates = ", ".join(f"{n} at {rate} Hz" for rate, n in sorted(Counter(s.sample_rate for s in sources).items()))
    logging.info("%s: %d recordings, %.2f h; %s", src, len(sources), hours, rates)
    several = sum(s.channels > 1 for s in sources)
    if several:
        logging.info("%s: %d recordings have several channels: their mean is used", src, several)
    if bad or short:
        logging.warning("%s: left out %d unreadable files and %d under %g s", src, len(bad), short, min_seconds)


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
            write_table(folder / "spk2utt", spk2utt([(s.utt, s.spk) for s in sources]))
        write_table(folder / name, [(s.utt, getattr(s, field)) for s in sources])
    speakers = len({s.spk for s in sources})
    hours = sum(s.num_samples / s.sample_rate for s in sources) / 3600
    logging.info(
        "%s: %d recordings, %d %s, %.2f h",
        folder,
        len(sources),
        speakers,
        "speakers" if kind == "speech" else "sources",
        hours,
    )
