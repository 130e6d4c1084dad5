"""How a plan's lines are drawn: ``crop`` and ``snsd``.

crop: as the data script of
YunyangZeng/Spectrogram-Masking-based-Neural-Network-model-for-single-channel-Speech-Enhancement: one random crop of
speech and one of noise, of equal length, and one SNR for each mixture; both brought to unit RMS. Known differences:
a source that is too short, or a crop that is silent, is drawn again (there it leaves a gap in the numbering), so there
are exactly as many mixtures as asked for; everything follows from a seed.

snsd: as microsoft/MS-SNSD: whole files joined with 0.2 s of silence until the clip is longer than a minimum, noise
joined likewise and cut, every SNR of the list for each clip, -25 dBFS RMS. The gain is 10^(-SNR/20): that repository's
history also holds a version with a square root around it, whose true SNR is half of the nominal one. Known
differences: seeded; silent files are passed over; the peak guard of ``senet.data.mixing`` is on by default.

Line i follows from (seed, set name, i) alone; in ``snsd`` the lines of one clip share the draw.
"""

import zlib

import numpy as np

from senet.data.mixing import assemble
from senet.data.plan import Line, Part, silence
from senet.dsp.level import rms_db
from senet.errors import UserError

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
        prefixes = tuple(exclude_types)
        for i in np.flatnonzero(keep):
            key = sources.id(i)
            keep[i] = not (key.startswith(prefixes) or types.get(key, key).startswith(prefixes))
        if not keep.any():
            raise UserError(
                f"{sources.path}: --exclude_types {','.join(prefixes)} leaves no recording of {len(sources)}"
            )
    return np.flatnonzero(keep)


class _Policy:
    def __init__(self, set_name, speech, noise, *, seed, snrs, min_rms_db, exclude_types):
        self.speech, self.noise = speech, noise
        self.seed, self.set_hash = seed, zlib.crc32(set_name.encode())  # Python's own hash differs from run to run
        self.snrs, self.min_rms_db, self.exclude_types = snrs, min_rms_db, exclude_types
        self.speakers = speech.table("utt2spk")

    def _rng(self, i):
        return np.random.default_rng([self.seed, self.set_hash, i])

    def _name(self, source, number, snr):
        """Speaker, and the cited repositories' file name with the number padded so that ids sort."""
        spk = self.speakers[source]
        return f"{spk}-noisy{number:06d}_SNRdb_{snr:.2f}", spk

    def _too_quiet(self, sources):
        return UserError(
            f"{sources.path}: {MAX_DRAWS} draws in a row are under {self.min_rms_db:g} dBFS RMS; "
            "the recordings are nearly silent: lower --min_rms_db or use others"
        )


class Crop(_Policy):
    """One mixture for each number; ``lines(i)`` gives a list of one Line."""

    lines_per_draw = 1
    level_db = 0.0

    def __init__(self, *args, num_samples, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_samples = num_samples
        self.speech_indices = usable(self.speech, (), num_samples)
        self.noise_indices = usable(self.noise, self.exclude_types, num_samples)

    def lines(self, i):
        rng = self._rng(i)
        clean = self._crop(rng, self.speech, self.speech_indices)
        noise = self._crop(rng, self.noise, self.noise_indices)
        snr = self.snrs[rng.integers(len(self.snrs))]
        utt, spk = self._name(clean.source, i + 1, snr)
        return [Line(utt, spk, (clean,), (noise,), snr, self.level_db, None, self.num_samples)]

    def _crop(self, rng, sources, indices):
        for _ in range(MAX_DRAWS):
            index = int(indices[rng.integers(len(indices))])
            start = int(rng.integers(sources.lengths[index] - self.num_samples + 1))
            if rms_db(sources.read(index, start, self.num_samples)) >= self.min_rms_db:
                return Part(sources.id(index), start, self.num_samples)
        raise self._too_quiet(sources)


class Snsd(_Policy):
    """One clip at every SNR for each number; ``lines(i)`` gives a Line for each SNR."""

    level_db = -25.0

    def __init__(self, *args, min_samples, gap_samples, **kwargs):
        super().__init__(*args, **kwargs)
        self.min_samples, self.gap = min_samples, gap_samples
        self.lines_per_draw = len(self.snrs)
        self.speech_indices = usable(self.speech)
        self.noise_indices = usable(self.noise, self.exclude_types)

    def lines(self, i):
        rng = self._rng(i)
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
                if rms_db(sources.read(index)) < self.min_rms_db:
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
