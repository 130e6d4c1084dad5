"""List experiments: which train, wait, ended or died, how far, how fast, how well, and how long they will take."""

import json
import sys
import time
from pathlib import Path

from senet.bin import Help, Parser, run

COLUMNS = ("experiment", "state", "epoch", "step", "loss", "valid", "best (epoch)", "steps/s", "audio", "left", "heard",
           "where")  # fmt: skip


def get_parser():
    parser = Parser(
        description=__doc__,
        formatter_class=Help,
        allow_abbrev=False,
        epilog="States: running; starting (reads data, builds the model); waiting (run.sh handed it to a "
        "scheduler, which has not begun it); silent (lives, but has not got on for --silent minutes); "
        "finished; stopped (by a signal: the same command continues it); failed (by an error, or refused "
        "before it began); dead (killed without a word: the same command continues it, too). 'audio' is "
        "seconds of audio trained on per second, 'heard' how long ago it last told how far it is, which it "
        "does about once a minute. All that is needed lies in the folders: they may be of jobs on other "
        "machines.",
    )
    parser.add_argument(
        "expdir",
        nargs="*",
        metavar="EXP",
        help="experiment folders; if not given, those in exp/, or of all recipes in egs/*/exp/",
    )
    parser.add_argument("--json", action="store_true", help="all that is known, as a JSON list")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="show it again so often, until Ctrl-C")
    parser.add_argument(
        "--silent",
        type=float,
        default=10,
        metavar="MINUTES",
        help="a training that does not get on for so long is silent",
    )
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    from senet.errors import UserError
    from senet.train import status

    if args.watch is not None and args.watch <= 0:
        raise UserError(f"--watch {args.watch:g}: expected more than 0 seconds")
    while True:
        found = [status.read(folder, 60 * args.silent) for folder in experiments(args.expdir)]
        text = json.dumps(found, indent=2) if args.json else table(found)
        if args.watch is not None and sys.stdout.isatty():
            text = f"\033[H\033[J{text}"  # in place of what was there
        print(text, flush=True)
        if args.watch is None:
            return
        time.sleep(args.watch)


def experiments(given):
    """The folders to look at."""
    from senet.errors import UserError
    from senet.train.status import is_experiment

    for path in map(Path, given):
        if not path.exists():
            raise UserError(f"{path}: no such folder; give experiment folders, such as exp/*")
    found = [Path(path) for path in given] or sorted(Path().glob("exp/*/")) or sorted(Path().glob("egs/*/exp/*/"))
    found = [path for path in found if is_experiment(path)]
    if not found:
        where = " ".join(map(str, given)) or "exp/ and egs/*/exp/"
        raise UserError(f"{where}: no experiments there; stage train makes them")
    return found


def table(found):
    """Aligned columns; an error stands below its experiment."""
    rows = [COLUMNS, *map(cells, found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for i in range(len(found), 0, -1):
        if found[i - 1]["error"]:
            lines.insert(i + 1, f"    {shortened(found[i - 1]['error'], 200)}")
    return "\n".join(lines)


def cells(about):
    from senet.train.log import clock

    def shown(name, form):
        return "-" if about[name] is None else form.format(about[name])

    best = shown("best_loss", "{:.4g}") + ("" if about["best_epoch"] is None else f" ({about['best_epoch']})")
    return (
        about["experiment"],
        about["state"],
        shown("epoch", "{}") + shown("max_epoch", "/{}").removeprefix("-"),
        shown("step", "{}") + shown("steps", "/{}").removeprefix("-"),
        shown("train_loss", "{:.4g}"),
        shown("valid_loss", "{:.4g}"),
        best,
        shown("steps_per_second", "{:.3g}"),
        shown("audio_per_second", "{:.3g} s/s"),
        "-" if about["seconds_left"] is None else clock(about["seconds_left"]),
        "-" if about["heard"] is None else ago(about["heard"]),
        shown("host", "{}") + shown("pid", " {}").removeprefix("-") + shown("job", " job {}").removeprefix("-"),
    )


def ago(seconds):
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def shortened(text, length):
    return text if len(text) <= length else text[: length - 1] + "…"


if __name__ == "__main__":
    sys.exit(run(main))
