"""GaGNet, glance and gaze: stages that each scale a compressed spectrum by a gain and add a complex residual.

Paper: A. Li, C. Zheng, L. Zhang, X. Li, "Glance and Gaze: A Collaborative Learning Framework for Single-channel Speech
Enhancement", Applied Acoustics 187 (2022) 108499, arXiv 2106.11789.
Public code: Andong-Li-speech/GaGNet (network and loss; no training, no checkpoint). Of the paper only the abstract was
at hand: what is here follows the public code.

    noisy STFT -> level 1, magnitude ** 0.5 -> encoder of gated convolutions and UNet-blocks -> features
    q times: features + last estimate -> glance block -> gain G
                                      -> gaze block -> complex residual R;   estimate = G * last estimate + R
    last estimate -> magnitude ** 2, level back -> inverse STFT

As in the public code: all sizes, the order of the layers, STFT 320/160 (Hann, centred, mirrored ends), compression
before the network, PyTorch's initial weights. As in the authors' TaylorSENet code, because GaGNet's holds no training:
noisy and clean divided by the level of the noisy utterance.
Different from the code on purpose: G multiplies real and imaginary part, which equals its way over magnitude and
angle and has a gradient at zero; the level is the RMS of the spectrum, not of the waveform, so that it can be taken
from stored spectra, in training it is the crop's, and digital silence behind the last sound does not count in it; pairs
of convolutions over the same input are one; signals are padded to whole hops (see ``senet.models.base``).
Switches of the code, which need not be the paper's: batch norm, the gaze block with one stack, the encoder without
UNet-blocks, sums for the inner skips, the gain's activation, all sizes but those that follow.
Ours: every other norm, the cumulative level, hop and window, and as settings what the code fixes: first kernel, last
width (by ``d_feat``) and exponent.

The default normalisation and level need the whole recording, although convolutions look back only. What streams is a
norm among ``senet.layers.norms.CAUSAL`` with ``level`` ``cumulative`` or ``none``: latency one window.

Shapes: B batch, C channels, T frames, F bins; maps are (B, C, T, F), channels last in memory. What has no frequency
axis any more is (B, C, T, 1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp.compress import power_compress
from senet.dsp.spectral_level import FORMS, rms_level
from senet.dsp.stft import STFT
from senet.errors import UserError, require_choice, require_positive
from senet.layers import norms
from senet.layers.conv import TimeConv
from senet.layers.precision import at_least_single
from senet.models.base import SpectralModel

DEPTHS = {"u2": (4, 3, 2, 1, 0), "plain": (0, 0, 0, 0, 0)}  # of the UNet-block in each layer of the encoder
GAINS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
EPS = 1e-12  # power below which the compression is linear


class GaGNet(SpectralModel):
    """The network of the module's docstring; the defaults are the public code's.

    Args:
        sample_rate: Hz.
        n_fft, hop_length, win_length: STFT sizes in samples.
        exponent: of the magnitudes; 1: no compression.
        level: what spectra are divided by: ``utterance``: RMS of the whole recording (offline); ``cumulative``: of all
            frames so far; ``none``.
        norm: kind of normalisation, see ``senet.layers.norms``; ``instance`` needs the whole recording. With
            ``cumulative_instance`` the temporal convolutions, whose maps have one bin, take ``cumulative``: see there.
        causal: temporal convolutions without future frames, otherwise centred. The encoder never looks ahead.
        q: stages. p: groups of temporal convolutions in each stack.
        dilations: in frames, of the temporal convolutions of a group, one each.
        kd1: frames in their kernels. cd1: channels inside them.
        channels: of the encoder. first_kernel: of its first convolution, time x frequency.
        d_feat: features per frame: channels times bins behind the encoder's last layer.
        encoder: ``u2``: with UNet-blocks, or ``plain``: without.
        inner_skip: how UNet-blocks take up earlier maps: ``cat`` or ``add``.
        glance: activation of the gain: ``sigmoid``, ``tanh`` or ``relu``.
        gaze: ``separate`` stacks for real and imaginary part, or ``squeezed``: one for both.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 320,
        hop_length: int = 160,
        win_length: int = 320,
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
        first_kernel: tuple[int, int] = (2, 5),
        d_feat: int = 256,
        encoder: str = "u2",
        inner_skip: str = "cat",
        glance: str = "sigmoid",
        gaze: str = "separate",
    ):
        require_choice("GaGNet: level", level, FORMS)
        require_choice("GaGNet: norm", norm, norms.KINDS)
        require_choice("GaGNet: encoder", encoder, DEPTHS)
        require_choice("GaGNet: inner_skip", inner_skip, ("cat", "add"))
        require_choice("GaGNet: glance", glance, GAINS)
        require_choice("GaGNet: gaze", gaze, ("separate", "squeezed"))
        require_positive("GaGNet", q=q, p=p, dilations=dilations, kd1=kd1, cd1=cd1)
        require_positive("GaGNet", channels=channels, first_kernel=first_kernel)
        if not dilations:
            raise UserError("GaGNet: dilations is [], expected at least one")
        if len(first_kernel) != 2:
            raise UserError(f"GaGNet: first_kernel is {list(first_kernel)}, expected two numbers, time x frequency")
        if not 0 < exponent <= 1:
            raise UserError(f"GaGNet: exponent is {exponent}, expected more than 0 and at most 1")
        if not causal and any((kd1 - 1) * dilation % 2 for dilation in dilations):
            raise UserError(f"GaGNet: kd1 is {kd1}, expected an odd number with causal: false")
        offline = [] if causal else ["causal is false, which streams when true"]
        if norm not in norms.CAUSAL:
            offline.append(norms.offline(norm))
        if level == "utterance":
            offline.append("level is utterance, which streams as cumulative or none")
        super().__init__(sample_rate, STFT(n_fft, hop_length, win_length, padding="reflect"), offline)
        self.exponent, self.level_form = exponent, level

        depths, kernels = DEPTHS[encoder], (first_kernel, *[(2, 3)] * 4)
        bins = _encoded_bins(n_fft, depths, kernels)
        if d_feat < 1 or d_feat % bins:
            raise UserError(
                f"GaGNet: d_feat is {d_feat}, but n_fft {n_fft} leaves {bins} bins behind the encoder; "
                f"expected a multiple of that, such as {channels * bins}"
            )
        widths = [2, *[channels] * 4, d_feat // bins]
        self.encoder = nn.Sequential(
            *(
                EncoderLayer(num_inputs, width, kernel, depth, inner_skip, norm)
                for num_inputs, width, kernel, depth in zip(widths[:-1], widths[1:], kernels, depths, strict=True)
            )
        )
        num_bins = self.stft.num_bins
        gaze_paths = {"separate": [num_bins, num_bins], "squeezed": [2 * num_bins]}[gaze]
        block = {"num_inputs": d_feat + 2 * num_bins, "d_feat": d_feat, "cd1": cd1, "kd1": kd1}
        block |= {"dilations": dilations * p, "causal": causal, "norm": norm}
        self.ggms = nn.ModuleList(
            GlanceGaze(Block(outputs=[num_bins], **block), Block(outputs=gaze_paths, **block), glance) for _ in range(q)
        )

    def level(self, spec: Tensor) -> Tensor | None:
        """(B, F, T) complex, noisy -> its RMS as a waveform, (B, 1, 1) or (B, 1, T), or None."""
        level = rms_level(spec, self.level_form)
        return None if level is None else level / self.stft.window.norm()

    def encode(self, spec: Tensor, level: Tensor | None) -> Tensor:
        """(B, F, T) complex -> the same, at level 1 and compressed."""
        return power_compress(spec if level is None else spec / level, self.exponent, EPS)

    def decode(self, spec: Tensor, level: Tensor | None) -> Tensor:
        """(B, F, T) complex -> the same; undoes ``encode``."""
        spec = power_compress(spec, 1 / self.exponent, EPS)
        return spec if level is None else spec * level

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex, encoded noisy -> one encoded (B, F, T) complex estimate per stage."""
        parts = torch.stack([part.transpose(1, 2) for part in (spec.real, spec.imag)], 3)  # B, T, F, 2
        estimate = parts.permute(0, 3, 1, 2)  # B, 2, T, F, and so channels last in memory
        features = _without_bins(self.encoder(estimate))
        estimates = []
        for ggm in self.ggms:
            estimate = ggm(features, estimate)
            estimates.append(torch.complex(*estimate.unbind(1)).transpose(1, 2))
        return estimates


class EncoderLayer(nn.Module):
    """Gated convolution, norm, PReLU, and the output of a UNet-block added to that: (B, C, T, F) -> (B, C', T, F / 2).

    Args:
        num_inputs, channels: C before and after.
        kernel: of the gated convolution, time x frequency.
        depth: of the UNet-block; 0: there is none.
        skip, norm: as GaGNet's ``inner_skip`` and ``norm``.
    """

    def __init__(self, num_inputs: int, channels: int, kernel: tuple[int, int], depth: int, skip: str, norm: str):
        super().__init__()
        self.conv = TimeConv(num_inputs, 2 * channels, kernel, stride=2, margin=0)
        self.norm, self.activation = norms.norm(norm, channels), nn.PReLU(channels)
        self.unet = UNet(channels, depth, skip, norm) if depth else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(F.glu(self.conv(x), 1)))
        return x if self.unet is None else x + self.unet(x)


class UNet(nn.Module):
    """``depth`` convolutions that each halve the bins and as many that double them again: (B, C, T, F) -> the same.

    From the second on, these also take the map that has their size on the way down.
    """

    def __init__(self, channels: int, depth: int, skip: str, norm: str):
        super().__init__()
        self.skip = skip
        widths = [channels] + [2 * channels if skip == "cat" else channels] * (depth - 1)
        kernel, stride = (1, 3), (1, 2)
        self.down = nn.ModuleList(
            _unit(nn.Conv2d(channels, channels, kernel, stride), channels, norm) for _ in range(depth)
        )
        self.up = nn.ModuleList(
            _unit(nn.ConvTranspose2d(width, channels, kernel, stride), channels, norm) for width in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for unit in self.down:
            x = unit(x)
            maps.append(x)
        x = self.up[0](maps.pop())
        for unit in self.up[1:]:
            earlier = maps.pop()
            x = unit(torch.cat([x, earlier], 1) if self.skip == "cat" else x + earlier)
        return x


class GlanceGaze(nn.Module):
    """One stage: the last estimate times a gain from the glance block, plus a residual from the gaze block."""

    def __init__(self, glance: nn.Module, gaze: nn.Module, activation: str):
        super().__init__()
        self.glance, self.gaze, self.activation = glance, gaze, GAINS[activation]

    def forward(self, features: Tensor, estimate: Tensor) -> Tensor:
        """Args: features (B, d_feat, T, 1); estimate (B, 2, T, F), real and imaginary part. Returns: the next one."""
        x = torch.cat([features, _without_bins(estimate)], 1)
        gain = at_least_single(self.activation(self.glance(x)))  # B, F, T, 1
        residual = at_least_single(self.gaze(x)).unflatten(1, (2, -1))  # B, 2, F, T, 1
        return gain.permute(0, 3, 2, 1) * estimate + residual[..., 0].transpose(2, 3)


class Block(nn.Module):
    """Gated 1x1 convolution, then one path per output: squeezed temporal convolutions and a 1x1 convolution.

    (B, num_inputs, T, 1) -> (B, sum of ``outputs``, T, 1). The other arguments are GaGNet's.
    """

    def __init__(
        self,
        num_inputs: int,
        d_feat: int,
        outputs: list[int],
        cd1: int,
        kd1: int,
        dilations: tuple[int, ...],
        causal: bool,
        norm: str,
    ):
        super().__init__()
        self.gate = nn.Conv2d(num_inputs, 2 * d_feat, 1)
        self.paths = nn.ModuleList(
            nn.Sequential(
                *(SqueezedConv(d_feat, cd1, kd1, dilation, causal, norm) for dilation in dilations),
                nn.Conv2d(d_feat, width, 1),
            )
            for width in outputs
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.gate(x), 1)
        return torch.cat([path(x) for path in self.paths], 1)


class SqueezedConv(nn.Module):
    """S-TCM: a dilated convolution over time on few channels, added to its input: (B, channels, T, 1) -> the same."""

    def __init__(self, channels: int, squeezed: int, kernel: int, dilation: int, causal: bool, norm: str):
        super().__init__()
        future = 0 if causal else (kernel - 1) * dilation // 2
        if norm == "cumulative_instance":  # one value per frame: the statistics of the first frames would mean nothing
            norm = "cumulative"
        self.layers = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1, bias=False),
            nn.PReLU(squeezed),
            norms.norm(norm, squeezed),
            TimeConv(squeezed, squeezed, (kernel, 1), (dilation, 1), future=future, bias=False),
            nn.PReLU(squeezed),
            norms.norm(norm, squeezed),
            nn.Conv2d(squeezed, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _unit(conv: nn.Module, channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(conv, norms.norm(norm, channels), nn.PReLU(channels))


def _without_bins(x: Tensor) -> Tensor:
    """(B, C, T, F) -> (B, C * F, T, 1): channel by channel, channels last in memory."""
    return x.transpose(1, 2).flatten(2)[:, :, None].permute(0, 3, 1, 2)


def _encoded_bins(n_fft: int, depths: tuple[int, ...], kernels: tuple[tuple[int, int], ...]) -> int:
    """Bins behind the encoder; UserError with the nearest sizes that fit where a layer cannot work on what it gets."""
    bins, wrong = _fit(n_fft, depths, kernels)
    if wrong is None:
        return bins[-1]
    step, least = 2 ** depths[wrong], 2 ** (depths[wrong] + 1) - 1
    needs = f"at least {least}" if step == 1 else f"at least {least}, and one less than a multiple of {step}"
    most = 2 * n_fft + 4 * kernels[0][1] + 1024
    sizes = [n for n in range(2, most, 2) if _fit(n, depths, kernels)[1] is None]
    nearest = sorted(sorted(sizes, key=lambda n: abs(n - n_fft))[:2])
    raise UserError(
        f"GaGNet: n_fft is {n_fft}, which leaves {bins[wrong]} bins in layer {wrong + 1} of the encoder, but it needs "
        f"{needs}; n_fft {nearest[0]} and {nearest[1]} would fit"
    )


def _fit(n_fft: int, depths: tuple[int, ...], kernels: tuple[tuple[int, int], ...]) -> tuple[list[int], int | None]:
    """Bins behind each layer's gated convolution, and the first layer whose UNet-block could not give them back.

    That makes (w - 1) / 2 of w bins and 2 w + 1 on the way back, so that w has to be odd each time.
    """
    bins, wrong, width = [], None, n_fft // 2 + 1
    for layer, ((_, kernel), depth) in enumerate(zip(kernels, depths, strict=True)):
        width = (width - kernel) // 2 + 1
        bins.append(width)
        if wrong is None and ((width + 1) % 2**depth or width + 1 < 2 ** (depth + 1)):
            wrong = layer
    return bins, wrong
