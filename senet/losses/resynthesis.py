"""Losses between waveforms (B, N) that compare their spectra too, of the last stage; padding does not count.

They see what is left of an estimated spectrum after its synthesis, whatever transform the model works on.
"""

import torch
from torch import Tensor, nn

from senet.dsp.compress import power, power_compress
from senet.dsp.stft import STFT
from senet.errors import require_choice
from senet.losses.waveform import require_above_zero, require_weights, valid, valid_sums


class Hybrid(nn.Module):
    """Compressed complex spectrum, compressed magnitude and SI-SNR: lower is better.

    With P^c = P / |P|^(1 - exponent), means over a clip's bins and valid frames, then over the batch:
    ``complex_weight * (mean (Re P^c - Re C^c)^2 + mean (Im P^c - Im C^c)^2)
    + magnitude_weight * mean (|P|^mag_exponent - |C|^mag_exponent)^2 - si_snr_weight * log10(SI-SNR)``,
    P of the estimate and C of the clean signal; SI-SNR is a ratio of energies here, no mean is removed.

    Args:
        complex_weight, magnitude_weight, si_snr_weight: of the three terms, at least 0, one of them more.
        exponent: of the complex term, above 0, as ``mag_exponent``.
        mag_exponent: of the magnitude term: 0.3 as in SEtrain; Acceleration123 runs 0.7.
        n_fft, hop_length, win_length, window: of the STFT that compares, in samples; mirrored at the ends.
    Raises:
        UserError: no weight, or an exponent of 0 or below.
    Source: Xiaobin-Rong/SEtrain; Acceleration123/Speech-Enhancement. SEtrain takes the SI-SNR of the whole hops only,
        because it synthesises from spectra. Ours: the energies in both of SI-SNR's denominators have a floor.
    """

    domain = "waveform"
    needs = ("clean",)

    def __init__(
        self,
        complex_weight: float = 30.0,
        magnitude_weight: float = 70.0,
        si_snr_weight: float = 1.0,
        exponent: float = 0.3,
        mag_exponent: float = 0.3,
        n_fft: int = 512,
        hop_length: int = 256,
        win_length: int = 512,
        window: str = "sqrt_hann",
    ):
        super().__init__()
        require_weights(
            "Hybrid: the weights of complex, magnitude and si_snr", (complex_weight, magnitude_weight, si_snr_weight)
        )
        require_above_zero("Hybrid", exponent=exponent, mag_exponent=mag_exponent)
        self.weights, self.si_snr_weight = {"complex": complex_weight, "magnitude": magnitude_weight}, si_snr_weight
        self.exponent, self.mag_exponent = exponent, mag_exponent
        self.stft = STFT(n_fft, hop_length, win_length, window, "reflect")

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and ``refs["clean"]`` (B, N) float; lengths (B,) in samples. Returns: loss, its terms
        (SI-SNR in dB)."""
        mask = valid(lengths, stages[-1])
        est, ref = stages[-1] * mask, refs["clean"] * mask
        est_spec, ref_spec = self.stft(est), self.stft(ref)
        frames = self.stft.num_frames(lengths)
        difference = power_compress(est_spec, self.exponent, 1e-12) - power_compress(ref_spec, self.exponent, 1e-12)
        si_snr = _log_si_snr(est, ref).mean()
        terms = {
            "complex": _clip_mean(power(difference), frames),
            "magnitude": _clip_mean((self._magnitude(est_spec) - self._magnitude(ref_spec)).square(), frames),
        }
        loss = sum(self.weights[name] * value for name, value in terms.items()) - self.si_snr_weight * si_snr
        return loss, {name: value.detach() for name, value in terms.items()} | {"si_snr": 10 * si_snr.detach()}

    def _magnitude(self, spec: Tensor) -> Tensor:
        return (power(spec) + 1e-12) ** (self.mag_exponent / 2)


class PlainSpectrum(nn.Module):
    """Distances of magnitudes, of complex spectra and of samples, nothing compressed: lower is better.

    The weighted mean of three terms, each a mean over a clip and then over the batch, with d(x) = |x| or x^2:
    ``magnitude``: d(|P| - |C|), where |P| = sqrt(re^2 + im^2 + 1e-7);
    ``complex``: (d(re P - re C) + d(im P - im C)) / 2;
    ``time``: d(p - c); p and P are the estimate and its spectrum, c and C the clean signal's.

    The modes of CNUNet's code are weights of magnitude, complex and time: ``mag+real+imag`` (1, 1, 0), the default;
    ``real+imag`` (0, 1, 0); ``time`` (0, 0, 1); and two that crash there: ``mag`` (1, 0, 0), ``time+mag`` (1, 0, 1).
    NUNet's loss is the last with ``time_distance: l2``.

    Args:
        magnitude_weight, complex_weight, time_weight: at least 0, one of them more.
        spectrum_distance: d of the first two terms. time_distance: of the third. ``l1`` or ``l2``.
        n_fft, hop_length, win_length, window: of the STFT that compares, in samples; all frames that overlap a clip.
    Raises:
        UserError: no weight, or an unknown distance.
    Source: seorim0/CNUNet, seorim0/NUNet-TLS. Different: padding does not count (there, means over the padded batch);
        the 1e-7 under the root, which is CNUNet's, also stands in NUNet's loss, whose code has none.
    """

    domain = "waveform"
    needs = ("clean",)

    def __init__(
        self,
        magnitude_weight: float = 1.0,
        complex_weight: float = 1.0,
        time_weight: float = 0.0,
        spectrum_distance: str = "l1",
        time_distance: str = "l1",
        n_fft: int = 512,
        hop_length: int = 100,
        win_length: int = 400,
        window: str = "hamming",
    ):
        super().__init__()
        weights = {"magnitude": magnitude_weight, "complex": complex_weight, "time": time_weight}
        require_weights("PlainSpectrum: the weights of magnitude, complex and time", weights.values())
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.spectrum_distance = _distance("spectrum_distance", spectrum_distance)
        self.time_distance = _distance("time_distance", time_distance)
        self.stft = STFT(n_fft, hop_length, win_length, window, "full")

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and ``refs["clean"]`` (B, N) float; lengths (B,) in samples. Returns: loss, its terms."""
        mask = valid(lengths, stages[-1])
        est, ref = stages[-1] * mask, refs["clean"] * mask
        terms = {}
        if "time" in self.weights:
            terms["time"] = _clip_mean(self.time_distance(est - ref)[:, None], lengths)
        if "magnitude" in self.weights or "complex" in self.weights:
            est, ref, frames = self.stft(est), self.stft(ref), self.stft.num_frames(lengths)
        if "magnitude" in self.weights:
            terms["magnitude"] = _clip_mean(self.spectrum_distance(_magnitude(est) - _magnitude(ref)), frames)
        if "complex" in self.weights:
            difference = est - ref
            distance = self.spectrum_distance(difference.real) + self.spectrum_distance(difference.imag)
            terms["complex"] = _clip_mean(distance / 2, frames)
        loss = sum(self.weights[name] * value for name, value in terms.items()) / sum(self.weights.values())
        return loss, {name: value.detach() for name, value in terms.items()}


def _distance(option: str, name: str):
    distances = {"l1": torch.abs, "l2": torch.square}
    require_choice(f"PlainSpectrum: {option}", name, distances)
    return distances[name]


def _magnitude(spec: Tensor) -> Tensor:
    return (power(spec) + 1e-7).sqrt()


def _clip_mean(error: Tensor, frames: Tensor) -> Tensor:
    """(B, F, T) -> mean over the bins and valid frames of each clip, and then over the batch."""
    return (valid_sums(error, frames) / (frames * error.shape[1])).mean()


def _log_si_snr(est: Tensor, ref: Tensor) -> Tensor:
    """log10 of the scale-invariant signal-to-noise ratio, a tenth of its dB: (B, N) -> (B,)."""
    target = ref * ((est * ref).sum(1, keepdim=True) / (ref.square().sum(1, keepdim=True) + 1e-8))
    noise = (est - target).square().sum(1).clamp_min(1e-8)
    return torch.log10(target.square().sum(1) / noise + 1e-8)
