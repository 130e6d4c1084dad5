"""Many recordings in several processes, each with its model."""

import functools
import hashlib

from senet.infer import load
from senet.infer.enhance import WINDOW_SECONDS
from senet.infer.item import How, enhance_items


class Worker:
    """A model that is loaded where it is first needed: pickled, it is the instruction how.

    Args:
        model, checkpoint, device: as ``senet.load_model`` takes them.
        window, batch_size: see Enhancer.
    """

    def __init__(self, model, checkpoint="best", device="cpu", window=WINDOW_SECONDS, batch_size=1):
        self.model, self.checkpoint, self.device = model, checkpoint, device
        self.window, self.batch_size = window, batch_size

    @functools.cached_property
    def enhancer(self):
        enhancer = load.load_model(self.model, self.checkpoint, self.device)
        enhancer.window, enhancer.batch_size = self.window, self.batch_size
        return enhancer

    def identity(self, how):
        """Hexadecimal digest: an equal one gives equal results."""
        weights = load.identity(self.model, self.enhancer.model)
        options = (*how, self.window)
        if options == (*How(), WINDOW_SECONDS):
            return weights
        return hashlib.sha256(f"{weights} {options}".encode()).hexdigest()

    def __getstate__(self):
        return {k: v for k, v in vars(self).items() if k != "enhancer"}


def workers(number, ngpu, **options):
    """``number`` Workers, on ``ngpu`` GPUs in turn, or on the CPU."""
    return [Worker(**options, device=f"cuda:{i % ngpu}" if ngpu else "cpu") for i in range(number)]


class Enhance:
    """``enhance_items`` by the model of a Worker."""

    def __init__(self, worker, how):
        self.worker, self.how = worker, how

    def __call__(self, items):
        return enhance_items(self.worker.enhancer, items, self.how)
