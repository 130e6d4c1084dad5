"""STOI and ESTOI: agreement with pystoi, determinism, and the cases pystoi answers with 1e-5."""

import numpy as np
import pystoi
import pytest

from senet import metrics
from senet.metrics.stoi import estoi, stoi

FS = 16000


def test_equals_pystoi_called_directly(pairs):
    est, ref = pairs["noise"]
    assert stoi(est, ref, FS) == pystoi.stoi(ref, est, FS)
    assert estoi(est, ref, FS) == pytest.approx(pystoi.stoi(ref, est, FS, extended=True), abs=1e-9)


def test_identity_is_one(vectors):
    assert stoi(vectors[0], vectors[0], FS) == pytest.approx(1, abs=1e-6)
    assert estoi(vectors[0], vectors[0], FS) == pytest.approx(1, abs=1e-6)


def test_level_does_not_matter(pairs):
    est, ref = pairs["noise"]
    assert stoi(0.1 * est, ref, FS) == pytest.approx(stoi(est, ref, FS), abs=1e-9)


def test_estoi_is_repeatable_where_the_estimate_is_digitally_silent(vectors):
    c, v = vectors
    half = np.where(np.arange(len(c)) < len(c) // 2, c + v, 0)
    np.random.seed(1)
    first = estoi(half, c, FS)
    after = np.random.random()
    np.random.seed(2)
    assert estoi(half, c, FS) == first
    np.random.seed(1)
    assert np.random.random() == after  # the caller's generator is where it was


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
