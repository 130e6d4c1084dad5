"""Source sets: recordings of speech or noise that mixtures are made from.

A source set is a folder with ``wav.scp``, ``utt2spk``, ``spk2utt``, ``utt2num_samples`` and ``utt2fs`` (length and rate
of the file itself), ``utt2fingerprint`` (of the file's content), and for noise ``utt2noise`` (its type, such as Babble)
and ``utt2recording`` (files cut from one recording share it). ``senet.bin.prepare`` writes them.
"""

import hashlib
from pathlib import Path

import numpy as np

from senet.data import audio
from senet.data.scp import Scp, read_ints_and_digest, read_table
from senet.dsp.resample import resample, resampled_length
from senet.errors import UserError


class SourceSet:
    """One source set, read at the recipe's rate; mono (channels are averaged).

    Args:
        path: the folder.
        sample_rate: Hz at which lengths are counted and samples are read.
    Attributes:
        lengths: int64 (len,), samples at ``sample_rate``.
    """

    def __init__(self, path, sample_rate):
        self.path, self.sample_rate = Path(path), sample_rate
        for name in ("wav.scp", "utt2spk", "utt2num_samples", "utt2fs"):
            if not (self.path / name).exists():
                raise UserError(f"{self.path / name}: missing; run stage 1 (senet.bin.prepare) to make this source set")
        self.scp = Scp(self.path / "wav.scp")
        self._stored, stored_keys = read_ints_and_digest(self.path / "utt2num_samples")
        self._rates, rate_keys = read_ints_and_digest(self.path / "utt2fs")
        if not self.scp.keys_digest == stored_keys == rate_keys:
            raise UserError(f"{self.path}: wav.scp, utt2num_samples and utt2fs have different ids; run stage 1 again")
        self.lengths = resampled_length(self._stored, self._rates, sample_rate)

    def __len__(self):
        return len(self.scp)

    def id(self, index):
        return self.scp.key(index)

    def table(self, name):
        """utt2spk, utt2noise, ... as a dict; empty when the set does not have it."""
        return read_table(self.path / name) if (self.path / name).exists() else {}

    def digest(self):
        """Changes when the content of any recording does; independent of where the files lie."""
        h = hashlib.sha256()
        for name in ("utt2num_samples", "utt2fs", "utt2fingerprint"):
            if (self.path / name).exists():
                h.update((self.path / name).read_bytes())
        return h.hexdigest()[:12]

    def read(self, index, start=0, length=None):
        """Samples ``start .. start+length-1`` (to the end when None) of recording ``index``: float32 (length,)."""
        n = int(self.lengths[index])
        length = n - start if length is None else length
        if start < 0 or length < 0 or start + length > n:
            raise UserError(
                f"{self.path / 'wav.scp'}: '{self.id(index)}' has {n} samples at {self.sample_rate} Hz, "
                f"but {start}..{start + length} are asked for; the plan was made from other sources: run --plan again"
            )
        rate, stored = int(self._rates[index]), int(self._stored[index])
        value = self.scp.value(index)
        if rate == self.sample_rate:
            return read_mono_at(value, rate, start, length, root=self.scp.root, num_samples=stored)
        # A resampled crop depends on what lies around it, so such a file is converted as a whole.
        whole = read_mono_at(value, rate, root=self.scp.root, num_samples=stored)
        return resample(whole, rate, self.sample_rate)[start : start + length]


def read_mono_at(value, rate, start=0, length=None, *, root, num_samples):
    """``audio.read`` with channels averaged; UserError when the rate is not ``rate`` (Hz) or a sample is not finite."""
    name = getattr(value, "where", value)  # an Entry says where it is from
    x, found = audio.read(value, start, length, root=root, num_samples=num_samples)
    if found != rate:
        raise UserError(f"{name}: {found} Hz, but {rate} Hz when the recordings were listed; run stage 1 again")
    if x.ndim == 2:
        x = x.mean(axis=1)
    if not np.isfinite(x).all():
        raise UserError(f"{name}: has samples that are NaN or infinite; mend or remove the file and run stage 1 again")
    return x
