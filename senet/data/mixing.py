"""Mixtures from plan lines: the arithmetic, and the exact 16-bit sum.

With ``level_of=clean`` (policies crop and snsd) the speech is brought to ``level_db`` RMS (over the whole mixture, no
voice-activity weighting) and the noise to ``level_db - snr_db``. With ``level_of=noisy`` (policy dns) the speech, after
the room impulse response if the line names one, and the noise are added at the SNR and the sum is brought to
``level_db``; ``snr_mode=active`` measures the SNR where there is activity (``senet.dsp.level.active_rms``), and with
``target=early`` clean is the speech with only the early part of the response, and noise all that is not clean: the late
reverberation and the added noise. Then the peak guard: with ``on_clip=scale_all``, when the largest magnitude of noisy,
clean or noise reaches ``peak``, all three are divided so that it becomes ``peak``. (The repository cited in
``senet.data.policies`` looks at noisy alone and divides to 1.0, and so clips clean or noise where they cancel.)

Clean and noise are then rounded to 16 bit and noisy is their integer sum, so noisy - clean - noise is exactly zero in
the files. With ``on_clip=none`` samples beyond 16 bit are clipped, and counted.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from senet.data.stored import fault
from senet.dsp.level import active_rms, from_db, mean_products, rms
from senet.dsp.reverb import early_part, reverberate
from senet.errors import UserError

FULL_SCALE = 32768
SILENT = "its speech, its noise or their sum is silent; draw another"
_BLOCK = 1 << 15
_KNOWN = {  # settings and the values that can be rendered; plans from before there was a choice leave them out
    "level_of": ("clean", "noisy"),
    "target": ("reverberant", "early"),
    "snr_mode": ("power", "active"),
}


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
    """Mix two signals at an SNR, with the speech at a level.

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
    return _add(speech, noise, gains, peak, on_clip)


def mix_to_level(speech, noise, snr_db, level_db, peak=0.99, on_clip="scale_all", *, target=None, measure=None):
    """Mix two signals at an SNR, with their sum at a level.

    Args:
        speech, noise, peak, on_clip: as for ``mix``.
        snr_db: ``measure`` of speech over ``measure`` of noise, dB.
        level_db: RMS of noisy, dB of full scale, before the peak guard.
        target: float (N,), the part of ``speech`` that "clean" shall be; "noise" then is all the rest of noisy.
        measure: function of a signal, its amplitude for the SNR; None: RMS.
    Returns:
        as ``mix``.
    """
    speech_power, noise_power, product = mean_products(speech, noise)
    ratio = measure(speech) / measure(noise) if measure else math.sqrt(speech_power / noise_power)
    ratio *= from_db(-snr_db)
    power = speech_power + 2 * ratio * product + ratio**2 * noise_power  # of their sum
    gain = from_db(level_db) * FULL_SCALE / math.sqrt(max(power, 0.0))
    if target is None:
        return _add(speech, noise, [gain, gain * ratio], peak, on_clip)
    return _add(target, speech - target + noise * ratio, [gain, gain], peak, on_clip)


def _add(speech, noise, gains, peak, on_clip):
    """What ``mix`` returns, of two signals and their gains."""
    limit = peak * FULL_SCALE if on_clip == "scale_all" else math.inf
    bound = sum(gain * _largest(x) for x, gain in zip((speech, noise), gains, strict=True))
    if bound * (1 + 1e-6) > limit:  # else there is no need to look at each sample
        largest = max(_largest(x) for s, n in _blocks(speech, noise, gains) for x in (s + n, s, n))
        if largest >= limit:
            gains = [gain * limit / largest for gain in gains]
    stored, clipped, start = np.empty((3, len(speech)), np.int16), 0, 0
    for s, n in _blocks(speech, noise, gains):
        np.rint(s, out=s), np.rint(n, out=n)
        noisy, clean, rest = out = stored[:, start : start + len(s)]
        if limit < FULL_SCALE - 2:  # rounding cannot lead out of 16 bit
            clean[:], rest[:] = s, n
            np.add(clean, rest, out=noisy)
        else:
            clipped += store((s + n, s, n), out)
        start += len(s)
    return stored, clipped


def _largest(x):
    return max(float(x.max()), -float(x.min()))


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


class Parts(NamedTuple):
    """What a mixture is made from, as read: float32 (N,), (N,) and (M,) or None."""

    speech: np.ndarray
    noise: np.ndarray
    rir: np.ndarray | None


class Mixer:
    """Renders the lines of one plan.

    Args:
        settings: the plan's settings (text values).
        speech, noise: SourceSet at the plan's rate.
        rir: SourceSet of room impulse responses, if the plan uses them.
    Raises:
        UserError: a setting that this version cannot render.
    """

    def __init__(self, settings, speech, noise, rir=None):
        self.settings, self.speech, self.noise, self.rir = settings, speech, noise, rir
        self.peak, self.on_clip = float(settings["peak"]), settings["on_clip"]
        self.equal_rms = settings["parts"] == "equal_rms"
        for name, known in _KNOWN.items():
            value = settings.get(name, known[0])
            if value not in known:
                raise UserError(f"plan: {name}={value} is not known here; it was made by a newer senet")
        self.early = settings.get("target") == "early"
        self.measure = None
        if settings.get("snr_mode") == "active":
            self.measure = functools.partial(active_rms, sample_rate=speech.sample_rate)

    def read(self, line):
        """The Parts of ``line``; AudioError for a source that cannot be read."""
        speech = assemble(line.clean, self.speech, equal_rms=self.equal_rms)
        noise = assemble(line.noise, self.noise, equal_rms=self.equal_rms)
        if not len(speech) == len(noise) == line.num_samples:
            raise UserError(
                f"plan: '{line.utt}' has {len(speech)} samples of speech and {len(noise)} of noise, "
                f"and says {line.num_samples}; run this command with --plan again"
            )
        if line.rir is None:
            return Parts(speech, noise, None)
        if self.rir is None:
            raise UserError(f"plan: '{line.utt}' asks for the RIR '{line.rir}', but there is no set of them; see --rir")
        return Parts(speech, noise, self.rir.read(self.rir.scp.index(line.rir)))

    def mix(self, parts, line):
        """int16 (3, line.num_samples): noisy, clean, noise; and the number of clipped samples.

        Raises:
            AudioError: silence, which no gain brings to a level.
        """
        speech, noise, rir = parts
        target = None
        if rir is not None:
            if self.early:
                speech, target = reverberate(speech, rir, early_part(rir, self.speech.sample_rate))
            else:
                (speech,) = reverberate(speech, rir)
        levels = line.snr_db, line.level_db, self.peak, self.on_clip
        try:
            if self.settings["level_of"] == "clean":
                return mix(speech, noise, *levels)
            return mix_to_level(speech, noise, *levels, target=target, measure=self.measure)
        except ZeroDivisionError:
            raise fault(line.utt, "silent", SILENT) from None

    def render(self, line):
        """``mix`` of ``read``."""
        return self.mix(self.read(line), line)
