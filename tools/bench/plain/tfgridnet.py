"""Plain reading of TF-GridNet with direct and progressive learning, to compare results and speed with.

Each step is written as the description of the network reads, with torch's own transforms and layers and no thought of
speed: channels first, windows unfolded by indexing, one head after the other.
Shapes: B batch, C channels, T frames, F bins of the STFT, Q bins inside the blocks, D embedding, N samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainTFGridNet(nn.Module):
    """Direct learning with the phase front end by default; ESPnet's v1 with ``frontend`` ri, ``window`` hann and
    ``qk_rounding`` ceil. ``forward`` fills signals up with zeros to whole hops, as senet's models do; ``stages`` takes
    them as they are, with the frames of torch.stft."""

    def __init__(
        self,
        n_fft: int = 512,
        hop_length: int = 256,
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
        progressive: bool = False,
    ):
        super().__init__()
        self.n_fft, self.hop, self.frontend, self.progressive = n_fft, hop_length, frontend, progressive
        hann = torch.hann_window(n_fft)
        self.register_buffer("window", hann.sqrt() if window == "sqrt_hann" else hann, persistent=False)
        bins = n_fft // 2 + 1
        if frontend == "phase":
            self.phase_a = nn.Conv2d(1, phase_channels, (3, 1), padding=(1, 0))
            self.phase_c = nn.Conv2d(1, phase_channels, (3, 1), padding=(1, 0))
            inputs, padding, inner = phase_channels, (1, 0), bins - 2
        else:
            inputs, padding, inner = 2, (1, 1), bins
        self.conv = nn.Conv2d(inputs, emb_dim, (3, 3), padding=padding)
        self.norm = nn.GroupNorm(1, emb_dim, eps=1e-5)
        ratio = approx_qk_dim / inner
        qk_channels = math.floor(ratio) if qk_rounding == "floor" else math.ceil(ratio)
        self.blocks = nn.ModuleList(
            Block(emb_dim, inner, emb_ks, emb_hs, lstm_units, n_heads, qk_channels) for _ in range(n_layers)
        )
        self.deconvs = nn.ModuleList(
            nn.ConvTranspose2d(emb_dim, 2, (3, 3), padding=padding) for _ in range(n_layers if progressive else 1)
        )

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        length = noisy.shape[1]
        return self.stages(F.pad(noisy, (0, -length % self.hop)))[-1][:, :length]

    def stages(self, noisy: Tensor) -> list[Tensor]:
        """(B, N) -> one (B, N) per deconvolution."""
        level = noisy.new_ones(noisy.shape[0], 1)
        if self.frontend == "ri":
            level = torch.std(noisy, dim=1, keepdim=True)
        spec = torch.stft(
            noisy / level, self.n_fft, self.hop, window=self.window, center=True, pad_mode="reflect",
            return_complex=True,
        ).transpose(1, 2)  # B, T, F  # fmt: skip
        real, imag = spec.real[:, None], spec.imag[:, None]  # B, 1, T, F
        if self.frontend == "phase":
            z_real = self.phase_a(real) - self.phase_c(imag)
            z_imag = self.phase_a(imag) + self.phase_c(real)
            x = (z_real**2 + z_imag**2 + 1e-12) ** 0.25  # B, 4, T, F
        else:
            x = torch.cat([real, imag], 1)  # B, 2, T, F
        x = self.norm(self.conv(x))  # B, D, T, Q

        maps = []
        if self.progressive:
            running = x
            for block, deconv in zip(self.blocks, self.deconvs, strict=True):
                y = block(running)
                maps.append(deconv(y))
                running = running + y
        else:
            for block in self.blocks:
                x = block(x)
            maps.append(self.deconvs[0](x))

        waves = []
        for estimate in maps:  # B, 2, T, F
            estimate = torch.complex(estimate[:, 0], estimate[:, 1]).transpose(1, 2)  # B, F, T
            wave = torch.istft(estimate, self.n_fft, self.hop, window=self.window, center=True, length=noisy.shape[1])
            waves.append(wave * level)
        return waves


class Block(nn.Module):
    """Frequency, time, attention: (B, D, T, Q) -> the same."""

    def __init__(self, emb_dim, bins, emb_ks, emb_hs, lstm_units, n_heads, qk_channels):
        super().__init__()
        self.size, self.hop, self.n_heads = emb_ks, emb_hs, n_heads
        self.intra_norm, self.inter_norm = nn.LayerNorm(emb_dim, eps=1e-5), nn.LayerNorm(emb_dim, eps=1e-5)
        self.intra_lstm = nn.LSTM(emb_dim * emb_ks, lstm_units, batch_first=True, bidirectional=True)
        self.inter_lstm = nn.LSTM(emb_dim * emb_ks, lstm_units, batch_first=True, bidirectional=True)
        self.intra_deconv = nn.ConvTranspose1d(2 * lstm_units, emb_dim, emb_ks, stride=emb_hs)
        self.inter_deconv = nn.ConvTranspose1d(2 * lstm_units, emb_dim, emb_ks, stride=emb_hs)
        self.queries = nn.ModuleList(ConvActNorm(emb_dim, qk_channels, bins) for _ in range(n_heads))
        self.keys = nn.ModuleList(ConvActNorm(emb_dim, qk_channels, bins) for _ in range(n_heads))
        self.values = nn.ModuleList(ConvActNorm(emb_dim, emb_dim // n_heads, bins) for _ in range(n_heads))
        self.projection = ConvActNorm(emb_dim, emb_dim, bins)

    def forward(self, x: Tensor) -> Tensor:
        frames, bins = x.shape[2:]
        x = F.pad(x, (0, self.padded(bins) - bins, 0, self.padded(frames) - frames))
        batch, emb_dim, long_frames, long_bins = x.shape

        # Each frame is a sequence over frequency.
        rows = x.permute(0, 2, 3, 1)  # B, T', Q', D
        rows = self.intra_norm(rows).reshape(batch * long_frames, long_bins, emb_dim)
        rows = self.along(rows, self.intra_lstm, self.intra_deconv)
        x = x + rows.reshape(batch, long_frames, long_bins, emb_dim).permute(0, 3, 1, 2)

        # Each bin is a sequence over time.
        columns = x.permute(0, 3, 2, 1)  # B, Q', T', D
        columns = self.inter_norm(columns).reshape(batch * long_bins, long_frames, emb_dim)
        columns = self.along(columns, self.inter_lstm, self.inter_deconv)
        x = x + columns.reshape(batch, long_bins, long_frames, emb_dim).permute(0, 3, 2, 1)

        x = x[:, :, :frames, :bins]
        return x + self.attend(x)

    def padded(self, length: int) -> int:
        """ceil((length - I) / J) J + I, and I at least."""
        return max(0, math.ceil((length - self.size) / self.hop)) * self.hop + self.size

    def along(self, x: Tensor, lstm: nn.LSTM, deconv: nn.ConvTranspose1d) -> Tensor:
        """(sequences, length, D) -> the same."""
        starts = range(0, x.shape[1] - self.size + 1, self.hop)
        # Each window as a vector of D I values, I the fastest.
        windows = [x[:, s : s + self.size].transpose(1, 2).flatten(1) for s in starts]
        hidden, _ = lstm(torch.stack(windows, 1))  # sequences, steps, 2 H
        return deconv(hidden.transpose(1, 2)).transpose(1, 2)

    def attend(self, x: Tensor) -> Tensor:
        batch, _, frames, bins = x.shape
        heads = []
        for to_query, to_key, to_value in zip(self.queries, self.keys, self.values, strict=True):
            query, key, value = (f(x).transpose(1, 2).flatten(2) for f in (to_query, to_key, to_value))  # B, T, C Q
            scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
            head = torch.softmax(scores, dim=2) @ value  # B, T, C Q
            heads.append(head.reshape(batch, frames, -1, bins).transpose(1, 2))
        return self.projection(torch.cat(heads, 1))


class ConvActNorm(nn.Module):
    """1x1 convolution, PReLU, norm over channels and bins of each frame: (B, D, T, Q) -> (B, C, T, Q)."""

    def __init__(self, emb_dim: int, channels: int, bins: int):
        super().__init__()
        self.conv, self.act = nn.Conv2d(emb_dim, channels, 1), nn.PReLU()
        self.gain, self.shift = (
            nn.Parameter(torch.ones(channels, 1, bins)),
            nn.Parameter(torch.zeros(channels, 1, bins)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        mean = x.mean((1, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((1, 3), keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.gain + self.shift


@torch.no_grad()
def load_weights(plain: PlainTFGridNet, model: nn.Module):
    """Copy the weights of a ``senet.models.tfgridnet.TFGridNet``, variant v1."""
    if plain.frontend == "phase":
        plain.phase_a.load_state_dict(model.phase_encoder.real.state_dict())
        plain.phase_c.load_state_dict(model.phase_encoder.imag.state_dict())
    for name in ("conv", "norm", "deconvs"):
        getattr(plain, name).load_state_dict(getattr(model, name).state_dict())
    for block, other in zip(plain.blocks, model.blocks, strict=True):
        for path in ("intra", "inter"):
            getattr(block, f"{path}_norm").load_state_dict(getattr(other, path).norm.state_dict())
            getattr(block, f"{path}_lstm").load_state_dict(getattr(other, path).lstm.state_dict())
            getattr(block, f"{path}_deconv").load_state_dict(getattr(other, path).join.state_dict())
        for h in range(block.n_heads):
            _load_head(block.queries[h], other.attention.query, h)
            _load_head(block.keys[h], other.attention.key, h)
            _load_head(block.values[h], other.attention.value, h)
        _load_head(block.projection, other.attention.output, 0)


def _load_head(head: ConvActNorm, all_heads: nn.Module, h: int):
    """Weights of head ``h`` from those of all heads: rows in the order of the heads, gains (heads, 1, Q, C)."""
    rows = slice(h * head.conv.out_channels, (h + 1) * head.conv.out_channels)
    head.conv.weight.copy_(all_heads.linear.weight[rows, :, None, None])
    head.conv.bias.copy_(all_heads.linear.bias[rows])
    head.act.weight.copy_(all_heads.slope[h : h + 1])
    head.gain.copy_(all_heads.weight[h].permute(2, 0, 1))
    head.shift.copy_(all_heads.bias[h].permute(2, 0, 1))
