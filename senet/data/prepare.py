"""Source sets from folders of recordings: listing, splitting without leaks, checking that sets share nothing.

Only headers are read, and a fingerprint of the content: file size and four blocks of 16 KiB spread over the file.
Files of equal content have equal fingerprints; that two different recordings share one is next to impossible.
"""

import hashlib
import logging
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from senet.data import audio
from senet.data.parallel import parallel_map
from senet.data.scp import read_table, spk2utt, write_table
from senet.errors import UserError
from senet.files import whole_file

_BLOCK = 1 << 14
_BATCH = 2048  # files between two saves of the cache of headers
MIN_GROUPS = 5


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
    """``text`` with only letters, digits, ``_ . -``; a name with letters beyond ASCII gets a checksum so that it stays unique."""
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


def noise_type(stem):
    """The name up to its last underscore, as MS-SNSD names files: ``AirConditioner_12`` -> ``AirConditioner``."""
    return slug(stem.rpartition("_")[0] or stem)


def recording(stem):
    """The freesound number in ESC names (fold-number-take, ``1-187207-A``): takes of one number are one recording."""
    match = re.search(r"(?:^|_)\d-(\d+)-[A-Z](?:-\d+)?$", stem)
    return f"esc{match[1]}" if match else None


class _Cache:
    """Headers and fingerprints of files that were looked at before, so that a killed run goes on where it was."""

    def __init__(self, path):
        self.path, self.rows = path, {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                name, *fields = line.split("\t")
                self.rows[name] = tuple(fields)

    def save(self):
        with whole_file(self.path) as f:
            f.writelines("\t".join((name, *fields)) + "\n" for name, fields in self.rows.items())


def _look(path, cache):
    """(size, time, samples, rate, channels, fingerprint) as text, or the UserError that says what is wrong."""
    try:
        status = os.stat(path)
        known = cache.rows.get(str(path))
        stamp = (str(status.st_size), str(status.st_mtime_ns))
        if known and known[:2] == stamp:
            return known
        found = audio.info(str(path))
        if found.frames == 0:
            raise audio.AudioError(f"{path}: has a header but no samples; remove it or make it again", "no samples")
        return (*stamp, str(found.frames), str(found.sample_rate), str(found.channels), fingerprint(path))
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
    cache = _Cache(cache_path)
    sources, bad, short, taken = [], [], 0, Counter()
    looked = parallel_map(lambda path: _look(path, cache), paths, nj, f"{src}: headers read")
    for i, (path, row) in enumerate(zip(paths, looked, strict=True), 1):
        if isinstance(row, UserError):
            if bad_audio == "raise":
                cache.save()
                raise UserError(f"{row} (or pass --bad_audio skip to leave out files that cannot be read)")
            bad.append(row)
            continue
        cache.rows[str(path)] = row
        if i % _BATCH == 0:
            cache.save()
        frames, rate, channels = map(int, row[2:5])
        if frames < min_seconds * rate:
            short += 1
            continue
        utt, spk = name_source(path, src, speaker)
        taken[utt] += 1
        if taken[utt] > 1:  # a.wav beside a.flac, or names that differ only in letters an id cannot have
            utt = f"{utt}_{taken[utt]}"
            spk = utt if speaker == "file" else spk
        stem = path.stem
        sources.append(Source(utt, spk, str(path), frames, rate, channels, row[5], noise_type(stem), recording(stem) or utt))
    cache.save()
    for error in bad:
        logging.warning("left out: %s", error)
    if not sources:
        raise UserError(
            f"{src}: no recording to use ({len(paths)} audio files, {len(bad)} unreadable, {short} under {min_seconds:g} s); "
            f"{', '.join(audio.EXTENSIONS)} files are looked for, at any depth"
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


def groups(sources, by_speaker):
    """Lists of sources that must stay on one side of a split, sorted.

    Sources belong together when they share content or recording, and with ``by_speaker`` also the speaker;
    so do sources that are linked through others.
    """
    parent = {}

    def root(key):
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    def keys(source):
        shared = [("content", source.fingerprint), ("recording", source.recording)]
        return [*shared, ("speaker", source.spk)] if by_speaker else shared

    for source in sources:
        first, *others = map(root, keys(source))
        for other in others:
            parent[root(other)] = root(first)
    members = {}
    for source in sources:
        members.setdefault(root(("content", source.fingerprint)), []).append(source)
    return sorted(members.values())


def split(sources, shares, *, by_speaker, seed):
    """Divide sources at random so that nothing is shared between the parts.

    A part gets its share of the groups (speakers, or recordings), rounded, but at least 5 of them, or
    a fair part of what there is where there are few: with n groups and k parts, n // (2 k), and 1 at the least.

    Args:
        sources: list of Source.
        shares: dict from part to its share of the groups; the first part takes what is left over.
        by_speaker: whether a speaker's recordings stay together.
        seed: integer.
    Returns:
        dict from part to list of Source.
    Raises:
        UserError: fewer groups than parts.
    """
    found = groups(sources, by_speaker)
    n, k = len(found), len(shares)
    if n < k:
        raise UserError(f"{n} {'speakers' if by_speaker else 'recordings'} cannot be split into {' '.join(shares)}; add recordings")
    # A group's place follows from its own name, so one more recording does not reshuffle the others.
    found.sort(key=lambda g: hashlib.blake2b(f"{seed} {g[0].spk if by_speaker else g[0].utt}".encode()).digest())
    at_least = max(1, min(MIN_GROUPS, n // (2 * k)))
    parts, at, (first, *others) = {}, 0, shares
    for part in others:
        count = max(at_least, round(shares[part] * n))
        parts[part] = sorted(s for group in found[at : at + count] for s in group)
        at += count
    parts[first] = sorted(s for group in found[at:] for s in group)
    if not all(parts.values()):
        raise UserError(f"the shares {shares} leave a part without {'speakers' if by_speaker else 'recordings'} ({n} in all)")
    return {part: parts[part] for part in shares}


def shared_with(sources, folder, by_speaker):
    """Sources that have speaker (``by_speaker``), content or recording in common with an existing set.

    Returns:
        list of (Source, what is shared).
    """
    folder = Path(folder)
    contents = set(read_table(folder / "utt2fingerprint").values())
    others = set(read_table(folder / "utt2recording").values())
    speakers = set(read_table(folder / "utt2spk").values()) if by_speaker else set()
    found = []
    for s in sources:
        if s.spk in speakers:
            found.append((s, f"speaker {s.spk}"))
        elif s.fingerprint in contents:
            found.append((s, "equal content"))
        elif s.recording in others and s.recording != s.utt:
            found.append((s, f"recording {s.recording}"))
    return found


def drop_shared(sources, folders, *, by_speaker, on_shared):
    """Sources without those that an existing set also has; UserError about the first one when ``on_shared`` is ``raise``."""
    for folder in folders:
        found = shared_with(sources, folder, by_speaker)
        if found and on_shared == "raise":
            source, what = found[0]
            raise UserError(
                f"{source.value}: {what} is in {folder} too ({len(found)} such recordings); "
                "a test would not be fair: take them out, or pass --on_shared drop"
            )
        for source, what in found:
            logging.warning("left out: %s: %s is in %s too", source.value, what, folder)
        dropped = {source.utt for source, _ in found}
        sources = [s for s in sources if s.utt not in dropped]
        if found and not sources:
            raise UserError(f"all recordings are in {folder} too; give other ones")
    return sources


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
    logging.info("%s: %d recordings, %d %s, %.2f h", folder, len(sources), speakers, "speakers" if kind == "speech" else "sources", hours)
