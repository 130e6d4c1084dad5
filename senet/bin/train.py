"""Train a model: stage 4 of every recipe; run again, it continues where it was."""

import atexit
import gc
import logging
import sys
from pathlib import Path

from senet import config
from senet.bin import run, setup_logging
from senet.errors import UserError
from senet.signals import AGAIN, on_stop
from senet.train.options import get_parser, objective_class

log = logging.getLogger(__name__)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = get_parser()
    args = parser.parse(argv)
    dry_run = vars(args).pop("dry_run")

    setup_logging()
    atexit.register(gc.freeze)  # or it looks through all of torch for cycles, seconds where others compute as well
    with on_stop(nothing_saved):
        return start(args, parser, argv, dry_run)


def start(args, parser, argv, dry_run):
    """What the options and the environment ask of this process."""
    defaults = resolve_options(args, parser)
    from senet.train import session
    from senet.train.build import choose_device, kept_checkpoints
    from senet.train.distributed import find_place, leave
    from senet.train.launch import launch

    place = find_place()
    device = choose_device(args, place)
    if dry_run:
        number, size = kept_checkpoints(args)
        print(f"{args.expdir}: at most {number} checkpoints at a time, {number * size} bytes")
        return 0
    if args.ngpu > 1 and place.world == 1:
        return launch([sys.executable, "-m", "senet.bin.train", *argv], args.ngpu)
    if place.world == 1:
        return session.train(args, defaults, argv, place, device, initial_weights)
    try:
        status = run(lambda _: session.train(args, defaults, argv, place, device, initial_weights))
    except SystemExit as stop:
        status = stop.code
    return leave(status)


def initial_weights(path):
    from senet.infer.load import read_weights

    return read_weights(path)


def nothing_saved(number):
    """At a signal while nothing is trained."""
    log.warning("%s: there was nothing to save; the same command continues", number.name)
    raise SystemExit(AGAIN)


SMALLEST = {
    "ngpu": 0, "batch_size": 1, "num_workers": 0, "warmup_steps": 0, "grad_clip": 0, "max_epoch": 1, "max_steps": 0,
    "patience": 0, "seed": 0, "log_every": 1, "save_every": 0, "keep_best": 0, "keep_last": 0, "max_nonfinite": 1,
    "tensorboard_audio": 0, "join_seconds": 1, "num_threads": 1,
}  # fmt: skip


def resolve_options(args, parser):
    """Fill in what depends on classes or on the machine, so that config.yaml says everything; return the defaults."""
    for name, least in SMALLEST.items():
        value = getattr(args, name)
        if value is not None and not value >= least:
            raise UserError(f"--{name} {value}: expected at least {least}")
    begun = Path(args.expdir, "checkpoints", "index.json").exists()
    if args.init_from and not begun and not Path(args.init_from).exists():
        raise UserError(
            f"--init_from {args.init_from}: nothing is there; give an experiment, a pack or a checkpoint's file"
        )
    if args.mix_device == "gpu" and not Path(args.train).is_file():
        raise UserError(f"--mix_device gpu: --train {args.train} is stored, there is nothing to mix; leave it out")
    if args.num_workers is None:
        args.num_workers = 4 if args.ngpu else 0
    defaults = {name: parser.get_default(name) for name in vars(args)}
    defaults["mix_conf"], args.mix_conf = resolve_mixing(args)
    for conf, kind, dotted, extra in (
        ("model_conf", "models", args.model, None),
        ("loss_conf", "losses", args.loss, None),
        ("objective_conf", *objective_class(args), vars(args)),  # the optimiser and so on are options of their own
    ):
        if dotted is not None:
            defaults[conf] = config.resolve(kind, dotted, extra=extra)
            setattr(args, conf, config.resolve(kind, dotted, getattr(args, conf), extra))
    return defaults


# What training decides by itself, or plans alone have.
NOT_MIXED_BY = {
    "config", "data", "out", "sample_rate", "seed", "allow_pipes", "nj", "plan", "job", "collect", "dry_run",
    "about_hours",
}  # fmt: skip


def resolve_mixing(args):
    """Options of senet.bin.mix: the defaults, and those that ``args`` ask for; both empty for a data directory."""
    path = Path(args.train)
    if not path.is_file():
        if args.mix_conf:
            raise UserError(f"--mix_conf: --train {path} is not a mixing configuration such as conf/mix_train.yaml")
        return {}, {}
    from senet.bin.mix import get_parser

    parser = get_parser()
    out = ["--out", path.stem]
    defaults = {k: parser.get_default(k) for k in parser.option_names() if k not in NOT_MIXED_BY | {"help"}}
    for key in args.mix_conf:
        if key not in defaults:
            hint = config.did_you_mean(key, defaults)
            raise UserError(f"--mix_conf.{key}: there is no such option;{hint} There are {', '.join(defaults)}.")
    in_file = vars(parser.parse(["--config", str(path), *out]))
    words = []
    for key, value in ((k, args.mix_conf.get(k, in_file[k])) for k in defaults):
        if value is not None:
            words += [f"--{key}", *map(str, value)] if isinstance(value, list) else [f"--{key}={value}"]
    found = vars(parser.parse([*out, *words]))
    if found["policy"] == "pairs":
        raise UserError(
            f"{path}: policy pairs has nothing to mix; train on the data directory that senet.bin.mix makes"
        )
    return defaults, {key: found[key] for key in defaults}


if __name__ == "__main__":
    sys.exit(run(main))
