"""What the trainer, the enhancer and the scorer may expect of a model.

Any ``nn.Module`` will do that has
    forward(noisy (B, N)) -> (B, N), float, for any N >= 1;
    stages(noisy) -> list of (B, N), one per stage, the result last, for losses on waveforms;
    sample_rate in Hz; causal; latency in samples, or None when a whole recording is needed.
Training on spectra, computed or stored, also needs ``analysis`` and ``network``, which ``SpectralModel`` lays out.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from senet.dsp.stft import STFT


class SpectralModel(nn.Module):
    """Waveform -> ``analysis`` -> ``network`` -> ``synthesis`` -> waveform; a subclass writes ``network``.

    Attributes:
        sample_rate: Hz.
        stft: the transform of both ``analysis`` and ``synthesis``.
        latency: input samples that have to follow sample n before output sample n is settled; None: all of them.
    """

    def __init__(self, sample_rate: int, stft: STFT, latency: int | None = None):
        super().__init__()
        self.sample_rate, self.stft, self.latency = sample_rate, stft, latency

    @property
    def causal(self) -> bool:
        """Whether output samples follow the input after ``latency`` samples."""
        return self.latency is not None

    def analysis(self, wave: Tensor) -> Tensor:
        """(B, N) -> (B, F, T) complex: what ``network`` reads and what a loss on spectra compares with."""
        return self.stft(wave)

    def network(self, spec: Tensor) -> list[Tensor]:
        """(B, F, T) complex -> one (B, F, T) complex estimate per stage, the result last."""
        raise NotImplementedError

    def synthesis(self, spec: Tensor, length: int) -> Tensor:
        """(B, F, T) complex -> (B, length)."""
        return self.stft.inverse(spec, length)

    def stages(self, noisy: Tensor) -> list[Tensor]:
        """(B, N) -> one (B, N) waveform per stage, the result last."""
        return [self.synthesis(spec, noisy.shape[1]) for spec in self._estimate(noisy)]

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        return self.synthesis(self._estimate(noisy)[-1], noisy.shape[1])

    def _estimate(self, noisy: Tensor) -> list[Tensor]:
        # Whole hops, so that two frames cover the tail: see STFT.inverse.
        return self.network(self.analysis(F.pad(noisy, (0, -noisy.shape[1] % self.stft.hop_length))))
