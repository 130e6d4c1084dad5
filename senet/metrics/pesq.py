"""Perceptual evaluation of speech quality, as MOS-LQO; higher is better.

``pesq_wb`` is ITU-T P.862.2 (about 1.02 to 4.64, 16 kHz), ``pesq_nb`` is P.862.1 (about 1.0 to 4.55, 8 or 16 kHz).
The two are not comparable, nor are papers before about 2018, some of which print the raw narrow-band score:
that is ``pesq_nb_raw``, P.862 before its mapping to MOS-LQO (about -0.5 to 4.5).

Computed by the package pesq, which holds ITU's C code. That code has room for 50 speech sections, and P.862 is meant
for recordings of half a minute; with more sections it writes past its arrays, and returns a wrong score or crashes.
The sections of long recordings are therefore counted first.
"""

import math

import numpy as np

from senet.metrics.base import Undefined, is_silent, metric, shared

MIN_SECONDS = 0.25
FRAME = 0.004  # seconds: the time unit of the C code's speech detector
JOIN = 50  # frames: a shorter pause does not end a section; a shorter section does not count
# Of ours. The C code filters differently before it counts, and found 1.1 to 1.55 times as many in LibriSpeech and VCTK.
MAX_SECTIONS = 30


@shared
def lqo(est, ref, sample_rate, mode):
    """MOS-LQO of ``mode`` "wb" or "nb", of checked signals."""
    import pesq

    if is_silent(est):
        raise Undefined("the estimate is silent")
    if len(ref) < MIN_SECONDS * sample_rate:
        raise Undefined(f"shorter than {MIN_SECONDS} s")
    if speech_sections(ref, sample_rate) > MAX_SECTIONS:
        raise Undefined("too many speech sections for PESQ; score it in pieces")
    try:
        return pesq.pesq(sample_rate, ref, est, mode)
    except pesq.NoUtterancesError:
        raise Undefined("no speech found in the reference") from None
    except pesq.PesqError as error:
        raise Undefined(f"{type(error).__name__} in PESQ") from None


@metric("PESQ-WB", packages=("pesq",), rates=(16000,), bounds=(1, 4.65))
def pesq_wb(est, ref, sample_rate):
    """Wide-band PESQ (P.862.2) as MOS-LQO; 16 kHz, at least 0.25 s."""
    return lqo(est, ref, sample_rate, "wb")


@metric("PESQ-NB", packages=("pesq",), rates=(8000, 16000), bounds=(1, 4.56))
def pesq_nb(est, ref, sample_rate):
    """Narrow-band PESQ (P.862.1) as MOS-LQO; 8 or 16 kHz, at least 0.25 s."""
    return lqo(est, ref, sample_rate, "nb")


@metric("PESQ-NB raw", packages=("pesq",), rates=(8000, 16000), bounds=(-0.5, 4.5))
def pesq_nb_raw(est, ref, sample_rate):
    """Narrow-band PESQ as P.862 has it, without P.862.1's mapping; 8 or 16 kHz, at least 0.25 s."""
    return raw_from_lqo(lqo(est, ref, sample_rate, "nb"))


def raw_from_lqo(lqo):
    """The raw narrow-band score behind a MOS-LQO: the inverse of P.862.1's mapping."""
    return (4.6607 - math.log(4 / (lqo - 0.999) - 1)) / 1.4945


def speech_sections(ref, sample_rate):
    """About how many sections of speech PESQ will find in ``ref``: frame powers above an adaptive threshold.

    Sections last 0.2 s and are 0.2 s apart, so a signal below 0.4 s times the limit is not even looked at: 0.
    """
    size = round(FRAME * sample_rate)
    n = len(ref) // size
    if n < 2 * JOIN * MAX_SECTIONS:
        return 0
    from scipy import signal

    band = signal.butter(2, (400, 3000), "bandpass", fs=sample_rate, output="sos")
    ref = signal.sosfilt(band, ref)
    power = np.mean(ref[: n * size].reshape(n, size) ** 2, axis=1)
    power = np.maximum(power, 1e-4 * power.max())
    threshold = power.mean()
    for _ in range(12):  # the level below which noise lies, as the C code settles on it
        quiet = power[power <= threshold]
        threshold = 1.001 * (quiet.mean() + 2 * quiet.std()) if len(quiet) else 0.0
    starts, ends = _runs(power > threshold)
    long_enough = ends - starts > 4
    starts, ends = starts[long_enough], ends[long_enough]
    if not len(starts):
        return 0
    apart = starts[1:] - ends[:-1] > JOIN
    starts, ends = starts[np.r_[True, apart]], ends[np.r_[apart, True]]
    return int(np.sum(ends - starts >= JOIN))


def _runs(active):
    edges = np.flatnonzero(np.diff(np.r_[False, active, False].astype(np.int8)))
    return edges[::2], edges[1::2]
