"""Low-latency spectrogram masking: dilated convolutions, an LSTM and a mask, with a chosen look-ahead.

Paper: K. Wilson, M. Chinen, J. Thorpe, B. Patton, J. Hershey, R. A. Saurous, J. Skoglund, R. F. Lyon, "Exploring
tradeoffs in models for low-latency speech enhancement", IWAENC 2018, arXiv 1811.07030.
Public code: YunyangZeng/Spectrogram-Masking-based-Neural-Network-model-for-single-channel-Speech-Enhancement (Keras).

    noisy STFT -> compressed spectrum (+ delta phase) -> 7 convolutions over time x frequency -> 1x1 convolution
    -> LSTM -> fully connected + ReLU -> fully connected + activation -> mask, times the uncompressed noisy STFT

The sizes below are those of the public code. They look like the outcome of a parameter search and may be the paper's;
that is not verified, because only the paper's abstract and the block diagram published with the code were at hand.

As published in the code: STFT 512/160/400 (Hann, centred), exponent 0.3, layers, widths, activations, 514 outputs of a
sigmoid that scale real and imaginary part separately, a bidirectional LSTM and convolutions centred in time (so the
defaults are the offline system).
As in the diagram, and not in the code: the mask multiplies the uncompressed noisy STFT and the noisy phase is used;
the delta-phase input; the unidirectional LSTM with causal convolutions.
Different from the code on purpose: compression keeps the phase (the code raises the complex number to 0.3, which
shrinks the phase to 0.3 of itself); the mask is not applied to compressed parts; the output is never synthesised from
compressed magnitudes or with the clean phase (both in the code's evaluation, so its scores describe no usable system);
zero padding at the signal's ends where librosa reflected; two bias vectors per LSTM gate, as cuDNN has them; He's
initialisation before ReLUs.
Ours (the paper's text was not at hand): the formula of the delta phase, both forms of look-ahead, the masks other than
``ri_sigmoid``, level normalisation.

The paper's abstract is found in two versions that contradict each other about the price of low latency. arXiv: models
without look-ahead are on average within 0.03 dB SDR of the best bidirectional one, and 200 ms of look-ahead equal it.
Google's publication page: 0.5 dB worse without, and within about 0.2 dB at 200 ms.

Shapes: B batch, C channels, T frames, F bins, N samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp import spectral_level
from senet.dsp.compress import compress_magnitude, power_compress
from senet.dsp.phase import FORMS, delta_phasor
from senet.dsp.spectral_level import rms_level
from senet.dsp.stft import STFT
from senet.errors import UserError, require_choice, require_positive
from senet.layers.conv import TimeConv
from senet.layers.memory import current, delayed, recur
from senet.models.base import SpectralModel

MASKS = {"mag": 1, "ri_sigmoid": 2, "complex": 2, "complex_unbounded": 2, "polar": 3}  # outputs per bin


class LowLatencyNet(SpectralModel):
    """The network of the module's docstring; the defaults are the public code's bidirectional system.

    Args:
        sample_rate: Hz.
        n_fft, hop_length, win_length: STFT sizes in samples.
        inputs: ``complex`` (real and imaginary part, compressed) or ``magnitude`` (compressed).
        exponent: of the compression of the inputs.
        delta_phase: ``none``, ``raw``, ``baseband`` or ``frequency`` (``senet.dsp.phase``), added to the inputs.
        delta_encoding: ``cossin`` (2 channels, no jump at pi) or ``angle`` (1 channel, angle / pi).
        delta_weighting: multiply it by the compressed magnitude, so that empty bins carry no noise.
        level: what the inputs are divided by, so that the network does not depend on the recording level: ``none``;
            ``utterance``: RMS of the whole recording (then offline); ``cumulative``: RMS of all frames so far. The
            mask is a factor, so there is no gain to undo at the output.
        channels: of the convolutions before the last. maps: of the last, 1x1; the LSTM reads maps x bins values.
        dilations: in time, of the 5x5 convolutions, one each; they follow one of 1x7 and one of 7x1 (time x frequency).
        lstm_units: per direction. fc_units: hidden units of the fully connected layers.
        causal: LSTM forward in time only and convolutions without future, apart from ``lookahead``.
        lookahead: frames that a causal model waits for; when distributed at most half the
            convolutions' reach, 65.
        lookahead_form: ``distributed``: the convolutions see ahead, the earliest first, each at most as far as when
            centred. ``delayed``: a causal network runs on, and its output at frame t + lookahead is frame t's mask.
        mask: ``mag``: one sigmoid per bin. ``ri_sigmoid``: a sigmoid each for real and imaginary part, which can
            therefore not change sign. ``complex``: complex factor, parts within +-``mask_bound`` (tanh).
            ``complex_unbounded``: complex factor, linear. ``polar``: sigmoid magnitude times a unit phasor.
        mask_bound: of the parts of ``complex``.
    Raises:
        UserError: values that do not fit together.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 160,
        win_length: int = 400,
        inputs: str = "complex",
        exponent: float = 0.3,
        delta_phase: str = "none",
        delta_encoding: str = "cossin",
        delta_weighting: bool = False,
        level: str = "none",
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
        require_choice("LowLatencyNet: inputs", inputs, ("complex", "magnitude"))
        require_choice("LowLatencyNet: delta_phase", delta_phase, ("none", *FORMS))
        require_choice("LowLatencyNet: delta_encoding", delta_encoding, ("cossin", "angle"))
        require_choice("LowLatencyNet: level", level, spectral_level.FORMS)
        require_choice("LowLatencyNet: lookahead_form", lookahead_form, ("distributed", "delayed"))
        require_choice("LowLatencyNet: mask", mask, tuple(MASKS))
        require_positive(
            "LowLatencyNet", channels=channels, maps=maps, dilations=dilations, lstm_units=lstm_units, fc_units=fc_units
        )
        if lookahead < 0 or (lookahead and not causal):
            raise UserError(f"LowLatencyNet: lookahead is {lookahead}, expected 0, or more with causal: true")
        if not 0 < exponent <= 1:
            raise UserError(f"LowLatencyNet: exponent is {exponent}, expected more than 0 and at most 1 (1: none)")
        if not mask_bound > 0:
            raise UserError(f"LowLatencyNet: mask_bound is {mask_bound}, expected more than 0")
        offline = [] if causal else ["causal is false, which streams when true"]
        if level == "utterance":
            offline.append("level is utterance, which streams as cumulative or none")
        super().__init__(sample_rate, STFT(n_fft, hop_length, win_length), offline, lookahead)
        self.inputs, self.exponent, self.level_form = inputs, exponent, level
        self.delta_phase, self.delta_encoding, self.delta_weighting = delta_phase, delta_encoding, delta_weighting
        self.mask, self.mask_bound = mask, mask_bound
        self.delay = lookahead if lookahead_form == "delayed" else 0  # frames
        bins = self.stft.num_bins

        kernels = [(1, 7), (7, 1)] + [(5, 5)] * len(dilations)  # time x frequency
        steps = [1, 1, *dilations]
        centred = [(time - 1) * step // 2 for (time, _), step in zip(kernels, steps, strict=True)]
        future = _share(lookahead - self.delay, centred) if causal else centred
        widths = [self.num_inputs] + [channels] * len(kernels)
        self.convs = nn.ModuleList(
            TimeConv(num_inputs, num_outputs, kernel, (step, 1), future=ahead)
            for num_inputs, num_outputs, kernel, step, ahead in zip(
                widths[:-1], widths[1:], kernels, steps, future, strict=True
            )
        )
        self.reduce = nn.Conv2d(channels, maps, 1)
        self.lstm = nn.LSTM(maps * bins, lstm_units, batch_first=True, bidirectional=not causal)
        self.hidden = nn.Linear(lstm_units * (1 if causal else 2), fc_units)
        self.output = nn.Linear(fc_units, MASKS[mask] * bins)
        self.reset_parameters()

    @property
    def num_inputs(self) -> int:
        """Channels of the first convolution's input."""
        delta = 0 if self.delta_phase == "none" else {"cossin": 2, "angle": 1}[self.delta_encoding]
        return {"complex": 2, "magnitude": 1}[self.inputs] + delta

    def reset_parameters(self):
        """He's kernels before a ReLU, Glorot's elsewhere, orthogonal recurrence, zero biases, forget gates open.

        The public code has Keras' defaults, which differ in taking Glorot's everywhere: the signal then shrinks about
        40-fold in the eight convolutions, and hundreds of steps pass before the loss falls.
        """
        for name, weight in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(weight)
            elif name in ("lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse", "output.weight"):
                nn.init.xavier_uniform_(weight)
            elif "weight" in name:
                nn.init.kaiming_uniform_(weight, nonlinearity="relu")
            else:
                nn.init.zeros_(weight)
                if "bias_ih" in name:  # gates in the order input, forget, cell, output
                    nn.init.ones_(weight[self.lstm.hidden_size : 2 * self.lstm.hidden_size])

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> the one masked spectrum."""
        x = self.features(spec)  # B, C, T, F
        if current() is not None:  # a stream, whose masks come ``lookahead`` frames late, in either form
            return [self.apply_mask(self.body(x), delayed(spec, self.lookahead))]
        x = F.pad(x, (0, 0, 0, self.delay))  # B, C, T + delay, F
        return [self.apply_mask(self.body(x)[:, self.delay :], spec)]

    def features(self, spec: Tensor) -> Tensor:
        """(B, F, T) complex -> (B, C, T, F) float."""
        level = rms_level(spec, self.level_form)
        scaled = spec if level is None else spec / level
        if self.inputs == "complex":
            compressed = power_compress(scaled, self.exponent)
            channels = [compressed.real, compressed.imag]
        else:
            channels = [compress_magnitude(scaled, self.exponent)]
        if self.delta_phase != "none":
            phasor = delta_phasor(spec, self.delta_phase, self.stft.hop_length, self.stft.n_fft)
            delta = [phasor.real, phasor.imag] if self.delta_encoding == "cossin" else [phasor.angle() / torch.pi]
            weight = compress_magnitude(scaled, self.exponent) if self.delta_weighting else 1.0
            channels += [weight * part for part in delta]
        x = torch.stack([channel.transpose(1, 2) for channel in channels], 3)  # B, T, F, C
        return x.permute(0, 3, 1, 2)  # and so channels last in memory

    def body(self, x: Tensor) -> Tensor:
        """(B, C, T, F) -> (B, T, outputs per bin, F) before the mask's activation."""
        for conv in self.convs:
            x = conv(x).relu()  # B, channels, T, F
        x = self.reduce(x).relu()  # B, maps, T, F
        x = x.transpose(1, 2).flatten(2)  # B, T, maps * F
        x = recur(self.lstm, x)  # B, T, directions * lstm_units
        x = self.output(self.hidden(x).relu())  # B, T, outputs * F
        return x.unflatten(2, (MASKS[self.mask], -1))

    def apply_mask(self, outputs: Tensor, spec: Tensor) -> Tensor:
        """(B, T, outputs per bin, F) before activation, (B, F, T) complex noisy -> (B, F, T) complex estimate."""
        first, *rest = outputs.to(spec.real.dtype).transpose(1, 3).unbind(2)  # B, F, T each
        if self.mask == "mag":
            return first.sigmoid() * spec
        if self.mask == "ri_sigmoid":
            return torch.complex(first.sigmoid() * spec.real, rest[0].sigmoid() * spec.imag)
        if self.mask == "complex":
            return self.mask_bound * torch.complex(first.tanh(), rest[0].tanh()) * spec
        if self.mask == "complex_unbounded":
            return torch.complex(first, rest[0]) * spec
        return first.sigmoid() * torch.sgn(torch.complex(1 + rest[0], rest[1])) * spec  # polar, first without rotation


def _share(lookahead: int, most: list[int]) -> list[int]:
    """Frames that each convolution sees ahead: the earliest take ``most`` until ``lookahead`` is used up."""
    if lookahead > sum(most):
        raise UserError(
            f"LowLatencyNet: lookahead is {lookahead} frames, expected at most {sum(most)}, or lookahead_form: delayed"
        )
    shares = []
    for limit in most:
        shares.append(min(limit, lookahead))
        lookahead -= shares[-1]
    return shares
