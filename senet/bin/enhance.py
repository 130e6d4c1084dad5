"""Enhance audio with a trained model: files, folders, or the wav.scp of a test set.

  senet enhance noisy.wav -o clean.wav --model exp/train_lowlatency
  senet enhance recordings/ -o cleaned/ --model exp/train_lowlatency
  senet enhance dump/raw/test/wav.scp -o exp/train_lowlatency/enhanced_test --model exp/train_lowlatency

Reads wav, flac, ogg, mp3, opus of any rate and number of channels; writes 16-bit wav of the same rate, channels and
length.
"""

import argparse
import logging
import sys
from pathlib import Path

from senet import shards
from senet.bin import Help, run, setup_logging
from senet.errors import UserError


def get_parser():
    class Formatter(argparse.RawDescriptionHelpFormatter, Help):
        pass

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter, allow_abbrev=False)
    parser.add_argument("input", nargs="+", metavar="IN", help="audio files and folders, or one .scp")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a folder, or a .wav file for one file")
    parser.add_argument("--model", required=True, metavar="EXP", help="folder of a trained model, exp/<tag>")
    parser.add_argument(
        "--checkpoint",
        default="best",
        help="best, last, the name of a file in EXP/checkpoints, or the mean of N of them: mean_best_N, mean_last_N",
    )
    parser.add_argument("--ngpu", type=int, choices=[0, 1], default=0, help="GPUs")
    parser.add_argument(
        "--num_threads",
        type=int,
        help="CPU threads; if not given all, but 1 for an .scp, so that results do not depend on the number of jobs",
    )
    shards.add_arguments(parser)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    scp = next((path for path in args.input if path.endswith(".scp")), None)
    if scp and len(args.input) > 1:
        raise UserError(f"{scp}: an .scp is enhanced alone; {len(args.input)} inputs were given")
    if not scp and (args.job or args.collect):
        raise UserError("--job and --collect are for an .scp; files and folders are enhanced in one process")
    if scp and args.collect:
        from senet.infer import sets

        sets.collect(scp, args.output)
        return 0
    return enhance_scp(args, scp) if scp else enhance_files(args)


def enhance_scp(args, scp):
    from senet.infer import load, sets

    enhancer = prepare(args, num_threads=args.num_threads or 1)
    identity = load.identity(args.model, enhancer.model)
    failed = sets.enhance_shards(enhancer, identity, scp, args.output, args.job, args.checkpoint)
    if not failed and not args.job:
        sets.collect(scp, args.output)
    return 1 if failed else 0


def enhance_files(args):
    from senet.infer.files import list_items
    from senet.infer.item import Progress, enhance_item

    items = list_items(args.input, args.output)
    enhancer = prepare(args, args.num_threads)
    progress = Progress(len(items))
    for item in items:
        enhance_item(enhancer, item, progress)
    return 1 if progress.finish() else 0


def prepare(args, num_threads):
    """The Enhancer."""
    import torch

    from senet.infer.load import load_model

    if num_threads:
        torch.set_num_threads(num_threads)
    if args.ngpu and not torch.cuda.is_available():
        raise UserError(f"--ngpu {args.ngpu}: torch {torch.__version__} sees no GPU; use --ngpu 0 or see nvidia-smi")
    device = "cuda" if args.ngpu else "cpu"
    enhancer = load_model(args.model, args.checkpoint, device)
    network = type(enhancer.model).__name__
    logging.info("%s: %s, %d Hz, on %s", Path(args.model), network, enhancer.sample_rate, device)
    return enhancer


if __name__ == "__main__":
    sys.exit(run(main))
