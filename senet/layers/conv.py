"""Convolutions over maps (B, C, T, F) that keep the number of frames and do not look ahead unless told to."""

import torch.nn.functional as F
from torch import Tensor, nn

from senet.layers import memory


class TimeConv(nn.Conv2d):
    """Convolution over (B, C, T, F) that keeps T: zeros before, ``future`` zero frames after the signal.

    Written for channels-last memory. The convolution itself pads both ends of the time by the smaller of past and
    future, and a copy is padded by the rest: oneDNN's gradients take 2-3 times as long when a convolution pads more
    than half of its reach.

    Args:
        num_inputs, channels: C before and after.
        kernel: time x frequency.
        dilation: time x frequency.
        stride: in frequency.
        future: frames seen after the present one, at most ``(kernel[0] - 1) * dilation[0]``.
        margin: zeros on both sides of the frequency axis; None: as many as keep F when the stride is 1.
        groups, bias: as in torch.nn.Conv2d.
    """

    def __init__(
        self,
        num_inputs: int,
        channels: int,
        kernel: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
        stride: int = 1,
        future: int = 0,
        margin: int | None = None,
        groups: int = 1,
        bias: bool = True,
    ):
        past = (kernel[0] - 1) * dilation[0] - future
        both = min(past, future)
        margin = kernel[1] // 2 * dilation[1] if margin is None else margin
        super().__init__(num_inputs, channels, kernel, (1, stride), (both, margin), dilation, groups, bias)
        self.past, self.future, self.rest = past, future, (past - both, future - both)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, channels, T, F'); in a stream ``future`` frames late."""
        if (streaming := memory.current()) is not None:
            return self._forward(x, streaming)
        return super().forward(F.pad(x, (0, 0, *self.rest)) if any(self.rest) else x)

    def _forward(self, x: Tensor, streaming: memory.Memory) -> Tensor:
        x = memory.with_past(streaming.look_ahead(x, self.future), self.past + self.future)
        padding = (0, self.padding[1])
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
