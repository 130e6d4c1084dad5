"""The exponential moving average of a model's weights, which is evaluated and kept in their place."""

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from senet import checkpoint
from senet.errors import UserError


class Weights:
    """A model's weights: those that are trained, and those that are evaluated and enhance, which may be their average.

    After the first update the average is equal to the weights, after each further one it is
    ``decay * average + (1 - decay) * weights``. Buffers, such as running statistics, are copied as they are.

    Args:
        model: the model that is trained.
        decay: 0, where the trained weights themselves are evaluated, to below 1.
    Raises:
        UserError: any other decay.
    """

    def __init__(self, model, decay=0.0):
        if not 0 <= decay < 1:
            raise UserError(f"ema_decay is {decay}, expected 0 (no average) to below 1, such as 0.999")
        self.trained = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None

    @property
    def evaluated(self):
        """The model to evaluate; another object than ``trained`` where there is an average."""
        return self._average.module if self._average else self.trained

    def update(self):
        """After each update of the trained weights."""
        if self._average:
            self._average.update_parameters(self.trained)

    def state_dict(self):
        """``model``: the evaluated weights; and, where these are an average, what training goes on from."""
        state = {"model": self.evaluated.state_dict()}
        if self._average:
            state["trained"] = {"weights": self.trained.state_dict(), "updates": int(self._average.n_averaged)}
        return state

    def load_state_dict(self, state):
        """Take up ``state_dict``; other entries of ``state`` are left alone.

        Raises:
            UserError: weights of another model, or with an average where there is none here, or the reverse.
        """
        if ("trained" in state) != bool(self._average):
            here, there = ("an", "none") if self._average else ("no", "one")
            raise UserError(f"ema_decay: {here} average of the weights is wanted, and the checkpoint holds {there}")
        checkpoint.require_fit(self.evaluated.state_dict(), state["model"])
        self.evaluated.load_state_dict(state["model"])
        if self._average:
            self.trained.load_state_dict(state["trained"]["weights"])
            self._average.n_averaged.fill_(state["trained"]["updates"])
