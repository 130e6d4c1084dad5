"""Normalisations of maps (B, C, T, F) with a scale and a shift per channel, by what their statistics are taken over.

    ``instance``    per utterance and channel, over T and F: the whole recording, so not causal
    ``instance_running``  the same while training; afterwards the running means of the training, so causal
    ``batch``       per channel, over the batch, T and F while training; afterwards running means, so causal
    ``global``      per utterance, over C, T and F: not causal
    ``frame``       per utterance and frame, over C and F: causal
    ``cumulative_instance``  per utterance and channel, over F and the frames 0..t: causal
    ``cumulative``  per utterance, over C, F and the frames 0..t: causal

Sources: cumulative layer norm: Luo and Mesgarani, "Conv-TasNet", 2019; the others as in torch.nn.
Maps (B, C, T) take part as (B, C, T, 1).
"""

import torch
from torch import Tensor, nn

from senet.errors import UserError

CAUSAL = ("instance_running", "batch", "frame", "cumulative_instance", "cumulative")  # once trained


def norm(kind: str, channels: int, eps: float = 1e-5, groups: int = 1) -> nn.Module:
    """The normalisation ``kind`` for ``channels`` channels; its parameters are ``weight`` and ``bias`` (C,).

    Args:
        kind: one of the above.
        channels: C.
        eps: added to the variance.
        groups: of neighbouring channels, each with its own statistics, where these are taken over C.
    Raises:
        UserError: there is no such kind.
    """
    if kind not in _KINDS:
        raise UserError(f"norm is '{kind}', expected {', '.join(_KINDS)}")
    return _KINDS[kind](channels, eps, groups)


class MapNorm(nn.Module):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, with statistics over ``dims`` of each utterance.

    Args:
        channels: C.
        eps: added to the variance, which is the biased one.
        dims: of (B, G, C / G, T, F) that mean and variance are taken over.
        groups: G.
        cumulative: and over all frames up to the present one.
    """

    def __init__(self, channels: int, eps: float, dims: tuple[int, ...], groups: int = 1, cumulative: bool = False):
        super().__init__()
        self.eps, self.dims, self.groups, self.cumulative = eps, dims, groups, cumulative
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> the same."""
        dtype = x.dtype
        x = x.float() if dtype in (torch.bfloat16, torch.float16) else x  # sums of thousands of values
        x = x.unflatten(1, (self.groups, -1))
        mean = x.mean(self.dims, keepdim=True)
        if self.cumulative:
            frames = torch.arange(1, x.shape[3] + 1, device=x.device, dtype=x.dtype)[:, None]
            mean = mean.cumsum(3) / frames
            # Around the mean of frame t, the values of frame s <= t have the power sum(x^2) - t * mean^2. In float32
            # that difference cancels where the mean is large against the deviation, hence double.
            power = x.double().square().mean(self.dims, keepdim=True).cumsum(3) / frames
            variance = (power - mean.double().square()).clamp_min(0).to(x.dtype)
        else:
            variance = (x - mean).square().mean(self.dims, keepdim=True)
        weight, bias = (p.view(self.groups, -1, 1, 1) for p in (self.weight, self.bias))
        x = (x - mean) * ((variance + self.eps).rsqrt() * weight) + bias
        return x.flatten(1, 2).to(dtype)


_KINDS = {
    "instance": lambda channels, eps, groups: MapNorm(channels, eps, (3, 4)),
    "instance_running": lambda channels, eps, groups: nn.InstanceNorm2d(
        channels, eps, affine=True, track_running_stats=True
    ),
    "batch": lambda channels, eps, groups: nn.BatchNorm2d(channels, eps),
    "global": lambda channels, eps, groups: nn.GroupNorm(groups, channels, eps),
    "frame": lambda channels, eps, groups: MapNorm(channels, eps, (2, 4), groups),
    "cumulative_instance": lambda channels, eps, groups: MapNorm(channels, eps, (4,), cumulative=True),
    "cumulative": lambda channels, eps, groups: MapNorm(channels, eps, (2, 4), groups, cumulative=True),
}
