"""Existing noisy/clean pairs (a data directory of files) brought into the form of mixed sets, at the recipe's rate.

Recordings without clean references, such as blind test sets, go the same way.
"""

import hashlib
import itertools
from pathlib import Path

import numpy as np

from senet.data import audio, noise_groups
from senet.data.mixing import FULL_SCALE, store
from senet.data.parallel import parallel_map
from senet.data.plan import Line, Part
from senet.data.prepare import fingerprint
from senet.data.scp import Scp, read_table, split_value
from senet.data.sources import read_mono_at
from senet.data.stored import open_command, open_entry
from senet.dsp.resample import resample
from senet.errors import UserError

LABELS = ("utt2snr", "utt2noise", "utt2level", "utt2rir")


def covering_length(n, rate_in, rate_out):
    """Samples at ``rate_out`` that have their time within a signal of ``n`` samples at ``rate_in``: rounded up."""
    return -(-n * rate_out // rate_in)


def _spectrum(value):
    return noise_groups.spectrum(*audio.read(value))


class Pairs:
    """A data directory with wav.scp, utt2spk, perhaps spk1.scp, and with that perhaps noise1.scp.

    Without noise1.scp the noise is the difference noisy - clean, without spk1.scp there is noisy alone. Levels stay as
    they are, except that with ``on_clip=scale_all`` a pair that would pass full scale (resampling can raise peaks) is
    scaled down to ``peak``; with ``none`` it is clipped, and the difference is that of what was clipped.

    Args:
        path: the folder.
        sample_rate: Hz of what is made.
        allow_pipes: run the values of the three files that are shell commands (``cmd |``) and take what they write.
    """

    def __init__(self, path, sample_rate, *, peak=0.99, on_clip="scale_all", allow_pipes=False):
        self.path, self.sample_rate, self.peak, self.on_clip = Path(path), sample_rate, peak, on_clip
        names = ("wav.scp", "spk1.scp", "noise1.scp")
        there = itertools.takewhile(lambda path: path.exists(), (self.path / name for name in names[1:]))
        self.scps = [Scp(path, allow_pipes) for path in (self.path / names[0], *there)]
        self.speakers = read_table(self.path / "utt2spk")
        noisy = self.scps[0]
        for scp in self.scps[1:]:
            if scp.keys_digest != noisy.keys_digest:
                raise UserError(
                    f"{scp.path}: its ids differ from those of {noisy.path}; run utils/fix_data_dir.sh {path}"
                )
        if list(self.speakers) != [key for key, _ in noisy]:
            raise UserError(
                f"{self.path / 'utt2spk'}: its ids differ from those of {noisy.path}; run utils/fix_data_dir.sh"
            )

    def __len__(self):
        return len(self.scps[0])

    def labels(self, stored, *, noise_types=None, nj=1):
        """Manifests to go with the set, as {name: function of (Line, Stored)}: what the corpus says about the pairs.

        What it does not say is estimated: the SNR from each pair, the noise as one of ``noise_types`` groups of the
        whole set (see ``senet.data.noise_groups``). These manifests are called ``utt2snr_estimated`` and
        ``utt2noise_estimated``.

        Args:
            stored: every Stored of the set, an iterable.
            noise_types: how many noises the corpus has; None: they are not grouped.
            nj: threads.
        """
        found = {}
        for name in LABELS:
            if (self.path / name).exists():
                table = read_table(self.path / name)
                if missing := self.speakers.keys() - table.keys():
                    raise UserError(
                        f"{self.path / name}: lacks {len(missing)} of the {len(self)} ids in wav.scp, such as "
                        f"'{min(missing)}'; complete it, or remove it"
                    )
                found[name] = lambda line, stored, table=table: table[line.utt]
        if len(self.scps) > 1 and "utt2snr" not in found:
            found["utt2snr_estimated"] = lambda line, stored: f"{stored.snr_db:.2f}"
        if len(self.scps) > 1 and noise_types and "utt2noise" not in found:
            noises = {one.utt: one.noise for one in stored}
            spectra = parallel_map(_spectrum, list(noises.values()), nj, f"{self.path}: noises looked at")
            groups = dict(zip(noises, noise_groups.group(list(spectra), noise_types), strict=True))
            found["utt2noise_estimated"] = lambda line, stored: groups[line.utt]
        return found

    def _open(self, scp, i):
        value = scp.value(i)
        if value.endswith("|"):  # Scp let it pass, so it was allowed
            return open_command(value, f"{scp.path}:{i + 1}: '{scp.key(i)}'")
        return open_entry(value, scp.root)

    def _header(self, i):
        """(samples at our rate, fingerprints) of pair ``i``."""
        entries = [self._open(scp, i) for scp in self.scps]
        infos = [audio.info(entry) for entry in entries]
        if len({(found.frames, found.sample_rate) for found in infos}) > 1:
            lengths = ", ".join(f"{found.frames} samples at {found.sample_rate} Hz" for found in infos)
            raise UserError(
                f"{self.scps[0].path}:{i + 1}: '{self.scps[0].key(i)}' and its references differ: {lengths}; "
                "they have to be of one length and rate"
            )
        prints = [
            hashlib.blake2b(entry.file.data, digest_size=16).hexdigest()
            if scp.value(i).endswith("|")
            else fingerprint(Path(scp.root, split_value(scp.value(i))[0]))
            for scp, entry in zip(self.scps, entries, strict=True)
        ]
        return covering_length(infos[0].frames, infos[0].sample_rate, self.sample_rate), prints

    def plan(self, num_clips=None, nj=1):
        """(lines, digest of the recordings): all pairs, or ``num_clips`` evenly spaced ones."""
        chosen = range(len(self))
        if num_clips is not None and num_clips < len(self):
            chosen = np.linspace(0, len(self) - 1, num_clips).round().astype(int).tolist()
        lines, h = [], hashlib.sha256()
        for i, (length, prints) in zip(chosen, parallel_map(self._header, chosen, nj, "headers read"), strict=True):
            utt = self.scps[0].key(i)
            part = (Part(utt, 0, length),)
            clean, noise = (part if len(self.scps) > k else () for k in (1, 2))
            lines.append(Line(utt, self.speakers[utt], clean, noise, None, None, None, length))
            h.update("".join(prints).encode())
        return lines, h.hexdigest()[:12]

    def render(self, line):
        """int16 (3, line.num_samples): noisy, clean, noise, or (1, ...): noisy; and the number of clipped samples."""
        signals = [self._read(scp, line) * np.float64(FULL_SCALE) for scp in self.scps]
        difference = [signals[0] - signals[1]] if len(signals) == 2 else []
        largest = max(np.abs(x).max() for x in signals + difference)
        if self.on_clip == "scale_all" and largest > FULL_SCALE - 1:
            signals = [x * (self.peak * FULL_SCALE / largest) for x in signals]
        stored = np.empty((len(signals + difference), line.num_samples), np.int16)
        clipped = store([np.rint(x) for x in signals], stored[: len(signals)])
        if difference:
            clipped += store([stored[0].astype(np.int32) - stored[1]], stored[2:])
        return stored, clipped

    def _read(self, scp, line):
        """float32 (line.num_samples,) at our rate."""
        entry = self._open(scp, scp.index(line.utt))
        found = audio.info(entry)
        n = covering_length(found.frames, found.sample_rate, self.sample_rate)
        if n != line.num_samples:
            raise UserError(f"{entry.where}: {n} samples, {line.num_samples} when the plan was made; run --plan again")
        x = read_mono_at(entry, found.sample_rate, root=None, num_samples=found.frames)
        # ``resample`` rounds the length: with zeros up to the time of its last sample, that sample is there.
        x = np.pad(x, (0, covering_length(n, self.sample_rate, found.sample_rate) - len(x)))
        return resample(x, found.sample_rate, self.sample_rate)[:n]
