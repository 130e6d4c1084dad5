"""Logarithmic mel filter-bank energies as Kaldi's compute-fbank-feats gives them, without dither."""

from torch import Tensor

from senet.errors import UserError


class Fbank:
    """Kaldi's fbank with its defaults: Povey window, DC removed per frame, power spectrum, natural logarithm.

    Args:
        sample_rate: Hz.
        num_mel_bins: filters.
        frame_length, frame_shift: milliseconds.
        snip_edges: only frames that lie wholly in the signal; otherwise one per shift, mirrored at the ends.
        low_freq, high_freq: Hz, edges of the filters; ``high_freq <= 0`` is counted from the Nyquist frequency.
        preemphasis: coefficient.
    Raises:
        UserError: filters that do not fit between 0 Hz and the Nyquist frequency.
    """

    def __init__(
        self,
        sample_rate,
        num_mel_bins=80,
        frame_length=25.0,
        frame_shift=10.0,
        snip_edges=True,
        low_freq=20.0,
        high_freq=0.0,
        preemphasis=0.97,
    ):
        nyquist = sample_rate / 2
        upper = high_freq if high_freq > 0 else nyquist + high_freq
        if num_mel_bins < 4 or not 0 <= low_freq < upper <= nyquist:
            raise UserError(
                f"fbank: {num_mel_bins} bins from {low_freq:g} to {upper:g} Hz; "
                f"at least 4 expected, within 0 to {nyquist:g} Hz"
            )
        self.options = {
            "sample_frequency": float(sample_rate),
            "num_mel_bins": num_mel_bins,
            "frame_length": frame_length,
            "frame_shift": frame_shift,
            "snip_edges": snip_edges,
            "low_freq": low_freq,
            "high_freq": high_freq,
            "preemphasis_coefficient": preemphasis,
            "dither": 0.0,
        }

    def __call__(self, wave: Tensor) -> Tensor:
        """(N,) float in [-1, 1) -> (T, num_mel_bins); T is 0 when ``snip_edges`` and N is below one frame.

        Kaldi computes on 16-bit sample values, so the signal is scaled by 32768 first.
        """
        from torchaudio.compliance import kaldi

        return kaldi.fbank(wave[None] * 32768, **self.options)
