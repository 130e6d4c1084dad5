"""TF-GridNet: LSTMs over frequency, LSTMs over time and attention between frames, in turn; direct or progressive.

Papers: Z.-Q. Wang, S. Cornell, S. Choi, Y. Lee, B.-Y. Kim, S. Watanabe, "TF-GridNet: Making time-frequency domain
models great again for monaural speaker separation", arXiv 2209.03952, and "TF-GridNet: Integrating full- and sub-band
modeling for speech separation", arXiv 2211.12433 (known here from their abstracts).
Public code: ESPnet (espnet2/enh/separator/tfgridnet_separator.py and its v2 and v3), and for speech enhancement with
direct and progressive learning (DL, PL) Acceleration123/Speech-Enhancement. The defaults are the latter's DL.

    noisy STFT -> front end -> 3x3 convolution -> norm -> 5 blocks -> 3x3 transposed convolution -> enhanced STFT

    block: x + LSTM over frequency (windows of 4 bins) -> x + LSTM over time (windows of 4 frames, each bin by itself)
           -> x + attention from every frame to every frame

The network maps to the complex spectrum itself: there is no mask. Progressive, each block has its own estimate, and
block k + 1 reads the sum of the features and the outputs of blocks 1..k.

The front end ``phase`` (Acceleration123) reads |Z|^0.5 of a complex convolution Z over three frames. Without its biases
it could not tell x from -x, and they compare with the signal's absolute level: so do not decay them, and keep the
levels of training and test alike. ``ri`` (ESPnet) reads real and imaginary part of the signal divided by its standard
deviation, and gives back the level.

As published: sizes, numbers of parameters, front ends, norms and their epsilons, initialisation, the three ways of
padding and normalising in ESPnet's v1, v2 and v3 (``variant``). The network of Acceleration123 is a v1.
Different from both on purpose: a signal is filled up with zeros to whole hops before the STFT, and the standard
deviation of ``ri`` is that of the filled signal; the last hop - 1 samples are not lost. A signal of fewer frames than a
window is padded. ``|Z|^0.5`` has a finite slope at 0. Where the paper has a convolution, norm and PReLU for each head,
and a Conv1d's layout, the same numbers are computed at once for all heads; the weights have the shapes of that.

Shapes: B batch, T frames, F bins of the STFT, Q bins inside the blocks, D embedding, L heads, N samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp.stft import STFT
from senet.errors import UserError, require_choice, require_positive
from senet.layers.norms import norm
from senet.layers.precision import at_least_single
from senet.models.base import SpectralModel

FRONTENDS = ("phase", "ri")
VARIANTS = ("v1", "v2", "v3")
ROUNDINGS = {"floor": math.floor, "ceil": math.ceil}


class TFGridNet(SpectralModel):
    """The network of the module's docstring.

    Args:
        sample_rate: Hz.
        n_fft, hop_length, win_length, window: of the STFT, in samples; mirrored at the ends.
        frontend: ``phase`` or ``ri``.
        phase_channels: of the ``phase`` front end.
        n_layers: blocks.
        emb_dim: D, a multiple of ``n_heads``.
        emb_ks, emb_hs: length and hop of the LSTMs' windows, in bins and in frames; equal ones make the network
            faster by so many times.
        lstm_units: per direction.
        n_heads: L.
        approx_qk_dim: values per head and frame that queries and keys should have: E = approx_qk_dim / Q channels.
        qk_rounding: of E: ``floor`` as Acceleration123, ``ceil`` as ESPnet.
        variant: ``v1``: zeros behind the last frame and bin until windows fit. ``v2``: besides, emb_ks - emb_hs of them
            at all four sides; equal emb_ks and emb_hs: windows are cut and joined by linear layers, frame after frame.
            ``v3``: as v2, and the attention's norms take statistics and gains per bin: its weights fit another n_fft if
            approx_qk_dim is changed with it, so that E is the same.
        progressive: an estimate after each block, which are the stages; else one, after the last.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 256,
        win_length: int = 512,
        window: str = "sqrt_hann",
        frontend: str = "phase",
        phase_channels: int = 4,
        n_layers: int = 5,
        emb_dim: int = 32,
        emb_ks: int = 4,
        emb_hs: int = 1,
        lstm_units: int = 100,
        n_heads: int = 4,
        approx_qk_dim: int = 1024,
        qk_rounding: str = "floor",
        variant: str = "v1",
        progressive: bool = False,
    ):
        require_choice("TFGridNet: frontend", frontend, FRONTENDS)
        require_choice("TFGridNet: qk_rounding", qk_rounding, tuple(ROUNDINGS))
        require_choice("TFGridNet: variant", variant, VARIANTS)
        require_positive("TFGridNet", sample_rate=sample_rate, phase_channels=phase_channels, n_layers=n_layers)
        require_positive("TFGridNet", emb_dim=emb_dim, emb_ks=emb_ks, emb_hs=emb_hs, lstm_units=lstm_units)
        require_positive("TFGridNet", n_heads=n_heads, approx_qk_dim=approx_qk_dim)
        if emb_hs > emb_ks:
            raise UserError(f"TFGridNet: emb_hs is {emb_hs}, expected 1 to emb_ks = {emb_ks}")
        if emb_dim % n_heads:
            raise UserError(f"TFGridNet: emb_dim is {emb_dim}, expected a multiple of n_heads = {n_heads}")
        offline = ["attention and LSTMs over time see all frames, in every configuration"]
        super().__init__(sample_rate, STFT(n_fft, hop_length, win_length, window, "reflect"), offline)
        self.progressive = progressive
        if frontend == "phase":
            self.phase_encoder, num_inputs, margin = PhaseEncoder(phase_channels), phase_channels, 0
        else:
            self.phase_encoder, num_inputs, margin = None, 2, 1
        bins = self.stft.num_bins - 2 + 2 * margin
        if bins < 1:
            raise UserError(f"TFGridNet: n_fft is {n_fft}, expected at least 4 for the three bins of phase")
        qk_channels = ROUNDINGS[qk_rounding](approx_qk_dim / bins)
        if qk_channels < 1:
            raise UserError(f"TFGridNet: approx_qk_dim is {approx_qk_dim}, expected at least the {bins} bins")

        self.conv = nn.Conv2d(num_inputs, emb_dim, 3, padding=(1, margin))
        self.norm = norm("global", emb_dim)
        self.blocks = nn.ModuleList(
            GridBlock(emb_dim, bins, emb_ks, emb_hs, lstm_units, n_heads, qk_channels, variant) for _ in range(n_layers)
        )
        self.deconvs = nn.ModuleList(
            nn.ConvTranspose2d(emb_dim, 2, 3, padding=(1, margin)) for _ in range(n_layers if progressive else 1)
        )

    def level(self, spec: Tensor) -> Tensor | None:
        """(B, F, T) complex -> the signal's standard deviation (B, 1, 1) for ``ri``, None for ``phase``."""
        if self.phase_encoder is not None:
            return None
        wave = self.stft.inverse(spec, (spec.shape[2] - 1) * self.stft.hop_length)
        return wave.var(1).clamp_min(1e-16).sqrt()[:, None, None]  # silence stays silence

    def encode(self, spec: Tensor, level: Tensor | None) -> Tensor:
        """(B, F, T) complex -> the same."""
        return spec if level is None else spec / level

    def decode(self, spec: Tensor, level: Tensor | None) -> Tensor:
        """(B, F, T) complex -> the same."""
        return spec if level is None else spec * level

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> the estimates of all blocks if progressive, else the one, each (B, F, T) complex."""
        maps = self.trunk(spec)[-len(self.deconvs) :]
        return [self.estimate(deconv, x) for deconv, x in zip(self.deconvs, maps, strict=True)]

    def result(self, spec: Tensor) -> Tensor:
        """(B, F, T) complex -> the last of ``network``'s estimates."""
        return self.estimate(self.deconvs[-1], self.trunk(spec)[-1])

    def trunk(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> the output (B, T, Q, D) of each block."""
        x = torch.stack((spec.real, spec.imag), 1).transpose(2, 3)  # B, 2, T, F
        if self.phase_encoder is not None:
            x = self.phase_encoder(x)  # B, phase_channels, T, F
        x = self.norm(self.conv(x)).permute(0, 2, 3, 1)  # B, T, Q, D
        outputs = []
        for block in self.blocks:
            y = block(x)
            outputs.append(y)
            x = x + y if self.progressive else y
        return outputs

    def estimate(self, deconv: nn.Module, x: Tensor) -> Tensor:
        """(B, T, Q, D) -> (B, F, T) complex."""
        x = at_least_single(deconv(x.permute(0, 3, 1, 2)))  # B, 2, T, F
        return torch.complex(x[:, 0], x[:, 1]).transpose(1, 2)


class PhaseEncoder(nn.Module):
    """|Z|^0.5 of the complex convolution Z = (A + jC) * X over three frames, with biases in A and C.

    Source: Acceleration123/Speech-Enhancement.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.real = nn.Conv2d(1, channels, (3, 1), padding=(1, 0))
        self.imag = nn.Conv2d(1, channels, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, T, F), real and imaginary part -> (B, channels, T, F)."""
        re, im = x[:, :1], x[:, 1:]
        z_re = at_least_single(self.real(re) - self.imag(im))
        z_im = at_least_single(self.real(im) + self.imag(re))
        return (z_re.square() + z_im.square() + 1e-12) ** 0.25  # slope of |Z|^0.5 at 0: infinite


class GridBlock(nn.Module):
    """One block: over frequency, over time, between frames. Arguments as in TFGridNet."""

    def __init__(self, emb_dim, bins, emb_ks, emb_hs, lstm_units, n_heads, qk_channels, variant):
        super().__init__()
        self.emb_ks, self.emb_hs = emb_ks, emb_hs
        self.margin = 0 if variant == "v1" else emb_ks - emb_hs
        linear = variant != "v1" and emb_ks == emb_hs
        self.intra = PathLSTM(emb_dim, emb_ks, emb_hs, lstm_units, linear)
        self.inter = PathLSTM(emb_dim, emb_ks, emb_hs, lstm_units, linear)
        self.attention = FrameAttention(emb_dim, n_heads, qk_channels, None if variant == "v3" else bins)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, Q, D) -> the same."""
        frames, bins = x.shape[1:3]
        x = F.pad(x, (0, 0, *self._padding(bins), *self._padding(frames)))
        x = x + self.intra(x, 2)
        x = x + self.inter(x, 1)
        x = x[:, self.margin : self.margin + frames, self.margin : self.margin + bins]
        return x + self.attention(x)

    def _padding(self, length: int) -> tuple[int, int]:
        """Zeros before and after ``length`` values so that windows fit."""
        hops = max(0, -(-(length + 2 * self.margin - self.emb_ks) // self.emb_hs))
        return self.margin, hops * self.emb_hs + self.emb_ks - length - self.margin


class PathLSTM(nn.Module):
    """Layer norm, bidirectional LSTM over overlapping windows along one axis, and back to the values of that axis.

    Args:
        emb_dim: D. size, hop: of the windows. units: of the LSTM per direction.
        linear: windows, which then do not overlap, are joined by a linear layer with a bias for each of their values.
    """

    def __init__(self, emb_dim: int, size: int, hop: int, units: int, linear: bool):
        super().__init__()
        self.size, self.hop, self.linear = size, hop, linear
        self.norm = nn.LayerNorm(emb_dim)
        self.lstm = nn.LSTM(emb_dim * size, units, bidirectional=True)
        if linear:
            self.join = nn.Linear(2 * units, size * emb_dim)
        else:
            self.join = nn.ConvTranspose1d(2 * units, emb_dim, size, hop)

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """(B, T, Q, D), windows fit the axis (1 or 2) -> the same."""
        x = self.norm(x).movedim(axis, 0)  # P, B, O, D: the path's axis and the other one
        batch, other = x.shape[1:3]
        x = x.unfold(0, self.size, self.hop)  # S, B, O, D, size
        if self.linear:
            x = x.transpose(3, 4)
        x = x.reshape(x.shape[0], batch * other, -1)
        x, _ = self.lstm(x)  # S, B * O, 2 * units
        if self.linear:
            x = self.join(x).unflatten(2, (self.size, -1)).transpose(1, 2).flatten(0, 1)  # P, B * O, D
        else:
            x = self.join(x.permute(1, 2, 0)).permute(2, 0, 1)
        return x.unflatten(1, (batch, other)).movedim(0, axis)


class FrameAttention(nn.Module):
    """Self-attention between whole frames, without positions or mask.

    Args:
        emb_dim: D. heads: L. qk_channels: E. bins: Q, or None for norms per bin.
    """

    def __init__(self, emb_dim: int, heads: int, qk_channels: int, bins: int | None):
        super().__init__()
        self.query = HeadProjection(emb_dim, heads, qk_channels, bins)
        self.key = HeadProjection(emb_dim, heads, qk_channels, bins)
        self.value = HeadProjection(emb_dim, heads, emb_dim // heads, bins)
        self.output = HeadProjection(emb_dim, 1, emb_dim, bins)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, Q, D) -> the same."""
        bins = x.shape[2]
        query, key, value = (project(x).flatten(3) for project in (self.query, self.key, self.value))
        x = F.scaled_dot_product_attention(query, key, value)  # B, L, T, Q * D / L; scaled by (E * Q) ** -0.5
        x = x.unflatten(3, (bins, -1)).permute(0, 2, 3, 1, 4).flatten(3)  # B, T, Q, D
        return self.output(x).squeeze(1)


class HeadProjection(nn.Module):
    """1x1 convolution, PReLU and norm over each frame's bins and channels, for all heads at once.

    Args:
        emb_dim: D. heads: L. channels: C of each head.
        bins: Q, with a gain and a bias for each; None: norm over the channels of each bin, one gain for all bins.
    """

    def __init__(self, emb_dim: int, heads: int, channels: int, bins: int | None):
        super().__init__()
        self.linear = nn.Linear(emb_dim, heads * channels)
        self.slope = nn.Parameter(torch.full((heads,), 0.25))
        self.normalized = (bins, channels) if bins else (channels,)
        shape = (heads, 1, bins or 1, channels)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, Q, D) -> (B, L, T, Q, C)."""
        x = self.linear(x).unflatten(3, (len(self.slope), -1)).permute(0, 3, 1, 2, 4)
        x = F.prelu(x, self.slope)
        return F.layer_norm(x, self.normalized, eps=1e-5) * self.weight + self.bias
