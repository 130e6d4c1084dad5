"""How fast a training is."""

import time


class Speed:
    """Seconds, steps and audio, of this run and since the last log line.

    The first steps compile, allocate and wait for the processes that read: as soon as there are others, they do not
    count in the speed.
    """

    _SLOW = 2  # steps

    def __init__(self, seconds_before):
        self.before, self.start = seconds_before, time.monotonic()
        self.total_steps, self.slow = 0, 0.0  # slow: seconds of the first steps
        self.mark, self.steps, self.audio, self.waited = self.start, 0, 0.0, 0.0

    def restart(self):
        self.mark, self.steps, self.audio, self.waited = time.monotonic(), 0, 0.0, 0.0

    def timed(self, batches):
        """The same; the time that each takes to come counts as waiting. The device waits then as well: each step ends
        by asking it whether the loss is finite."""
        batches = iter(batches)
        while True:
            start = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - start
            if batch is None:
                return
            yield batch

    def count(self, audio_seconds):
        if self.total_steps == self._SLOW:
            self.slow = self.counted - self.start
            if self.mark == self.start:  # no log line yet
                self.mark, self.steps, self.audio = self.counted, 0, 0.0
                self.waited -= self.waited_slow  # the last batch came since
        self.steps, self.audio, self.total_steps = self.steps + 1, self.audio + audio_seconds, self.total_steps + 1
        self.counted, self.waited_slow = time.monotonic(), self.waited

    def rates(self):
        """Steps per second, seconds of audio per second and the share of waiting for data since the last call."""
        elapsed = max(time.monotonic() - self.mark, 1e-9)
        rates = self.steps / elapsed, self.audio / elapsed, min(1.0, self.waited / elapsed)
        self.restart()
        return rates

    def seconds(self):
        return self.before + time.monotonic() - self.start

    def seconds_per_step(self):
        steps = self.total_steps - self._SLOW if self.slow else max(self.total_steps, 1)
        return (time.monotonic() - self.start - self.slow) / steps
