"""Levels and peaks of signals that come in blocks, and keeping blocks until the gain is known."""

import contextlib
import math
import tempfile

import numpy as np

from senet.errors import UserError

FRAME_SECONDS, ACTIVE_DB = 0.1, 30
FULL_SCALE = 1 - 2**-15  # the largest sample that 16 bits hold
_IN_MEMORY = 1 << 25  # bytes of a signal that waits; more of it goes to the disk


class Meter:
    """Energy of each frame of 100 ms, of all channels together, and the peak.

    Args:
        rate: Hz.
    """

    def __init__(self, rate):
        self.size, self.peak = max(1, round(FRAME_SECONDS * rate)), 0.0
        self._energies, self._begun = [], np.zeros(0)

    def over(self, blocks):
        """Yield the blocks, float (N,) or (N, C), and take note of them."""
        for x in blocks:
            self.peak = max(self.peak, float(x.max(initial=0)), -float(x.min(initial=0)))
            power = np.square(x.reshape(len(x), -1), dtype=np.float64).sum(1)
            power = np.concatenate([self._begun, power])
            whole = len(power) // self.size * self.size
            self._energies.append(power[:whole].reshape(-1, self.size).sum(1))
            self._begun = power[whole:]
            yield x

    def energies(self):
        """float64 (frames,); the last one may be a shorter frame."""
        return np.concatenate([*self._energies, [self._begun.sum()]])


def gain(before, after):
    """The gain that brings a signal to the level of another, which it was made from.

    That is the RMS over the frames in which the signal is active: within 30 dB of its loudest one. Pauses, from which
    noise was taken, do not count.

    Args:
        before, after: Meter of the other signal and of this one, of equal lengths.
    Returns:
        factor; 1 for silence.
    """
    noisy, clean = before.energies(), after.energies()
    active = clean >= max(clean.max() * 10 ** (-ACTIVE_DB / 10), 1e-30)
    return math.sqrt(noisy[active].sum() / clean[active].sum()) if active.any() else 1.0


@contextlib.contextmanager
def held(blocks, folder):
    """Take all float32 blocks, (N,) or (N, C), and yield an iterator over them, in memory or else in ``folder``.

    Raises:
        UserError: the disk refused.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder) as file:
        shape = ()
        try:
            for block in blocks:
                shape = block.shape[1:]
                file.write(np.ascontiguousarray(block).data)
        except OSError as error:
            raise UserError(
                f"{folder or tempfile.gettempdir()}: cannot hold the signal until its gain is known: {error.strerror}; "
                "free some space, or leave --peak and --keep_level out"
            ) from error
        file.seek(0)
        size = 4 * math.prod(shape) * (1 << 18)
        parts = iter(lambda: file.read(size), b"")
        yield (np.frombuffer(part, np.float32).reshape(-1, *shape) for part in parts)
