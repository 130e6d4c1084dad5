"""Losses over the stages of a model, each compared by another loss."""

from torch import Tensor, nn

from senet import config
from senet.errors import UserError, require_choice
from senet.losses.waveform import require_above_zero, require_weights, valid


class Stages(nn.Module):
    """Weighted sum of one loss over all stages, each compared with the clean signal.

    Args:
        loss: module.Class under senet.losses, of the last stage in its own right.
        loss_conf: its arguments.
        weights: one per stage of the model, at least 0, one of them more.
    Raises:
        UserError: no weight; when called with another number of stages.
    """

    def __init__(self, loss: str, loss_conf: dict | None = None, weights: tuple[float, ...] = (1.0,)):
        super().__init__()
        require_weights("loss_conf.weights", weights)
        self.loss, self.weights = config.build("losses", loss, loss_conf, option="loss_conf.loss"), weights
        self.domain, self.needs = self.loss.domain, self.loss.needs
        if hasattr(self.loss, "weigh"):
            self.weigh = self.loss.weigh

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and refs as the inner loss takes them. Returns: loss, the last stage's terms and each loss."""
        self.require_stages(len(stages))
        total, values = 0.0, {}
        for k, (estimate, weight) in enumerate(zip(stages, self.weights, strict=True), 1):
            value, terms = self.loss([estimate], self.targets(refs, lengths, k), lengths)
            total = total + weight * value
            values[f"stage{k}"] = value.detach()
        return total, terms | values

    def require_stages(self, number: int):
        """Refuse a model of another number of stages than there are weights."""
        if number != len(self.weights):
            raise UserError(
                f"loss_conf.weights: {len(self.weights)} weights for a model of {number} stage{'s' * (number > 1)}; "
                "give one weight for each stage, or change the stages in model_conf"
            )

    def targets(self, refs: dict[str, Tensor], lengths: Tensor, k: int) -> dict[str, Tensor]:
        """The references of stage ``k``, counted from 1."""
        return refs


class Progressive(Stages):
    """Progressive learning: earlier stages are compared with the clean signal in noise that falls from stage to stage.

    The noise is what the noisy signal holds besides the clean one, so all targets share its crop; it alone is scaled,
    and the last target is the clean signal. SNRs are ratios of variances over a clip, each signal's mean removed, as
    in the source; what is scaled and added is the noise with its mean.

    Args:
        loss: module.Class under senet.losses, between waveforms.
        loss_conf: its arguments.
        weights: one per stage of the model.
        target: SNR of target k = 1, 2, ... before the last.
            ``absolute``: (k - 1) * step_db whatever the input's, which asks the early stages for more noise than there
            is in good recordings (Acceleration123/Speech-Enhancement). ``absolute_max``: that or the input's, whichever
            is higher. ``gain``: k * step_db above the input's.
        step_db: between targets, above 0.
    Raises:
        UserError: the inner loss compares spectra, where mixtures are no sums once compressed; no such target; targets
            that do not rise.
    Source: the idea as T. Gao, J. Du, L.-R. Dai, C.-H. Lee, "SNR-based progressive learning of deep neural network for
        speech enhancement", Interspeech 2016; weights of 1 as Acceleration123/Speech-Enhancement (from memory, the
        literature weighs the earlier stages by 0.1).
    """

    def __init__(
        self,
        loss: str,
        loss_conf: dict | None = None,
        weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0),
        target: str = "absolute",
        step_db: float = 5.0,
    ):
        super().__init__(loss, loss_conf, weights)
        if self.domain != "waveform":
            raise UserError(
                f"loss_conf.loss: Progressive mixes waveforms, but {loss} compares spectra; "
                "take one of senet.losses.resynthesis or senet.losses.waveform"
            )
        require_choice("loss_conf.target", target, ("absolute", "absolute_max", "gain"))
        require_above_zero("loss_conf", step_db=step_db)
        self.target, self.step_db = target, step_db
        self.needs = tuple(dict.fromkeys((*self.needs, "clean", "noisy")))

    def targets(self, refs: dict[str, Tensor], lengths: Tensor, k: int) -> dict[str, Tensor]:
        """The references of stage ``k``, counted from 1: ``clean`` is its target."""
        if k == len(self.weights):
            return refs
        noise = refs["noisy"] - refs["clean"]
        return refs | {"clean": refs["clean"] + self._factor(refs["clean"], noise, lengths, k) * noise}

    def _factor(self, clean: Tensor, noise: Tensor, lengths: Tensor, k: int) -> Tensor | float:
        """What the noise (B, N) is multiplied by for target ``k``: finite, (B, 1) or a number."""
        if self.target == "gain":
            return 10 ** (-k * self.step_db / 20)
        # Finite where there is no noise; 1e-12 is far below what rounding to 16 bit leaves, 8e-11.
        ratio = _variance(clean, lengths) / _variance(noise, lengths).clamp_min(1e-12)
        factor = (ratio * 10 ** (-(k - 1) * self.step_db / 10)).sqrt()
        return factor.clamp_max(1) if self.target == "absolute_max" else factor


def _variance(wave: Tensor, lengths: Tensor) -> Tensor:
    """Over the valid samples of each clip, (B, N) -> (B, 1)."""
    mask, lengths = valid(lengths, wave), lengths[:, None]
    mean = (wave * mask).sum(1, keepdim=True) / lengths
    return ((wave - mean) * mask).square().sum(1, keepdim=True) / lengths
