"""Convolutions over maps (B, C, T, F) that keep the number of frames and do not look ahead unless told to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimeConv(nn.Conv2d):
    """Convolution over (B, C, T, F) that keeps T: zeros before, ``future`` zero frames after the signal.

    Written for channels-last memory. The convolution pads both ends alike and the frames too many at the end are cut,
    which is faster than padding a copy.

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
        margin = kernel[1] // 2 * dilation[1] if margin is None else margin
        super().__init__(
            num_inputs, channels, kernel, (1, stride), (past, margin), dilation, groups, bias
        )  # fmt: skip
        self.future = future

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, channels, T, F')."""
        step = self.dilation[0]
        if step > 1 and self.dilation[1] == 1 and x.device.type == "cpu" and torch.is_grad_enabled():
            return self._by_phase(x)
        past = self.padding[0]
        if self.future > past:
            x = F.pad(x, (0, 0, 0, self.future - past))
        return super().forward(x)[:, :, : x.shape[2] - max(self.future - past, 0)]

    def _by_phase(self, x: Tensor) -> Tensor:
        """The same as d interleaved signals, d the dilation: oneDNN is 2-3 times slower on dilated weight gradients."""
        frames, step, past = x.shape[2], self.dilation[0], self.padding[0]
        x = F.pad(x, (0, 0, past, self.future + -(past + frames + self.future) % step))
        x = x.permute(0, 2, 3, 1).unflatten(1, (-1, step)).transpose(1, 2).flatten(0, 1)  # B * d, T' / d, F, C
        x = F.conv2d(
            x.permute(0, 3, 1, 2), self.weight, self.bias, self.stride, (0, self.padding[1]), groups=self.groups
        )
        x = x.permute(0, 2, 3, 1).unflatten(0, (-1, step)).transpose(1, 2).flatten(1, 2)  # B, >= T, F, C
        return x[:, :frames].permute(0, 3, 1, 2)
