"""Compare experiments: RESULTS.md with a table per test set, and plots beside the experiments."""

import argparse
import logging
import sys
from pathlib import Path

from senet.bin import run, setup_logging


def get_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("expdir", nargs="+", metavar="EXP", help="experiment folders, from any recipes: exp/*")
    parser.add_argument("--out", default="RESULTS.md", metavar="FILE", help="Markdown page to write")
    parser.add_argument(
        "--published",
        metavar="FILE",
        help="scores of others, for a table of their own; if not given, published.yaml beside --out, if it is there",
    )
    parser.add_argument("--no_plots", action="store_true", help="write only the page")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    from senet.files import whole_file
    from senet.report import comparison, page, published

    out = Path(args.out)
    beside = out.with_name("published.yaml")
    published_path = args.published or (beside if beside.exists() else None)
    left_out = []
    entries = published.read_published(published_path, left_out) if published_path else []
    report = comparison.compare(args.expdir, None, entries, configs_without_experiment(out, args.expdir))
    report.left_out += left_out
    with whole_file(out) as f:
        f.write(page.markdown(f"Results of {out.resolve().parent.name}", report))
    logging.info("wrote %s", out)
    if not args.no_plots:
        plot(report.systems, report.comparisons)


def configs_without_experiment(out, expdirs):
    """Training configurations beside the page that no experiment is called after."""
    names = [Path(expdir).resolve().name for expdir in expdirs]
    configs = sorted(path.stem for path in (out.parent / "conf").glob("train*.yaml"))
    return [c for c in configs if not any(name == c or name.startswith(f"{c}_") for name in names)]


def plot(systems, comparisons):
    from senet.report import plots

    for system in systems:
        if path := plots.curves(system.path):
            logging.info("wrote %s", path)
    for c in comparisons:
        for system in c.systems:
            if c.baseline and system is not c.baseline:
                result, baseline = c.result(system), c.result(c.baseline)
                shared = [name for name in result.metrics if name in baseline.metrics]
                if path := plots.spectrograms(result, baseline, shared[0]) if shared else None:
                    logging.info("wrote %s", path)
                else:
                    logging.info("%s: no spectrograms: no audio, or no score that noisy has, too", result.path)


if __name__ == "__main__":
    sys.exit(run(main))
