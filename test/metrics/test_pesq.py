"""PESQ: agreement with the package, its order of arguments, and the inputs its C code cannot take."""

import numpy as np
import pesq
import pytest

from senet import metrics
from senet.metrics.pesq import pesq_nb, pesq_wb, speech_sections

FS = 16000


def bursts(count, seconds=0.4):
    """`count` sections of noise with pauses between, each `seconds` long."""
    on = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * FS))
    return np.tile(np.r_[on, 0 * on], count)


def test_equals_the_package_called_directly(pairs):
    est, ref = pairs["delay"]
    assert pesq_wb(est, ref, FS) == pesq.pesq(FS, ref, est, "wb")
    assert pesq_nb(est, ref, FS) == pesq.pesq(FS, ref, est, "nb")


def test_identity_has_the_highest_score(vectors):
    c = vectors[0][: 3 * FS]
    assert pesq_wb(c, c, FS) == pytest.approx(4.644, abs=1e-3)
    assert pesq_nb(c, c, FS) == pytest.approx(4.549, abs=1e-3)


def test_level_hardly_matters(pairs):
    est, ref = (x[: 3 * FS] for x in pairs["noise"])
    assert pesq_wb(0.1 * est, ref, FS) == pytest.approx(pesq_wb(est, ref, FS), abs=5e-3)


def test_rates(vectors):
    c = vectors[0][:FS]
    assert metrics.compute("pesq_wb", c, c, 8000)[1] == "sample rate is 8000 Hz, PESQ-WB takes 16000"
    assert metrics.compute("pesq_nb", c, c, 48000)[1] == "sample rate is 48000 Hz, PESQ-NB takes 8000 or 16000"
    assert metrics.compute("pesq_nb", c, c, 8000)[1] is None


def test_reasons(vectors):
    c = vectors[0][:FS]
    assert metrics.compute("pesq_wb", c[:3999], c[:3999], FS)[1] == "shorter than 0.25 s"
    assert metrics.compute("pesq_wb", c[:4000], c[:4000], FS)[1] is None
    assert metrics.compute("pesq_wb", 0 * c, c, FS)[1] == "the estimate is silent"


def test_sections_are_counted_as_the_c_code_does():
    assert speech_sections(bursts(60), FS) == 60
    assert speech_sections(bursts(60, seconds=0.19), FS) == 1  # pauses below 0.2 s join
    assert speech_sections(bursts(40), FS) == 40
    hum = 0.2 * np.sin(2 * np.pi * 50 * np.arange(len(bursts(40))) / FS)  # which PESQ filters out
    assert speech_sections(bursts(40) + hum, FS) == 40
    assert speech_sections(bursts(10), FS) == 0  # too short to hold too many: not counted


def test_half_a_minute_of_ordinary_speech_is_scored():
    ref = bursts(22, seconds=0.7)  # 31 s
    assert metrics.compute("pesq_wb", ref + 0.02 * np.roll(ref, 5000), ref, FS)[1] is None


def test_more_sections_than_the_c_code_has_room_for_are_refused():
    # With 60 the package crashes the process, with 52 it returns a wrong narrow-band score.
    ref = bursts(60)
    for name in ("pesq_wb", "pesq_nb"):
        assert metrics.compute(name, 0.5 * ref, ref, FS)[1] == "too many speech sections for PESQ; score it in pieces"
