"""Plain reading of the complex nested U-Net (CNUNet) and of NUNet-TLS, to compare results and speed with.

Each step is written as the description of the networks reads: one layer after the other, real and imaginary parts by
turns, the signal padded by copying before each convolution, concatenations as they are listed.
Shapes: B batch, C channels, F bins without the lowest, T frames, N samples. Maps are (B, C, F, T), frequency first, and
so are the kernels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_FFT, WINDOW, HOP = 512, 400, 100
AVERAGED = 32  # frames, in the attention
BOTTLENECK = 16  # channels, in the attention
EPS = 1e-8


def analysis(wave: Tensor) -> Tensor:
    """(B, N), N a multiple of the hop -> (B, 257, T) complex, frame by frame."""
    padded = F.pad(wave, (WINDOW - HOP, WINDOW - HOP))
    hamming = 0.54 - 0.46 * torch.cos(2 * torch.pi * torch.arange(WINDOW) / WINDOW)
    frames = []
    for start in range(0, padded.shape[1] - WINDOW + 1, HOP):
        windowed = padded[:, start : start + WINDOW] * hamming
        frames.append(torch.fft.rfft(F.pad(windowed, (0, N_FFT - WINDOW))))
    return torch.stack(frames, 2)


# ---------------------------------------------------------------- layers


class CausalConv(nn.Module):
    """Convolution (3, 2) with zeros on both sides in frequency and before the signal in time."""

    def __init__(self, num_inputs: int, channels: int, stride: int = 1, dilation: int = 1, groups: int = 1):
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv2d(num_inputs, channels, (3, 2), (stride, 1), 0, dilation, groups)

    def forward(self, x: Tensor) -> Tensor:
        d = self.dilation
        return self.conv(F.pad(x, (d, 0, d, d)))


def norm(channels: int) -> nn.Module:
    return nn.GroupNorm(1, channels, eps=EPS)


def shuffle(x: Tensor) -> Tensor:
    """(B, 2 C, F, T) -> (B, C, 2 F, T): channel 2 c + s goes to channel c, bin 2 f + s."""
    batch, channels, bins, frames = x.shape
    y = x.new_zeros(batch, channels // 2, 2 * bins, frames)
    for s in (0, 1):
        y[:, :, s::2] = x[:, s::2]
    return y


class InConv(nn.Module):
    def __init__(self, num_inputs: int, channels: int):
        super().__init__()
        self.conv, self.norm, self.prelu = nn.Conv2d(num_inputs, channels, 1), norm(channels), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.norm(self.conv(x)))


class Conv(nn.Module):
    """Halves the bins."""

    def __init__(self, num_inputs: int, channels: int):
        super().__init__()
        self.conv, self.norm, self.prelu = CausalConv(num_inputs, channels, 2), norm(channels), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.norm(self.conv(x)))


class SubPixelConv(nn.Module):
    """Doubles the bins."""

    def __init__(self, num_inputs: int, channels: int):
        super().__init__()
        self.conv, self.norm, self.prelu = CausalConv(num_inputs, 2 * channels), norm(channels), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.norm(shuffle(self.conv(x))))


class ComplexSubPixelConv(nn.Module):
    """Doubles the bins of a real and an imaginary map."""

    def __init__(self, num_inputs: int, channels: int):
        super().__init__()
        self.conv_r, self.conv_i = CausalConv(num_inputs, 2 * channels), CausalConv(num_inputs, 2 * channels)
        self.norm_r, self.norm_i = norm(channels), norm(channels)
        self.prelu_r, self.prelu_i = nn.PReLU(), nn.PReLU()

    def forward(self, r: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        real = self.conv_r(r) - self.conv_i(i)
        imag = self.conv_i(r) + self.conv_r(i)
        return self.prelu_r(self.norm_r(shuffle(real))), self.prelu_i(self.norm_i(shuffle(imag)))


class DenseBlock(nn.Module):
    """Dilated dense block; ``split``: first halves of all inputs are concatenated, then the second halves."""

    def __init__(self, channels: int, depth: int, split: bool):
        super().__init__()
        half = channels // 2
        self.split = split
        self.first, self.first_prelu = CausalConv(channels, half), nn.PReLU()
        self.dilated, self.pointwise = nn.ModuleList(), nn.ModuleList()
        self.norms, self.prelus = nn.ModuleList(), nn.ModuleList()
        for k in range(1, depth + 1):
            self.dilated.append(CausalConv(k * half, half, dilation=2 ** (k - 1), groups=half))
            self.pointwise.append(nn.Conv2d(half, half, 1))
            self.norms.append(norm(half))
            self.prelus.append(nn.PReLU())
        self.last, self.last_prelu = CausalConv(half, channels), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        a = [self.first_prelu(self.first(x))]  # newest first
        for dilated, pointwise, normalise, prelu in zip(
            self.dilated, self.pointwise, self.norms, self.prelus, strict=True
        ):
            if self.split:
                halves = [t.chunk(2, 1) for t in a]
                together = torch.cat([h[0] for h in halves] + [h[1] for h in halves], 1)
            else:
                together = torch.cat(a, 1)
            a.insert(0, prelu(normalise(pointwise(dilated(together)))))
        return self.last_prelu(self.last(a[0]))


class Attention(nn.Module):
    """Causal time-frequency attention."""

    def __init__(self, channels: int):
        super().__init__()

        def bottleneck():
            return nn.Sequential(
                nn.Conv2d(channels, BOTTLENECK, 1), nn.ReLU(), nn.Conv2d(BOTTLENECK, channels, 1), nn.Sigmoid()
            )

        self.time, self.frequency = bottleneck(), bottleneck()

    def forward(self, x: Tensor) -> Tensor:
        over_time = self.time(x.mean(2, keepdim=True))  # B, C, 1, T
        padded = F.pad(x, (AVERAGED - 1, 0))
        means = [padded[..., t : t + AVERAGED].sum(3) / AVERAGED for t in range(x.shape[3])]
        over_frequency = self.frequency(torch.stack(means, 3))  # B, C, F, T
        return x * (over_time * over_frequency)


# ---------------------------------------------------------------- CNUNet


class ComplexEncoderBlock(nn.Module):
    """Gives the block's output, and the local skips of the real and of the imaginary part: ed_1 .. ed_{N + 1}."""

    def __init__(self, out: int, mid: int, levels: int, depth: int, attention: bool):
        super().__init__()
        self.entry = InConv(out, out)
        self.down = nn.ModuleList(Conv(out if k == 1 else mid, mid) for k in range(1, levels + 1))
        self.dense = DenseBlock(mid, depth, split=True)
        widths = [mid // 2] * (levels - 1) + [out // 2]
        self.up = nn.ModuleList(ComplexSubPixelConv(mid, width) for width in widths)  # k = N .. 1
        self.attention_r = Attention(out // 2) if attention else None
        self.attention_i = Attention(out // 2) if attention else None

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        x = self.entry(x)
        o, y = [], x
        for conv in self.down:
            y = conv(y)
            o.append(y)
        r, i = self.dense(y).chunk(2, 1)
        skips_r, skips_i = [r], [i]
        for conv, skip in zip(self.up, reversed(o), strict=True):
            skip_r, skip_i = skip.chunk(2, 1)
            r, i = conv(torch.cat([r, skip_r], 1), torch.cat([i, skip_i], 1))
            skips_r.insert(0, r)
            skips_i.insert(0, i)
        if self.attention_r is not None:
            r, i = self.attention_r(r), self.attention_i(i)
        return torch.cat([r, i], 1) + x, skips_r, skips_i


class ComplexDecoderBlock(nn.Module):
    """Of one part; takes the local skips into both ways."""

    def __init__(self, out: int, mid: int, levels: int, depth: int, attention: bool):
        super().__init__()
        self.entry = InConv(2 * out, out)
        self.reduce_down = nn.ModuleList(
            nn.Conv2d(2 * width, width, 1) for width in [out] + [mid] * (levels - 1)
        )  # k = 1 .. N
        self.down = nn.ModuleList(Conv(out if k == 1 else mid, mid) for k in range(1, levels + 1))
        self.dense = DenseBlock(mid, depth, split=True)
        self.reduce_up = nn.ModuleList(nn.Conv2d(3 * mid, 2 * mid, 1) for _ in range(levels))  # k = N .. 1
        self.up = nn.ModuleList(SubPixelConv(2 * mid, width) for width in [mid] * (levels - 1) + [out])
        self.attention = Attention(out) if attention else None

    def forward(self, x: Tensor, ed: list[Tensor]) -> Tensor:
        x = self.entry(x)
        o, y = [], x
        for k, (reduce, conv) in enumerate(zip(self.reduce_down, self.down, strict=True), 1):
            y = conv(reduce(torch.cat([y, ed[k - 1]], 1)))
            o.append(y)
        y = self.dense(y)
        levels = len(o)
        for k, reduce, conv in zip(range(levels, 0, -1), self.reduce_up, self.up, strict=True):
            y = conv(reduce(torch.cat([y, o[k - 1], ed[k]], 1)))
        if self.attention is not None:
            y = self.attention(y)
        return y + x


class PlainCNUNet(nn.Module):
    """Complex spectrum in and out; the defaults are the published sizes.

    Args:
        channels: of the encoder's maps. inner: of those inside its blocks; the decoders have half of both.
        depths: levels of the encoder's blocks.
        dense_layers: of all dense blocks.
        wiring: ``consistent``, or ``released`` with its three crossed skips.
    """

    def __init__(self, channels=64, inner=32, depths=(6, 5, 4, 4, 4, 3), dense_layers=7, wiring="consistent"):
        super().__init__()
        self.wiring = wiring
        out, part, n = channels, channels // 2, len(depths)
        self.entry = InConv(2, out)
        self.encoder = nn.ModuleList(
            ComplexEncoderBlock(out, inner, levels, dense_layers, attention=stage == 0)
            for stage, levels in enumerate(depths)
        )
        self.down_r = nn.ModuleList(nn.Conv2d(part, part, (3, 1), (2, 1), (1, 0)) for _ in depths)
        self.down_i = nn.ModuleList(nn.Conv2d(part, part, (3, 1), (2, 1), (1, 0)) for _ in depths)
        self.dense = DenseBlock(out, dense_layers, split=True)

        def upsample():
            half = part // 2
            return nn.ModuleList(nn.ConvTranspose2d(half, half, (3, 1), (2, 1), (1, 0), (1, 0)) for _ in range(2))

        def blocks():
            return nn.ModuleList(
                ComplexDecoderBlock(part, inner // 2, levels, dense_layers, attention=stage == n - 1)
                for stage, levels in enumerate(reversed(depths))
            )

        self.up_r, self.up_i = nn.ModuleList(upsample() for _ in depths), nn.ModuleList(upsample() for _ in depths)
        self.decoder_r, self.decoder_i = blocks(), blocks()
        self.output = nn.Conv2d(out, 2, 1)

    def forward(self, spec: Tensor) -> Tensor:
        """(B, 257, T) complex -> the same."""
        x = torch.stack([spec.real, spec.imag], 1)[:, :, 1:]  # B, 2, F, T
        x = self.entry(x)
        outputs, skips = [], []
        for block, down_r, down_i in zip(self.encoder, self.down_r, self.down_i, strict=True):
            x, skips_r, skips_i = block(x)
            outputs.append(x)
            skips.append((skips_r, skips_i))
            r, i = x.chunk(2, 1)
            x = torch.cat([down_r(r), down_i(i)], 1)
        if self.wiring == "released":
            skips = crossed(skips)
        parts = []
        for part, first in enumerate(self.dense(x).chunk(2, 1)):
            y = first
            ups, blocks = (self.up_r, self.decoder_r) if part == 0 else (self.up_i, self.decoder_i)
            for stage, (up, block) in enumerate(zip(ups, blocks, strict=True), 1):
                encoder_stage = len(blocks) - stage  # counted from 0
                first_half, second_half = y.chunk(2, 1)
                y = torch.cat([up[0](first_half), up[1](second_half)], 1)
                big_skip = outputs[encoder_stage].chunk(2, 1)[part]
                y = block(torch.cat([y, big_skip], 1), skips[encoder_stage][part])
            parts.append(y)
        y = F.pad(self.output(torch.cat(parts, 1)), (0, 0, 1, 0))  # B, 2, 257, T
        return torch.complex(y[:, 0], y[:, 1])


def crossed(skips):
    """Decoder 3 imaginary gets the real ed_4 of encoder 4, decoder 4 imaginary that of 3, decoder 5 real the imaginary
    ed_4 of 2."""
    crossed = [[list(part) for part in stage] for stage in skips]
    crossed[3][1][3] = skips[3][0][3]
    crossed[2][1][3] = skips[2][0][3]
    crossed[1][0][3] = skips[1][1][3]
    return crossed


# ---------------------------------------------------------------- NUNet-TLS


class EncoderBlock(nn.Module):
    """Gives the block's output and the local skips ed_1 .. ed_N."""

    def __init__(self, out: int, mid: int, levels: int, depth: int, attention: bool):
        super().__init__()
        self.entry = InConv(out, out)
        self.down = nn.ModuleList(Conv(out if k == 1 else mid, mid) for k in range(1, levels + 1))
        self.dense = DenseBlock(mid, depth, split=False)
        self.up = nn.ModuleList(SubPixelConv(2 * mid, width) for width in [mid] * (levels - 1) + [out])  # k = N .. 1
        self.attention = Attention(out) if attention else None

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.entry(x)
        o, y = [], x
        for conv in self.down:
            y = conv(y)
            o.append(y)
        y, ed = self.dense(y), []
        for conv, skip in zip(self.up, reversed(o), strict=True):
            y = conv(torch.cat([y, skip], 1))
            ed.insert(0, y)
        if self.attention is not None:
            y = self.attention(y)
        return y + x, ed


class DecoderBlock(nn.Module):
    """``tls``: with local skips into the way down."""

    def __init__(self, out: int, mid: int, levels: int, depth: int, attention: bool, tls: bool):
        super().__init__()
        self.tls = tls
        widths = [out] + [mid] * (levels - 1)
        self.entry = InConv(2 * out, out)
        self.down = nn.ModuleList(Conv(2 * width if tls else width, mid) for width in widths)
        self.dense = DenseBlock(mid, depth, split=False)
        self.up = nn.ModuleList(SubPixelConv(2 * mid, width) for width in [mid] * (levels - 1) + [out])
        self.attention = Attention(out) if attention else None

    def forward(self, x: Tensor, ed: list[Tensor]) -> Tensor:
        x = self.entry(x)
        o, y = [], x
        for k, conv in enumerate(self.down):
            y = conv(torch.cat([y, ed[k]], 1) if self.tls else y)
            o.append(y)
        y = self.dense(y)
        for conv, skip in zip(self.up, reversed(o), strict=True):
            y = conv(torch.cat([y, skip], 1))
        if self.attention is not None:
            y = self.attention(y)
        return y + x


class PlainNUNet(nn.Module):
    """Complex spectrum in and out, of which the network sees the magnitude; the defaults are NUNet-TLS.

    Args: as ``PlainCNUNet``; tls: local skips. ctfa: attention.
    """

    def __init__(self, channels=64, inner=32, depths=(6, 5, 4, 4, 4, 3), dense_layers=6, tls=True, ctfa=True):
        super().__init__()
        out = channels
        self.entry = InConv(1, out)
        self.encoder = nn.ModuleList(EncoderBlock(out, inner, levels, dense_layers, ctfa) for levels in depths)
        self.down = nn.ModuleList(nn.Conv2d(out, out, (3, 1), (2, 1), (1, 0)) for _ in depths)
        self.dense = DenseBlock(out, dense_layers, split=False)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * out, 2 * out, (3, 1), (2, 1), (1, 0), (1, 0)) for _ in depths)
        self.decoder = nn.ModuleList(
            DecoderBlock(out, inner, levels, dense_layers, ctfa, tls) for levels in reversed(depths)
        )
        self.output = nn.Conv2d(out, 1, 1)

    def forward(self, spec: Tensor) -> Tensor:
        """(B, 257, T) complex -> the same."""
        x = self.entry(spec.abs()[:, None, 1:])
        downsampled, skips = [], []
        for block, down in zip(self.encoder, self.down, strict=True):
            x, ed = block(x)
            x = down(x)
            downsampled.append(x)
            skips.append(ed)
        x = self.dense(x)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(up(torch.cat([x, downsampled.pop()], 1)), skips.pop())
        magnitude = F.pad(self.output(x), (0, 0, 1, 0))[:, 0]
        return magnitude * torch.exp(1j * spec.angle())


# ---------------------------------------------------------------- weights of the senet models

REAL, IMAG = 0, 1  # halves of a kernel's first axis


@torch.no_grad()
def load_weights(plain: PlainCNUNet | PlainNUNet, model: nn.Module):
    """Copy the weights of a network of ``senet.models.cnunet`` of the same sizes, whose kernels have time first."""
    weights = model.state_dict()
    _unit(plain.entry, weights, "entry")
    _dense(plain.dense, weights, "dense")
    _conv(plain.output, weights, "output")
    for k, block in enumerate(plain.encoder):
        _block(block, weights, f"encoder.{k}")
        if isinstance(plain, PlainNUNet):
            _conv(plain.down[k], weights, f"downsample.{k}")
            _conv(plain.up[k], weights, f"upsample.{k}")
            _block(plain.decoder[k], weights, f"decoder.{k}")
            continue
        _conv(plain.down_r[k], weights, f"downsample.{k}", REAL)
        _conv(plain.down_i[k], weights, f"downsample.{k}", IMAG)
        for part, ups, blocks in ((REAL, plain.up_r, plain.decoder_r), (IMAG, plain.up_i, plain.decoder_i)):
            for half in (REAL, IMAG):
                _conv(ups[k][half], weights, f"upsample.{part}.{k}", half)
            _block(blocks[k], weights, f"decoder.{part}.{k}")


def _block(block: nn.Module, weights: dict[str, Tensor], name: str):
    _unit(block.entry, weights, f"{name}.entry")
    _dense(block.dense, weights, f"{name}.dense")
    for way in ("down", "up"):
        for k, unit in enumerate(getattr(block, way)):
            if isinstance(block, ComplexDecoderBlock):
                _conv(getattr(block, f"reduce_{way}")[k], weights, f"{name}.{way}.{k}.0")
                _unit(unit, weights, f"{name}.{way}.{k}.1")
            elif isinstance(unit, ComplexSubPixelConv):
                _complex_unit(unit, weights, f"{name}.{way}.{k}")
            else:
                _unit(unit, weights, f"{name}.{way}.{k}")
    if isinstance(block, ComplexEncoderBlock):
        _attention(block.attention_r, weights, f"{name}.attention", REAL)
        _attention(block.attention_i, weights, f"{name}.attention", IMAG)
    else:
        _attention(block.attention, weights, f"{name}.attention")


def _unit(unit: nn.Module, weights: dict[str, Tensor], name: str):
    _conv(unit.conv, weights, f"{name}.conv", sub_pixel=isinstance(unit, SubPixelConv))
    _copy(unit.norm, weights, f"{name}.norm")
    unit.prelu.weight.copy_(weights[f"{name}.slopes"])


def _complex_unit(unit: nn.Module, weights: dict[str, Tensor], name: str):
    _conv(unit.conv_r, weights, f"{name}.conv.real", sub_pixel=True)
    _conv(unit.conv_i, weights, f"{name}.conv.imag", sub_pixel=True)
    for half, norm, prelu in ((REAL, unit.norm_r, unit.prelu_r), (IMAG, unit.norm_i, unit.prelu_i)):
        _copy(norm, weights, f"{name}.norm", half)
        prelu.weight.copy_(weights[f"{name}.slopes"][half])


def _dense(block: nn.Module, weights: dict[str, Tensor], name: str):
    _conv(block.first, weights, f"{name}.entry.0")
    _copy(block.first_prelu, weights, f"{name}.entry.1")
    for k, dilated in enumerate(block.dilated):
        _conv(dilated, weights, f"{name}.layers.{k}.conv.grouped")
        _conv(block.pointwise[k], weights, f"{name}.layers.{k}.conv.mix")
        _copy(block.norms[k], weights, f"{name}.layers.{k}.norm")
        block.prelus[k].weight.copy_(weights[f"{name}.layers.{k}.slopes"])
    _conv(block.last, weights, f"{name}.output.0")
    _copy(block.last_prelu, weights, f"{name}.output.1")


def _attention(block: nn.Module | None, weights: dict[str, Tensor], name: str, half: int | None = None):
    if block is None:
        return
    for branch in ("time", "frequency"):
        squeeze, _, gate, _ = getattr(block, branch)
        _conv(squeeze, weights, f"{name}.{branch}_squeeze", half)
        _conv(gate, weights, f"{name}.{branch}_gate.1", half)


def _conv(conv: nn.Module, weights: dict[str, Tensor], name: str, half: int | None = None, sub_pixel: bool = False):
    """``sub_pixel``: of channel 2 c + s, where the model has it as s C + c."""
    conv = conv.conv if isinstance(conv, CausalConv) else conv
    weight, bias = (_half(weights[f"{name}.{kind}"], half) for kind in ("weight", "bias"))
    if sub_pixel:
        weight, bias = (x.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1) for x in (weight, bias))
    conv.weight.copy_(weight.transpose(2, 3))
    conv.bias.copy_(bias)


def _copy(layer: nn.Module, weights: dict[str, Tensor], name: str, half: int | None = None):
    for kind, parameter in layer.named_parameters():
        parameter.copy_(_half(weights[f"{name}.{kind}"], half))


def _half(x: Tensor, half: int | None) -> Tensor:
    return x if half is None else x.chunk(2)[half]
