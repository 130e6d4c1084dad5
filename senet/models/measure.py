"""What a model costs and how far it looks: parameters, multiplications, memory, receptive field.

Multiplications and memory are found on PyTorch's ``meta`` device, where tensors have sizes but no values: real sizes
cost nothing there. Build a model inside ``with torch.device("meta"):``, or move a copy there.
"""

import copy
import math
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

# ---------------------------------------------------------------- size


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Parameters of each top-level part of a model; those of the model itself, if any, are under ``""``.

    A parameter that two parts share is counted once, in the first, so the sum is the model's.
    """
    parts, seen = {}, set()
    for name, part in [("", None), *model.named_children()]:
        own = part.parameters() if part is not None else model.parameters(recurse=False)
        new = {id(p): p.numel() for p in own if id(p) not in seen}
        seen |= new.keys()
        if new:
            parts[name] = sum(new.values())
    return parts


# ---------------------------------------------------------------- multiplications


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulate operations.

    Attributes:
        convolutions: of convolutions and transposed convolutions.
        products: of matrix products: linear layers, recurrent layers, attention.
        parts: all of them by top-level part of the model; ``""`` for those outside of its parts.
    """

    convolutions: int
    products: int
    parts: dict[str, int]

    @property
    def total(self) -> int:
        return self.convolutions + self.products

    def per_second(self, before: "Macs", seconds: float) -> "Macs":
        """The growth from ``before``, measured on a signal shorter by ``seconds``, in one second."""
        parts = {k: round((n - before.parts.get(k, 0)) / seconds) for k, n in self.parts.items()}
        convolutions = round((self.convolutions - before.convolutions) / seconds)
        return Macs(convolutions, round((self.products - before.products) / seconds), parts)


COUNTED = (
    "convolutions and matrix products, those of recurrent layers and attention included; not counted: Fourier "
    "transforms, norms, activations, element-wise products"
)


def macs(model: nn.Module, num_samples: int) -> Macs:
    """What ``model``, on the meta device, multiplies for one recording of ``num_samples`` samples; see ``COUNTED``.

    Counted are the operations as they run, by torch's FlopCounterMode: zeros that pad the signal count as values do.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter, WholeLSTM():
        model(torch.empty(1, num_samples, device="meta"))
    flops = counter.get_flop_counts()  # by module, "Global" for all, then by operation; a MAC is two of them
    by_kind = {"convolution": 0, "product": 0}
    for operation, n in flops.get("Global", {}).items():
        by_kind["convolution" if operation is torch.ops.aten.convolution else "product"] += n // 2
    parts = {name: _of_part(flops, f"{type(model).__name__}.{name}") // 2 for name, _ in model.named_children()}
    parts[""] = sum(by_kind.values()) - sum(parts.values())
    return Macs(by_kind["convolution"], by_kind["product"], {name: n for name, n in parts.items() if n})


class WholeLSTM(TorchFunctionMode):
    """Multiplies for an LSTM, on the meta device, as often as it does, but for all steps at once.

    Step by step the thousands of steps of a network that runs an LSTM along frequency take most of the time.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        packed_or_projected = function is torch.lstm and (
            not isinstance(args[3], bool) or args[2][0].shape[0] != 4 * args[2][1].shape[1]
        )
        if function is not torch.lstm or packed_or_projected:
            return function(*args, **(kwargs or {}))
        x, state, weights, _, layers, _, _, bidirectional, _ = args
        directions, lead = 1 + bidirectional, x.shape[:2]
        each = iter([weights[i : i + 2] for i in range(0, len(weights), len(weights) // (layers * directions))])
        for _ in range(layers):
            outputs = []
            for _ in range(directions):
                of_input, of_state = next(each)
                outputs.append(x.new_empty(*lead, of_state.shape[1]))
                nn.functional.linear(x, of_input)
                nn.functional.linear(outputs[-1], of_state)
            x = torch.cat(outputs, 2)
        return x, *(torch.empty_like(s) for s in state)


def _of_part(flops, name) -> int:
    """Of a module, or of its modules where it only holds them, as a ModuleList does."""
    if name in flops:
        return sum(flops[name].values())
    held = [other for other in flops if other.startswith(f"{name}.")]
    outer = [other for other in held if not any(other.startswith(f"{parent}.") for parent in held)]
    return sum(sum(flops[other].values()) for other in outer)


def steady_macs(model: nn.Module, num_samples: int) -> Macs:
    """What each further second costs once ``num_samples`` are there, exactly: over a whole number of frames."""
    seconds = whole_seconds(model)
    longer = macs(model, num_samples + seconds * model.sample_rate)
    return longer.per_second(macs(model, num_samples), seconds)


def whole_seconds(model: nn.Module) -> int:
    """The least number of seconds that is a whole number of the model's frames or windows."""
    step = frame_shift(model)
    return math.lcm(step, model.sample_rate) // model.sample_rate


def frame_shift(model: nn.Module) -> int:
    """Samples from one frame, or window of samples, to the next; 1 for a model without."""
    return model.stft.hop_length if hasattr(model, "stft") else getattr(model, "window", 1)


# ---------------------------------------------------------------- memory


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that are alive, now and at most, while this context is entered.

    Each storage is counted from the operation that makes it to its end, so ``peak`` is what an allocator without waste
    would need: parameters, what autograd keeps, working memory. Not seen: what a kernel uses inside; and a kernel that
    computes a recurrent layer or attention in one piece keeps other amounts than the operations counted here (oneDNN's
    LSTM more, for one).
    On the meta device reading a value gives 1, so that code which asks whether a loss is finite goes on.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {}

    def watch(self, tensor: Tensor):
        """Count ``tensor``, which was there before, from here on."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata)

    def restart(self):
        """Forget the peak so far."""
        self.peak = self.now

    def _forget(self, key):
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 1
        result = operation(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self.watch(value)
        return result


def inference_bytes(model: nn.Module, num_samples: int) -> int:
    """Most bytes alive while one recording of ``num_samples`` samples is enhanced, parameters included."""
    with torch.no_grad(), LiveBytes() as memory:
        for tensor in [*model.parameters(), *model.buffers()]:
            memory.watch(tensor)
        model(torch.empty(1, num_samples, device="meta"))
    return memory.peak


# ---------------------------------------------------------------- receptive field


@dataclass(frozen=True)
class Reach:
    """Input that one output sample depends on, besides the sample itself.

    Attributes:
        past, future: samples before and after it, for the sample where they are most; None: more than ``tried``.
        tried: samples to both sides.
    """

    past: int | None
    future: int | None
    tried: int


def reach(model: nn.Module, seconds: float) -> Reach:
    """The receptive field of a model on the CPU.

    A NaN in the input spreads to everything that is computed from it, however small its weight, and to nothing else.
    Signals twice as long as the one before are tried until both ends of it are seen. In a model of frames the NaN
    is a frame of the noisy spectrum, and the window's length is added.

    Args:
        model: see ``senet.models.base``; values matter little, so one that is not trained will do.
        seconds: the longest signal to try.
    """
    framed = hasattr(model, "stft")
    step = model.stft.hop_length if framed else 1
    width = _width(model.stft.window) if framed else 1  # samples of a frame
    touched, length = (_touched_frames, 16) if framed else (_touched_samples, 2 * getattr(model, "window", 8))
    model = copy.deepcopy(model).eval()
    # oneDNN's kernels do not promise to keep a NaN.
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        while True:
            past, future = touched(model, length)
            if (past < length // 2 - 1 and future < length // 2) or 2 * length * step > seconds * model.sample_rate:
                break
            length *= 2
    edge = length // 2 - 1
    past, future = (None if n >= edge else n * step + width - 1 for n in (past, future))
    return Reach(past, future, edge * step + width - 1)


def _touched_frames(model, frames: int) -> tuple[int, int]:
    """Output frames after and before the middle one that a NaN there spreads to."""
    bins = model.stft.num_bins
    spec = torch.randn(1, bins, frames, dtype=torch.complex64)
    spec[:, :, frames // 2] = math.nan
    level = model.level(spec)
    estimate = model.decode(model.result(model.encode(spec, level)), level)
    return _extent(estimate.isnan().any(1)[0], frames // 2)


def _touched_samples(model, samples: int) -> tuple[int, int]:
    """Output samples after and before the middle that a NaN there spreads to.

    Windows of a power of two meet in the middle, so the samples on both sides of it are tried.
    """
    extents = []
    for place in (samples // 2 - 1, samples // 2):
        wave = 0.1 * torch.randn(1, samples)
        wave[:, place] = math.nan
        extents.append(_extent(model(wave)[0].isnan(), place))
    return max(after for after, _ in extents), max(before for _, before in extents)


def _extent(touched: Tensor, place: int) -> tuple[int, int]:
    places = touched.nonzero()
    return int(places.max()) - place, place - int(places.min())


def _width(window: Tensor) -> int:
    """Samples from the first to the last that the window does not make 0."""
    places = window.nonzero()
    return int(places.max() - places.min()) + 1
