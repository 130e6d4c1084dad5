"""The three steps of making a set of mixtures: plan, audio, manifests. Options as in ``senet.bin.mix``."""

import logging
from pathlib import Path

from senet.data.mixing import Mixer
from senet.data.pairs import Pairs
from senet.data.parallel import available_cpus, parallel_map
from senet.data.plan import Plan, plan_text, write_plan
from senet.data.policies import Crop, Dns, Snsd, snr_levels
from senet.data.sources import SourceSet
from senet.data.synthesis import collect, read_stored, remove_manifests, remove_stale_shards, synthesise
from senet.errors import UserError

DEFAULT_CLIPS = 10000
SNR_RANGE = {"crop": (-6.0, 9.0), "snsd": (-6.0, 9.0), "dns": (-5.0, 20.0)}
MIN_RMS_DB = {"crop": -60.0, "snsd": -60.0, "dns": -80.0}


def _source(args, which, channel=None):
    name = getattr(args, which)
    if not name:
        raise UserError(f"--{which} is not given; it names a source set below {args.data}, such as {which}_train")
    return SourceSet(args.data / name, args.sample_rate, channel)


def _range(option, lower, upper):
    if lower > upper:
        raise UserError(f"--{option}_lower {lower:g} is more than --{option}_upper {upper:g}")
    return lower, upper


def _policy(args):
    dns = args.policy == "dns"
    if dns and args.snr_levels:
        raise UserError("--snr_levels is for --policy crop and snsd; dns draws from --snr_lower to --snr_upper")
    for option, plain in (("rir", ""), ("target", "reverberant"), ("snr_mode", "power")):
        value = getattr(args, option) or ""
        if value != plain and not dns:
            raise UserError(f"--{option} {value} is for --policy dns; {args.policy} has no such choice")
    speech, noise = _source(args, "speech"), _source(args, "noise")
    lower, upper = (
        given if given is not None else default
        for given, default in zip((args.snr_lower, args.snr_upper), SNR_RANGE[args.policy], strict=True)
    )
    common = {
        "seed": args.seed,
        "min_rms_db": MIN_RMS_DB[args.policy] if args.min_rms_db is None else args.min_rms_db,
        "exclude_types": tuple(filter(None, args.exclude_types.split(","))),
    }
    samples, gap = (round(seconds * args.sample_rate) for seconds in (args.seconds, args.silence_seconds))
    if samples < 1:
        raise UserError(f"--seconds {args.seconds:g} is not a length; give more than 0")
    if dns:
        if not 0 <= args.rir_prob <= 1:
            raise UserError(f"--rir_prob {args.rir_prob:g} is not a share from 0 to 1")
        return Dns(
            args.out.name,
            speech,
            noise,
            rir=_source(args, "rir", channel=0) if args.rir else None,
            num_samples=samples,
            gap_samples=gap,
            snr_range=_range("snr", lower, upper),
            level_range=_range("level", args.level_lower, args.level_upper),
            rir_prob=args.rir_prob,
            **common,
        )
    common["snrs"] = args.snr_levels or snr_levels(lower, upper, args.num_snr_levels)
    if args.policy == "crop":
        return Crop(args.out.name, speech, noise, num_samples=samples, **common)
    return Snsd(args.out.name, speech, noise, min_samples=samples, gap_samples=gap, **common)


def _settings(args, policy):
    """What the plan's first line says: all that rendering needs, and how the lines were drawn."""
    dns = args.policy == "dns"
    settings = {
        "policy": args.policy,
        "set": args.out.name,
        "sample_rate": args.sample_rate,
        "level_of": "noisy" if dns else "clean",
        "parts": "equal_rms" if args.policy == "snsd" else "as_is",
        "peak": args.peak,
        "on_clip": args.on_clip,
        "speech": args.speech,
        "noise": args.noise,
        "sources": _digests(policy.speech, policy.noise, policy.rir),
        "seed": args.seed,
        "seconds": args.seconds,
    }
    if dns:
        settings |= {
            "rir": args.rir or "-",
            "rir_prob": args.rir_prob,
            "target": args.target,
            "snr_mode": args.snr_mode,
            "snr": "..".join(f"{x:g}" for x in policy.snr_range),
            "level": "..".join(f"{x:g}" for x in policy.level_range),
            "silence_seconds": args.silence_seconds,
        }
    else:
        settings["snrs"] = ",".join(f"{x:g}" for x in policy.snrs)
    return settings | {"min_rms_db": policy.min_rms_db, "exclude_types": args.exclude_types or "-"}


def _digests(*sets):
    return "-".join(sources.digest() for sources in sets if sources)


def open_mixer(args):
    """(policy, mixer) of the options ``args``: what draws lines, and what makes audio of them.

    A plan and training on the fly both come from here. ``mixer.settings`` says all that the mixtures depend on, the
    digests of the source sets included.
    """
    policy = _policy(args)
    return policy, Mixer(_settings(args, policy), policy.speech, policy.noise, policy.rir)


def _pairs(args):
    if not args.speech:
        raise UserError(f"--speech is not given; for pairs it names the set to format below {args.data}")
    clip = {"peak": args.peak, "on_clip": args.on_clip}
    return Pairs(args.data / args.speech, args.sample_rate, allow_pipes=args.allow_pipes, **clip)


def _pair_settings(args, digest):
    return {
        "policy": "pairs",
        "set": args.out.name,
        "sample_rate": args.sample_rate,
        "peak": args.peak,
        "on_clip": args.on_clip,
        "speech": args.speech,
        "sources": digest,
    }


def estimated_seconds(args):
    """Total length of the mixtures that ``args`` ask for."""
    if args.policy == "pairs":
        lines, _ = _pairs(args).plan(args.num_clips, args.nj or available_cpus())
        return sum(line.num_samples for line in lines) / args.sample_rate
    hours = None if args.total_hours is None else args.total_hours * 3600
    by_count = None if args.num_clips is None else args.num_clips * args.seconds
    return min((x for x in (hours, by_count) if x is not None), default=DEFAULT_CLIPS * args.seconds)


def estimate(args):
    """What ``args`` ask for, as text: hours, samples, bytes; "about" where the pairs are not listed yet."""
    source = args.data / (args.speech or "")
    about, signals = "", 3
    if args.policy == "pairs" and (args.speech is None or (source / "wav.scp").exists()):
        seconds, signals = estimated_seconds(args), 3 if (source / "spk1.scp").exists() else 1
    elif args.policy == "pairs":
        if args.about_hours is None:
            return f"{source} is not listed yet (stage 1)"
        about, seconds = "about ", args.about_hours * 3600
    else:
        seconds = estimated_seconds(args)
    samples = round(seconds * args.sample_rate)
    return f"{about}{seconds / 3600:.2f} h of mixtures, {samples} samples, {2 * signals * samples} bytes"


def draw(policy, *, num_clips, total_samples, nj):
    """Lines in order, until there are ``num_clips`` of them or they last ``total_samples`` (whichever comes first)."""
    lines, samples, first = [], 0, 0
    per_draw = policy.lines_per_draw
    while True:
        if num_clips is not None:
            batch = min(1 << 16, -(-(num_clips - len(lines)) // per_draw))
        else:
            batch = 16 * nj
        for found in parallel_map(policy.lines, range(first, first + batch), nj, "planned"):
            for line in found:
                if len(lines) == num_clips or (total_samples is not None and samples >= total_samples):
                    return lines
                lines.append(line)
                samples += line.num_samples
        if len(lines) == num_clips:
            return lines
        first += batch


def make_plan(args):
    """Write ``args.out``/plan.tsv; what an earlier, different plan led to no longer looks finished."""
    if any(amount is not None and amount <= 0 for amount in (args.num_clips, args.total_hours)):
        raise UserError("--num_clips and --total_hours must be more than 0")
    path = args.out / "plan.tsv"
    if (args.out / "wav.scp").exists() and not path.exists() and not (args.out / "ark").exists():
        raise UserError(f"{args.out}: holds a wav.scp that was not made by mixing; choose another --out")
    nj = args.nj or available_cpus()
    if args.policy == "pairs":
        pairs = _pairs(args)
        lines, digest = pairs.plan(args.num_clips, nj)
        settings = _pair_settings(args, digest)
    else:
        policy, mixer = open_mixer(args)
        num_clips = DEFAULT_CLIPS if args.num_clips is None and args.total_hours is None else args.num_clips
        total = None if args.total_hours is None else args.total_hours * 3600 * args.sample_rate
        lines = draw(policy, num_clips=num_clips, total_samples=total, nj=nj)
        settings = mixer.settings
    if path.exists() and path.read_text(encoding="utf-8") != plan_text(settings, lines):
        remove_manifests(args.out)
    write_plan(path, settings, lines)
    remove_stale_shards(args.out, lines)
    hours = sum(line.num_samples for line in lines) / args.sample_rate / 3600
    logging.info("%s: %d mixtures planned, %.2f h", path, len(lines), hours)


def make_audio(args):
    """Render the shards of ``args.job`` that are not there yet."""
    plan = Plan(args.out / "plan.tsv")
    synthesise(args.out, plan, _renderer(args, plan), args.job)


def _renderer(args, plan):
    settings = plan.settings
    rate = int(settings["sample_rate"])
    if settings["policy"] == "pairs":
        path = Path(args.data) / settings["speech"]
        clip = {"peak": float(settings["peak"]), "on_clip": settings["on_clip"]}
        return Pairs(path, rate, allow_pipes=args.allow_pipes, **clip)
    names = {which: settings.get(which, "-") for which in ("speech", "noise", "rir")}
    sets = [
        SourceSet(Path(args.data) / name, rate, channel=0 if which == "rir" else None)
        for which, name in names.items()
        if name != "-"
    ]
    if _digests(*sets) != settings["sources"]:
        changed = " or ".join(str(sources.path) for sources in sets)
        raise UserError(f"{plan.path}: {changed} changed since the plan was made; run --plan again")
    return Mixer(settings, *sets)


def make_manifests(args):
    """Check all shards and write the manifests."""
    plan = Plan(args.out / "plan.tsv")
    data, settings = Path(args.data), plan.settings
    if settings["policy"] == "pairs":
        pairs = Pairs(data / settings["speech"], int(settings["sample_rate"]), allow_pipes=args.allow_pipes)
        nj = args.nj or available_cpus()
        labels = pairs.labels(read_stored(args.out, plan), noise_types=args.noise_types, nj=nj)
    else:
        noise = SourceSet(data / settings["noise"], int(settings["sample_rate"]))
        labels = _labels(noise.table("utt2noise"), with_rir=settings.get("rir", "-") != "-")
    return collect(args.out, plan, labels)


def _labels(types, with_rir):
    """Manifests of a mixed set, and functions that give the values; see ``collect``."""

    def noise(line, stored):
        sources = dict.fromkeys(part.source for part in line.noise if part.source)
        return ",".join(dict.fromkeys(map(types.__getitem__, sources)) if types else sources)

    labels = {
        "utt2snr": lambda line, stored: f"{line.snr_db:.2f}",
        "utt2noise": noise,
        "utt2level": lambda line, stored: f"{stored.level_db:.2f}",  # after the peak guard
    }
    if with_rir:
        labels["utt2rir"] = lambda line, stored: line.rir or "none"
    return labels
