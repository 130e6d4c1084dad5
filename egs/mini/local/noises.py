"""Synthetic noises: each function makes one recording of its kind, different for each state of ``rng``.

``kind(rng, n, rate)``: NumPy generator, samples, Hz -> float array (n,) of any level; ``make`` sets a common one.
"""

import numpy as np


def shaped(rng, n, rate, gain):
    """Gaussian noise whose spectrum is ``gain(f)``, with f in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    f = np.fft.rfftfreq(n, 1 / rate)
    return np.fft.irfft(spectrum * gain(np.maximum(f, 20.0)), n)


def slow(rng, n, rate, hertz, depth):
    """A smooth curve around 1 that moves ``hertz`` times a second by up to ``depth``."""
    knots = 1 + depth * rng.uniform(-1, 1, int(n / rate * hertz) + 3)
    return np.interp(np.arange(n) * hertz / rate, np.arange(len(knots)), knots)


def tone(n, rate, hertz, phase=0.0):
    """A sine; ``hertz`` is a number, or an array (n,) of the frequency at each sample."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hertz, n)) / rate + phase)


def strike(rng, rate, low, high, seconds):
    """One short event: a band of noise that dies away within ``seconds``."""
    n = max(int(rate * seconds), 8)
    band = shaped(rng, n, rate, lambda f: 1 / (1 + (low / f) ** 4) / (1 + (f / high) ** 4))
    return band / (np.abs(band).max() + 1e-9) * np.exp(-6 * np.arange(n) / n)


def scatter(rng, n, rate, per_second, event):
    """Events (arrays from ``event()``) at random moments, each with its own loudness."""
    y = np.zeros(n)
    for start in rng.integers(0, n, max(int(n / rate * per_second), 2)):
        piece = event()[: n - start]
        y[start : start + len(piece)] += rng.uniform(0.3, 1) * piece
    return y


def coloured(rng, n, rate):
    """From white to brown: power falls by 0 to 6 dB per octave."""
    slope = rng.uniform(0, 1)
    return shaped(rng, n, rate, lambda f: f**-slope) * slow(rng, n, rate, 0.5, 0.3)


def band(rng, n, rate):
    """A band of noise, an octave or two wide."""
    centre = np.exp(rng.uniform(np.log(200), np.log(4000)))
    width = rng.uniform(0.5, 1.5)
    return shaped(rng, n, rate, lambda f: np.exp(-((np.log2(f / centre) / width) ** 2)) + 0.01)


def hum(rng, n, rate):
    """Mains hum with harmonics, over a little hiss."""
    base = rng.choice([50.0, 60.0, 100.0, 120.0])
    y = sum(rng.uniform(0.2, 1) / k * tone(n, rate, base * k, rng.uniform(0, 6)) for k in range(1, 16))
    return y + 0.05 * rng.standard_normal(n)


def fan(rng, n, rate):
    """Blades: noise that beats, with a tone at the blade rate."""
    blade = rng.uniform(15, 60)
    cut = rng.uniform(400, 2000)
    air = shaped(rng, n, rate, lambda f: 1 / (1 + (f / cut) ** 1.5))
    return air / air.std() * (1 + 0.5 * tone(n, rate, blade)) + 0.3 * tone(n, rate, 4 * blade)


def engine(rng, n, rate):
    """A motor whose speed wanders: many harmonics and a rumble."""
    speed = rng.uniform(25, 70) * slow(rng, n, rate, 0.4, 0.3)
    y = sum(rng.uniform(0.3, 1) / k**0.7 * tone(n, rate, speed * k, rng.uniform(0, 6)) for k in range(1, 25))
    rumble = shaped(rng, n, rate, lambda f: 1 / (1 + (f / 150) ** 2))
    return y + rng.uniform(0.5, 2) * rumble / rumble.std()


def typing(rng, n, rate):
    """Keys, in a room with a faint fan."""
    y = scatter(rng, n, rate, rng.uniform(5, 10), lambda: strike(rng, rate, 1200, 5000, rng.uniform(0.02, 0.06)))
    return y + 0.01 * rng.standard_normal(n)


def rain(rng, n, rate):
    """Drops by the hundred, over a wash of noise."""
    drops = scatter(rng, n, rate, rng.uniform(150, 400), lambda: strike(rng, rate, 2000, 7000, 0.006))
    wash = shaped(rng, n, rate, lambda f: 1 / (1 + (1500 / f) ** 2))
    return drops + 0.15 * wash / wash.std()


def birds(rng, n, rate):
    """Short chirps that sweep up and down."""

    def chirp():
        m = int(rate * rng.uniform(0.05, 0.25))
        sweep = np.linspace(rng.uniform(1500, 5000), rng.uniform(1500, 6000), m)
        return np.hanning(m) * tone(m, rate, sweep)

    return scatter(rng, n, rate, rng.uniform(3, 8), chirp) + 0.01 * rng.standard_normal(n)


def siren(rng, n, rate):
    """A tone that goes up and down, with harmonics."""
    centre, swing, beat = rng.uniform(600, 1000), rng.uniform(0.2, 0.45), rng.uniform(0.2, 3)
    pitch = centre * (1 + swing * tone(n, rate, beat))
    return sum(tone(n, rate, k * pitch) / k**1.5 for k in (1, 2, 3)) + 0.02 * rng.standard_normal(n)


def wind(rng, n, rate):
    """Gusts: deep noise that swells and falls."""
    deep = shaped(rng, n, rate, lambda f: 1 / (1 + (f / 120) ** 1.8))
    return deep / deep.std() * np.maximum(slow(rng, n, rate, 1.5, 1.2), 0.1) ** 2


def steps(rng, n, rate):
    """Footsteps at a steady pace on a hard floor."""
    y = 0.02 * shaped(rng, n, rate, lambda f: f**-0.5)
    pace = rate / rng.uniform(1.6, 2.6)
    for start in np.arange(0, n - 1, pace).astype(int):
        piece = strike(rng, rate, 80, rng.uniform(500, 1500), 0.12)[: n - start]
        y[start : start + len(piece)] += rng.uniform(0.6, 1) * piece
    return y


def babble(rng, n, rate, talkers):
    """Several people at once; ``talkers``: list of speech arrays at ``rate``, none of them speakers of the corpus."""
    y = np.zeros(n)
    for i in rng.permutation(len(talkers)):
        speech = np.resize(talkers[i], n + len(talkers[i]))
        start = rng.integers(0, len(talkers[i]))
        y += rng.uniform(0.5, 1) * speech[start : start + n] / (speech.std() + 1e-9)
    return y


KINDS = {f.__name__: f for f in (coloured, band, hum, fan, engine, typing, rain, birds, siren, wind, steps, babble)}


def make(kind, seed, seconds, rate, talkers=None):
    """One recording: float32 (seconds * rate,), RMS -25 dB of full scale unless its peaks forbid it.

    ``seed``: any ints; the same seed makes the same recording.
    """
    rng = np.random.default_rng(seed)
    extra = {"talkers": talkers} if kind == "babble" else {}
    y = KINDS[kind](rng, int(seconds * rate), rate, **extra)
    y = y - y.mean()
    y *= min(10 ** (-25 / 20) / y.std(), 0.9 / np.abs(y).max())
    return y.astype(np.float32)
