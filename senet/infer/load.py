"""From an experiment folder, or from a pack, to a model that is ready to run."""

import contextlib
import hashlib
import json
import re
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules import module as registration

from senet import __version__, config
from senet import checkpoint as checkpoints
from senet.errors import UserError
from senet.infer import record
from senet.infer.card import harmless
from senet.infer.enhance import Enhancer
from senet.infer.pack import DTYPES, Pack
from senet.infer.record import is_pack, model_options

# What a stranger's configuration may ask for, far above what any model here does.
MAX_NUMBER = 1 << 20  # of a size or a rate
MAX_VALUES = 1000  # altogether, those in lists counted one by one
MAX_TEXT = 100  # characters
MAX_COMPUTED = 1 << 28  # bytes of what is not stored but computed, such as windows
MAX_PARTS = 1000, 20  # modules, parameters and buffers: so many, and so many more for each stored tensor


def load_model(path: str | Path, checkpoint: str = "best", device: str | torch.device = "cpu") -> Enhancer:
    """A trained model, ready to enhance.

    Args:
        path: an experiment folder, ``exp/<tag>``, or a pack, ``name.senet``, which is safe to open whoever made it.
        checkpoint: of an experiment: ``"best"`` (by validation loss), ``"last"``, the name of a checkpoint file, or
            ``"mean_best_N"`` or ``"mean_last_N"``, the mean of the weights of N checkpoints. A pack has one.
        device: where it shall run, such as ``"cuda"``.
    Returns:
        an Enhancer; what is known of the model is its ``info``. Its ``model`` is in evaluation mode, without gradients.
    Raises:
        UserError: there is no such model, or it is damaged, of another configuration, or of a newer senet; says which.
            Or there is no such device.
    """
    device = _device(device)
    if is_pack(path):
        if checkpoint != "best":
            raise UserError(f"{path}: a pack has one set of weights and no checkpoint '{checkpoint}'; leave that out")
        pack = Pack(path)
        model = _of_pack(pack)
        info = pack.record | {"causal": model.causal, "latency": model.latency}  # known better since, perhaps
    else:
        model = _of_experiment(path, checkpoint)
        info = record.of_experiment(path, model, model_options(path), checkpoint)
    return Enhancer(model.to(device).eval().requires_grad_(False), info)


def _device(device):
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the second of a torch without CUDA
        there = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        raise UserError(f"device {str(device)!r}: cannot be used here; there is {', '.join(there)}") from error


def read_weights(path):
    """{name: tensor} of a model, whatever it is: the best checkpoint of an experiment, a pack, a checkpoint's file.

    Raises:
        UserError: there is nothing of the kind, or it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _weights(path / "checkpoints", "best")
    return _model_of(path, checkpoints.load_file(path)) if path.suffix == ".pt" else Pack(path).tensors()


def identity(path, model):
    """Hexadecimal digest of a loaded model: equal weights and equal configuration give an equal one."""
    h = hashlib.sha256(json.dumps(model_options(path), sort_keys=True).encode())
    for name, value in model.state_dict().items():
        h.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


# ---------------------------------------------------------------- experiments


def _of_experiment(path, which):
    options = model_options(path)
    model = config.build("models", options["model"], options["model_conf"])
    weights = _weights(Path(path) / "checkpoints", which)
    try:
        checkpoints.require_fit(model.state_dict(), weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    model.load_state_dict(weights)
    return model


def _weights(folder, which):
    if match := re.fullmatch(r"mean_(best|last)_([1-9]\d*)", which):
        return checkpoints.load_mean(folder, match[1], int(match[2]))
    return _model_of(folder, checkpoints.load(folder, which))


def _model_of(path, state):
    if not isinstance(state, dict) or "model" not in state:
        found = ", ".join(state) if isinstance(state, dict) else type(state).__name__
        raise UserError(f"{path}: no model in the checkpoint, only {found}; it is not of senet.bin.train")
    return state["model"]


# ---------------------------------------------------------------- packs


def _of_pack(pack):
    """The model, built only after it is known to have the sizes of the stored tensors."""
    dotted, conf = pack.record["model"], pack.record["model_conf"]
    try:
        _require_model(dotted)
        for count, (name, value) in enumerate(_values("model_conf", conf)):
            _require_small(name, value, count)
        with torch.device("meta"), _few_parts(len(pack.table)):  # sizes without memory
            _require_fit(config.build("models", dotted, conf), pack)
        model = config.build("models", dotted, conf)
    except UserError as error:
        other = "" if pack.made_by == __version__ else f" (made by senet {pack.made_by}, this is {__version__})"
        raise UserError(harmless(f"{pack.path}{other}: {error}")) from None
    except Exception as error:  # what a class does with values that it was never meant for
        reason = harmless(f"{type(error).__name__}: {error}".partition("\n")[0])
        raise UserError(f"{pack.path}: its model_conf builds no model ({reason})") from error
    model.load_state_dict(pack.tensors())
    return model


def _require_model(dotted):
    """A class that a file of senet.models defines, and not one that it only uses."""
    cls = config.locate("models", dotted, "model")
    home = f"senet.models.{dotted.rpartition('.')[0]}"
    if not issubclass(cls, nn.Module) or cls.__module__ != home or not hasattr(cls, "stages"):
        raise UserError(f"model: '{dotted}' is no model of senet.models")


def _values(name, value):
    """(name, value) of a mapping or a list and of all that is in it, with dots between names."""
    yield name, value
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _values(f"{name}.{key}", item)


def _require_small(name, value, count):
    if count > MAX_VALUES:
        raise UserError(f"model_conf has more than {MAX_VALUES} values, and a pack's has at most as many")
    if isinstance(value, int | float) and abs(value) > MAX_NUMBER:
        raise UserError(f"{name} is too large a number, and a pack's are at most {MAX_NUMBER}")
    if len(name) > MAX_TEXT or (isinstance(value, str) and len(value) > MAX_TEXT):
        raise UserError(f"{name[:MAX_TEXT]} is longer than {MAX_TEXT} characters")


@contextlib.contextmanager
def _few_parts(tensors):
    """Stop what is built here when it gets more modules, parameters and buffers than a model of ``tensors`` has."""
    left = MAX_PARTS[0] + MAX_PARTS[1] * tensors

    def count(*_):
        nonlocal left
        left -= 1
        if left < 0:
            raise UserError(f"model_conf: has more parts than a model of {tensors} stored tensors")

    kinds = "parameter", "buffer", "module"
    hooks = [getattr(registration, f"register_module_{kind}_registration_hook")(count) for kind in kinds]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _require_fit(model, pack):
    """Compare a model on the meta device with what is stored, and with what the record says of it."""
    expected = {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in model.state_dict().items()}
    found = {name: (DTYPES[dtype], shape) for name, (dtype, shape, *_) in pack.table.items()}
    for name in [*expected, *(n for n in found if n not in expected)]:
        stored, wanted = (f"{of[name][0]} {of[name][1]}" if name in of else "absent" for of in (found, expected))
        if stored != wanted:
            raise UserError(f"'{name}' is {stored} in the pack and {wanted} in its model; its record is of another one")
    computed = sum(t.nbytes for t in [*model.parameters(), *model.buffers()]) - pack.size
    if computed > MAX_COMPUTED:
        raise UserError(f"model_conf: asks for {computed} bytes beside the stored weights")
    known = {"sample_rate": model.sample_rate, "parameters": sum(p.numel() for p in model.parameters())}
    for name, value in known.items():
        if pack.record[name] != value:
            raise UserError(f"{name} is {pack.record[name]} in its record and {value} in its model")
