"""What ``optim:`` may name: the optimisers of ``torch.optim``, and those here that torch lacks."""

import torch
from torch.optim import *  # noqa: F403 (found under the same name as ours)

__all__ = [*torch.optim.__all__, "RMSpropTF"]


class RMSpropTF(torch.optim.Optimizer):
    """RMSprop as TensorFlow 1 computes it, without momentum: what the SEGAN family was trained with.

    v <- decay v + (1 - decay) g^2 with v = 1 at the start, and x <- x - lr g / sqrt(v + eps). torch's RMSprop starts
    with v = 0, decays by 0.99 and adds eps to the root. As gradients are much smaller than 1, the first steps here are
    small: the rate warms up by itself, over some 50 to 100 steps.

    Args:
        lr: learning rate. decay: of the mean square. eps: added to the mean square, inside the root.
    Raises:
        ValueError: a value outside its range.
    Source: TensorFlow 1, tf.train.RMSPropOptimizer, with its defaults.
    """

    def __init__(self, params, lr: float = 2e-4, decay: float = 0.9, eps: float = 1e-10):
        if lr < 0 or not 0 <= decay < 1 or eps <= 0:
            raise ValueError(f"lr {lr}, decay {decay}, eps {eps}; expected lr >= 0, 0 <= decay < 1, eps > 0")
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        """One update of all parameters that have a gradient; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            squares = [self._mean_square(p) for p in params]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, -group["lr"])
        return loss

    def _mean_square(self, parameter):
        state = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter, memory_format=torch.preserve_format)
        return state["mean_square"]
