"""Enhance audio with a trained model: files, folders, pipes, or the wav.scp of a test set.

  senet enhance noisy.wav -o clean.wav --model exp/train_lowlatency
  senet enhance recordings/ -o cleaned/ --model model.senet --nj 4
  ffmpeg -i video.mp4 -f wav - | senet enhance - -o - --model model.senet | aplay
  senet enhance dump/raw/test/wav.scp -o exp/train_lowlatency/enhanced_test --model exp/train_lowlatency

Reads wav, flac, ogg, mp3, opus, aiff of any sample rate, number of channels and length; writes wav or flac of the same
rate, channels and length. In a folder of results wav and flac keep their names, to others .wav is added: talk.mp3.wav.
Exit status: 0 all done; 1 a file could not be enhanced (each is named); 2 nothing was begun.
"""

import argparse
import contextlib
import logging
import math
import shlex
import sys
from pathlib import Path

from senet import shards
from senet.bin import HelpAsWritten, Parser, at_least, positive, run, setup_logging, share
from senet.errors import UserError

SUBTYPES = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


def get_parser():
    parser = Parser(description=__doc__, formatter_class=HelpAsWritten, allow_abbrev=False)
    parser.add_argument(
        "input", nargs="+", metavar="IN", help="audio files and folders; or one .scp; or -, a wav on standard input"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a folder; for one file a .wav or .flac file, or -, a wav on standard output",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="a pack, or the folder of an experiment")
    parser.add_argument(
        "--checkpoint",
        default="best",
        help="of an experiment: best, last, the name of a file in checkpoints/, or the mean of N: mean_best_N, "
        "mean_last_N",
    )
    group = parser.add_argument_group("result")
    group.add_argument("--mix", type=share, default=1.0, help="share of the enhanced signal, the rest is the input")
    group.add_argument(
        "--keep_level",
        action="store_true",
        help="bring the result to the input's RMS level, both over the result's active frames (of 100 ms, within 30 dB "
        "of its loudest)",
    )
    group.add_argument(
        "--peak",
        choices=("clip", "scale", "error"),
        default="clip",
        help="samples beyond +-1: clip them (FLOAT and DOUBLE keep them) and say how many; scale the whole file down; "
        "or write nothing",
    )
    group.add_argument(
        "--format",
        choices=("wav", "flac"),
        help="of the files in a folder; if not given the input's. Added to names of other formats: a.wav.flac",
    )
    group.add_argument("--subtype", choices=SUBTYPES, help="if not given the input's; PCM_16 for mp3 and the like")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--overwrite", action="store_true", help="make results again that are there")
    either.add_argument(
        "--resume",
        action="store_true",
        help="keep results that are there, whole, and newer than the input; a folder's are refused unless they were "
        "made by this model with these options",
    )
    group.add_argument(
        "--report",
        metavar="HTML",
        help="also write a page to compare before and after; of more than 20 recordings it shows 20, spread evenly",
    )
    group = parser.add_argument_group("work")
    group.add_argument("--dry_run", action="store_true", help="only say what would be done, and the disk it needs")
    group.add_argument(
        "--nj", type=positive, default=1, help="processes, each with a model; with --ngpu at least one each"
    )
    group.add_argument("--ngpu", type=at_least(0), default=0, help="GPUs")
    group.add_argument(
        "--num_threads",
        type=positive,
        help="CPU threads; if not given all, but 1 for an .scp, so that results do not depend on the number of jobs, "
        "and 1 for each of several processes",
    )
    group.add_argument(
        "--window",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="a longer recording is enhanced in pieces: by a causal model as a stream, otherwise in overlapping "
        "windows of this length; memory grows with it",
    )
    group.add_argument(
        "--batch_size",
        type=positive,
        default=1,
        metavar="N",
        help="recordings at once, for GPUs; only those of equal rate and length, of at most a window, share a call of "
        "the model, so that results do not depend on it beyond rounding; memory grows with it",
    )
    shards.add_arguments(parser)
    return parser


def _seconds(text):
    try:
        if 0 < float(text) < math.inf:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}', expected a number of seconds above 0")


@contextlib.contextmanager
def before_work():
    """An error in here means that nothing was begun."""
    try:
        yield
    except UserError as error:
        error.status = 2
        raise


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = get_parser().parse_args(argv)
    args.command = shlex.join(["senet", "enhance", *argv])
    setup_logging()
    with before_work():
        scp = _require_options(args)
    if scp and args.collect:
        from senet.infer import sets

        sets.collect(scp, args.output)
        return 0
    return enhance_scp(args, scp) if scp else enhance_files(args)


def _require_options(args):
    """The .scp, if that is the input."""
    from senet.infer.record import model_options

    scp = next((path for path in args.input if path.endswith(".scp")), None)
    if scp and len(args.input) > 1:
        raise UserError(f"{scp}: an .scp is enhanced alone; {len(args.input)} inputs were given")
    if not scp and (args.job or args.collect):
        raise UserError("--job and --collect are for an .scp; for files and folders there is --nj")
    if scp:
        for option in ("format", "overwrite", "resume", "report", "dry_run"):
            if getattr(args, option):
                raise UserError(f"--{option} is for files and folders; what an .scp lists is done where it has changed")
        if not Path(scp).is_file():
            raise UserError(f"{scp}: no such file")
    if not args.collect:
        model_options(args.model)
    return scp


def enhance_scp(args, scp):
    from senet.infer import sets

    with before_work():
        workers = prepare(args, threads=1)
    failed = sets.enhance_shards(workers, _how(args), scp, args.output, args.job)
    if not failed and not args.job:
        sets.collect(scp, args.output)
    return 1 if failed else 0


def enhance_files(args):
    from senet.infer import files
    from senet.lock import Lock

    folder = None if files.is_single(args.output) else Path(args.output)
    with contextlib.ExitStack() as stack:
        with before_work():
            items = files.list_items(args.input, args.output, args.format and f".{args.format}")
            if args.report:
                files.require_report(args.report, items)
            if folder and not args.dry_run:
                stack.enter_context(Lock(folder))
            note = folder and folder / files.NOTE
            todo = files.remaining(items, args.overwrite, args.resume, note)
            needs = files.needs(todo, args.subtype)
            if args.dry_run:
                return files.tell(needs, len(items) - len(todo))
            files.require_space(needs)
            workers = prepare(args)
            if folder:
                there = args.resume and any(item.target.exists() for item in items)
                files.note_model(note, workers[0].identity(_how(args)), Path(args.model).name, there)
        if len(todo) < len(items):
            logging.info("%d of %d results are there and kept", len(items) - len(todo), len(items))
        failed = enhance_all(args, workers, needs)
        if args.report:
            done = [item for item in items if str(item.target) not in failed]
            report(args, done, failed.values(), workers[0].enhancer)
    return 1 if failed else 0


def enhance_all(args, workers, needs):
    """{target: reason} of what failed."""
    from senet.infer.item import Progress, by_length
    from senet.infer.work import Enhance
    from senet.processes import process_map

    if len(workers) > 1:  # the longest first, so that none is left for the end
        needs = sorted(needs, key=lambda need: -need.seconds)
    batches = by_length([(need.item, need.info) for need in needs], args.batch_size, args.window)
    progress, failed = Progress(len(needs), sum(need.seconds for need in needs)), {}
    try:
        for outcomes in process_map([Enhance(worker, _how(args)) for worker in workers], batches, len(workers)):
            for outcome in outcomes:
                progress.add(outcome)
                failed |= {outcome.target: outcome.error} if outcome.error else {}
    except KeyboardInterrupt:
        logging.warning("%d of %d files are done; --resume goes on with the others", progress.done, len(needs))
        raise
    progress.finish()
    return failed


def _how(args):
    from senet.infer.item import How

    return How(args.mix, args.keep_level, args.peak, args.subtype)


def prepare(args, threads=None):
    """A Worker for each process; the first has its model loaded."""
    import torch

    from senet.infer.work import workers

    if threads := args.num_threads or threads:
        torch.set_num_threads(threads)
    if args.ngpu > torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise UserError(f"--ngpu {args.ngpu}: torch {torch.__version__} sees {there}; use fewer, or see nvidia-smi")
    options = {k: getattr(args, k) for k in ("model", "checkpoint", "window", "batch_size")}
    found = workers(max(args.nj, args.ngpu), args.ngpu, **options)
    enhancer = found[0].enhancer
    network = type(enhancer.model).__name__
    logging.info("%s: %s, %d Hz, on %s", Path(args.model), network, enhancer.sample_rate, enhancer.device)
    return found


def report(args, items, failed, enhancer):
    """The page that --report asks for."""
    from senet.report import before_after

    output = Path(args.output)
    names = [item.target.relative_to(output) if item.target != output else output.name for item in items]
    pairs = [(str(name), item.source, item.target) for name, item in zip(names, items, strict=True)]
    before_after.write(args.report, pairs, enhancer, args.command, list(failed))


if __name__ == "__main__":
    sys.exit(run(main))
