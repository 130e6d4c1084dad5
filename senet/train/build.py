"""What the options of a training describe: the device, the model, the objective; and what these cost."""

import contextlib
import logging
import os

import torch

from senet import config
from senet.errors import UserError
from senet.models import measure
from senet.train.experiment import available_cores
from senet.train.options import objective_class
from senet.train.precision import set_precision

log = logging.getLogger(__name__)


def choose_device(args, place=None):
    """The device of this process; ``place`` is that among several."""
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


def set_threads(wanted, group):
    """Give each process of a training its share of its machine's threads, ``wanted`` of them or all cores.

    Jobs run with OMP_NUM_THREADS=1, one per core; training takes all that it may. Whether processes share these or have
    some each, as srun gives them, is seen by asking which.
    """
    cores = available_cores()
    places = zip(group.hosts, group.gather(cores), strict=True)
    beside = [theirs for host, theirs in places if host == group.hosts[group.rank]]
    most = wanted // len(beside) if wanted else len(cores) // sum(bool(cores & theirs) for theirs in beside)
    torch.set_num_threads(max(1, most))


def build_model(args, device):
    return config.build("models", args.model, args.model_conf).to(device)


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


def count_macs(args):
    """Of one second of audio after the first, or None for a model that cannot run without values."""
    with torch.device("meta"):
        model = config.build("models", args.model, args.model_conf).eval()
    try:
        return measure.steady_macs(model, model.sample_rate).total
    except RuntimeError as error:  # such as a branch that depends on a value
        log.warning("%s: its MACs are not counted: %s", args.model, error)
        return None


def kept_checkpoints(args):
    """(number, bytes of one) of a training: the last two, the best, the last ones, and one that is being written."""
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
    any_length = hasattr(objective.model, "analysis")  # then a short one, as a long recurrence takes its time
    seconds = 0.25 if any_length else args.crop_seconds or 1
    samples = round(seconds * objective.model.sample_rate)
    batch = {name: torch.zeros(objective.passes, samples) for name in ("noisy", "clean", "noise")}
    batch |= {"ids": ["-"] * objective.passes, "lengths": torch.full((objective.passes,), samples)}
    with contextlib.suppress(RuntimeError, NotImplementedError):
        objective.step(batch)


def begin(objective):
    """Make the gradients and the optimisers' states, as the first update does."""
    for updater in objective.updaters:
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
