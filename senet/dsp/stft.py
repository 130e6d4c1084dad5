"""Short-time Fourier transform with the framings that the published systems use.

The window sits in the middle of an FFT frame. What lies before the first and behind the last sample is

    ``zeros`` or ``reflect``: ``n_fft // 2`` zeros, or the signal mirrored: frame t is centred on sample
        ``t * hop_length``, and N samples give ``1 + N // hop_length`` frames. A signal too short to be mirrored is
        followed by as many zeros as that takes;
    ``full``: ``win_length - hop_length`` zeros: every frame that overlaps the signal. Here the window sits at the start
        of the FFT frame, frame t ends with sample ``(t + 1) * hop_length``, and N samples give
        ``1 + (N + win_length - 2 * hop_length) // hop_length`` frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import UserError, require_choice

WINDOWS = {
    "hann": torch.hann_window,
    "sqrt_hann": lambda length, **options: torch.hann_window(length, **options).sqrt(),
    "hamming": torch.hamming_window,
}
PADDINGS = ("zeros", "reflect", "full")


class STFT(nn.Module):
    """Complex spectrogram of a batch of waveforms, and back.

    Args:
        n_fft: FFT length in samples, even where frames are centred; gives ``n_fft // 2 + 1`` bins.
        hop_length: frame shift in samples, at most half the window.
        win_length: samples of the window (periodic), at most ``n_fft``.
        window: ``hann``, ``sqrt_hann`` or ``hamming``, in both directions.
        padding: ``zeros``, ``reflect`` or ``full``, as above.
    Attributes:
        options: these arguments by name: two transforms with equal ones are the same.
        before: samples of the first frame that lie before the signal.
        first, last: of an FFT frame, the first and the last sample that the window does not make zero.
        latency: samples that have to follow one before all frames that see it are there: ``last - first``.
    Raises:
        UserError: sizes that cannot be inverted.
    """

    def __init__(
        self,
        n_fft: int = 512,
        hop_length: int = 160,
        win_length: int = 400,
        window: str = "hann",
        padding: str = "zeros",
    ):
        super().__init__()
        require_choice("STFT: window", window, WINDOWS)
        require_choice("STFT: padding", padding, PADDINGS)
        if n_fft < 2 or (n_fft % 2 and padding != "full"):
            kind = "expected at least 2" if padding == "full" else "expected an even number from 2 on"
            raise UserError(f"STFT: n_fft is {n_fft}, {kind} with padding {padding!r}")
        if not 2 <= win_length <= n_fft:
            raise UserError(f"STFT: win_length is {win_length}, expected 2 to n_fft = {n_fft} samples")
        if not 1 <= hop_length <= win_length // 2:
            raise UserError(
                f"STFT: hop_length is {hop_length}, expected 1 to win_length / 2 = {win_length // 2} samples, "
                "or the signal cannot be rebuilt from its frames"
            )
        self.n_fft, self.hop_length, self.win_length, self.padding = n_fft, hop_length, win_length, padding
        self.options = {"n_fft": n_fft, "hop_length": hop_length, "win_length": win_length}
        self.options |= {"window": window, "padding": padding}
        self.num_bins = n_fft // 2 + 1
        self.least = n_fft // 2 + 1 if padding == "reflect" else 1  # samples that can be padded
        spare = n_fft - win_length
        if padding == "full":
            self.before = win_length - hop_length
            self.after, margins = self.before + spare, (0, spare)
        else:
            self.before = self.after = n_fft // 2
            margins = (spare // 2, spare - spare // 2)
        # A constant, not a weight: it stays out of the state dict, so the sizes can change without breaking a load.
        self.register_buffer("window", F.pad(WINDOWS[window](win_length), margins), persistent=False)
        places = F.pad(WINDOWS[window](win_length, device="cpu"), margins).nonzero()[:, 0].tolist()
        self.first, self.last = places[0], places[-1]

    @property
    def latency(self) -> int:
        return self.last - self.first

    def num_frames(self, num_samples):
        """Frames that ``forward`` makes of ``num_samples`` samples (an int or an integer tensor)."""
        return 1 + (num_samples + self.before + self.after - self.n_fft) // self.hop_length

    def num_samples(self, num_frames):
        """The fewest samples that ``num_frames`` frames are made of."""
        return (num_frames - 1) * self.hop_length + self.n_fft - self.before - self.after

    def whole(self, num_samples: int) -> int:
        """The least length from ``num_samples`` on that is made of whole hops and long enough to be mirrored.

        Models pad to it, because ``inverse`` needs two frames over each sample: see there.
        """
        return -(-max(num_samples, self.least) // self.hop_length) * self.hop_length

    def forward(self, wave: Tensor) -> Tensor:
        """(B, N) float, N >= 1 -> (B, F, T) complex, F = n_fft // 2 + 1, T = ``num_frames(N)``."""
        frames = self.num_frames(wave.shape[1])
        if wave.shape[1] < self.least:
            wave = F.pad(wave, (0, self.least - wave.shape[1]))
        wave = F.pad(wave, (self.before, self.after), "reflect" if self.padding == "reflect" else "constant")
        spec = torch.stft(wave, self.n_fft, self.hop_length, window=self.window, center=False, return_complex=True)
        return spec[:, :, :frames]

    def inverse(self, spec: Tensor, length: int) -> Tensor:
        """(B, F, T) complex -> (B, length) float; ``inverse(forward(x), N)`` is x.

        The least-squares inverse: frames times the window, overlapped and added, over the sum of squared windows.
        Where the padding is centred, samples beyond the last frame's centre are covered by that frame's fading window
        alone. They come back exactly from an unchanged spectrogram, but a changed one is amplified there, up to
        10,000-fold where the hop is half the window. Models therefore pad to whole hops first (``whole``).
        """
        frames = torch.fft.irfft(spec, self.n_fft, dim=1) * self.window[:, None]  # B, n_fft, T
        squares = self.window.square()[None, :, None].expand(1, -1, spec.shape[2])
        wave = self.overlap_add(frames) / self.overlap_add(squares).clamp_min(1e-11)
        wave = wave[:, self.before : self.before + length]
        return F.pad(wave, (0, length - wave.shape[1]))

    def overlap_add(self, frames: Tensor) -> Tensor:
        """(B, W, T) -> (B, W + (T - 1) * hop_length), W: n_fft or fewer samples of each frame.

        Hop by hop, because torch.compile of torch 2.13 makes wrong sums of F.fold where frames are not contiguous.
        """
        size, hop = frames.shape[1], self.hop_length
        hops = -(-size // hop)
        parts = F.pad(frames.transpose(1, 2), (0, hops * hop - size)).unflatten(2, (hops, hop))
        wave = sum(
            F.pad(part, (0, 0, k, hops - 1 - k)) for k, part in enumerate(parts.unbind(2))
        )  # B, T + hops - 1, hop
        return wave.flatten(1)[:, : size + (frames.shape[2] - 1) * hop]
