"""Mixtures from plan lines: the arithmetic, and the exact 16-bit sum.

For every line the speech is brought to ``level_db`` RMS (over the whole mixture, no voice-activity weighting) and the
noise to ``level_db - snr_db``. Then the peak guard: with ``on_clip=scale_all``, when the largest magnitude of noisy,
clean or noise reaches ``peak``, all three are divided so that it becomes ``peak``. (The repository cited in
``senet.data.policies`` looks at noisy alone and divides to 1.0, and so clips clean or noise where they cancel.)

Clean and noise are then rounded to 16 bit and noisy is their integer sum, so noisy - clean - noise is exactly zero in
the files. With ``on_clip=none`` samples beyond 16 bit are clipped, and counted.
"""

import numpy as np

from senet.dsp.level import from_db, rms
from senet.errors import UserError

FULL_SCALE = 32768
_BLOCK = 8192


def assemble(parts, sources, *, equal_rms=False):
    """The signal that ``parts`` describe.

    Args:
        parts: plan parts of one SourceSet.
        sources: the SourceSet.
        equal_rms: divide each recording by its RMS over its whole length first (as MS-SNSD does on reading),
            so that joined recordings are equally loud.
    Returns:
        float32 (N,).
    """
    pieces = []
    for part in parts:
        if part.source is None:
            pieces.append(np.zeros(part.length, np.float32))
            continue
        index = sources.scp.index(part.source)
        if equal_rms:
            whole = sources.read(index)
            level = rms(whole)
            pieces.append((whole / max(level, 1e-8))[part.start : part.start + part.length].astype(np.float32))
        else:
            pieces.append(sources.read(index, part.start, part.length))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def mix(speech, noise, snr_db, level_db, peak=0.99, on_clip="scale_all"):
    """Mix two signals at an SNR.

    Args:
        speech, noise: float (N,), not silent, any scale.
        snr_db: RMS of speech over RMS of noise, dB.
        level_db: RMS of the speech in the mixture, dB of full scale, before the peak guard.
        peak: largest magnitude allowed, full scale = 1.
        on_clip: ``scale_all`` or ``none``.
    Returns:
        int16 (3, N): noisy, clean, noise; and the number of clipped samples.
    """
    gains = [from_db(level_db) * FULL_SCALE / rms(speech), from_db(level_db - snr_db) * FULL_SCALE / rms(noise)]
    if on_clip == "scale_all":
        largest = max(float(np.abs(x).max()) for s, n in _blocks(speech, noise, gains) for x in (s + n, s, n))
        if largest >= peak * FULL_SCALE:
            gains = [gain * peak * FULL_SCALE / largest for gain in gains]
    stored, clipped, start = np.empty((3, len(speech)), np.int16), 0, 0
    for s, n in _blocks(speech, noise, gains):
        s, n = np.rint(s), np.rint(n)
        clipped += store((s + n, s, n), stored[:, start : start + len(s)])
        start += len(s)
    return stored, clipped


def _blocks(speech, noise, gains):
    """Both signals scaled, in pieces that stay in the processor's cache: several times faster than as a whole."""
    for i in range(0, len(speech), _BLOCK):
        yield speech[i : i + _BLOCK] * gains[0], noise[i : i + _BLOCK] * gains[1]


def store(signals, out):
    """Put signals of whole numbers into ``out`` int16 (signals, N); returns how many samples had to be clipped."""
    clipped = 0
    for x, target in zip(signals, out, strict=True):
        target[:] = limited = np.clip(x, -FULL_SCALE, FULL_SCALE - 1)
        clipped += int(np.count_nonzero(limited != x))
    return clipped


class Mixer:
    """Renders the lines of one plan.

    Args:
        settings: the plan's settings (text values).
        speech, noise: SourceSet at the plan's rate.
    Raises:
        UserError: a setting that this version cannot render.
    """

    def __init__(self, settings, speech, noise):
        self.speech, self.noise = speech, noise
        self.peak, self.on_clip = float(settings["peak"]), settings["on_clip"]
        self.equal_rms = settings["parts"] == "equal_rms"
        if settings["level_of"] != "clean":
            raise UserError(f"plan: level_of={settings['level_of']} is not known here; it was made by a newer senet")

    def render(self, line):
        """int16 (3, line.num_samples): noisy, clean, noise; and the number of clipped samples."""
        if line.rir is not None:
            raise UserError(
                f"plan: '{line.utt}' asks for the room impulse response '{line.rir}', which this version cannot apply"
            )
        speech = assemble(line.clean, self.speech, equal_rms=self.equal_rms)
        noise = assemble(line.noise, self.noise, equal_rms=self.equal_rms)
        if not len(speech) == len(noise) == line.num_samples:
            raise UserError(
                f"plan: '{line.utt}' has {len(speech)} samples of speech and {len(noise)} of noise, "
                f"and says {line.num_samples}; run this command with --plan again"
            )
        return mix(speech, noise, line.snr_db, line.level_db, self.peak, self.on_clip)
