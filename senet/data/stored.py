"""One stored audio signal: its header, and any part of its samples.

16-bit PCM wav, alone or in an ark, is read here: the header, then just the samples asked for. Everything else (flac,
ogg, mp3, float wav, ...) goes through soundfile. ``senet.data.audio`` is the face of this.
"""

import functools
import io
import os
import struct
import subprocess
from typing import NamedTuple

import numpy as np
import soundfile

from senet.data.scp import split_value
from senet.errors import UserError

_SCALE = np.float32(1 / 32768)
STREAMED = 0x7FFFF000  # a data size from here on means "not known": the wav was written to a pipe
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes at most
_OGG_FIRST, _OGG_LAST = 2, 4  # flags of a stream's first and last page


class AudioError(UserError):
    """Audio that is not as it must be; ``reason`` is a short word, such as those that ``check`` lists."""

    def __init__(self, message, reason):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):  # worker processes send it to their parent
        return AudioError, (str(self), self.reason)


def fault(where, reason, message):
    """The AudioError of the signal at ``where``."""
    return AudioError(f"{where}: {message}", reason)


class AudioInfo(NamedTuple):
    sample_rate: int  # Hz
    channels: int
    frames: int  # samples per channel
    subtype: str  # as soundfile names it, such as PCM_16


class Entry(NamedTuple):
    """One audio signal: where it is, what it is, and how to get at its samples."""

    where: str  # for messages
    info: AudioInfo
    file: "_File | _Memory"
    start: int  # position of the first sample in the file, when senet reads them itself
    sound: soundfile.SoundFile | None  # otherwise


class _File:
    """An open file that is read by position, so that processes and threads can share it."""

    def __init__(self, path, size):
        self.size = size
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self):
        if hasattr(self, "fd"):
            os.close(self.fd)

    def read(self, size, position):
        return os.pread(self.fd, size, position)

    def readinto(self, buffer, position):
        return os.preadv(self.fd, [buffer], position)


class _Memory:
    """Bytes that no file holds, with the methods of ``_File``."""

    def __init__(self, data):
        self.data, self.size = data, len(data)

    def read(self, size, position):
        return self.data[position : position + size]

    def readinto(self, buffer, position):
        buffer = memoryview(buffer).cast("B")
        part = self.data[position : position + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


@functools.lru_cache(maxsize=64)
def _cached_file(path, inode, size, modified):
    """A file that was replaced since has another inode, so its old content is never read."""
    return _File(path, size)


def _open(path, where):
    try:
        status = os.stat(path)
        return _cached_file(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise fault(where, "missing", f"cannot be opened: {error.strerror}") from error


class _Content(io.RawIOBase):
    """The bytes ``start`` to ``end`` of a file, as the file object that soundfile wants."""

    def __init__(self, file, start, end):
        self._file, self._start, self._size, self._position = file, start, end - start, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self):
        return self._position

    def readinto(self, buffer):
        buffer = memoryview(buffer)[: max(0, self._size - self._position)]
        n = self._file.readinto(buffer, self._start + self._position)
        self._position += n
        return n


def open_entry(value, root):
    """The Entry of a value of a scp; AudioError unless its header is sound and the bytes it claims are there."""
    if isinstance(value, Entry):
        return value
    path, offset = (os.fspath(value), None) if isinstance(value, os.PathLike) else split_value(value)
    path = os.path.join(root, path) if root is not None else path
    where = path if offset is None else f"{path}:{offset}"
    file = _open(path, where)
    start, end = offset or 0, file.size
    head = file.read(64, start)
    if not head:
        found = "the file is empty" if file.size == 0 else f"there is nothing at byte {offset} of {file.size}"
        raise fault(where, "empty", f"{found}; make it again")
    if head[:5] == b"AUDIO" and len(head) > 5:  # kaldiio puts this and a length before entries that are not 16-bit wav
        start += 6 + head[5]
        end = start + int.from_bytes(head[6 : 6 + head[5]], "little")
        if end > file.size:
            there = max(0, file.size - start)
            raise fault(where, "cut", f"the ark claims {end - start} bytes, {there} are there; copy or make it again")
        head = file.read(64, start)
    return _entry(where, file, start, end, head, _Content(file, start, end) if start else path)


def open_command(value, where):
    """The Entry of what the shell command ``value`` (``cmd |``) writes; AudioError when it fails or writes no audio.

    It runs in bash, in the working directory as in Kaldi; any command of a pipeline that fails, fails it.
    """
    command = value.rstrip()[:-1].strip()
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], stdin=subprocess.DEVNULL, capture_output=True)
    where = f"{where}: '{command} |'"
    if done.returncode or not done.stdout:
        last = (done.stderr.decode(errors="replace").strip() or "nothing").splitlines()[-1]
        found = "failed" if done.returncode else "wrote no audio"
        raise fault(where, "command", f"{found} with exit status {done.returncode}; stderr ends with: {last}")
    file = _Memory(done.stdout)
    return _entry(where, file, 0, file.size, file.read(64, 0), _Content(file, 0, file.size))


def _entry(where, file, start, end, head, content):
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_entry(where, file, start, end, head, content)
    if head[:4] == b"OggS":
        _require_ogg_end(where, file, start, end)
    return _sound_entry(where, file, head, content)


def _sound_entry(where, file, head, content):
    try:
        sound = soundfile.SoundFile(content)
    except soundfile.LibsndfileError as error:
        found = f"is not audio that can be read (it begins with {head[:12]!r})"
        raise fault(where, "format", f"{found}; wav, flac, ogg, mp3 or opus expected") from error
    info = AudioInfo(sound.samplerate, sound.channels, sound.frames, sound.subtype)
    if info.frames == 0:
        raise fault(where, "no samples", "has a header but no samples; record or make it again")
    if sound.seekable():
        return Entry(where, info, file, 0, sound)
    try:  # GSM 6.10 and some ADPCM, of 16 bits at most, decode from the start on only: all at once, to read any part
        samples = sound.read(info.frames, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise _damaged(where, info, 0, info.frames, error) from error
    if len(samples) < info.frames:
        raise fault(where, "cut", f"{info.frames} samples expected, {len(samples)} are there; copy or make it again")
    return Entry(where, info, _Memory(samples.astype("<i2").tobytes()), 0, None)


def _damaged(where, info, start, frames, error):
    return fault(
        where,
        "cut",
        f"of its {info.frames} samples, {start} to {start + frames} cannot all be decoded ({error}): "
        "it was cut off or damaged; copy or make it again",
    )


def _require_ogg_end(where, file, start, end):
    """Refuse what libsndfile passes over without a word: a stream that was cut off, and all but the first of a chain.

    A whole last page passes without its flag, too, which Android's recorder and others do not set; only a cut between
    two pages, of some 4 kB each, looks like that.
    """
    first = max(start, end - _OGG_PAGE)
    tail = file.read(end - first, first)
    tail = tail[tail.rfind(b"OggS\0") :]
    page = _ogg_page(tail)
    if page is not None:
        flags, serial, lacing, size = page
        goes_on = lacing[-1:] == b"\xff" or size < len(tail)  # a packet, or the file
    if page is None or size > len(tail) or (goes_on and not flags & _OGG_LAST):
        raise fault(
            where, "cut", "the Ogg stream does not end with a whole page: it was cut off; copy or make it again"
        )
    serials, position = set(), start
    while (page := _ogg_page(file.read(27 + 255, position))) is not None and page[0] & _OGG_FIRST:
        serials.add(page[1])
        position += page[3]
    if serial not in serials:
        raise fault(where, "format", "is several Ogg streams, one after the other; make one of them, or a file of each")


def _ogg_page(data):
    """(flags, serial number, lacing values, size in bytes) of the page at the start of ``data``; None without one."""
    if data[:4] != b"OggS" or len(data) < 27 or len(data) < 27 + data[26]:
        return None
    lacing = data[27 : 27 + data[26]]
    return data[5], data[14:18], lacing, 27 + len(lacing) + sum(lacing)


def _wav_entry(where, file, start, end, head, content):
    """Walk the chunks of a wav up to its samples; they have to be all there."""
    position, form, bits = 12, None, None
    while True:
        chunk = head[position : position + 24]
        if len(chunk) < 24:  # beyond what was read at first: there are more chunks than usual
            chunk = file.read(24, start + position)
        if len(chunk) < 8:
            raise fault(where, "cut", "the wav ends within its header; copy or make it again")
        name, size = struct.unpack_from("<4sI", chunk)
        position += 8
        if name == b"fmt " and len(chunk) == 24:
            form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk, 8)
        elif name == b"data":
            break
        position += size + size % 2
    there = end - start - position
    if size >= STREAMED > there:
        size = there
    pcm16 = (form, bits) == (1, 16) and channels and rate
    if size < (2 * channels if pcm16 else 1):
        raise fault(where, "no samples", "has a header but no samples; record or make it again")
    if there < size:
        raise fault(
            where, "cut", f"its header claims {size} bytes of samples, {max(there, 0)} are there; copy or make it again"
        )
    if pcm16:
        info = AudioInfo(rate, channels, size // (2 * channels), "PCM_16")
        return Entry(where, info, file, start + position, None)
    return _sound_entry(where, file, head, content)


def decode(entry, start, frames):
    """float32 samples ``start`` to ``start + frames``; shape (frames,) or (frames, C)."""
    channels = entry.info.channels
    if entry.sound is None:
        stored = np.empty(frames * channels, "<i2")
        got = entry.file.readinto(stored, entry.start + 2 * channels * start) if frames else 0
        if got == stored.nbytes:
            samples = stored.astype(np.float32)
            samples *= _SCALE
            return samples if channels == 1 else samples.reshape(-1, channels)
        got //= 2 * channels
    else:
        try:
            if entry.sound.tell() != start:
                entry.sound.seek(start)
            samples = entry.sound.read(frames, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise _damaged(entry.where, entry.info, start, frames, error) from error
        if len(samples) == frames:
            return samples
        got = len(samples)
    raise fault(
        entry.where, "cut", f"{frames} samples from {start} on asked for, {got} are there; copy or make it again"
    )
