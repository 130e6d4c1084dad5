"""Batches for training and validation.

A batch follows from (seed, epoch, index) alone: not from the number of workers or of GPUs, nor from where training
was started. So a run that is resumed at any step sees what the undisturbed run would have seen.
"""

import logging

import numpy as np
from torch import Generator, cuda, from_numpy
from torch.utils.data import DataLoader, Dataset

from senet.data.audio import AudioError
from senet.data.batching import BatchOrder
from senet.data.datadir import DataDir
from senet.data.items import Spectra, Waveforms
from senet.errors import UserError


class Batches(Dataset):
    """The batches of a data directory; ``batches[epoch, i]`` is the i-th of an epoch.

    Args:
        datadir: folder with wav.scp (noisy), spk1.scp (clean), utt2num_samples and, optionally, noise1.scp.
        batch_size: utterances per batch.
        crop_seconds: length of the part that is taken of each utterance, at another place in each epoch; shorter ones
            are padded with zeros. None: whole utterances, those of like length together.
        sample_rate: Hz.
        seed: of the order and the crops.
        shuffle: for training; otherwise the manifest's order and the same crops in every epoch.
        feats: folder of stored spectra (``senet.bin.feats --feats_type stft``) to use in place of the waveforms.
        stft: the model's ``STFT``; stored spectra of other sizes are refused. None: any.
        bad_audio: "raise" stops at a file that cannot be used; "skip" takes the next utterance in its place.
            Only what a crop holds is looked at, so a NaN or infinite sample elsewhere in the file is met in another
            epoch or never; ``senet validate --check_audio`` decodes everything. What ``senet mix`` made is 16-bit
            PCM and cannot hold either.
        drop_last: leave out the last batch of an epoch when it is not full.

    A batch is a dict of
        ids: list of B utterance ids;
        noisy, clean, noise: float32 (B, N), or with ``feats`` noisy_stft, clean_stft: complex64 (B, F, T);
        lengths: int64 (B,), samples that are not padding, and with ``feats`` frame_lengths;
        skipped: int, how many utterances of this batch could not be used and were replaced.

    Raises:
        UserError: a manifest that is missing or does not fit the others; unusable audio, with the utterance id.
    """

    def __init__(
        self,
        datadir,
        *,
        batch_size,
        crop_seconds=None,
        sample_rate,
        seed,
        shuffle=True,
        feats=None,
        stft=None,
        bad_audio="raise",
        drop_last=False,
    ):
        if bad_audio not in ("raise", "skip"):
            raise UserError(f"bad_audio: '{bad_audio}' is neither 'raise' nor 'skip'")
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size}, expected at least 1")
        crop = None if crop_seconds is None else round(crop_seconds * sample_rate)
        if crop is not None and crop < 1:
            raise UserError(f"crop_seconds: {crop_seconds}, expected more than 0 seconds")
        self.datadir, self.seed, self.shuffle, self.bad_audio = datadir, seed, shuffle, bad_audio
        data = DataDir(datadir)
        if data.clean is None:
            raise UserError(f"{data.path / 'spk1.scp'}: missing; training needs the clean signal of each noisy one")
        if feats:
            self.items = Spectra(data, feats, sample_rate, crop, stft)
        else:
            self.items = Waveforms(data, sample_rate, crop)
        self._order = BatchOrder(
            self.items.num_samples, batch_size, seed, shuffle=shuffle, by_length=crop is None, drop_last=drop_last
        )
        if not self._order.num_batches:
            found = len(self.items.num_samples)
            raise UserError(f"{datadir}: has {found} utterances, fewer than batch_size {batch_size}; lower that")

    def num_batches(self, epoch=0):
        """Batches in an epoch."""
        return self._order.num_batches

    def __getitem__(self, position):
        epoch, i = position
        parts, ids, skipped = [], [], 0
        for own, index in self._order.members(epoch, i):
            try:
                parts.append(self.items.read(index, self._draw(epoch, index)))
                ids.append(self.items.key(index))
            except AudioError as error:
                skipped += own
                self._report(index, error)
            if len(parts) == self._order.size(i):
                arrays = self.items.collate(parts)
                return {"ids": ids, **{k: from_numpy(v) for k, v in arrays.items()}, "skipped": skipped}
        raise UserError(f"{self.datadir}: too few utterances can be used to fill a batch; see the warnings")

    def loader(self, epoch, start=0, num_workers=0, rank=0, world=1):
        """Yield the batches of an epoch in order, read ahead by worker processes.

        Args:
            start: the first batch to give, counted over all ranks.
            num_workers: processes that read; 0 reads in this one.
            rank, world: give only batches ``start + rank``, ``start + rank + world``, ...; with ``shuffle`` every rank
                gets as many, so up to ``world - 1`` batches at the end of the epoch are left out.
        """
        stop = self.num_batches(epoch)
        if self.shuffle:
            stop -= (stop - start) % world
        self._order(epoch)  # computed here, so that forked workers share it
        loader = DataLoader(
            _Guarded(self),
            batch_size=None,
            sampler=[(epoch, i) for i in range(start + rank, stop, world)],
            num_workers=num_workers,
            pin_memory=cuda.is_initialized(),
            generator=Generator(),  # its own, or making the loader would draw from the training's random stream
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def _draw(self, epoch, index):
        epoch = epoch if self.shuffle else 0
        return lambda n: int(np.random.default_rng([self.seed, epoch, index]).integers(n + 1))

    def _report(self, index, error):
        message = f"{self.datadir}: utterance '{self.items.key(index)}': {error}"
        if self.bad_audio == "raise":
            raise UserError(f"{message}. To go on without such recordings use --bad_audio skip") from error
        logging.warning("%s; skipped", message)


class _Guarded(Dataset):
    """Hands a UserError over as a value: raised in a worker it would arrive wrapped in the worker's traceback."""

    def __init__(self, batches):
        self.batches = batches

    def __getitem__(self, position):
        try:
            return self.batches[position]
        except UserError as error:
            return UserError(str(error))
