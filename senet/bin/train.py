"""Train a model: stage 4 of every recipe; run again, it continues where it was."""

import argparse
import contextlib
import functools
import logging
import math
import os
import sys
from pathlib import Path

from senet import config
from senet.bin import run, setup_logging
from senet.errors import UserError
from senet.lock import Lock
from senet.signals import AGAIN, on_stop

log = logging.getLogger(__name__)


def get_parser():
    parser = config.Parser(
        description=(
            "Train a model into --expdir: config.yaml (all options), checkpoints/, train.log, train.jsonl, "
            "status.json, tensorboard/, record.json, run.sh. An unfinished experiment is continued at the step where "
            "it was saved last. SIGTERM, SIGINT and SIGUSR1 save within a step and end it with status 75: the same "
            "command continues, and slurm.py and queue.py requeue the job. Keys of *_conf options are set one by one "
            "with a dot: --model_conf.n_layers 4."
        )
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--train",
        required=True,
        metavar="PATH",
        help="data directory to train on; or a mixing configuration (conf/mix_train.yaml), to mix while training",
    )
    data.add_argument("--data", default="data", metavar="DIR", help="folder of the source sets to mix from")
    data.add_argument(
        "--mix_conf",
        type=config.mapping,
        default={},
        help="options of senet.bin.mix that differ from the mixing configuration; num_clips are an epoch",
    )
    data.add_argument(
        "--mix_device",
        choices=["cpu", "gpu"],
        default="cpu",
        help="mix in the processes that read, or, a batch at a time, on the device of the model",
    )
    data.add_argument("--valid", required=True, metavar="DIR", help="data directory to validate on, whole utterances")
    data.add_argument("--feats_type", choices=["raw", "stft"], default="raw", help="audio, or stored spectra")
    data.add_argument(
        "--batch_size",
        type=int,
        default=8,
        help="utterances (or parts of them) per update, of all processes together: each computes its share",
    )
    data.add_argument(
        "--batch_seconds",
        type=config.optional(float),
        default=None,
        help="whole utterances (no crop_seconds): audio per update, padding included, in place of batch_size",
    )
    data.add_argument(
        "--micro_batch",
        type=auto_or_number,
        default=None,
        help="of these, how many are computed at a time: the update is that of the whole batch, for less memory (batch "
        "norm takes its statistics of the part); null: all; auto: as many as fit, which is tried first",
    )
    data.add_argument(
        "--crop_seconds",
        type=config.optional(float),
        default=None,
        help="random part of each utterance; null: all of it",
    )
    data.add_argument(
        "--crop_hop_seconds",
        type=config.optional(float),
        default=None,
        help="with crop_seconds: all complete parts of each utterance that begin at multiples of this, in each epoch",
    )
    data.add_argument(
        "--bad_audio",
        choices=["raise", "skip"],
        default="raise",
        help="stop at audio that cannot be used (met in the parts that are read), or skip it",
    )
    data.add_argument(
        "--num_workers", type=int, default=None, help="processes that read data; null: 4 with a GPU, else 0"
    )

    what = parser.add_argument_group("model and objective")
    what.add_argument("--model", required=True, help="module.Class under senet.models")
    what.add_argument("--model_conf", type=config.mapping, default={}, help="arguments of the model")
    what.add_argument("--objective", default="supervised", help="module under senet.train; its class has the same name")
    what.add_argument("--objective_conf", type=config.mapping, default={}, help="further arguments of the objective")
    what.add_argument(
        "--loss",
        type=config.optional(str),
        default=None,
        help="module.Class under senet.losses; needless for a model without parameters",
    )
    what.add_argument("--loss_conf", type=config.mapping, default={}, help="arguments of the loss")
    what.add_argument("--optim", default="Adam", help="class of torch.optim")
    what.add_argument("--optim_conf", type=config.mapping, default={}, help="arguments of the optimiser, such as lr")
    what.add_argument("--scheduler", type=config.optional(str), default=None, help="class of torch.optim.lr_scheduler")
    what.add_argument("--scheduler_conf", type=config.mapping, default={}, help="arguments of the scheduler")
    what.add_argument(
        "--scheduler_interval",
        choices=["epoch", "step"],
        default="epoch",
        help="when the scheduler advances (ReduceLROnPlateau: always by the validation loss)",
    )
    what.add_argument(
        "--warmup_steps",
        type=int,
        default=0,
        help="updates over which the learning rate rises linearly; a scheduler of interval step begins after them",
    )
    what.add_argument("--grad_clip", type=float, default=5.0, help="largest norm of the gradient; 0: any")
    what.add_argument(
        "--ema_decay",
        type=float,
        default=0.0,
        help="evaluate and keep a moving average of the weights, of this decay (0.999); 0: the weights themselves",
    )

    how = parser.add_argument_group("run")
    how.add_argument("--expdir", required=True, metavar="DIR", help="experiment folder, exp/<tag>")
    how.add_argument("--max_epoch", type=int, default=100, help="epochs to train; may be raised later")
    how.add_argument("--max_steps", type=int, default=0, help="updates to train; 0: no limit")
    how.add_argument(
        "--patience", type=int, default=0, help="stop after so many epochs without a better validation; 0: never"
    )
    how.add_argument("--seed", type=int, default=0, help="of the weights, the batches and dropout")
    how.add_argument("--log_every", type=int, default=50, help="updates per log line")
    how.add_argument(
        "--save_every", type=int, default=500, help="updates per checkpoint within an epoch; 0: only at its end"
    )
    how.add_argument(
        "--keep_best", type=int, default=1, help="checkpoints to keep by validation loss, besides the last two"
    )
    how.add_argument(
        "--keep_last",
        type=int,
        default=0,
        help="checkpoints to keep of those at each multiple of save_every (at each epoch's end if that is 0), besides "
        "the last two: to average or score the last N",
    )
    how.add_argument(
        "--max_nonfinite",
        type=int,
        default=1,
        help="stop at so many batches in a row whose loss or gradient is not finite; those before it are left out, and "
        "named in the log; 1: stop at the first",
    )
    how.add_argument(
        "--tensorboard",
        choices=["auto", "true", "false"],
        default="auto",
        help="write expdir/tensorboard, for 'tensorboard --logdir exp'; auto: if that is installed (senet[tb])",
    )
    how.add_argument(
        "--tensorboard_audio",
        type=int,
        default=3,
        help="validation utterances to hear and see there, always the same, enhanced at each validation",
    )
    how.add_argument(
        "--ngpu",
        type=int,
        default=0,
        help="GPUs of each machine, with a process each: started here where they are on one, else by srun (se.sh "
        "--num_nodes) or torchrun; 0: the CPU",
    )
    how.add_argument(
        "--join_seconds", type=int, default=300, help="how long processes wait for each other before the first step"
    )
    how.add_argument(
        "--num_threads",
        type=int,
        default=None,
        help="CPU threads of all processes of a machine; null: all cores",
    )
    how.add_argument(
        "--precision",
        choices=["fp32", "tf32", "bf16", "fp16"],
        default="fp32",
        help="of matrices and convolutions in training; the STFT, complex numbers and losses stay fp32",
    )
    how.add_argument(
        "--compile", action="store_true", help="compile the networks by torch.compile; the first steps take minutes"
    )
    how.add_argument(
        "--checkpointing",
        action="store_true",
        help="keep less of each layer for the gradient, and compute it again: less memory, more time",
    )
    how.add_argument(
        "--oom",
        choices=["retry", "stop"],
        default="retry",
        help="out of memory: go on with half the micro_batch, from the same step, or stop",
    )
    how.add_argument(
        "--dry_run", action="store_true", help="only check the options and say the disk that checkpoints need"
    )
    return parser


def auto_or_number(text):
    return text if text == "auto" else config.optional(int)(text)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = get_parser()
    args = parser.parse(argv)
    dry_run = vars(args).pop("dry_run")

    setup_logging()
    with on_stop(leave):
        return start(args, parser, argv, dry_run)


def start(args, parser, argv, dry_run):
    """What the options and the environment ask of this process."""
    defaults = resolve_options(args, parser)
    from senet.train.distributed import connected, find_place
    from senet.train.launch import launch

    place = find_place()
    device = choose_device(args, place)
    if dry_run:
        number, size = kept_checkpoints(args)
        print(f"{args.expdir}: at most {number} checkpoints at a time, {number * size} bytes")
        return 0
    if args.ngpu > 1 and place.world == 1:
        return launch([sys.executable, "-m", "senet.bin.train", *argv], args.ngpu)
    with connected(place, device.type, args.join_seconds) as group, contextlib.ExitStack() as stack:
        if place.rank:
            tell_rank(place)
        try:
            train(args, defaults, argv, device, group, stack)
        except Exception as error:
            if place.rank:
                log.error("%s", error, exc_info=not isinstance(error, UserError))
            raise
    return 0


def tell_rank(place):
    """Other ranks than 0, which would say the same, say what is wrong, and who they are."""
    from senet.train.distributed import name_of

    handler = logging.getLogger().handlers[0]
    handler.setLevel(logging.WARNING)
    form = handler.formatter
    handler.setFormatter(logging.Formatter(f"{form._fmt} [{name_of(place)}]", form.datefmt))


def leave(number):
    """At a signal while nothing is trained."""
    log.warning("%s: there was nothing to save; the same command continues", number.name)
    raise SystemExit(AGAIN)


def train(args, defaults, argv, device, group, stack):
    """Args: stack: an ExitStack, for what is held until training ends."""
    experiment, facts = group.agree(lambda: open_experiment(args, defaults, argv, stack, group.rank))
    if group.rank:
        log_to_file(Path(args.expdir) / "train.log")  # the folder is there by now
    trainer = group.agree(lambda: build_trainer(args, device, group, experiment, facts))
    if trainer is None:
        return
    try:
        trainer.fit()
    except BaseException:
        with contextlib.suppress(UserError):  # why it ended comes first, such as a disk that is full
            write_progress(experiment, trainer)
        raise
    write_progress(experiment, trainer)


def open_experiment(args, defaults, argv, stack, rank):
    """(the experiment or, but for rank 0, None; what its record says of the model)."""
    import torch

    from senet.train.experiment import Experiment

    if rank:
        return None, {}
    stack.enter_context(Lock(args.expdir))
    experiment = Experiment(args.expdir, vars(args), defaults, argv)
    log_to_file(experiment.expdir / "train.log")
    if int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        log.info("Slurm runs this job again, restart %s", os.environ["SLURM_RESTART_COUNT"])
    return experiment, {"macs_per_second": count_macs(args), "threads": torch.get_num_threads()}


def build_trainer(args, device, group, experiment, facts):
    """The trainer; None for a model without parameters."""
    import torch

    from senet.train.trainer import Trainer

    model = build_model(args, device)
    parameters = sum(p.numel() for p in model.parameters())
    facts = {"parameters": parameters, **facts}
    if not any(p.requires_grad for p in model.parameters()):
        if not group.rank:
            keep_untrained(args, model)
            experiment.write_record(**facts)
        return None
    objective = build_objective(args, model, device, group)
    train, valid = open_data(args, model, objective.passes)
    require_shared_memory(args, train, valid)
    require_schedule(args, train.num_batches())
    if not args.batch_seconds and args.batch_size < group.world:
        raise UserError(f"--batch_size {args.batch_size}: {group.world} processes share each batch; use at least that")
    if args.micro_batch == "auto":
        fit_micro_batch(args, objective, train, device, -(-args.batch_size // group.world))
    trainer = Trainer(
        objective,
        train,
        valid,
        args.expdir,
        sample_rate=model.sample_rate,
        device=device,
        max_epoch=args.max_epoch,
        max_steps=args.max_steps,
        patience=args.patience,
        log_every=args.log_every,
        save_every=args.save_every,
        keep_best=args.keep_best,
        keep_last=args.keep_last,
        max_nonfinite=args.max_nonfinite,
        seed=args.seed,
        num_workers=args.num_workers,
        board=None if group.rank else open_board(args),
        group=group,
    )
    if not group.rank:
        experiment.write_record(**facts, processes=group.world, hosts=group.hosts)
    log.info(
        "%s: %s, %s parameters; %d %ss in %d batches; %s, %s, %d threads%s",
        args.expdir, args.model, f"{parameters:,}", len(train.items.num_samples), train.unit, train.num_batches(),
        device, args.precision, torch.get_num_threads(),
        f"; rank 0 of {group.world} on {', '.join(dict.fromkeys(group.hosts))}" if group.world > 1 else "",
    )  # fmt: skip
    return trainer


def fit_micro_batch(args, objective, train, device, most):
    """Let the objective take as many items at a time as memory suffices for."""
    import torch

    from senet.train.largest import largest_micro_batch
    from senet.train.updater import Updater

    def heaviest(n):
        batch = train.heaviest(n).items()
        return train.finish({k: v.to(device) if torch.is_tensor(v) else v for k, v in batch})

    found = largest_micro_batch(objective, heaviest, most)
    for updater in vars(objective).values():
        if found < most and isinstance(updater, Updater):
            updater.micro_batch = found


def write_progress(experiment, trainer):
    if experiment and trainer.step:  # not when what was there could not be continued
        experiment.write_record(
            training_seconds=round(trainer.seconds, 1),
            updates=trainer.step - trainer.nonfinite,
            epochs=trainer.epoch,
            validation_loss=trainer.best_score if math.isfinite(trainer.best_score) else None,
            micro_batch=trainer.objective.updater.micro_batch,
        )


def resolve_options(args, parser):
    """Fill in what depends on classes or on the machine, so that config.yaml says everything; return the defaults."""
    smallest = {
        "ngpu": 0,
        "batch_size": 1,
        "max_epoch": 1,
        "log_every": 1,
        "max_nonfinite": 1,
        "seed": 0,
        "tensorboard_audio": 0,
        "join_seconds": 1,
    }
    for name, least in smallest.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: expected at least {least}")
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


def kept_checkpoints(args):
    """(number, bytes of one) of a training: the last two, the best, the last ones, and one that is being written."""
    import torch

    with torch.device("meta"):
        model = build_model(args, "meta")
        if args.loss is None:
            return 1, tensor_bytes(model.state_dict())
        objective = build_objective(args, model, "meta")
        try_step(args, objective)
    begin(objective)
    return 2 + args.keep_best + args.keep_last + 1, tensor_bytes(objective.state_dict())


def try_step(args, objective):
    """Take a step without values, up to where one is asked for: sizes that do not fit are refused before it."""
    import torch

    any_length = hasattr(objective.model, "analysis")  # then a short one, as a long recurrence takes its time
    seconds = 0.25 if any_length else args.crop_seconds or 1
    samples = round(seconds * objective.model.sample_rate)
    batch = {name: torch.zeros(objective.passes, samples) for name in ("noisy", "clean", "noise")}
    batch |= {"ids": ["-"] * objective.passes, "lengths": torch.full((objective.passes,), samples)}
    with contextlib.suppress(RuntimeError, NotImplementedError):
        objective.step(batch)


def begin(objective):
    """Make the gradients and the optimisers' states, as the first update does."""
    import torch

    from senet.train.updater import Updater

    for updater in vars(objective).values():
        if isinstance(updater, Updater):
            for parameter in updater.parameters:
                parameter.grad = torch.empty_like(parameter)
            updater.optimizer.step()


def tensor_bytes(value):
    """Of all tensors in nested dicts and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return sum(map(tensor_bytes, value))
    return getattr(value, "nbytes", 0)


def choose_device(args, place=None):
    """The device of this process; ``place`` is that among several."""
    import torch

    from senet.train.experiment import available_cores
    from senet.train.precision import set_precision

    # Jobs run with OMP_NUM_THREADS=1, one per core; training takes them all.
    beside = int(os.environ.get("LOCAL_WORLD_SIZE") or (place and place.world > 1 and args.ngpu) or 1)
    torch.set_num_threads(max(1, (args.num_threads or available_cores()) // beside))
    torch.manual_seed(args.seed)
    set_precision(args.precision)
    found = torch.cuda.device_count()
    if args.ngpu > found:
        seen = f"sees only {found} GPU{'s' * (found > 1)}" if found else "sees no GPU"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        raise UserError(
            f"--ngpu {args.ngpu}: torch {torch.__version__} {seen} here{hidden}; use --ngpu {found} or see nvidia-smi"
        )
    if not args.ngpu:
        return torch.device("cpu")
    local_rank = place.local_rank if place else 0
    if local_rank >= args.ngpu:
        raise UserError(
            f"--ngpu {args.ngpu}: this is process {local_rank + 1} of its machine; start one for each GPU, or raise "
            "--ngpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


SHARED_MEMORY = Path("/dev/shm")  # where the processes that read leave their batches
PREFETCHED = 2  # batches of each of them, as torch has it


def require_shared_memory(args, *streams):
    """Refuse more or larger batches in the hands of reading processes than fit: these would die of a bus error."""
    if not args.num_workers or not SHARED_MEMORY.is_dir():
        return
    found = os.statvfs(SHARED_MEMORY)
    free, batch = found.f_bavail * found.f_frsize, max(stream.batch_bytes() for stream in streams)
    needed = (args.num_workers * PREFETCHED + 1) * batch
    if needed > free:
        fitting = max(0, (free // batch - 1) // PREFETCHED)
        raise UserError(
            f"--num_workers {args.num_workers}: their batches, of up to {batch / 1e6:.0f} MB each, may take "
            f"{needed / 1e6:.0f} MB of shared memory, and {SHARED_MEMORY} has {free / 1e6:.0f} MB free of "
            f"{found.f_blocks * found.f_frsize / 1e6:.0f} MB. Use --num_workers {fitting}, a smaller batch_size or "
            "crop_seconds, or give it more (docker run --shm-size 8g)"
        )


def require_schedule(args, batches):
    """Refuse a learning-rate schedule that ends before the training does, as when max_epoch was raised since; say where
    one goes up again."""
    conf, by_step = args.scheduler_conf, args.scheduler_interval == "step"
    moves = args.max_epoch * batches if by_step else args.max_epoch
    if args.max_steps:
        moves = min(moves, args.max_steps if by_step else args.max_steps // batches)
    moves -= args.warmup_steps if by_step else 0
    if args.scheduler == "OneCycleLR":
        length = conf.get("total_steps") or conf.get("epochs", 0) * conf.get("steps_per_epoch", 0)
        if 0 < length < moves:
            raise UserError(
                f"scheduler_conf: OneCycleLR ends after {length} {args.scheduler_interval}s, and the training takes "
                f"{moves}. Lower max_epoch or max_steps; the length itself can only be chosen for a new experiment"
            )
    elif args.scheduler == "CosineAnnealingLR" and conf.get("T_max", moves) < moves:
        log.warning(
            "scheduler_conf.T_max: the learning rate is lowest after %d %ss, and rises again in the %d after them",
            conf["T_max"], args.scheduler_interval, moves - conf["T_max"],
        )  # fmt: skip


def build_model(args, device):
    return config.build("models", args.model, args.model_conf).to(device)


def count_macs(args):
    """Of one second of audio after the first, or None for a model that cannot run without values."""
    import torch

    from senet.models import measure

    with torch.device("meta"):
        model = config.build("models", args.model, args.model_conf).eval()
    try:
        return measure.steady_macs(model, model.sample_rate).total
    except RuntimeError as error:  # such as a branch that depends on a value
        log.warning("%s: its MACs are not counted: %s", args.model, error)
        return None


def require_disjoint(args):
    """Refuse to mix both sets from shared speakers or recordings; of data directories, whose utt2spk may mean anything
    (and be one name for all), say it."""
    from senet.data import splits

    sets = {}  # of each side: the source sets that it is mixed from, where that is known
    for side, folder in (("train", args.train), ("valid", args.valid)):
        settings = (side == "train" and args.mix_conf) or plan_settings(Path(folder))
        sets[side] = {kind: Path(args.data) / settings[kind] for kind in ("speech", "noise") if settings.get(kind)}
    for kind, folder in sets["train"].items():
        if kind in sets["valid"]:
            splits.require_disjoint(folder, sets["valid"][kind], by_speaker=kind == "speech")
    spoken = [Path(sets["train"]["speech"] if args.mix_conf else args.train), Path(args.valid)]
    if shared := splits.shared_speakers(*spoken):
        log.warning(
            "%s and %s: %d speakers are in both, such as '%s'; how the model does with other voices is not validated",
            *spoken, len(shared), min(shared),
        )  # fmt: skip


def plan_settings(folder):
    """Of a set that senet.bin.mix made of source sets: how; else nothing."""
    from senet.data.plan import read_settings

    settings = read_settings(folder / "plan.tsv") if (folder / "plan.tsv").exists() else {}
    return {} if settings.get("policy") == "pairs" else settings


def open_data(args, model, passes=1):
    from senet.data.dataset import Batches

    require_disjoint(args)

    def batches(folder, **options):
        feats = folder if args.feats_type == "stft" else None
        return Batches(
            folder,
            batch_size=args.batch_size,
            batch_seconds=args.batch_seconds,
            sample_rate=model.sample_rate,
            seed=args.seed,
            feats=feats,
            stft=getattr(model, "stft", None),
            bad_audio=args.bad_audio,
            **options,
        )

    if args.mix_conf:
        train = open_mixtures(args, model, passes)
    else:
        crop = {"crop_seconds": args.crop_seconds, "crop_hop_seconds": args.crop_hop_seconds}
        train = batches(args.train, passes=passes, **crop)
    return train, batches(args.valid, shuffle=False)


def open_mixtures(args, model, passes):
    from senet.data import mixture_set
    from senet.data.online import Mixtures

    if args.feats_type != "raw":
        raise UserError(f"feats_type: {args.feats_type} is stored, and {args.train} is mixed while training; use raw")
    if args.batch_seconds is not None:
        raise UserError(f"batch_seconds: {args.train} is mixed while training, to no list of lengths; use batch_size")
    if args.crop_hop_seconds is not None:
        raise UserError(
            f"crop_hop_seconds: {args.train} is mixed while training, each time anew; use null, and crop_seconds or "
            "mix_conf.seconds for the length of a window"
        )
    options = argparse.Namespace(
        **args.mix_conf, data=Path(args.data), out=Path(Path(args.train).stem), sample_rate=model.sample_rate,
        seed=args.seed,
    )  # fmt: skip
    policy, mixer = mixture_set.open_mixer(options)
    return Mixtures(
        args.train,
        policy,
        mixer,
        number=round(mixture_set.estimated_seconds(options) / options.seconds),
        crop_seconds=args.crop_seconds,
        on_device=args.mix_device == "gpu",
        batch_size=args.batch_size,
        seed=args.seed,
        bad_audio=args.bad_audio,
        passes=passes,
    )


def keep_untrained(args, model):
    """The checkpoint of a model that has nothing to train, for the stages after training."""
    from senet import checkpoint

    folder = Path(args.expdir) / "checkpoints"
    if not checkpoint.entries(folder):
        checkpoint.save(folder, {"model": model.state_dict()}, step=0, epoch=0)
    log.info(
        "%s: %s has no trainable parameters, so there is nothing to train; step 0 is its checkpoint",
        args.expdir, args.model,
    )  # fmt: skip


def objective_class(args):
    return "train", f"{args.objective}.{args.objective.title()}"


def build_objective(args, model, device, group=None):
    if args.loss is None:
        raise UserError(
            f"loss: not given, and {args.model} has parameters to train; name a module.Class of senet.losses"
        )
    return config.build(
        *objective_class(args),
        args.objective_conf,
        model=model,
        loss=config.build("losses", args.loss, args.loss_conf).to(device),
        optim=args.optim,
        optim_conf=args.optim_conf,
        scheduler=args.scheduler,
        scheduler_conf=args.scheduler_conf,
        scheduler_interval=args.scheduler_interval,
        warmup_steps=args.warmup_steps,
        grad_clip=args.grad_clip,
        ema_decay=args.ema_decay,
        micro_batch=None if args.micro_batch == "auto" else args.micro_batch,
        oom=args.oom,
        precision=args.precision,
        compile=args.compile and device != "meta",
        checkpointing=args.checkpointing,
        group=group,
    )


def open_board(args):
    """What makes TensorBoard's writer once it is known from which step; None: there is none."""
    folder = Path(args.expdir) / "tensorboard"
    if args.tensorboard == "false":
        return None
    try:
        from senet.train.board import Board
    except ImportError as error:
        if args.tensorboard == "true":
            raise UserError(f"--tensorboard true: {error}; pip install tensorboard, or --tensorboard false") from None
        log.info("no TensorBoard: it is not installed (pip install tensorboard); senet status and train.log do without")
        return None
    log.info("for TensorBoard: %s", folder)
    return functools.partial(Board, folder, valid=args.valid, count=args.tensorboard_audio)


def log_to_file(path):
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.getLogger().handlers[0].formatter)
    logging.getLogger().addHandler(handler)


def command():
    """``main`` as a process of its own."""
    try:
        status = run(main)
    except SystemExit as stop:
        status = stop.code
    distributed = sys.modules.get("senet.train.distributed")  # not for --help
    if distributed and isinstance(status, int) and distributed.find_place().world > 1:
        distributed.leave(status)
    return status


if __name__ == "__main__":
    sys.exit(command())
