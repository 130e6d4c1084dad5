"""The metrics against values made once with the public packages and independent NumPy formulas."""

import numpy as np
import pytest

from senet import metrics
from senet.bin import score
from senet.data.audio import info
from senet.data.scp import read_table, write_table
from senet.metrics import composite

PACKAGE_TOLERANCE = {"pesq_wb": 1e-3, "pesq_nb": 1e-3, "pesq_nb_raw": 1e-3}
COMPOSITES = ("csig", "cbak", "covl")
COLUMNS = ["pesq_wb", "pesq_nb", "pesq_nb_raw", "csig", "cbak", "covl", "llr"]
COLUMNS += ["wss", "ssnr", "stoi", "estoi", "si_sdr", "snr", "sdr"]
VECTORS = {
    "noise": (1.60064, 3.17103, 3.23396, 3.16820, 2.35132, 2.39904, 0.72393)
    + (16.11809, 1.03236, 0.79673, 0.24173, 4.98728, 5.00000, 5.00448),
    "delay": (2.70427, 3.89462, 3.76355, 4.36722, 3.02125, 3.57238, 0.27289)
    + (8.40491, 2.43557, 0.95063, 0.52835, 4.25806, 4.10344, 12.96850),
}

# 20 pairs of VoiceBank-DEMAND's test set at 16 kHz
REAL_COLUMNS = ["pesq_wb", "pesq_nb", "csig", "cbak", "covl", "llr_uncapped"]
REAL_COLUMNS += ["wss", "ssnr", "stoi", "estoi", "si_sdr", "sdr"]
REAL = {
    "p232_002": (3.060, 3.510, 4.663, 3.384, 3.878, 0.122, 16.659, 6.409, 0.970, 0.942, 11.320, 11.416),
    "p232_005": (1.332, 2.018, 2.566, 1.971, 1.897, 0.919, 42.703, -0.011, 0.882, 0.726, 1.855, 1.885),
    "p232_006": (2.206, 2.793, 3.590, 3.205, 2.899, 0.617, 22.035, 10.646, 0.965, 0.879, 16.849, 16.878),
    "p232_011": (2.733, 3.364, 4.106, 3.427, 3.431, 0.453, 18.735, 9.806, 0.965, 0.914, 16.802, 16.820),
    "p232_014": (1.271, 2.107, 2.223, 1.900, 1.705, 1.250, 38.856, -1.104, 0.911, 0.752, 1.927, 2.028),
    "p232_015": (3.634, 4.071, 5.000, 4.100, 4.403, 0.136, 6.714, 12.313, 0.995, 0.987, 16.947, 16.950),
    "p232_019": (2.199, 3.016, 3.550, 2.473, 2.862, 0.602, 27.797, -0.288, 0.980, 0.935, 2.058, 2.083),
    "p232_021": (2.595, 3.166, 4.243, 3.278, 3.433, 0.250, 17.482, 8.354, 0.976, 0.920, 11.915, 11.929),
    "p232_023": (1.309, 2.070, 2.612, 1.898, 1.915, 0.883, 40.150, -1.285, 0.937, 0.795, 1.989, 2.003),
    "p232_032": (1.111, 1.437, 1.865, 1.721, 1.426, 1.435, 46.889, -1.842, 0.770, 0.477, 1.544, 1.619),
    "p232_043": (1.606, 2.455, 3.021, 2.037, 2.277, 0.690, 36.653, -1.722, 0.852, 0.631, 5.876, 5.948),
    "p232_056": (1.269, 1.825, 2.154, 1.612, 1.633, 1.190, 53.375, -4.053, 0.811, 0.526, 0.509, 0.646),
    "p232_095": (1.109, 1.732, 1.544, 2.094, 1.296, 1.852, 34.631, 2.733, 0.885, 0.702, 7.411, 7.456),
    "p232_121": (1.418, 3.279, 3.175, 2.137, 2.277, 0.496, 29.218, 0.477, 0.961, 0.914, 1.477, 1.490),
    "p232_162": (1.497, 3.982, 3.303, 2.236, 2.382, 0.421, 28.829, 1.390, 0.949, 0.901, 10.202, 10.279),
    "p232_170": (1.289, 1.979, 2.556, 1.687, 1.847, 0.825, 51.664, -3.192, 0.720, 0.519, 0.634, 0.771),
    "p232_246": (1.305, 1.968, 2.195, 1.532, 1.637, 1.052, 66.878, -4.080, 0.885, 0.605, 1.010, 1.099),
    "p232_263": (1.139, 1.542, 2.006, 1.672, 1.488, 1.235, 55.875, -1.825, 0.785, 0.567, 1.559, 1.594),
    "p232_369": (1.322, 2.262, 2.413, 1.864, 1.819, 1.076, 41.231, -1.795, 0.944, 0.761, 1.648, 1.774),
    "p232_414": (1.421, 2.252, 2.380, 1.799, 1.830, 1.085, 50.367, -2.562, 0.858, 0.698, 0.560, 0.649),
}
REAL_MEAN = (1.741, 2.541, 2.958, 2.301, 2.317, 0.829, 36.337, 1.418, 0.900, 0.758, 5.705, 5.766)


def test_generator_gives_the_published_samples(vectors):
    c, v = vectors
    assert c[[0, 1, 1000, 1001]] == pytest.approx([0.00128093, 0.00879504, -0.00558373, -0.02547663], abs=1e-8)
    assert v[:3] == pytest.approx([-0.09333113, -0.09408129, 0.00839825], abs=1e-8)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("pair", VECTORS)
def test_synthetic_vectors(pairs, pair, name):
    value, reason = metrics.compute(name, *pairs[pair], 16000)
    assert reason is None
    expected = VECTORS[pair][COLUMNS.index(name)]
    assert value == pytest.approx(expected, abs=PACKAGE_TOLERANCE.get(name, 1e-4))


def test_composite_at_8_khz(pairs):
    est, ref = (x[::2] for x in pairs["noise"])
    assert composite.combine(est, ref, 8000, pesq=2.0) == pytest.approx([3.72081, 2.52218, 2.86821], abs=1e-4)
    for name, expected in (("llr", 0.39509), ("wss", 19.07157), ("ssnr", 1.04250)):
        assert metrics.compute(name, est, ref, 8000)[0] == pytest.approx(expected, abs=1e-4)


def test_composite_at_8_khz_takes_the_raw_narrow_band_score(pairs):
    est, ref = (x[::2] for x in pairs["noise"])
    raw = metrics.find("pesq_nb_raw")[0](est, ref, 8000)
    expected = composite.combine(est, ref, 8000, raw)
    assert [metrics.find(name)[0](est, ref, 8000) for name in COMPOSITES] == pytest.approx(expected, abs=1e-12)


def test_wss_of_samples_divided_by_32768_is_another(pairs):
    est, ref = (x / 32768 for x in pairs["noise"])
    assert metrics.compute("wss", est, ref, 16000)[0] == pytest.approx(12.59503, abs=1e-4)


def test_real_files_through_the_scoring_stage(real_data, tmp_path):
    folder = real_data / "VoiceBank-DEMAND"
    noisy, clean = ({utt: folder / f"{word}_testset_wav" / f"{utt}.wav" for utt in REAL} for word in ("noisy", "clean"))
    for name, column in (("wav.scp", noisy), ("spk1.scp", clean)):
        write_table(tmp_path / "test" / name, list(column.items()))
    write_table(tmp_path / "test" / "utt2num_samples", [(utt, info(path).frames) for utt, path in clean.items()])
    options = {"enhanced": tmp_path / "test" / "wav.scp", "ref": tmp_path / "test", "out": tmp_path / "out"}
    score.main([f"--{k}={v}" for k, v in (options | {"metrics": " ".join(REAL_COLUMNS)}).items()])
    columns = {name: read_table(tmp_path / "out" / "scores" / name) for name in REAL_COLUMNS}
    rows = np.array([[float(columns[name][utt]) for name in REAL_COLUMNS] for utt in REAL])
    # The table has three decimals; PESQ may differ by 1e-3 on top of that rounding.
    allowed = [5.1e-4 + (1e-3 if name.startswith("pesq") else 0) for name in REAL_COLUMNS]
    deviation = np.abs(rows - np.array(list(REAL.values())))
    assert (deviation <= allowed).all(), dict(zip(REAL_COLUMNS, deviation.max(axis=0), strict=True))
    assert (np.abs(rows.mean(axis=0) - REAL_MEAN) <= allowed).all()
