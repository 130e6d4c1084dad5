"""The exponential moving average of a model's weights, which is evaluated and kept in their place.

``torch.optim.swa_utils.AveragedModel`` gives the same numbers; it walks through the modules and copies buffer by buffer
in each update, which takes 20 times as long for a model of 200 small layers.
"""

import copy

import torch

from senet import checkpoint
from senet.errors import UserError


class Weights:
    """A model's weights: those that are trained, and those that are evaluated and enhance, which may be their average.

    After the first update the average is equal to the weights, after each further one it is
    ``decay * average + (1 - decay) * weights``. Buffers, such as running statistics, are copied as they are.

    Args:
        model: the model that is trained, on its device.
        decay: 0, where the trained weights themselves are evaluated, to below 1.
    Attributes:
        trained: the model.
        evaluated: the same, or a copy of it that holds the averages.
    Raises:
        UserError: any other decay.
    """

    def __init__(self, model, decay=0.0):
        if not 0 <= decay < 1:
            raise UserError(f"ema_decay is {decay}, expected 0 (no average) to below 1, such as 0.999")
        self.decay, self.updates = decay, 0
        self.trained = self.evaluated = model
        if decay:
            self.evaluated = copy.deepcopy(model).requires_grad_(False)
            both = self.evaluated, self.trained
            self._parameters, self._buffers = [list(m.parameters()) for m in both], [list(m.buffers()) for m in both]

    @torch.no_grad()
    def update(self):
        """After each update of the trained weights."""
        if self.decay:
            torch._foreach_lerp_(*self._parameters, 1 - self.decay if self.updates else 1.0)
            if self._buffers[0]:
                torch._foreach_copy_(*self._buffers)
            self.updates += 1

    def state_dict(self):
        """``model``: the evaluated weights; and, where these are an average, what training goes on from."""
        state = {"model": self.evaluated.state_dict()}
        if self.decay:
            state["trained"] = {"weights": self.trained.state_dict(), "updates": self.updates}
        return state

    def load_state_dict(self, state):
        """Take up ``state_dict``; other entries of ``state`` are left alone.

        Raises:
            UserError: weights of another model, or with an average where there is none here, or the reverse.
        """
        if ("trained" in state) != bool(self.decay):
            here, there = ("an", "none") if self.decay else ("no", "one")
            raise UserError(f"ema_decay: {here} average of the weights is wanted, and the checkpoint holds {there}")
        checkpoint.require_fit(self.evaluated.state_dict(), state["model"])
        self.evaluated.load_state_dict(state["model"])
        if self.decay:
            self.trained.load_state_dict(state["trained"]["weights"])
            self.updates = state["trained"]["updates"]
