"""Which utterances a batch holds: a function of (seed, epoch, index) alone, so that training resumes anywhere."""

import numpy as np

WINDOW = 64  # batches; utterances are sorted by length within so many batches' worth of a shuffled epoch


class BatchOrder:
    """The order of utterances in each epoch, cut into batches.

    Args:
        lengths: int64 (U,), one per utterance, to put utterances of like length together; used if ``by_length``.
        batch_size: utterances per batch.
        seed: of all epochs.
        shuffle: a new permutation each epoch; otherwise the order of the manifest.
        by_length: sort each window of ``WINDOW`` shuffled batches by length, then shuffle the batches, so that whole
            utterances need little padding. Needs ``shuffle``.
        drop_last: leave out the last batch when it is not full.
        stream: orders of other streams are independent of this one.
    """

    def __init__(self, lengths, batch_size, seed, *, shuffle=True, by_length=False, drop_last=False, stream=0):
        self.lengths, self.batch_size, self.seed, self.stream = lengths, batch_size, seed, stream
        self.shuffle, self.by_length = shuffle, by_length and shuffle
        total = len(lengths)
        self.num_batches = total // batch_size if drop_last else -(-total // batch_size)
        self._cached = None, None  # the last epoch asked for and its order: 8 bytes per utterance

    def __call__(self, epoch):
        """Utterance indices of one epoch, int64 (U,); batch i begins at ``i * batch_size``."""
        if self._cached[0] != epoch:
            self._cached = epoch, self._order(epoch)
        return self._cached[1]

    def candidates(self, epoch, i, row):
        """Yield indices: that of a row of batch ``i``, then its replacements, for where it cannot be read.

        Those are what has the same row in the batches that follow, going on at the beginning of the epoch: nothing else
        about this batch has to be known.
        """
        order = self(epoch)
        for k in range(len(order)):
            yield int(order[(i * self.batch_size + row + k * self.batch_size) % len(order)])

    def batch(self, epoch, i):
        """The utterances of batch ``i``, int64 (B,)."""
        return self(epoch)[i * self.batch_size : (i + 1) * self.batch_size]

    def size(self, i):
        """Number of utterances in batch ``i``."""
        return min(self.batch_size, len(self.lengths) - i * self.batch_size)

    def _order(self, epoch):
        total = len(self.lengths)
        if not self.shuffle:
            return np.arange(total)
        rng = np.random.default_rng([self.seed, epoch, self.stream])
        order = rng.permutation(total)
        if self.by_length:
            window = np.arange(total) // (WINDOW * self.batch_size)
            order = order[np.lexsort((self.lengths[order], window))]
            full = total // self.batch_size * self.batch_size  # a short last batch stays the last
            batches = order[:full].reshape(-1, self.batch_size)
            order[:full] = batches[rng.permutation(len(batches))].reshape(-1)
        return order


def part_of(rows, k, n):
    """The k-th of n parts of so many rows, as even as can be, the first not smaller than the others: a slice."""
    return slice(-(-rows * k // n), -(-rows * (k + 1) // n))
