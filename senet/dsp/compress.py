"""Power-law compression of complex spectra, exact at zero and with a finite gradient there.

``|X|^c`` has an infinite slope at X = 0 for c < 1, so both forms replace ``|X|`` by ``(|X|^2 + eps)^(1/2)`` in the part
with the negative exponent; magnitudes well above ``eps ** 0.5`` are unaffected.
"""

from torch import Tensor


def power_compress(spec: Tensor, exponent: float = 0.3, eps: float = 1e-8) -> Tensor:
    """Raise the magnitude to ``exponent`` and keep the phase: ``|X|^c exp(j angle(X))``, any shape, complex.

    ``exponent=1`` returns X itself. (Raising the complex number to ``exponent`` would shrink its phase as well.)
    """
    return spec * (power(spec) + eps) ** ((exponent - 1) / 2)


def compress_magnitude(spec: Tensor, exponent: float = 0.3, eps: float = 1e-8) -> Tensor:
    """``|X|^c`` of a complex tensor, any shape, real."""
    squared = power(spec)
    return squared * (squared + eps) ** (exponent / 2 - 1)


def power(spec: Tensor) -> Tensor:
    """``|X|^2`` of a complex tensor, any shape, real; with a gradient of 0 at 0, which ``abs`` lacks."""
    return spec.real.square() + spec.imag.square()
