"""Measure packed audio, or extract features (complex spectra, Kaldi filter banks) into dump/<feats_type>/<set>."""

import argparse
import sys
from pathlib import Path

from senet import shards
from senet.bin import Help, Parser, run, setup_logging
from senet.config import rate

OPTIONS = {
    "stft": ("n_fft", "hop_length", "win_length", "window", "padding"),
    "fbank": (
        "num_mel_bins",
        "frame_length",
        "frame_shift",
        "snip_edges",
        "low_freq",
        "high_freq",
        "preemphasis",
    ),
}


def boolean(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def get_parser():
    parser = Parser(
        description=__doc__ + " First any number of jobs with --job J/N, then --collect; without these, all in one go."
        " What is done already is not done again, and the number of jobs does not change a byte.",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--feats_type",
        choices=("raw", "stft", "fbank"),
        default="raw",
        help="raw: lengths and levels of the audio, into stats/; stft, fbank: one matrix per utterance",
    )
    parser.add_argument("--src", type=Path, required=True, help="packed audio, such as dump/raw/train")
    parser.add_argument("--out", type=Path, required=True, help="dump/<feats_type>/train; for raw the same as --src")
    parser.add_argument(
        "--sample_rate", type=rate, default=argparse.SUPPRESS, help="Hz, 16k or 16000 (default: of the first utterance)"
    )

    group = parser.add_argument_group("stft, to be equal to the model's; lengths in samples")
    group.add_argument("--n_fft", type=int, default=512, help="length of the transform")
    group.add_argument("--hop_length", type=int, default=160, help="from frame to frame")
    group.add_argument("--win_length", type=int, default=400, help="of the window")
    group.add_argument("--window", default="hann", help="hann, sqrt_hann or hamming")
    group.add_argument(
        "--padding",
        default="zeros",
        help="of both ends: zeros or reflect, half a transform; or full, until the last overlap",
    )

    group = parser.add_argument_group("fbank, as Kaldi's compute-fbank-feats without dither")
    group.add_argument("--num_mel_bins", type=int, default=80, help="filters")
    group.add_argument("--frame_length", type=float, default=25.0, help="ms")
    group.add_argument("--frame_shift", type=float, default=10.0, help="ms")
    group.add_argument("--snip_edges", type=boolean, default=True, help="only frames wholly within the signal")
    group.add_argument("--low_freq", type=float, default=20.0, help="Hz, lower edge of the filters")
    group.add_argument("--high_freq", type=float, default=0.0, help="Hz; 0 or less: counted from half the sample rate")
    group.add_argument("--preemphasis", type=float, default=0.97, help="coefficient")

    parser.add_argument(
        "--dry_run", type=int, metavar="N", help="only say the disk that N samples of audio need; --src is not read"
    )
    shards.add_arguments(parser)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    from senet.data.feats import open_stage, stored_bytes

    options = {name: getattr(args, name) for name in OPTIONS.get(args.feats_type, ())}
    if args.dry_run is not None:
        config = {"feats_type": args.feats_type, "sample_rate": getattr(args, "sample_rate", 16000)} | options
        print(f"{args.out}: {args.feats_type} of {args.dry_run} samples, {stored_bytes(config, args.dry_run)} bytes")
        return
    stage = open_stage(args.feats_type, args.src, args.out, getattr(args, "sample_rate", None), **options)
    if not args.collect:
        stage.run(args.job)
    if not args.job:
        stage.collect()


if __name__ == "__main__":
    sys.exit(run(main))
