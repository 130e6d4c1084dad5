"""SDR and SNRi as the public low-latency repository prints them, to compare with its numbers and with nothing else.

Its reference is not the clean signal but what the network makes of it; both outputs are compressed (``|X|^0.3``),
given the clean signal's phase and taken back to the time domain without undoing the compression; and SNRi takes the
SNR of the uncompressed mixture away from the compressed one. A network that returns silence and a whisper for
everything may score well: ``sdr``, ``si_sdr`` and ``snri`` are the standard ones.

``senet score`` takes the network's output for the clean signals as ``--enhanced_clean``; ``senet enhance`` makes it
from spk1.scp. Here the outputs are compressed after the mask and an inverse STFT, in the repository before: close, but
not the same.

Source: train.py of YunyangZeng/Spectrogram-Masking-based-Neural-Network-model-for-single-channel-Speech-Enhancement.
"""

import numpy as np

from senet.metrics.base import Undefined, metric, shared
from senet.metrics.sdr import projection_ratio

N_FFT, WINDOW, HOP = 512, 400, 160  # samples, at 16 kHz
EXPONENT = 0.3


@metric("SDR to enhanced clean", unit="dB", digits=2, rates=(16000,), also=("enhanced_clean",))
def lowlatency_repo_sdr(est, ref, enhanced_clean, sample_rate):
    """SDR of BSS Eval in dB, of the two compressed outputs under the clean phase; 16 kHz; higher is better."""
    return projection_ratio(*_compressed(est, ref, enhanced_clean))


@metric("SNRi to enhanced clean", unit="dB", digits=2, rates=(16000,), also=("noisy", "enhanced_clean"))
def lowlatency_repo_snri(est, ref, noisy, enhanced_clean, sample_rate):
    """SNR in dB of the two compressed outputs under the clean phase, less that of ``noisy`` against ``ref``; 16 kHz."""
    est, enhanced_clean = _compressed(est, ref, enhanced_clean)
    return _snr(est, enhanced_clean, "estimate") - _snr(noisy, ref, "noisy input")


def _snr(x, target, word):
    error = np.sum((x - target) ** 2)
    if error == 0:
        raise Undefined(f"there is no noise in the {word}")
    return 10 * np.log10(np.sum(target**2) / error)


@shared
def _compressed(est, ref, enhanced_clean):
    """Compressed estimate and enhanced clean with the phase of ``ref``: two signals of a multiple of HOP samples."""
    spectra = [_stft(x) for x in (est, enhanced_clean)]
    phase = np.exp(1j * np.angle(_stft(ref)))
    found = [_istft(np.abs(spectrum) ** EXPONENT * phase) for spectrum in spectra]
    if not found[1].any():
        raise Undefined("the enhanced clean signal is silent")
    return found


def _window():
    from scipy import signal

    return np.pad(signal.windows.hann(WINDOW, sym=False), (N_FFT - WINDOW) // 2)


def _stft(x):
    """(frames, bins) around each HOP-th sample; the ends are mirrored."""
    padded = np.pad(x, N_FFT // 2, mode="reflect")
    return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP] * _window())


def _istft(spectrum):
    """The signal whose STFT is nearest: frames overlap under the same window, over the sum of its squares."""
    frames = np.fft.irfft(spectrum, N_FFT) * _window()
    out, weight = np.zeros((2, HOP * (len(frames) - 1) + N_FFT))
    for t, frame in enumerate(frames):
        out[HOP * t : HOP * t + N_FFT] += frame
        weight[HOP * t : HOP * t + N_FFT] += _window() ** 2
    middle = slice(N_FFT // 2, len(out) - N_FFT // 2)
    return out[middle] / weight[middle]
