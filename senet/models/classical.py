"""Enhancement without training: the log-spectral amplitude estimator with minimum statistics, a floor for every table.

Papers: Y. Ephraim and D. Malah, "Speech enhancement using a minimum mean-square error log-spectral amplitude
estimator", IEEE Trans. ASSP 33(2), 1985 (E&M 85), with the decision-directed a-priori SNR of their 1984 paper (E&M 84).
R. Martin, "Noise power spectral density estimation based on optimal smoothing and minimum statistics", IEEE Trans.
Speech and Audio Processing 9(5), 2001 (Martin), called minimum statistics.

    noisy STFT -> |Y|^2 -> noise power (the least smoothed power of 1.5 s, without its bias) -> a-priori SNR -> gain

The papers were not at hand: formulas, constants and equation numbers are from memory, and Martin's table of M(D) agrees
with that of public implementations. Frames of 32 ms that overlap by three quarters are those of E&M 84.
Different on purpose: smoothing constants that Martin gives for a hop of 16 ms are converted to the present hop; the
mean of the first 64 ms is taken for noise, because the minimum of the next 1.5 s would be a hole of a single
periodogram; the signal is mirrored at its ends, so that the first frame is as loud as the next; a power of ``ROUNDING``
is added everywhere, which keeps digital silence finite; the synthesis is the least-squares inverse.
Known weaknesses: speech within the first 64 ms dulls the first syllable; after digital silence all is taken for speech
until 1.5 s have passed.

On 32 test pairs of VoiceBank-DEMAND (speaker p232) PESQ-WB rises from 1.79 to 2.00, SI-SDR from 6.0 to 10.7 dB, and
STOI falls from 0.907 to 0.896, at a real-time factor of 0.02 on one CPU thread. Nothing was tuned on them.

Shapes: B batch, T frames, F bins, N samples.
"""

import math

import numpy as np
import torch
from torch import Tensor

from senet.dsp import compress
from senet.dsp.stft import STFT
from senet.errors import UserError
from senet.layers.memory import current
from senet.models.base import SpectralModel

ROUNDING = 1e-8  # about the power in a bin that 16-bit rounding leaves in a frame of 512 samples


class LogMMSE(SpectralModel):
    """Log-MMSE amplitudes with the noisy phase; no parameters, causal.

    The recursion over frames is one operator (``senet::log_mmse_gain``), so that torch.compile and torch.export keep it
    as it is for any length; an exported program needs this module imported where it runs.

    Args:
        sample_rate: Hz.
        n_fft, hop_length: STFT sizes in samples; the window, Hann, is as long as the FFT.
        smoothing: alpha of the decision-directed approach; nearer to 1 gives less musical noise and duller onsets.
        least_prior_db: floor of the a-priori SNR, which limits the attenuation of noise.
    Raises:
        UserError: sizes that cannot be inverted, or a smoothing that never ends.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 128,
        smoothing: float = 0.98,
        least_prior_db: float = -25.0,
    ):
        if not 0 <= smoothing < 1:
            raise UserError(f"LogMMSE: smoothing is {smoothing}, expected 0 up to, but not, 1")
        super().__init__(sample_rate, STFT(n_fft, hop_length, n_fft, padding="reflect"))
        self.smoothing, self.least_prior = smoothing, 10 ** (least_prior_db / 10)

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> the one estimate. The gain counts as a constant for gradients."""
        power = compress.power(spec.detach()) + ROUNDING
        options = self.stft.hop_length / self.sample_rate, self.smoothing, self.least_prior
        memory = current()
        if memory is None:
            return [log_mmse_gain(power, *options) * spec]
        recursion = Recursion(power[:, :, 0].cpu(), *options)
        recursion.state = [memory.recall(lambda value=value: value) for value in recursion.state]
        gain = recursion.gain(power)
        for value in recursion.state:
            memory.keep(value)
        return [gain * spec]


@torch.library.custom_op("senet::log_mmse_gain", mutates_args=())
def log_mmse_gain(power: Tensor, hop_seconds: float, smoothing: float, least_prior: float) -> Tensor:
    """``Recursion.gain`` of a whole recording, (B, F, T) -> (B, F, T)."""
    return Recursion(power[:, :, 0].cpu(), hop_seconds, smoothing, least_prior).gain(power)


@log_mmse_gain.register_fake
def _(power, hop_seconds, smoothing, least_prior):
    return torch.empty_like(power, memory_format=torch.contiguous_format)


class Recursion:
    """The gain, frame after frame.

    The a-priori SNR of frame t is ``smoothing * A(t-1)^2 / noise(t-1) + (1 - smoothing) * max(posterior(t) - 1, 0)``
    with the estimated amplitudes A (E&M 84, eq. 51), and not below ``least_prior``.

    Args:
        first: (B, F) power of the first frame, for shape and type.
        hop_seconds: between frames.
        smoothing, least_prior: as above.
    """

    def __init__(self, first: Tensor, hop_seconds: float, smoothing: float, least_prior: float):
        self.noise_power = MinimumStatistics(first, hop_seconds)
        self.smoothing, self.least_prior = smoothing, least_prior
        self.before = torch.ones_like(first)  # A^2 / noise of the previous frame

    def gain(self, power: Tensor) -> Tensor:
        """(B, F, T) power of the next frames, positive -> (B, F, T) gain of the amplitudes."""
        frames = power.permute(2, 0, 1).cpu().contiguous()  # T, B, F; on a GPU the launches would take longer
        gains = torch.empty_like(frames)
        for frame, gain in zip(frames, gains, strict=True):
            posterior = frame / self.noise_power.update(frame)
            prior = torch.lerp((posterior - 1).clamp_min_(0), self.before, self.smoothing)
            gain.copy_(log_amplitude_gain(prior.clamp_min_(self.least_prior), posterior))
            self.before = gain.square() * posterior
        return gains.permute(1, 2, 0).contiguous().to(power.device)

    @property
    def state(self) -> list[Tensor]:
        """What the frames so far have left."""
        return [self.before, *self.noise_power.state]

    @state.setter
    def state(self, state: list[Tensor]):
        self.before, *self.noise_power.state = state


def log_amplitude_gain(prior: Tensor, posterior: Tensor) -> Tensor:
    """``prior / (1 + prior) * exp(E1(v) / 2)`` with ``v = prior / (1 + prior) * posterior`` (E&M 85, eq. 20).

    Args:
        prior, posterior: a-priori and a-posteriori SNR, positive, any shape.
    """
    wiener = prior / (1 + prior)
    return wiener * torch.exp(0.5 * exponential_integral(wiener * posterior))


def exponential_integral(x: Tensor) -> Tensor:
    """E1(x), the integral of exp(-t) / t from x to infinity; absolute error below 3e-7 + rounding, x > 0.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 5.1.53 (x <= 1) and 5.1.56 (x >= 1).
    """
    small, large = x.clamp(1e-30, 1), x.clamp(1, 50)
    below = _polynomial(small, 0.00107857, -0.00976004, 0.05519968, -0.24991055, 0.99999193, -0.57721566)
    above = _polynomial(large, 1, 8.5733287401, 18.0590169730, 8.6347608925, 0.2677737343)
    above /= _polynomial(large, 1, 9.5733223454, 25.6329561486, 21.0996530827, 3.9584969228)
    return torch.where(x < 1, below - small.log(), above / large * (-large).exp())


def _polynomial(x: Tensor, *coefficients: float) -> Tensor:
    """By Horner's rule, the highest power first."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value.mul_(x).add_(coefficient)
    return value


# M(D) of the bias of the minimum of D values: Martin's table III, from 180 on from his paper of 2006.
_M = {
    1: 0, 2: 0.26, 5: 0.48, 8: 0.58, 10: 0.61, 15: 0.668, 20: 0.705, 30: 0.762, 40: 0.8, 60: 0.841, 80: 0.865,
    120: 0.89, 140: 0.9, 160: 0.91, 180: 0.92, 220: 0.93, 260: 0.935, 300: 0.94,
}  # fmt: skip


class MinimumStatistics:
    """Noise power of each bin as the minimum of the smoothed power over 1.5 s, corrected for being a minimum.

    Speech leaves a bin free every now and then, so the minimum over a time longer than a syllable is noise. Rising
    noise is followed after that time, a little of it sooner: local minima, see ``_next_subwindow``.

    Args:
        first: (B, F) power of the first frame, for shape, type and device.
        hop_seconds: between frames.
    Source: Martin; the constants are those of the paper.
    """

    LEAD_SECONDS = 0.064  # taken for noise; ours
    SUBWINDOWS, SUBWINDOW_SECONDS = 8, 0.192  # 12 frames of 16 ms
    COUNTS = ("seen", "frames", "turn")
    MAPS = ("smoothed", "mean", "mean_square", "noise", "minimum", "minima", "correction", "present", "present_part")
    MAPS += ("local",)

    def __init__(self, first: Tensor, hop_seconds: float):
        per_hop = hop_seconds / 0.016
        self.most_smoothing, self.least_smoothing = 0.96**per_hop, 0.3**per_hop
        self.most_moment_smoothing, self.correction_smoothing = 0.8**per_hop, 0.7**per_hop
        self.snr_exponent = -hop_seconds / 0.064
        self.frames_per_subwindow = max(round(self.SUBWINDOW_SECONDS / hop_seconds), 2)
        self.of_part, self.of_whole = (
            (frames, _m(frames)) for frames in (self.frames_per_subwindow, self.SUBWINDOWS * self.frames_per_subwindow)
        )
        self.frames = 0  # of the present sub-window
        self.lead = max(round(self.LEAD_SECONDS / hop_seconds), 1)
        self.seen = 0
        self.smoothed = self.mean = self.mean_square = self.noise = self.minimum = torch.zeros_like(first)
        self.correction = torch.ones_like(first[:, :1])
        self.minima = first.new_full((self.SUBWINDOWS, *first.shape), math.inf)  # of the last sub-windows
        self.turn = 0  # which of them is replaced next
        self._start_subwindow()

    def update(self, power: Tensor) -> Tensor:
        """(B, F) power of the next frame, positive -> (B, F) noise power."""
        self.seen += 1
        if self.seen <= self.lead:
            self.smoothed = torch.lerp(power, self.smoothed, 1 - 1 / self.seen)
            self.mean, self.mean_square = self.smoothed, self.smoothed.square()
            self.noise = self.minimum = self.smoothed
            return self.noise
        smoothing = self._smoothing(power)
        self.smoothed = torch.lerp(power, self.smoothed, smoothing)  # eq. 4
        variance = self._variance(smoothing)
        # Values of the compensation for the whole window and for one sub-window.
        mean_variance = variance.mean(1, keepdim=True)
        compensated = (1 + 2.12 * mean_variance.sqrt()) * self.smoothed  # eq. 24-26
        whole = compensated * _bias(variance, *self.of_whole)
        part = compensated * _bias(variance, *self.of_part)
        lower = whole < self.present
        self.present = torch.where(lower, whole, self.present)
        self.present_part = torch.where(lower, part, self.present_part)
        self.frames += 1
        if self.frames == self.frames_per_subwindow:
            self._next_subwindow(lower, mean_variance)
        else:
            if self.frames > 1:
                self.local |= lower
            self.minimum = torch.minimum(self.minimum, self.present_part)
        self.noise = self.minimum
        return self.noise

    @property
    def state(self) -> list[Tensor]:
        """Counts and maps, of which frames to come make new ones."""
        counts = torch.tensor([getattr(self, name) for name in self.COUNTS])
        return [counts, *(getattr(self, name) for name in self.MAPS)]

    @state.setter
    def state(self, state: list[Tensor]):
        counts, *maps = state
        for name, value in zip(self.COUNTS, counts.tolist(), strict=True):
            setattr(self, name, value)
        for name, value in zip(self.MAPS, maps, strict=True):
            setattr(self, name, value.clone())  # some are changed in place

    def _smoothing(self, power: Tensor) -> Tensor:
        """(B, F): strong where the smoothed power is near the noise, weak where it has to follow speech (eq. 9-12)."""
        total = self.smoothed.sum(1, keepdim=True)
        error = total / power.sum(1, keepdim=True) - 1
        self.correction = torch.lerp(
            (1 / (1 + error.square())).clamp_min(0.7), self.correction, self.correction_smoothing
        )
        smoothing = self.most_smoothing * self.correction / (1 + (self.smoothed / self.noise - 1).square())
        snr = total / self.noise.sum(1, keepdim=True)
        return torch.maximum(smoothing, (snr**self.snr_exponent).clamp_max(self.least_smoothing))

    def _variance(self, smoothing: Tensor) -> Tensor:
        """(B, F): variance of the smoothed power over twice the squared noise, 1 / Q_eq (eq. 20-23), at most 0.5."""
        beta = smoothing.square().clamp_max(self.most_moment_smoothing)
        self.mean = torch.lerp(self.smoothed, self.mean, beta)
        self.mean_square = torch.lerp(self.smoothed.square(), self.mean_square, beta)
        variance = (self.mean_square - self.mean.square()) / (2 * self.noise.square())
        return variance.clamp(1e-3, 0.5)

    def _next_subwindow(self, lower: Tensor, mean_variance: Tensor):
        """Close a sub-window: forget the oldest, take over local minima that rose no faster than noise may."""
        self.minima[self.turn] = self.present
        self.turn = (self.turn + 1) % self.SUBWINDOWS
        self.minimum = self.minima.amin(0)
        slope = torch.full_like(mean_variance, 1.2)  # noise that is well known may rise more
        for limit, factor in ((0.06, 2), (0.05, 4), (0.03, 8)):
            slope = torch.where(mean_variance < limit, factor, slope)
        local = self.local & ~lower & (self.present_part < slope * self.minimum) & (self.present_part > self.minimum)
        self.minimum = torch.where(local, self.present_part, self.minimum)
        self.minima = torch.where(local, self.present_part, self.minima)
        self._start_subwindow()

    def _start_subwindow(self):
        self.frames = 0
        self.present = torch.full_like(self.smoothed, math.inf)  # minimum so far, compensated for the whole window
        self.present_part = self.present  # the same, compensated for one sub-window
        self.local = torch.zeros_like(self.smoothed, dtype=torch.bool)  # it fell after the sub-window's first frame


def _bias(variance: Tensor, frames: int, m: float) -> Tensor:
    """Mean over minimum of ``frames`` values with this normalised variance; m is M(frames) (Martin, eq. 16-17)."""
    return 1 + 2 * (frames - 1) * (1 - m) / (1 / variance - 2 * m)


def _m(frames: int) -> float:
    """M(frames), between the entries of the table along sqrt(frames)."""
    return float(np.interp(math.sqrt(frames), np.sqrt([*_M]), [*_M.values()]))
