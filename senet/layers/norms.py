"""Normalisations of maps (B, C, T, F) with a scale and a shift per channel, by what their statistics are taken over.

    ``instance``    per utterance and channel, over T and F: the whole recording, so not causal
    ``instance_running``  the same while training; afterwards the running means of the training, so causal
    ``batch``       per channel, over the batch, T and F while training; afterwards running means, so causal
    ``global``      per utterance, over C, T and F: not causal
    ``frame``       per utterance and frame, over C and F: causal
    ``cumulative_instance``  per utterance and channel, over F and the frames 0..t: causal; not for maps of one bin,
        whose first frame has no variance and whose second is little but signs
    ``cumulative``  per utterance, over C, F and the frames 0..t: causal

Sources: cumulative layer norm: Luo and Mesgarani, "Conv-TasNet", 2019; the others as in torch.nn.
Maps (B, C, T) take part as (B, C, T, 1).
"""

import torch
from torch import Tensor, nn

from senet.errors import require_choice
from senet.layers.memory import running_mean
from senet.layers.precision import at_least_single

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
    require_choice("norm", kind, KINDS)
    return KINDS[kind](channels, eps, groups)


def offline(kind: str) -> str:
    """For a model's ``offline``: that this norm, none of ``CAUSAL``, needs the whole recording, and what streams."""
    return f"norm is {kind}, which streams as {', '.join(CAUSAL[:-1])} or {CAUSAL[-1]}"


class MapNorm(nn.Module):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, with statistics of each utterance and group of channels.

    torch.nn.GroupNorm and InstanceNorm2d are not accurate or not fast on channels-last maps: on a CPU, the sums of the
    first lose three digits on 30 s, and all of them where the mean is 1000 times the deviation; the second copies.

    Args:
        channels: C.
        eps: added to the variance, which is the biased one.
        groups: of neighbouring channels.
        span: frames that the statistics of frame t are taken over: ``all``, ``one``: t alone, ``past``: 0..t.
    """

    def __init__(self, channels: int, eps: float, groups: int, span: str):
        super().__init__()
        self.eps, self.groups, self.span = eps, groups, span
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> the same."""
        dtype = x.dtype
        x = at_least_single(x)  # sums of thousands of values
        weight, bias = self.weight[:, None, None], self.bias[:, None, None]
        if self.span == "past":
            y = self._by_past(x, weight, bias)
        else:
            y = _Normalise.apply(x, weight, bias, self.groups, self.span == "all", self.eps)
        return y.to(dtype)

    def _by_past(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        channels = x.shape[1]
        mean = _mean(x, self.groups)
        variance = _mean((x - _spread(mean, channels)).square(), self.groups)
        mean, variance = _accumulate(mean, variance)
        scale = (variance + self.eps).rsqrt()
        return torch.addcmul(bias, x - _spread(mean, channels), _spread(scale, channels) * weight)


class _Normalise(torch.autograd.Function):
    """By the statistics of each frame or of all, with the gradient in closed form: it takes a third of autograd's time.

    With y = (x - mean) / sqrt(variance + eps) and g the gradient by y: (g - mean(g) - y mean(g y)) / sqrt(...).
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, all_frames: bool, eps: float) -> Tensor:
        channels = x.shape[1]
        centred = x - _spread(_mean(x, groups, all_frames), channels)
        scale = _spread((_mean(centred.square(), groups, all_frames) + eps).rsqrt(), channels)
        ctx.save_for_backward(centred, scale, weight)
        ctx.groups, ctx.all_frames = groups, all_frames
        return torch.addcmul(bias, centred, scale * weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        centred, scale, weight = ctx.saved_tensors
        by_frame, product = grad.mean(3, keepdim=True), (grad * centred).mean(3, keepdim=True)  # B, C, T, 1
        first, second = (
            _spread(_mean(x * weight, ctx.groups, ctx.all_frames), x.shape[1]) for x in (by_frame, product)
        )
        second = second * scale.square()
        by_input = (grad * weight).sub_(first).addcmul_(centred, second, value=-1).mul_(scale)
        by_weight = (product * scale).sum((0, 2, 3))[:, None, None] * grad.shape[3]
        by_bias = by_frame.sum((0, 2, 3))[:, None, None] * grad.shape[3]
        return by_input, by_weight, by_bias, None, None, None


def _mean(x: Tensor, groups: int, all_frames: bool = False) -> Tensor:
    """(B, C, T, F) -> of each group of channels, (B, G, 1, T, 1), or over all frames (B, G, 1, 1, 1)."""
    return x.unflatten(1, (groups, -1)).mean((2, 3, 4) if all_frames else (2, 4), keepdim=True)


def _spread(statistic: Tensor, channels: int) -> Tensor:
    """(B, G, 1, T, 1) -> (B, C, T, 1), because whole maps lose their memory format in operations with five axes."""
    return statistic.expand(-1, -1, channels // statistic.shape[1], -1, -1).flatten(1, 2)


def _accumulate(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each frame, (B, G, 1, T, 1) -> those of the frames 0..t.

    The latter is mean(x^2) - mean(x)^2, a difference that cancels where the mean is large against the deviation: hence
    double, which these few values can afford, and a frame's mean(x^2) from its own mean and variance.
    """
    first, second = mean.double(), variance.double() + mean.double().square()
    first, second = running_mean(first, 3), running_mean(second, 3)
    return first.to(mean.dtype), (second - first.square()).clamp_min(0).to(mean.dtype)


KINDS = {
    "instance": lambda channels, eps, groups: MapNorm(channels, eps, channels, "all"),
    "instance_running": lambda channels, eps, groups: nn.InstanceNorm2d(
        channels, eps, affine=True, track_running_stats=True
    ),
    "batch": lambda channels, eps, groups: nn.BatchNorm2d(channels, eps),
    "global": lambda channels, eps, groups: MapNorm(channels, eps, groups, "all"),
    "frame": lambda channels, eps, groups: MapNorm(channels, eps, groups, "one"),
    "cumulative_instance": lambda channels, eps, groups: MapNorm(channels, eps, channels, "past"),
    "cumulative": lambda channels, eps, groups: MapNorm(channels, eps, groups, "past"),
}
