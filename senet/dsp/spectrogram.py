"""Spectrograms to look at: power on a decibel scale, and its picture, without a plotting library."""

import struct
import zlib

import numpy as np

RANGE_DB = 80  # below the loudest, in a picture
# The colours of power, from the least to the most: their lightness rises evenly, so they read in grey, too.
COLOURS = ((4, 5, 16), (33, 18, 84), (92, 24, 116), (152, 40, 110), (208, 66, 84), (243, 116, 54), (252, 182, 72),
           (252, 246, 192))  # fmt: skip
_LEVELS = 64  # of power: 1.25 dB each
_COLUMNS = 750  # at most: twice what a screen gives them


def power_db(x, rate, seconds, top):
    """Power of a Hann-windowed STFT of 32 ms frames; a full-scale sine has -6 dB.

    Args:
        x: (N,) samples of at most ``seconds``; what is missing is silence.
        rate: of ``x``, Hz.
        seconds, top: duration and highest frequency (Hz) to show, so that several signals get the same axes.
    Returns:
        float64 (F, T), dB; at least -140.
    """
    size = 2 * round(0.016 * rate)
    hop = max(round(0.008 * rate), int(np.ceil(seconds * rate / _COLUMNS)))
    window = np.hanning(size)
    total = round(seconds * rate)
    padded = np.pad(np.nan_to_num(x.astype(np.float64)), (size // 2, size // 2 + total - len(x)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * (window / window.sum())
    power = 10 * np.log10(np.abs(np.fft.rfft(frames).T) ** 2 + 1e-14)
    rows = round(top * size / rate) + 1
    return np.pad(power, ((0, rows - len(power)), (0, 0)), constant_values=-140)


def png(power):
    """Bytes of a PNG file of (F, T) dB below the loudest, low frequencies at the bottom."""
    levels = np.clip((power / RANGE_DB + 1) * (_LEVELS - 1), 0, _LEVELS - 1).round().astype(np.uint8)[::-1]
    at = np.linspace(0, len(COLOURS) - 1, _LEVELS)
    palette = np.stack([np.interp(at, range(len(COLOURS)), c) for c in zip(*COLOURS, strict=True)], axis=1)
    rows = np.pad(levels, ((0, 0), (1, 0))).tobytes()  # each row begins with its filter: 0, none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 8, 3, 0, 0, 0)),
        (b"PLTE", palette.round().astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
