"""Hu and Loizou's composites: what listeners would say of signal, background and overall quality, 1 to 5.

Linear combinations of PESQ, LLR (without a cap), WSS and segmental SNR, fitted to listening tests. The coefficients are
those of the authors' program, which the published tables follow; the table in their paper has others.
At 16 kHz PESQ is the wide-band MOS-LQO, as in all tables of VoiceBank-DEMAND; at 8 kHz it is the raw narrow-band score,
which the authors fitted.

Source: Hu and Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE TASLP 16(1), 2008, and
their composite.m.
"""

import numpy as np

from senet.metrics import segmental
from senet.metrics.base import metric, shared
from senet.metrics.pesq import lqo, raw_from_lqo


@metric("CSIG", packages=("pesq",), rates=segmental.RATES, bounds=(1, 5))
def csig(est, ref, sample_rate):
    """Distortion of the speech alone, 1 (bad) to 5; 8 or 16 kHz."""
    return composites(est, ref, sample_rate)[0]


@metric("CBAK", packages=("pesq",), rates=segmental.RATES, bounds=(1, 5))
def cbak(est, ref, sample_rate):
    """Intrusiveness of the background, 1 (bad) to 5; 8 or 16 kHz."""
    return composites(est, ref, sample_rate)[1]


@metric("COVL", packages=("pesq",), rates=segmental.RATES, bounds=(1, 5))
def covl(est, ref, sample_rate):
    """Overall quality, 1 (bad) to 5; 8 or 16 kHz."""
    return composites(est, ref, sample_rate)[2]


@shared
def composites(est, ref, sample_rate):
    """(CSIG, CBAK, COVL) of checked signals."""
    if sample_rate == 16000:
        return combine(est, ref, sample_rate, lqo(est, ref, sample_rate, "wb"))
    return combine(est, ref, sample_rate, raw_from_lqo(lqo(est, ref, sample_rate, "nb")))


def combine(est, ref, sample_rate, pesq):
    """(CSIG, CBAK, COVL) of checked signals and their PESQ."""
    llr = segmental.lowest_mean(segmental.llr_of_frames(est, ref, sample_rate))
    wss = segmental.lowest_mean(segmental.wss_of_frames(est, ref, sample_rate))
    ssnr = segmental.mean_snr(est, ref, sample_rate)
    return np.clip(
        (
            3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
            1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * ssnr,
            1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
        ),
        1,
        5,
    )
