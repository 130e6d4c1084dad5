"""Number formats of training: which products are rounded, and what stays float32 whatever is chosen.

    fp32: everything is float32;
    tf32: products of float32 matrices and convolutions are taken of 10-bit mantissas, where the GPU can do that;
    bf16, fp16: matrices and convolutions are computed in 16 bits (autocast), sums and norms in float32.

Weights, their gradients and the optimiser are float32 in all of them. The STFT and all that is complex are too:
autocast does not touch complex numbers, and models make them of float32. Losses get float32 and are computed outside of
autocast. Validation is not rounded to 16 bits: its losses can be compared with those of another choice.
"""

import torch

from senet.errors import require_choice

ROUNDED = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def set_precision(precision):
    """What ``precision`` says of float32 products; of the whole process. torch by itself rounds convolutions."""
    require_choice("precision", precision, ROUNDED)
    rounded = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = rounded


def rounding(function, device, precision):
    """``function(*tensors) -> list`` of tensors, computed in ``precision``, with float32 results."""
    kind = "cuda" if torch.device(device).type == "cuda" else "cpu"
    dtype = ROUNDED[precision]
    if dtype is None:
        return function

    def rounded(*tensors):
        with torch.autocast(kind, dtype):
            found = function(*tensors)
        return [x.float() if x.is_floating_point() else x for x in found]

    return rounded


class Overflow(FloatingPointError):
    """A gradient in fp16 is not finite at this scale, perhaps at a smaller one. There may be as many in a row as there
    are halvings to a scale of 1."""


class Scaler:
    """The factor of losses in fp16, whose gradients are otherwise too small for 16 bits.

    It is halved after an update whose gradient is not finite, which is left out, and doubled after so many good ones in
    a row, as ``torch.amp.GradScaler`` does; here every process finds the same from a gradient that they share.
    """

    START, GROWTH = 2.0**16, 2000

    def __init__(self):
        self.scale, self.good = self.START, 0

    def passed(self, norm, of=""):
        """For each update the norm of its gradient.

        Args:
            of: as for ``Updater.step``.
        Raises:
            Overflow: it is not finite; FloatingPointError: that does not come from the scale, as it is 1.
        """
        if torch.isfinite(norm):
            self.good += 1
            if self.good == self.GROWTH:
                self.scale, self.good = 2 * self.scale, 0
            return
        problem = f"{of}gradient norm is not finite, with a loss scale of {self.scale:g}"
        if self.scale <= 1:
            raise FloatingPointError(problem)
        self.scale, self.good = self.scale / 2, 0
        raise Overflow(problem)

    def state_dict(self):
        return {"scale": self.scale, "good": self.good}

    def load_state_dict(self, state):
        self.scale, self.good = state["scale"], state["good"]
