"""What layers keep of the frames before those at hand, so that a network runs on a stream piece by piece.

A network is written for whole recordings: what lies before the first frame is zeros, sums begin at 0. The functions
here do that, and nothing else, as long as no ``Memory`` is entered. Inside ``with Memory(state)`` the frames at hand go
on where the piece before ended:

    with Memory() as memory:                 # the beginning of a recording
        first = network(spec[:, :, :3])
    with Memory(memory.state) as memory:     # what follows
        second = network(spec[:, :, 3:])

The state is a list of tensors in the order in which the network's layers ask for them, which is always the same. So one
piece is a pure function (frames, *state) -> (frames, *state), and streams of one network know nothing of each other.
A thread enters its own memory. What torch.compile made of a network outside does not look for one: for a stream,
compile what enters it, such as ``senet.infer.stream.FrameStep``.

Layers that look ahead answer later: a convolution with ``future`` frames gives, in a stream, as many frames as it gets,
``future`` frames late. At both ends of a recording, what it reads there has to be zeros, as offline, and not what the
layer before makes of zeros. ``Memory.valid`` tells these frames: layers delay it as they delay the frames. Such layers
have to be in a row, and until the look-ahead has passed frames
are to be given one by one (because an LSTM may not move before the first). After the last frame come as many of zeros,
with the tensor ``state[memory.live]``, 1 as long as the recording lasts, set to 0.

Shapes: B batch, C channels, T frames, F bins.
"""

import threading
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Memory", "current", "delayed", "recur", "running_mean", "with_past"]


class _Entered(threading.local):
    memory = None  # the one entered in this thread


_entered = _Entered()


class Memory:
    """What the layers of a network keep while it runs on one piece of a stream.

    Args:
        before: ``state`` of the piece before; None: the recording begins.
    Attributes:
        initial: the tensors that were there before this piece.
        state: those for the next piece.
        live: index in the state of the tensor (1,) that is 1 until the recording ends; None: nothing looks ahead.
        valid: (T,) of 1 and 0, whether the frames that the next layer reads are the recording's; None: all are.
    """

    def __init__(self, before: Sequence[Tensor] | None = None):
        self._before = before
        self.initial: list[Tensor] = []
        self.state: list[Tensor] = []
        self.live: int | None = None
        self.valid: Tensor | None = None
        self._counts: Tensor | None = None

    def __enter__(self) -> "Memory":
        self._outer, _entered.memory = _entered.memory, self
        return self

    def __exit__(self, *_):
        _entered.memory = self._outer

    def recall(self, initial: Callable[[], Tensor]) -> Tensor:
        """What the layer kept; at the beginning ``initial()``. A ``keep`` has to follow for each, in the same order."""
        value = initial() if self._before is None else self._before[len(self.initial)]
        self.initial.append(value)
        return value

    def keep(self, value: Tensor):
        """For the next piece; of the same shape and type."""
        self.state.append(value)

    def counts(self, frames: int, device: torch.device) -> Tensor:
        """(T,) double: at each frame the number of frames from the first to it."""
        if self._counts is None:
            before = self.recall(lambda: torch.zeros(1, dtype=torch.double, device=device))
            self._counts = before + torch.arange(1, frames + 1, device=device)
            self.keep(self._counts[-1:])
        return self._counts

    def look_ahead(self, x: Tensor, future: int) -> Tensor:
        """(B, C, T, F), to be read ``future`` frames ahead -> the same with zeros before and behind the recording."""
        if self.valid is None:
            if not future:
                return x
            self.live = len(self.initial)
            live = self.recall(lambda: x.new_ones(1))
            self.keep(live)
            self.valid = live.expand(x.shape[2])
        x = x * self.valid[:, None]
        self.valid = delayed(self.valid, future, 0)
        return x


def current() -> Memory | None:
    """The memory that is entered; None: the frames at hand are a whole recording."""
    return _entered.memory


def with_past(x: Tensor, frames: int, dim: int = 2) -> Tensor:
    """``x``, T frames along ``dim`` -> the same with the ``frames`` frames before them, frames + T in all."""
    dim %= x.ndim
    if not frames:
        return x
    memory = current()
    if memory is None:
        return F.pad(x, (0, 0) * (x.ndim - 1 - dim) + (frames, 0))
    shape = (*x.shape[:dim], frames, *x.shape[dim + 1 :])
    if x.is_complex():  # kept as real numbers, which every format for export has
        before = torch.view_as_complex(memory.recall(lambda: x.real.new_zeros(*shape, 2)))
    else:
        before = memory.recall(lambda: x.new_zeros(shape))
    x = torch.cat([before, x], dim)
    last = x.narrow(dim, x.shape[dim] - frames, frames)
    memory.keep(torch.view_as_real(last) if x.is_complex() else last)
    return x


def delayed(x: Tensor, frames: int, dim: int = 2) -> Tensor:
    """``x``, T frames along ``dim`` -> the T frames that lie ``frames`` frames before."""
    return with_past(x, frames, dim).narrow(dim, 0, x.shape[dim])


def running_mean(x: Tensor, dim: int) -> Tensor:
    """Mean over the frames from the first to each along ``dim``, the last or last but one; float or double."""
    frames, trailing = x.shape[dim], (1,) * (x.ndim - 1 - dim % x.ndim)
    memory = current()
    if memory is None:
        return x.cumsum(dim) / torch.arange(1, frames + 1, device=x.device).view(-1, *trailing)
    # A stream may be long: single precision would stop counting.
    before = memory.recall(lambda: x.new_zeros(x.narrow(dim, 0, 1).shape, dtype=torch.double))
    total = before + (x.cumsum(dim, dtype=torch.double) if frames > 1 else x)
    memory.keep(total.narrow(dim, frames - 1, 1))
    return (total / memory.counts(frames, x.device).view(-1, *trailing)).to(x.dtype)


def recur(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Output (B, T, units) of an LSTM, batch first, over ``x`` (B, T, inputs); in a stream, of one layer forward."""
    memory = current()
    if memory is None:
        return lstm(x)[0]
    size = (1, x.shape[0], lstm.hidden_size)
    state = tuple(memory.recall(lambda: x.new_zeros(size)) for _ in range(2))
    if x.shape[1] == 1:  # oneDNN's LSTM would sort the weights anew for each call, which takes 8 times as long
        state = tuple(s[None] for s in torch.lstm_cell(x[:, 0], [s[0] for s in state], *lstm.all_weights[0]))
        x = state[0].transpose(0, 1)
    else:
        x, state = lstm(x, state)
    for value in state:  # zeros until the first frame
        memory.keep(value if memory.valid is None else value * memory.valid[-1])
    return x
