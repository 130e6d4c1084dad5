"""Audio that is read and written block by block, so that its length does not matter: files, arks and pipes."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import soundfile

from senet.data import wav
from senet.data.stored import AudioInfo, decode, fault, open_entry
from senet.errors import UserError
from senet.files import whole_file

FLAC_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
SUBTYPES = {".wav": tuple(wav.SUBTYPES), ".flac": tuple(FLAC_BITS)}  # that are written
PIPE = "-"  # standard input or output


class Recording:
    """A signal to be read from its start on: a stored one, or a wav that comes through standard input.

    Args:
        value: audio file, ``path.ark:offset``, or ``"-"``.
        root: folder that a relative path starts from.
    Attributes:
        where: for messages.
        info: AudioInfo; ``frames`` is None where a pipe does not say how many come.
    Raises:
        AudioError: missing, cut off, not audio, without samples.
    """

    def __init__(self, value, root=None):
        if value == PIPE:
            self._entry, self.where = None, "standard input"
            self._form = wav.read_header(sys.stdin.buffer, self.where)
            form = self._form
            self.info = AudioInfo(form.sample_rate, form.channels, form.frames, form.subtype)
        else:
            self._entry = open_entry(value, root)
            self.where, self.info = self._entry.where, self._entry.info

    def blocks(self, size):
        """Yield all samples, ``size`` per channel at a time: float32 (N,), or (N, C) for several channels.

        Raises:
            AudioError: fewer are there than the header says.
        """
        if self._entry is None:
            yield from self._piped(size)
            return
        total = self.info.frames
        for start in range(0, total, size):
            yield decode(self._entry, start, min(size, total - start))

    def _piped(self, size):
        form, came = self._form, 0
        total = float("inf") if form.frames is None else form.frames
        while came < total:
            wanted = int(min(size, total - came))
            data = sys.stdin.buffer.read(wanted * form.width)
            got = len(data) // form.width
            came += got
            if got:
                yield wav.decode(data[: got * form.width], form)
            if got < wanted:
                break
        if not came:
            raise fault(self.where, "no samples", "a header came, and no samples")
        if form.frames is not None and came < total:
            raise fault(self.where, "cut", f"its header claims {total} samples, {came} came")


def is_whole(path, frames=None):
    """Whether ``path`` is an audio file, as long as its header says, and of ``frames`` samples per channel if given."""
    try:
        found = Recording(Path(path)).info.frames
    except UserError:
        return False
    return frames in (None, found)


@contextlib.contextmanager
def write_blocks(path, rate, channels, subtype, frames=None):
    """Write an audio file block by block; it appears whole when the ``with`` block ends, or not at all.

    It does not wait for the disk, which can take longer than a light model takes for a short file: who goes on with a
    run asks ``is_whole`` of what is there.

    Args:
        path: ends in ``.wav`` or ``.flac``; ``"-"``: a wav to standard output.
        rate: Hz.
        channels: C.
        subtype: one of ``SUBTYPES`` of the path's suffix.
        frames: how many samples per channel will come, or None.
    Yields:
        what has ``write(x)`` for float samples, (N,) or (N, C); and of what was written so far ``peak``, the largest
        magnitude, and ``clipped``, the number of samples that were beyond what the subtype holds (0 for floats).
    Raises:
        UserError: the disk refused, or the format cannot hold such a signal.
    """
    form = wav.Form(rate, channels, subtype, frames)
    with contextlib.ExitStack() as stack:
        file = sys.stdout.buffer if path == PIPE else stack.enter_context(whole_file(path, "wb", durable=False))
        writer = (_Flac if Path(path).suffix.lower() == ".flac" else _Wav)(file, form, path)
        try:
            yield writer
            writer.finish()
        except BaseException:
            writer.abandon()
            raise


class _Writer:
    def __init__(self, file, form, path):
        self.file, self.form, self.path = file, form, path
        self.frames, self.clipped, self.peak = 0, 0, 0.0

    def write(self, x):
        self.peak = max(self.peak, float(x.max(initial=0)), -float(x.min(initial=0)))
        self.clipped += self.append(x)
        self.frames += len(x)

    def abandon(self):
        pass


class _Wav(_Writer):
    def __init__(self, *args):
        super().__init__(*args)
        self.file.write(wav.header(self.form))

    def append(self, x):
        data, clipped = wav.encode(x, self.form.subtype)
        self.file.write(data)
        return clipped

    def finish(self):
        if self.frames * self.form.width % 2:
            self.file.write(b"\0")  # chunks have even lengths
        if self.path == PIPE:
            self.file.flush()
        elif self.frames != self.form.frames:
            head = wav.header(self.form._replace(frames=self.frames))
            self.file.seek(0)
            self.file.write(head)


class _Flac(_Writer):
    """By libsndfile, which loses the reason where a write fails: it is kept here, and raised."""

    def __init__(self, *args):
        super().__init__(*args)
        self.error, form = None, self.form
        try:
            self.sound = soundfile.SoundFile(
                _Callbacks(self), "w", form.sample_rate, form.channels, form.subtype, format="FLAC"
            )
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{self.path}: a flac cannot hold {form.channels} channels at {form.sample_rate} Hz ({error}); "
                "write a .wav"
            ) from error

    def append(self, x):
        bits = FLAC_BITS[self.form.subtype]
        steps, clipped = wav.quantise(x, bits)
        self._call(self.sound.write, steps.astype(np.int32) << (32 - bits))
        return clipped

    def finish(self):
        self._call(self.sound.close)

    def abandon(self):
        self.error = self.error or OSError("abandoned")  # nothing more is written
        with contextlib.suppress(soundfile.LibsndfileError):
            self.sound.close()

    def _call(self, function, *args):
        try:
            function(*args)
        except (soundfile.LibsndfileError, AssertionError):  # the latter where less was written than asked for
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error


class _Callbacks:
    """A file for libsndfile, to which no exception may pass."""

    def __init__(self, writer):
        self._writer = writer

    def write(self, data):
        if self._writer.error is None:
            try:
                return self._writer.file.write(data)
            except OSError as error:
                self._writer.error = error
        return 0

    def seek(self, offset, whence=0):
        return self._writer.file.seek(offset, whence)

    def tell(self):
        return self._writer.file.tell()
