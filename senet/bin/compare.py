"""Compare experiments: what they score with intervals, paired differences, breakdowns; as a page, tables and HTML."""

import logging
import sys
from pathlib import Path

from senet.bin import Help, Parser, run, setup_logging

KINDS = (".md", ".csv", ".json", ".html")


def get_parser():
    parser = Parser(description=__doc__, formatter_class=Help, allow_abbrev=False)
    parser.add_argument(
        "expdir",
        nargs="*",
        metavar="EXP",
        help="experiment folders, from any recipes: exp/*; without any, the page says what was not run and what others "
        "published",
    )
    parser.add_argument(
        "--out",
        nargs="+",
        default=["RESULTS.md"],
        metavar="FILE",
        help="files to write, each as its name ends: .md (page), .csv (a line for each test set, system and metric), "
        ".json (all numbers), .html (one file to read and listen to)",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="system that differences are taken to; if not given, the noisy input where it was scored",
    )
    parser.add_argument(
        "--published",
        metavar="FILE",
        help="scores of others, for a table of their own; if not given, published.yaml beside the first file of --out, "
        "if it is there",
    )
    parser.add_argument(
        "--audio", type=int, default=3, metavar="N", help="utterances of each test set to listen to in the .html"
    )
    parser.add_argument("--utterances", nargs="+", default=[], metavar="UTT", help="ids of those to listen to instead")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    from senet.errors import UserError
    from senet.files import whole_file, write_json
    from senet.report import comparison, published

    out = [Path(path) for path in args.out]
    for path in out:
        if path.suffix not in KINDS:
            raise UserError(f"--out {path}: how is it to be written? The name has to end in {', '.join(KINDS)}")
    if args.audio < 0:
        raise UserError(f"--audio {args.audio}: 0 or more utterances can be listened to")
    if args.published and not Path(args.published).is_file():
        raise UserError(f"--published {args.published}: no such file")
    beside = out[0].with_name("published.yaml")
    published_path = args.published or (beside if beside.exists() else None)
    left_out = []
    entries = published.read_published(published_path, left_out) if published_path else []
    not_trained = configs_without_experiment(out[0], args.expdir)
    if args.expdir:
        report = comparison.compare(args.expdir, args.baseline, entries, not_trained)
    else:
        report = comparison.Report([], [], None, entries, not_trained)
    report.left_out += left_out
    known = set().union(*(comparison.utts for comparison in report.comparisons))
    if unknown := [utt for utt in args.utterances if utt not in known]:
        like = f"; there are such as {min(known)}" if known else ""
        raise UserError(f"--utterances {' '.join(unknown)}: in no test set that is compared{like}")
    here = out[0].resolve().parent
    title = f"Results of {here.name}" if (here / "conf").is_dir() else "Comparison"
    for path in out:
        if path.suffix == ".json":
            write_json(path, report.as_dict())
        else:
            with whole_file(path) as f:
                write(f, path.suffix, title, report, args)
        logging.info("wrote %s", path)


def write(f, kind, title, report, args):
    if kind == ".md":
        from senet.report import page

        f.write(page.markdown(title, report))
    elif kind == ".csv":
        from senet.report import tables

        tables.write_csv(f, report)
    else:
        from senet.report import html

        f.write(html.page(report, title, args.audio, args.utterances))


def configs_without_experiment(out, expdirs):
    """Training configurations beside the page that no experiment below its folder is called after.

    An experiment is that of the longest name that begins its own: train_a_b_tag is train_a_b's, not train_a's.
    """
    here = out.parent.resolve()
    paths = [path for path in (Path(expdir).resolve() for expdir in expdirs) if path.is_relative_to(here)]
    configs = sorted(path.stem for path in (here / "conf").glob("train*.yaml"))
    fitting = ([c for c in configs if f"{path.name}_".startswith(f"{c}_")] for path in paths)
    trained = {max(found, key=len) for found in fitting if found}
    return [c for c in configs if c not in trained]


if __name__ == "__main__":
    sys.exit(run(main))
