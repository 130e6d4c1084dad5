"""Where half precision ends: complex numbers, transforms and long sums do not exist or are too coarse in it."""

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """bfloat16 and float16 as float32; float32 and float64 as they are, for ``model.double()``."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
