"""Causal models on a stream: chunks of any size in, what is settled out, equal to the model on the whole recording.

A model that streams says how far it waits (``latency``, see ``senet.models.base``) and is either a ``SpectralModel``,
whose layers keep what they need of the past as ``senet.layers.memory`` has it, or works in windows of samples, such as
``senet.models.segan``.

Shapes: C channels, which are enhanced independently of each other, N samples, T frames, F bins.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import UserError
from senet.layers.memory import Memory

Chunk = TypeVar("Chunk", np.ndarray, Tensor)
MAX_FRAMES = 128  # at a time, which bounds the memory that a large chunk takes


class Stream:
    """One live signal through one model.

    Output sample n is given out as soon as input sample n + ``latency`` is there, or the signal is over. Nothing is
    delayed otherwise: the outputs of all ``step`` and of ``flush``, one after the other, are ``model(signal)``.

    Args:
        model: in evaluation mode, see ``senet.models.base``; it may serve any number of streams.
        channels: C.
    Attributes:
        latency, sample_rate: the model's, in samples and Hz.
        hop: samples that come out at a time, and that chunks should have, or a multiple.
    Raises:
        UserError: the model needs the whole recording (says which settings make it so, and what would stream), or
            there is no channel.
    """

    def __init__(self, model: nn.Module, channels: int = 1):
        require_streaming(model)
        if channels < 1:
            raise UserError(f"a stream of {channels} channels, expected one or more")
        if model.training:
            raise ValueError("a model streams in evaluation mode: call model.eval() first")
        self.latency, self.sample_rate = model.latency, model.sample_rate
        self.hop = model.stft.hop_length if hasattr(model, "stft") else model.hop
        self._core = _Frames(model, channels) if hasattr(model, "stft") else _Windows(model, channels)
        self._channels, self._like = channels, Tensor.cpu

    def step(self, x: Chunk) -> Chunk:
        """(C, N) float, the next N >= 0 samples -> (C, M), all that is settled with them.

        NumPy or torch: the same comes back, on the same device.

        Raises:
            UserError: another number of channels, or samples that are no floats or not finite; the stream can go on
                without them.
        """
        x, self._like = as_tensor(x, self._channels)
        with torch.inference_mode():
            return self._like(self._core.step(x.to(self._core.like)))

    def flush(self) -> Chunk:
        """The signal is over: (C, M), what is left of it, as ``step`` gave it. The next ``step`` begins another one."""
        with torch.inference_mode():
            rest = self._core.flush()
        self.reset()
        return self._like(rest)

    def reset(self):
        """Forget the signal; the next ``step`` begins another one."""
        with torch.inference_mode():
            self._core.reset()


class FrameStep(nn.Module):
    """A model from one noisy frame to one enhanced frame, as a pure function, for export.

        state = step.initial_state()
        enhanced, *state = step(frame, *state)

    What comes out is late by ``lookahead`` frames: that many at the beginning are to be dropped. When the signal is
    over, as many frames of zeros are to be put in; if ``live`` is not None, after ``state[live]`` was set to 0.

    Frames are those of ``model.stft``, whose padding at the ends, and overlapping and adding, is left to the caller;
    samples then go through ``model.limit``. It can be traced unless the model counts frames outside of tensors, as
    ``senet.models.classical`` does.

    Args:
        model: a ``SpectralModel`` in evaluation mode.
    Raises:
        UserError: the model needs the whole recording, or has no frames.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        require_streaming(model)
        if not hasattr(model, "stft"):
            raise UserError(f"{type(model).__name__} works in windows of samples; there is no step from frame to frame")
        self.model, self.lookahead = model, model.lookahead
        self.live = self._begin(1).live

    def initial_state(self, channels: int = 1) -> list[Tensor]:
        """The tensors that go with the first frame of a signal of C channels."""
        return [value.clone() for value in self._begin(channels).initial]

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """(C, F, 2), real and imaginary part, state -> (C, F, 2), state."""
        with Memory(state) as memory:
            spec = self.model.enhanced(torch.view_as_complex(frame)[:, :, None])
        return torch.view_as_real(spec[:, :, 0]), *memory.state

    def _begin(self, channels: int) -> Memory:
        stft = self.model.stft
        with torch.no_grad(), Memory() as memory:
            self.model.enhanced(torch.zeros_like(stft.window[: stft.num_bins, None]).expand(channels, -1, 1) + 0j)
        return memory


def as_tensor(x: Chunk, channels: int) -> tuple[Tensor, Callable[[Tensor], Chunk]]:
    """A chunk as a tensor, and what makes of another tensor that which the chunk was: NumPy's, or on its device.

    Raises:
        UserError: ``x`` is not (C, N), or not of finite floats.
    """
    kind = getattr(x, "dtype", type(x).__name__)
    if isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating):
        tensor, like = torch.from_numpy(x.astype(np.float32)), partial(Tensor.numpy, force=True)
    elif isinstance(x, Tensor) and x.is_floating_point():
        tensor, like = x.detach(), partial(Tensor.to, device=x.device)
    else:
        raise UserError(f"a chunk of {kind}, expected floats in [-1, 1], of NumPy or torch")
    if tensor.ndim != 2 or tensor.shape[0] != channels:
        raise UserError(f"a chunk of shape {tuple(tensor.shape)}, expected ({channels}, samples)")
    if not torch.isfinite(tensor).all():
        raise UserError("a chunk holds NaN or infinite samples")
    return tensor, like


def require_streaming(model: nn.Module):
    """UserError if the model needs the whole recording: says why, and what would stream."""
    if model.latency is None:
        reasons = "; ".join(getattr(model, "offline", ())) or "nothing is known about why"
        raise UserError(
            f"{type(model).__name__} as configured here needs the whole recording, so it cannot stream; other settings "
            f"need another training: {reasons}"
        )


class _Frames:
    """A ``SpectralModel``: frames are cut as their last sample comes in, and samples given out as their last frame is.

    Of a frame only the part from ``stft.first`` to ``stft.last`` counts, which the window does not make zero.
    """

    def __init__(self, model: nn.Module, channels: int):
        self.model, self.stft, self.channels, self.like = model, model.stft, channels, model.stft.window
        self.width, self.lead = self.stft.latency + 1, self.stft.before - self.stft.first
        self.reset()

    def reset(self):
        self.received, self.fed = 0, 0  # samples, and frames into the network
        self.given = -self.lead  # samples, from the first frame's on
        self.state = self.live = None  # of the network, see senet.layers.memory
        self.wave = self._zeros(0)  # the input that frames to come need
        self.place = None  # where the next one begins in it; None: the first, whose lead is not there yet
        rest = self.width - self.stft.hop_length
        self.sums, self.weights = self._zeros(rest), self._zeros(rest)  # frames so far, where others will be added

    def step(self, x: Tensor) -> Tensor:
        self.received += x.shape[1]
        return self._take(x)

    def flush(self) -> Tensor:
        if not self.received:
            return self.wave
        whole, expected = self.stft.whole(self.received), self.received - max(self.given, 0)
        end = (self.stft.num_frames(whole) - 1) * self.stft.hop_length - self.lead + self.width  # of the last frame
        parts = [
            self._take(self._zeros(whole - self.received)),
            self._take(self._beyond(self.wave.flip(1), end - whole)),
            self._look_ahead(),
            self._give(self.sums / self.weights.clamp_min(1e-11)),
        ]
        return torch.cat(parts, 1)[:, :expected]

    def _take(self, x: Tensor) -> Tensor:
        """(C, N) input -> (C, M) output."""
        self.wave = torch.cat([self.wave, x], 1)
        if self.place is None:
            if self.wave.shape[1] < self.stft.least:
                return self._zeros(0)
            self.wave, self.place = torch.cat([self._beyond(self.wave, self.lead).flip(1), self.wave], 1), 0
        outputs = [self._zeros(0)]
        while (frames := (self.wave.shape[1] - self.place - self.width) // self.stft.hop_length + 1) > 0:
            # One by one until the look-ahead has passed, as senet.layers.memory has it.
            spec = self._analysis(1 if self.fed < self.model.lookahead else min(frames, MAX_FRAMES))
            outputs.append(self._synthesis(self._network(spec)))
        return torch.cat(outputs, 1)

    def _look_ahead(self) -> Tensor:
        """Output of the frames that the network still has, when there is no more input."""
        if self.live is not None:
            self.state[self.live] = torch.zeros_like(self.state[self.live])
        outputs = [self._zeros(0)]
        for _ in range(self.model.lookahead):
            outputs.append(self._synthesis(self._network(self._zeros(self.stft.num_bins)[:, :, None] + 0j)))
        return torch.cat(outputs, 1)

    def _beyond(self, wave: Tensor, samples: int) -> Tensor:
        """(C, N) whose first sample is at an end of the signal -> (C, samples) beyond it, the nearest first."""
        return wave[:, 1 : 1 + samples] if self.stft.padding == "reflect" else self._zeros(samples)

    def _analysis(self, frames: int) -> Tensor:
        """The next T frames of the input, (C, F, T) complex."""
        hop = self.stft.hop_length
        cut = self.wave[:, self.place : self.place + (frames - 1) * hop + self.width].unfold(1, self.width, hop)
        done = max(self.place + frames * hop - 2, 0)  # two samples more are needed where the signal's end is mirrored
        self.place, self.wave = self.place + frames * hop - done, self.wave[:, done:]
        active = self._window * cut
        return torch.fft.rfft(F.pad(active, (self.stft.first, self.stft.n_fft - 1 - self.stft.last))).transpose(1, 2)

    def _network(self, spec: Tensor) -> Tensor:
        """(C, F, T) complex -> the same, without the first ``lookahead`` frames of all."""
        early = max(self.model.lookahead - self.fed, 0)
        self.fed += spec.shape[2]
        with Memory(self.state) as memory:
            spec = self.model.enhanced(spec)
        self.live = memory.live
        # What is kept of several frames is a view, which would keep them all.
        self.state = [value.clone() for value in memory.state] if spec.shape[2] > 1 else memory.state
        return spec[:, :, early:]

    def _synthesis(self, spec: Tensor) -> Tensor:
        """(C, F, T) complex, the next frames -> (C, M) output, settled by them."""
        if not spec.shape[2]:
            return self._zeros(0)
        frames = torch.fft.irfft(spec, self.stft.n_fft, dim=1)[:, self.stft.first : self.stft.last + 1]
        squares = self._window.square()[None, :, None].expand(1, -1, spec.shape[2])
        sums, weights = (
            F.pad(before, (0, spec.shape[2] * self.stft.hop_length)) + self.stft.overlap_add(new)
            for before, new in ((self.sums, frames * self._window[:, None]), (self.weights, squares))
        )
        settled = spec.shape[2] * self.stft.hop_length
        self.sums, self.weights = sums[:, settled:], weights[:, settled:]
        return self._give(sums[:, :settled] / weights[:, :settled].clamp_min(1e-11))

    def _give(self, wave: Tensor) -> Tensor:
        """Leave out what lies before the signal."""
        early = min(max(-self.given, 0), wave.shape[1])
        self.given += wave.shape[1]
        return self.model.limit(wave[:, early:])

    @property
    def _window(self) -> Tensor:
        return self.stft.window[self.stft.first : self.stft.last + 1]

    def _zeros(self, samples: int) -> Tensor:
        return self.like.new_zeros(self.channels, samples)


class _Windows:
    """A model of windows of samples, such as SEGAN: each is enhanced when its last sample is there.

    Emphasis looks back by one sample, and so one sample of the chunk before is encoded, and decoded, with each.
    """

    def __init__(self, model: nn.Module, channels: int):
        self.model, self.channels, self.like = model, channels, next(model.parameters()).data
        self.reset()

    def reset(self):
        self.received = self.given = 0  # samples
        self.before, self.after = self._zeros(0), self._zeros(0)  # the last sample in, and out
        self.encoded = self._zeros(0)  # from the next window on
        self.last = self._zeros(0).view(self.channels, 0, self.model.window)  # window, if the next overlaps it

    def step(self, x: Tensor) -> Tensor:
        if x.shape[1]:
            self.received += x.shape[1]
            encoded = self.model.encode(torch.cat([self.before, x], 1))[:, -x.shape[1] :]
            self.encoded, self.before = torch.cat([self.encoded, encoded], 1), x[:, -1:].clone()
        return self._enhance()

    def flush(self) -> Tensor:
        if not self.received:
            return self.encoded
        window, hop, expected = self.model.window, self.model.hop, self.received - self.given
        missing = window - self.encoded.shape[1]
        if self.received < window or missing < hop:  # not all samples were in a window
            self.encoded = torch.cat([self.encoded, self._zeros(missing)], 1)
        rest = self._enhance()
        return torch.cat([rest, self._decode(self.last[:, :, hop:].flatten(1))], 1)[:, :expected]

    def _enhance(self) -> Tensor:
        """All windows that are there -> (C, M), what no other window will be faded into."""
        window, hop = self.model.window, self.model.hop
        if self.encoded.shape[1] < window:
            return self._zeros(0)
        windows = self.encoded.unfold(1, window, hop)
        self.encoded = self.encoded[:, windows.shape[1] * hop :].clone()
        windows = torch.cat([self.last, self.model.enhanced(windows)[-1]], 1)
        joined = self.model.join(windows)[:, hop * self.last.shape[1] : hop * windows.shape[1]]
        self.last = windows[:, -1:] if hop < window else self.last
        return self._decode(joined)

    def _decode(self, encoded: Tensor) -> Tensor:
        if not encoded.shape[1]:
            return encoded
        before = self.model.encode(self.after)  # of one sample, which no other precedes
        decoded = self.model.decode(torch.cat([before, encoded], 1))[:, -encoded.shape[1] :]
        self.after = decoded[:, -1:].clone()
        self.given += decoded.shape[1]
        return decoded

    def _zeros(self, samples: int) -> Tensor:
        return self.like.new_zeros(self.channels, samples)
