"""The wav format: headers, also of streams whose length is not known, and samples of every usual width.

Integers of b bits are ``round(x * 2^(b - 1))``, clipped; reading divides by 2^(b - 1).
"""

import struct
from typing import NamedTuple

import numpy as np

from senet.data.stored import STREAMED, fault
from senet.errors import UserError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
SUBTYPES = {  # as soundfile names them: format, bits
    "PCM_U8": (PCM, 8),
    "PCM_16": (PCM, 16),
    "PCM_24": (PCM, 24),
    "PCM_32": (PCM, 32),
    "FLOAT": (FLOAT, 32),
    "DOUBLE": (FLOAT, 64),
}
_FASTEST = 0x7FFFFFFF  # Hz; libsndfile counts with a sign
_LARGEST = 0xFFFFFFFF  # of the 32 bits that sizes have; it also says "not known"


class Form(NamedTuple):
    """What a header says."""

    sample_rate: int  # Hz
    channels: int
    subtype: str  # of SUBTYPES
    frames: int | None  # samples per channel; None: not known, as in what another program is still writing

    @property
    def width(self):
        """Bytes of one sample of all channels."""
        return self.channels * SUBTYPES[self.subtype][1] // 8


def header(form):
    """The bytes before the samples; from 4 GiB on those of an RF64.

    Raises:
        UserError: more channels than a wav can hold, or a higher rate than programs read.
    """
    code, bits = SUBTYPES[form.subtype]
    if form.width > 0xFFFF or form.sample_rate > _FASTEST:
        found = f"{form.channels} channels of {bits} bits at {form.sample_rate} Hz"
        raise UserError(f"{found} are more than programs read from a wav; is its header right?")
    speed = min(_LARGEST, form.width * form.sample_rate)  # bytes per second, which nothing is read by
    said = struct.pack("<HHIIHH", code, form.channels, form.sample_rate, speed, form.width, bits)
    chunks = struct.pack("<4sI", b"fmt ", len(said)) + said
    if code == FLOAT:
        chunks += struct.pack("<4sII", b"fact", 4, min(_LARGEST, form.frames if form.frames is not None else _LARGEST))
    kind, size, total = b"RIFF", _LARGEST, _LARGEST
    if form.frames is not None:
        size = form.frames * form.width
        total = 4 + len(chunks) + 8 + size + size % 2
    if total > _LARGEST:  # EBU Tech 3306: the sizes are in a chunk of their own, with 64 bits
        kind, total = b"RF64", total + 36
        chunks = struct.pack("<4sIQQQI", b"ds64", 28, total, size, form.frames, 0) + chunks
        size = total = _LARGEST
    return struct.pack("<4sI4s", kind, total, b"WAVE") + chunks + struct.pack("<4sI", b"data", size)


def read_header(file, where):
    """The Form of the wav that begins at ``file``, which is read up to the first sample, without seeking.

    Args:
        file: has ``read(n)``, which gives n bytes unless the end comes before.
        where: for messages.
    Raises:
        AudioError: no wav, one that ends within its header, or a kind of samples that is not among SUBTYPES.
    """
    head = file.read(12)
    if not head:
        raise fault(where, "empty", "nothing came; a wav expected")
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise fault(where, "format", f"is no wav (it begins with {head!r}), and only wav is read from a stream")
    said = None
    while True:
        name, size = struct.unpack("<4sI", _exactly(file, 8, where))
        if name == b"data":
            break
        if size >= STREAMED:
            raise fault(where, "format", f"its chunk {name!r} claims {size} bytes; make it again")
        content = _exactly(file, size + size % 2, where)
        if name == b"fmt ":
            said = content
    if said is None or len(said) < 16:
        raise fault(where, "format", "no 'fmt ' chunk comes before the samples; make it again")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", said)
    if code == EXTENSIBLE and len(said) >= 26:
        code = struct.unpack_from("<H", said, 24)[0]
    subtype = next((name for name, kind in SUBTYPES.items() if kind == (code, bits)), None)
    if subtype is None or not channels or not rate:
        raise fault(
            where,
            "format",
            f"holds samples of format {code} with {bits} bits, {channels} channels, {rate} Hz; "
            f"expected {', '.join(SUBTYPES)}",
        )
    # 0 is what a program leaves that would write the size at the end and cannot, in a pipe.
    unknown = size >= STREAMED or size == 0
    return Form(rate, channels, subtype, None if unknown else size // (channels * bits // 8))


def _exactly(file, size, where):
    content = file.read(size)
    if len(content) < size:
        raise fault(where, "cut", "the wav ends within its header; copy or make it again")
    return content


def encode(x, subtype):
    """float (N,) or (N, C) -> (bytes, number of samples that were clipped)."""
    code, bits = SUBTYPES[subtype]
    if code == FLOAT:
        return np.ascontiguousarray(x, f"<f{bits // 8}").tobytes(), 0
    steps, clipped = quantise(x, bits)
    if bits == 8:
        return (steps + 128).astype(np.uint8).tobytes(), clipped
    stored = steps.astype("<i2" if bits == 16 else "<i4")
    if bits == 24:
        return stored.reshape(-1, 1).view(np.uint8)[:, :3].tobytes(), clipped
    return stored.tobytes(), clipped


def decode(data, form):
    """Bytes of whole samples -> float32 (N,), or (N, C) for several channels."""
    code, bits = SUBTYPES[form.subtype]
    if code == FLOAT:
        with np.errstate(over="ignore"):  # beyond float32: infinite, as whoever asks for finite samples will say
            x = np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    elif bits == 8:
        x = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif bits == 24:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        x = (wide.view("<i4")[:, 0] >> 8).astype(np.float32) * np.float32(2**-23)
    else:
        x = np.frombuffer(data, f"<i{bits // 8}").astype(np.float32) * np.float32(2.0 ** (1 - bits))
    return x if form.channels == 1 else x.reshape(-1, form.channels)


def quantise(x, bits):
    """float, finite -> (whole numbers of ``bits`` bits, as floats; number of samples that were clipped)."""
    x = np.asarray(x)
    most = 2.0 ** (bits - 1)
    steps = np.rint(x * x.dtype.type(most) if bits <= 24 else x.astype(np.float64) * most)
    if not np.isfinite(steps).all():
        raise ValueError("audio to be stored has samples that are not finite")
    clipped = np.count_nonzero((steps > most - 1) | (steps < -most))
    return np.clip(steps, -most, most - 1), int(clipped)
