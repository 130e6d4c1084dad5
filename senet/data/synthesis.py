"""From a plan to ``dump/raw/<set>``: audio arks in shards, checked as stored, then the manifests.

A shard is 128 plan lines: ``ark/{noisy,clean,noise}.<shard>.ark``, and, last, ``ark/shard.<shard>.tsv`` with what was
read back from them. A shard counts as done when that table names the plan's present settings and lines and the arks
have the sizes that it says.
"""

import logging
import math
from typing import NamedTuple

import numpy as np

from senet import shards
from senet.data import audio
from senet.data.parallel import progress
from senet.data.scp import spk2utt, write_table
from senet.errors import UserError
from senet.files import whole_file

SHARD_SIZE = 128
SIGNALS = ("noisy", "clean", "noise")
MANIFESTS = (
    *("wav.scp", "spk1.scp", "noise1.scp", "utt2spk", "spk2utt", "utt2num_samples", "utt2dur", "utt2snr", "utt2noise"),
)
SNR_TOLERANCE = 0.05  # dB
SUM_TOLERANCE = 2  # steps of 16 bit


class Stored(NamedTuple):
    """One mixture as its three files hold it."""

    utt: str
    noisy: str  # value for the scp
    clean: str
    noise: str
    num_samples: int
    snr_db: float  # measured, to 0.0001
    residual: int  # largest |noisy - clean - noise|, in steps of 16 bit
    clipped: int  # samples that were cut to 16 bit


def shard_paths(out, shard):
    return [out / "ark" / f"{signal}.{shard.name}.ark" for signal in SIGNALS], out / "ark" / f"shard.{shard.name}.tsv"


def is_done(out, shard, plan):
    """Whether a shard is complete and of this very plan."""
    arks, table = shard_paths(out, shard)
    if not table.exists() or not all(ark.exists() for ark in arks):
        return False
    with open(table, encoding="utf-8") as f:
        return f.readline() == _seal(arks, shard, plan)


def _seal(arks, shard, plan):
    return f"# {plan.digest(shard.start, shard.stop)} {' '.join(str(ark.stat().st_size) for ark in arks)}\n"


def measured_snr(clean, noise):
    """SNR in dB of two integer signals (N,); infinite when one is silent."""
    power = [float(np.dot(x, x)) for x in (clean.astype(np.float64), noise.astype(np.float64))]
    if power[1] == 0:
        return math.inf
    return 10 * math.log10(power[0] / power[1]) if power[0] else -math.inf


def synthesise(out, plan, mixer, job=None):
    """Render the shards of ``job`` (J, N), or all, that are not done yet.

    Args:
        out: dump/raw/<set>.
        plan: Plan.
        mixer: has ``render(line) -> ([noisy, clean, noise] int16, clipped samples)``.
    """
    rate = int(plan.settings["sample_rate"])
    todo = [s for s in shards.my_shards(len(plan), SHARD_SIZE, job) if not is_done(out, s, plan)]
    lines = ((shard, i) for shard in todo for i in range(shard.start, shard.stop))
    lines = progress(lines, sum(s.stop - s.start for s in todo), f"{out}: mixed")
    for shard in todo:
        arks, table = shard_paths(out, shard)
        table.unlink(missing_ok=True)
        rows = []
        with (
            audio.WavArkWriter(arks[0]) as noisy_ark,
            audio.WavArkWriter(arks[1]) as clean_ark,
            audio.WavArkWriter(arks[2]) as noise_ark,
        ):
            for _ in range(shard.start, shard.stop):
                line = plan[next(lines)[1]]
                signals, clipped = mixer.render(line)
                writers = (noisy_ark, clean_ark, noise_ark)
                values = [w.write(line.utt, x, rate) for w, x in zip(writers, signals, strict=True)]
                rows.append((line, values, clipped))
        _check_stored(table, arks, shard, plan, rows)
    logging.info("%s: %d shards mixed, %d were there", out, len(todo), len(shards.my_shards(len(plan), SHARD_SIZE, job)) - len(todo))


def _check_stored(table, arks, shard, plan, rows):
    """Read a shard's arks back, measure, and write its table."""
    stored = []
    for line, values, clipped in rows:
        noisy, clean, noise = (np.rint(audio.read(v)[0] * np.float32(32768)).astype(np.int32) for v in values)
        if not len(noisy) == len(clean) == len(noise):
            raise UserError(f"{arks[0]}: '{line.utt}' has {len(noisy)} noisy, {len(clean)} clean and {len(noise)} noise samples")
        residual = int(np.abs(noisy - clean - noise).max(initial=0))
        stored.append(Stored(line.utt, *values, len(noisy), round(measured_snr(clean, noise), 4), residual, clipped))
    with whole_file(table) as f:
        f.write(_seal(arks, shard, plan))
        f.writelines("\t".join(map(str, row)) + "\n" for row in stored)


def read_stored(out, plan):
    """Every Stored of a finished set, in the plan's order; UserError when a shard is missing or of another plan."""
    everything = shards.all_shards(len(plan), SHARD_SIZE)
    missing = [s for s in everything if not is_done(out, s, plan)]
    if missing:
        raise UserError(
            f"{shard_paths(out, missing[0])[1]}: missing, damaged or of an earlier plan "
            f"({len(missing)} of {len(everything)} shards); run 'senet.bin.mix' again without --collect"
        )
    for shard in everything:
        for row in shard_paths(out, shard)[1].read_text(encoding="utf-8").splitlines()[1:]:
            utt, noisy, clean, noise, n, snr, residual, clipped = row.split("\t")
            yield Stored(utt, noisy, clean, noise, int(n), float(snr), int(residual), int(clipped))


def collect(out, plan, noise_label=None):
    """Check a finished set and write its manifests; wav.scp comes last.

    Args:
        out: dump/raw/<set>.
        plan: Plan.
        noise_label: function from plan line to the label in utt2noise, or None for no utt2noise.
    Returns:
        dict of what was measured: mixtures, hours, max_snr_error (dB), max_residual, clipped.
    Raises:
        UserError: a mixture's SNR is not that of its label, its parts do not add up, or it is clipped
            although the plan says scale_all.
    """
    settings = plan.settings
    rate, clip_allowed = int(settings["sample_rate"]), settings["on_clip"] == "none"
    rows, worst_snr, worst_sum, clipped, samples = [], 0.0, 0, 0, 0
    for i, stored in enumerate(progress(read_stored(out, plan), len(plan), f"{out}: checked")):
        line = plan[i]
        clipped += stored.clipped
        samples += stored.num_samples
        touched = stored.clipped and clip_allowed
        error = 0.0 if line.snr_db is None else abs(stored.snr_db - line.snr_db)
        faults = [
            f"'{stored.utt}' stands where '{line.utt}' is expected" if stored.utt != line.utt else "",
            f"{stored.num_samples} samples, {line.num_samples} planned" if stored.num_samples != line.num_samples else "",
            f"SNR {stored.snr_db:.3f} dB, labelled {line.snr_db:g}" if error > SNR_TOLERANCE and not touched else "",
            f"noisy - clean - noise reaches {stored.residual} steps" if stored.residual > SUM_TOLERANCE and not touched else "",
            f"{stored.clipped} clipped samples" if stored.clipped and not clip_allowed else "",
        ]
        if any(faults):
            raise UserError(f"{stored.noisy}: '{line.utt}': {'; '.join(filter(None, faults))}. Delete {out} and mix again")
        if not touched:
            worst_snr, worst_sum = max(worst_snr, error), max(worst_sum, stored.residual)
        rows.append((line, stored))
    write_manifests(out, rows, rate, noise_label)
    result = {
        "mixtures": len(rows),
        "hours": samples / rate / 3600,
        "max_snr_error": worst_snr,
        "max_residual": worst_sum,
        "clipped": clipped,
    }
    logging.info(
        "%s: %d mixtures, %.2f h; SNR within %.4f dB of the label, noisy - clean - noise at most %d steps of 16 bit, %d clipped samples",
        *(out, *result.values()),
    )
    return result


def write_manifests(out, rows, rate, noise_label):
    """The data directory's files, from (Line, Stored) pairs."""
    def column(value):
        return [(line.utt, value(line, stored)) for line, stored in rows]

    remove_manifests(out)
    speakers = column(lambda line, _: line.spk)
    write_table(out / "utt2spk", speakers)
    write_table(out / "spk2utt", spk2utt(sorted(speakers)))
    write_table(out / "utt2num_samples", column(lambda _, s: s.num_samples))
    write_table(out / "utt2dur", column(lambda _, s: f"{s.num_samples / rate:.4f}"))
    write_table(out / "utt2snr", column(lambda line, s: f"{s.snr_db if line.snr_db is None else line.snr_db:.2f}"))
    if noise_label:
        write_table(out / "utt2noise", column(lambda line, _: noise_label(line)))
    write_table(out / "spk1.scp", column(lambda _, s: s.clean))
    write_table(out / "noise1.scp", column(lambda _, s: s.noise))
    write_table(out / "wav.scp", column(lambda _, s: s.noisy))


def remove_manifests(out):
    """What makes a set look finished goes first when it is made anew."""
    for name in MANIFESTS:
        (out / name).unlink(missing_ok=True)


def remove_stale_shards(out, plan):
    """Shards beyond the plan's end, left by a longer one."""
    keep = {path for s in shards.all_shards(len(plan), SHARD_SIZE) for path in (*shard_paths(out, s)[0], shard_paths(out, s)[1])}
    for path in (out / "ark").glob("*.[0-9]*.*"):
        if path not in keep:
            path.unlink()
