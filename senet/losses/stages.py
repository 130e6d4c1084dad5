"""Losses over the stages of a model, each compared by another loss."""

from torch import Tensor, nn

from senet import config
from senet.errors import UserError


class Stages(nn.Module):
    """Weighted sum of one loss over all stages, each compared with the clean signal.

    Args:
        loss: module.Class under senet.losses, of the last stage in its own right.
        loss_conf: its arguments.
        weights: one per stage of the model.
    Raises:
        UserError: when called with another number of stages.
    """

    def __init__(self, loss: str, loss_conf: dict | None = None, weights: tuple[float, ...] = (1.0,)):
        super().__init__()
        self.loss, self.weights = config.build("losses", loss, loss_conf), weights
        self.domain, self.needs = self.loss.domain, self.loss.needs

    def forward(self, stages: list[Tensor], refs: dict[str, Tensor], lengths: Tensor):
        """Args: stages and refs as the inner loss takes them. Returns: loss, the last stage's terms and each loss."""
        if len(stages) != len(self.weights):
            raise UserError(
                f"loss_conf.weights: {len(self.weights)} weights, but the model has {len(stages)} stages; "
                "give one for each"
            )
        total, values = 0.0, {}
        for k, (estimate, weight) in enumerate(zip(stages, self.weights, strict=True), 1):
            value, terms = self.loss([estimate], self.targets(refs, lengths, k), lengths)
            total = total + weight * value
            values[f"stage{k}"] = value.detach()
        return total, terms | values

    def targets(self, refs: dict[str, Tensor], lengths: Tensor, k: int) -> dict[str, Tensor]:
        """The references of stage ``k``, counted from 1."""
        return refs
