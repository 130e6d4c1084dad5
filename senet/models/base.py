"""What the trainer, the enhancer and the scorer may expect of a model.

Any ``nn.Module`` will do that has
    forward(noisy (B, N)) -> (B, N), float, for any N >= 1;
    stages(noisy) -> list of (B, N), one per stage, the result last, for losses on waveforms;
    sample_rate in Hz; causal; latency in samples, or None when a whole recording is needed: output n is then a function
    of the input samples up to n + latency, and of no fewer. ``senet.infer.stream`` says what streaming needs besides.
Training on spectra, computed or stored, also needs ``analysis`` and ``network``, which ``SpectralModel`` lays out. It
sees the frames that stage 3 stores; enhancement, and training on waveforms, first pad to whole hops, which adds a frame
to other lengths where frames are centred (1 in 101 for a second of GaGNet). Statistics over all frames differ by that.
"""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp.stft import STFT
from senet.errors import UserError

RATES = 100, 384000  # Hz; nothing outside is audio


class SpectralModel(nn.Module):
    """Waveform -> ``analysis`` -> ``encode`` -> ``network`` -> ``decode`` -> ``synthesis`` -> waveform.

    A subclass writes ``network``. One that works on scaled or compressed spectra also writes ``encode`` and ``decode``,
    and ``level`` if the scale comes from the noisy signal: a loss on spectra compares encoded ones.

    Attributes:
        sample_rate: Hz.
        stft: the transform of both ``analysis`` and ``synthesis``.
        lookahead: frames that ``network`` sees ahead; in a stream its output is late by as many.
        offline: why the whole recording is needed, a clause each with what would stream; empty: it is not.
        latency: input samples that have to follow sample n before output sample n is settled; None: all of them.
    Raises:
        UserError: a sample rate that no audio has.
    """

    def __init__(self, sample_rate: int, stft: STFT, offline: Iterable[str] = (), lookahead: int = 0):
        super().__init__()
        require_rate(type(self).__name__, sample_rate)
        self.sample_rate, self.stft, self.offline, self.lookahead = sample_rate, stft, tuple(offline), lookahead

    @property
    def latency(self) -> int | None:
        return None if self.offline else self.stft.latency + self.lookahead * self.stft.hop_length

    @property
    def causal(self) -> bool:
        """Whether output samples follow the input after ``latency`` samples."""
        return self.latency is not None

    def analysis(self, wave: Tensor) -> Tensor:
        """(B, N) -> (B, F, T) complex: what stage 3 stores."""
        return self.stft(wave)

    def level(self, spec: Tensor) -> Tensor | None:
        """(B, F, T) complex, noisy -> what noisy and clean spectra are divided by: (B, 1, 1) or (B, 1, T) or None."""
        return None

    def encode(self, spec: Tensor, level: Tensor | None) -> Tensor:
        """(B, F, T) complex -> the same, as ``network`` takes and gives it."""
        return spec

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex, encoded noisy -> one encoded (B, F, T) complex estimate per stage, the result last."""
        raise NotImplementedError

    def decode(self, spec: Tensor, level: Tensor | None) -> Tensor:
        """(B, F, T) complex -> the same; undoes ``encode``."""
        return spec

    def synthesis(self, spec: Tensor, length: int) -> Tensor:
        """(B, F, T) complex -> (B, length)."""
        return self.limit(self.stft.inverse(spec, length))

    def limit(self, wave: Tensor) -> Tensor:
        """(B, N) -> the same: what becomes of each sample at the very end."""
        return wave

    def result(self, spec: Tensor) -> Tensor:
        """The last estimate of ``network`` alone; for a subclass to write that can spare the work for earlier ones."""
        return self.network(spec)[-1]

    def stages(self, noisy: Tensor) -> list[Tensor]:
        """(B, N) -> one (B, N) waveform per stage, the result last."""
        spec = self._analysed(noisy)
        level = self.level(spec)
        estimates = self.network(self.encode(spec, level))
        return [self.synthesis(self.decode(estimate, level), noisy.shape[1]) for estimate in estimates]

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        return self.synthesis(self.enhanced(self._analysed(noisy)), noisy.shape[1])

    def enhanced(self, spec: Tensor) -> Tensor:
        """(B, F, T) complex, noisy -> (B, F, T) complex, enhanced; in a stream frames are late by ``lookahead``."""
        level = self.level(spec)
        return self.decode(self.result(self.encode(spec, level)), level)

    def _analysed(self, noisy: Tensor) -> Tensor:
        length = noisy.shape[1]
        return self.analysis(F.pad(noisy, (0, self.stft.whole(length) - length)))


def require_rate(where: str, sample_rate: int):
    """Refuse a sample rate outside ``RATES``; ``where`` names the class."""
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise UserError(f"{where}: sample_rate is {sample_rate}, expected at least {RATES[0]} Hz, at most {RATES[1]}")
