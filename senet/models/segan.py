"""The SEGAN family: convolutional encoder-decoders from waveform to waveform, trained against a discriminator.

Papers:
    SEGAN: S. Pascual, A. Bonafonte, J. Serra, "SEGAN: Speech enhancement generative adversarial network", Interspeech
        2017, arXiv 1703.09452.
    ISEGAN, DSEGAN: H. Phan et al., "Improving GANs for speech enhancement", IEEE SPL 2020, arXiv 2001.05532.
    SASEGAN: H. Phan et al., "Self-attention generative adversarial network for speech enhancement", ICASSP 2021,
        arXiv 2010.09132.
    ISEGAN-SA, DSEGAN-SA: B. Asiedu Asante, C. Broni-Bediako, H. Imamura, "Exploring multi-stage GAN with self-attention
        for speech enhancement", Applied Sciences 13(16) 9217, 2023.
Public code: santi-pdp/segan, pquochuy/idsegan, pquochuy/sasegan (TensorFlow 1); SEGAN+: santi-pdp/segan_pytorch.

    noisy -> pre-emphasis -> windows of 16384 samples -> generator 1 -> ... -> generator N -> joined -> de-emphasis
    generator: 11 convolutions of stride 2 down to 8 frames, a random code beside them, 11 transposed ones back up

Which options make which system:
    SEGAN        the defaults
    ISEGAN-N     num_stages: N, shared: true (one generator, applied N times)
    DSEGAN-N     num_stages: N
    SASEGAN-l    attention: [l - 1], spectral_norm: true; SASEGAN-All: attention: [2, 3, 4, 5, 6, 7, 8, 9, 10]
    ISEGAN-SA, DSEGAN-SA  the same with num_stages: N. Only the abstract of the paper was at hand: which layers, which N
                 and where spectral normalisation is used are our choice.
    SEGAN+       channels: [64, 128, 256, 512, 1024], stride: 4, padding: reflect, skip_gains: true

As published in the code, where papers and code differ: attention's values and output have half the channels (the paper
writes one eighth [recalled]: ``attn_k_v: 8``); the virtual batch norm's reference is the present batch of real pairs,
with gradients (the paper: one fixed batch [recalled]: ``vbn_ref: fixed``). The code was read, of the papers the
abstracts and a figure; what is [recalled] was not checked.
Different from the code on purpose: at inference z is drawn once with a fixed seed, so that scores can be repeated
(``z: random`` draws it for every window, as published; segan_pytorch draws it once for each recording). The power
iteration of the spectral norm moves in training alone: at inference it starts from the stored vector every time, so
that an output does not depend on the outputs before it. ``judge`` takes real, fake and reference pairs in one pass, for
which the power iteration moves once, where the code has a pass for each and moves it every time. The inverse of the
amplitude map is applied to the output, which differs from the code's by 1.5e-5. SEGAN+ starts from weights drawn as
SEGAN's.

The network depends on the recording level: nothing is normalised, and tanh bounds the output. It works in blocks: a
window is enhanced when its last sample is there (the code's frames see all of it), so ``latency`` is a window's
length less one sample, also with ``overlap``; without, as published, there is a seam every 1.024 s.

Shapes: B batch, W samples of a window, C channels, T frames of a layer, N samples of a recording.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from senet.dsp.emphasis import de_emphasis, pre_emphasis
from senet.errors import UserError, require_choice, require_positive
from senet.layers.precision import at_least_single
from senet.models.base import require_rate

__all__ = ["SEGAN", "Discriminator", "DiscriminatorPlus"]  # what a configuration may name

CHANNELS = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)
FADES = {"hann": torch.hann_window, "triangular": torch.bartlett_window}  # rise and fall add up to 1
MAX_WINDOWS = 32  # enhanced at a time, which bounds the memory that a long recording takes

# The published amplitude map takes an int16 sample s to (s + 0.5) / 32767.5, within [-1, 1]; our samples are s / 2^15.
AMPLITUDE_SCALE, AMPLITUDE_OFFSET = 32768 / 32767.5, 0.5 / 32767.5


class SEGAN(nn.Module):
    """One or more generators in a row; the defaults are SEGAN's.

    Args:
        sample_rate: Hz.
        num_stages: generators in a row, each fed with the output of the one before.
        shared: all stages have the same weights.
        channels: of the encoder's convolutions; the decoder mirrors them.
        kernel, stride: of all convolutions, in samples of their input.
        padding: ``zeros`` or ``reflect``, before and after a window and each layer's map.
        bias: of all convolutions.
        z: the random code at inference: ``fixed``: the same for every window of every recording; ``random``: drawn for
            every window; ``zeros``. In training it is always drawn. ``none``: the network has none.
        merge: how a skip joins the decoder: ``concat`` or ``sum``.
        skip_gains: a learnt gain for each channel of a skip, 1 at the start.
        attention: encoder convolutions, counted from 0, that self-attention follows; the decoder has it at the same
            number of frames.
        attn_k_qk, attn_k_v: by which attention divides the channels for queries and keys, and for values.
        attn_pool: frames of which keys and values keep the largest value.
        spectral_norm: of all convolutions of the generators. attn_spectral_norm: of those in attention.
        window: samples of a window.
        overlap: ``none``, or how windows that overlap by half are faded into each other: ``hann`` or ``triangular``.
        emphasis: factor of the pre-emphasis; 0 or less: off.
    Raises:
        UserError: values that do not fit together.
    """

    causal = True  # in blocks

    def __init__(
        self,
        sample_rate: int = 16000,
        num_stages: int = 1,
        shared: bool = False,
        channels: tuple[int, ...] = CHANNELS,
        kernel: int = 31,
        stride: int = 2,
        padding: str = "zeros",
        bias: bool = True,
        z: str = "fixed",
        merge: str = "concat",
        skip_gains: bool = False,
        attention: tuple[int, ...] = (),
        attn_k_qk: int = 8,
        attn_k_v: int = 2,
        attn_pool: int = 4,
        spectral_norm: bool = False,
        attn_spectral_norm: bool = True,
        window: int = 16384,
        overlap: str = "none",
        emphasis: float = 0.95,
    ):
        super().__init__()
        require_choice("SEGAN: z", z, ("fixed", "random", "zeros", "none"))
        require_choice("SEGAN: merge", merge, ("concat", "sum"))
        require_choice("SEGAN: overlap", overlap, ("none", *FADES))
        require_rate("SEGAN", sample_rate)
        require_positive("SEGAN", num_stages=num_stages)
        _check_sizes("SEGAN", window, channels, kernel, stride, padding)
        _check_attention("SEGAN", window, channels, stride, attention, attn_k_qk, attn_k_v, attn_pool)
        if overlap != "none" and window % 2:
            raise UserError(f"SEGAN: window is {window}, expected an even number with overlap: {overlap}")
        if not emphasis < 1:
            raise UserError(f"SEGAN: emphasis is {emphasis}, expected less than 1 (0: off)")
        self.sample_rate, self.num_stages, self.shared, self.z = sample_rate, num_stages, shared, z
        self.window, self.overlap, self.emphasis, self.latency = window, overlap, emphasis, window - 1
        self.hop = window if overlap == "none" else window // 2  # samples from window to window
        self.step = stride ** len(channels)  # samples of one frame of the code
        attend = partial(SelfAttention, k_qk=attn_k_qk, k_v=attn_k_v, pool=attn_pool, spectral_norm=attn_spectral_norm)
        self.generators = nn.ModuleList(
            Generator(
                channels, kernel, stride, padding, bias, z != "none", merge, skip_gains, attention, attend,
                spectral_norm,
            )
            for _ in range(1 if shared else num_stages)
        )  # fmt: skip
        fixed = torch.randn(
            num_stages, 1, channels[-1], window // self.step, generator=torch.Generator().manual_seed(0), device="cpu"
        )
        self.register_buffer("fixed_z", torch.empty(fixed.shape).copy_(fixed), persistent=False)
        self.register_buffer("fade", None if overlap == "none" else FADES[overlap](window), persistent=False)

    # ------------------------------------------------------------ encoded signals

    def encode(self, wave: Tensor) -> Tensor:
        """(B, N) -> (B, N), amplitude map and pre-emphasis: what the network takes and the losses compare."""
        return pre_emphasis(AMPLITUDE_SCALE * wave + AMPLITUDE_OFFSET, self.emphasis)

    def decode(self, encoded: Tensor) -> Tensor:
        """(B, N) -> (B, N); undoes ``encode``."""
        return (de_emphasis(encoded, self.emphasis) - AMPLITUDE_OFFSET) / AMPLITUDE_SCALE

    def network(self, encoded: Tensor, z: Tensor | None = None) -> list[Tensor]:
        """(B, W) encoded windows -> one (B, W) encoded estimate per stage, the result last.

        Args:
            encoded: W a multiple of ``stride ** len(channels)`` samples.
            z: (stages, B, C, frames of the code); None: as the option says.
        Raises:
            UserError: another W.
        """
        if encoded.shape[1] % self.step:
            raise UserError(
                f"SEGAN: windows of {encoded.shape[1]} samples, expected a multiple of {self.step}, such as "
                f"{self.window}: crop_seconds: {self.window / self.sample_rate:g}"
            )
        z = self._draw(encoded) if z is None else z
        estimates = []
        for n in range(self.num_stages):
            generator = self.generators[0 if self.shared else n]
            encoded = generator(encoded, None if z is None else z[n])
            estimates.append(encoded)
        return estimates

    def _draw(self, encoded: Tensor) -> Tensor | None:
        """z of all stages (stages, B, C, frames of the code) for windows (B, W)."""
        if self.z == "none":
            return None
        batch, frames = encoded.shape[0], encoded.shape[1] // self.step
        shape = (self.num_stages, batch, self.fixed_z.shape[2], frames)
        if self.training or self.z == "random":
            return torch.randn(shape, device=encoded.device)
        if self.z == "zeros":
            return encoded.new_zeros(shape)
        repeats = -(-frames // self.fixed_z.shape[3])
        return self.fixed_z.repeat(1, 1, 1, repeats)[..., :frames].expand(shape)

    # ------------------------------------------------------------ recordings

    def stages(self, noisy: Tensor) -> list[Tensor]:
        """(B, N) -> one (B, N) waveform per stage, the result last."""
        return [self.decode(encoded) for encoded in self._enhance(noisy)]

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        return self.decode(self._enhance(noisy)[-1])

    def _enhance(self, noisy: Tensor) -> list[Tensor]:
        """(B, N) -> encoded (B, N) per stage."""
        stages = self.enhanced(self._cut(self.encode(noisy)))
        return [self.join(stage)[:, : noisy.shape[1]] for stage in stages]

    def enhanced(self, windows: Tensor) -> list[Tensor]:
        """(B, windows, W) encoded -> one of the same shape per stage."""
        flat = windows.flatten(0, 1)
        # A traced graph takes all at once: the number of chunks in it would be a constant.
        chunks = [flat] if torch.compiler.is_compiling() else flat.split(MAX_WINDOWS)
        chunks = [self.network(chunk) for chunk in chunks]
        return [torch.cat(chunk).view_as(windows) for chunk in zip(*chunks, strict=True)]

    def _cut(self, signal: Tensor) -> Tensor:
        """(B, N) -> (B, windows, W), with zeros after the end."""
        missing = -(max(signal.shape[1], self.window) - self.window) % self.hop
        length = max(signal.shape[1], self.window) + missing
        return F.pad(signal, (0, length - signal.shape[1])).unfold(1, self.window, self.hop)

    def join(self, windows: Tensor) -> Tensor:
        """(B, windows, W), each ``hop`` after the one before -> (B, N or more)."""
        if self.overlap == "none":
            return windows.flatten(1)
        # Each half window is the sum of two windows whose fades add up to 1, except for the first and the last.
        rise, fall = self.fade.chunk(2)
        first, second = windows.chunk(2, dim=2)  # B, windows, W / 2
        crossed = fall * second[:, :-1] + rise * first[:, 1:]
        return torch.cat([first[:, :1], crossed, second[:, -1:]], 1).flatten(1)


class Generator(nn.Module):
    """Encoder, code and decoder of one stage; see ``SEGAN`` for the options.

    Args:
        latent: whether a z of as many channels as the code joins it.
        attend: makes the attention for a number of channels.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        kernel: int,
        stride: int,
        padding: str,
        bias: bool,
        latent: bool,
        merge: str,
        skip_gains: bool,
        attention: tuple[int, ...],
        attend: partial,
        spectral_norm: bool,
    ):
        super().__init__()
        self.merge = merge
        width = 2 if merge == "concat" else 1  # of a merged map, in units of the skip's channels
        skipped = channels[-2::-1]  # as the decoder meets them
        inputs = (channels[-1] * (2 if latent else 1), *(width * c for c in skipped))
        self.encoder = nn.ModuleList(
            Down(c_in, c_out, kernel, stride, padding, bias)
            for c_in, c_out in zip((1, *channels[:-1]), channels, strict=True)
        )
        self.decoder = nn.ModuleList(
            Up(c_in, c_out, kernel, stride, bias) for c_in, c_out in zip(inputs[:-1], skipped, strict=True)
        )
        self.output = Up(inputs[-1], 1, kernel, stride, bias)
        self.encoder_act = nn.ModuleList(nn.PReLU(c, init=0.0) for c in channels)
        self.decoder_act = nn.ModuleList(nn.PReLU(c, init=0.0) for c in skipped)
        self.skip_gains = nn.ParameterList(torch.ones(c, 1) for c in skipped) if skip_gains else None
        self.encoder_attention = nn.ModuleDict({str(i): attend(channels[i]) for i in attention})
        last = len(channels) - 2  # the decoder's layer j has the frames of the encoder's layer last - j
        self.decoder_attention = nn.ModuleDict(
            {str(last - i): attend(width * channels[i]) for i in attention if i <= last}
        )
        for conv in (*self.encoder, *self.decoder, self.output):
            _init_conv(conv)
            if spectral_norm:
                parametrize.register_parametrization(conv, "weight", SpectralNorm(conv.weight))

    def forward(self, x: Tensor, z: Tensor | None) -> Tensor:
        """(B, W), (B, C, frames of the code) -> (B, W) within -1..1."""
        x = x[:, None]  # B, 1, W
        skips = []
        for i, (conv, act) in enumerate(zip(self.encoder, self.encoder_act, strict=True)):
            x = conv(x)
            skips.append(x)
            x = act(x)
            if str(i) in self.encoder_attention:
                x = self.encoder_attention[str(i)](x)
        if z is not None:
            x = torch.cat([z.to(x.dtype), x], 1)
        for j, (conv, act) in enumerate(zip(self.decoder, self.decoder_act, strict=True)):
            x = act(conv(x))
            skip = skips[-2 - j]  # not the code
            if self.skip_gains is not None:
                skip = self.skip_gains[j] * skip
            x = torch.cat([x, skip], 1) if self.merge == "concat" else x + skip
            if str(j) in self.decoder_attention:
                x = self.decoder_attention[str(j)](x)
        return at_least_single(self.output(x)).tanh()[:, 0]


# ---------------------------------------------------------------- discriminators


class Discriminator(nn.Module):
    """Whether the first of two windows is clean speech, given that the second is the noisy one: a score, 1 for clean.

    Args:
        channels, kernel, stride, padding: of the convolutions, as in ``SEGAN``.
        norm: after each convolution: ``vbn`` (virtual batch norm), ``bn`` (batch norm) or ``none``.
        vbn_ref: ``current_real``: the statistics come from the reference that is passed; ``fixed``: from the first
            batch of real pairs in training, which is kept.
        attention, attn_k_qk, attn_k_v, attn_pool, attn_spectral_norm: as in ``SEGAN``.
        spectral_norm: of the convolutions; those over one frame and the last linear layer have none.
        window: samples of a window.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = CHANNELS,
        kernel: int = 31,
        stride: int = 2,
        padding: str = "zeros",
        norm: str = "vbn",
        vbn_ref: str = "current_real",
        attention: tuple[int, ...] = (),
        attn_k_qk: int = 8,
        attn_k_v: int = 2,
        attn_pool: int = 4,
        spectral_norm: bool = False,
        attn_spectral_norm: bool = True,
        window: int = 16384,
    ):
        super().__init__()
        require_choice("Discriminator: norm", norm, tuple(NORMS))
        require_choice("Discriminator: vbn_ref", vbn_ref, ("current_real", "fixed"))
        _check_sizes("Discriminator", window, channels, kernel, stride, padding)
        _check_attention("Discriminator", window, channels, stride, attention, attn_k_qk, attn_k_v, attn_pool)
        self.norm, self.vbn_ref, self.window = norm, vbn_ref, window
        self.convs = nn.ModuleList(
            Down(c_in, c_out, kernel, stride, padding, bias=True)
            for c_in, c_out in zip((2, *channels[:-1]), channels, strict=True)
        )
        self.norms = nn.ModuleList(NORMS[norm](c) for c in channels)
        self.attention = nn.ModuleDict(
            {str(i): SelfAttention(channels[i], attn_k_qk, attn_k_v, attn_pool, attn_spectral_norm) for i in attention}
        )
        self.reduce = nn.Conv1d(channels[-1], 1, 1, bias=False)
        self.score = nn.Linear(window // stride ** len(channels), 1)
        self.register_buffer("reference", torch.zeros(0, 2, window), persistent=norm == "vbn" and vbn_ref == "fixed")
        for conv in (*self.convs, self.reduce):
            _init_conv(conv)
        nn.init.xavier_uniform_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        if spectral_norm:
            for conv in self.convs:
                parametrize.register_parametrization(conv, "weight", SpectralNorm(conv.weight))

    def forward(self, candidate: Tensor, noisy: Tensor, reference: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Scores of encoded windows.

        Args:
            candidate: (B, W), clean or enhanced. noisy: (B, W), what it comes from.
            reference: clean and noisy windows (R, W) for the statistics of the virtual batch norm; None: the candidate
                and noisy themselves, which are then a real pair.
        Returns:
            (B,), unbounded.
        """
        return self.judge([candidate], noisy, reference)[0]

    def judge(
        self, candidates: list[Tensor], noisy: Tensor, reference: tuple[Tensor, Tensor] | None = None
    ) -> list[Tensor]:
        """``forward`` for several candidates (B, W) of the same noisy windows, in one pass.

        Args:
            reference: as in ``forward``; None: the first candidate is the clean one, and with noisy the reference.
        """
        groups = [torch.stack([candidate, noisy], 1) for candidate in candidates]  # B, 2, W each
        apart = self._reference(groups[0], reference)
        groups = groups if apart is None else [apart, *groups]
        sizes = [len(group) for group in groups]
        x = torch.cat(groups)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.leaky_relu(norm(conv(x), sizes), 0.3)
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        scores = at_least_single(self.score(self.reduce(x)[:, 0])[:, 0])
        return list(scores.split(sizes)[-len(candidates) :])

    def _reference(self, first: Tensor, given: tuple[Tensor, Tensor] | None) -> Tensor | None:
        """Pairs (R, 2, W) whose statistics the norms take, beside the candidates; None: ``first``, the first group."""
        if self.norm != "vbn":
            return None
        given = None if given is None else torch.stack(given, 1)
        if self.vbn_ref == "current_real":
            return given
        if len(self.reference) == 0 and self.training:
            self.reference = (first if given is None else given).detach().clone()
        return self.reference if len(self.reference) else given

    def _load_from_state_dict(self, state, prefix, *args):
        kept = state.get(prefix + "reference")
        if kept is not None:  # of a size that only training decides
            self.reference = self.reference.new_empty(kept.shape)
        super()._load_from_state_dict(state, prefix, *args)


class DiscriminatorPlus(nn.Module):
    """SEGAN+'s: batch norm, and a random shift before each convolution, so that the phase tells nothing.

    Args:
        channels, kernel, stride, padding: of the convolutions, as in ``SEGAN``; reflection [recalled].
        max_shift: samples or frames by which a layer's input is turned, left or right, in training.
        hidden: units of the fully connected layers before the score.
        window: samples of a window.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        kernel: int = 31,
        stride: int = 4,
        padding: str = "reflect",
        max_shift: int = 5,
        hidden: tuple[int, ...] = (256, 128),
        window: int = 16384,
    ):
        super().__init__()
        _check_sizes("DiscriminatorPlus", window, channels, kernel, stride, padding)
        require_positive("DiscriminatorPlus", hidden=hidden)
        if max_shift < 0:
            raise UserError(f"DiscriminatorPlus: max_shift is {max_shift}, expected at least 0")
        self.max_shift, self.window = max_shift, window
        self.convs = nn.ModuleList(
            Down(c_in, c_out, kernel, stride, padding, bias=True)
            for c_in, c_out in zip((2, *channels[:-1]), channels, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for c in channels)
        self.acts = nn.ModuleList(nn.PReLU(c, init=0.0) for c in channels)
        widths = (channels[-1] * (window // stride ** len(channels)), *hidden)
        layers = [(nn.Linear(n_in, n_out), nn.PReLU(n_out)) for n_in, n_out in zip(widths[:-1], hidden, strict=True)]
        self.head = nn.Sequential(*(part for layer in layers for part in layer), nn.Linear(widths[-1], 1))
        for conv in self.convs:
            _init_conv(conv)

    def forward(self, candidate: Tensor, noisy: Tensor, reference: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """As ``Discriminator.forward``; batch norm needs no reference."""
        x = torch.stack([candidate, noisy], 1)  # B, 2, W
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(conv(self._turned(x))))
        return at_least_single(self.head(x.flatten(1))[:, 0])

    def judge(
        self, candidates: list[Tensor], noisy: Tensor, reference: tuple[Tensor, Tensor] | None = None
    ) -> list[Tensor]:
        """``forward`` for several candidates, each with batch statistics of its own."""
        return [self(candidate, noisy) for candidate in candidates]

    def _turned(self, x: Tensor) -> Tensor:
        """(B, C, T) -> the same, its frames turned in a circle by a random number."""
        if not self.training or not self.max_shift:
            return x
        shift = torch.randint(-self.max_shift, self.max_shift + 1, (1,), device=x.device)
        return x[:, :, (torch.arange(x.shape[2], device=x.device) + shift) % x.shape[2]]


# ---------------------------------------------------------------- layers


class Down(nn.Conv1d):
    """Convolution (B, C, T) -> (B, channels, T / stride), padded as TensorFlow's SAME for a stride of 2."""

    def __init__(self, num_inputs: int, channels: int, kernel: int, stride: int, padding: str, bias: bool):
        super().__init__(num_inputs, channels, kernel, stride, bias=bias)
        self.margins = (kernel // 2 - 1, kernel // 2)  # 14 and 15
        self.fill = PADDINGS[padding]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.margins, self.fill))


class Up(nn.ConvTranspose1d):
    """Transposed convolution (B, C, T) -> (B, channels, T * stride), with the sample too many cut off at the end."""

    def __init__(self, num_inputs: int, channels: int, kernel: int, stride: int, bias: bool):
        super().__init__(num_inputs, channels, kernel, stride, padding=(kernel - stride) // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, : x.shape[2] * self.stride[0]]


class SelfAttention(nn.Module):
    """``x + gain * attention(x)`` over the frames of a map; the gain is 0 at the start. 1.25 C^2 + 1 parameters.

    Args:
        channels: C.
        k_qk, k_v: C is divided by these for queries and keys, and for values.
        pool: keys and values keep the largest value of so many frames.
        spectral_norm: of the four convolutions.
    Source: pquochuy/sasegan; products of queries and keys are not scaled by the root of their size.
    """

    def __init__(self, channels: int, k_qk: int, k_v: int, pool: int, spectral_norm: bool):
        super().__init__()
        self.pool = pool
        self.query = nn.Conv1d(channels, channels // k_qk, 1, bias=False)
        self.key = nn.Conv1d(channels, channels // k_qk, 1, bias=False)
        self.value = nn.Conv1d(channels, channels // k_v, 1, bias=False)
        self.output = nn.Conv1d(channels // k_v, channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(()))
        for conv in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(conv.weight)
            if spectral_norm:
                parametrize.register_parametrization(conv, "weight", SpectralNorm(conv.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> the same."""
        query = self.query(x)
        key = F.max_pool1d(self.key(x), self.pool)
        value = F.max_pool1d(self.value(x), self.pool)
        seen = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), scale=1.0
        )  # B, T, C / k_v
        return x + self.gain * self.output(seen.transpose(1, 2))


class VirtualBatchNorm(nn.Module):
    """Batch norm with the statistics of a reference batch, into which the normalised batch enters as one more example.

    With the means m and second moments q of a channel over batch and frames, a batch of B is normalised by
    ``m = a m_batch + (1 - a) m_reference``, q alike, a = 1 / (B + 1), and the variance ``q - m^2``.

    Source: T. Salimans et al., "Improved techniques for training GANs", NIPS 2016, in the form of the SEGAN code.
    """

    eps = 1e-5

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(channels), 1.0, 0.02))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, sizes: list[int]) -> Tensor:
        """(sum of sizes, C, T) -> the same: groups of so many examples, of which the first is the reference."""
        x = at_least_single(x)
        reference, *batches = x.split(sizes)
        reference_variance, reference_mean = torch.var_mean(reference, (0, 2), correction=0)
        means, variances = [reference_mean], [reference_variance]
        for batch in batches:
            share = 1 / (len(batch) + 1)
            variance, mean = torch.var_mean(batch, (0, 2), correction=0)
            apart = mean - reference_mean
            means.append(reference_mean + share * apart)
            # q - m^2 without its cancellation: the mean of the variances and the variance of the means
            variances.append(torch.lerp(reference_variance, variance, share) + share * (1 - share) * apart.square())
        scale = self.weight * (torch.stack(variances) + self.eps).rsqrt()  # groups, C
        shift = self.bias - torch.stack(means) * scale
        scale, shift = (
            torch.cat([row.expand(size, -1) for row, size in zip(rows, sizes, strict=True)])[:, :, None]
            for rows in (scale, shift)
        )
        return torch.addcmul(shift, x, scale)


class GroupedBatchNorm(nn.BatchNorm1d):
    """Batch norm of each group apart, as if they came one after another."""

    def forward(self, x: Tensor, sizes: list[int]) -> Tensor:
        """(sum of sizes, C, T) -> the same."""
        return torch.cat([super(GroupedBatchNorm, self).forward(group) for group in x.split(sizes)])


class NoNorm(nn.Module):
    """Takes the place of a norm."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x: Tensor, sizes: list[int]) -> Tensor:
        return x


class SpectralNorm(nn.Module):
    """A weight divided by its largest singular value as a matrix (first dimension) x (the others).

    The singular value comes from one power iteration, whose vector is kept from one training step to the next. For a
    transposed convolution the first dimension is the input's channels, as in the SASEGAN code; torch's own takes the
    second there.

    Source: T. Miyato et al., "Spectral normalization for generative adversarial networks", ICLR 2018.
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast("cuda" if weight.is_cuda else "cpu", enabled=False):  # full precision
            matrix = weight.flatten(1)
            v = F.normalize(matrix.detach().T @ self.u, dim=0)
            projected = matrix @ v
            u = F.normalize(projected.detach(), dim=0)
            if self.training:
                self.u.copy_(u)
            return weight / (u @ projected)


NORMS = {"vbn": VirtualBatchNorm, "bn": GroupedBatchNorm, "none": NoNorm}
PADDINGS = {"zeros": "constant", "reflect": "reflect"}  # names of torch.nn.functional.pad


def _init_conv(conv: nn.Module):
    """Truncated normal of standard deviation 0.02, cut at twice that; zero bias."""
    nn.init.trunc_normal_(conv.weight, std=0.02, a=-0.04, b=0.04)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _check_sizes(model: str, window: int, channels: tuple[int, ...], kernel: int, stride: int, padding: str):
    """Refuse sizes for which some convolution has no whole number of frames, or too few; ``model`` names the class."""
    require_choice(f"{model}: padding", padding, tuple(PADDINGS))
    require_positive(model, channels=channels)
    layers, step = len(channels), stride ** len(channels)
    if layers < 2:
        raise UserError(f"{model}: channels are {list(channels)}, expected those of at least 2 layers")
    if stride < 2 or kernel < stride:
        raise UserError(f"{model}: kernel is {kernel}, stride {stride}; expected 2 <= stride <= kernel")
    if window < step or window % step:
        raise UserError(
            f"{model}: window is {window}, expected a multiple of {step} for {layers} layers of stride {stride}"
        )
    if padding == "reflect" and window * stride // step <= kernel // 2:
        raise UserError(
            f"{model}: the last layer's input has {window * stride // step} frames, too few to reflect {kernel // 2} "
            "of them; take a longer window or padding: zeros"
        )


def _check_attention(
    model: str,
    window: int,
    channels: tuple[int, ...],
    stride: int,
    attention: tuple[int, ...],
    attn_k_qk: int,
    attn_k_v: int,
    attn_pool: int,
):
    """Refuse attention after layers that are not there or too small; ``model`` names the class."""
    require_positive(model, attn_k_qk=attn_k_qk, attn_k_v=attn_k_v, attn_pool=attn_pool)
    least_channels = max(attn_k_qk, attn_k_v)
    if len(set(attention)) < len(attention):
        raise UserError(f"{model}: attention is {list(attention)}, expected each layer once")
    for i in attention:
        if not 0 <= i < len(channels):
            raise UserError(f"{model}: attention has {i}, expected 0 to {len(channels) - 1}, the encoder's layers")
        frames = window // stride ** (i + 1)
        if channels[i] < least_channels or frames < attn_pool:
            raise UserError(
                f"{model}: attention at layer {i}, which has {channels[i]} channels and {frames} frames; expected at "
                f"least {least_channels}, the larger of attn_k_qk and attn_k_v, and {attn_pool}, attn_pool"
            )
