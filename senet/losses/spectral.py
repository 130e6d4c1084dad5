"""Losses between complex spectra (B, F, T)."""

from torch import Tensor, nn

from senet.dsp.compress import compress_magnitude, power, power_compress
from senet.errors import require_choice
from senet.losses.waveform import require_above_zero, require_weights, valid_sums


class CompressedSpectrum(nn.Module):
    """Squared distance of compressed magnitudes plus that of compressed complex spectra, of the last stage.

    With Sc = |S|^c exp(j angle(S)) and sums over the bins and frames of a clip:
    ``magnitude_weight * sum (|Se|^c - |S|^c)^2 + complex_weight * sum |Se_c - S_c|^2``, averaged over the batch.

    Args:
        exponent: c, above 0; 1 compares the spectra as they are.
        complex_weight: 0 leaves the term out. magnitude_weight: the same. One of them is above 0.
        reduction: ``sum`` over the bins as in the public low-latency code (values in the thousands, which matters to
            clipping thresholds), or ``mean`` over a clip's bins.
    Source: the terms and 0.113 from
        YunyangZeng/Spectrogram-Masking-based-Neural-Network-model-for-single-channel-Speech-Enhancement, which compares
        a twice compressed estimate with a once compressed reference; here both are compressed once.
    """

    domain = "spectrum"
    needs = ("clean",)

    def __init__(
        self,
        exponent: float = 0.3,
        complex_weight: float = 0.113,
        magnitude_weight: float = 1.0,
        reduction: str = "sum",
        eps: float = 1e-8,
    ):
        super().__init__()
        require_choice("CompressedSpectrum: reduction", reduction, ("sum", "mean"))
        require_weights("CompressedSpectrum: the weights of magnitude and complex", (magnitude_weight, complex_weight))
        require_above_zero("CompressedSpectrum", exponent=exponent)
        self.exponent, self.reduction, self.eps = exponent, reduction, eps
        self.weights = {"magnitude": magnitude_weight, "complex": complex_weight}

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and ``refs["clean"]`` (B, F, T) complex; lengths (B,) in frames. Returns: loss, its terms."""
        est, ref = stages[-1], refs["clean"]
        terms = {}
        if self.weights["magnitude"]:
            difference = self._magnitude(est) - self._magnitude(ref)
            terms["magnitude"] = self._reduce(difference.square(), lengths)
        if self.weights["complex"]:
            terms["complex"] = self._reduce(power(self._complex(est) - self._complex(ref)), lengths)
        loss = sum(self.weights[name] * value for name, value in terms.items())
        return loss, {name: value.detach() for name, value in terms.items()}

    def _magnitude(self, spec: Tensor) -> Tensor:
        return compress_magnitude(spec, self.exponent, self.eps)

    def _complex(self, spec: Tensor) -> Tensor:
        return power_compress(spec, self.exponent, self.eps)

    def _reduce(self, error: Tensor, lengths: Tensor) -> Tensor:
        sums = valid_sums(error, lengths)
        if self.reduction == "mean":
            sums = sums / (lengths * error.shape[1])
        return sums.mean()


class RIMagnitude(nn.Module):
    """Squared distance of real and imaginary parts plus that of magnitudes, of the last stage.

    With means over all valid values of the batch, so that long clips count for more:
    ``complex_weight * mean (parts of Se - S)^2 + magnitude_weight * mean (|Se| - |S|)^2``.

    Args:
        complex_weight, magnitude_weight: of the two terms, at least 0, one of them more.
        eps: added to the powers under the magnitudes' root, which has no gradient at 0.
    Source: the public code of Li et al., "Glance and Gaze", 2022, which compares compressed spectra.
    """

    domain = "spectrum"
    needs = ("clean",)

    def __init__(self, complex_weight: float = 0.5, magnitude_weight: float = 0.5, eps: float = 1e-12):
        super().__init__()
        require_weights("RIMagnitude: the weights of complex and magnitude", (complex_weight, magnitude_weight))
        self.complex_weight, self.magnitude_weight, self.eps = complex_weight, magnitude_weight, eps

    def weigh(self, lengths: Tensor) -> Tensor:
        """What each clip counts for (B,): by its frames."""
        return lengths

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and ``refs["clean"]`` (B, F, T) complex; lengths (B,) in frames. Returns: loss, its terms."""
        est, ref = stages[-1], refs["clean"]
        bins = lengths.sum() * est.shape[1]
        parts = valid_sums(power(est - ref), lengths).sum() / (2 * bins)
        difference = (power(est) + self.eps).sqrt() - (power(ref) + self.eps).sqrt()
        magnitude = valid_sums(difference.square(), lengths).sum() / bins
        loss = self.complex_weight * parts + self.magnitude_weight * magnitude
        return loss, {"complex": parts.detach(), "magnitude": magnitude.detach()}
