"""Batches for training and validation.

A batch follows from (seed, epoch, index) alone: not from the number of workers or of GPUs, nor from where training
was started. So a run that is resumed at any step sees what the undisturbed run would have seen.
"""

import logging

import numpy as np
from torch import Generator, cuda, from_numpy
from torch.utils.data import DataLoader, Dataset

from senet.data.audio import AudioError
from senet.data.batching import BatchOrder, part_of
from senet.data.datadir import DataDir
from senet.data.items import Spectra, Waveforms, Windows
from senet.errors import UserError
from senet.signals import ignore_stop

log = logging.getLogger(__name__)


class Stream(Dataset):
    """Batches of items; ``stream[epoch, i]`` is the i-th of an epoch.

    Args:
        name: of the data, for messages.
        items: see ``senet.data.items``.
        batch_size: items per batch.
        seed: of the order and of what is drawn for each item.
        shuffle: for training; otherwise the items' order and the same draws in every epoch.
        by_length: items of like length together.
        bad_audio: "raise" stops at a file that cannot be used; "skip" takes the next item in its place, with another
            draw (crop, mixture) than that item has for itself: only whole recordings are then there twice.
        drop_last: leave out the last batch of an epoch when it is not full.
        passes: an epoch goes so many times through the data, each time in another order; batch i is the i-th of each,
            one after the other. For objectives that take several independent batches in one step.
        max_samples: of a batch, padding included, in place of ``batch_size``; see ``BatchOrder``.

    A batch is a dict of
        ids: list of B ids;
        what ``items.collate`` gives, as tensors;
        skipped: int, how many items of this batch could not be used and were replaced.

    Raises:
        UserError: unusable audio, with the item's id.
    """

    unit = "utterance"  # what an item is, for messages

    def __init__(
        self,
        name,
        items,
        *,
        batch_size,
        seed,
        shuffle=True,
        by_length=False,
        bad_audio="raise",
        drop_last=False,
        passes=1,
        max_samples=None,
    ):
        if bad_audio not in ("raise", "skip"):
            raise UserError(f"bad_audio: '{bad_audio}' is neither 'raise' nor 'skip'")
        if batch_size < 1:
            raise UserError(f"batch_size: {batch_size}, expected at least 1")
        if max_samples is not None and passes > 1:
            raise UserError("batch_seconds: this objective takes several batches of one size in a step; use batch_size")
        self.name, self.items, self.seed, self.shuffle, self.bad_audio = name, items, seed, shuffle, bad_audio
        options = {"shuffle": shuffle, "by_length": by_length, "drop_last": drop_last, "max_samples": max_samples}
        self._orders = [
            BatchOrder(items.num_samples, batch_size, seed, stream=stream, **options) for stream in range(passes)
        ]
        if not self.num_batches():
            found = f"{len(items.num_samples)} {self.unit}s"
            raise UserError(f"{name}: has {found}, fewer than batch_size {batch_size}; lower that")

    def num_batches(self, epoch=0):
        """Batches in an epoch."""
        return self._orders[0].num_batches(epoch)

    def batch_bytes(self, world=1):
        """Of the largest share that one of ``world`` processes has of a full batch of the longest items, as the loader
        hands it over; 0 where such an item cannot be read."""
        longest = int(np.argmax(self.items.num_samples))
        try:
            item = self.items.read(longest, self._rng(0, longest, 0))
        except AudioError:
            return 0
        return sum(v.nbytes for v in self.items.collate([item]).values()) * sum(
            -(-o.capacity(self.items.num_samples[longest]) // world) for o in self._orders
        )

    def heaviest(self, n):
        """A batch of n times the longest item (in each pass), before ``finish``; UserError where it cannot be read."""
        longest = int(np.argmax(self.items.num_samples))
        try:
            item = self.items.read(longest, self._rng(0, longest, 0))
        except AudioError as error:
            raise UserError(f"{self.name}: {self.unit} '{self.items.key(longest)}': {error}") from error
        items = [item] * (n * len(self._orders))
        arrays = {name: from_numpy(value) for name, value in self.items.collate(items).items()}
        return {"ids": [item.id for item in items], **arrays, "skipped": 0}

    def finish(self, batch):
        """What is left to do for a batch on the device that it was moved to: here, nothing."""
        return batch

    def __getitem__(self, position):
        epoch, i, *share = position  # share: rank, world
        rank, world = share or (0, 1)
        items, skipped, first, longest = [], 0, 0, 0
        for order in self._orders:
            rows = part_of(order.size(epoch, i), rank, world)
            first = rows.start
            for row in range(rows.start, rows.stop):
                skipped += self._read(order, epoch, i, row, items)
            if world > 1 and self.items.crop is None:  # padded as the others' shares are
                longest = max(longest, *self.items.num_samples[order.batch(epoch, i)].tolist())
        if not items:
            return {"ids": [], "first": first, "lengths": from_numpy(np.zeros(0, np.int64)), "skipped": 0}
        arrays = self.items.collate(items, longest)
        batch = {"ids": [item.id for item in items], **{k: from_numpy(v) for k, v in arrays.items()}}
        return batch | {"skipped": skipped} | ({"first": first} if world > 1 else {})

    def _read(self, order, epoch, i, row, items):
        """Append a row of batch ``i`` of an order to ``items``; return whether it was replaced."""
        for k, index in enumerate(order.candidates(epoch, i, row)):
            try:
                more = (i + 1,) if k else ()
                items.append(self.items.read(index, self._rng(epoch, index, order.stream, *more)))
                return k > 0
            except AudioError as error:
                self._report(self.items.key(index), error)
        raise self._too_few()

    def loader(self, epoch, start=0, num_workers=0, rank=0, world=1):
        """Yield the batches of an epoch in order, read ahead by worker processes.

        Args:
            start: the first batch to give.
            num_workers: processes that read; 0 reads in this one.
            rank, world: give of each batch the items of this rank alone, and ``first``, the number of the first of
                them in the batch (of each pass). Shares are as even as can be; that of a short last batch may be empty,
                though never that of rank 0.
        """
        share = (rank, world) if world > 1 else ()
        for order in self._orders:
            order(epoch)  # computed here, so that forked workers share it
        loader = DataLoader(
            _Guarded(self),
            batch_size=None,
            sampler=[(epoch, i, *share) for i in range(start, self.num_batches(epoch))],
            num_workers=num_workers,
            pin_memory=cuda.is_initialized(),
            worker_init_fn=ignore_stop,  # torch's own answer to SIGTERM fails the training, which is about to save
            generator=Generator(),  # its own, or making the loader would draw from the training's random stream
        )
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch

    def _rng(self, epoch, index, stream, *more):
        return np.random.default_rng([self.seed, epoch if self.shuffle else 0, index, stream, *more])

    def _too_few(self):
        return UserError(f"{self.name}: too few {self.unit}s can be used to fill a batch; see the warnings")

    def _report(self, key, error):
        message = f"{self.name}: {self.unit} '{key}': {error}"
        if self.bad_audio == "raise":
            raise UserError(
                f"{message}. To go on without such recordings: --bad_audio skip, of a recipe "
                "--train_args '--bad_audio skip'"
            ) from error
        log.warning("%s; skipped", message)


class Batches(Stream):
    """The batches of a data directory.

    Args:
        datadir: folder with wav.scp (noisy), spk1.scp (clean), utt2num_samples and, optionally, noise1.scp.
        crop_seconds: length of the part that is taken of each utterance, at another place in each epoch; shorter ones
            are padded with zeros. None: whole utterances, those of like length together.
        crop_hop_seconds: with it, all complete windows of ``crop_seconds`` that begin at multiples of this take the
            place of the utterances, each in every epoch, shuffled through and through. Ids are then
            ``utterance@first_sample``. Not with ``feats``.
        batch_seconds: of a batch, padding included, in place of ``batch_size``: for whole utterances.
        sample_rate: Hz.
        feats: folder of stored spectra (``senet.bin.feats --feats_type stft``) to use in place of the waveforms.
        stft: the model's ``STFT``; stored spectra of another one are refused. None: any.
        options: as for ``Stream``. Of a file only what a crop holds is looked at, so a NaN or infinite sample elsewhere
            is met in another epoch or never; ``senet validate --check_audio`` decodes everything. What ``senet mix``
            made is 16-bit PCM and cannot hold either.

    A batch holds
        noisy, clean, noise: float32 (B, N), or with ``feats`` noisy_stft, clean_stft: complex64 (B, F, T);
        lengths: int64 (B,), samples that are not padding, and with ``feats`` frame_lengths.

    Raises:
        UserError: a manifest that is missing or does not fit the others.
    """

    def __init__(
        self,
        datadir,
        *,
        crop_seconds=None,
        crop_hop_seconds=None,
        batch_seconds=None,
        sample_rate,
        feats=None,
        stft=None,
        **options,
    ):
        most = samples_of("batch_seconds", batch_seconds, sample_rate)
        crop = samples_of("crop_seconds", crop_seconds, sample_rate)
        hop = samples_of("crop_hop_seconds", crop_hop_seconds, sample_rate)
        if hop and not crop:
            raise UserError(f"crop_hop_seconds: {crop_hop_seconds}, but no crop_seconds; set how long the windows are")
        if hop and feats:
            raise UserError(
                "crop_hop_seconds: windows are cut from waveforms, not from stored spectra; train with feats_type: raw"
            )
        data = DataDir(datadir)
        if data.clean is None:
            raise UserError(f"{data.path / 'spk1.scp'}: missing; training needs the clean signal of each noisy one")
        items = Spectra(data, feats, sample_rate, crop, stft) if feats else Waveforms(data, sample_rate, crop)
        if hop:
            items, self.unit = _windows(datadir, items, hop), "window"
        if crop and most:
            raise UserError(
                "batch_seconds: with crop_seconds all items are of one length; use batch_size, or crop_seconds: null"
            )
        super().__init__(datadir, items, by_length=crop is None, max_samples=most, **options)


def _windows(datadir, waveforms, hop):
    windows = Windows(waveforms, hop)
    lengths, total = waveforms.num_samples, len(windows.num_samples)
    seconds = waveforms.crop / waveforms.sample_rate
    if not total:
        longest = lengths.max(initial=0)
        raise UserError(
            f"{datadir}: none of {len(lengths)} utterances lasts crop_seconds {seconds:g} ({waveforms.crop} "
            f"samples); the longest has {longest / waveforms.sample_rate:g} s ({longest} samples)"
        )
    log.info(
        "%s: %d windows of %g s; %d of %d utterances are shorter and give none",
        datadir, total, seconds, windows.num_without, len(lengths),
    )  # fmt: skip
    return windows


def samples_of(option, seconds, sample_rate):
    """Whole samples of an option in seconds, or None."""
    if seconds is None:
        return None
    if round(seconds * sample_rate) < 1:
        raise UserError(f"{option}: {seconds}, expected more than 0 seconds")
    return round(seconds * sample_rate)


class _Guarded(Dataset):
    """Hands a UserError over as a value: raised in a worker it would arrive wrapped in the worker's traceback."""

    def __init__(self, batches):
        self.batches = batches

    def __getitem__(self, position):
        try:
            return self.batches[position]
        except UserError as error:
            return UserError(str(error))
