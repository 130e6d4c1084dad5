"""Check data directories, and drop from them what is not sound.

Every line of every manifest is looked at; with --check_audio every audio file is decoded too. The exit status is 0
when all is well. Faults are named as file:line.
"""

import itertools
import re
import sys

from senet.bin import Help, Parser, run, setup_logging

_SHOWN = 100  # problems printed per file


def get_parser():
    parser = Parser(
        prog="senet validate",
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("dirs", nargs="+", metavar="DIR", help="data directory")
    parser.add_argument("--fix", action="store_true", help="sort, drop what is not sound; originals go to .backup")
    parser.add_argument("--utt_extra_files", default="", help="with --fix: more files keyed by utterance")
    parser.add_argument("--spk_extra_files", default="", help="with --fix: more files keyed by speaker")
    audio = parser.add_argument_group("audio")
    audio.add_argument("--check_audio", action="store_true", help="decode all audio: existence, rate, length, NaN, ...")
    audio.add_argument("--sample_rate", type=_rate, help="Hz expected, such as 16k; utt2fs says it otherwise, if there")
    audio.add_argument("--channels", type=int, help="number expected; 1 in a set with spk1.scp, any otherwise")
    audio.add_argument("--min_seconds", type=float, default=0.1, help="shortest utterance")
    audio.add_argument("--length_tolerance", type=int, default=0, help="samples by which clean and noise may differ")
    audio.add_argument("--jobs", type=int, help="threads; one per processor when not given")
    kaldi = parser.add_argument_group("as in Kaldi")
    kaldi.add_argument("--no_wav", action="store_true", help="do not look at wav.scp, nor ask for it")
    kaldi.add_argument("--no_feats", action="store_true", help="do not look at feats.scp")
    kaldi.add_argument("--no_text", action="store_true", help="do not look at text")
    kaldi.add_argument("--non_print", action="store_true", help="taken for Kaldi's sake: text may always be any UTF-8")
    kaldi.add_argument("--no_spk_sort", action="store_true", help="speakers need not sort as their utterances do")
    parser.add_argument("--allow_pipes", action="store_true", help="accept shell commands in scp files; none is run")
    return parser


def _rate(text):
    import humanfriendly

    return humanfriendly.parse_size(text)


def underscores(argv):
    """``--no-text`` and ``--no_text`` are the same option."""
    return [re.sub(r"^--[\w-]+", lambda name: "--" + name[0][2:].replace("-", "_"), word) for word in argv]


def main(argv=None):
    args = get_parser().parse_args(underscores(sys.argv[1:] if argv is None else argv))
    setup_logging()
    from senet.data.fix import fix
    from senet.data.validate import validate

    options = {
        "check_audio": args.check_audio,
        "sample_rate": args.sample_rate,
        "channels": args.channels,
        "min_seconds": args.min_seconds,
        "length_tolerance": args.length_tolerance,
        "jobs": args.jobs,
        "allow_pipes": args.allow_pipes,
        "spk_sort": not args.no_spk_sort,
        "skip": [
            name
            for name, left_out in {"wav.scp": args.no_wav, "feats.scp": args.no_feats, "text": args.no_text}.items()
            if left_out
        ],
    }
    sound = True
    for folder in args.dirs:
        if args.fix:
            extra = {"utt_files": args.utt_extra_files.split(), "spk_files": args.spk_extra_files.split()}
            _print_all(fix(folder, **extra, **options), f"{folder}: %d things mended or dropped", sys.stdout)
        report = validate(folder, **options)
        _print_all(report.problems, None, sys.stderr)
        print(report)
        sound = sound and not report.problems
    return 0 if sound else 1


def _print_all(problems, headline, out):
    if headline and problems:
        print(headline % len(problems), file=out)
    for path, group in itertools.groupby(sorted(problems, key=lambda problem: str(problem.path)), lambda p: p.path):
        group = list(group)
        for problem in group[:_SHOWN]:
            print(problem, file=out)
        if len(group) > _SHOWN:
            print(f"{path}: and {len(group) - _SHOWN} more", file=out)


if __name__ == "__main__":
    sys.exit(run(main))
