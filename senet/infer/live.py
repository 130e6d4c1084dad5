"""What a live stream needs besides the model: samples as bytes, a sound card, and a clock."""

import os
from array import array
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from senet.errors import UserError

FORMATS = {"s16le": "<i2", "f32le": "<f4"}
FULL_SCALE = 32768
HEADERS = b"RIFF", b"fLaC", b"OggS"  # of files, which are no PCM


class Pipe:
    """PCM without a header: frames of one sample of each channel, one after the other.

    Args:
        source, sink: binary files, standard input and output.
        kind: ``s16le`` or ``f32le``.
        channels: C.
    Raises:
        UserError: the input begins as an audio file does, or the output cannot be written.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO, kind: str, channels: int):
        self.source, self.sink, self.dtype, self.channels = source, sink, np.dtype(FORMATS[kind]), channels
        self._begun = self._clipped = self._left = 0

    def chunks(self, samples: int) -> Iterator[Tensor]:
        """(C, ``samples``) float32 each as soon as they are there; the last may be shorter."""
        frame = self.dtype.itemsize * self.channels
        while data := self.source.read(samples * frame):
            if not self._begun and data.startswith(HEADERS):
                raise UserError(
                    "standard input is an audio file, expected raw PCM; 'senet enhance' takes files, and 'ffmpeg -i - "
                    "-f s16le -ar RATE -' makes raw PCM of them"
                )
            self._begun, self._left = 1, len(data) % frame
            x = np.frombuffer(data, self.dtype, len(data) // frame * self.channels).astype(np.float32)
            if self.dtype.kind == "i":
                x /= FULL_SCALE
            yield torch.from_numpy(np.ascontiguousarray(x.reshape(-1, self.channels).T))

    def write(self, y: Tensor):
        """(C, M) float32, passed on at once."""
        y = y.T.numpy()
        if self.dtype.kind == "i":
            steps = np.rint(y * FULL_SCALE)
            y = steps.clip(-FULL_SCALE, FULL_SCALE - 1)
            self._clipped += int((y != steps).sum())
        try:
            self.sink.write(y.astype(self.dtype).tobytes())
            self.sink.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.sink.fileno())  # what Python still holds goes there
            raise UserError(f"standard output cannot be written: {error.strerror}") from None

    def troubles(self) -> list[str]:
        """A sentence for each thing that went wrong."""
        told = [f"{self._clipped} samples were clipped; f32le holds them"] if self._clipped else []
        if self._left:
            told.append(f"the input ended within a frame: its last {self._left} bytes were left out")
        return told


class SoundCard:
    """Microphone and loudspeaker, or headphones, by sounddevice (PortAudio).

    Args:
        sample_rate: Hz. channels: C.
        chunk: samples at a time.
        ahead: samples of silence that are given out first, so that what comes later by as much leaves no gap.
        devices: of input and output, a number or a part of a name; None: the system's.
    Raises:
        UserError: there is no sounddevice, or no such device.
    """

    def __init__(self, sample_rate: int, channels: int, chunk: int, ahead: int, devices: tuple):
        self._sounddevice = sounddevice()
        try:
            self._stream = self._sounddevice.Stream(
                samplerate=sample_rate, blocksize=chunk, device=devices, channels=channels, dtype="float32"
            )
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise UserError(f"the sound device cannot be opened: {error}; --list_devices tells what there is") from None
        self.channels, self.ahead, self._lost = channels, ahead, 0

    def chunks(self, samples: int) -> Iterator[Tensor]:
        """(C, ``samples``) float32 each, without end."""
        with self._stream:
            self.write(torch.zeros(self.channels, self.ahead))
            while True:
                x, overflowed = self._stream.read(samples)
                self._lost += overflowed
                yield torch.from_numpy(np.ascontiguousarray(x.T))

    def write(self, y: Tensor):
        """(C, M) float32."""
        self._lost += self._stream.write(np.ascontiguousarray(y.T.numpy()))

    def troubles(self) -> list[str]:
        """A sentence for each thing that went wrong."""
        if not self._lost:
            return []
        return [f"there were {self._lost} gaps in the sound: this machine, or the model on it, was too slow for a time"]


def sounddevice():
    """The module of that name, an optional one."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: it is there, and PortAudio is not
        raise UserError(
            f"microphone and loudspeaker need sounddevice and PortAudio ({error}); pip install sounddevice, and on "
            "Linux the package libportaudio2"
        ) from None
    return sounddevice


class Clock:
    """How long chunks took, against the time that passes until the next is there.

    Args:
        deadline: seconds of a chunk.
    """

    def __init__(self, deadline: float):
        self.deadline, self._times = deadline, array("f")

    def add(self, seconds: float):
        """One more chunk took so long."""
        self._times.append(seconds)

    def __str__(self) -> str:
        if not self._times:
            return "no chunks"
        times = np.array(self._times)
        median, high, worst = (1000 * np.quantile(times, share) for share in (0.5, 0.99, 1))
        over = int((times > self.deadline).sum())
        return (
            f"{len(times)} chunks of {1000 * self.deadline:.4g} ms took {median:.2f} ms (median), {high:.2f} ms (99th "
            f"percentile), {worst:.2f} ms (worst); {over} took longer than they last; real-time factor "
            f"{times.mean() / self.deadline:.3f}"
        )
