"""The synthetic acceptance signals: voiced speech-like `c` and noise `v` from a linear congruential generator."""

import numpy as np
import pytest

FS = 16000


def lcg(seed, n):
    out = np.empty(n)
    for i in range(n):
        seed = (1664525 * seed + 1013904223) % 2**32
        out[i] = seed / 2**31 - 1
    return out


def unit(v):
    return v / np.sqrt(np.mean(v**2))


@pytest.fixture(scope="session")
def vectors():
    """(c, v): clean and noise, float64 (160000,) at 16 kHz."""
    n = 10 * FS
    t = np.arange(n) / FS
    envelope = 0.5 * (1 - np.cos(2 * np.pi * 2.5 * t))
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / FS
    voiced = envelope * sum(np.sin(k * phase) / k for k in range(1, 31))
    c = 0.1 * unit(unit(voiced) + 0.1 * unit(lcg(777, n)))
    v = 0.1 * 10 ** (-5 / 20) * unit(lcg(12345, n))
    return c, v


@pytest.fixture(scope="session")
def pairs(vectors):
    """Name -> (est, ref) of the two acceptance pairs."""
    c, v = vectors
    delayed = np.r_[np.zeros(3), c[:-3]]
    return {"noise": (c + v, c), "delay": (0.5 * delayed + 0.2 * v, c)}
