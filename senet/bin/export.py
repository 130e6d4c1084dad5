"""Export a trained model to ONNX, with a script that runs it without senet and without PyTorch.

  senet export exp/train_lowlatency -o exported
  senet export lowlatency.senet -o exported --int8
  python exported/run.py noisy.wav enhanced.wav [--stream] [--int8]

The folder holds model.onnx, from waveform to waveform, for recordings of any length; of a causal model also
stream.onnx, from one hop of samples to the next, with what it remembers as further inputs and outputs; run.py, which
shows how both are run and needs numpy, soundfile and onnxruntime; and export.json with sample rate, latency, names and
shapes, versions and hashes. All of it is run and compared with PyTorch in double precision first: where a sample
differs by more than 1e-4, and by more than 8 times what rounding changes in PyTorch itself, nothing is written. Needs
the extra senet[onnx].
"""

import logging
import sys
from pathlib import Path

from senet.bin import HelpAsWritten, Parser, run, setup_logging
from senet.errors import UserError


def get_parser():
    parser = Parser(description=__doc__, formatter_class=HelpAsWritten, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, exp/<tag>, or a pack")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="to make; an earlier export is replaced"
    )
    parser.add_argument(
        "--checkpoint",
        default="best",
        help="best, last, the name of a file in EXP/checkpoints, or the mean of N of them: mean_best_N, mean_last_N",
    )
    parser.add_argument(
        "--only",
        choices=["offline", "stream"],
        help="export for whole recordings, or for streams; if not given both, where the model is causal",
    )
    parser.add_argument(
        "--format",
        choices=["onnx", "pt2"],
        default="onnx",
        help="pt2: torch.export, for PyTorch without senet, no run.py; with LSTMs model.pt2 takes one length only",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also weights of 8 bits (dynamic quantisation of linear layers and LSTMs), model.int8.onnx and "
        "stream.int8.onnx, for run.py --int8: size, speed and difference are measured; what is neither smaller nor "
        "faster, or below 30 dB, is not kept",
    )
    return parser


def main(argv=None):
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.int8 and args.format != "onnx":
        parser.error("--int8 goes with --format onnx")
    setup_logging()
    from senet.infer import export, load

    export.require_packages(args.format)
    export.require_folder(args.output)
    enhancer = load.load_model(args.model, args.checkpoint)
    if not enhancer.info["parameters"]:
        raise UserError(f"{args.model}: {type(enhancer.model).__name__} has no network, so there is nothing to export")
    parts = (args.only,) if args.only else ("offline", "stream") if enhancer.causal else ("offline",)
    if parts == ("offline",) and not args.only:
        logging.info("%s needs whole recordings: no stream", Path(args.model))
    export.export(enhancer, args.output, Path(args.model).name, args.format, parts, args.int8)
    logging.info("%s is complete", args.output)


if __name__ == "__main__":
    sys.exit(run(main))
