"""The streams of batches that the options of a training describe, and what is refused about them."""

import argparse
import logging
import os
from pathlib import Path

from senet.data import mixture_set, splits
from senet.data.dataset import Batches
from senet.data.online import Mixtures
from senet.data.plan import read_settings
from senet.errors import UserError

log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # where the processes that read leave their batches
PREFETCHED = 2  # batches of each of them, as torch has it


def open_data(args, model, passes=1):
    require_disjoint(args)

    def batches(folder, **options):
        feats = folder if args.feats_type == "stft" else None
        return Batches(
            folder,
            batch_size=args.batch_size,
            batch_seconds=args.batch_seconds,
            sample_rate=model.sample_rate,
            seed=args.seed,
            feats=feats,
            stft=getattr(model, "stft", None),
            bad_audio=args.bad_audio,
            **options,
        )

    if args.mix_conf:
        train = open_mixtures(args, model, passes)
    else:
        crop = {"crop_seconds": args.crop_seconds, "crop_hop_seconds": args.crop_hop_seconds}
        train = batches(args.train, passes=passes, **crop)
    return train, batches(args.valid, shuffle=False)


def tell_sizes(args, train, sample_rate):
    """Say what was hardly meant: crops that are never full, a batch of more than there is."""
    lengths = train.items.num_samples
    longest = max(lengths) / sample_rate
    if args.crop_seconds and longest < args.crop_seconds:
        log.warning(
            "crop_seconds %g: the longest of %s has %.3g s; each is filled up with silence to %g s",
            args.crop_seconds, args.train, longest, args.crop_seconds,
        )  # fmt: skip
    if not args.batch_seconds and len(lengths) < args.batch_size:
        log.warning("batch_size %d: %s has %d %ss, of which each batch is made", args.batch_size, args.train,
                    len(lengths), train.unit)  # fmt: skip


def open_mixtures(args, model, passes):
    if args.feats_type != "raw":
        raise UserError(f"feats_type: {args.feats_type} is stored, and {args.train} is mixed while training; use raw")
    if args.batch_seconds is not None:
        raise UserError(f"batch_seconds: {args.train} is mixed while training, to no list of lengths; use batch_size")
    if args.crop_hop_seconds is not None:
        raise UserError(
            f"crop_hop_seconds: {args.train} is mixed while training, each time anew; use null, and crop_seconds or "
            "mix_conf.seconds for the length of a window"
        )
    options = argparse.Namespace(
        **args.mix_conf, data=Path(args.data), out=Path(Path(args.train).stem), sample_rate=model.sample_rate,
        seed=args.seed,
    )  # fmt: skip
    policy, mixer = mixture_set.open_mixer(options)
    return Mixtures(
        args.train,
        policy,
        mixer,
        number=round(mixture_set.estimated_seconds(options) / options.seconds),
        crop_seconds=args.crop_seconds,
        on_device=args.mix_device == "gpu",
        batch_size=args.batch_size,
        seed=args.seed,
        bad_audio=args.bad_audio,
        passes=passes,
    )


def require_disjoint(args):
    """Refuse to mix both sets from shared speakers or recordings; of data directories, whose utt2spk may mean anything
    (and be one name for all), say it."""
    sets = {}  # of each side: the source sets that it is mixed from, where that is known
    for side, folder in (("train", args.train), ("valid", args.valid)):
        settings = (side == "train" and args.mix_conf) or plan_settings(Path(folder))
        sets[side] = {kind: Path(args.data) / settings[kind] for kind in ("speech", "noise") if settings.get(kind)}
    for kind, folder in sets["train"].items():
        if kind in sets["valid"]:
            splits.require_disjoint(folder, sets["valid"][kind], by_speaker=kind == "speech")
    spoken = [Path(sets["train"]["speech"] if args.mix_conf else args.train), Path(args.valid)]
    if shared := splits.shared_speakers(*spoken):
        log.warning(
            "%s and %s: %d speakers are in both, such as '%s'; how the model does with other voices is not validated",
            *spoken, len(shared), min(shared),
        )  # fmt: skip


def plan_settings(folder):
    """Of a set that senet.bin.mix made of source sets: how; else nothing."""
    settings = read_settings(folder / "plan.tsv") if (folder / "plan.tsv").exists() else {}
    return {} if settings.get("policy") == "pairs" else settings


def require_shared_memory(args, group, *streams):
    """Refuse more or larger batches in the hands of reading processes than fit: these would die of a bus error.

    Of the processes that train on this machine each has readers, which read its share of a batch.
    """
    if not args.num_workers or not SHARED_MEMORY.is_dir():
        return
    found = os.statvfs(SHARED_MEMORY)
    here = group.hosts.count(group.hosts[group.rank])
    free = found.f_bavail * found.f_frsize // here
    batch = max(stream.batch_bytes(group.world) for stream in streams)
    needed = (args.num_workers * PREFETCHED + 1) * batch
    if needed > free:
        fitting = max(0, (free // batch - 1) // PREFETCHED)
        each = f" for each of {here} processes" if here > 1 else ""
        raise UserError(
            f"--num_workers {args.num_workers}: their batches, of up to {batch / 1e6:.0f} MB each, may take "
            f"{needed / 1e6:.0f} MB of shared memory, and {SHARED_MEMORY} has {free / 1e6:.0f} MB free{each} of "
            f"{found.f_blocks * found.f_frsize / 1e6:.0f} MB. Use --num_workers {fitting}, a smaller batch_size or "
            "crop_seconds, or give it more (docker run --shm-size 8g)"
        )
