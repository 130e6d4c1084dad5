"""DNSMOS: the values of the official models, its pieces, and what it says without them.

With the models these tests need DNSMOS_DIR, or them among the real recordings.
"""

import os

import numpy as np
import pytest

from senet import metrics
from senet.metrics import dnsmos

FS = 16000
SCORES = ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl", "dnsmos_p808")
ALL = [name for name in metrics.names() if "dnsmos" in name]


@pytest.fixture
def models(request, monkeypatch):
    pytest.importorskip("onnxruntime")
    if not os.environ.get("DNSMOS_DIR"):
        monkeypatch.setenv("DNSMOS_DIR", str(request.getfixturevalue("real_data") / "dnsmos"))
    reason = metrics.compute("dnsmos_p808", np.zeros(FS), None, FS)[1]
    if reason:
        pytest.skip(reason)


def scores(x, names=SCORES):
    return [metrics.find(name)[0](x, None, FS) for name in names]


class TestWithTheModels:
    @pytest.mark.parametrize(
        ("with_noise", "expected"),
        [(False, (2.8018, 1.7859, 1.7426, 2.3233)), (True, (1.2419, 1.1482, 1.1073, 2.2821))],
    )
    def test_acceptance_signals(self, models, vectors, with_noise, expected):
        c, v = vectors
        assert scores(c + with_noise * v) == pytest.approx(expected, abs=0.002)

    def test_raw_outputs(self, models, vectors):
        names = ("dnsmos_sig_raw", "dnsmos_bak_raw", "dnsmos_ovrl_raw")
        assert scores(vectors[0], names) == pytest.approx([2.8489, 1.5534, 1.6952], abs=0.002)

    def test_the_personalised_scores_are_a_polynomial_of_its_raw_outputs(self, models, vectors):
        sig, bak, ovrl = scores(vectors[0], ("pdnsmos_sig_raw", "pdnsmos_bak_raw", "pdnsmos_ovrl_raw"))
        expected = (
            -0.01019296 * sig**3 + 0.02751166 * sig**2 + 1.19576786 * sig - 0.24348726,
            -0.04976499 * bak**3 + 0.44276479 * bak**2 - 0.1644611 * bak + 0.96883132,
            -0.00533021 * ovrl**3 + 0.005101 * ovrl**2 + 1.18058466 * ovrl - 0.11236046,
        )
        for suffix in ("", "_exact"):  # of ten seconds there is one piece
            names = [f"pdnsmos_{part}{suffix}" for part in ("sig", "bak", "ovrl")]
            assert scores(vectors[0], names) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("noisy", (1.182, 1.120, 1.111, 2.617)),
            ("DL", (3.163, 3.915, 2.828, 3.809)),
            ("PL", (3.256, 3.933, 2.910, 3.773)),
            ("clean", (3.343, 3.947, 3.002, 3.927)),
        ],
    )
    def test_recordings_of_the_tfgridnet_repository(self, models, real_data, name, expected):
        soundfile = pytest.importorskip("soundfile")
        x, rate = soundfile.read(real_data / "tfgridnet_demo" / f"{name}.wav")
        assert rate == FS
        assert scores(x) == pytest.approx(expected, abs=0.002)

    def test_personalised_model_is_another(self, models, vectors):
        c = vectors[0]
        personalised = scores(c, ("pdnsmos_sig", "pdnsmos_bak", "pdnsmos_ovrl"))
        assert np.isfinite(personalised).all()
        assert personalised != pytest.approx(scores(c)[:3], abs=0.05)

    def test_exact_pieces_change_only_long_recordings(self, models, vectors):
        c, v = vectors
        exact = [f"{name}_exact" for name in SCORES]
        assert scores(c, exact) == scores(c)
        long = np.r_[c, c + 0.3 * v][: 17 * FS]
        assert scores(long, exact) != scores(long)
        path = dnsmos.model_path(dnsmos.P835)
        official = dnsmos.p835_raw(long, FS, path, False)
        every = dnsmos.p835_raw(long, FS, path, True)
        assert (len(official), len(every)) == (7, 8)
        assert np.array_equal(official, every[:7])

    def test_one_pass_of_the_network_for_all_scores_and_raw_outputs(self, models, vectors, monkeypatch):
        calls, run = [], dnsmos._run
        monkeypatch.setattr(dnsmos, "_run", lambda path, x: calls.append(path.name) or run(path, x))
        raw = ("dnsmos_sig_raw", "dnsmos_bak_raw", "dnsmos_ovrl_raw")
        scores(0.99 * vectors[0], (*SCORES, *raw))
        assert calls == ["sig_bak_ovr.onnx", "model_v8.onnx"]

    def test_level_matters(self, models, vectors):
        assert scores(0.1 * vectors[0])[2] != pytest.approx(scores(vectors[0])[2], abs=0.01)

    def test_the_reference_does_not(self, models, vectors):
        x = vectors[0][: 5 * FS]
        assert metrics.compute("dnsmos_p808", x, np.full(3, np.nan), FS) == metrics.compute("dnsmos_p808", x, None, FS)

    def test_other_rates_are_resampled(self, models, vectors):
        from senet.dsp.resample import resample

        x = resample(vectors[0], FS, 48000)
        found = metrics.find("dnsmos_ovrl")[0](x, None, 48000)
        assert found == pytest.approx(scores(resample(x, 48000, FS))[2], abs=1e-6)

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda c: c[:160], None),
            (lambda c: 0 * c, None),
            (lambda c: np.clip(40 * c, -1, 32767 / 32768), None),
            (lambda c: 0 * c + 0.1, None),
            (lambda c: (32768 * c).astype(np.int16), None),
            (lambda c: c.astype(complex), "the estimate is complex128, neither float nor 16- or 32-bit integers"),
            (lambda c: np.r_[c, np.nan], "the estimate holds NaN or infinity"),
            (lambda c: c[:0], "the estimate is empty"),
        ],
    )
    def test_edge_inputs_give_a_number_or_a_reason(self, models, vectors, make, reason):
        x = make(vectors[0][: 5 * FS])
        for name in ALL:
            value, found = metrics.compute(name, x, None, FS)
            assert found == reason
            assert np.isfinite(value) == (reason is None)

    def test_version_names_runtime_and_model(self, models):
        version = metrics.find("dnsmos_ovrl")[0].version
        assert version.startswith("1 onnxruntime ") and version.endswith(" sig_bak_ovr 269fbebd")

    def test_improvement_over_the_noisy_input(self, models, vectors):
        c, v = vectors
        value, reason = metrics.compute("dnsmos_baki", c, None, FS, noisy=c + v)
        assert reason is None
        assert value == pytest.approx(1.7859 - 1.1482, abs=0.004)


class TestWithoutThem:
    @pytest.mark.parametrize("name", ALL)
    def test_no_models(self, name, vectors, monkeypatch, tmp_path):
        pytest.importorskip("onnxruntime")
        monkeypatch.setenv("DNSMOS_DIR", str(tmp_path))
        value, reason = metrics.compute(name, vectors[0], None, FS)
        assert np.isnan(value)
        missing, _, advice = reason.partition("; ")
        assert missing.startswith("not computed: ") and missing.endswith(".onnx is missing")
        assert advice.startswith(f"it is not in {tmp_path} (DNSMOS_DIR)") and "--download true --part dnsmos" in advice
        assert metrics.find(name)[0].version == f"1 {missing}"  # the same wherever it was looked for

    def test_the_default_folder_is_named(self, vectors, monkeypatch, tmp_path):
        pytest.importorskip("onnxruntime")
        monkeypatch.delenv("DNSMOS_DIR", raising=False)
        monkeypatch.chdir(tmp_path)
        reason = metrics.compute("dnsmos_sig", vectors[0], None, FS)[1]
        assert "sig_bak_ovr.onnx is missing; it is not in downloads/dnsmos (DNSMOS_DIR)" in reason

    def test_no_onnxruntime(self, vectors, monkeypatch):
        monkeypatch.setattr(dnsmos.importlib.util, "find_spec", lambda name: None)
        assert metrics.compute("dnsmos_sig", vectors[0], None, FS)[1] == "not computed: onnxruntime is not installed"

    def test_other_models(self, vectors, monkeypatch, tmp_path):
        pytest.importorskip("onnxruntime")
        monkeypatch.setenv("DNSMOS_DIR", str(tmp_path))
        (tmp_path / "DNSMOS").mkdir()
        (tmp_path / "DNSMOS" / "model_v8.onnx").write_bytes(b"an error page")
        reason = metrics.compute("dnsmos_p808", vectors[0], None, FS)[1]
        assert reason.startswith("not computed: DNSMOS/model_v8.onnx is not the official file (SHA-256); remove /")


class TestPieces:
    @pytest.mark.parametrize(
        ("seconds", "official"),
        [(1 / FS, 7), (0.01, 1), (3, 3), (5, 1), (9.5, 1), (10, 1), (11, 2), (16.9, 7), (17, 7), (40, 14)],
    )
    def test_official_script_loses_those_that_rounding_cuts(self, seconds, official):
        x = np.zeros(round(seconds * FS))
        assert len(dnsmos.pieces(x, FS, exact=False)) == official

    @pytest.mark.parametrize(("seconds", "every"), [(10, 1), (16.9, 7), (17, 8), (40, 31), (130, 121)])
    def test_exact_ones_are_all_there(self, seconds, every):
        found = dnsmos.pieces(np.arange(round(seconds * FS), dtype=np.float32), FS, exact=True)
        assert [piece[0] for piece in found] == [FS * i for i in range(every)]

    def test_which_are_lost(self):
        x = np.arange(140 * FS, dtype=np.float32)
        kept = {int(piece[0]) // FS for piece in dnsmos.pieces(x, FS, exact=False)}
        assert set(range(131)) - kept == {*range(7, 24), 119, 120, 121, 122}

    def test_no_sample_is_left_at_16_khz(self):
        with pytest.raises(metrics.Undefined, match="shorter than a sample"):
            dnsmos.pieces(np.zeros(1), 48000, exact=False)

    def test_short_recordings_are_doubled(self):
        x = np.random.default_rng(0).standard_normal(7 * FS).astype(np.float32)
        (piece,) = dnsmos.pieces(x, FS, exact=False)[:1]
        assert np.array_equal(piece, np.r_[x, x][: dnsmos.LENGTH])


def test_mel_spectrogram_of_a_tone():
    t = np.arange(144000) / FS
    mel = dnsmos.mel_spectrogram(np.sin(2 * np.pi * 1000 * t).astype(np.float32))
    assert mel.shape == (900, 120)
    assert (mel.min(), mel.max()) == pytest.approx((-1, 1))
    # 120 bands up to 8 kHz on Slaney's scale, where 1 kHz is mel 15 of 45.245: the centre of band 15 / 45.245 * 121 - 1
    assert {int(band) for band in mel[10:-10].argmax(axis=1)} == {round(15 / 45.245 * 121 - 1)}


def test_mel_filters_have_equal_areas():
    filters = dnsmos._mel_filters()
    assert filters.shape == (161, 120)
    assert filters[:, 60:].sum(axis=0) * FS / 321 == pytest.approx(np.ones(60), rel=0.1)
