"""Exported models: the same numbers as PyTorch's, for recordings of any length and for streams, in every family."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from senet import checkpoint, config
from senet.bin import export as command
from senet.bin import run
from senet.dsp.compress import power_compress
from senet.dsp.phase import delta_phasor
from senet.dsp.stft import STFT
from senet.errors import UserError
from senet.infer import export as exporting
from senet.infer import export_run
from senet.infer.enhance import Enhancer
from senet.infer.export_real import RealNumbers
from senet.infer.export_step import hop_step

STFT_SIZES = {"n_fft": 64, "hop_length": 24, "win_length": 48}
LOW_LATENCY = {"channels": 2, "maps": 2, "dilations": [1], "lstm_units": 6, "fc_units": 6, **STFT_SIZES}
NESTED = {"n_fft": 64, "hop_length": 20, "win_length": 50, "depths": [1], "dense_layers": 1, "attention_frames": 3}
GAGNET = {"q": 1, "p": 1, "dilations": [2], "cd1": 4, "channels": 4, "d_feat": 8, "encoder": "plain", "n_fft": 160}
GAGNET |= {"hop_length": 64, "win_length": 160}
SEGAN = {"channels": [4, 8], "kernel": 7, "stride": 2, "window": 256, "attention": [0], "attn_k_qk": 2}
MODELS = {  # what is exported: (model, model_conf)
    "lowlatency": ("lowlatency.LowLatencyNet", LOW_LATENCY | {"mask": "polar"}),
    "lowlatency ahead": (
        "lowlatency.LowLatencyNet",
        LOW_LATENCY | {"causal": True, "lookahead": 3, "delta_phase": "baseband", "level": "cumulative"},
    ),
    "gagnet": ("gagnet.GaGNet", GAGNET),
    "gagnet causal": ("gagnet.GaGNet", GAGNET | {"norm": "cumulative", "level": "cumulative"}),
    "tfgridnet": (
        "tfgridnet.TFGridNet",
        {"n_layers": 1, "emb_dim": 4, "lstm_units": 4, "n_heads": 2, "approx_qk_dim": 66, "n_fft": 64, "hop_length": 32}
        | {"win_length": 64},
    ),
    "cnunet causal": ("cnunet.CNUNet", NESTED | {"channels": 4, "inner": 8, "norm": "frame"}),
    "nunet": ("cnunet.NUNet", NESTED | {"channels": 2, "inner": 2}),
    "segan": ("segan.SEGAN", SEGAN | {"num_stages": 2, "spectral_norm": True}),
}


def build(name):
    torch.manual_seed(0)
    model, conf = MODELS[name]
    return config.build("models", model, conf).eval().requires_grad_(False)


def noise(samples, channels=1, seed=0):
    x = 0.1 * np.random.default_rng(seed).standard_normal((channels, samples))
    x[:, : samples // 8] = 0
    return x.astype(np.float32)


@pytest.fixture
def onnx():
    for package in exporting.PACKAGES["onnx"]:
        pytest.importorskip(package)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_gives_what_pytorch_gives_for_any_length_and_number_of_channels(name, tmp_path, onnx):
    model = build(name)
    parts = ("stream",) if model.causal else ("offline",)
    info = exporting.export(Enhancer(model), tmp_path / "out", name, parts=parts)
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == info
    for part in parts:
        session = export_run.load(tmp_path / "out" / info[part]["file"])
        for samples, channels in [(1, 1), (200, 2), (4001, 3)]:
            x = noise(samples, channels)
            y = export_run.stream(session, x, info["stream"]) if part == "stream" else export_run.offline(session, x)
            np.testing.assert_allclose(y, model(torch.from_numpy(x)).numpy(), atol=1e-5)


class Complex(nn.Module):
    """Everything that models do with complex numbers."""

    def __init__(self, **options):
        super().__init__()
        self.stft = STFT(64, 20, 50, **options)

    def forward(self, wave):
        spec = self.stft(wave)
        frames = torch.fft.irfft(torch.fft.rfft(wave[:, :64]), 64)
        parts = [delta_phasor(spec, form, 20, 64) for form in ("raw", "baseband", "frequency")]
        parts += [power_compress(spec, 0.3), spec * spec.conj() - 2 * spec, torch.sgn(spec) / (1 + spec.abs())]
        spec = torch.cat([spec, torch.view_as_complex(torch.view_as_real(spec))], 2)[:, :, : spec.shape[2]]
        angle = spec[:, 1:-1].angle()  # without the real bins, of which some are at pi
        return torch.view_as_real(torch.cat(parts, 2)), frames, angle.cos(), self.stft.inverse(spec, wave.shape[1])


@pytest.mark.parametrize("padding", ["zeros", "reflect", "full"])
def test_pairs_of_real_numbers_stand_for_complex_ones(padding):
    module, wave = Complex(padding=padding), torch.from_numpy(noise(500, 2))
    for found, expected in zip(RealNumbers(module)(wave), module(wave), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_what_pairs_have_no_rule_for_is_named():
    class Odd(nn.Module):
        def forward(self, wave):
            return torch.complex(wave, wave).cumsum(1)

    with pytest.raises(AttributeError, match="no rule for 'cumsum'"):
        RealNumbers(Odd())(torch.ones(1, 4))


@pytest.mark.parametrize("name", [name for name in MODELS if build(name).causal])
def test_the_step_alone_makes_the_whole_recording(name):
    """Whoever writes another runner: what run.py does, by the step in PyTorch."""
    model = build(name)
    step = hop_step(model)

    class Session:
        def run(self, _, inputs):
            return [y.numpy() for y in step(*map(torch.from_numpy, inputs.values()))]

    state = [exporting._described(key, value, {}) for key, value in step.initial_state(2).items()]
    live = {"hop": step.hop, "rest": step.rest, "delay": step.delay, "state": state, **step.framing}
    for samples in (1, 4000, 4001):
        x = noise(samples, 2)
        expected = model(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(export_run.stream(Session(), x, live), expected, atol=1e-5)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def exported(expdir, tmp_path_factory):
    for package in exporting.PACKAGES["onnx"]:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("export") / "out"
    with pytest.MonkeyPatch.context() as patch:  # whatever int8 makes of weights that are random
        patch.setattr(exporting, "LEAST_SNR", -100)
        patch.setattr(exporting, "GAIN", 0)
        assert run(command.main, [str(expdir), "-o", str(folder), "--int8"]) == 0
    return folder


@pytest.mark.parametrize("words", [[], ["--stream"]])
def test_the_runner_script_needs_numpy_soundfile_and_onnxruntime_only(exported, expdir, tmp_path, words):
    import soundfile

    from senet.infer.load import load_model

    soundfile.write(tmp_path / "in.wav", noise(5001, 2).T, 16000)
    code = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__'); print(*sys.modules)"
    argv = [sys.executable, "-c", code, exported / "run.py", tmp_path / "in.wav", tmp_path / "out.wav", *words]
    modules = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    assert {"numpy", "soundfile", "onnxruntime"} <= set(modules)
    assert not {"senet", "torch", "scipy"} & set(modules)
    x, rate = soundfile.read(tmp_path / "in.wav", dtype="float32")
    expected = load_model(expdir).enhance(x, rate)
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav")[0], expected, atol=1e-4)


def test_the_runner_script_takes_the_weights_of_8_bits(exported, tmp_path, monkeypatch):
    import soundfile

    monkeypatch.setattr(export_run, "__file__", str(exported / "run.py"))
    soundfile.write(tmp_path / "in.wav", noise(5001)[0], 16000)
    export_run.main([str(tmp_path / "in.wav"), "--int8", str(tmp_path / "out.flac")])
    x, _ = soundfile.read(tmp_path / "in.wav", dtype="float32")
    expected = export_run.offline(export_run.load(exported / "model.int8.onnx"), x[None])[0]
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.flac")[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["8000.wav", "out.wav"], "8000.wav: 100 samples at 8000 Hz; expected some at 16000 Hz"),
        (["none.wav", "out.wav"], "none.wav: 0 samples"),
        (["text.wav", "out.wav"], "text.wav': Format not recognised"),
        (["nowhere.wav", "out.wav"], "nowhere.wav: no such file"),
        (["good.wav", "good.wav"], "good.wav: expected a .wav or .flac to write, and not the input"),
        (["good.wav", "out.txt"], "out.txt: expected a .wav or .flac"),
        (["good.wav", "out.wav", "--strem"], "exported here: "),
    ],
)
def test_the_runner_script_says_in_a_line_what_is_wrong(exported, tmp_path, monkeypatch, words, said):
    import soundfile

    monkeypatch.chdir(tmp_path)
    for name, samples, rate in (("8000.wav", 100, 8000), ("none.wav", 0, 16000), ("good.wav", 100, 16000)):
        soundfile.write(name, noise(samples)[0], rate)
    Path("text.wav").write_text("no audio")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(export_run, "__file__", str(exported / "run.py"))
    with pytest.raises(SystemExit, match=re.escape(said)):
        export_run.main(words)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_folder_says_what_is_in_it(exported):
    info = json.loads((exported / "export.json").read_text())
    assert info["sample_rate"] == 16000 and info["opset"] == 18
    assert set(info["versions"]) == {"senet", "torch", "onnx", "onnxscript", "onnxruntime"}
    assert set(info["files"]) == {path.name for path in exported.iterdir()} - {"export.json"}
    assert all(exporting.sha256(exported / name) == file["sha256"] for name, file in info["files"].items())
    for part in ("offline", "stream"):
        check = info[part]["check"]
        assert 0 < check["rms_difference"] < check["largest_difference"] <= 1e-4
        assert 0 < check["pytorch"]["rms_difference"] < check["pytorch"]["largest_difference"] <= 1e-4
        int8 = info[part]["int8"]
        assert int8["kept"] == (exported / info[part]["file"].replace(".onnx", ".int8.onnx")).exists()
        assert int8["float_bytes"] > 0 and int8["largest_difference"] > 0 and int8["times_smaller"] > 1


# ---------------------------------------------------------------- refusals


class Half(nn.Module):
    """A model that needs the whole recording."""

    sample_rate, causal, latency = 16000, False, None

    def forward(self, noisy):
        return noisy / noisy.abs().amax(1, keepdim=True).clamp_min(0.1)


class Dice(Half):
    def forward(self, noisy):
        return noisy + torch.rand_like(noisy)


def test_an_export_that_differs_leaves_the_one_before(tmp_path, monkeypatch):
    exporting.export(Enhancer(Half()), tmp_path / "out", "half", "pt2", ("offline",))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == {"model.pt2", "export.json"}
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    monkeypatch.setattr(exporting, "ROUNDING", -1.0)
    for folder in ("out", "other"):
        with pytest.raises(UserError, match=r"model.pt2: differs from PyTorch by .*nothing was written"):
            exporting.export(Enhancer(Half()), tmp_path / folder, "half", "pt2", ("offline",))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_model_that_gives_no_numbers_is_refused(tmp_path):
    class Broken(Half):
        def forward(self, noisy):
            return noisy * torch.nan

    with pytest.raises(UserError, match="differs from PyTorch by inf"):
        exporting.export(Enhancer(Broken()), tmp_path / "out", "broken", "pt2", ("offline",))


class Rounding(Half):
    """A model that makes 0.001 of what rounding leaves."""

    def forward(self, noisy):
        return noisy + 1e-3 * torch.sign(noisy / 3 * 3 - noisy)


def test_where_rounding_alone_matters_pytorch_s_own_difference_is_said_and_allowed(tmp_path, caplog):
    info = exporting.export(Enhancer(Rounding()), tmp_path / "out", "rounding", "pt2", ("offline",))
    check = info["offline"]["check"]
    assert 1e-4 < check["largest_difference"] == check["pytorch"]["largest_difference"] < 3e-3
    assert "depends on rounding, in PyTorch, too" in caplog.text


def test_the_check_hears_bins_that_hold_only_rounding():
    """Their phases differ between single and double precision, which ordinary test signals do not show."""

    def turned(wave):
        spec, wave = STFT(), torch.from_numpy(wave)
        phasors = (delta_phasor(s, "baseband", 160, 512) for s in (spec(wave), spec.double()(wave.double())))
        return int(((next(phasors) - next(phasors)).abs() > 0.1).sum())

    assert turned(exporting.noisy_speech(64000, 16000, 1, seed=0)) == 0
    for x in exporting.faint_speech(64000, 16000, seed=0):
        assert turned(x[None]) > 0


def test_a_model_that_draws_random_numbers_is_refused(tmp_path):
    with pytest.raises(UserError, match="another output each time"):
        exporting.export(Enhancer(Dice()), tmp_path / "out", "dice", "pt2", ("offline",))


def test_an_offline_model_is_not_exported_for_streams(tmp_path):
    with pytest.raises(UserError, match="needs the whole recording"):
        exporting.export(Enhancer(build("nunet")), tmp_path / "out", "nunet", parts=("stream",))
    assert not list(tmp_path.iterdir())


def test_windows_that_overlap_are_not_exported_for_streams():
    with pytest.raises(UserError, match="overlap: none can be exported"):
        hop_step(config.build("models", "segan.SEGAN", SEGAN | {"overlap": "hann"}).eval())


def test_a_model_without_a_network_is_refused_at_once(tmp_path, capsys):
    (tmp_path / "exp").mkdir()
    config.save_resolved(tmp_path / "exp" / "config.yaml", {"model": "classical.LogMMSE"})
    model = config.build("models", "classical.LogMMSE")
    checkpoint.save(tmp_path / "exp" / "checkpoints", {"model": model.state_dict()}, step=1, epoch=1, score=1.0)
    assert run(command.main, [str(tmp_path / "exp"), "-o", str(tmp_path / "out")]) != 0
    assert "LogMMSE has no network, so there is nothing to export" in capsys.readouterr().err


def test_a_missing_package_is_named_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "PACKAGES", {"onnx": ("onnx", "not_there"), "pt2": ()})
    assert run(command.main, ["no/model", "-o", str(tmp_path / "out")]) == 1
    assert re.search(r"needs not_there: pip install 'senet\[onnx\]'", capsys.readouterr().err)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run(command.main, ["no/model", "-o", str(tmp_path)]) == 1
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_runner_script_is_short():
    lines = Path(export_run.__file__).read_text().splitlines()
    assert len([line for line in lines if line and not line.lstrip().startswith("#")]) <= 60
