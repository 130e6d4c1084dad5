"""Recordings of any length by a model that needs whole ones: overlapping windows, cross-faded.

    window k      |--------------------------------------|
    window k + 1                              |--------------------------------------|
                                              . context . fade . context .
    result        ... window k ..............................\\/............ window k + 1 ...

Both windows see ``CONTEXT_SECONDS`` beyond what is heard of them: an end's effect is not heard up to there.
All windows have one length, the last too, which begins earlier instead: statistics over a window are of as much audio
everywhere, though not those of the whole, so that the result is another one (README has its PESQ). A recording that
fits into a window is enhanced at once, so that nothing differs from the model itself.
"""

import torch
from torch import Tensor, nn

from senet.errors import UserError

CONTEXT_SECONDS, FADE_SECONDS = 1.0, 0.5


def by_channels(model: nn.Module, x: Tensor, most: int) -> Tensor:
    """``model(x)`` of (C, N), as many channels at a time as have ``most`` samples together, but at least one."""
    return torch.cat([model(part) for part in x.split(max(1, most // max(1, x.shape[1])))])


class Windows:
    """One signal that comes in blocks, enhanced window by window.

    Args:
        model: see ``senet.models.base``, in evaluation mode.
        channels: C, enhanced one by one.
        length: of a window, samples.
    Raises:
        UserError: the window is not longer than what its neighbours share with it.
    """

    def __init__(self, model: nn.Module, channels: int, length: int):
        self.model, self.length = model, length
        self.context, fade = (round(s * model.sample_rate) for s in (CONTEXT_SECONDS, FADE_SECONDS))
        self.shared = 2 * self.context + fade
        if length <= 2 * self.shared:
            found, least = (n / model.sample_rate for n in (length, 2 * self.shared))
            raise UserError(f"windows of {found:g} s, expected more than {least:g} s: they overlap by half of that")
        self.rise = torch.sin(torch.pi / 2 * (torch.arange(fade) + 0.5) / fade).square()
        self.noisy = torch.zeros(channels, 0)  # from the last window's start on, or the recording's
        self.enhanced: Tensor | None = None  # fade and context at the last window's end, not given back yet

    def step(self, x: Tensor) -> Tensor:
        """(C, N) float32 -> (C, M): what is settled by now."""
        self.noisy = torch.cat([self.noisy, x], 1)
        settled = [x[:, :0]]
        while (start := self._next()) + self.length < self.noisy.shape[1]:  # with the end in it, it is the last
            settled.append(self._window(start))
        return torch.cat(settled, 1)

    def flush(self) -> Tensor:
        """(C, M): the rest."""
        if self.noisy.shape[1] <= self.length and self.enhanced is None:
            return self._enhance(self.noisy) if self.noisy.shape[1] else self.noisy
        settled = self._window(self.noisy.shape[1] - self.length)
        return torch.cat([settled, self.enhanced], 1)

    def _next(self):
        """Where the next window starts in ``noisy``."""
        return 0 if self.enhanced is None else self.length - self.shared

    def _window(self, start):
        """Enhance the window from ``start`` of ``noisy`` on; what is settled by it, (C, M)."""
        self.noisy = self.noisy[:, start:]
        wave = self._enhance(self.noisy[:, : self.length])
        fade, kept = self.rise.numel(), self.rise.numel() + self.context
        if self.enhanced is not None:
            wave = wave[:, self.length - start - kept :]
            crossed = torch.lerp(self.enhanced[:, :fade], wave[:, :fade], self.rise)
            wave = torch.cat([crossed, wave[:, fade:]], 1)
        settled, self.enhanced = wave[:, :-kept], wave[:, -kept:]
        return settled

    def _enhance(self, noisy):
        device = next(self.model.parameters(), noisy).device
        return by_channels(self.model, noisy.to(device), self.length).cpu()
