"""Fetch a corpus: transfer its archives, check and unpack them; goes on where it was interrupted."""

import sys
from pathlib import Path

from senet.bin import Help, Parser, run, setup_logging


def get_parser():
    parser = Parser(
        description=__doc__ + " Archives that lie in the folder of downloads already are used, and never removed.",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument("list", type=Path, metavar="LIST", help="archives by parts, such as conf/archives.yaml")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="folder for it all")
    parser.add_argument("--part", nargs="*", default=[], metavar="NAME", help="parts; by default those marked so")
    parser.add_argument("--url", help="take all files from below this address: a mirror")
    parser.add_argument("--keep_archives", action="store_true", help="do not remove them after unpacking")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="only say what it would transfer, and whether it fits on the disk",
    )
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    from senet.data import archives, fetch

    parts = archives.choose(archives.read_list(args.list, args.downloads, args.url), args.part)
    if args.dry_run:
        lines, fits = fetch.describe(parts, args.downloads, args.keep_archives)
        print("\n".join(lines))
        return 0 if fits else 1
    return fetch.fetch(parts, args.downloads, args.keep_archives)


if __name__ == "__main__":
    sys.exit(run(main))
