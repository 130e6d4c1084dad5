"""The metrics against values made once with the public packages and independent NumPy formulas."""

import numpy as np
import pytest

from senet import metrics

TOLERANCE = {"pesq_wb": 1e-3, "pesq_nb": 1e-3, "stoi": 1e-4, "estoi": 1e-4, "si_sdr": 1e-4, "snr": 1e-4}
VECTORS = {
    "noise": {"pesq_wb": 1.60064, "pesq_nb": 3.17103, "stoi": 0.79673, "estoi": 0.24173, "si_sdr": 4.98728, "snr": 5.0},
    "delay": {
        "pesq_wb": 2.70427,
        "pesq_nb": 3.89462,
        "stoi": 0.95063,
        "estoi": 0.52835,
        "si_sdr": 4.25806,
        "snr": 4.10344,
    },
}

# 20 pairs of VoiceBank-DEMAND's test set at 16 kHz: PESQ-WB, PESQ-NB, STOI, ESTOI, SI-SDR
REAL_COLUMNS = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr")
REAL = {
    "p232_002": (3.060, 3.510, 0.970, 0.942, 11.320),
    "p232_005": (1.332, 2.018, 0.882, 0.726, 1.855),
    "p232_006": (2.206, 2.793, 0.965, 0.879, 16.849),
    "p232_011": (2.733, 3.364, 0.965, 0.914, 16.802),
    "p232_014": (1.271, 2.107, 0.911, 0.752, 1.927),
    "p232_015": (3.634, 4.071, 0.995, 0.987, 16.947),
    "p232_019": (2.199, 3.016, 0.980, 0.935, 2.058),
    "p232_021": (2.595, 3.166, 0.976, 0.920, 11.915),
    "p232_023": (1.309, 2.070, 0.937, 0.795, 1.989),
    "p232_032": (1.111, 1.437, 0.770, 0.477, 1.544),
    "p232_043": (1.606, 2.455, 0.852, 0.631, 5.876),
    "p232_056": (1.269, 1.825, 0.811, 0.526, 0.509),
    "p232_095": (1.109, 1.732, 0.885, 0.702, 7.411),
    "p232_121": (1.418, 3.279, 0.961, 0.914, 1.477),
    "p232_162": (1.497, 3.982, 0.949, 0.901, 10.202),
    "p232_170": (1.289, 1.979, 0.720, 0.519, 0.634),
    "p232_246": (1.305, 1.968, 0.885, 0.605, 1.010),
    "p232_263": (1.139, 1.542, 0.785, 0.567, 1.559),
    "p232_369": (1.322, 2.262, 0.944, 0.761, 1.648),
    "p232_414": (1.421, 2.252, 0.858, 0.698, 0.560),
}
REAL_MEAN = (1.741, 2.541, 0.900, 0.758, 5.705)


def test_generator_gives_the_published_samples(vectors):
    c, v = vectors
    assert c[[0, 1, 1000, 1001]] == pytest.approx([0.00128093, 0.00879504, -0.00558373, -0.02547663], abs=1e-8)
    assert v[:3] == pytest.approx([-0.09333113, -0.09408129, 0.00839825], abs=1e-8)


@pytest.mark.parametrize(("pair", "name"), [(p, m) for p in VECTORS for m in VECTORS[p]])
def test_synthetic_vectors(pairs, pair, name):
    value, reason = metrics.compute(name, *pairs[pair], 16000)
    assert reason is None
    assert value == pytest.approx(VECTORS[pair][name], abs=TOLERANCE[name])


def test_real_files_and_their_mean(real_data):
    soundfile = pytest.importorskip("soundfile")
    folder = real_data / "VoiceBank-DEMAND"
    rows = []
    for utt in REAL:
        (noisy, rate), (clean, _) = (
            soundfile.read(folder / f"{w}_testset_wav" / f"{utt}.wav") for w in ("noisy", "clean")
        )
        rows.append([metrics.find(name)[0](noisy, clean, rate) for name in REAL_COLUMNS])
    rows = np.array(rows)
    # The table has three decimals; PESQ may differ by 1e-3 on top of that rounding.
    allowed = [5.1e-4 + (1e-3 if name.startswith("pesq") else 0) for name in REAL_COLUMNS]
    deviation = np.abs(rows - np.array(list(REAL.values())))
    assert (deviation <= allowed).all(), dict(zip(REAL_COLUMNS, deviation.max(axis=0), strict=True))
    assert (np.abs(rows.mean(axis=0) - REAL_MEAN) <= allowed).all()
