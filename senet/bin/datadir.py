"""Copy, combine, subset, split and filter data directories, with the usage of Kaldi's tools."""

import sys

from senet.bin import Help, Parser, run, setup_logging


def get_parser():
    style = {"formatter_class": Help, "allow_abbrev": False}
    parser = Parser(prog="senet datadir", description=__doc__, **style)
    tools = parser.add_subparsers(dest="tool", required=True, metavar="TOOL")

    def tool(name, text):
        return tools.add_parser(name, help=text, description=text, **style)

    copy = tool("copy", "copy a data directory, renaming utterances and speakers; writes utt2uniq when it renames")
    for what in ("utt_prefix", "spk_prefix", "utt_suffix", "spk_suffix"):
        copy.add_argument(f"--{what}", default="")
    copy.add_argument("src")
    copy.add_argument("dst")

    combine = tool("combine", "merge data directories")
    combine.add_argument("--extra_files", default="", help="names that all sources must have; others are found anyway")
    combine.add_argument("--allow_missing", action="store_true", help="leave out a file that a source lacks")
    combine.add_argument("--skip_fix", action="store_true", help="do not validate the result")
    combine.add_argument("dst")
    combine.add_argument("src", nargs="+")

    subset = tool("subset", "take a part: SRC N DST, or with --utt_list or --spk_list SRC DST")
    which = subset.add_mutually_exclusive_group()
    for how, text in {
        "first": "the first N utterances",
        "last": "the last N",
        "shortest": "the N shortest",
        "speakers": "all utterances of random speakers until there are N",
        "per_spk": "N random utterances of each speaker",
    }.items():
        which.add_argument(f"--{how}", dest="how", action="store_const", const=how, default="random", help=text)
    which.add_argument("--utt_list", help="file whose first column names the utterances")
    which.add_argument("--spk_list", help="file whose first column names the speakers")
    subset.add_argument("--seed", type=int, default=0, help="of the random choices")
    subset.add_argument("src")
    subset.add_argument("n_and_dst", nargs="+", metavar="[N] DST")

    split = tool("split", "write DIR/split<NJ>/1 .. NJ, speakers kept together")
    split.add_argument("--per_utt", action="store_true", help="speakers may be divided; writes DIR/split<NJ>utt")
    split.add_argument("dir")
    split.add_argument("nj", type=int)

    turn = tool("utt2spk_to_spk2utt", "print the spk2utt of a utt2spk")
    turn.add_argument("file")
    turn = tool("spk2utt_to_utt2spk", "print the utt2spk of a spk2utt")
    turn.add_argument("file")

    parts = tool("split_scp", "divide a file keyed by utterance into as many parts as outputs are named")
    parts.add_argument("--utt2spk", metavar="FILE", help="keep the speakers that it names together")
    parts.add_argument("file")
    parts.add_argument("out", nargs="+")

    filter_ = tool("filter", "print the lines whose first field is in a list")
    filter_.add_argument("--exclude", action="store_true", help="print the other lines")
    filter_.add_argument("-f", "--field", type=int, default=1, help="field to compare, counted from 1")
    filter_.add_argument("idlist", help="file whose first column has the ids")
    filter_.add_argument("input", nargs="?", default="-", help="file to filter; '-' for standard input")
    return parser


def main(argv=None):
    from senet.bin.validate import underscores

    parser = get_parser()
    args = parser.parse_args(underscores(sys.argv[1:] if argv is None else argv))
    setup_logging()
    if args.tool == "filter":
        return _filter(args)
    from senet.data import datadir_tools as tools

    if args.tool == "split_scp":
        return tools.split_scp(args.file, args.out, utt2spk=args.utt2spk)
    if args.tool in ("utt2spk_to_spk2utt", "spk2utt_to_utt2spk"):
        from senet.data import scp

        turn = scp.spk2utt if args.tool == "utt2spk_to_spk2utt" else scp.utt2spk
        sys.stdout.writelines(f"{key} {value}\n" for key, value in turn(scp.read_rows(args.file)))
        return 0
    if args.tool == "copy":
        renaming = {k: getattr(args, k) for k in ("utt_prefix", "spk_prefix", "utt_suffix", "spk_suffix")}
        tools.copy(args.src, args.dst, **renaming)
    elif args.tool == "combine":
        tools.combine(args.dst, args.src, extra_files=args.extra_files.split(), allow_missing=args.allow_missing)
    elif args.tool == "subset":
        listed = args.utt_list or args.spk_list
        *n, args.dst = args.n_and_dst
        if len(n) != (0 if listed else 1) or not all(word.isdigit() and int(word) for word in n):
            parser.error("subset: expected SRC N DST with N above 0, or SRC DST with --utt_list or --spk_list")
        lists = {"utt_list": args.utt_list, "spk_list": args.spk_list}
        tools.subset(args.src, args.dst, *map(int, n), how=args.how, seed=args.seed, **lists)
    else:
        for folder in tools.split(args.dir, args.nj, per_utt=args.per_utt):
            print(folder)
        return 0
    return _report(args.dst) if not getattr(args, "skip_fix", False) else 0


def _report(folder):
    """Validate what was written; 1 when it is not sound, with the same words as senet.bin.validate."""
    from senet.data.validate import validate

    report = validate(folder, allow_pipes=True)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    print(report)
    return 1 if report.problems else 0


def _filter(args):
    from senet.data.datadir_tools import filter_lines
    from senet.errors import UserError

    with open(args.idlist, encoding="utf-8") as f:
        ids = {line.split()[0] for line in f if line.strip()}
    with open(sys.stdin.fileno() if args.input == "-" else args.input, encoding="utf-8") as f:
        try:
            sys.stdout.writelines(filter_lines(f, ids, field=args.field, exclude=args.exclude))
        except UserError as error:
            raise UserError(f"{args.input}, {error}") from None


if __name__ == "__main__":
    sys.exit(run(main))
