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


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm, the fastest on channels-last maps, that also takes a single value per group: one frame."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> the same."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class FrameNorm(nn.Module):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, with statistics of each frame and group of channels.

    Args:
        channels: C.
        eps: added to the variance, which is the biased one.
        groups: of neighbouring channels.
        cumulative: take the statistics over the frames 0..t.
    """

    def __init__(self, channels: int, eps: float, groups: int = 1, cumulative: bool = False):
        super().__init__()
        self.eps, self.groups, self.cumulative = eps, groups, cumulative
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> the same."""
        dtype = x.dtype
        x = x.float() if dtype in (torch.bfloat16, torch.float16) else x  # sums of thousands of values
        mean = self._mean(x)
        centred = x - self._spread(mean)
        variance = self._mean(centred.square())
        if self.cumulative:
            mean, variance = _accumulate(mean, variance)
            centred = x - self._spread(mean)
        scale = self._spread((variance + self.eps).rsqrt()) * self.weight[:, None, None]
        return torch.addcmul(self.bias[:, None, None], centred, scale).to(dtype)

    def _mean(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, G, 1, T, 1), G groups."""
        return x.unflatten(1, (self.groups, -1)).mean((2, 4), keepdim=True)

    def _spread(self, statistic: Tensor) -> Tensor:
        """(B, G, 1, T, 1) -> (B, C, T, 1)."""
        return statistic.expand(-1, -1, len(self.weight) // self.groups, -1, -1).flatten(1, 2)


def _accumulate(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each frame, (B, G, 1, T, 1) -> those of the frames 0..t.

    The latter is mean(x^2) - mean(x)^2, a difference that cancels where the mean is large against the deviation: hence
    double, which these few values can afford, and a frame's mean(x^2) from its own mean and variance.
    """
    frames = torch.arange(1, mean.shape[3] + 1, device=mean.device)[:, None]
    first, second = mean.double(), variance.double() + mean.double().square()
    first, second = first.cumsum(3) / frames, second.cumsum(3) / frames
    return first.to(mean.dtype), (second - first.square()).clamp_min(0).to(mean.dtype)


_KINDS = {
    "instance": lambda channels, eps, groups: GroupNorm(channels, channels, eps),
    "instance_running": lambda channels, eps, groups: nn.InstanceNorm2d(
        channels, eps, affine=True, track_running_stats=True
    ),
    "batch": lambda channels, eps, groups: nn.BatchNorm2d(channels, eps),
    "global": lambda channels, eps, groups: GroupNorm(groups, channels, eps),
    "frame": lambda channels, eps, groups: FrameNorm(channels, eps, groups),
    "cumulative_instance": lambda channels, eps, groups: FrameNorm(channels, eps, channels, cumulative=True),
    "cumulative": lambda channels, eps, groups: FrameNorm(channels, eps, groups, cumulative=True),
}
