"""How a network is run in training: in which precision, compiled or not, and what it keeps for the gradient.

Evaluation runs the network as it is: recordings have all lengths, for each of which something would be compiled anew,
and its losses can be compared with those of another precision.
"""

import functools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from senet.train.precision import rounding


def prepared(network, method, precision="fp32", compile=False, checkpointing=False):
    """A method of a network, to be called in training, with float32 results.

    Args:
        network: on its device.
        method: such as "network" or "stages"; returns a list of tensors.
        precision: see ``senet.train.precision``.
        compile: by torch.compile: the first steps take minutes.
        checkpointing: keep what goes into each block of layers, and compute the rest again when the gradient needs it.
    """
    if checkpointing:
        checkpoint_blocks(network)
    function = torch.compile(getattr(network, method)) if compile else lambda *args: getattr(network, method)(*args)
    device = next(network.parameters()).device
    return rounding(function, device, precision)


def checkpoint_blocks(network):
    """Let the blocks of a network, the entries of its outermost lists and sequences, forget what is inside them.

    Blocks with running statistics are left as they are: computing twice would move these twice.
    """
    for block in _blocks(network):
        if not any(True for _ in _running(block)):
            block.forward = functools.partial(_forward, block, block.forward)


def _blocks(module):
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.Sequential) and len(child) > 1:
            yield from child
        else:
            yield from _blocks(child)


def _running(block):
    kept = block.state_dict(keep_vars=True)
    return (name for name, _ in block.named_buffers() if name in kept)


def _forward(block, forward, *args, **options):
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, *args, use_reentrant=False, **options)
    return forward(*args, **options)
