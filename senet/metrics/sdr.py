"""Signal-to-distortion ratio of BSS Eval version 3, in dB, of one source and the whole recording; higher is better.

What a filter of 512 taps makes of the reference does not count as distortion: a gain, a delay of less than 32 ms at
16 kHz, a frequency response. Version 4 (museval) has windows of a second and a median instead: not what papers on
speech print.

Source: Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation", IEEE TASLP 14(4),
2006.
"""

import numpy as np

from senet.metrics.base import Undefined, is_silent, metric

TAPS = 512


@metric("SDR", unit="dB", digits=2)
def sdr(est, ref, sample_rate):
    """Energy of the estimate's projection on the delayed references against the rest's, in dB.

    Undefined for a silent estimate, and when nothing is left over.
    """
    return projection_ratio(est, ref)


def projection_ratio(est, ref):
    """SDR of checked signals, in dB."""
    if is_silent(est):
        raise Undefined("the estimate is silent")
    from scipy import fft, linalg

    size = fft.next_fast_len(len(ref) + TAPS, real=True)
    spectrum = fft.rfft(ref, size)
    auto = fft.irfft(np.abs(spectrum) ** 2, size)[:TAPS]
    cross = fft.irfft(spectrum.conj() * fft.rfft(est, size), size)[:TAPS]
    auto[0] *= 1 + 1e-10  # keeps the system regular for periodic references
    try:
        projected = cross @ linalg.solve_toeplitz(auto, cross)
    except np.linalg.LinAlgError:
        raise Undefined("the delayed references are not independent") from None
    rest = est @ est - projected
    if rest <= 0:
        raise Undefined("the estimate is a filtered reference and nothing else")
    return 10 * np.log10(projected / rest)
