"""Plain reading of GaGNet (Li et al., Applied Acoustics 2022), to compare results and speed with.

Each step is written as the description of the network reads, with torch's own transforms and layers and no thought of
speed: one-dimensional convolutions after the encoder, one convolution for each half of a gate, magnitudes and phases.
One thing is senet's: the level, which is the RMS of the spectrum (the description has that of the waveform).
Shapes: B batch, C channels, T frames, F bins, N samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_FFT, HOP = 320, 160
BINS = N_FFT // 2 + 1


class PlainGaGNet(nn.Module):
    """The published system by default; options as in ``senet.models.gagnet``, without those of the transform."""

    def __init__(
        self,
        exponent: float = 0.5,
        level: str = "utterance",
        norm: str = "instance",
        causal: bool = True,
        q: int = 3,
        p: int = 2,
        dilations: tuple[int, ...] = (1, 2, 5, 9),
        kd1: int = 3,
        cd1: int = 64,
        channels: int = 64,
        d_feat: int = 256,
        encoder: str = "u2",
        inner_skip: str = "cat",
        glance: str = "sigmoid",
        gaze: str = "separate",
    ):
        super().__init__()
        self.exponent, self.level = exponent, level
        depths = (4, 3, 2, 1, 0) if encoder == "u2" else (0, 0, 0, 0, 0)
        layers, width = [], 2
        for index, depth in enumerate(depths):
            outputs = d_feat // 4 if index == 4 else channels
            layers.append(Layer(width, outputs, (2, 5) if index == 0 else (2, 3), depth, inner_skip, norm))
            width = outputs
        self.layers = nn.ModuleList(layers)
        tcm = {"channels": d_feat, "squeezed": cd1, "kernel": kd1, "causal": causal, "norm": norm}
        self.stages = nn.ModuleList(Stage(p, dilations, glance, gaze, tcm) for _ in range(q))

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        length = noisy.shape[1]
        window = torch.hann_window(N_FFT, device=noisy.device)
        wave = F.pad(noisy, (0, -length % HOP))
        if wave.shape[1] <= N_FFT // 2:
            wave = F.pad(wave, (0, HOP))  # long enough to be mirrored
        spec = torch.stft(wave, N_FFT, HOP, N_FFT, window, return_complex=True)  # B, F, T
        level = self.level_of(spec, window)
        estimate = self.network(self.compress(spec / level))[-1]
        estimate = estimate * estimate.abs() ** (1 / self.exponent - 1)
        return torch.istft(estimate * level, N_FFT, HOP, N_FFT, window, length=wave.shape[1])[:, :length]

    def level_of(self, spec: Tensor, window: Tensor) -> Tensor:
        """(B, F, T) complex -> (B, 1, 1) or (B, 1, T)."""
        power = spec.abs() ** 2
        if self.level == "none":
            return torch.ones(1, 1, 1, device=spec.device)
        if self.level == "utterance":
            levels = []
            for clip in power:  # F, T
                sounding = clip.sum(0).nonzero()
                frames = int(sounding.max()) + 1 if len(sounding) else 1  # silence behind the signal does not count
                levels.append(clip[:, :frames].mean())
            power = torch.stack(levels)[:, None, None]
        else:
            sums = [power[:, :, : t + 1].mean((1, 2)) for t in range(power.shape[2])]
            power = torch.stack(sums, 1)[:, None]
        return torch.sqrt(power + 1e-10) / torch.sqrt((window**2).sum())

    def compress(self, spec: Tensor) -> Tensor:
        """The magnitude to the power ``exponent``, guarded at zero; the phase stays."""
        return spec * (spec.abs() ** 2 + 1e-12) ** ((self.exponent - 1) / 2)

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex, compressed -> one such estimate per stage."""
        estimate = torch.stack([spec.real, spec.imag], 1).transpose(2, 3)  # B, 2, T, F
        x = estimate
        for layer in self.layers:
            x = layer(x)
        x = x.transpose(2, 3)  # B, C, 4, T
        x = x.reshape(x.shape[0], -1, x.shape[3])  # B, 4 * C, T; index = 4 * channel + bin
        estimates = []
        for stage in self.stages:
            estimate = stage(x, estimate)
            estimates.append(torch.complex(estimate[:, 0], estimate[:, 1]).transpose(1, 2))
        return estimates


class Layer(nn.Module):
    """Gated convolution that halves the bins, norm, PReLU; then a UNet-block of ``depth``, with a residual."""

    def __init__(self, num_inputs, channels, kernel, depth, skip, norm):
        super().__init__()
        self.past, self.skip = kernel[0] - 1, skip
        self.conv = nn.Conv2d(num_inputs, 2 * channels, kernel, stride=(1, 2))
        self.norm, self.prelu = Norm(norm, channels), nn.PReLU(channels)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for index in range(depth):
            conv = nn.Conv2d(channels, channels, (1, 3), stride=(1, 2))
            self.down.append(nn.Sequential(conv, Norm(norm, channels), nn.PReLU(channels)))
            width = channels if index == 0 or skip == "add" else 2 * channels
            conv = nn.ConvTranspose2d(width, channels, (1, 3), stride=(1, 2))
            self.up.append(nn.Sequential(conv, Norm(norm, channels), nn.PReLU(channels)))

    def forward(self, x):
        x = self.conv(F.pad(x, (0, 0, self.past, 0)))
        a, g = x.chunk(2, 1)
        u = self.prelu(self.norm(a * torch.sigmoid(g)))
        if len(self.down) == 0:
            return u
        encoded, x = [], u
        for unit in self.down:
            x = unit(x)
            encoded.append(x)
        x = self.up[0](encoded[-1])
        for i in range(2, len(self.up) + 1):
            earlier = encoded[len(self.up) + 1 - i - 1]  # e_{s + 1 - i}, counted from 1
            x = self.up[i - 1](torch.cat([x, earlier], 1) if self.skip == "cat" else x + earlier)
        return u + x


class Stage(nn.Module):
    """Glance and gaze block over the features and the last estimate, and what both make of the latter."""

    def __init__(self, p, dilations, glance, gaze, tcm):
        super().__init__()
        self.activation = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[glance]

        def stack():
            return nn.ModuleList(nn.ModuleList(SqueezedTCM(dilation=d, **tcm) for d in dilations) for _ in range(p))

        d_feat = tcm["channels"]
        self.glance_in, self.gaze_in = Gate(d_feat), Gate(d_feat)
        self.glance_stack, self.glance_out = stack(), nn.Conv1d(d_feat, BINS, 1)
        self.gaze_stacks = nn.ModuleList(stack() for _ in range(1 if gaze == "squeezed" else 2))
        self.real_out, self.imag_out = nn.Conv1d(d_feat, BINS, 1), nn.Conv1d(d_feat, BINS, 1)

    def forward(self, features, estimate):
        """(B, d_feat, T), (B, 2, T, F) -> (B, 2, T, F)."""
        real, imag = estimate[:, 0].transpose(1, 2), estimate[:, 1].transpose(1, 2)  # B, F, T
        z = torch.cat([features, real, imag], 1)

        gain = self.activation(self.glance_out(run(self.glance_stack, self.glance_in(z))))  # B, F, T

        h = self.gaze_in(z)
        hidden = [run(groups, h) for groups in self.gaze_stacks]
        residual = self.real_out(hidden[0]), self.imag_out(hidden[-1])

        magnitude, phase = torch.sqrt(real**2 + imag**2 + 1e-24), torch.atan2(imag, real)
        real = gain * magnitude * torch.cos(phase) + residual[0]
        imag = gain * magnitude * torch.sin(phase) + residual[1]
        return torch.stack([real.transpose(1, 2), imag.transpose(1, 2)], 1)


def run(groups, x):
    for group in groups:
        for tcm in group:
            x = tcm(x)
    return x


class Gate(nn.Module):
    """A 1x1 convolution times the sigmoid of another."""

    def __init__(self, d_feat):
        super().__init__()
        self.linear, self.gate = nn.Conv1d(d_feat + 2 * BINS, d_feat, 1), nn.Conv1d(d_feat + 2 * BINS, d_feat, 1)

    def forward(self, z):
        return self.linear(z) * torch.sigmoid(self.gate(z))


class SqueezedTCM(nn.Module):
    """1x1 to few channels, PReLU, norm; dilated, PReLU, norm; 1x1 back; plus the input."""

    def __init__(self, channels, squeezed, kernel, dilation, causal, norm):
        super().__init__()
        reach = (kernel - 1) * dilation
        self.padding = (reach, 0) if causal else (reach // 2, reach // 2)
        self.conv_in = nn.Conv1d(channels, squeezed, 1, bias=False)
        self.prelu1, self.norm1 = nn.PReLU(squeezed), Norm(norm, squeezed)
        self.dilated = nn.Conv1d(squeezed, squeezed, kernel, dilation=dilation, bias=False)
        self.prelu2, self.norm2 = nn.PReLU(squeezed), Norm(norm, squeezed)
        self.conv_out = nn.Conv1d(squeezed, channels, 1, bias=False)

    def forward(self, x):
        y = self.norm1(self.prelu1(self.conv_in(x)))
        y = self.norm2(self.prelu2(self.dilated(F.pad(y, self.padding))))
        return x + self.conv_out(y)


class Norm(nn.Module):
    """Of (B, C, T, F) or (B, C, T): ``instance`` over T and F, ``batch`` by running means, ``cumulative`` over C, F and
    the frames so far."""

    def __init__(self, kind, channels):
        super().__init__()
        self.kind = kind
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        shape = x.shape
        x = x.reshape(*shape[:3], -1)  # B, C, T, F
        if self.kind == "instance":
            mean = x.mean((2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean((2, 3), keepdim=True)
        elif self.kind == "batch":
            mean, variance = self.running_mean[:, None, None], self.running_var[:, None, None]
        elif self.kind == "cumulative":
            count = torch.arange(1, shape[2] + 1, device=x.device)[:, None] * x.shape[1] * x.shape[3]
            mean = x.double().sum((1, 3), keepdim=True).cumsum(2) / count
            variance = (x.double() ** 2).sum((1, 3), keepdim=True).cumsum(2) / count - mean**2
            mean, variance = mean.to(x.dtype), variance.to(x.dtype)
        else:
            raise ValueError(f"no plain reading of norm '{self.kind}'")
        x = (x - mean) / torch.sqrt(variance + 1e-5)
        return (x * self.weight[:, None, None] + self.bias[:, None, None]).reshape(shape)


def load_weights(plain: PlainGaGNet, model: nn.Module):
    """Give ``plain`` the weights of a ``senet.models.gagnet.GaGNet`` with the same options."""
    for layer, source in zip(plain.layers, model.encoder, strict=True):
        layer.conv.load_state_dict(source.conv.state_dict())
        layer.prelu.load_state_dict(source.activation.state_dict())
        _copy_norm(layer.norm, source.norm)
        units = zip([*layer.down, *layer.up], [*source.unet.down, *source.unet.up] if source.unet else [], strict=True)
        for unit, original in units:
            unit[0].load_state_dict(original[0].state_dict())
            _copy_norm(unit[1], original[1])
            unit[2].load_state_dict(original[2].state_dict())
    for stage, ggm in zip(plain.stages, model.ggms, strict=True):
        for gate, block in ((stage.glance_in, ggm.glance), (stage.gaze_in, ggm.gaze)):
            _copy_halves((gate.linear, gate.gate), block.gate)
        stacks, paths = [stage.glance_stack, *stage.gaze_stacks], [*ggm.glance.paths, *ggm.gaze.paths]
        for stack, path in zip(stacks, paths, strict=True):
            tcms = [tcm for group in stack for tcm in group]
            for tcm, source in zip(tcms, path[:-1], strict=True):
                parts = (tcm.conv_in, tcm.prelu1, tcm.norm1, tcm.dilated, tcm.prelu2, tcm.norm2, tcm.conv_out)
                for part, original in zip(parts, source.layers, strict=True):
                    if isinstance(part, Norm):
                        _copy_norm(part, original)
                    else:
                        part.weight.data = original.weight.data.reshape(part.weight.shape).clone()
        _copy_halves((stage.glance_out,), paths[0][-1])
        if len(paths) == 2:  # one stack for both parts
            _copy_halves((stage.real_out, stage.imag_out), paths[1][-1])
        else:
            _copy_halves((stage.real_out,), paths[1][-1])
            _copy_halves((stage.imag_out,), paths[2][-1])


def _copy_norm(norm: Norm, source: nn.Module):
    norm.load_state_dict({name: value for name, value in source.state_dict().items() if name in norm.state_dict()})


def _copy_halves(convs, source: nn.Module):
    """The output channels of a 1x1 convolution, shared out."""
    for conv, weight, bias in zip(convs, source.weight.chunk(len(convs)), source.bias.chunk(len(convs)), strict=True):
        conv.weight.data, conv.bias.data = weight.data.reshape(conv.weight.shape).clone(), bias.data.clone()
