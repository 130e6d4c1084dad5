"""Signal-to-noise ratios in the time domain, in dB; higher is better.

``snr`` takes the estimate as it is; ``si_sdr`` forgives a wrong gain and an offset and nothing else, not even a delay
of one sample; ``si_sdr_with_mean`` forgives the gain only. 0 dB is as much error as speech; there are no bounds.

Source: Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019.
"""

import numpy as np

from senet.metrics.base import Undefined, is_silent, metric


@metric("SNR", unit="dB", digits=2)
def snr(est, ref, sample_rate):
    """Ratio of the reference's energy to that of ``est - ref``, in dB.

    Undefined when the two are equal. A silent estimate scores 0 dB.
    """
    error = np.sum((est - ref) ** 2)
    if error == 0:
        raise Undefined("the estimate equals the reference")
    return 10 * np.log10(np.sum(ref**2) / error)


@metric("SI-SDR", unit="dB", digits=2)
def si_sdr(est, ref, sample_rate):
    """Scale-invariant signal-to-distortion ratio in dB (with one source the same as SI-SNR), means removed.

    Undefined for a silent estimate. A perfect one scores above 100 dB.
    """
    return scale_invariant_ratio(est - est.mean(), ref - ref.mean())


@metric("SI-SDR with mean", unit="dB", digits=2)
def si_sdr_with_mean(est, ref, sample_rate):
    """SI-SDR in dB of the signals as they are, as some papers print it: an offset of the estimate is distortion."""
    return scale_invariant_ratio(est, ref)


def scale_invariant_ratio(est, ref):
    """Energy of the estimate's projection on the reference over that of the rest, in dB.

    The two constants keep the ratio finite and are added to sums over the whole signal, so the value does not depend
    on its length.
    """
    if is_silent(est):
        raise Undefined("the estimate is silent")
    target = (est @ ref) / (ref @ ref + 1e-12) * ref
    error = est - target
    return 10 * np.log10(target @ target / (error @ error + 1e-20))
