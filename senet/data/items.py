"""What one utterance of a data directory gives to a batch: waveforms, windows of them, or stored spectra (stage 3).

Items of any kind (``senet.data.online`` has another) offer
    num_samples: int64, one per item, for the order of batches;
    key(i): what to call item i in messages;
    read(i, rng): an ``Item``; chance is drawn from the numpy Generator ``rng``; AudioError for a file that cannot be
        used;
    crop: samples of each item, or None where they differ;
    collate(items, longest=0): name -> array, with ``lengths``: a batch of B, padded to ``longest`` samples at least.

Only positions of lines and lengths are held in memory, 8 bytes each per utterance and file; an utterance is read when
it is asked for, and of a long one only the part that is used.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from senet.data.ark import read_matrix
from senet.data.audio import AudioError, check, info, read_mono
from senet.data.datadir import key_differences
from senet.data.scp import Scp
from senet.errors import UserError


class Item(NamedTuple):
    signals: dict  # name -> array
    length: int  # samples that are not padding
    id: str


class Waveforms:
    """Waveforms of a data directory.

    Args:
        data: DataDir.
        sample_rate: Hz that all files have to have.
        crop: samples per utterance; longer ones are cut, shorter ones padded. None: whole utterances.
        signals: names of those to read, if the data directory has them.

    Attributes:
        num_samples: int64, one per utterance.
        scps: name of each signal -> its Scp.
    """

    def __init__(self, data, sample_rate, crop=None, signals=("noisy", "clean", "noise")):
        self.sample_rate, self.crop = sample_rate, crop
        self._short = 0.1 * sample_rate
        self.num_samples = data.num_samples
        self.scps = {name: getattr(data, name) for name in signals if getattr(data, name) is not None}
        self._require_rate(data.path)

    def _require_rate(self, path):
        """Refuse a folder that begins with a recording of another rate; a single one is met when it is read."""
        scp = self.scps["noisy"]
        try:
            found = info(scp.value(0), root=scp.root).sample_rate
        except AudioError:
            return
        if found != self.sample_rate:
            raise UserError(
                f"{path}: recordings of {found} Hz, the model works at {self.sample_rate} Hz; mix the set at that rate "
                f"(--sample_rate of run.sh, stage 2) or set model_conf.sample_rate: {found}"
            )

    def __len__(self):
        return len(self.num_samples)

    def key(self, i):
        return self.scps["noisy"].key(i)

    def read(self, i, rng):
        """Signals float32 (length,) of utterance ``i``, of which ``rng`` places the crop."""
        start, length = draw_crop(rng, int(self.num_samples[i]), self.crop)
        return self.part(i, start, length)

    def part(self, i, start, length):
        """``read`` of a given part."""
        return Item({name: self._part(name, i, start, length) for name in self.scps}, length, self.key(i))

    def collate(self, items, longest=0):
        """What ``read`` gave for B utterances -> name -> float32 (B, N), zero-padded, and lengths (B,) in samples."""
        lengths = np.array([item.length for item in items])
        shape = len(items), self.crop or max(lengths.max(), longest)
        batch = {name: np.zeros(shape, np.float32) for name in items[0].signals}
        for row, item in enumerate(items):
            for name, signal in item.signals.items():
                batch[name][row, : item.length] = signal
        return batch | {"lengths": lengths}

    def _part(self, name, i, start, length):
        scp, stored = self.scps[name], {"sample_rate": self.sample_rate, "num_samples": int(self.num_samples[i])}
        signal = read_mono(scp.value(i), start, length, root=scp.root, **stored)
        low, high = signal.min(), signal.max()
        # A recording may pause in digital silence, and a reference may be silent; the whole noisy signal may not.
        if not np.isfinite(high - low) or (name == "noisy" and (low == high or length < self._short)):
            check(scp.value(i), root=scp.root, **stored)
        return signal


class Windows:
    """All complete windows of an utterance's waveforms, each an item in its own right; what follows the last is unused.

    An utterance of n samples has floor((n - size) / hop) + 1 of them, or none if it is shorter than one. Which
    utterance and place an item is, is computed from one number per utterance.

    Args:
        waveforms: ``Waveforms`` whose ``crop`` is the size of a window.
        hop: samples from the start of a window to that of the next.
    Attributes:
        num_samples: int64, one per window, all equal.
        num_without: utterances that give no window.
    """

    def __init__(self, waveforms, hop):
        size = waveforms.crop
        counts = np.maximum((waveforms.num_samples - size) // hop + 1, 0)
        self.waveforms, self.hop, self.crop, self._ends = waveforms, hop, size, np.cumsum(counts)
        self.num_samples = np.broadcast_to(np.int64(size), self._ends[-1:].sum())
        self.num_without = int((counts == 0).sum())
        self.collate = waveforms.collate

    def key(self, i):
        """``utterance@start``, in samples."""
        utterance, start = self._place(i)
        return f"{self.waveforms.key(utterance)}@{start}"

    def read(self, i, rng):
        """As ``Waveforms.read``; nothing is left to ``rng``."""
        utterance, start = self._place(i)
        return self.waveforms.part(utterance, start, self.waveforms.crop)._replace(id=self.key(i))

    def _place(self, i):
        """(utterance, first sample) of window ``i``."""
        utterance = int(np.searchsorted(self._ends, i, side="right"))
        first = int(self._ends[utterance - 1]) if utterance else 0
        return utterance, (i - first) * self.hop


class Spectra:
    """Stored spectra of the noisy and the clean signal, made by ``senet.bin.feats --feats_type stft``.

    Args:
        data: DataDir that they were made of, or the copy in ``featsdir``.
        featsdir: folder with feats.scp, spk1_feats.scp and feats_config.json.
        sample_rate: Hz that the features were made at.
        crop: as for ``Waveforms``, in samples; cuts fall between frames.
        stft: the ``STFT`` that they must have been made with; None: any.
    Raises:
        UserError: features of another kind or rate, or made with another transform; names the option.
    """

    def __init__(self, data, featsdir, sample_rate, crop=None, stft=None):
        from senet.dsp.stft import STFT

        featsdir = Path(featsdir)
        config = {"window": "hann", "padding": "zeros"} | stored_config(featsdir)  # as before these were options
        expected = {"feats_type": "stft", "sample_rate": sample_rate} | (stft.options if stft else {})
        wrong = {name: value for name, value in expected.items() if config.get(name) != value}
        if wrong:
            found = ", ".join(f"{name} is {config.get(name)}, {value} expected" for name, value in wrong.items())
            raise UserError(
                f"{featsdir / 'feats_config.json'}: {found} by the model; run stage 3 again with "
                + " ".join(f"--{name} {value}" for name, value in wrong.items())
            )
        self.num_samples = data.num_samples
        self.scps = {"noisy_stft": Scp(featsdir / "feats.scp"), "clean_stft": Scp(featsdir / "spk1_feats.scp")}
        for scp in self.scps.values():
            for problem in key_differences(scp, data.noisy):
                raise UserError(str(problem))
        self._stft = STFT(**{name: config[name] for name in STFT().options})
        self.crop = crop
        self._crop_frames = None if crop is None else self._stft.num_frames(crop)

    def key(self, i):
        return self.scps["noisy_stft"].key(i)

    def read(self, i, rng):
        """As ``Waveforms.read``, with float32 (T, 2 F) rows [real | imaginary] for signals."""
        length = int(self.num_samples[i])
        total = self._stft.num_frames(length)
        start, frames = draw_crop(rng, total, self._crop_frames)
        if frames < total:
            length = self._stft.num_samples(frames)
        rows = {}
        for name, scp in self.scps.items():
            rows[name] = read_matrix(scp.value(i), start, frames, root=scp.root, num_rows=total)
            if not np.isfinite(rows[name]).all():
                raise AudioError(f"{scp.value(i)}: has values that are not finite (NaN or infinity)", "nan")
        return Item(rows, length, self.key(i))

    def collate(self, items, longest=0):
        """As ``Waveforms.collate``: name -> complex64 (B, F, T), lengths (B,) in samples, frame_lengths (B,)."""
        lengths = np.array([item.length for item in items])
        frame_lengths = self._stft.num_frames(lengths)
        bins = self._stft.num_bins
        # Frame after frame in memory, which is how torch.stft lays its result out too.
        shape = len(items), self._crop_frames or max(frame_lengths.max(), self._stft.num_frames(longest)), bins
        batch = {name: np.zeros(shape, np.complex64) for name in items[0].signals}
        for b, item in enumerate(items):
            for name, rows in item.signals.items():
                batch[name].real[b, : len(rows)] = rows[:, :bins]
                batch[name].imag[b, : len(rows)] = rows[:, bins:]
        batch = {name: spec.transpose(0, 2, 1) for name, spec in batch.items()}
        return batch | {"lengths": lengths, "frame_lengths": frame_lengths}


def draw_crop(rng, total, crop):
    """(start, length) of a random part of ``crop`` of ``total``; all, without a draw, when that is no more or None."""
    if crop is None or total <= crop:
        return 0, total
    return int(rng.integers(total - crop + 1)), crop


def stored_config(featsdir):
    """The settings that a folder of features was made with (feats_config.json)."""
    path = Path(featsdir) / "feats_config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; stage 3 (senet.bin.feats) makes it") from None
