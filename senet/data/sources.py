"""Source sets: recordings of speech or noise, or room impulse responses, that mixtures are made from.

A source set is a folder with ``wav.scp``, ``utt2spk``, ``spk2utt``, ``utt2num_samples`` and ``utt2fs`` (length and rate
of the file itself), ``utt2fingerprint`` (of the file's content; with ``prepare --fingerprint name`` of path and size),
``utt2recording`` (files cut from one recording share it), and for noise ``utt2noise`` (its type, such as Babble).
``senet.bin.prepare`` writes them.

A set may hold a million recordings: ids, speakers and types stay on the disk (``Scp``), lengths and rates are arrays.
"""

import functools
import hashlib
from pathlib import Path

import numpy as np

from senet.data import audio
from senet.data.scp import Scp, read_ints_and_digest
from senet.data.stored import fault
from senet.dsp.resample import resample_part, resampled_length
from senet.errors import UserError

_REMEMBERED = 8  # signals of at most this many samples:
_LONGEST = 1 << 19


class SourceSet:
    """One source set, read at the recipe's rate; mono.

    Args:
        path: the folder.
        sample_rate: Hz at which lengths are counted and samples are read.
        channel: the channel to read, counted from 0; None: the mean of all.
    Attributes:
        lengths: int64 (len,), samples at ``sample_rate``.
    """

    def __init__(self, path, sample_rate, channel=None):
        self.path, self.sample_rate, self.channel = Path(path), sample_rate, channel
        for name in ("wav.scp", "utt2spk", "utt2num_samples", "utt2fs"):
            if not (self.path / name).exists():
                raise UserError(f"{self.path / name}: missing; run stage 1 (senet.bin.prepare) to make this source set")
        self.scp = Scp(self.path / "wav.scp")
        self.speakers = self.table("utt2spk")
        self._stored, stored_keys = read_ints_and_digest(self.path / "utt2num_samples")
        self._rates, rate_keys = read_ints_and_digest(self.path / "utt2fs")
        if not self.scp.keys_digest == stored_keys == rate_keys:
            raise UserError(f"{self.path}: wav.scp, utt2num_samples and utt2fs have different ids; run stage 1 again")
        self.lengths = resampled_length(self._stored, self._rates, sample_rate)
        # What is drawn is read to see whether it is silent, and then to be mixed.
        self._recent = functools.lru_cache(_REMEMBERED)(self._read)

    def __reduce__(self):
        return SourceSet, (self.path, self.sample_rate, self.channel)

    def __len__(self):
        return len(self.scp)

    def id(self, index):
        return self.scp.key(index)

    def table(self, name):
        """utt2spk, utt2noise, ... as a Scp whose lines are those of the recordings; None when the set lacks it."""
        if not (self.path / name).exists():
            return None
        table = Scp(self.path / name)
        if table.keys_digest != self.scp.keys_digest:
            raise UserError(f"{table.path}: its ids differ from those of {self.scp.path}; run stage 1 again")
        return table

    def digest(self):
        """Changes when the content of any recording does; independent of where the files lie."""
        h = hashlib.sha256()
        for name in ("utt2num_samples", "utt2fs", "utt2fingerprint"):
            if (self.path / name).exists():
                with open(self.path / name, "rb") as f:
                    for block in iter(functools.partial(f.read, 1 << 20), b""):
                        h.update(block)
        return h.hexdigest()[:12]

    def read(self, index, start=0, length=None):
        """Samples ``start .. start+length-1`` (to the end when None) of recording ``index``.

        Returns:
            float32 (length,), read-only: the last few are remembered.
        Raises:
            AudioError: a file that is missing, cut off, or not what it was when it was listed.
            UserError: samples that the recording does not have.
        """
        n = int(self.lengths[index])
        stop = n if length is None else start + length
        if not 0 <= start <= stop <= n:
            raise UserError(
                f"{self.path / 'wav.scp'}: '{self.id(index)}' has {n} samples at {self.sample_rate} Hz, "
                f"but {start}..{stop} are asked for; the plan was made from other sources: run --plan again"
            )
        return (self._recent if stop - start <= _LONGEST else self._read)(index, start, stop - start)

    def _read(self, index, start, length):
        rate, stored, value = int(self._rates[index]), int(self._stored[index]), self.scp.value(index)

        def read(start, length):
            form = {"root": self.scp.root, "num_samples": stored, "channel": self.channel}
            return read_mono_at(value, rate, start, length, **form)

        x = resample_part(read, stored, rate, self.sample_rate, start, length)
        x.flags.writeable = False
        return x


def read_mono_at(value, rate, start=0, length=None, *, root, num_samples, channel=None):
    """``audio.read`` of the mean of the channels, or of one.

    Raises:
        AudioError: as there; a rate other than ``rate`` (Hz); a sample that is not finite.
    """
    name = getattr(value, "where", value)  # an Entry says where it is from
    x, found = audio.read(value, start, length, root=root, num_samples=num_samples)
    if found != rate:
        raise fault(name, "rate", f"{found} Hz, but {rate} Hz when the recordings were listed; run stage 1 again")
    if x.ndim == 2:
        x = x.mean(axis=1) if channel is None else x[:, channel]
    if not np.isfinite(x).all():
        raise fault(name, "nan", "has samples that are NaN or infinite; mend or remove the file and run stage 1 again")
    return x
