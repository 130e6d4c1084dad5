"""senet stream: PCM in, PCM out, and what it says about it."""

import io
import logging
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from senet import checkpoint, config, load_model
from senet.bin import run, stream

DTYPES = {"s16le": "<i2", "f32le": "<f4"}


@pytest.fixture(scope="module")
def expdir(make_experiment, tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("exp") / "small", 1)


@pytest.fixture
def pipe(monkeypatch, expdir, caplog):
    """``pipe(data, *words)``: the command's exit status, its output and what it said."""

    def call(data, *words):
        source, sink = io.BytesIO(data), io.BytesIO()
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=source, isatty=lambda: False))
        monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(buffer=sink, isatty=lambda: False))
        monkeypatch.setattr(stream, "setup_logging", lambda: None)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            status = run(stream.main, ["--model", str(expdir), *words])
        return status, sink.getvalue(), caplog.text

    return call


def noise(*shape, scale=0.2):
    return (scale * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("channels, chunk", [(1, []), (2, ["--chunk", "77"])])
def test_what_comes_out_is_what_the_model_gives(pipe, expdir, kind, channels, chunk):
    x = noise(4001, channels)
    data = (np.rint(x * 32768) if kind == "s16le" else x).astype(DTYPES[kind])
    x = data.astype(np.float32) / (32768 if kind == "s16le" else 1)
    status, out, said = pipe(data.tobytes(), "--format", kind, "--channels", str(channels), *chunk)
    y = np.frombuffer(out, DTYPES[kind]).reshape(-1, channels) / (32768 if kind == "s16le" else 1)
    assert status == 0
    np.testing.assert_allclose(y, load_model(expdir).enhance(x, 16000), atol=2e-5 if kind == "s16le" else 1e-5)
    assert "latency 24.9 ms and the chunk's " + ("4.812" if chunk else "10") + " ms" in said
    assert f"{52 if chunk else 26} chunks of" in said and "(median)" in said and "took longer than they last" in said


def test_another_rate_is_resampled_and_the_latency_says_so(pipe, expdir):
    x = np.convolve(noise(8000), np.hanning(16) / 8, "same").astype("f4")  # nothing near the band's end
    status, out, said = pipe(x.tobytes(), "--format", "f32le", "--sample_rate", "8000")
    assert status == 0
    np.testing.assert_allclose(np.frombuffer(out, "<f4"), load_model(expdir).enhance(x, 8000), atol=1e-3)
    assert "latency 24.9 ms and the chunk's 10 ms, and 12.0 ms of resampling, which 16000 Hz would spare" in said


@pytest.mark.parametrize("start", [b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC"])
def test_an_audio_file_is_refused(pipe, start, capsys):
    status, out, _ = pipe(start + bytes(1000))
    assert status == 1 and out == b""
    assert "standard input is an audio file, expected raw PCM" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_is_full_gets_one_line(expdir):
    argv = [sys.executable, "-m", "senet.bin.stream", "--model", str(expdir)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, input=bytes(64000), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "error: standard output cannot be written: No space left on device"
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_silence_of_no_samples_is_no_error(pipe):
    status, out, said = pipe(b"")
    assert (status, out) == (0, b"") and "no chunks" in said


def test_a_frame_cut_in_half_is_told(pipe):
    status, out, said = pipe(np.zeros(500, "<i2").tobytes() + b"\0")
    assert status == 0 and len(out) == 1000 and "its last 1 bytes were left out" in said


def test_clipped_samples_are_told(monkeypatch, pipe):
    monkeypatch.setattr("senet.infer.stream.Stream.step", lambda self, x: 2 + x)
    monkeypatch.setattr("senet.infer.stream.Stream.flush", lambda self: torch.zeros(1, 0))
    status, out, said = pipe(np.zeros(300, "<i2").tobytes())
    assert status == 0 and "300 samples were clipped" in said
    assert set(np.frombuffer(out, "<i2")) == {32767}


def test_what_is_not_finite_is_refused(pipe, capsys):
    data = np.array([0.1, np.nan], "<f4").tobytes()
    status, _, said = pipe(data, "--format", "f32le")
    assert status == 1 and "a chunk holds NaN or infinite samples" in capsys.readouterr().err
    assert "no chunks" in said


def test_an_offline_model_is_refused_with_the_setting(pipe, tmp_path, capsys):
    options = {"model": "lowlatency.LowLatencyNet", "model_conf": {"lstm_units": 4, "fc_units": 4, "channels": 2}}
    model = config.build("models", options["model"], options["model_conf"])
    checkpoint.save(tmp_path / "checkpoints", {"model": model.state_dict()}, step=1, epoch=1, score=1.0)
    config.save_resolved(tmp_path / "config.yaml", options)
    assert pipe(b"", "--model", str(tmp_path))[0] == 1
    assert (
        "cannot stream; other settings need another training: causal is false, which streams when true"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_terminals_are_refused(monkeypatch, expdir, capsys, name):
    for other in ("stdin", "stdout"):
        monkeypatch.setattr(sys, other, types.SimpleNamespace(isatty=lambda other=other: other == name))
    assert run(stream.main, ["--model", str(expdir)]) == 1
    assert f"standard {name[3:]}put is a terminal" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--model", "m", "--channels", "0"], ["--model", "m", "--input_device", "0"]])
def test_wrong_usage_ends_with_2(words):
    with pytest.raises(SystemExit) as stop:
        stream.main(words)
    assert stop.value.code == 2


def test_a_reader_that_goes_away_and_an_interrupt_end_it_without_a_traceback(expdir):
    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "senet.bin.stream", "--model", str(expdir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    both = start(), start()
    for child in both:
        child.stdin.write(bytes(64000))
        child.stdin.flush()
        child.stdout.read(32000)
    both[0].stdout.close()
    with pytest.raises(BrokenPipeError):
        while True:
            both[0].stdin.write(bytes(64000))
    both[1].send_signal(signal.SIGINT)
    for child, status in zip(both, (141, 130), strict=True):
        said = child.stderr.read().decode()
        assert child.wait(60) == status, said
        assert "Traceback" not in said and "(median)" in said


# ---------------------------------------------------------------- sound card


class FakeCard(types.ModuleType):
    """Of sounddevice what is used: a microphone with a recording, after which Ctrl-C is pressed."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, recording):
        super().__init__("sounddevice")
        self.recording, self.heard, self.options = recording, [], None

    def Stream(self, **options):
        if options["device"] == (7, None):
            raise self.PortAudioError("no device 7")
        self.options = options
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def read(self, samples):
        if len(self.recording) < samples:
            raise KeyboardInterrupt
        x, self.recording = self.recording[:samples], self.recording[samples:]
        return x, False

    def write(self, y):
        self.heard.append(y)
        return len(self.heard) == 2

    def query_devices(self):
        return "0 a microphone"


def test_live_from_microphone_to_loudspeaker(monkeypatch, pipe, expdir):
    card = FakeCard(noise(1600, 1))
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    expected = load_model(expdir).enhance(card.recording[:, 0], 16000)
    status, _, said = pipe(b"", "--live")
    heard = np.concatenate(card.heard)[:, 0]
    assert status == 0 and card.options["samplerate"] == 16000 and card.options["blocksize"] == 160
    ahead = 398 + 160
    assert not heard[:ahead].any()
    np.testing.assert_allclose(heard[ahead:], expected[: len(heard) - ahead], atol=1e-5)
    assert len(heard) >= 1600  # no gap: what was given ahead lasts
    assert "there were 1 gaps" in said and "10 chunks of 10 ms" in said


def test_devices_are_listed_and_a_wrong_one_refused(monkeypatch, capsys, pipe):
    monkeypatch.setitem(sys.modules, "sounddevice", FakeCard(noise(0, 1)))
    assert run(stream.main, ["--list_devices"]) == 0
    assert "0 a microphone" in capsys.readouterr().out
    assert pipe(b"", "--live", "--input_device", "7")[0] == 1
    assert "cannot be opened: no device 7; --list_devices" in capsys.readouterr().err


def test_without_sounddevice_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run(stream.main, ["--list_devices"]) == 1
    assert "pip install sounddevice" in capsys.readouterr().err
