"""Nested U-Nets: U-Nets over frequency whose layers are U-Nets; NUNet on magnitudes, CNUNet on complex spectra.

CNUNet: "Complex Nested U-Net for Speech Enhancement Using Augmented Two-Level Skip Connections", submitted to ICASSP
2023; public code: seorim0/CNUNet. NUNet: S. Hwang, S. W. Park, Y. Park, "Monoaural Speech Enhancement Using a Nested
U-Net with Two-Level Skip Connections", Interspeech 2022; public code: seorim0/NUNet-TLS. Both follow U2-Net (X. Qin et
al., Pattern Recognition 106, 2020). The papers' texts were not at hand: what is here follows the public code.

What the publications call it, and where it is:

    U2-Net: residual U-block (RSU)                     NestedBlock
    MSFE-e, MSFE-d (NUNet)                             NestedBlock without and with local skips
    CMSFE-e, MSFE-d (CNUNet)                           NestedBlock of two parts; one NestedBlock for each part
    two-level skip connections (TLS)                   encoder -> decoder maps, and ``local`` ones into the way down
    augmented two-level skip connections (ATLS)        the local ones also into the way up
    INCONV, CONV, SPCONV, CSPCONV                      Unit of a 1x1, TimeConv, SubPixelConv, ComplexSubPixelConv
    DDB, dilated dense block; CTFA                     DenseBlock; Attention

From U2-Net are the nested U-Nets of shrinking depth, whose output is added to their first convolution's. Left out are
pooling and dilation in place of it ("4F"), which would cross time, batch normalisation, and the deep supervision of
side outputs.

    noisy STFT without DC -> 1x1 -> 6 x (block, half the bins) -> dense block -> 6 x (twice the bins, skip, block)
    -> 1x1 -> magnitude, with the noisy phase (NUNet), or real and imaginary part (CNUNet); DC is set to zero

CNUNet joins real and imaginary part in the encoder, as the first and the second half of the channels, with complex
convolutions on each block's way up; from the bottleneck on each part has its own decoder of half the width.

As in the public code: sizes, the wiring ``released``, the norm over the whole utterance (so the system is offline
although no convolution looks ahead), the output limited to +-1, in training too, where a sample beyond it gets no
gradient.
Different from it: with the wiring ``consistent`` the local skips of three decoder blocks come from their own part
(there, three slips cross them); each frame is inverted by the inverse FFT cut to the window (there, by a
pseudo-inverse; they differ only for spectra that no signal has); signals are padded to whole hops instead of cut;
NUNet leaves a bin without energy empty (there, its phase is 0), and takes recordings at their own level (there,
``tools.addr2wav`` brings each file, noisy and clean by itself, to a peak of 1; in CNUNet's code that is commented out).
Ours: the norms per frame and cumulative, which make the systems causal; the widths are free.
The abstract of CNUNet does not say that the attention stays in the outermost blocks only, nor that the encoder's way up
is complex; the code does both.

Shapes: B batch, C channels, T frames, F bins, N samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp.stft import STFT
from senet.errors import UserError, require_choice, require_positive
from senet.layers.conv import TimeConv
from senet.layers.memory import with_past
from senet.layers.norms import CAUSAL, KINDS, norm, offline
from senet.layers.precision import at_least_single
from senet.models.base import SpectralModel

KERNEL = (2, 3)  # time x frequency
EPS = 1e-8  # of the norms

# In the public code these local skips of CNUNet come from the other part: encoder stage, level, decoder's part.
CROSSED = {(4, 4, 1), (3, 4, 1), (2, 4, 0)}


def join(maps: list[Tensor], parts: int = 1) -> Tensor:
    """Concatenate maps (B, C, T, F) over channels, part by part: all first halves, then all second ones."""
    if parts == 1:
        return torch.cat(maps, 1)
    return torch.cat([half for part in zip(*(x.chunk(parts, 1) for x in maps), strict=True) for half in part], 1)


class Unit(nn.Module):
    """Convolution, norm, PReLU. Each of the ``parts`` of the channels has its own statistics and its own slope."""

    def __init__(self, conv: nn.Module, channels: int, kind: str, parts: int = 1):
        super().__init__()
        self.conv, self.norm = conv, norm(kind, channels, EPS, parts)
        self.slopes = nn.Parameter(torch.full((parts,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, channels, T, F')."""
        x = self.norm(self.conv(x))
        slopes = self.slopes.repeat_interleave(x.shape[1] // len(self.slopes))
        return F.prelu(x, slopes.to(x.dtype))


class SubPixelConv(TimeConv):
    """Convolution to twice as many bins: what it finds at bin f is first bin 2f's channels, then bin 2f + 1's.

    In channels-last memory that costs nothing. (The public code has the two bins of a channel side by side.)
    """

    def __init__(self, num_inputs: int, channels: int, groups: int = 1):
        super().__init__(num_inputs, 2 * channels, KERNEL, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, channels, T, 2 F)."""
        return double_bins(super().forward(x), self.groups)


class ComplexSubPixelConv(nn.Module):
    """Complex convolution to twice as many bins; real parts are the first half of the channels, imaginary the second.

    ``(real * x_r - imag * x_i) + j (imag * x_r + real * x_i)``, computed as one convolution with the kernel
    [[real, -imag], [imag, real]]. Each of the four brings its bias, as in the public code.
    """

    def __init__(self, num_inputs: int, channels: int):
        super().__init__()
        self.real = TimeConv(num_inputs // 2, channels, KERNEL)  # two bins of channels / 2
        self.imag = TimeConv(num_inputs // 2, channels, KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, channels, T, 2 F)."""
        # Rows in the order bin, part, channel.
        real, imag = self.real.weight.unflatten(0, (2, -1)), self.imag.weight.unflatten(0, (2, -1))
        weight = torch.cat([torch.cat([real, -imag], 2), torch.cat([imag, real], 2)], 1)
        real, imag = self.real.bias.unflatten(0, (2, -1)), self.imag.bias.unflatten(0, (2, -1))
        bias = torch.cat([real - imag, imag + real], 1)
        return double_bins(F.conv2d(with_past(x, 1), weight.flatten(0, 1), bias.flatten(), padding=(0, 1)))


def double_bins(x: Tensor, groups: int = 1) -> Tensor:
    """(B, groups * 2 * C, T, F) -> (B, groups * C, T, 2 F): bins 2f and 2f + 1 come from the two halves at bin f."""
    x = x.permute(0, 2, 3, 1).unflatten(3, (groups, 2, -1)).transpose(3, 4)  # B, T, F, 2, groups, C
    return x.flatten(4, 5).flatten(2, 3).permute(0, 3, 1, 2)


class DilatedConv(nn.Module):
    """Dilated convolution in as many groups as there are outputs, then a 1x1 convolution that mixes these.

    Group g reads the neighbouring channels g * k to g * k + k - 1 of its k * ``channels`` inputs.
    """

    def __init__(self, num_inputs: int, channels: int, dilation: int):
        super().__init__()
        self.grouped = TimeConv(num_inputs, channels, KERNEL, (dilation, dilation), groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_inputs, T, F) -> (B, channels, T, F)."""
        return self._merged(x) if torch.is_grad_enabled() else self.mix(self.grouped(x))

    def _merged(self, x: Tensor) -> Tensor:
        """The same as one product with shifted copies: the gradient of a grouped, dilated convolution is slow."""
        (frames, bins), step = x.shape[2:], self.grouped.dilation[0]
        weight = torch.einsum("og,gkij->oijgk", self.mix.weight[:, :, 0, 0], self.grouped.weight)
        bias = F.linear(self.grouped.bias, self.mix.weight[:, :, 0, 0], self.mix.bias)
        margin = step
        if step >= bins:  # the neighbouring bins are zeros
            margin, weight = 0, weight[:, :, 1:2]
        x = F.pad(with_past(x, step).permute(0, 2, 3, 1), (0, 0, margin, margin))  # B, step + T, F + 2 margins, C
        shifted = [
            x[:, first : first + frames, low : low + bins]
            for first in (0, step)
            for low in range(0, 2 * margin + 1, step)
        ]
        return F.linear(torch.cat(shifted, 3), weight.flatten(1), bias).permute(0, 3, 1, 2)


class DenseBlock(nn.Module):
    """Dilated dense block (DDB): each convolution reads the outputs of all before it, the newest first.

    Args:
        channels: C, of input and output; half of them in between.
        layers: n; the dilation in time and frequency doubles from 1 to 2^(n - 1).
        kind: of the norms.
        parts: of the channels, for the order in which outputs are joined.
    """

    def __init__(self, channels: int, layers: int, kind: str, parts: int = 1):
        super().__init__()
        self.parts, inner = parts, channels // 2
        self.entry = nn.Sequential(TimeConv(channels, inner, KERNEL), nn.PReLU())
        self.layers = nn.ModuleList(Unit(DilatedConv((k + 1) * inner, inner, 2**k), inner, kind) for k in range(layers))
        self.output = nn.Sequential(TimeConv(inner, channels, KERNEL), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> the same."""
        outputs = [self.entry(x)]
        for layer in self.layers:
            outputs.insert(0, layer(join(outputs, self.parts)))
        return self.output(outputs[0])


class Attention(nn.Module):
    """Causal time-frequency attention (CTFA): the map times two gates, per frame and per frame and bin.

    The first looks at the mean over frequency, the second at the mean over the last ``frames`` frames, with zeros
    before the first; each has a bottleneck of 16 channels per part.

    Args:
        channels: C. frames: of the mean over time. parts: of the channels, which do not see each other.
    """

    def __init__(self, channels: int, frames: int, parts: int = 1, bottleneck: int = 16):
        super().__init__()
        self.frames, inner = frames, parts * bottleneck

        def gate():
            return nn.Sequential(nn.ReLU(), nn.Conv2d(inner, channels, 1, groups=parts), nn.Sigmoid())

        self.time_squeeze = nn.Conv2d(channels, inner, 1, groups=parts)
        self.time_gate = gate()
        self.frequency_squeeze = nn.Conv2d(channels, inner, 1, groups=parts)
        self.frequency_gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> the same."""
        time = self.time_squeeze(x.mean(3, keepdim=True))  # B, inner, T, 1
        # The 1x1 convolution, but for its bias, comes before the mean over time: it leaves fewer channels to average.
        squeeze = self.frequency_squeeze
        narrow = at_least_single(F.conv2d(x, squeeze.weight, groups=squeeze.groups))
        frequency = (
            recent_sum(with_past(narrow, self.frames - 1), self.frames) / self.frames + squeeze.bias[:, None, None]
        )  # B, inner, T, F
        return x * self.time_gate(time) * self.frequency_gate(frequency)


def recent_sum(x: Tensor, frames: int) -> Tensor:
    """(B, C, frames - 1 + T, F) -> (B, C, T, F), the sum over ``frames`` frames up to each; as exact as adding them.

    The sum over 2 n frames is that over n, and the same n frames earlier.
    """
    if frames == 1:
        return x
    half = recent_sum(x, frames // 2)
    total = half[:, :, frames // 2 :] + half[:, :, : -(frames // 2)]
    return total[:, :, 1:] + x[:, :, : 1 - frames] if frames % 2 else total


class NestedBlock(nn.Module):
    """A U-Net over frequency as a layer: a 1x1 unit; its output is halved ``levels`` times, brought back, and added.

    Args:
        num_inputs: C of the input.
        channels: of the output. inner: of the maps on the way down and up.
        levels: halvings of the number of bins, which 2^levels has to divide.
        dense_layers: of the dense block at the bottom.
        kind: of the norms.
        skips: what becomes of the local skips that an encoder block of the same sizes hands over: ``none``;
            ``joined``: they widen the inputs of the way down; ``reduced``: the same, brought back to the old width by
            a 1x1 convolution; ``augmented``: ``reduced``, and on the way up too.
        attention: frames of the attention's mean over time; 0: no attention.
        parts: of the channels, real and imaginary, on the way up. dense_parts: the same in the dense block.
        arithmetic: of a way up in two parts: ``complex``, or ``real`` for a convolution of its own for each.
    """

    def __init__(
        self,
        num_inputs: int,
        channels: int,
        inner: int,
        levels: int,
        dense_layers: int,
        kind: str,
        skips: str = "none",
        attention: int = 0,
        parts: int = 1,
        dense_parts: int = 1,
        arithmetic: str = "real",
    ):
        super().__init__()
        self.parts, self.skips = parts, skips
        self.entry = Unit(nn.Conv2d(num_inputs, channels, 1), channels, kind)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for k in range(levels):
            width = inner if k else channels
            wide = width if skips == "none" else 2 * width
            unit = Unit(TimeConv(wide if skips == "joined" else width, inner, KERNEL, stride=2), inner, kind)
            self.down.append(_reduced(wide, width, unit) if skips in ("reduced", "augmented") else unit)
        self.dense = DenseBlock(inner, dense_layers, kind, dense_parts)
        for k in reversed(range(levels)):
            width = inner if k else channels
            if arithmetic == "complex":
                conv = ComplexSubPixelConv(2 * inner, width)
            else:
                conv = SubPixelConv(2 * inner, width, groups=parts)
            unit = Unit(conv, width, kind, parts)
            self.up.append(_reduced(3 * inner, 2 * inner, unit) if skips == "augmented" else unit)
        self.attention = Attention(channels, attention, parts) if attention else nn.Identity()

    def forward(self, x: Tensor, local: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(B, num_inputs, T, F), local skips -> (B, channels, T, F), the block's own local skips.

        Local skips are the maps of the way up, before the attention, the one with the most bins first: one of
        ``channels`` channels, then ``levels`` of ``inner`` channels with half the bins of the one before.
        """
        x = y = self.entry(x)
        maps = []
        for k, down in enumerate(self.down):
            y = down(y if self.skips == "none" else torch.cat([y, local[k]], 1))  # B, inner, T, F / 2^(k + 1)
            maps.append(y)
        y = self.dense(y)
        own = [y]
        for up in self.up:
            inputs = [y, maps.pop()]
            if self.skips == "augmented":
                inputs.append(local[len(maps) + 1])
            y = up(join(inputs, self.parts))
            own.insert(0, y)
        return self.attention(y) + x, own


def _reduced(wide: int, width: int, unit: Unit) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, width, 1), unit)


class NestedUNet(SpectralModel):
    """What the two networks have in common: the transform, the check of sizes, and the limit of the output.

    Args:
        model: name, for messages.
        sample_rate: Hz.
        n_fft, hop_length, win_length: STFT sizes in samples. window: a name that ``STFT`` knows.
        depths: levels of each encoder block, and in reverse order of each decoder block.
        norm: kind of the norms.
        clamp_training: limit the output while training too.
        sizes: name -> (a size, what has to divide it).
    Raises:
        UserError: the number of bins, or a width, cannot be divided as often as the network does, or nothing is left.
    """

    def __init__(
        self,
        model: str,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        win_length: int,
        window: str,
        depths: tuple[int, ...],
        norm: str,
        clamp_training: bool,
        sizes: dict[str, tuple[int, int]],
    ):
        require_choice(f"{model}: norm", norm, KINDS)
        for name, (size, divisor) in sizes.items():
            if size < 1 or size % divisor:
                raise UserError(f"{model}: {name} is {size}, expected {divisor}, {2 * divisor}, {3 * divisor}, ...")
        require_positive(model, depths=depths)
        if not depths:
            raise UserError(f"{model}: depths is [], expected at least one")
        halvings = max(stage + depth for stage, depth in enumerate(depths))
        multiple = 2 << halvings
        if n_fft < 1 or n_fft % multiple:
            raise UserError(
                f"{model}: n_fft is {n_fft}, expected {multiple}, {2 * multiple}, {3 * multiple}, ..., because with "
                f"depths {list(depths)} the n_fft / 2 bins without DC are halved {halvings} times"
            )
        reasons = [] if norm in CAUSAL else [offline(norm)]
        super().__init__(sample_rate, STFT(n_fft, hop_length, win_length, window, "full"), reasons)
        self.clamp_training = clamp_training

    def limit(self, wave: Tensor) -> Tensor:
        """(B, N) -> the same, within +-1."""
        return wave if self.training and not self.clamp_training else wave.clamp(-1, 1)


class CNUNet(NestedUNet):
    """Complex nested U-Net with augmented two-level skip connections; the defaults are the code's but for the wiring.

    Args:
        sample_rate: Hz.
        n_fft, hop_length, win_length, window: of the STFT, in samples.
        channels: of both parts together; each decoder has half of them.
        inner: of the maps inside the blocks, likewise.
        depths: levels of the encoder's blocks; the decoders' have the same in reverse order.
        dense_layers: of all dense blocks.
        augmented: local skips also into the decoder's ways up (ATLS); else only into those down (TLS).
        arithmetic: ``complex`` or ``real``, of the convolutions of the encoder's ways up.
        wiring: ``consistent``: local skips from the decoder's own part; ``released``: as in the public code.
        norm: ``global`` (offline); ``frame`` or ``cumulative`` for a causal system; or another of senet.layers.norms.
        attention: ``outermost``: in the first block of the encoder and the last of the decoders; ``all``; ``none``.
        attention_frames: of the attention's mean over time.
        clamp_training: limit the output to +-1 while training too.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 100,
        win_length: int = 400,
        window: str = "hamming",
        channels: int = 64,
        inner: int = 32,
        depths: tuple[int, ...] = (6, 5, 4, 4, 4, 3),
        dense_layers: int = 7,
        augmented: bool = True,
        arithmetic: str = "complex",
        wiring: str = "consistent",
        norm: str = "global",
        attention: str = "outermost",
        attention_frames: int = 32,
        clamp_training: bool = True,
    ):
        require_choice("CNUNet: arithmetic", arithmetic, ("complex", "real"))
        require_choice("CNUNet: wiring", wiring, ("consistent", "released"))
        require_choice("CNUNet: attention", attention, ("outermost", "all", "none"))
        require_positive("CNUNet", dense_layers=dense_layers, attention_frames=attention_frames)
        sizes = {"channels": (channels, 4), "inner": (inner, 8)}
        super().__init__(
            "CNUNet", sample_rate, n_fft, hop_length, win_length, window, depths, norm, clamp_training, sizes
        )
        self.crossed = CROSSED if wiring == "released" else set()
        if self.crossed and tuple(depths) != (6, 5, 4, 4, 4, 3):
            raise UserError(f"CNUNet: wiring is 'released' with depths {list(depths)}, expected [6, 5, 4, 4, 4, 3]")

        def block(stage, **conf):
            attended = attention == "all" or (attention == "outermost" and stage == 0)
            return NestedBlock(
                levels=depths[stage],
                dense_layers=dense_layers,
                kind=norm,
                attention=attention_frames if attended else 0,
                dense_parts=2,
                **conf,
            )

        stages, half = range(len(depths)), channels // 2
        encoder = {"num_inputs": channels, "channels": channels, "inner": inner, "parts": 2, "arithmetic": arithmetic}
        decoder = {"num_inputs": channels, "channels": half, "inner": inner // 2}
        decoder["skips"] = "augmented" if augmented else "reduced"
        self.entry = Unit(nn.Conv2d(2, channels, 1), channels, norm)
        self.encoder = nn.ModuleList(block(stage, **encoder) for stage in stages)
        self.downsample = nn.ModuleList(_downsample(channels, parts=2) for _ in stages)
        self.dense = DenseBlock(channels, dense_layers, norm, parts=2)
        self.upsample = nn.ModuleList(nn.ModuleList(_upsample(half, parts=2) for _ in stages) for _ in range(2))
        self.decoder = nn.ModuleList(
            nn.ModuleList(block(stage, **decoder) for stage in reversed(stages)) for _ in range(2)
        )
        self.output = nn.Conv2d(channels, 2, 1)

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> the one estimate, with DC zero."""
        x = torch.view_as_real(spec[:, 1:].transpose(1, 2)).permute(0, 3, 1, 2)  # B, 2, T, F
        x = self.entry(x)  # B, channels, T, F
        skips = []
        for block, downsample in zip(self.encoder, self.downsample, strict=True):
            x, local = block(x)
            skips.append((x, local))
            x = downsample(x)
        parts = self.dense(x).chunk(2, 1)
        x = self.output(torch.cat([self.decode_part(x, skips, part) for part, x in enumerate(parts)], 1))
        real, imag = F.pad(at_least_single(x).transpose(2, 3), (0, 0, 1, 0)).unbind(1)  # B, F, T each
        return [torch.complex(real, imag)]

    def decode_part(self, x: Tensor, skips: list[tuple[Tensor, list[Tensor]]], part: int) -> Tensor:
        """(B, channels / 2, T, F) of the bottleneck, skips of each encoder block -> (B, channels / 2, T, F).

        Args:
            part: 0 for the real, 1 for the imaginary.
        """
        steps = zip(self.upsample[part], self.decoder[part], reversed(list(enumerate(skips, 1))), strict=True)
        for upsample, block, (stage, (skip, local)) in steps:
            local = [
                halves.chunk(2, 1)[1 - part if (stage, level, part) in self.crossed else part]
                for level, halves in enumerate(local, 1)
            ]
            x, _ = block(torch.cat([upsample(x), skip.chunk(2, 1)[part]], 1), local)
        return x


class NUNet(NestedUNet):
    """Nested U-Net on magnitudes; the defaults are NUNet-TLS, both switches off its baseline.

    Args:
        sample_rate: Hz.
        n_fft, hop_length, win_length, window: of the STFT, in samples.
        channels: of the blocks' outputs. inner: of the maps inside the blocks.
        depths: levels of the encoder's blocks; the decoder's have the same in reverse order.
        dense_layers: of all dense blocks.
        tls: local skips from encoder to decoder blocks (two-level skip connections).
        ctfa: attention in every block.
        attention_frames: of the attention's mean over time.
        norm: ``global`` (offline); ``frame`` or ``cumulative`` for a causal system; or another of senet.layers.norms.
        clamp_training: limit the output to +-1 while training too.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 100,
        win_length: int = 400,
        window: str = "hamming",
        channels: int = 64,
        inner: int = 32,
        depths: tuple[int, ...] = (6, 5, 4, 4, 4, 3),
        dense_layers: int = 6,
        tls: bool = True,
        ctfa: bool = True,
        attention_frames: int = 32,
        norm: str = "global",
        clamp_training: bool = True,
    ):
        require_positive("NUNet", dense_layers=dense_layers, attention_frames=attention_frames)
        sizes = {"channels": (channels, 2), "inner": (inner, 2)}
        super().__init__(
            "NUNet", sample_rate, n_fft, hop_length, win_length, window, depths, norm, clamp_training, sizes
        )
        conf = {"channels": channels, "inner": inner, "dense_layers": dense_layers, "kind": norm}
        conf["attention"] = attention_frames if ctfa else 0
        skips = "joined" if tls else "none"
        self.entry = Unit(nn.Conv2d(1, channels, 1), channels, norm)
        self.encoder = nn.ModuleList(NestedBlock(channels, levels=n, **conf) for n in depths)
        self.downsample = nn.ModuleList(_downsample(channels) for _ in depths)
        self.dense = DenseBlock(channels, dense_layers, norm)
        self.upsample = nn.ModuleList(_upsample(2 * channels) for _ in depths)
        self.decoder = nn.ModuleList(NestedBlock(2 * channels, levels=n, skips=skips, **conf) for n in reversed(depths))
        self.output = nn.Conv2d(channels, 1, 1)

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> the one estimate: another magnitude, maybe below zero, and the noisy phase; DC zero."""
        x = self.entry(spec[:, 1:].abs().transpose(1, 2)[:, None])  # B, channels, T, F
        skips = []
        for block, downsample in zip(self.encoder, self.downsample, strict=True):
            x, local = block(x)
            x = downsample(x)
            skips.append((x, local))
        x = self.dense(x)
        for upsample, block in zip(self.upsample, self.decoder, strict=True):
            skip, local = skips.pop()
            x, _ = block(upsample(torch.cat([x, skip], 1)), local)
        magnitude = at_least_single(self.output(x))[:, 0].transpose(1, 2)  # B, F - 1, T
        return [F.pad(magnitude, (0, 0, 1, 0)) * torch.sgn(spec)]


def _downsample(channels: int, parts: int = 1) -> TimeConv:
    """To half the bins (DOWN)."""
    return TimeConv(channels, channels, (1, 3), stride=2, groups=parts)


def _upsample(channels: int, parts: int = 1) -> nn.ConvTranspose2d:
    """To twice the bins (UP)."""
    return nn.ConvTranspose2d(channels, channels, (1, 3), (1, 2), (0, 1), (0, 1), groups=parts)
