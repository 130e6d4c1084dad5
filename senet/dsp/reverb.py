"""Reverberation by room impulse responses (RIRs)."""

import math

import numpy as np

from senet.dsp.level import whole_steps

EARLY_SECONDS = 0.05
RIR_BITS = 22  # more than for a signal, as its quiet end is long; no more, or double precision would not do


def early_part(rir, sample_rate):
    """``rir`` (M,) up to 50 ms after its largest magnitude: the direct sound and the early reflections."""
    return rir[: int(np.abs(rir).argmax()) + round(EARLY_SECONDS * sample_rate)]


def reverberate(x, *rirs):
    """The first N samples of the convolutions of ``x`` (N,) with each of ``rirs`` (M,); float32 (len(rirs), N).

    They are exact for whole multiples of 2**-18 of the largest magnitude of ``x`` (16-bit recordings are) and 2**-22 of
    that of a response, to which both are rounded: what a transform in double precision gets wrong is far less than the
    half of a unit, so rounding its result to whole numbers leaves what any other transform would.

    Blocks of a few times the RIR (overlap-save) take less time than one transform over everything, and two at a time,
    as scipy's transforms take two doubles with each instruction, less again.
    """
    from scipy import fft

    n = len(x)
    rirs = [rir[:n] for rir in rirs]
    overlap = max(map(len, rirs)) - 1
    count = 2 * max(1, round(n / (2 * max(3 * overlap, 1 << 14))))
    step = -(-n // count)
    size = 1024 * fft.next_fast_len(-(-(step + overlap) // 1024), real=True)  # radix 4 is fastest
    steps, exponent = whole_steps(x)
    padded = np.zeros((count - 1) * step + size)
    padded[overlap : overlap + n] = steps
    responses, exponents = zip(*(whole_steps(rir, RIR_BITS) for rir in rirs), strict=True)
    responses = [fft.rfft(response, size, workers=1) for response in responses]
    y = np.empty((len(rirs), count, step), np.float32)
    blocks = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    for i in range(0, count, 2):
        spectra = fft.rfft(blocks[i : i + 2], workers=1)
        for out, response in zip(y, responses, strict=True):
            whole = fft.irfft(spectra * response, size, overwrite_x=True, workers=1)[:, overlap : overlap + step]
            out[i : i + 2] = np.rint(whole, out=whole)
    for out, of_response in zip(y, exponents, strict=True):
        out *= math.ldexp(1, exponent + of_response)
    return y.reshape(len(rirs), -1)[:, :n]
