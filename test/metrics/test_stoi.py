"""STOI and ESTOI: agreement with pystoi, and the cases it answers with 1e-5 or with random numbers."""

import numpy as np
import pystoi
import pytest

from senet import metrics
from senet.metrics.stoi import estoi, stoi

FS = 16000


def both(est, ref, rate):
    return stoi(est, ref, rate), estoi(est, ref, rate)


def pystois(est, ref, rate):
    return [pystoi.stoi(ref, est, rate, extended=extended) for extended in (False, True)]


@pytest.mark.parametrize("rate", [8000, 10000, 16000, 44100, 48000])
@pytest.mark.parametrize("pair", ["noise", "delay"])
def test_equals_pystoi(pairs, pair, rate):
    est, ref = (x[: 4 * rate] for x in pairs[pair])
    assert both(est, ref, rate) == pytest.approx(pystois(est, ref, rate), abs=1e-9)


@pytest.mark.parametrize("length", [8000, 8191, 8192, 8193, 12345])  # at 10 kHz; 64 hops, and one sample around
def test_equals_pystoi_whatever_the_last_frame_holds(vectors, length):
    c, v = (x[:length] for x in vectors)
    assert both(c + v, c, 10000) == pytest.approx(pystois(c + v, c, 10000), abs=1e-9)


def test_equals_pystoi_where_pauses_are_cut_out(vectors):
    c, v = vectors
    c = c * np.repeat([1, 1e-5, 0.5, 0, 1, 0.2, 0, 1, 1, 3e-3], FS)
    assert both(c + v, c, FS) == pytest.approx(pystois(c + v, c, FS), abs=1e-9)


def test_equals_pystoi_on_real_recordings(real_data):
    soundfile = pytest.importorskip("soundfile")
    folder = real_data / "VoiceBank-DEMAND"
    names = sorted(path.name for path in (folder / "clean_testset_wav").glob("*.wav"))
    assert len(names) == 32
    for name in names:
        est, ref = (soundfile.read(folder / f"{word}_testset_wav" / name)[0] for word in ("noisy", "clean"))
        assert both(est, ref, FS) == pytest.approx(pystois(est, ref, FS), abs=1e-9), name


def test_identity_is_one(vectors):
    assert stoi(vectors[0], vectors[0], FS) == pytest.approx(1, abs=1e-6)
    assert estoi(vectors[0], vectors[0], FS) == pytest.approx(1, abs=1e-6)


def test_level_does_not_matter(pairs):
    est, ref = pairs["noise"]
    assert stoi(0.1 * est, ref, FS) == pytest.approx(stoi(est, ref, FS), abs=1e-9)


def test_digital_silence_in_the_estimate_correlates_with_nothing(vectors):
    c, v = vectors
    half = np.where(np.arange(len(c)) < len(c) // 2, c + v, 0)
    found = estoi(half, c, FS)
    np.random.seed(0)
    of_pystoi = [pystoi.stoi(c, half, FS, extended=True) for _ in range(4)]  # with its random numbers
    assert found == pytest.approx(np.mean(of_pystoi), abs=2e-3)
    assert found == pytest.approx(estoi(c + v, c, FS) / 2, abs=0.02)
    assert estoi(half, c, FS) == found


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.39])
def test_too_little_speech_is_a_reason_not_a_number(vectors, seconds):
    c, v = (x[: int(seconds * FS)] for x in vectors)
    assert metrics.compute("stoi", c + v, c, FS)[1] == "fewer than 30 frames of speech"


def test_one_second_is_enough(vectors):
    c, v = (x[:FS] for x in vectors)
    assert metrics.compute("stoi", c + v, c, FS)[1] is None


def test_silence_in_the_reference_does_not_count_as_speech(vectors):
    c, v = vectors
    mostly_silent = np.where(np.arange(len(c)) < 0.3 * FS, c, 0)
    assert metrics.compute("stoi", c + v, mostly_silent, FS)[1] == "fewer than 30 frames of speech"
