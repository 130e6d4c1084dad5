"""A trained model as its users have it: signals of any rate, number of channels and length, live or stored."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp.resample import LiveResampler, Resampler, resample
from senet.errors import UserError
from senet.infer.long import Windows, by_channels
from senet.infer.stream import Stream, as_tensor

Signal = TypeVar("Signal", np.ndarray, Tensor)
WINDOW_SECONDS = 30.0
BLOCK_SECONDS = 10  # of audio that is in work at a time, where there is more of it than a window
MAX_RATE = 1 << 23  # Hz, above any that audio is stored at
MANY_CHANNELS = 255  # so many channels are believed of the shortest block, too


class Enhancer:
    """A model that is ready to run, as ``senet.load_model`` gives it.

    Args:
        model: see ``senet.models.base``, in evaluation mode.
        info: what is known about it: name, config, training record, licence, ...
    Attributes:
        model, info: these.
        window: seconds; a longer recording is enhanced in pieces: by a causal model as a stream, by one that needs
            whole recordings in overlapping windows of this length (``senet.infer.long``).
        batch_size: as many windows of samples the model may get at once: channels of a shorter signal are a batch, up
            to that; results do not depend on it, but memory does, and on a GPU the time.
    """

    def __init__(self, model: nn.Module, info: dict[str, Any] | None = None, window: float = WINDOW_SECONDS):
        self.model, self.info, self.window, self.batch_size = model, info or {}, window, 1

    def __repr__(self):
        name = self.info.get("name") or type(self.model).__name__
        waits = "whole recordings" if self.latency is None else f"latency {1000 * self.latency / self.sample_rate:g} ms"
        return f"Enhancer({name}, {self.sample_rate} Hz, {waits}, on {self.device})"

    @property
    def sample_rate(self) -> int:
        """At which the model works, in Hz; other rates are resampled and mapped back."""
        return self.model.sample_rate

    @property
    def causal(self) -> bool:
        """Whether the output follows the input after ``latency`` samples."""
        return self.model.causal

    @property
    def latency(self) -> int | None:
        """Samples at ``sample_rate`` that have to follow a sample before it is settled; None: the whole recording."""
        return self.model.latency

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    def enhance(self, x: Signal, sample_rate: int, mix: float = 1.0) -> Signal:
        """Enhance one signal.

        Args:
            x: float samples in [-1, 1], NumPy or torch, (N,) or (N, C); channels are enhanced one by one.
            sample_rate: of ``x`` in Hz.
            mix: share of the enhanced signal in the result, 0 to 1; the rest is ``x``.
        Returns:
            float32 of the kind, shape and device of ``x``, in line with it.
        Raises:
            UserError: ``x`` is empty, not finite, not of that kind, or (C, N), or what the model made of it is not
                finite.
        """
        if isinstance(x, Tensor):
            values = x.detach().float() if x.is_floating_point() else x  # NumPy has no bfloat16
            y = self.enhance(values.cpu().numpy(), sample_rate, mix)
            return torch.from_numpy(y).to(x.device)
        x = _checked(x)
        sample_rate = _require(sample_rate, mix)
        if not len(x):
            raise UserError("has no samples")
        size = int(BLOCK_SECONDS * sample_rate)
        if len(x) > self.window * sample_rate:
            parts = (x[start : start + size] for start in range(0, len(x), size))
            return np.concatenate(list(self.blocks(parts, sample_rate, mix)))
        noisy = resample(x, sample_rate, self.sample_rate)
        enhanced = noisy
        if len(noisy):  # otherwise a sample or two at a higher rate
            batch = _rows(noisy.reshape(len(noisy), -1)).to(self.device)
            most = self.batch_size * round(self.window * self.sample_rate)
            enhanced = self._run(by_channels, self.model, batch, most).reshape(noisy.shape)
        back = resample(enhanced, self.sample_rate, sample_rate)[: len(x)]
        missing = [(0, len(x) - len(back))] + [(0, 0)] * (x.ndim - 1)
        return _mixed(x, np.pad(back, missing), mix)

    def blocks(self, blocks: Iterable[np.ndarray], sample_rate: int, mix: float = 1.0) -> Iterator[np.ndarray]:
        """Enhance one signal of any length that comes in blocks, in bounded memory.

        Args:
            blocks: float (N,) each, or (N, C), N >= 0.
            sample_rate, mix: as in ``enhance``.
        Yields:
            float32 blocks, (M,) or (M, C), with as many samples in all, from the same start: they come as soon as they
            are settled.
        Raises:
            UserError: as ``enhance``.
        """
        sample_rate = _require(sample_rate, mix)
        stream, dry = None, None  # dry: what is not given back yet
        for block in blocks:
            block = _checked(block)
            if stream is None:
                stream, dry = self._long(sample_rate, 1 if block.ndim == 1 else block.shape[1]), block[:0]
            if block.shape[1:] != dry.shape[1:]:
                raise UserError(f"a block of shape {block.shape} follows others of {('N', *dry.shape[1:])}")
            dry = np.concatenate([dry, block])
            y = self._run(stream.step, _rows(block if block.ndim == 2 else block[:, None]))
            if len(y):
                yield _mixed(dry[: len(y)], y.reshape(-1, *block.shape[1:]), mix)
                dry = dry[len(y) :]
        if stream is None:
            raise UserError("has no samples")
        if len(dry):
            yield _mixed(dry, self._run(stream.flush).reshape(dry.shape), mix)

    def stream(self, sample_rate: int | None = None, channels: int = 1) -> "Stream | LiveStream":
        """A live stream: ``step(x (C, N)) -> (C, M)`` for chunks of any size, NumPy or torch, then ``flush()``.

        Args:
            sample_rate: of the chunks in Hz; None: the model's. What another one adds is in ``latency``.
            channels: C.
        Raises:
            UserError: the model needs whole recordings.
        """
        stream = Stream(self.model, channels)
        if sample_rate in (None, self.sample_rate):
            return stream
        return LiveStream(stream, _require(sample_rate), channels)

    def _long(self, sample_rate, channels):
        """What enhances a recording of any length, in blocks at ``sample_rate``."""
        if self.causal:
            stream = Stream(self.model, channels)
        else:
            stream = Windows(self.model, channels, round(self.window * self.sample_rate))
        if sample_rate == self.sample_rate:
            return stream
        there, back = (sample_rate, self.sample_rate, channels), (self.sample_rate, sample_rate, channels)
        return Resampled(stream, Resampler(*there), Resampler(*back))

    def _run(self, function, *args):
        with torch.inference_mode():
            return _finite(function(*args).cpu().numpy().T)


class Resampled:
    """A stream at another rate than its model's.

    Args:
        stream: at the model's rate: ``step(x (C, N)) -> (C, M)``, ``flush() -> (C, M)``.
        down, up: to the model's rate and back.
    """

    def __init__(self, stream: Stream | Windows, down: Resampler | LiveResampler, up: Resampler | LiveResampler):
        self._stream, self._down, self._up, self._given = stream, down, up, 0

    def step(self, x: Tensor) -> Tensor:
        """(C, N) float32 -> (C, M): what is settled by now."""
        y = self._back(self._stream.step(_rows(self._down.step(x.numpy().T))))
        self._given += y.shape[1]
        return y

    def flush(self) -> Tensor:
        """The rest, (C, M): there are as many samples then as came."""
        missing = self._down.taken - self._given
        last = _rows(self._down.flush())
        if self._down.given:  # otherwise a sample or two at a higher rate
            last = torch.cat([self._stream.step(last), self._stream.flush()], 1)
        y = torch.cat([self._back(last), _rows(self._up.flush())], 1)[:, :missing]
        return F.pad(y, (0, missing - y.shape[1]))

    def _back(self, y):
        return _rows(self._up.step(y.cpu().numpy().T))


class LiveStream(Resampled):
    """A ``Stream`` at another rate than its model's, used like it: output sample n is there, at the latest, as soon as
    input sample n + ``latency`` is, or the signal is over.

    Args:
        stream: at the model's rate.
        sample_rate: Hz, of what comes and goes here.
        channels: C.
    Attributes:
        latency: samples at ``sample_rate``, with what resampling waits for (``senet.dsp.resample.LiveResampler``).
        hop: the least number of samples that lasts as long as the model's.
    """

    def __init__(self, stream: Stream, sample_rate: int, channels: int):
        self.sample_rate, self._channels, self._like = sample_rate, channels, Tensor.cpu
        rate = stream.sample_rate
        super().__init__(stream, LiveResampler(sample_rate, rate, channels), LiveResampler(rate, sample_rate, channels))
        self.latency = (stream.latency + self._up.ahead) * sample_rate // rate + self._down.ahead
        self.hop = -(-stream.hop * sample_rate // rate)

    def step(self, x: Signal) -> Signal:
        """As that of a Stream."""
        x, self._like = as_tensor(x, self._channels)
        return self._like(super().step(x.float().cpu()))

    def flush(self) -> Signal:
        """As that of a Stream."""
        rest = self._like(super().flush())
        self.reset()
        return rest

    def reset(self):
        """Forget the signal; the next ``step`` begins another one."""
        for part in (self._stream, self._down, self._up):
            part.reset()
        self._given = 0


def _rows(x):
    """(N, C) array -> (C, N) tensor."""
    return torch.from_numpy(np.ascontiguousarray(x.T))


def _checked(x):
    if not isinstance(x, np.ndarray):
        raise UserError(f"is a {type(x).__name__}, expected a NumPy array or a torch tensor of floats in [-1, 1]")
    if not np.issubdtype(x.dtype, np.floating):
        divide = ": divide 16-bit integers by 32768" if np.issubdtype(x.dtype, np.integer) else ""
        raise UserError(f"is of {x.dtype}, expected floats in [-1, 1]{divide}")
    if x.ndim not in (1, 2):
        raise UserError(f"has the shape {x.shape}, expected (samples,) or (samples, channels)")
    if x.ndim == 2 and not x.shape[1]:
        raise UserError("has no channels")
    if x.ndim == 2 and 0 < len(x) < x.shape[1] > MANY_CHANNELS:
        samples = f"{len(x)} sample{'s' if len(x) > 1 else ''}"
        raise UserError(f"has {x.shape[1]} channels of {samples}, expected (samples, channels): transpose it")
    if not np.isfinite(x).all():
        raise UserError("holds NaN or infinite samples")
    return x.astype(np.float32, copy=False)


def _require(sample_rate, mix=1.0):
    if not 1 <= sample_rate <= MAX_RATE or sample_rate != int(sample_rate):
        raise UserError(f"its sample rate is {sample_rate} Hz, expected a whole number from 1 to {MAX_RATE}")
    if not 0 <= mix <= 1:
        raise UserError(f"mix is {mix}, expected 0 (nothing but the input) to 1 (nothing but the enhanced)")
    return int(sample_rate)


def _finite(y):
    if not np.isfinite(y).all():
        raise UserError("the model's output for it is not finite")
    return y


def _mixed(x, y, mix):
    return y if mix == 1 else np.float32(mix) * y + np.float32(1 - mix) * x
