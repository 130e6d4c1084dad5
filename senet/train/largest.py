"""How many items fit into memory at a time."""

import copy
import logging

import torch

from senet.train.distributed import Group
from senet.train.updater import forget, is_out_of_memory

log = logging.getLogger(__name__)


def largest_micro_batch(objective, heaviest, most):
    """The largest number of items, up to ``most``, that a step has memory for; the objective is as it was afterwards.

    Args:
        objective: see ``senet.train.supervised``; its updates, micro-batches or not, are of ``Updater``.
        heaviest: ``heaviest(n)`` -> a batch of n items as large as any, on the device.
        most: is tried first.
    Raises:
        torch.OutOfMemoryError, RuntimeError: not even one fits.
    """
    settings = [(updater, updater.micro_batch, updater.oom, updater.group) for updater in objective.updaters]
    state, seed = copy.deepcopy(objective.state_dict()), torch.initial_seed()
    for updater in objective.updaters:
        updater.micro_batch, updater.oom, updater.group = None, "stop", Group()
    try:
        fitting, failing, tried = 0, most + 1, most
        while failing - fitting > 1:
            error = _step(objective, heaviest, tried)
            if error is None:
                fitting = tried
            else:
                failing = tried
                if failing == 1:
                    raise error
            tried = (fitting + failing) // 2
    finally:
        for updater, micro_batch, oom, group in settings:
            updater.micro_batch, updater.oom, updater.group = micro_batch, oom, group
            updater.optimizer.zero_grad(set_to_none=True)
        objective.load_state_dict(state)
        torch.manual_seed(seed)
        forget()
    log.info("memory suffices for %d items at a time%s", fitting, ": all of a batch" if fitting == most else "")
    return fitting


def _step(objective, heaviest, n):
    """The error of a step with n items, if it is out of memory."""
    try:
        objective.step(heaviest(n))
    except FloatingPointError:
        pass  # of what an item holds is nothing asked here
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return error.with_traceback(None)  # which would hold on to what was in memory
    finally:
        forget()
    return None
