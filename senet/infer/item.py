"""One recording from its source to its target, in bounded memory."""

import contextlib
import errno
import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from senet.data.blocks import PIPE, Recording, write_blocks
from senet.data.stored import AudioError
from senet.errors import UserError
from senet.infer import loudness
from senet.infer.enhance import BLOCK_SECONDS
from senet.infer.files import existing, subtype_for

EVERY = 10  # seconds between two words on how far it is


class How(NamedTuple):
    """What becomes of the enhanced signal.

    ``mix``: its share in the result. ``keep_level``: bring the result to the input's level (``loudness.gain``).
    ``peak``: of samples beyond +-1: ``clip`` them, unless they are stored as floats; ``scale`` the whole signal down;
    or ``error``: write nothing. ``subtype``: of what is written, as soundfile names it; None: see ``subtype_for``.
    """

    mix: float = 1.0
    keep_level: bool = False
    peak: str = "clip"
    subtype: str | None = None


class Outcome(NamedTuple):
    """What became of an Item; ``error`` is the reason if nothing was written."""

    source: str
    target: str
    seconds: float = 0.0  # of audio
    computing: float = 0.0  # seconds without reading and writing
    samples: int = 0  # per channel
    clipped: int = 0
    peak: float = 0.0
    error: str | None = None


def by_length(found, most, window):
    """Bring together what ``enhance_items`` takes.

    Args:
        found: ``(x, AudioInfo)`` of recordings, or None where it is not known, in the order in which they are wanted.
        most: how many may be together.
        window: seconds; a longer recording remains alone.
    Returns:
        lists of ``x``, each where its first one was.
    """
    lists, begun = [], {}
    for x, info in found:
        short = info and info.frames is not None and info.frames <= window * info.sample_rate
        kind = (info.sample_rate, info.frames) if short else object()  # like no other
        if len(begun.get(kind, ())) in (0, most):
            begun[kind] = []
            lists.append(begun[kind])
        begun[kind].append(x)
    return lists


def enhance_items(enhancer, items, how):
    """Enhance recordings; a failure is an Outcome, too, and does not hurt the others.

    Args:
        enhancer: Enhancer.
        items: Items, one; or several recordings of one rate and length, at most a window, in one call of the model.
        how: How.
    Returns:
        an Outcome for each.
    Raises:
        UserError: the disk is full, so that the next would fail, too.
    """
    ready = [None] * len(items)
    if len(items) > 1:
        try:
            ready = _together(enhancer, items, how.mix)
        except (UserError, ValueError, MemoryError, RuntimeError) as error:  # alone, the one at fault says so
            if _is_memory(error):
                logging.warning("too little memory for %d recordings at once: enhanced one by one", len(items))
    return [_enhance_item(enhancer, item, how, one) for item, one in zip(items, ready, strict=True)]


class _Ready(NamedTuple):
    """A recording that was read, and enhanced with others."""

    recording: Recording
    noisy: np.ndarray
    enhanced: np.ndarray
    computing: float  # seconds, its share


def _together(enhancer, items, mix):
    """As channels of one signal, of which each is enhanced by itself."""
    recordings = [Recording(item.source, item.root) for item in items]
    (rate,) = {recording.info.sample_rate for recording in recordings}
    noisy = [next(recording.blocks(recording.info.frames)) for recording in recordings]
    begin = time.perf_counter()
    signal = np.concatenate([x.reshape(len(x), -1) for x in noisy], 1)
    ends = np.cumsum([recording.info.channels for recording in recordings])[:-1]
    enhanced = np.split(enhancer.enhance(signal, rate, mix), ends, 1)
    seconds = (time.perf_counter() - begin) / len(items)
    return [_Ready(r, x, y.reshape(x.shape), seconds) for r, x, y in zip(recordings, noisy, enhanced, strict=True)]


def _is_memory(error):
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def _enhance_item(enhancer, item, how, ready):
    source = "standard input" if item.source == PIPE else item.source
    try:
        return _enhance(enhancer, item, how, ready)
    except UserError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
            raise
        reason = str(error) if isinstance(error, AudioError) else f"{source}: {error}"
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        reason = f"{source}: too little memory for windows of {enhancer.window:g} s; take a smaller --window"
    return Outcome(item.source, str(item.target), error=reason)


def _enhance(enhancer, item, how, ready):
    recording = ready.recording if ready else Recording(item.source, item.root)
    rate, channels, frames, stored = recording.info
    suffix = Path(item.target).suffix.lower() or ".wav"
    subtype = subtype_for(suffix, stored, how.subtype)
    before, after, watch = loudness.Meter(rate), loudness.Meter(rate), _Watch(ready.computing if ready else 0.0)
    size = round(BLOCK_SECONDS * rate)
    short = frames is not None and frames <= enhancer.window * rate
    read = [ready.noisy] if ready else watch.reading(recording.blocks(frames if short else size), recording)
    noisy = before.over(read) if how.keep_level else read
    if ready:
        blocks = (ready.enhanced for _ in noisy)
    elif short:
        blocks = (enhancer.enhance(x, rate, how.mix) for x in noisy)
    else:
        blocks = enhancer.blocks(noisy, rate, how.mix)
    blocks = watch.computing(blocks)
    with contextlib.ExitStack() as stack:
        if how.keep_level or how.peak != "clip":
            folder = None if item.target == PIPE else existing(Path(item.target).parent)
            waiting = stack.enter_context(loudness.held(after.over(blocks), folder))
            factor = _factor(before, after, how)
            blocks = (np.float32(factor) * block for block in waiting)
        with write_blocks(item.target, rate, channels, subtype, frames) as writer:
            for block in blocks:
                writer.write(block)
    return Outcome(
        item.source,
        str(item.target),
        writer.frames / rate,
        watch.seconds,
        writer.frames,
        writer.clipped,
        writer.peak,
    )


def _factor(before, after, how):
    factor = loudness.gain(before, after) if how.keep_level else 1.0
    peak = factor * after.peak
    if how.peak == "error" and peak > 1:
        raise UserError(f"its peak would be {peak:.3f}, beyond 1; nothing is written, as --peak error asks for")
    return factor * min(1, loudness.FULL_SCALE / peak) if how.peak == "scale" and peak else factor


class _Watch:
    """Seconds of computing, and word of a long recording every ten seconds."""

    def __init__(self, seconds):
        self.seconds, self.last = seconds, time.perf_counter()

    def computing(self, blocks):
        """Yield the blocks, each of which may be computed when it is asked for."""
        while True:
            self.seconds -= time.perf_counter()
            block = next(blocks, None)
            self.seconds += time.perf_counter()
            if block is None:
                return
            yield block

    def reading(self, blocks, recording):
        """Yield the blocks of a Recording, asked for while computing, which stands still meanwhile."""
        info, done = recording.info, 0.0
        while True:
            begin = time.perf_counter()
            block = next(blocks, None)
            self.seconds -= time.perf_counter() - begin
            if block is None:
                return
            yield block
            done += len(block) / info.sample_rate
            now = time.perf_counter()
            if now - self.last >= EVERY:
                self.last = now
                total = f" of {info.frames / info.sample_rate:.0f}" if info.frames else ""
                speed = (self.seconds + now) / done  # the clock is running
                logging.info("%s: %.0f%s s, real-time factor %.3f", recording.where, done, total, speed)


class Progress:
    """Counts files and seconds, and logs them with the real-time factor at most every ten seconds.

    The real-time factor is computing time over the audio's duration: below 1 is faster than real time.

    Args:
        total: files.
        seconds: of audio in them, for the time that is left; None: not known, they are taken for equally long.
    """

    def __init__(self, total, seconds=None):
        self.total, self.seconds = total, seconds
        self.first = None  # when the first was done, and how much it was: what came before is no measure
        self.done, self.failed, self.clipped_files, self.audio, self.computing = 0, 0, 0, 0.0, 0.0
        self.start = self.last = time.monotonic()

    def add(self, outcome=None):
        """One more file is done; None: it was before."""
        self.done += 1
        if outcome is not None:
            self.audio, self.computing = self.audio + outcome.seconds, self.computing + outcome.computing
            self._tell(outcome)
        now, (work, whole) = time.monotonic(), self._work()
        if self.first is None:
            self.first = now, work
        if now - self.last >= EVERY and self.done < self.total:
            since, before = self.first
            left = f", {(now - since) / (work - before) * max(0, whole - work):.0f} s left" if work > before else ""
            logging.info("enhance: %d of %d files%s%s", self.done, self.total, self._speed(), left)
            self.last = now

    def finish(self):
        """Log the whole run; the number of failures decides the exit status."""
        logging.info(
            "enhanced %d of %d files%s in %.1f s; failed %d, files with clipped samples %d",
            self.done - self.failed,
            self.total,
            self._speed(),
            time.monotonic() - self.start,
            self.failed,
            self.clipped_files,
        )
        return self.failed

    def _work(self):
        """What is done, and what there is."""
        return (self.audio, self.seconds) if self.seconds else (self.done, self.total)

    def _tell(self, outcome):
        if outcome.error:
            self.failed += 1
            logging.error("%s; not enhanced", outcome.error)
        elif outcome.clipped:
            self.clipped_files += 1
            logging.warning(
                "%s: peak %.2f exceeds 1: %d samples clipped", outcome.target, outcome.peak, outcome.clipped
            )

    def _speed(self):
        if not self.audio:
            return ""
        return f", {self.audio:.1f} s of audio, real-time factor {self.computing / self.audio:.3f}"
