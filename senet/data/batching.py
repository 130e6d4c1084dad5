"""Which utterances a batch holds: a function of (seed, epoch, index) alone, so that training resumes anywhere."""

import numpy as np

WINDOW = 64  # batches; utterances are sorted by length within so many batches' worth of a shuffled epoch


class BatchOrder:
    """The order of utterances in each epoch, cut into batches.

    Args:
        lengths: int64 (U,), samples of each utterance, to put those of like length together (``by_length``) or to cut
            by (``max_samples``).
        batch_size: utterances per batch.
        seed: of all epochs.
        shuffle: a new permutation each epoch; otherwise the order of the manifest.
        by_length: sort each window of ``WINDOW`` shuffled batches by length, then shuffle the batches, so that whole
            utterances need little padding. Needs ``shuffle``.
        drop_last: leave out the last batch when it is not full.
        stream: orders of other streams are independent of this one.
        max_samples: cut where the utterances of a batch, each as long as the longest, would have more samples, in place
            of ``batch_size``; one that is longer than that is a batch of its own.
    """

    def __init__(
        self,
        lengths,
        batch_size,
        seed,
        *,
        shuffle=True,
        by_length=False,
        drop_last=False,
        stream=0,
        max_samples=None,
    ):
        self.lengths, self.seed, self.stream, self.max_samples = lengths, seed, stream, max_samples
        self.shuffle, self.by_length, self.drop_last = shuffle, by_length and shuffle, drop_last
        self.batch_size = batch_size if max_samples is None else max(1, int(max_samples // max(1, np.mean(lengths))))
        self._cached = None, (None, None)  # the last epoch asked for, and its order: 8 bytes per utterance

    def __call__(self, epoch):
        """Utterance indices of one epoch, int64 (U,); and with ``max_samples`` where its batches begin and the last
        ends, int64 (n + 1,), else None."""
        if self._cached[0] != epoch:
            self._cached = epoch, self._order(epoch)
        return self._cached[1]

    def num_batches(self, epoch):
        if self.max_samples:
            return len(self(epoch)[1]) - 1
        total = len(self.lengths)
        return total // self.batch_size if self.drop_last else -(-total // self.batch_size)

    def candidates(self, epoch, i, row):
        """Yield indices: that of a row of batch ``i``, then its replacements, for where it cannot be read.

        Those are what follows at distances of full batches, going on at the beginning of the epoch: nothing else about
        this batch has to be known.
        """
        order, first = self(epoch)[0], self._place(epoch, i)[0]
        for k in range(len(order)):
            yield int(order[(first + row + k * self.batch_size) % len(order)])

    def batch(self, epoch, i):
        """The utterances of batch ``i``, int64 (B,)."""
        return self(epoch)[0][slice(*self._place(epoch, i))]

    def size(self, epoch, i):
        """Number of utterances in batch ``i``."""
        first, stop = self._place(epoch, i)
        return stop - first

    def capacity(self, samples):
        """The most utterances of so many samples each that a batch has."""
        most = self.batch_size if self.max_samples is None else max(1, self.max_samples // samples)
        return min(most, len(self.lengths))

    def _place(self, epoch, i):
        """(first position, the one after the last) of batch ``i``."""
        if self.max_samples:
            return tuple(self(epoch)[1][i : i + 2].tolist())
        return i * self.batch_size, min((i + 1) * self.batch_size, len(self.lengths))

    def _order(self, epoch):
        total = len(self.lengths)
        if not self.shuffle:
            order = np.arange(total)
            return order, self._starts(order)
        rng = np.random.default_rng([self.seed, epoch, self.stream])
        order = rng.permutation(total)
        if self.by_length:
            window = np.arange(total) // (WINDOW * self.batch_size)
            order = order[np.lexsort((self.lengths[order], window))]
        starts = self._starts(order)
        if self.by_length and starts is not None:
            batches = np.split(order, starts[1:-1])
            batches = [batches[k] for k in rng.permutation(len(batches))]
            return np.concatenate(batches), np.cumsum([0, *map(len, batches)])
        if self.by_length:
            full = total // self.batch_size * self.batch_size  # a short last batch stays the last
            batches = order[:full].reshape(-1, self.batch_size)
            order[:full] = batches[rng.permutation(len(batches))].reshape(-1)
        return order, starts

    def _starts(self, order):
        if not self.max_samples:
            return None
        starts, longest = [0], 0
        for position, length in enumerate(self.lengths[order].tolist()):
            longest = max(longest, length)
            if position > starts[-1] and longest * (position + 1 - starts[-1]) > self.max_samples:
                starts.append(position)
                longest = length
        return np.array([*starts, len(order)])


def part_of(rows, k, n):
    """The k-th of n parts of so many rows, as even as can be, the first not smaller than the others: a slice."""
    return slice(-(-rows * k // n), -(-rows * (k + 1) // n))
