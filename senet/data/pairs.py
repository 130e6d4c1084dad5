"""Existing noisy/clean pairs (a data directory of files) brought into the form of mixed sets, at the recipe's rate."""

import hashlib
from pathlib import Path

import numpy as np

from senet.data import audio
from senet.data.mixing import FULL_SCALE, store
from senet.data.parallel import parallel_map
from senet.data.plan import Line, Part
from senet.data.prepare import fingerprint
from senet.data.scp import Scp, read_table, split_value
from senet.data.sources import read_mono_at
from senet.data.stored import open_command, open_entry
from senet.dsp.resample import resample, resampled_length
from senet.errors import UserError


class Pairs:
    """A data directory with wav.scp, spk1.scp, perhaps noise1.scp, and utt2spk.

    Without noise1.scp the noise is the difference noisy - clean. Levels stay as they are, except that with
    ``on_clip=scale_all`` a pair that would pass full scale (resampling can raise peaks) is scaled down to ``peak``.

    Args:
        path: the folder.
        sample_rate: Hz of what is made.
        allow_pipes: run the values of the three files that are shell commands (``cmd |``) and take what they write.
    """

    def __init__(self, path, sample_rate, *, peak=0.99, on_clip="scale_all", allow_pipes=False):
        self.path, self.sample_rate, self.peak, self.on_clip = Path(path), sample_rate, peak, on_clip
        names = ["wav.scp", "spk1.scp"] + ["noise1.scp"] * (self.path / "noise1.scp").exists()
        self.scps = [Scp(self.path / name, allow_pipes) for name in names]
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

    def table(self, name):
        return read_table(self.path / name) if (self.path / name).exists() else {}

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
        return resampled_length(infos[0].frames, infos[0].sample_rate, self.sample_rate), prints

    def plan(self, num_clips=None, nj=1):
        """(lines, digest of the recordings): all pairs, or ``num_clips`` evenly spaced ones."""
        chosen = range(len(self))
        if num_clips is not None and num_clips < len(self):
            chosen = np.linspace(0, len(self) - 1, num_clips).round().astype(int).tolist()
        lines, h = [], hashlib.sha256()
        for i, (length, prints) in zip(chosen, parallel_map(self._header, chosen, nj, "headers read"), strict=True):
            utt = self.scps[0].key(i)
            part = (Part(utt, 0, length),)
            lines.append(
                Line(utt, self.speakers[utt], part, part if len(self.scps) > 2 else (), None, None, None, length)
            )
            h.update("".join(prints).encode())
        return lines, h.hexdigest()[:12]

    def render(self, line):
        """int16 (3, line.num_samples): noisy, clean, noise; and the number of clipped samples."""
        signals = []
        for scp in self.scps:
            entry = self._open(scp, scp.index(line.utt))
            found = audio.info(entry)
            x = read_mono_at(entry, found.sample_rate, root=None, num_samples=found.frames)
            x = resample(x, found.sample_rate, self.sample_rate)
            if len(x) != line.num_samples:
                raise UserError(
                    f"{entry.where}: {len(x)} samples, {line.num_samples} when the plan was made; run --plan again"
                )
            signals.append(x * np.float64(FULL_SCALE))
        noisy, clean = signals[:2]
        noise = signals[2] if len(signals) > 2 else noisy - clean
        largest = max(np.abs(x).max() for x in (noisy, clean, noise))
        if self.on_clip == "scale_all" and largest > FULL_SCALE - 1:
            gain = self.peak * FULL_SCALE / largest
            noisy, clean, noise = noisy * gain, clean * gain, noise * gain
        noisy, clean = np.rint(noisy), np.rint(clean)
        noise = np.rint(noise) if len(signals) > 2 else noisy - clean
        stored = np.empty((3, line.num_samples), np.int16)
        return stored, store((noisy, clean, noise), stored)
