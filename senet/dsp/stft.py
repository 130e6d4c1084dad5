"""Short-time Fourier transform with the framing that every part of senet shares.

Frame t is centred on sample ``t * hop_length``: the signal gets ``n_fft // 2`` zeros on both sides (zeros rather than
a reflection, so that any length from one sample on works and no frame sees samples twice), and the Hann window
(periodic, ``win_length`` samples) sits in the middle of the FFT frame. N samples give ``1 + N // hop_length`` frames.
"""

import torch
from torch import Tensor, nn

from senet.errors import UserError


class STFT(nn.Module):
    """Complex spectrogram of a batch of waveforms, and back.

    Args:
        n_fft: FFT length in samples; gives ``n_fft // 2 + 1`` bins.
        hop_length: frame shift in samples, at most half the window.
        win_length: Hann window in samples, at most ``n_fft``.
    Raises:
        UserError: sizes that cannot be inverted.
    """

    def __init__(self, n_fft: int = 512, hop_length: int = 160, win_length: int = 400):
        super().__init__()
        if not 2 <= win_length <= n_fft:
            raise UserError(f"STFT: win_length is {win_length}, expected 2 to n_fft = {n_fft} samples")
        if not 1 <= hop_length <= win_length // 2:
            raise UserError(
                f"STFT: hop_length is {hop_length}, expected 1 to win_length / 2 = {win_length // 2} samples, "
                "or the signal cannot be rebuilt from its frames"
            )
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length
        self.num_bins = n_fft // 2 + 1
        # A constant, not a weight: it stays out of the state dict, so the sizes can change without breaking a load.
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    def num_frames(self, num_samples):
        """Frames that ``forward`` makes of ``num_samples`` samples (an int or an integer tensor)."""
        return 1 + num_samples // self.hop_length

    def forward(self, wave: Tensor) -> Tensor:
        """(B, N) float -> (B, F, T) complex, F = n_fft // 2 + 1, T = 1 + N // hop_length; N >= 1."""
        return torch.stft(
            wave, self.n_fft, self.hop_length, self.win_length, self.window,
            center=True, pad_mode="constant", return_complex=True,
        )  # fmt: skip

    def inverse(self, spec: Tensor, length: int) -> Tensor:
        """(B, F, T) complex -> (B, length) float; ``inverse(forward(x), N)`` is x.

        Samples beyond the last frame's centre are covered by that frame's fading window alone. They come back exactly
        from an unchanged spectrogram, but a changed one is amplified there, up to 10,000-fold where the hop is half
        the window. Models therefore pad to whole hops first (``SpectralModel``).
        """
        return torch.istft(spec, self.n_fft, self.hop_length, self.win_length, self.window, center=True, length=length)
