"""How a plan's lines are drawn: ``crop``, ``snsd`` and ``dns``.

crop: as the data script of
YunyangZeng/Spectrogram-Masking-based-Neural-Network-model-for-single-channel-Speech-Enhancement: one random crop of
speech and one of noise, of equal length, and one SNR for each mixture; both brought to unit RMS. Known differences:
a source that is too short, or a crop that is silent, is drawn again (there it leaves a gap in the numbering), so there
are exactly as many mixtures as asked for; everything follows from a seed.

snsd: as microsoft/MS-SNSD: whole files joined with 0.2 s of silence until the clip is longer than a minimum, noise
joined likewise and cut, every SNR of the list for each clip, -25 dBFS RMS. The gain is 10^(-SNR/20): that repository's
history also holds a version with a square root around it, whose true SNR is half of the nominal one. Known
differences: seeded; silent files are passed over; the peak guard of ``senet.data.mixing`` is on by default.

dns: as noisyspeech_synthesizer_singleprocess.py of microsoft/DNS-Challenge: a random crop of speech, or shorter
recordings joined with up to 0.2 s of silence; noise likewise, without silence; a room impulse response; the sum brought
to a random level. Known differences: the realised SNR is the drawn one (there the default mixer is off by several dB,
for it measures peak-normalised signals); SNR and level are real numbers, not whole ones; each recording is drawn
independently of those before; a share of the mixtures is left dry; a single noise recording that is too short is
repeated from a random place on; quiet parts are drawn again, and so are speech and response when the response comes so
late that next to nothing of the speech is left; no check of activity, and none for clipped sources.

``draw(rng, i)`` gives the lines of draw i from a generator. In a plan it follows from (seed, set name, i) alone; in
``snsd`` the lines of one clip share the draw.
"""

import logging
import math
import zlib

import numpy as np

from senet.data.mixing import assemble
from senet.data.plan import Line, Part, silence
from senet.dsp.level import is_quieter, rms_db
from senet.errors import UserError

_LISTED = 20  # types in a message
MAX_DRAWS = 1000  # silent crops in a row before we say that the sources are unusable


def snr_levels(lower, upper, number):
    """``number`` SNRs in dB from ``lower`` to ``upper``, both included, evenly spaced."""
    if number < 1 or lower > upper:
        raise UserError(
            f"SNR levels: {number} from {lower} to {upper} dB asked for; needed: at least one, lower <= upper"
        )
    return [round(float(x), 6) for x in np.linspace(lower, upper, int(number))]


def usable(sources, exclude_types=(), min_samples=1):
    """Indices of the recordings that may be drawn.

    Args:
        sources: SourceSet.
        exclude_types: prefixes of noise types or ids to leave out.
        min_samples: recordings shorter than this are left out.
    Raises:
        UserError: none is left.
    """
    keep = sources.lengths >= min_samples
    if not keep.any():
        longest = sources.lengths.max() / sources.sample_rate if len(sources) else 0.0
        raise UserError(
            f"{sources.path}: none of {len(sources)} recordings is {min_samples / sources.sample_rate:g} s long "
            f"(the longest has {longest:.2f} s); choose shorter mixtures with --seconds or other sources"
        )
    if exclude_types:
        types = sources.table("utt2noise")
        prefixes, unmet = tuple(exclude_types), set(exclude_types)
        for i in range(len(keep)):
            names = (sources.id(i), *((types.value(i),) if types else ()))
            met = {prefix for prefix in prefixes if any(name.startswith(prefix) for name in names)}
            keep[i] &= not met
            unmet -= met
        if unmet:
            known = sorted({value for _, value in types}) if types else [sources.id(0), "..."]
            logging.warning(
                "%s: --exclude_types: nothing begins with %s; there %s %s",
                sources.path,
                " or ".join(f"'{prefix}'" for prefix in sorted(unmet)),
                "are the types" if types else "is no utt2noise, but ids such as",
                ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""),
            )
        if not keep.any():
            raise UserError(
                f"{sources.path}: --exclude_types {','.join(prefixes)} leaves no recording of {len(sources)}"
            )
    return np.flatnonzero(keep)


class _Policy:
    """What the policies share; each has ``draw(rng, i)``, a list of ``lines_per_draw`` Lines."""

    lines_per_draw = 1
    rir = None

    def __init__(self, set_name, speech, noise, *, seed, min_rms_db, exclude_types):
        self.speech, self.noise = speech, noise
        self.seed, self.set_hash = seed, zlib.crc32(set_name.encode())  # Python's own hash differs from run to run
        self.min_rms_db, self.exclude_types = min_rms_db, exclude_types

    def lines(self, i):
        """Draw i of a plan."""
        return self.draw(np.random.default_rng([self.seed, self.set_hash, i]), i)

    def _name(self, source, number, snr):
        """Speaker, and the cited repositories' file name with the number padded so that ids sort."""
        spk = self.speech.speakers.value(self.speech.scp.index(source))
        return f"{spk}-noisy{number:06d}_SNRdb_{snr:.2f}", spk

    def _is_quiet(self, x):
        return is_quieter(x, self.min_rms_db)

    def _too_quiet(self, sources):
        return UserError(
            f"{sources.path}: {MAX_DRAWS} draws in a row are under {self.min_rms_db:g} dBFS RMS; "
            "the recordings are nearly silent: lower --min_rms_db or use others"
        )


class Crop(_Policy):
    """One mixture for each draw, of one crop of speech and one of noise, at one of ``snrs`` (dB)."""

    level_db = 0.0

    def __init__(self, *args, num_samples, snrs, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_samples, self.snrs = num_samples, snrs
        self.speech_indices = usable(self.speech, (), num_samples)
        self.noise_indices = usable(self.noise, self.exclude_types, num_samples)

    def draw(self, rng, i):
        clean = self._crop(rng, self.speech, self.speech_indices)
        noise = self._crop(rng, self.noise, self.noise_indices)
        snr = self.snrs[rng.integers(len(self.snrs))]
        utt, spk = self._name(clean.source, i + 1, snr)
        return [Line(utt, spk, (clean,), (noise,), snr, self.level_db, None, self.num_samples)]

    def _crop(self, rng, sources, indices):
        for _ in range(MAX_DRAWS):
            index = int(indices[rng.integers(len(indices))])
            start = int(rng.integers(sources.lengths[index] - self.num_samples + 1))
            if not self._is_quiet(sources.read(index, start, self.num_samples)):
                return Part(sources.id(index), start, self.num_samples)
        raise self._too_quiet(sources)


class Snsd(_Policy):
    """One clip at each of ``snrs`` (dB) for each draw."""

    level_db = -25.0

    def __init__(self, *args, min_samples, gap_samples, snrs, **kwargs):
        super().__init__(*args, **kwargs)
        self.min_samples, self.gap, self.snrs = min_samples, gap_samples, snrs
        self.lines_per_draw = len(snrs)
        self.speech_indices = usable(self.speech)
        self.noise_indices = usable(self.noise, self.exclude_types)

    def draw(self, rng, i):
        # "Not longer than the minimum": the clip ends up longer by at least one sample, and is not cut.
        clean, length = self._join(rng, self.speech, self.speech_indices, self.min_samples + 1)
        noise, _ = self._join(rng, self.noise, self.noise_indices, length, cut=True)
        lines = []
        for snr in self.snrs:
            utt, spk = self._name(clean[0].source, i + 1, snr)
            lines.append(Line(utt, spk, clean, noise, snr, self.level_db, None, length))
        return lines

    def _join(self, rng, sources, indices, needed, cut=False):
        """Recordings in list order from a random one on, with gaps between, until ``needed`` samples are there."""
        for _ in range(MAX_DRAWS):
            at, parts, total, quiet = rng.integers(len(indices)), [], 0, 0
            while total < needed:
                index = int(indices[at])
                at = at + 1 if at + 1 < len(indices) else rng.integers(len(indices))
                if self._is_quiet(sources.read(index)):
                    quiet += 1
                    if quiet == MAX_DRAWS:
                        raise self._too_quiet(sources)
                    continue
                gap = [silence(self.gap)] if parts and self.gap else []
                for part in [*gap, Part(sources.id(index), 0, int(sources.lengths[index]))]:
                    length = min(part.length, needed - total) if cut else part.length
                    if length:
                        parts.append(part._replace(length=length))
                        total += length
            # A cut can leave only the quiet beginning of a recording.
            if rms_db(assemble(parts, sources, equal_rms=True)) + self.level_db >= self.min_rms_db:
                return tuple(parts), total
        raise self._too_quiet(sources)


class Dns(_Policy):
    """One mixture for each draw.

    Args:
        rir: SourceSet of room impulse responses, or None.
        num_samples: length of a mixture.
        gap_samples: silence between joined recordings of speech.
        snr_range, level_range: lowest and highest, dB and dB of full scale.
        rir_prob: share of the mixtures that are reverberant.
    """

    def __init__(self, *args, rir, num_samples, gap_samples, snr_range, level_range, rir_prob, **kwargs):
        super().__init__(*args, **kwargs)
        self.rir, self.num_samples, self.gap = rir, num_samples, gap_samples
        self.snr_range, self.level_range, self.rir_prob = snr_range, level_range, rir_prob
        self.speech_indices = usable(self.speech)
        self.noise_indices = usable(self.noise, self.exclude_types)

    def draw(self, rng, i):
        clean = self._join(rng, self.speech, self.speech_indices, self.gap)
        noise = self._join(rng, self.noise, self.noise_indices)
        snr, level = (float(rng.uniform(*ends)) for ends in (self.snr_range, self.level_range))
        rir = self._response(rng) if self.rir and rng.random() < self.rir_prob else None
        for _ in range(MAX_DRAWS):
            if rir is None or not self._is_too_late(clean, rir):
                break
            clean, rir = self._join(rng, self.speech, self.speech_indices, self.gap), self._response(rng)
        else:
            raise UserError(
                f"{self.rir.path}: after {MAX_DRAWS} draws in a row nothing of the speech is left within "
                f"{self.num_samples / self.speech.sample_rate:g} s, so late are the responses' main peaks; cut the "
                "silence before them"
            )
        utt, spk = self._name(clean[0].source, i + 1, snr)
        return [Line(utt, spk, clean, noise, snr, level, rir, self.num_samples)]

    def _join(self, rng, sources, indices, gap=0):
        """Parts of random recordings that make up a mixture's length: whole ones, and a random crop of a longer one."""
        if len(indices) == 1 and not gap:
            return self._repeat(rng, sources, int(indices[0]))
        parts, left, quiet = [], self.num_samples, 0
        while left:
            index = int(indices[rng.integers(len(indices))])
            length = int(sources.lengths[index])
            start, length = int(rng.integers(max(length - left, 0) + 1)), min(length, left)
            if self._is_quiet(sources.read(index, start, length)):
                quiet += 1
                if quiet == MAX_DRAWS:
                    raise self._too_quiet(sources)
                continue
            quiet, left = 0, left - length
            parts.append(Part(sources.id(index), start, length))
            if pause := min(gap, left):
                parts.append(silence(pause))
                left -= pause
        return tuple(parts)

    def _repeat(self, rng, sources, index):
        """One recording from a random place on, and from its beginning again as often as it takes."""
        length = int(sources.lengths[index])
        for _ in range(MAX_DRAWS):
            start = int(rng.integers(length if length < self.num_samples else length - self.num_samples + 1))
            parts, left = [], self.num_samples
            while left:
                parts.append(Part(sources.id(index), start, min(length - start, left)))
                start, left = 0, left - parts[-1].length
            if not self._is_quiet(assemble(parts, sources)):
                return tuple(parts)
        raise self._too_quiet(sources)

    def _is_too_late(self, clean, rir):
        """Whether the speech that the main peak of the response brings into the mixture is too quiet.

        The parts were only judged by themselves; a delay may push all but their quiet beginning out of the mixture.
        """
        response = self.rir.read(self.rir.scp.index(rir))[: self.num_samples]
        heard = assemble(clean, self.speech)[: self.num_samples - int(np.abs(response).argmax())]
        return is_quieter(heard, self.min_rms_db + 10 * math.log10(self.num_samples / len(heard)))

    def _response(self, rng):
        for _ in range(MAX_DRAWS):
            index = int(rng.integers(len(self.rir)))
            if self.rir.read(index)[: self.num_samples].any():
                return self.rir.id(index)
        raise UserError(f"{self.rir.path}: {MAX_DRAWS} draws in a row are silent; remove such responses from the set")
