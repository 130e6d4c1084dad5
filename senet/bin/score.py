"""Score enhanced audio, per utterance and in summary.

The 16-bit files that the enhance stage wrote are scored, not signals in memory. A score that does not exist (silent
reference, too short, ...) is nan in the files and counted with its reason, never part of a mean. A set without clean
references is scored with the metrics that need none.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from senet import processes, shards
from senet.bin import Help, Parser, run, setup_logging
from senet.errors import UserError


class _Versions(argparse.Action):
    """Prints and ends, as --help does, without the other arguments."""

    def __call__(self, parser, namespace, values, option_string=None):
        from senet import metrics

        for name in " ".join(values).replace(",", " ").split():
            print(name, metrics.find(name)[0].version)
        parser.exit()


def get_parser():
    parser = Parser(description=__doc__.splitlines()[0], formatter_class=Help, allow_abbrev=False)
    parser.add_argument("--enhanced", required=True, metavar="SCP", help="wav.scp, or folder, of the enhanced audio")
    parser.add_argument(
        "--ref",
        required=True,
        metavar="DIR",
        help="data directory of the test set; or a folder, or scp, of references with the names of the enhanced files",
    )
    parser.add_argument(
        "--noisy", metavar="SCP", help="scp or folder of the noisy audio, where --ref is no data directory"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="gets scores/<metric>, scores.csv (labels as utt2snr, scores as snr), summary.json",
    )
    parser.add_argument(
        "--metrics",
        default="pesq_wb stoi si_sdr",
        help="names separated by blanks; with 'i' added (si_sdri) the improvement over the noisy input",
    )
    parser.add_argument(
        "--enhanced_clean",
        metavar="SCP",
        help="scp or folder of the system's output for the clean audio (lowlatency_repo_*)",
    )
    parser.add_argument(
        "--noisy_scores",
        metavar="DIR",
        help="--out of the noisy input's scores; adds paired differences to them, and improvements are taken to them",
    )
    parser.add_argument(
        "--expected",
        metavar="YAML",
        help="published.yaml; its rows of system 'noisy' for this set with a tolerance must be met by the means found",
    )
    parser.add_argument(
        "--versions",
        nargs="+",
        action=_Versions,
        default=argparse.SUPPRESS,
        metavar="METRIC",
        help="only print what these scores are made with here: revision, packages, models, or what of it is missing",
    )
    parser.add_argument("--nj", type=int, default=1, help="processes on this machine; the scores do not depend on it")
    shards.add_arguments(parser)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    if args.nj < 1:
        raise UserError(f"--nj {args.nj}: at least one process is needed")
    if "numpy" not in sys.modules:
        os.environ.update(processes.ONE_THREAD)
    from senet import metrics
    from senet.report import published, scoring

    names = list(dict.fromkeys(args.metrics.replace(",", " ").split()))
    if not names:
        raise UserError(f"--metrics is empty; known: {', '.join(metrics.names())}")
    for name in names:
        metrics.find(name)
    for option in ("enhanced", "ref", "enhanced_clean", "noisy"):
        path = getattr(args, option)
        if path and not Path(path).exists():
            raise UserError(
                f"--{option} {path}: no such file; give a folder of audio, or the wav.scp that senet enhance writes "
                "into its folder, such as exp/train_x/enhanced_test/wav.scp, or that of a data directory"
            )
    lists = Path(args.out) / "lists"
    audio = scoring.EnhancedSet(args.enhanced, args.ref, args.enhanced_clean, args.noisy, lists)
    names = audio.possible(names)
    expected = published.read_published(args.expected) if args.expected else []
    if args.noisy_scores:
        scoring.require_scored(args.noisy_scores, names)
    if not args.collect:
        scoring.score_shards(audio, args.out, names, args.job, args.nj, args.noisy_scores)
    if args.collect or not args.job:
        summary = scoring.collect(audio, args.out, names, args.noisy_scores)
        if not (expected and args.collect):  # the driver's check, after the scoring has said them
            report(summary)
        published.require_expected(summary, expected, args.expected)
        if not args.collect and not any(found["n"] for found in summary["metrics"].values()):
            reason = next(reason for found in summary["metrics"].values() for reason in found["reasons"])
            raise UserError(f"{args.enhanced}: nothing could be scored, see above: {reason}")


def report(summary):
    """One log line per metric."""
    from senet import metrics

    where, failures = summary["test_set"], {}
    for name, found in summary["metrics"].items():
        mean = f"{found['mean']:.4f}" if found["n"] else "no score"
        say = logging.info if found["n"] else logging.warning
        say("%s: %s: %s (n %d, failed %d)", where, metrics.label(name), mean, found["n"], found["failed"])
        for reason, failed in found["reasons"].items():
            failures.setdefault((reason, failed["n"], failed["utts"][0]), []).append(name)
    for (reason, n, utt), names in failures.items():
        such = "" if reason.startswith("not computed") else f", such as {utt}"
        logging.warning("%s: %s failed for %d: %s%s", where, " ".join(names), n, reason, such)
    if (summary["sample_rate"] or 16000) < 16000 and any("dnsmos" in name for name in summary["metrics"]):
        logging.warning(
            "%s: DNSMOS is made for 16 kHz; audio of %d Hz lacks what it listens to above %d Hz",
            where, summary["sample_rate"], summary["sample_rate"] // 2,
        )  # fmt: skip
    clipped = summary["clipped"]
    if clipped["samples"]:
        logging.warning("%s: %d clipped samples in %d files", where, clipped["samples"], clipped["files"])


if __name__ == "__main__":
    sys.exit(run(main))
