"""Losses between waveforms (B, N), of the last stage; samples beyond a clip's length do not count."""

import torch
from torch import Tensor, nn

from senet.errors import UserError


class SISDR(nn.Module):
    """Negative scale-invariant signal-to-distortion ratio in dB, averaged over the batch: lower is better.

    Args:
        eps: added to the energies of target and distortion, so that a silent reference or a perfect estimate gives a
            finite loss with finite gradients; small against a clip's energy (3 s at -40 dB full scale: 4.8).
    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019; each signal's mean is removed first.
    """

    domain = "waveform"
    needs = ("clean",)

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and ``refs["clean"]`` (B, N) float; lengths (B,) in samples. Returns: loss, its terms."""
        mask = valid(lengths, stages[-1])
        est, ref = (_zero_mean(wave, mask, lengths) for wave in (stages[-1], refs["clean"]))
        target = ref * ((est * ref).sum(1, keepdim=True) / (ref.square().sum(1, keepdim=True) + self.eps))
        energy = target.square().sum(1) + self.eps
        distortion = (est - target).square().sum(1) + self.eps
        loss = (-10 * torch.log10(energy / distortion)).mean()
        return loss, {"si_sdr": -loss.detach()}


class L1(nn.Module):
    """Mean absolute difference, averaged per clip and then over the batch."""

    domain = "waveform"
    needs = ("clean",)

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and ``refs["clean"]`` (B, N) float; lengths (B,) in samples. Returns: loss, its terms."""
        difference = (stages[-1] - refs["clean"]).abs() * valid(lengths, stages[-1])
        loss = (difference.sum(1) / lengths).mean()
        return loss, {"l1": loss.detach()}


def valid(lengths: Tensor, x: Tensor) -> Tensor:
    """Which of the last axis of ``x``, samples or frames, lie within each clip's length: (B, size) bool."""
    return torch.arange(x.shape[-1], device=x.device) < lengths[:, None]


def valid_sums(error: Tensor, lengths: Tensor) -> Tensor:
    """(B, F, T) -> (B,): sums over the bins of each clip's frames."""
    return (error * valid(lengths, error)[:, None]).sum((1, 2))


def require_weights(where: str, weights):
    """Refuse weights of terms or stages of which one is below 0 or none above."""
    if not (all(weight >= 0 for weight in weights) and any(weights)):
        raise UserError(f"{where} are {list(weights)}, expected none below 0 and one above")


def require_above_zero(where: str, **values: float):
    """Refuse a value of 0 or below; ``where`` names the class, keywords the options."""
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"{where}: {name} is {value:g}, expected more than 0")


def _zero_mean(wave: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    wave = wave * mask
    return (wave - wave.sum(1, keepdim=True) / lengths[:, None]) * mask
