"""Complex numbers as pairs of real ones, for runtimes that have none, without a second copy of any model.

While ``RealNumbers`` traces a model, ``torch.complex``, ``torch.stft`` and the like make a ``Pair``, which goes through
the model in place of a complex tensor: sums, products and changes of shape are done to its two parts. A Fourier
transform is a product with a constant matrix. PyTorch's own way through the model is not touched.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from senet.dsp.stft import STFT


class RealNumbers(nn.Module):
    """``model`` in real numbers only: the same arguments, the same results.

    Complex arguments and results are float, with real and imaginary part in a last axis of two.

    Args:
        model: whose modules use functions that ``RULES`` and ``PARTWISE`` name, on what is complex.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        for size in {module.n_fft for module in model.modules() if isinstance(module, STFT)}:
            self.register_buffer(f"analysis_{size}", torch.from_numpy(analysis_matrix(size)))
            self.register_buffer(f"synthesis_{size}", torch.from_numpy(synthesis_matrix(size)))

    def forward(self, *args):
        with _Pairs(dict(self.named_buffers(recurse=False))):
            return self.model(*args)


def analysis_matrix(size: int) -> np.ndarray:
    """(2 F, size) float32: times a frame of ``size`` samples, the real parts of its F bins, then the imaginary ones."""
    spec = np.fft.rfft(np.eye(size), axis=0)  # F, size
    return np.concatenate([spec.real, spec.imag]).astype(np.float32)


def synthesis_matrix(size: int) -> np.ndarray:
    """(size, 2 F) float32: undoes ``analysis_matrix``."""
    bins = np.eye(size // 2 + 1)
    return np.fft.irfft(np.concatenate([bins, 1j * bins], 1), size, axis=0).astype(np.float32)


class Pair:
    """A complex tensor as its real and imaginary part, two tensors of the same shape."""

    def __init__(self, real: Tensor, imag: Tensor):
        self.real, self.imag = real, imag

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func.__name__, func, args, kwargs or {})

    def __getattr__(self, name):
        """A method of tensors; what has no rule is looked up in the real part (``shape``, ``device``, ``size``)."""
        if name in RULES or name in PARTWISE:
            return lambda *args, **kwargs: _call(name, getattr(Tensor, name), (self, *args), kwargs)
        if name in ("shape", "device", "ndim", "size", "dim"):
            return getattr(self.real, name)
        raise AttributeError(f"complex tensors have no rule for '{name}' in {__name__}")

    def __getitem__(self, index):
        return Pair(self.real[index], self.imag[index])

    def __mul__(self, other):
        return _multiplied(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return Pair(self.real / other, self.imag / other)

    def __add__(self, other):
        return Pair(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other):
        return Pair(self.real - other.real, self.imag - other.imag)


def _call(name, func, args, kwargs):
    if name in RULES:
        return RULES[name](*args, **kwargs)
    if name not in PARTWISE:
        raise NotImplementedError(f"complex tensors have no rule for '{name}' in {__name__}")
    parts = [func(*_part(args, part), **_part(kwargs, part)) for part in ("real", "imag")]
    if isinstance(parts[0], Tensor):
        return Pair(*parts)
    return tuple(Pair(*both) for both in zip(*parts, strict=True))


def _part(value, name):
    """The arguments with one part of each Pair in its place."""
    if isinstance(value, Pair):
        return getattr(value, name)
    if isinstance(value, dict):
        return {key: _part(item, name) for key, item in value.items()}
    return type(value)(_part(item, name) for item in value) if isinstance(value, list | tuple) else value


def _multiplied(x, y):
    if not isinstance(x, Pair):
        x, y = y, x
    if not isinstance(y, Pair):
        return Pair(x.real * y, x.imag * y)
    return Pair(x.real * y.real - x.imag * y.imag, x.real * y.imag + x.imag * y.real)


def _magnitude_and_direction(x):
    """``abs`` and ``sgn``, without squares that vanish."""
    scale = torch.maximum(x.real.abs(), x.imag.abs())
    nonzero = torch.where(scale > 0, scale, 1.0)
    real, imag = x.real / nonzero, x.imag / nonzero
    length = (real.square() + imag.square()).sqrt()  # 1 to 1.41, or 0
    return scale * length, Pair(real / length.clamp_min(1.0), imag / length.clamp_min(1.0))


# What is done to both parts alike.
PARTWISE = {
    "transpose", "permute", "movedim", "pad", "cat", "stack", "unbind", "chunk", "split", "expand", "flatten",
    "unflatten", "squeeze", "unsqueeze", "detach", "clone", "contiguous", "add", "sub", "neg", "narrow", "select",
    "empty_like", "copy_",
}  # fmt: skip
RULES = {
    "mul": _multiplied,
    "__mul__": _multiplied,
    "__rmul__": _multiplied,
    "div": Pair.__truediv__,
    "abs": lambda x: _magnitude_and_direction(x)[0],
    "sgn": lambda x: _magnitude_and_direction(x)[1],
    "angle": lambda x: torch.atan2(x.imag, x.real),
    "conj": lambda x: Pair(x.real, -x.imag),
    "is_complex": lambda x: True,
    "view_as_real": lambda x: torch.stack([x.real, x.imag], -1),
}


def _lstm(x, state, weights, biased, num_layers, dropout, training, bidirectional, batch_first):
    """As torch.lstm, by ONNX's operator: torch.export would unroll one over time, for the length at hand."""
    if num_layers > 1 or not biased:
        raise NotImplementedError(f"an LSTM of several layers, or without biases, has no rule in {__name__}")
    directions = [weights[k : k + 4] for k in range(0, len(weights), 4)]  # input, recurrent, and a bias of each
    units = state[0].shape[2]
    w, r = (torch.stack([_gates(one[k]) for one in directions]) for k in (0, 1))
    b = torch.stack([torch.cat([_gates(one[2]), _gates(one[3])]) for one in directions])
    x = x.transpose(0, 1) if batch_first else x  # T, B, inputs
    frames, batch = x.shape[:2]
    y, *state = torch.onnx.ops.symbolic_multi_out(
        "LSTM",
        (x, w, r, b, None, *state),
        {"hidden_size": units, "direction": "bidirectional" if bidirectional else "forward"},
        dtypes=[x.dtype] * 3,
        shapes=[(frames, len(directions), batch, units)] + [(len(directions), batch, units)] * 2,
    )
    y = y.transpose(1, 2).flatten(2)
    return y.transpose(0, 1) if batch_first else y, *state


def _gates(weight):
    """Rows in ONNX's order: input, output, forget, cell; torch's is input, forget, cell, output."""
    i, f, c, o = (weight.narrow(0, k * (len(weight) // 4), len(weight) // 4) for k in range(4))
    return torch.cat([i, o, f, c])


def _attention(query, key, value, **kwargs):
    """With an axis for heads, without which it has no translation."""
    if query.ndim == 3:
        return F.scaled_dot_product_attention(*(x[:, None] for x in (query, key, value)), **kwargs)[:, 0]
    return F.scaled_dot_product_attention(query, key, value, **kwargs)


class _Pairs(TorchFunctionMode):
    """Makes pairs of what would be the first complex tensors, and real signals of the last.

    Args:
        matrices: ``analysis_<size>`` and ``synthesis_<size>``, as above.
    """

    def __init__(self, matrices: dict[str, Tensor]):
        super().__init__()
        self.matrices = matrices

    def __torch_function__(self, func, types, args=(), kwargs=None):
        makers = {
            torch.complex: Pair,
            torch.view_as_complex: lambda x: Pair(*x.unbind(-1)),
            torch.polar: lambda length, angle: Pair(length * angle.cos(), length * angle.sin()),
            torch.stft: self._stft,
            torch.fft.rfft: self._rfft,
            torch.fft.irfft: self._irfft,
            torch.lstm: _lstm,
            F.scaled_dot_product_attention: _attention,
        }
        return makers.get(func, func)(*args, **(kwargs or {}))

    def _stft(self, wave, n_fft, hop_length, window, **_):
        kernel = (self.matrices[f"analysis_{n_fft}"] * window)[:, None]
        return Pair(*F.conv1d(wave[:, None], kernel, stride=hop_length).chunk(2, 1))

    def _rfft(self, frames, n=None, dim=-1):
        size = frames.shape[dim] if n is None else n
        return Pair(*_transformed(self.matrices[f"analysis_{size}"], frames, dim).chunk(2, dim))

    def _irfft(self, spec, n, dim=-1):
        return _transformed(self.matrices[f"synthesis_{n}"], torch.cat([spec.real, spec.imag], dim), dim)


def _transformed(matrix, x, dim):
    """The product of ``matrix`` and (B, N, T) or (B, N) over N: a convolution, which int8 quantisation leaves alone."""
    if x.ndim == 2 and dim in (1, -1):
        return F.conv1d(x[:, :, None], matrix[:, :, None])[:, :, 0]
    if x.ndim == 3 and dim == 1:
        return F.conv1d(x, matrix[:, :, None])
    raise NotImplementedError(f"a Fourier transform over dimension {dim} of {x.ndim} has no rule in {__name__}")
