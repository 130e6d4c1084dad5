"""List folders of speech, noise or room impulse responses as source sets for mixing."""

import argparse
import logging
import sys
from pathlib import Path

from senet.bin import Help, Parser, run, setup_logging
from senet.errors import UserError


def parse_split(text):
    """``"train=0.98 valid=0.02"`` -> ``{"train": 0.98, "valid": 0.02}``."""
    try:
        shares = {name: float(share) for name, share in (word.split("=") for word in text.split())}
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form 'train=0.98 valid=0.02'") from None
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise argparse.ArgumentTypeError(f"'{text}': shares must be positive and add up to 1")
    return shares


def get_parser():
    parser = Parser(
        description=__doc__ + " Headers are read in parallel; a second run reads only what is new."
        " With --split 'train=0.98 valid=0.02', --out data/speech writes data/speech_train and data/speech_valid.",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--src",
        type=Path,
        required=True,
        nargs="+",
        action="extend",
        metavar="DIR",
        help="folders of recordings, searched at any depth; can be given several times",
    )
    parser.add_argument("--out", type=Path, required=True, help="source set to write, such as data/speech_train")
    parser.add_argument("--kind", choices=("speech", "noise", "rir"), required=True, help="what the recordings are")
    parser.add_argument(
        "--speaker",
        choices=("librispeech", "folder", "file", "dns"),
        help="where the speaker's name is: LibriSpeech's file names, the topmost folder, one speaker for each file, or "
        "names as in the DNS challenges' corpora (of noise: its type); by default folder for speech, else file",
    )
    parser.add_argument(
        "--split", type=parse_split, metavar="'A=X B=Y'", help="divide into several sets, by these shares"
    )
    parser.add_argument(
        "--split_by",
        choices=("speaker", "content"),
        help="what stays on one side; by default speaker for speech, else content (equal files, parts of a recording)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--exclude_types", default="", help="prefixes of noise types to leave out, comma between")
    parser.add_argument("--min_seconds", type=float, default=0.0, help="shorter files are left out")
    parser.add_argument(
        "--bad_audio", choices=("raise", "skip"), default="raise", help="what to do about files that cannot be read"
    )
    parser.add_argument(
        "--fingerprint",
        choices=("content", "name"),
        default="content",
        help="how equal recordings are known: file size and four blocks of 16 KiB; or file size and path below --src, "
        "for which nothing but headers is read, and a copy elsewhere is not noticed",
    )
    parser.add_argument(
        "--disjoint_from",
        type=Path,
        nargs="+",
        default=[],
        metavar="SET",
        help="source sets that must share no speaker or recording",
    )
    parser.add_argument(
        "--on_shared", choices=("raise", "drop"), default="raise", help="what to do about shared recordings"
    )
    parser.add_argument("--nj", type=int, help="threads; by default one for each processor")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    from senet.data import prepare, splits
    from senet.data.parallel import available_cpus
    from senet.data.recordings import write_set

    by_speaker = (args.split_by or ("speaker" if args.kind == "speech" else "content")) == "speaker"
    sources = prepare.list_sources(
        args.src,
        kind=args.kind,
        speaker=args.speaker or ("folder" if args.kind == "speech" else "file"),
        cache_path=args.out.with_name(f".{args.out.name}.headers"),
        nj=args.nj or available_cpus(),
        bad_audio=args.bad_audio,
        min_seconds=args.min_seconds,
        fingerprints=args.fingerprint,
    )
    prefixes = tuple(filter(None, args.exclude_types.split(",")))
    if prefixes:
        if unmet := [prefix for prefix in prefixes if not any(t.startswith(prefix) for t in set(sources.noise_type))]:
            known = ", ".join(sorted(filter(None, set(sources.noise_type)))[:20]) or "none"
            logging.warning("--exclude_types: no type begins with %s; there are %s", " or ".join(unmet), known)
        kept = sources.take([i for i, name in enumerate(sources.noise_type) if not name.startswith(prefixes)])
        src = " ".join(map(str, args.src))
        if not len(kept):
            raise UserError(f"{src}: --exclude_types {args.exclude_types} leaves no recording of {len(sources)}")
        logging.info("%s: %d recordings left out by --exclude_types", src, len(sources) - len(kept))
        sources = kept
    sources = splits.drop_shared(
        sources, args.disjoint_from, by_speaker=args.kind == "speech" and by_speaker, on_shared=args.on_shared
    )
    if not args.split:
        write_set(args.out, sources, args.kind)
        return
    for part, members in splits.split(sources, args.split, by_speaker=by_speaker, seed=args.seed).items():
        write_set(args.out.with_name(f"{args.out.name}_{part}"), members, args.kind)


if __name__ == "__main__":
    sys.exit(run(main))
