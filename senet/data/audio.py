"""Reading and writing audio, in files and in arks, with what is stored checked.

A value is the second column of a wav.scp: the path of an audio file, or ``path.ark:offset``.
In memory audio is float32 in [-1, 1), shape (N,) or (N, C); on the disk it is int16:
``round(x * 32768)`` clipped to [-32768, 32767], and reading divides by 32768.

16-bit PCM wav, alone or in an ark, is read here: the header, then just the samples asked
for. Everything else (flac, ogg, mp3, float wav, ...) goes through soundfile.

Players and libraries read a wav that was cut off without a word, so the length that the
header claims is compared with the bytes that are there, each time.
"""

import functools
import io
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from senet.data.scp import bad_key, split_value
from senet.errors import UserError
from senet.files import whole_file

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".opus")
_SCALE = np.float32(1 / 32768)
_STREAMED = 0x7FFFF000  # a data size from here on means "not known": the wav was written to a pipe
_CHECK_BLOCK = 1 << 20  # samples decoded at a time by check()


class AudioError(UserError):
    """Audio that is not as it must be; ``reason`` is a short word, such as those that ``check`` lists."""

    def __init__(self, message, reason):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):  # worker processes send it to their parent
        return AudioError, (str(self), self.reason)


def _fault(where, reason, message):
    return AudioError(f"{where}: {message}", reason)


class AudioInfo(NamedTuple):
    sample_rate: int  # Hz
    channels: int
    frames: int  # samples per channel
    subtype: str  # as soundfile names it, such as PCM_16


class _Entry(NamedTuple):
    """One audio signal: where it is, what it is, and how to get at its samples."""

    where: str  # for messages
    info: AudioInfo
    file: "_File"
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


@functools.lru_cache(maxsize=64)
def _cached_file(path, inode, size, modified):
    """A file that was replaced since has another inode, so its old content is never read."""
    return _File(path, size)


def _open(path, where):
    try:
        status = os.stat(path)
        return _cached_file(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _fault(where, "missing", f"cannot be opened: {error.strerror}") from error


class _Content(io.RawIOBase):
    """The part of a file from ``start`` to its end, as the file object that soundfile wants."""

    def __init__(self, file, start):
        self._file, self._start, self._position = file, start, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._position = offset + (0, self._position, self._file.size - self._start)[whence]
        return self._position

    def tell(self):
        return self._position

    def readinto(self, buffer):
        n = self._file.readinto(buffer, self._start + self._position)
        self._position += n
        return n


def _entry(value, root):
    path, offset = split_value(value)
    path = os.path.join(root, path) if root is not None else path
    where = path if offset is None else f"{path}:{offset}"
    file = _open(path, where)
    start = offset or 0
    head = file.read(64, start)
    if not head:
        found = "the file is empty" if file.size == 0 else f"there is nothing at byte {offset} of {file.size}"
        raise _fault(where, "empty", f"{found}; make it again")
    if head[:5] == b"AUDIO":  # kaldiio puts this and a length before entries that are not 16-bit wav
        start += 6 + head[5]
        head = file.read(64, start)
    content = _Content(file, start) if start else path
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_entry(where, file, start, head, content)
    return _sound_entry(where, file, head, content)


def _sound_entry(where, file, head, content):
    try:
        sound = soundfile.SoundFile(content)
    except soundfile.LibsndfileError as error:
        found = f"is not audio that can be read (it begins with {head[:12]!r})"
        raise _fault(where, "format", f"{found}; wav, flac, ogg or mp3 expected") from error
    info = AudioInfo(sound.samplerate, sound.channels, sound.frames, sound.subtype)
    if info.frames == 0:
        raise _fault(where, "no samples", "has a header but no samples; record or make it again")
    return _Entry(where, info, file, 0, sound)


def _wav_entry(where, file, start, head, content):
    """Walk the chunks of a wav up to its samples; they have to be all there."""
    position, form = 12, None
    while True:
        if len(head) < position + 24:
            head = file.read(position + 64, start)
        if len(head) < position + 8:
            raise _fault(where, "cut", "the wav ends within its header; copy or make it again")
        name, size = struct.unpack_from("<4sI", head, position)
        position += 8
        if name == b"fmt " and len(head) >= position + 16:
            form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, position)
        elif name == b"data":
            break
        position += size + size % 2
    there = file.size - start - position
    if size >= _STREAMED > there:
        size = there
    if size == 0:
        raise _fault(where, "no samples", "has a header but no samples; record or make it again")
    if there < size:
        raise _fault(
            where, "cut", f"its header claims {size} bytes of samples, {max(there, 0)} are there; copy or make it again"
        )
    if (form, bits) == (1, 16) and channels and rate:
        info = AudioInfo(rate, channels, size // (2 * channels), "PCM_16")
        return _Entry(where, info, file, start + position, None)
    return _sound_entry(where, file, head, content)


def _decode(entry, start, frames):
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
            entry.sound.seek(start)
            samples = entry.sound.read(frames, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise _fault(
                entry.where, "cut", f"cannot be decoded at sample {start} of {entry.info.frames} ({error}): "
                "it was cut off or damaged; copy or make it again"
            ) from error
        if len(samples) == frames:
            return samples
        got = len(samples)
    raise _fault(
        entry.where, "cut", f"{frames} samples from {start} on asked for, {got} are there; copy or make it again"
    )


def _require_length(entry, num_samples):
    if num_samples is not None and entry.info.frames != num_samples:
        raise _fault(
            entry.where, "length", f"has {entry.info.frames} samples, and utt2num_samples says {num_samples}; "
            "one of the two is from another run: make both again"
        )


def info(value, root=None):
    """What the header says, after a look whether the stored bytes can be as long as it says.

    Args:
        value: audio file or ``path.ark:offset``.
        root: folder that a relative path starts from (``Scp.root``).
    Returns:
        AudioInfo.
    Raises:
        AudioError: missing, empty, cut off, not audio, without samples.
    """
    entry = _entry(value, root)
    if entry.sound is not None:  # flac and mp3 state a length at the beginning: see whether the end is there
        _decode(entry, entry.info.frames - 1, 1)
    return entry.info


def read(value, start=0, frames=None, *, root=None, num_samples=None):
    """Read samples ``start`` to ``start + frames``, or to the end.

    Args:
        value: audio file or ``path.ark:offset``.
        start, frames: in samples per channel.
        root: folder that a relative path starts from (``Scp.root``).
        num_samples: length that the whole signal must have.
    Returns:
        (samples, sample_rate): float32, shape (N,), or (N, C) for several channels; Hz.
    Raises:
        AudioError: as ``info``; and a wrong length, or a part that is not there.
    """
    entry = _entry(value, root)
    return _read(entry, start, frames, num_samples), entry.info.sample_rate


def _read(entry, start, frames, num_samples):
    _require_length(entry, num_samples)
    total = entry.info.frames
    frames = total - start if frames is None else frames
    if start < 0 or frames < 0 or start + frames > total:
        raise _fault(entry.where, "length", f"samples {start} to {start + frames} asked for, it has {total}")
    return _decode(entry, start, frames)


def read_mono(value, start=0, frames=None, *, sample_rate, root=None, num_samples=None):
    """``read`` of one channel at a known rate: float32, shape (N,).

    Raises:
        AudioError: as ``read``; and another number of channels or another ``sample_rate`` in Hz.
    """
    entry = _entry(value, root)
    _require_form(entry, sample_rate, 1)
    return _read(entry, start, frames, num_samples)


def _require_form(entry, sample_rate, channels):
    found = entry.info
    if channels is not None and found.channels != channels:
        raise _fault(
            entry.where, "channels", f"has {found.channels} channels, {channels} expected; make a file of one of them"
        )
    if sample_rate is not None and found.sample_rate != sample_rate:
        raise _fault(
            entry.where, "rate", f"has {found.sample_rate} Hz, {sample_rate} Hz expected; resample it first"
        )


def check(value, *, root=None, sample_rate=None, channels=1, num_samples=None, min_seconds=0.1):
    """Decode everything and raise for audio that training or scoring must not meet.

    Args:
        value, root, num_samples: as in ``read``.
        sample_rate: in Hz, or None for any.
        channels: number expected, or None for any.
        min_seconds: shortest length.
    Returns:
        AudioInfo of audio that is sound.
    Raises:
        AudioError: its ``reason`` is one of: missing, empty, format (not audio), cut, no samples, channels,
            rate, length, short, nan, inf, dc (constant, but not zero), silent.
    """
    entry = _entry(value, root)
    _require_form(entry, sample_rate, channels)
    _require_length(entry, num_samples)
    where, found = entry.where, entry.info
    if found.frames < min_seconds * found.sample_rate:
        ms = 1000 * found.frames / found.sample_rate
        raise _fault(where, "short", f"lasts {ms:g} ms, at least {1000 * min_seconds:g} ms expected; leave it out")
    low, high = np.inf, -np.inf
    for start in range(0, found.frames, _CHECK_BLOCK):
        samples = _decode(entry, start, min(_CHECK_BLOCK, found.frames - start))
        lowest, highest = samples.min(), samples.max()
        if np.isnan(lowest):  # as soon as one sample is
            raise _fault(where, "nan", f"has samples from {start} on that are not a number (NaN); make it again")
        low, high = min(low, lowest), max(high, highest)
    if np.isinf(low) or np.isinf(high):
        raise _fault(where, "inf", "has infinite samples; make it again")
    if high - low <= 2 * _SCALE:  # nothing but the last bit moves
        if max(abs(low), abs(high)) <= 2 * _SCALE:
            raise _fault(where, "silent", "is digital silence; leave it out")
        raise _fault(where, "dc", f"is constant at {high:.4g}, silence but for its mean; leave it out")
    return found


def to_int16(x):
    """Round float audio to int16; returns (int16 array, number of samples that were clipped)."""
    x = np.asarray(x)
    if x.dtype == np.int16:
        return x, 0
    scaled = np.rint(x * np.float32(32768))
    if not np.isfinite(scaled).all():
        raise ValueError("audio to be stored has samples that are not finite")
    clipped = np.count_nonzero((scaled > 32767) | (scaled < -32768))
    return np.clip(scaled, -32768, 32767).astype(np.int16), int(clipped)


def _wav_bytes(x, rate):
    """A 16-bit PCM wav as (bytes, number of clipped samples)."""
    samples, clipped = to_int16(x)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = samples.astype("<i2", copy=False).tobytes()
    if len(data) >= _STREAMED:
        raise ValueError(f"{len(samples)} samples are too many for one wav; cut the recording")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form + struct.pack("<4sI", b"data", len(data))
    return head + data, clipped


def write_wav(path, x, rate):
    """Write a 16-bit PCM wav, whole.

    Args:
        path: the file.
        x: float in [-1, 1) or int16, shape (N,) or (N, C).
        rate: Hz.
    Returns:
        how many samples were clipped.
    """
    data, clipped = _wav_bytes(x, rate)
    with whole_file(path, "wb") as f:
        f.write(data)
    return clipped


class WavArkWriter:
    """A Kaldi archive of 16-bit wav entries that appears whole when the ``with`` block ends.

    Args:
        path: the ark.
        value_prefix: how the scp calls it, when not by ``path``.
    """

    def __init__(self, path, value_prefix=None):
        self.path = Path(path)
        self.value_prefix = str(path if value_prefix is None else value_prefix)
        self.clipped = 0  # samples, over all entries

    def __enter__(self):
        self._whole = whole_file(self.path, "wb")
        self._file = self._whole.__enter__()
        return self

    def __exit__(self, *error):
        return self._whole.__exit__(*error)

    def write(self, key, x, rate):
        """Append ``x``, float or int16, shape (N,) or (N, C); returns the value for the scp, ``path:offset``."""
        if problem := bad_key(key):
            raise UserError(f"{self.path}: the key '{key}' {problem}; choose another id")
        data, clipped = _wav_bytes(x, rate)
        self.clipped += clipped
        self._file.write(f"{key} ".encode())
        offset = self._file.tell()
        self._file.write(data)
        return f"{self.value_prefix}:{offset}"


def find_audio(folder):
    """All audio files below a folder, sorted; hidden files and folders are left out, links are followed once."""
    found, seen, folders = [], set(), [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        folders.append(entry.path)
                elif entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
                    found.append(entry.path)
    return [Path(path) for path in sorted(found)]
