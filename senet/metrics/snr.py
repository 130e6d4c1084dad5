"""Signal-to-noise ratios in the time domain, in dB; higher is better.

``snr`` takes the estimate as it is; ``si_sdr`` forgives a wrong gain and nothing else, not even a delay of one sample.

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
    """Scale-invariant signal-to-distortion ratio in dB (with one source the same as SI-SNR).

    The means are removed, and the reference is scaled to its projection on the estimate. The two constants keep
    the ratio finite and are added to sums over the whole signal, so the value does not depend on its length.
    """
    if is_silent(est):
        raise Undefined("the estimate is silent")
    est, ref = est - est.mean(), ref - ref.mean()
    target = (est @ ref) / (ref @ ref + 1e-12) * ref
    error = est - target
    return 10 * np.log10(target @ target / (error @ error + 1e-20))
