"""One file enhanced into another, and how a run of many of them gets on."""

import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from senet.data import audio
from senet.errors import UserError


class Item(NamedTuple):
    """A file to enhance and where the result goes."""

    source: str  # audio file or path.ark:offset
    target: Path
    root: Path | None = None  # that a relative source starts from


class Progress:
    """Counts files and seconds, and logs them with the real-time factor at most every ten seconds.

    The real-time factor is computing time over the audio's duration: below 1 is faster than real time.
    """

    def __init__(self, total, every=10.0):
        self.total, self.every = total, every
        self.done, self.failed, self.clipped_files, self.audio, self.computing = 0, 0, 0, 0.0, 0.0
        self.start = self.last = time.monotonic()

    def add(self, seconds=0.0, computing=0.0):
        """One more file is done; ``seconds`` of audio took ``computing`` seconds."""
        self.done, self.audio, self.computing = self.done + 1, self.audio + seconds, self.computing + computing
        now = time.monotonic()
        if now - self.last >= self.every and self.done < self.total:
            self.last = now
            left = (now - self.start) / self.done * (self.total - self.done)
            logging.info("enhance: %d of %d files%s, %.0f s left", self.done, self.total, self._speed(), left)

    def finish(self):
        """Log the whole run; the number of failures decides the exit status."""
        logging.info(
            "enhanced %d of %d files%s in %.1f s; failed %d, with clipped samples %d",
            self.done - self.failed,
            self.total,
            self._speed(),
            time.monotonic() - self.start,
            self.failed,
            self.clipped_files,
        )
        return self.failed

    def _speed(self):
        if not self.audio:
            return ""
        return f", {self.audio:.1f} s of audio, real-time factor {self.computing / self.audio:.3f}"


def enhance_item(enhancer, item, progress, x=None, sample_rate=None):
    """Enhance one file into another, 16-bit wav of the same rate, channels and length.

    Args:
        enhancer: Enhancer.
        item: Item.
        progress: Progress, told what was done.
        x, sample_rate: the file's content, when it was read before.
    Returns:
        number of clipped samples, or None when it failed: the reason is in the log and nothing was written.
    """
    seconds = computing = 0.0
    clipped = None
    try:
        if x is None:
            x, sample_rate = audio.read(item.source, root=item.root)
        start = time.perf_counter()
        enhanced = enhancer.enhance(x, sample_rate)
        seconds, computing = len(x) / sample_rate, time.perf_counter() - start
        clipped = audio.write_wav(item.target, enhanced, sample_rate)
        if clipped:
            progress.clipped_files += 1
            peak = np.abs(enhanced).max()
            logging.warning("%s: peak %.2f exceeds 1: %d samples clipped", item.target, peak, clipped)
    except UserError as error:
        progress.failed += 1
        where = "" if isinstance(error, audio.AudioError) else f"{item.source}: "
        logging.error("%s%s; not enhanced", where, error)
    progress.add(seconds, computing)
    return clipped
