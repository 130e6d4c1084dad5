"""From an experiment folder to a model that is ready to run."""

import hashlib
import json
import re
from pathlib import Path

import torch

from senet import checkpoint, config
from senet.errors import UserError


def load_model(path, which="best", device="cpu"):
    """The trained model of an experiment.

    Args:
        path: ``exp/<tag>``, with config.yaml and checkpoints/.
        which: ``"best"`` (by validation loss), ``"last"``, the name of a checkpoint file, or ``"mean_best_N"`` or
            ``"mean_last_N"``, the mean of the weights of N checkpoints.
        device: where it shall run.
    Returns:
        the model in evaluation mode, without gradients; ``forward(noisy (B, N)) -> (B, N)`` at ``sample_rate`` Hz.
    Raises:
        UserError: no such experiment, a damaged checkpoint, or one of a model other than config.yaml's (names the key).
    """
    options = _model_options(path)
    model = config.build("models", options["model"], options["model_conf"])
    weights = _weights(Path(path) / "checkpoints", which, device)
    try:
        checkpoint.require_fit(model.state_dict(), weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    model.load_state_dict(weights)
    return model.to(device).eval().requires_grad_(False)


def identity(path, model):
    """Hexadecimal digest of a loaded model: equal weights and equal configuration give an equal one."""
    h = hashlib.sha256(json.dumps(_model_options(path), sort_keys=True).encode())
    for name, value in model.state_dict().items():
        h.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def _weights(folder, which, device):
    if match := re.fullmatch(r"mean_(best|last)_([1-9]\d*)", which):
        return checkpoint.load_mean(folder, match[1], int(match[2]), map_location=device)
    state = checkpoint.load(folder, which, map_location=device)
    if "model" not in state:
        raise UserError(f"{folder}: no model in the checkpoint, only {', '.join(state)}; it is not of senet.bin.train")
    return state["model"]


def _model_options(path):
    if not Path(path).is_dir():
        raise UserError(f"{path}: no such folder; --model wants an experiment, such as exp/train_lowlatency")
    options = config.load_resolved(path)
    if "model" not in options:
        raise UserError(f"{Path(path) / 'config.yaml'}: names no 'model'; it is not of senet.bin.train")
    return {"model": options["model"], "model_conf": options.get("model_conf") or {}}
