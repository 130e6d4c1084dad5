"""Plain reading of the low-latency masking network (Wilson et al., IWAENC 2018), to compare results and speed with.

Each step is written as the description of the network reads, with torch's own transforms and layers and no thought of
speed: channels first in memory, the signal padded by copying before each convolution, a layer after the other.
Shapes: B batch, C channels, T frames, F bins, N samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_FFT, HOP, WINDOW = 512, 160, 400
OUTPUTS = {"mag": 1, "ri_sigmoid": 2, "complex": 2, "complex_unbounded": 2, "polar": 3}  # per bin


class PlainLowLatencyNet(nn.Module):
    """The bidirectional system by default; options as in ``senet.models.lowlatency``, without those of the level."""

    def __init__(
        self,
        inputs: str = "complex",
        exponent: float = 0.3,
        delta_phase: str = "none",
        channels: int = 32,
        maps: int = 8,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16),
        lstm_units: int = 1023,
        fc_units: int = 873,
        causal: bool = False,
        lookahead: int = 0,
        lookahead_form: str = "distributed",
        mask: str = "ri_sigmoid",
        mask_bound: float = 2.0,
    ):
        super().__init__()
        self.inputs, self.exponent, self.delta_phase = inputs, exponent, delta_phase
        self.mask, self.mask_bound = mask, mask_bound
        self.delay = lookahead if lookahead_form == "delayed" else 0
        num_inputs = {"complex": 2, "magnitude": 1}[inputs] + (0 if delta_phase == "none" else 2)
        layers = [nn.Conv2d(num_inputs, channels, (1, 7)), nn.Conv2d(channels, channels, (7, 1))]
        for dilation in dilations:
            layers.append(nn.Conv2d(channels, channels, (5, 5), dilation=(dilation, 1)))
        self.convs = nn.ModuleList(layers)
        # (past, future) frames of each convolution.
        self.reach = []
        left = lookahead - self.delay
        for conv in layers:
            total = (conv.kernel_size[0] - 1) * conv.dilation[0]
            future = min(left, total // 2) if causal else total // 2
            left -= future
            self.reach.append((total - future, future))
        self.conv8 = nn.Conv2d(channels, maps, 1)
        self.lstm = nn.LSTM(maps * 257, lstm_units, batch_first=True, bidirectional=not causal)
        self.fc1 = nn.Linear(lstm_units if causal else 2 * lstm_units, fc_units)
        self.fc2 = nn.Linear(fc_units, OUTPUTS[mask] * 257)

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        length = noisy.shape[1]
        window = torch.hann_window(WINDOW, device=noisy.device)
        wave = F.pad(noisy, (0, -length % HOP))
        spec = torch.stft(wave, N_FFT, HOP, WINDOW, window, pad_mode="constant", return_complex=True)  # B, F, T
        estimate = self.masked(spec, self.network(self.features(spec)))
        return torch.istft(estimate, N_FFT, HOP, WINDOW, window, length=wave.shape[1])[:, :length]

    def features(self, spec: Tensor) -> Tensor:
        """(B, F, T) complex -> (B, C, T, F): compressed spectrum, and the phase's advance from frame to frame."""
        power = spec.real**2 + spec.imag**2
        if self.inputs == "complex":
            compressed = spec * (power + 1e-8) ** ((self.exponent - 1) / 2)
            maps = [compressed.real, compressed.imag]
        else:
            maps = [power * (power + 1e-8) ** (self.exponent / 2 - 1)]
        if self.delta_phase != "none":
            advance = self.phase_advance(spec)
            has_phase = advance.isfinite()
            advance = torch.where(has_phase, advance, 0)
            maps += [torch.cos(advance) * has_phase, torch.sin(advance) * has_phase]
        return torch.stack(maps, 1).transpose(2, 3)

    def phase_advance(self, spec: Tensor) -> Tensor:
        """(B, F, T) complex -> (B, F, T) in (-pi, pi]; nan where there is no predecessor or no phase."""
        before = torch.zeros_like(spec)
        if self.delta_phase == "frequency":
            before[:, 1:] = spec[:, :-1]
        else:
            before[:, :, 1:] = spec[:, :, :-1]
        product = spec * before.conj()
        advance = torch.angle(product)
        if self.delta_phase == "baseband":
            bins = torch.arange(257, device=spec.device)
            advance = advance - (2 * torch.pi * bins * HOP / N_FFT)[:, None]
            advance = torch.remainder(advance + torch.pi, 2 * torch.pi) - torch.pi
        return advance.masked_fill(product == 0, torch.nan)

    def network(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, T, outputs * F) before the mask's activation."""
        x = F.pad(x, (0, 0, 0, self.delay))
        for conv, (past, future) in zip(self.convs, self.reach, strict=True):
            margin = conv.kernel_size[1] // 2
            x = torch.relu(conv(F.pad(x, (margin, margin, past, future))))
        x = torch.relu(self.conv8(x))  # B, maps, T, F
        x = torch.cat([x[:, i] for i in range(x.shape[1])], 2)  # B, T, maps * F
        x, _ = self.lstm(x)
        x = self.fc2(torch.relu(self.fc1(x)))
        return x[:, self.delay :]

    def masked(self, spec: Tensor, outputs: Tensor) -> Tensor:
        """The noisy spectrum (B, F, T) times the mask that the outputs stand for."""
        parts = [part.transpose(1, 2) for part in outputs.split(257, 2)]  # B, F, T each
        if self.mask == "mag":
            return torch.sigmoid(parts[0]) * spec
        if self.mask == "ri_sigmoid":
            return torch.complex(torch.sigmoid(parts[0]) * spec.real, torch.sigmoid(parts[1]) * spec.imag)
        if self.mask == "complex":
            bounded = [self.mask_bound * torch.tanh(part) for part in parts]
            return torch.complex(*bounded) * spec
        if self.mask == "complex_unbounded":
            return torch.complex(*parts) * spec
        phase = torch.angle(torch.complex(1 + parts[1], parts[2]))
        return torch.polar(torch.sigmoid(parts[0]), phase) * spec


def load_weights(plain: PlainLowLatencyNet, model: nn.Module):
    """Give ``plain`` the weights of a ``senet.models.lowlatency.LowLatencyNet`` with the same options."""
    renamed = {"reduce": "conv8", "hidden": "fc1", "output": "fc2"}
    state = {}
    for name, weight in model.state_dict().items():
        layer, _, rest = name.partition(".")
        state[f"{renamed.get(layer, layer)}.{rest}"] = weight
    plain.load_state_dict(state)
