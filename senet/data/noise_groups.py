"""Which recordings have the same noise, guessed by its sound: for corpora that do not say.

Noises are told apart by their long-term spectrum, so this groups parts of one recording, not recordings of one kind.
"""

from collections import Counter

import numpy as np

BANDS = 24  # triangles, evenly spaced in mel from LOWEST Hz to half the sample rate
LOWEST = 50.0
FRAME = 0.032  # seconds, half overlapping
RUNS = 10  # of k-means, from different starts; the closest fit counts
MOST_ROUNDS = 100


def spectrum(noise, sample_rate):
    """float64 (BANDS,): dB in each band, median over time, less the mean of all bands.

    Unlike the mean, the median does not follow a single door or cough.

    Args:
        noise: (N,), samples in [-1, 1].
    """
    size = round(FRAME * sample_rate)
    noise = np.pad(noise * np.float32(32768), (0, max(0, size - len(noise))))
    frames = np.lib.stride_tricks.sliding_window_view(noise, size)[:: size // 2] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ _bands(size, sample_rate)
    levels = np.median(10 * np.log10(power + 1), axis=0)  # 1: far below the rounding to 16 bit
    return levels - levels.mean()


def _bands(size, sample_rate):
    """(bins, BANDS)"""
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, sample_rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))


def group(spectra, number):
    """Names, ``noise1`` for the largest group and so on, of (N, BANDS) spectra in at most ``number`` groups.

    The same for the same spectra; another set's ``noise1`` may be another noise.
    """
    spectra, rng = np.asarray(spectra), np.random.default_rng(0)
    number = min(number, len(np.unique(spectra, axis=0)))
    fits = (_k_means(spectra, number, rng) for _ in range(RUNS))
    nearest = min(fits, key=lambda fit: fit[0])[1].tolist()
    names = {found: f"noise{i}" for i, (found, _) in enumerate(Counter(nearest).most_common(), 1)}
    return [names[found] for found in nearest]


def _k_means(points, k, rng):
    """(sum of squared distances, index of the group of each point), from a start as of k-means++."""
    centres = points[rng.integers(len(points), size=1)]
    while len(centres) < k:
        distance = _distances(points, centres).min(1)
        centres = np.vstack([centres, points[rng.choice(len(points), p=distance / distance.sum())]])
    nearest = None
    for _ in range(MOST_ROUNDS):
        distances = _distances(points, centres)
        before, nearest = nearest, distances.argmin(1)
        if np.array_equal(before, nearest):
            break
        # A group that lost all its points stays where it was.
        centres = np.stack([points[nearest == i].mean(0) if (nearest == i).any() else centres[i] for i in range(k)])
    return distances.min(1).sum(), nearest


def _distances(points, centres):
    """(N, k), squared"""
    return np.stack([((points - centre) ** 2).sum(1) for centre in centres], axis=1)
