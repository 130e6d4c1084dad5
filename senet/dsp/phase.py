"""Delta phase: how far the phase of a bin moves from one frame, or one bin, to the next.

A bin whose energy comes from a steady partial advances by the same angle in every frame, and noise by a random one, so
the advance tells voiced harmonics from noise. Between frames it needs only one past frame and is therefore causal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from senet.layers.memory import delayed

FORMS = ("raw", "baseband", "frequency")


def delta_phasor(spec: Tensor, form: str, hop_length: int, n_fft: int) -> Tensor:
    """Unit phasor whose angle is the delta phase.

    Args:
        spec: (B, F, T) complex, F = n_fft // 2 + 1.
        form: ``raw``: angle(X[k,t] conj X[k,t-1]). ``baseband``: the same less the bin centre's own advance
            2 pi k hop / n_fft, so that one deviation from the bin centre has one value in every bin.
            ``frequency``: angle(X[k,t] conj X[k-1,t]), a group delay.
    Returns:
        (B, F, T) complex of magnitude 1; 0 where a bin is empty or has no predecessor (first frame or first bin).
        No gradient flows through it.
    """
    spec = spec.detach()
    previous = F.pad(spec, (0, 0, 1, 0))[:, :-1] if form == "frequency" else delayed(spec, 1)
    previous = torch.empty_like(spec).copy_(previous)  # laid out alike, for speed
    product = spec * previous.conj()
    if form == "baseband":
        turns = (torch.arange(spec.shape[1], device=spec.device) * hop_length % n_fft) / n_fft  # whole turns dropped
        product = product * torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)[:, None]
    return torch.sgn(product)
