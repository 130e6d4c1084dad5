"""The level of a spectrogram, to make a network independent of the recording level."""

import torch
from torch import Tensor

from senet.dsp.compress import power
from senet.layers.memory import running_mean

FORMS = ("none", "utterance", "cumulative")


def rms_level(spec: Tensor, form: str) -> Tensor | None:
    """RMS over the bins of all frames (``utterance``) or of the frames up to each (``cumulative``).

    White noise of RMS s has the level ``s * ||window||``. The whole recording is needed for ``utterance``; zeros behind
    its last frame that has any sound, such as the padding of a batch, do not count.

    Args:
        spec: (B, F, T) complex.
        form: one of ``FORMS``.
    Returns:
        (B, 1, 1), (B, 1, T), or None for ``none``; above 1e-5, so that silence stays silence.
    """
    if form == "none":
        return None
    energy = power(spec).mean(1, keepdim=True)  # B, 1, T
    if form == "utterance":
        frames = torch.arange(1, energy.shape[2] + 1, device=energy.device)
        energy = energy.sum(2, keepdim=True) / (frames * (energy > 0)).amax(2, keepdim=True).clamp_min(1)
    else:
        energy = running_mean(energy, 2)
    return (energy + 1e-10).sqrt()
