"""Reading and writing audio, in files and in arks, with what is stored checked.

A value is the second column of a wav.scp: the path of an audio file, or ``path.ark:offset``; or a Path.
In memory audio is float32 in [-1, 1), shape (N,) or (N, C); on the disk it is int16:
``round(x * 32768)`` clipped to [-32768, 32767], and reading divides by 32768.

Players and libraries read a wav that was cut off without a word, so the length that the
header claims is compared with the bytes that are there, each time.
"""

import os
from pathlib import Path

import numpy as np

from senet.data import wav
from senet.data.scp import bad_key
from senet.data.stored import STREAMED, AudioError, AudioInfo, decode, fault, open_entry
from senet.errors import UserError
from senet.files import whole_file

__all__ = [
    "EXTENSIONS",
    "AudioError",
    "AudioInfo",
    "WavArkWriter",
    "check",
    "find_audio",
    "info",
    "read",
    "read_mono",
    "to_int16",
    "walk_audio",
    "wav_bytes",
    "write_wav",
]

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff", ".aif")
_LSB = 1 / 32768
_CHECK_BLOCK = 1 << 20  # samples decoded at a time by check()


def _require_length(entry, num_samples):
    if num_samples is not None and entry.info.frames != num_samples:
        raise fault(
            entry.where,
            "length",
            f"has {entry.info.frames} samples, and utt2num_samples says {num_samples}; "
            "one of the two is from another run: make both again",
        )


def info(value, root=None):
    """What the header says, after a look whether the stored bytes can be as long as it says.

    Args:
        value: audio file or ``path.ark:offset``; or an Entry that was opened before.
        root: folder that a relative path starts from (``Scp.root``).
    Returns:
        AudioInfo.
    Raises:
        AudioError: missing, empty, cut off, not audio, without samples.
    """
    entry = open_entry(value, root)
    if entry.sound is not None:  # flac and mp3 state a length at the beginning: see whether the end is there
        decode(entry, entry.info.frames - 1, 1)
    return entry.info


def read(value, start=0, frames=None, *, root=None, num_samples=None):
    """Read samples ``start`` to ``start + frames``, or to the end.

    Args:
        value: as in ``info``.
        start, frames: in samples per channel.
        root: folder that a relative path starts from (``Scp.root``).
        num_samples: length that the whole signal must have.
    Returns:
        (samples, sample_rate): float32, shape (N,), or (N, C) for several channels; Hz.
    Raises:
        AudioError: as ``info``; and a wrong length, or a part that is not there.
    """
    entry = open_entry(value, root)
    return _read(entry, start, frames, num_samples), entry.info.sample_rate


def _read(entry, start, frames, num_samples):
    _require_length(entry, num_samples)
    total = entry.info.frames
    frames = total - start if frames is None else frames
    if start < 0 or frames < 0 or start + frames > total:
        raise fault(entry.where, "length", f"samples {start} to {start + frames} asked for, it has {total}")
    return decode(entry, start, frames)


def read_mono(value, start=0, frames=None, *, sample_rate, root=None, num_samples=None):
    """``read`` of one channel at a known rate: float32, shape (N,).

    Raises:
        AudioError: as ``read``; and another number of channels or another ``sample_rate`` in Hz.
    """
    entry = open_entry(value, root)
    _require_form(entry, sample_rate, 1)
    return _read(entry, start, frames, num_samples)


def _require_form(entry, sample_rate, channels):
    found = entry.info
    if channels is not None and found.channels != channels:
        raise fault(
            entry.where, "channels", f"has {found.channels} channels, {channels} expected; make a file of one of them"
        )
    if sample_rate is not None and found.sample_rate != sample_rate:
        raise fault(entry.where, "rate", f"has {found.sample_rate} Hz, {sample_rate} Hz expected; resample it first")


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
    entry = open_entry(value, root)
    _require_form(entry, sample_rate, channels)
    _require_length(entry, num_samples)
    where, found = entry.where, entry.info
    if found.frames < min_seconds * found.sample_rate:
        ms = 1000 * found.frames / found.sample_rate
        raise fault(where, "short", f"lasts {ms:g} ms, at least {1000 * min_seconds:g} ms expected; leave it out")
    low, high = np.inf, -np.inf
    for start in range(0, found.frames, _CHECK_BLOCK):
        samples = decode(entry, start, min(_CHECK_BLOCK, found.frames - start))
        lowest, highest = samples.min(), samples.max()
        for reason, is_bad, name in (("nan", np.isnan, "not a number (NaN)"), ("inf", np.isinf, "infinite")):
            if is_bad(lowest) or is_bad(highest):  # as soon as one sample is
                bad = start + int(is_bad(samples).reshape(len(samples), -1).any(axis=1).argmax())
                raise fault(where, reason, f"sample {bad} (counted from 0) is {name}; make it again")
        low, high = min(low, lowest), max(high, highest)
    if high - low <= 2 * _LSB:  # nothing but the last bit moves
        if max(abs(low), abs(high)) <= 2 * _LSB:
            raise fault(where, "silent", "is digital silence; leave it out")
        raise fault(where, "dc", f"is constant at {high:.4g}, silence but for its mean; leave it out")
    return found


def to_int16(x):
    """Round float audio to int16; returns (int16 array, number of samples that were clipped)."""
    x = np.asarray(x)
    if x.dtype == np.int16:
        return x, 0
    steps, clipped = wav.quantise(x, 16)
    return steps.astype(np.int16), clipped


def wav_bytes(x, rate):
    """A 16-bit PCM wav as (bytes, number of clipped samples)."""
    samples, clipped = to_int16(x)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = samples.astype("<i2", copy=False).tobytes()
    if len(data) >= STREAMED:
        raise ValueError(f"{len(samples)} samples are too many for one wav; cut the recording")
    return wav.header(wav.Form(rate, channels, "PCM_16", len(samples))) + data, clipped


def write_wav(path, x, rate):
    """Write a 16-bit PCM wav, whole.

    Args:
        path: the file.
        x: float in [-1, 1) or int16, shape (N,) or (N, C).
        rate: Hz.
    Returns:
        how many samples were clipped.
    """
    data, clipped = wav_bytes(x, rate)
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
        data, clipped = wav_bytes(x, rate)
        self.clipped += clipped
        self._file.write(f"{key} ".encode())
        offset = self._file.tell()
        self._file.write(data)
        return f"{self.value_prefix}:{offset}"


def find_audio(folder):
    """All audio files below a folder, sorted; hidden files and folders are left out, links are followed once."""

    def refuse(error):
        raise error

    return [Path(folder, name) for folder, name in walk_audio(str(folder), set(), refuse)]


def walk_audio(folder, seen, on_error):
    """Yield (folder, file name) as ``find_audio`` lists them; of a folder's files only the names are held.

    Args:
        folder: where to look.
        seen: set of the folders that were listed; it is added to.
        on_error: called with the OSError of a folder that cannot be read.
    """
    names = []
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    names.append(f"{entry.name}/")  # sorts as the paths in it do
                # A link to nothing is listed, so that reading it says what is missing.
                elif entry.name.lower().endswith(EXTENSIONS) and (entry.is_file() or entry.is_symlink()):
                    names.append(entry.name)
    except OSError as error:
        on_error(error)
    names.sort()
    for name in names:
        if name.endswith("/"):
            yield from walk_audio(os.path.join(folder, name[:-1]), seen, on_error)
        else:
            yield folder, name
