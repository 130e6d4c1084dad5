"""What is known of a trained model, without torch: ``Enhancer.info``, and the record in a pack.

Of the machine it was trained on nothing goes along but its processors: no host, no command line, of a path its name.
"""

import json
import sys
from pathlib import Path

from senet import config
from senet.errors import UserError
from senet.infer.pack import Pack

NOT_STATED = "not stated: ask who made it before you use it"
_PLACES = {"config", "train", "valid", "data", "expdir", "init_from"}  # options of training that are paths


def is_pack(path):
    """Whether a model's ``path`` is a pack's; otherwise it is the folder of an experiment.

    Raises:
        UserError: there is neither; says what was meant, perhaps.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "config.yaml").exists() and (
            below := sorted(found.parent for found in path.glob("*/config.yaml"))
        ):
            raise UserError(f"{path}: no trained model, but there are some below it: {', '.join(map(str, below))}")
        return False
    if not path.is_file():
        raise UserError(f"{path}: no such model; expected an experiment, such as exp/train_lowlatency, or a pack")
    folder = next((above for above in path.parents[:2] if (above / "config.yaml").exists()), None)
    if folder and path.suffix in (".pt", ".yaml", ".json"):
        which = f", and as the checkpoint {path.name}" if path.suffix == ".pt" else ""
        raise UserError(f"{path}: part of an experiment; give its folder, {folder}{which}")
    return True


def model_options(path):
    """{"model": ..., "model_conf": ...} of an experiment or a pack."""
    options = Pack(path).record if is_pack(path) else config.load_resolved(path)
    if "model" not in options:
        raise UserError(f"{Path(path) / 'config.yaml'}: names no 'model'; it is not of senet.bin.train")
    return {"model": options["model"], "model_conf": options.get("model_conf") or {}}


def of_experiment(path, model, options, checkpoint):
    """The record of an experiment's model; see ``senet.infer.pack.FIELDS``.

    Args:
        path: ``exp/<tag>``.
        model: its model, with the weights in question.
        options: of config.yaml.
        checkpoint: which weights these are.
    Returns:
        the record, without scores: ``senet pack`` adds them.
    """
    path = Path(path)
    made = _read(path / "record.json")
    doc = (sys.modules[type(model).__module__].__doc__ or "").strip()
    return {
        "name": path.resolve().name,
        "description": "",
        "licence": NOT_STATED,
        "about": "\n\n".join(" ".join(part.split()) for part in doc.split("\n\n")[:2]),  # title, papers
        "model": options["model"],
        "model_conf": options["model_conf"],
        "sample_rate": model.sample_rate,
        "causal": model.causal,
        "latency": model.latency,
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs_per_second": made.get("macs_per_second"),
        "training": _training(path, made, checkpoint),
        "scores": {},
    }


def _training(path, made, checkpoint):
    known = ("epochs", "git", "processes", "seed", "training_seconds", "unfinished", "updates", "validation_loss",
             "versions", "written")  # fmt: skip
    recipe = path.resolve().parents[1]
    how_far = _read(path / "status.json")
    begun = {"init_from": _named(made["init_from"])} if "init_from" in made else {}
    if how_far.get("state") not in (None, "finished"):
        made = {"unfinished": f"{how_far['state']} at step {how_far.get('step', '?')}"} | made
    training = {
        "recipe": recipe.name if (recipe / "path.sh").exists() else None,
        "checkpoint": checkpoint,
        **begun,
        "data": {what: _named(found) for what, found in made.get("data", {}).items()},
        "hardware": {name: made.get("hardware", {}).get(name) for name in ("cpu", "gpus")},
        "config": {k: v for k, v in config.load_resolved(path).items() if k not in _PLACES},
        **{name: made[name] for name in known if name in made},
    }
    return _without_folders(training)


def _without_folders(value):
    """Plain values in which absolute paths are shortened to their last part."""
    if isinstance(value, dict):
        return {k: _without_folders(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_folders(v) for v in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _named(found):
    return {k: v for k, v in found.items() if k != "path"} | {"name": Path(found["path"]).name}


def _read(path):
    """What a JSON file says; nothing where there is none, or where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
