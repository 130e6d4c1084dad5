"""From a plan to ``dump/raw/<set>``: audio arks in shards, checked as stored, then the manifests.

A shard is 128 plan lines: ``ark/{noisy,clean,noise}.<shard>.ark``, and, last, ``ark/shard.<shard>.tsv`` with what was
read back from them. A shard counts as done when that table names the plan's present settings and lines and the arks
have the sizes that it says. A plan whose lines have no clean part, recordings without references, has noisy arks alone.
"""

import contextlib
import logging
import math
from typing import NamedTuple

import numpy as np

from senet import shards
from senet.data import audio
from senet.data.parallel import progress
from senet.data.scp import spk2utt, write_table
from senet.dsp.active_level import active_level_db
from senet.dsp.level import ACTIVE_FRAME_SECONDS, ACTIVE_RANGE_DB, rms_db
from senet.errors import UserError
from senet.files import whole_file

SHARD_SIZE = 128
SIGNALS = ("noisy", "clean", "noise")
SNR_TOLERANCE = 0.05  # dB
SUM_TOLERANCE = 2  # steps of 16 bit


class Stored(NamedTuple):
    """One mixture as its three files hold it."""

    utt: str
    noisy: str  # value for the scp
    clean: str  # "-" without references
    noise: str
    num_samples: int
    # Measured, to 0.0001; of pairs with the speech's active level, with snr_mode=active of active parts; nan without
    # references.
    snr_db: float
    residual: int  # largest |noisy - clean - noise|, in steps of 16 bit
    clipped: int  # samples that were cut to 16 bit
    level_db: float  # RMS of noisy, dB of full scale, to 0.0001


def _signals(plan):
    return SIGNALS if plan[0].clean else SIGNALS[:1]


def shard_paths(out, shard, plan):
    arks = [out / "ark" / f"{signal}.{shard.name}.ark" for signal in _signals(plan)]
    return arks, out / "ark" / f"shard.{shard.name}.tsv"


def is_done(out, shard, plan):
    """Whether a shard is complete and of this very plan."""
    arks, table = shard_paths(out, shard, plan)
    if not table.exists() or not all(ark.exists() for ark in arks):
        return False
    with open(table, encoding="utf-8") as f:
        return f.readline() == _seal(arks, shard, plan)


def _seal(arks, shard, plan):
    return f"# shard 2 {plan.digest(shard.start, shard.stop)} {' '.join(str(ark.stat().st_size) for ark in arks)}\n"


def measured_snr(clean, noise, active_at=None):
    """SNR in dB of two integer signals (N,); inf when the noise is silent, else -inf when the speech is.

    The speech counts with its level over all samples, or, with a sample rate ``active_at`` in Hz, its active level.
    """
    clean, noise = clean.astype(np.float32), noise.astype(np.float32)
    speech_db, noise_db = active_level_db(clean, active_at) if active_at else rms_db(clean), rms_db(noise)
    return math.inf if noise_db == -math.inf else speech_db - noise_db


def nearest_active_snr(clean, noise, sample_rate, planned):
    """What the SNR of the active parts (``senet.dsp.level.active_rms``) may have been, in dB, nearest to ``planned``.

    Two integer signals (N,) leave it open where a frame is so near to the limit that rounding to 16 bit decides.
    """
    (low, high), (noise_low, noise_high) = (_active_levels(x, sample_rate) for x in (clean, noise))
    return min(max(planned, low - noise_high), high - noise_low)


def _active_levels(x, sample_rate):
    """Lowest and highest level of the active frames, in dB of a step, that ``x`` can have had before it was rounded."""
    starts = np.arange(0, len(x), round(ACTIVE_FRAME_SECONDS * sample_rate))
    energies = np.add.reduceat(np.square(x, dtype=np.float64), starts)
    lengths = np.diff(starts, append=len(x))
    values = np.sqrt(energies / lengths)
    found = []
    for error in (0.5, -0.5):  # of each RMS: rounding moves no sample further
        limit = (values.max() - error) * 10 ** (-ACTIVE_RANGE_DB / 20)
        active = (values + error >= limit) | (values == values.max())
        power = energies[active].sum() / lengths[active].sum()
        found.append(10 * math.log10(power) if power > 0 else -math.inf)
    return found


def synthesise(out, plan, mixer, job=None):
    """Render the shards of ``job`` (J, N), or all, that are not done yet.

    Args:
        out: dump/raw/<set>.
        plan: Plan.
        mixer: has ``render(line) -> (int16 (3, N) of noisy, clean, noise, or (1, N); number of clipped samples)``.
    """
    rate = int(plan.settings["sample_rate"])
    mine = shards.my_shards(len(plan), SHARD_SIZE, job)
    todo = [shard for shard in mine if not is_done(out, shard, plan)]
    numbers = [i for shard in todo for i in range(shard.start, shard.stop)]
    lines = (plan[i] for i in progress(numbers, len(numbers), f"{out}: mixed"))
    for shard in todo:
        arks, table = shard_paths(out, shard, plan)
        table.unlink(missing_ok=True)
        rows = []
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(audio.WavArkWriter(ark)) for ark in arks]
            for _ in range(shard.start, shard.stop):
                line = next(lines)
                signals, clipped = mixer.render(line)
                values = [w.write(line.utt, x, rate) for w, x in zip(writers, signals, strict=True)]
                rows.append((line, values, clipped))
        _check_stored(table, arks, shard, plan, rows)
    logging.info("%s: %d shards mixed, %d were there", out, len(todo), len(mine) - len(todo))


def _check_stored(table, arks, shard, plan, rows):
    """Read a shard's arks back, measure, and write its table."""
    # How corpora of pairs define their SNR; ours go by the level over all samples.
    active_at = int(plan.settings["sample_rate"]) if plan.settings["policy"] == "pairs" else None
    stored = []
    for line, values, clipped in rows:
        noisy, *parts = (np.rint(audio.read(v)[0] * np.float32(32768)).astype(np.int32) for v in values)
        level_db = round(rms_db(noisy.astype(np.float32) / 32768), 4)
        if not parts:
            stored.append(Stored(line.utt, *values, "-", "-", len(noisy), math.nan, 0, clipped, level_db))
            continue
        clean, noise = parts
        if not len(noisy) == len(clean) == len(noise):
            raise UserError(
                f"{arks[0]}: '{line.utt}' has {len(noisy)} noisy, {len(clean)} clean and {len(noise)} noise samples"
            )
        residual = int(np.abs(noisy - clean - noise).max(initial=0))
        if plan.settings.get("snr_mode") == "active":
            snr_db = nearest_active_snr(clean, noise, int(plan.settings["sample_rate"]), line.snr_db)
        else:
            snr_db = measured_snr(clean, noise, active_at)
        stored.append(Stored(line.utt, *values, len(noisy), round(snr_db, 4), residual, clipped, level_db))
    with whole_file(table) as f:
        f.write(_seal(arks, shard, plan))
        f.writelines("\t".join(map(str, row)) + "\n" for row in stored)


def read_stored(out, plan):
    """Every Stored of a finished set, in the plan's order; UserError when a shard is missing or of another plan."""
    everything = shards.all_shards(len(plan), SHARD_SIZE)
    missing = [s for s in everything if not is_done(out, s, plan)]
    if missing:
        raise UserError(
            f"{shard_paths(out, missing[0], plan)[1]}: missing, damaged or of an earlier plan "
            f"({len(missing)} of {len(everything)} shards); run 'senet.bin.mix' again without --collect"
        )
    for shard in everything:
        for row in shard_paths(out, shard, plan)[1].read_text(encoding="utf-8").splitlines()[1:]:
            utt, noisy, clean, noise, n, snr, residual, clipped, level = row.split("\t")
            yield Stored(utt, noisy, clean, noise, int(n), float(snr), int(residual), int(clipped), float(level))


def collect(out, plan, labels):
    """Check a finished set and write its manifests; wav.scp comes last.

    Args:
        out: dump/raw/<set>.
        plan: Plan.
        labels: dict from manifest (utt2snr, utt2noise, ...) to a function of (Line, Stored) that gives the value.
    Returns:
        dict of what was measured: mixtures, hours, max_snr_error (dB, against the plan), max_residual, clipped.
    Raises:
        UserError: a mixture's SNR is not that of its label, its parts do not add up, or it is clipped
            although the plan says scale_all.
    """
    rows = []
    for i, stored in enumerate(progress(read_stored(out, plan), len(plan), f"{out}: checked")):
        if faults := _faults(plan[i], stored, plan.settings):
            raise UserError(f"{stored.noisy}: '{plan[i].utt}': {'; '.join(faults)}. Delete {out}/ark and mix again")
        rows.append((plan[i], stored))
    rate = int(plan.settings["sample_rate"])
    _write_manifests(out, rows, rate, labels, _signals(plan))
    whole = [(line, stored) for line, stored in rows if not stored.clipped]
    result = {
        "mixtures": len(rows),
        "hours": sum(stored.num_samples for _, stored in rows) / rate / 3600,
        "max_snr_error": max((_snr_error(*row, plan.settings) for row in whole), default=0.0),
        "max_residual": max((stored.residual for _, stored in whole), default=0),
        "clipped": sum(stored.clipped for _, stored in rows),
    }
    logging.info("%s: %s", out, "; ".join(_summary(result, plan)))
    return result


def _summary(result, plan):
    yield f"{result['mixtures']} mixtures, {result['hours']:.2f} h"
    if plan.settings["policy"] != "pairs":
        parts = " of the dry ones" if plan.settings.get("target") == "early" else ""
        yield f"SNR{parts} within {result['max_snr_error']:.4f} dB of the label"
    if plan[0].clean:
        yield f"noisy - clean - noise at most {result['max_residual']} steps of 16 bit"
    else:
        yield "without references"
    yield f"{result['clipped']} clipped samples"


def _snr_error(line, stored, settings):
    """In dB; 0 where the plan has none, and where it is about more than the stored clean signal.

    That is so of a reverberant mixture with target=early: the label counts all of the reverberant speech, of which the
    late part is stored in noise. Of these only the sum, the length and the clipping are checked.
    """
    if line.snr_db is None or (settings.get("target") == "early" and line.rir):
        return 0.0
    return abs(stored.snr_db - line.snr_db)


def _faults(line, stored, settings):
    """What the stored mixture has against the plan, as a list of phrases."""
    faults = []
    if stored.utt != line.utt:
        faults.append(f"'{stored.utt}' was stored instead")
    if stored.num_samples != line.num_samples:
        faults.append(f"{stored.num_samples} samples, {line.num_samples} planned")
    if stored.clipped and settings["on_clip"] == "scale_all":
        faults.append(f"{stored.clipped} clipped samples")
    if not stored.clipped:  # what was clipped, as on_clip=none allows, has neither its SNR nor its sum any more
        if _snr_error(line, stored, settings) > SNR_TOLERANCE:
            faults.append(f"SNR {stored.snr_db:.3f} dB, labelled {line.snr_db:g}")
        # Pairs come from elsewhere: their noise may well be something else than the difference.
        if stored.residual > SUM_TOLERANCE and settings["policy"] != "pairs":
            faults.append(f"noisy - clean - noise reaches {stored.residual} steps of 16 bit")
    return faults


def _write_manifests(out, rows, rate, labels, signals):
    """The data directory's files, from (Line, Stored) pairs."""

    def column(value):
        return [(line.utt, value(line, stored)) for line, stored in rows]

    remove_manifests(out)
    speakers = column(lambda line, _: line.spk)
    write_table(out / "utt2spk", speakers)
    write_table(out / "spk2utt", spk2utt(sorted(speakers)))
    write_table(out / "utt2num_samples", column(lambda _, stored: stored.num_samples))
    write_table(out / "utt2dur", column(lambda _, stored: f"{stored.num_samples / rate:.4f}"))
    for name, label in labels.items():
        write_table(out / name, column(label))
    if "clean" in signals:
        write_table(out / "spk1.scp", column(lambda _, stored: stored.clean))
        write_table(out / "noise1.scp", column(lambda _, stored: stored.noise))
    write_table(out / "wav.scp", column(lambda _, stored: stored.noisy))


def remove_manifests(out):
    """What makes a set look finished goes first when it is made anew."""
    for path in (out / "wav.scp", *out.glob("*.scp"), *out.glob("utt2*"), out / "spk2utt"):
        path.unlink(missing_ok=True)


def remove_stale_shards(out, plan):
    """Shards beyond the plan's end, left by a longer one."""
    keep = set()
    for shard in shards.all_shards(len(plan), SHARD_SIZE):
        arks, table = shard_paths(out, shard, plan)
        keep.update((*arks, table))
    for path in (out / "ark").glob("*.[0-9]*.*"):
        if path not in keep:
            path.unlink()
