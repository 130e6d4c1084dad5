"""The options of a training. Light: ``--help`` and manifest tools need them without torch."""

import argparse
from pathlib import Path

from senet import config
from senet.errors import UserError


def get_parser():
    parser = config.Parser(
        description=(
            "Train a model into --expdir: config.yaml (all options), checkpoints/, train.log, train.jsonl, "
            "status.json, tensorboard/, record.json, run.sh. An unfinished experiment is continued at the step where "
            "it was saved last. SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 save within a step and end it with 75: the same "
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
        help="mix in the processes that read, or, a batch at a time, on the device of the model; a sum that is silent "
        "then gives way to the next of the batch, with several processes to the next of the same process's share",
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
        help="random part of each utterance; null: all of it (where mixtures made while training differ in length, "
        "each of several processes pads its share of a batch to its own longest)",
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
    what.add_argument(
        "--init_from",
        type=config.optional(str),
        default=None,
        metavar="PATH",
        help="begin with the weights of another training, and with a new optimiser: an experiment (its best "
        "checkpoint), a pack, or a checkpoint's file. Only the first start looks at it",
    )
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
        help="CPU threads of all processes of a machine; null: all cores that they may use",
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
        help="out of memory: go on with half the micro_batch (in validation: of a batch), and half of that, until it "
        "fits, from the same step; or stop",
    )
    how.add_argument(
        "--dry_run", action="store_true", help="only check the options and say the disk that checkpoints need"
    )
    return parser


def auto_or_number(text):
    try:
        return text if text == "auto" else config.optional(int)(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}', expected a number, auto or null") from None


def objective_class(args):
    """(kind, name) of it, as ``senet.config`` looks for classes. Beside objectives, other modules are there."""
    here = Path(__file__).parent
    if not (here / f"{args.objective}.py").is_file():
        there = sorted(path.stem for path in here.glob("*.py") if "\n    def evaluate(" in path.read_text("utf-8"))
        hint = config.did_you_mean(args.objective, there)
        raise UserError(f"--objective {args.objective}: there is none;{hint} It is one of {', '.join(there)}")
    return "train", f"{args.objective}.{args.objective.title()}"
