"""From an experiment folder to a model that is ready to run."""

import hashlib
import json
from pathlib import Path

import torch

from senet import checkpoint, config
from senet.errors import UserError


def load_model(path, which="best", device="cpu"):
    """The trained model of an experiment.

    Args:
        path: ``exp/<tag>``, with config.yaml and checkpoints/.
        which: ``"best"`` (by validation loss), ``"last"``, or the name of a checkpoint file.
        device: where it shall run.
    Returns:
        the model in evaluation mode, without gradients; ``forward(noisy (B, N)) -> (B, N)`` at ``sample_rate`` Hz.
    Raises:
        UserError: no such experiment, a damaged checkpoint, or one of a model other than config.yaml's (names the key).
    """
    options = _model_options(path)
    model = config.build("models", options["model"], options["model_conf"])
    folder = Path(path) / "checkpoints"
    state = checkpoint.load(folder, which, map_location=device)
    if "model" not in state:
        raise UserError(f"{folder}: no model in the checkpoint, only {', '.join(state)}; it is not of senet.bin.train")
    _require_fit(model.state_dict(), state["model"], path)
    model.load_state_dict(state["model"])
    return model.to(device).eval().requires_grad_(False)


def identity(path, model):
    """Hexadecimal digest of a loaded model: equal weights and equal configuration give an equal one."""
    h = hashlib.sha256(json.dumps(_model_options(path), sort_keys=True).encode())
    for name, value in model.state_dict().items():
        h.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def _model_options(path):
    if not Path(path).is_dir():
        raise UserError(f"{path}: no such folder; --model wants an experiment, such as exp/train_lowlatency")
    options = config.load_resolved(path)
    if "model" not in options:
        raise UserError(f"{Path(path) / 'config.yaml'}: names no 'model'; it is not of senet.bin.train")
    return {"model": options["model"], "model_conf": options.get("model_conf") or {}}


def _require_fit(expected, found, path):
    """Refuse weights of another configuration, naming the first that differs."""
    for name in [*expected, *(n for n in found if n not in expected)]:
        shapes = [tuple(state[name].shape) if name in state else "absent" for state in (expected, found)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{path}: the checkpoint is not of the model in config.yaml: '{name}' is {shapes[1]} in the checkpoint "
                f"and {shapes[0]} in the model; config.yaml was changed after training, or two experiments were mixed"
            )
