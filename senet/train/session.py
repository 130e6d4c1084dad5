"""One process of a training, from the lock on its folder to the last record."""

import contextlib
import functools
import logging
import math
import os
from pathlib import Path

import torch

from senet import checkpoint, config
from senet.errors import UserError
from senet.lock import Lock
from senet.train.build import build_model, build_objective, count_macs, set_threads
from senet.train.data import open_data, require_shared_memory, tell_sizes
from senet.train.distributed import connected, name_of
from senet.train.experiment import Experiment
from senet.train.largest import largest_micro_batch
from senet.train.status import note_failed
from senet.train.trainer import Trainer

log = logging.getLogger(__name__)


def train(args, defaults, argv, place, device, read_weights=None):
    """Train, or go on.

    Args:
        args: the options, resolved. defaults, argv: see ``Experiment``.
        place: of this process among those that train together; device: that of its model.
        read_weights: gives {name: tensor} of what ``init_from`` names.
    """
    with connected(place, device.type, args.join_seconds) as group, contextlib.ExitStack() as stack:
        if place.rank:
            tell_rank(place)
        try:
            set_threads(args.num_threads, group)
            experiment, facts = group.agree(lambda: open_experiment(args, defaults, argv, stack, group.rank))
            if group.rank:
                log_to_file(Path(args.expdir) / "train.log")  # the folder is there by now
            trainer = group.agree(lambda: build_trainer(args, device, group, experiment, facts, read_weights))
            if trainer is not None:
                fit(trainer, experiment)
        except Exception as error:
            if place.rank:
                log.error("%s", error, exc_info=not isinstance(error, UserError))
            raise


def tell_rank(place):
    """Other ranks than 0, which would say the same, say what is wrong, and who they are."""
    handler = logging.getLogger().handlers[0]
    handler.setLevel(logging.WARNING)
    form = handler.formatter
    handler.setFormatter(logging.Formatter(f"{form._fmt} [{name_of(place)}]", form.datefmt))


def open_experiment(args, defaults, argv, stack, rank):
    """(the experiment or, but for rank 0, None; what its record says of the model)."""
    if rank:
        return None, {}
    stack.enter_context(Lock(args.expdir))
    there = checkpoint.entries(Path(args.expdir) / "checkpoints")
    if there:  # if it is another one, it is none of its business
        if args.init_from:
            told = "init_from %s: not looked at, %s has checkpoints of its own and goes on from there"
            log.info(told, args.init_from, args.expdir)
        args.init_from = config.load_resolved(args.expdir).get("init_from")
        experiment = Experiment(args.expdir, vars(args), defaults, argv)
    handler = log_to_file(Path(args.expdir) / "train.log")
    stack.push(functools.partial(tell_end, expdir=args.expdir, handler=handler))
    if not there:
        experiment = Experiment(args.expdir, vars(args), defaults, argv)
    if int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        log.info("Slurm runs this job again, restart %s", os.environ["SLURM_RESTART_COUNT"])
    return experiment, {"macs_per_second": count_macs(args), "threads": torch.get_num_threads()}


def tell_end(kind, error, trace, expdir, handler):
    """What ended it, in train.log and status.json, for those who were not there; the command tells the others."""
    if isinstance(error, Exception):
        trace = None if isinstance(error, UserError) else (kind, error, trace)
        handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "%s", (error,), trace))
        with contextlib.suppress(UserError, OSError):  # a disk that is full may be what ended it
            note_failed(expdir, error)


def begin_with(model, args, read_weights):
    """Give the model the weights that ``init_from`` names; what the record says of them."""
    weights = read_weights(args.init_from)
    try:
        checkpoint.require_fit(model.state_dict(), weights)
    except UserError as error:
        differs = str(error).partition(";")[0]
        raise UserError(f"--init_from {args.init_from}: {differs}; use the --model and --model_conf of there") from None
    model.load_state_dict(weights)
    log.info("begins with the weights of %s", args.init_from)
    return {"path": args.init_from, "sha256": checkpoint.digest_of(weights)}


def build_trainer(args, device, group, experiment, facts, read_weights=None):
    """The trainer; None for a model without parameters."""
    model = build_model(args, device)
    if args.init_from and not checkpoint.entries(Path(args.expdir) / "checkpoints"):
        facts = facts | {"init_from": begin_with(model, args, read_weights)}
    parameters = sum(p.numel() for p in model.parameters())
    facts = {"parameters": parameters, **facts}
    if not any(p.requires_grad for p in model.parameters()):
        if not group.rank:
            keep_untrained(args, model)
            experiment.write_record(**facts)
        return None
    objective = build_objective(args, model, device, group)
    train, valid = open_data(args, model, objective.passes)
    if not args.mix_conf and not group.rank:
        tell_sizes(args, train, model.sample_rate)
    require_shared_memory(args, group, train, valid)
    require_schedule(args, train.num_batches())
    if not args.batch_seconds and args.batch_size < group.world:
        raise UserError(f"--batch_size {args.batch_size}: {group.world} processes share each batch; use at least that")
    if args.micro_batch == "auto" and not checkpoint.entries(Path(args.expdir) / "checkpoints"):  # which know it
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
        oom=args.oom,
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

    def heaviest(n):
        batch = train.heaviest(n).items()
        return train.finish({k: v.to(device) if torch.is_tensor(v) else v for k, v in batch})

    found = largest_micro_batch(objective, heaviest, most)
    for updater in objective.updaters:
        updater.micro_batch = found if found < most else None


def keep_untrained(args, model):
    """The checkpoint of a model that has nothing to train, for the stages after training."""
    folder = Path(args.expdir) / "checkpoints"
    if not checkpoint.entries(folder):
        checkpoint.save(folder, {"model": model.state_dict()}, step=0, epoch=0)
    log.info(
        "%s: %s has no trainable parameters, so there is nothing to train; step 0 is its checkpoint",
        args.expdir, args.model,
    )  # fmt: skip


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
            "scheduler_conf.T_max: after %d %ss the learning rate is %g, and so it is in the next; then it rises again "
            "(%d are to come in all)",
            conf["T_max"], args.scheduler_interval, conf.get("eta_min", 0), moves - conf["T_max"],
        )  # fmt: skip


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


def fit(trainer, experiment):
    try:
        trainer.fit()
    except BaseException:
        with contextlib.suppress(UserError):  # why it ended comes first, such as a disk that is full
            write_progress(experiment, trainer)
        raise
    write_progress(experiment, trainer)


def write_progress(experiment, trainer):
    if experiment and trainer.step:  # not when what was there could not be continued
        experiment.write_record(
            training_seconds=round(trainer.seconds, 1),
            updates=trainer.step - trainer.nonfinite,
            epochs=trainer.epoch,
            validation_loss=trainer.best_score if math.isfinite(trainer.best_score) else None,
            micro_batch=trainer.objective.updater.micro_batch,
        )


def log_to_file(path):
    handler, shown = logging.FileHandler(path, encoding="utf-8"), logging.getLogger().handlers[0]
    handler.setLevel(shown.level)
    handler.setFormatter(shown.formatter)
    logging.getLogger().addHandler(handler)
    return handler
