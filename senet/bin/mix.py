"""Mix speech and noise at planned signal-to-noise ratios into dump/raw/<set>."""

import sys
from pathlib import Path

from senet import shards
from senet.bin import run, setup_logging
from senet.config import Parser, rate
from senet.errors import UserError


def get_parser():
    parser = Parser(
        description=__doc__
        + " First --plan, then any number of jobs with --job J/N, then --collect; without these, all in one go."
        " Finished shards are not made again, and the number of jobs does not change a byte.",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the source sets")
    parser.add_argument("--out", type=Path, required=True, help="set to make, such as dump/raw/train")
    parser.add_argument("--speech", help="source set of speech below --data; for pairs, the set to format")
    parser.add_argument("--noise", help="source set of noise below --data")
    parser.add_argument("--rir", help="dns: source set of room impulse responses below --data; without it all are dry")
    parser.add_argument(
        "--policy",
        choices=("crop", "snsd", "dns", "pairs"),
        default="crop",
        help="crop: random crops, one SNR each; snsd: joined files at every SNR, as MS-SNSD; "
        "dns: crops or joined files, reverberant if wanted, random SNR and level, as the DNS challenges; "
        "pairs: bring existing noisy/clean pairs into this form",
    )
    parser.add_argument(
        "--allow_pipes",
        action="store_true",
        help="pairs: run the shell commands ('cmd |') that stand in wav.scp, spk1.scp, noise1.scp in place of files",
    )
    parser.add_argument(
        "--noise_types",
        type=int,
        help="pairs: how many noises the corpus has; where it does not say which is which, pairs are grouped by the "
        "sound of their noise, in utt2noise_estimated",
    )
    parser.add_argument("--about_hours", type=float, help="pairs: length, for --dry_run before the set is listed")
    parser.add_argument("--sample_rate", type=rate, default="16k", help="Hz; other rates are resampled")
    parser.add_argument("--seed", type=int, default=0, help="of the plan")

    group = parser.add_argument_group("amount")
    group.add_argument(
        "--num_clips", type=int, help="mixtures to make; 10000 when total_hours is not given either (pairs: all)"
    )
    group.add_argument(
        "--total_hours", type=float, help="snsd: stop when the mixtures, all SNRs counted, reach this length"
    )
    group.add_argument(
        "--seconds", type=float, default=3.0, help="crop, dns: length of a mixture; snsd: a clip is longer than this"
    )
    group.add_argument(
        "--silence_seconds", type=float, default=0.2, help="snsd, dns: silence between joined speech files"
    )

    group = parser.add_argument_group("signal-to-noise ratio and level")
    group.add_argument("--snr_lower", type=float, help="lowest SNR, dB; by default -6, dns: -5")
    group.add_argument("--snr_upper", type=float, help="highest SNR, dB; by default 9, dns: 20")
    group.add_argument(
        "--num_snr_levels", type=int, default=16, help="crop, snsd: evenly spaced from the lowest to the highest"
    )
    group.add_argument(
        "--snr_levels",
        type=float,
        nargs="+",
        metavar="DB",
        help="crop, snsd: the SNRs themselves, instead of the three above",
    )
    group.add_argument(
        "--snr_mode",
        choices=("power", "active"),
        default="power",
        help="dns: RMS over the whole mixture, or over its active parts (100 ms frames within 50 dB of the loudest)",
    )
    group.add_argument("--level_lower", type=float, default=-35.0, help="dns: lowest RMS of noisy, dB of full scale")
    group.add_argument("--level_upper", type=float, default=-15.0, help="dns: highest RMS of noisy, dB of full scale")
    group.add_argument(
        "--min_rms_db",
        type=float,
        help="quieter crops are drawn again; dB of full scale; by default -60, dns: -80",
    )
    group.add_argument(
        "--on_clip",
        choices=("scale_all", "none"),
        default="scale_all",
        help="scale all three signals so that none passes --peak, or clip",
    )
    group.add_argument("--peak", type=float, default=0.99, help="largest magnitude, full scale = 1")
    group.add_argument("--exclude_types", default="", help="prefixes of noise types to leave out, comma between")

    group = parser.add_argument_group("reverberation (dns)")
    group.add_argument("--rir_prob", type=float, default=0.5, help="share of the mixtures that are reverberant")
    group.add_argument(
        "--target",
        choices=("reverberant", "early"),
        default="reverberant",
        help="clean is the speech with all of the response, or with what comes until 50 ms after its main peak",
    )

    group = parser.add_argument_group("phases")
    group.add_argument("--plan", action="store_true", help="only write OUT/plan.tsv")
    shards.add_arguments(parser)
    group.add_argument("--dry_run", action="store_true", help="only say what would be made and the disk it needs")
    group.add_argument("--nj", type=int, help="threads while planning and grouping; by default one for each processor")
    return parser


def main(argv=None):
    args = get_parser().parse(argv)
    setup_logging()
    if args.plan + bool(args.job) + args.collect + args.dry_run > 1:
        raise UserError("choose one of --plan, --job, --collect and --dry_run")
    if args.allow_pipes and args.policy != "pairs":
        raise UserError(f"--allow_pipes is for --policy pairs; {args.policy} mixes files only")
    if args.noise_types is not None and (args.policy != "pairs" or args.noise_types < 1):
        raise UserError(f"--noise_types {args.noise_types} is a number from 1 on, for --policy pairs")
    from senet.data import mixture_set

    if args.dry_run:
        print(f"{args.out}: {mixture_set.estimate(args)}")
        return
    if not (args.job or args.collect):
        mixture_set.make_plan(args)
    if not (args.plan or args.collect):
        mixture_set.make_audio(args)
    if not (args.plan or args.job):
        mixture_set.make_manifests(args)


if __name__ == "__main__":
    sys.exit(run(main))
