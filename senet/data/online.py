"""Training on mixtures that are made when they are asked for: no set on the disk, another one in each epoch.

Each item is drawn by the policy of ``senet.data.policies`` and made by the ``Mixer`` of ``senet.data.mixing``, as the
lines of a plan are; the generator follows from (seed, epoch, index), so a batch is the same whatever the number of
workers or ranks, and after resuming.

The arithmetic is done where the item is read, or, with ``on_device``, for a whole batch on the device of training:
loading processes then only read, and convolutions with room impulse responses are the GPU's. Both give the same
samples, but for the last of 16 bits where a device's float32 arithmetic is not that of numpy.
"""

import numpy as np
import torch
from torch import Tensor

from senet.data.dataset import Stream, samples_of
from senet.data.items import Item, draw_crop
from senet.data.mixing import FULL_SCALE, SILENT
from senet.data.stored import AudioError, fault
from senet.dsp.level import ACTIVE_FRAME_SECONDS, ACTIVE_RANGE_DB, BITS, from_db
from senet.dsp.reverb import RIR_BITS, early_part

SIGNALS = ("noisy", "clean", "noise")


class Mixtures(Stream):
    """The batches of mixtures made on the fly.

    Args:
        name: of the mixing configuration, for messages.
        policy, mixer: as ``senet.data.mixture_set.open_mixer`` gives them.
        number: mixtures in an epoch.
        crop_seconds: length of a random part that is taken of each mixture; None: all of it.
        on_device: mix in ``finish``.
        options: as for ``Stream``.

    After ``finish`` a batch holds noisy, clean, noise: float32 (B, N), on the 16-bit grid, and lengths: int64 (B,).
    Before, it holds what is smaller to hand over: the 16 bits, or with ``on_device`` what they are made of.
    """

    unit = "mixture"

    def __init__(self, name, policy, mixer, *, number, crop_seconds=None, on_device=False, **options):
        crop = samples_of("crop_seconds", crop_seconds, mixer.speech.sample_rate)
        items = (_Parts if on_device else _Mixed)(policy, mixer, number, crop)
        super().__init__(name, items, **options)

    def finish(self, batch):
        if not batch["ids"]:
            return batch
        finished = self.items.finish(batch)
        return self._without_silent(finished) if isinstance(self.items, _Parts) else finished

    def _without_silent(self, batch):
        """``bad_audio`` for mixtures that only mixing shows to be silent: by then there is no next item to take the
        place of one, so the next of the batch (of a process's share of it) does, which is then there twice."""
        silent = batch["noisy"].isnan().any(1).tolist()
        if not any(silent):
            return batch
        for utt, is_silent in zip(batch["ids"], silent, strict=True):
            if is_silent:
                self._report(utt, AudioError(SILENT, "silent"))
        sound = [row for row, is_silent in enumerate(silent) if not is_silent]
        if not sound:
            raise self._too_few()
        rows = [next((k for k in sound if k >= row), sound[0]) for row in range(len(silent))]
        taken = {name: batch[name][rows] for name in ("lengths", *SIGNALS)}
        return batch | taken | {"ids": [batch["ids"][row] for row in rows], "skipped": batch["skipped"] + sum(silent)}


class _Mixed:
    """Items that are mixed as they are read; see ``senet.data.items``."""

    def __init__(self, policy, mixer, number, crop):
        self.policy, self.mixer, self.crop = policy, mixer, crop
        self.num_samples = np.broadcast_to(np.int64(crop or 1), number)  # only counted: they are put in no order

    def key(self, i):
        return str(i + 1)

    def read(self, i, rng):
        line, start, length = self._draw(i, rng)
        stored, _ = self.mixer.render(line)
        return Item({"mixed": stored[:, start : start + length]}, length, line.utt)

    def _draw(self, i, rng):
        """(line, start, length) of mixture ``i`` and the part of it that is used."""
        lines = self.policy.draw(rng, i)
        line = lines[i % len(lines)]  # of the SNRs that share a draw, one
        return line, *draw_crop(rng, line.num_samples, self.crop)

    def collate(self, items, longest=0):
        """mixed: int16 (3, B, N) of noisy, clean, noise, zero-padded; lengths (B,)."""
        lengths = np.array([item.length for item in items])
        mixed = np.empty((3, len(items), self.crop or lengths.max()), np.int16)
        for row, item in enumerate(items):
            mixed[:, row, : item.length] = item.signals["mixed"]
            mixed[:, row, item.length :] = 0
        return {"mixed": mixed, "lengths": lengths}

    def finish(self, batch):
        # Converted, then multiplied in place: half the time of a product of two types.
        return _finished(batch, [x.float().mul_(1 / FULL_SCALE) for x in batch["mixed"]])


class _Parts(_Mixed):
    """Items that are only read; ``finish`` mixes a batch of them."""

    def read(self, i, rng):
        line, start, length = self._draw(i, rng)
        speech, noise, rir = self.mixer.read(line)
        if not (speech.any() and noise.any()):
            raise fault(line.utt, "silent", "its speech or its noise is silent; draw another")
        second = line.level_db - line.snr_db if self.mixer.settings["level_of"] == "clean" else -line.snr_db
        signals = {"speech": speech, "noise": noise}
        numbers = {"start": start, "levels": (from_db(line.level_db), from_db(second))}
        if rir is not None:
            signals["rir"] = rir[: len(speech)]
            numbers["early"] = len(early_part(rir, self.mixer.speech.sample_rate))
        return Item(signals | numbers, length, line.utt)

    def collate(self, items, longest=0):
        """speech, noise (B, N), rir (B, M or 0): float32, zero-padded; levels float64 (B, 2); int64 (B,): total, start,
        lengths in samples, early: samples of the RIR's early part, 0 for no RIR."""
        parts = [item.signals for item in items]
        batch = {name: _padded([p.get(name, ()) for p in parts]) for name in ("speech", "noise", "rir")}
        batch["levels"] = np.array([p["levels"] for p in parts])
        batch["total"] = np.array([len(p["speech"]) for p in parts])
        batch["early"] = np.array([p.get("early", 0) for p in parts])
        batch["start"] = np.array([p["start"] for p in parts])
        return batch | {"lengths": np.array([item.length for item in items])}

    def finish(self, batch):
        settings, rate = self.mixer.settings, self.mixer.speech.sample_rate
        mixed = mix_batch(
            *(batch[name] for name in ("speech", "noise", "rir", "early", "levels", "total")),
            level_of=settings["level_of"],
            early_target=self.mixer.early,
            frame=round(ACTIVE_FRAME_SECONDS * rate) if settings.get("snr_mode") == "active" else None,
            peak=self.mixer.peak if self.mixer.on_clip == "scale_all" else None,
        )
        size = self.crop or mixed.shape[-1]
        places = batch["start"][:, None] + torch.arange(size, device=mixed.device)
        inside = places < (batch["start"] + batch["lengths"])[:, None]
        return _finished(batch, mixed.gather(2, places.clamp(max=mixed.shape[-1] - 1).expand(3, -1, -1)) * inside)


def _finished(batch, signals):
    kept = {name: batch[name] for name in ("ids", "lengths", "skipped", "first") if name in batch}
    return kept | dict(zip(SIGNALS, signals, strict=True))


def _padded(rows):
    """float32 (B, longest)."""
    out = np.empty((len(rows), max(map(len, rows))), np.float32)
    for row, x in zip(out, rows, strict=True):
        row[: len(x)], row[len(x) :] = x, 0
    return out


# ------------------------------------------------------------ the arithmetic of senet.data.mixing, for a batch


def mix_batch(
    speech: Tensor,
    noise: Tensor,
    rir: Tensor,
    early: Tensor,
    levels: Tensor,
    total: Tensor,
    *,
    level_of: str,
    early_target: bool = False,
    frame: int | None = None,
    peak: float | None = 0.99,
) -> Tensor:
    """What ``Mixer.mix`` makes of each of B mixtures.

    Args:
        speech, noise: float32 (B, N), zero from ``total`` on.
        rir: float32 (B, M), M <= N; M may be 0.
        early: int64 (B,), samples of the RIR's early part; 0: no RIR.
        levels: float64 (B, 2), amplitudes of full scale: of the speech and of the noise for ``level_of`` clean; of
            noisy, and the ratio of noise to speech, for noisy.
        total: int64 (B,), samples of each mixture.
        early_target: clean has the early part of the RIR only, and noise all the rest.
        frame: measure the SNR over active frames of so many samples; None: over everything.
        peak: the largest magnitude allowed; None: clip at full scale.
    Returns:
        float32 (3, B, N): noisy, clean, noise; on the 16-bit grid, noisy = clean + noise exactly. noisy has nan where
        there is only silence, which no gain brings to a level.
    """
    wet = early[:, None] > 0
    target = speech
    if rir.shape[1]:
        inside = torch.arange(speech.shape[1], device=speech.device) < total[:, None]
        first = torch.arange(rir.shape[1], device=rir.device) < early[:, None]
        if early_target:
            target = torch.where(wet, _reverberate(speech, rir * first) * inside, speech)
        speech = torch.where(wet, _reverberate(speech, rir) * inside, speech)
    first_level, second_level = levels[:, :1], levels[:, 1:]
    if level_of == "clean":
        power, noise_power, _ = _products(speech, noise, total)
        gains = [first_level * FULL_SCALE / power.sqrt(), second_level * FULL_SCALE / noise_power.sqrt()]
    else:
        power, noise_power, product = _products(speech, noise, total)
        if frame:
            ratio = _active_rms(speech, total, frame) / _active_rms(noise, total, frame) * second_level
        else:
            ratio = (power / noise_power).sqrt() * second_level
        gain = first_level * FULL_SCALE / (power + 2 * ratio * product + ratio**2 * noise_power).sqrt()
        gains = [gain, gain * ratio]
        if early_target:
            noise = torch.where(wet, speech - target + noise * ratio.float(), noise)
            speech, gains[1] = torch.where(wet, target, speech), torch.where(wet, gain, gains[1])
    clean, rest = (x * gain.float() for x, gain in zip((speech, noise), gains, strict=True))
    if peak is not None:
        largest = torch.stack([x.abs().amax(1, True) for x in (clean + rest, clean, rest)]).amax(0).double()
        over = largest >= peak * FULL_SCALE
        gains = [torch.where(over, gain * peak * FULL_SCALE / largest, gain) for gain in gains]
        clean, rest = (x * gain.float() for x, gain in zip((speech, noise), gains, strict=True))
    clean, rest = clean.round(), rest.round()
    mixed = torch.stack([clean + rest, clean, rest])
    return mixed.clamp(-FULL_SCALE, FULL_SCALE - 1) / FULL_SCALE


def _reverberate(x, rir):
    """As ``senet.dsp.reverb.reverberate``, of each row."""
    from scipy.fft import next_fast_len

    size = next_fast_len(x.shape[1] + rir.shape[1] - 1, real=True)
    (x, unit), (rir, rir_unit), n = _steps(x), _steps(rir, RIR_BITS), x.shape[1]
    spectra = torch.fft.rfft(x, size) * torch.fft.rfft(rir, size)
    return (torch.fft.irfft(spectra, size)[:, :n].round() * (unit * rir_unit)).float()


def _steps(x, bits=BITS):
    """Each row in whole numbers, float64, as in ``senet.dsp.level``, so that sums are exact on any device; and their
    unit, float64 (B, 1): nan for silence."""
    largest = x.abs().amax(1, True)
    unit = largest / torch.frexp(largest).mantissa  # the power of 2 above it, exactly
    return (x / unit * 2**bits).round().double(), unit.double() / 2**bits


def _products(x, y, total):
    """As ``mean_products`` of the first ``total`` samples of each row: three of float64 (B, 1)."""
    (a, left), (b, right) = ((steps.long(), unit) for steps, unit in (_steps(x), _steps(y)))
    pairs = ((a * a, left * left), (b * b, right * right), (a * b, left * right))
    return [steps.sum(1, True) / total[:, None].double() * unit for steps, unit in pairs]


def _active_rms(x, total, frame):
    """As ``active_rms``, of frames of so many samples: float64 (B, 1)."""
    steps, unit = _steps(x)
    squares = torch.nn.functional.pad(steps.long().square(), (0, -x.shape[1] % frame)).unflatten(1, (-1, frame)).sum(2)
    starts = frame * torch.arange(squares.shape[1], device=x.device)
    lengths = (total[:, None] - starts).clamp(0, frame)
    powers = squares / lengths.clamp(min=1).double()
    active = (powers >= powers.amax(1, True) * 10 ** (-ACTIVE_RANGE_DB / 10)) & (lengths > 0)
    return ((squares * active).sum(1, True) / (lengths * active).sum(1, True).double()).sqrt() * unit
