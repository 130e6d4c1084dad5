"""Causal models on streams: each equals the model on the whole recording, and waits no longer than it says."""

import copy

import numpy as np
import pytest
import torch
from reduced import REDUCED

from senet import config
from senet.errors import UserError
from senet.infer import stream
from senet.infer.enhance import Enhancer
from senet.infer.stream import FrameStep, Stream
from senet.layers.norms import CAUSAL

LOW, GAG, CNU, NU = "lowlatency.LowLatencyNet", "gagnet.GaGNet", "cnunet.CNUNet", "cnunet.NUNet"
SEGAN = {"channels": [8] * 5, "window": 512}
STREAMING = [
    (LOW, {"causal": True}),
    (LOW, {"causal": True, "inputs": "magnitude", "mask": "mag", "level": "cumulative", "dilations": []}),
    (LOW, {"causal": True, "lookahead": 1, "delta_phase": "raw", "mask": "complex", "dilations": [1]}),
    (LOW, {"causal": True, "lookahead": 6, "delta_phase": "baseband", "level": "cumulative", "dilations": [1, 2]}),
    (LOW, {"causal": True, "lookahead": 9, "delta_phase": "frequency", "delta_weighting": True, "dilations": [1, 2]}),
    (LOW, {"causal": True, "lookahead": 20, "mask": "polar"}),
    (LOW, {"causal": True, "lookahead": 5, "lookahead_form": "delayed", "delta_phase": "raw", "dilations": [4]}),
    (LOW, {"causal": True, "lookahead": 70, "lookahead_form": "delayed", "level": "cumulative", "dilations": []}),
    *((GAG, {"norm": kind, "level": "none"}) for kind in CAUSAL),
    (
        GAG,
        {
            "norm": "cumulative",
            "level": "cumulative",
            "inner_skip": "add",
            "gaze": "squeezed",
            "hop_length": 100,
            "win_length": 319,
        },
    ),
    (CNU, {"norm": "cumulative"}),
    (CNU, {"norm": "batch", "attention_frames": 7}),
    (CNU, {"norm": "cumulative", "attention": "all", "arithmetic": "real", "augmented": False, "window": "hann"}),
    (NU, {"norm": "instance_running"}),
    (NU, {"norm": "frame", "attention_frames": 5, "tls": False, "hop_length": 128}),
    ("classical.LogMMSE", {}),
    *(("segan.SEGAN", SEGAN | {"overlap": overlap}) for overlap in ("none", "hann", "triangular")),
]


def build(name, conf):
    """A small model in which every value matters: biases and running means differ from 0."""
    torch.manual_seed(0)
    model = config.build("models", name, REDUCED.get(name, {}) | conf)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.1, 0.3)
    for key, value in model.named_buffers():
        if "running" in key:
            value.uniform_(0.5, 1.5)
    return model.eval().requires_grad_(False)


def noise(channels, samples, seed=0):
    return 0.2 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))


def run(live, x, size):
    """All output of a stream that is given chunks of ``size`` samples; what is settled has to come out."""
    outputs, given = [], 0
    for i in range(0, x.shape[1], size):
        outputs.append(live.step(x[:, i : i + size]))
        given += outputs[-1].shape[1]
        assert given >= min(i + size, x.shape[1]) - live.latency
    return torch.cat([*outputs, live.flush()], 1)


@pytest.fixture(params=STREAMING, ids=lambda case: "-".join([case[0].split(".")[1], *map(str, case[1].values())]))
def model(request):
    return build(*request.param)


@pytest.mark.parametrize("size", [1, 7, 160, 4096])
def test_chunks_of_any_size_give_what_the_whole_recording_gives(model, size):
    x = noise(2, 901 if size == 1 else 3601)
    torch.testing.assert_close(run(Stream(model, 2), x, size), model(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 3, 100, 159, 160, 257, 512, 1537])
def test_a_stream_of_any_length_ends_as_the_recording_does(model, length):
    x = noise(1, length)
    live = Stream(model)
    torch.testing.assert_close(run(live, x, 50), model(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(run(live, x, length), model(x), atol=1e-5, rtol=0)


def test_nothing_in_gives_nothing_out(model):
    live = Stream(model, 3)
    assert live.step(torch.zeros(3, 0)).shape == live.flush().shape == (3, 0)


def test_latency_is_kept_and_tight(model):
    """In double precision, as little gets through the ends of a window."""
    model = copy.deepcopy(model).double()
    if hasattr(model, "stft"):
        frame = 40 + 2 * model.lookahead
        last = frame * model.stft.hop_length - model.stft.before + model.stft.last  # sample of this frame
    else:
        last = model.window - 1  # of the first, whose beginning is not faded in
    ends = torch.arange(last - 3, last + 4)
    x = noise(1, last + 600).double()
    changed = x + 1e6 * torch.nn.functional.one_hot(ends, x.shape[1])
    difference = (model(changed) - model(x)).abs() > 1e-12
    waited = ends - difference.int().argmax(1)  # from the first sample that changes
    assert waited.max() == model.latency == waited[3]


def test_streams_of_one_model_know_nothing_of_each_other(model):
    x, y = noise(2, 2000), noise(1, 2000, seed=1)
    live, other = Stream(model, 2), Stream(model)
    outputs = []
    for i in range(0, 2000, 333):
        outputs.append((live.step(x[:, i : i + 333]), other.step(y[:, i : i + 333])))
        model(y[:, :500])  # a whole recording in between
    outputs.append((live.flush(), other.flush()))
    for given, expected in zip(zip(*outputs, strict=True), (x, y), strict=True):
        torch.testing.assert_close(torch.cat(given, 1), model(expected), atol=1e-5, rtol=0)


def test_a_stream_that_is_reset_begins_anew(model):
    x, live = noise(1, 2000), Stream(model)
    live.step(noise(1, 1500, seed=1))
    live.reset()
    torch.testing.assert_close(run(live, x, 700), model(x), atol=1e-5, rtol=0)


def test_a_step_from_frame_to_frame_gives_the_recordings_frames(model):
    if not hasattr(model, "stft"):
        with pytest.raises(UserError, match="windows of samples"):
            FrameStep(model)
        return
    spec = model.analysis(noise(2, 2500))
    step = FrameStep(model)
    state, outputs = step.initial_state(channels=2), []
    for frame in spec.unbind(2):
        kept = [value.clone() for value in state]
        frame, *new = step(torch.view_as_real(frame), *state)
        assert all(map(torch.equal, state, kept))  # a pure function
        assert [(v.shape, v.dtype) for v in new] == [(v.shape, v.dtype) for v in state]
        state = new
        outputs.append(frame)
    if step.live is not None:
        state[step.live] = torch.zeros_like(state[step.live])
    for _ in range(step.lookahead):
        frame, *state = step(torch.zeros_like(frame), *state)
        outputs.append(frame)
    outputs = torch.view_as_complex(torch.stack(outputs[step.lookahead :], 2))
    torch.testing.assert_close(outputs, model.enhanced(spec), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name, conf, reasons",
    [
        (LOW, {}, ["causal is false, which streams when true"]),
        (LOW, {"causal": True, "level": "utterance"}, ["level is utterance, which streams as cumulative or none"]),
        (
            GAG,
            {"causal": False},
            ["causal is false", "norm is instance, which streams as .*cumulative", "level is utt"],
        ),
        (CNU, {}, ["norm is global, which streams as instance_running, batch, frame, .* or cumulative"]),
        (NU, {}, ["norm is global"]),
        ("tfgridnet.TFGridNet", {}, ["see all frames, in every configuration"]),
    ],
)
def test_a_model_that_needs_the_whole_recording_is_refused_with_the_settings_that_make_it_so(name, conf, reasons):
    model = build(name, conf)
    for refusing in (Stream, FrameStep):
        with pytest.raises(
            UserError, match="cannot stream; other settings need another training: .*" + ".*; ".join(reasons)
        ):
            refusing(model)


def test_what_is_no_chunk_is_refused_and_the_stream_goes_on():
    model = build(LOW, {"causal": True})
    x, live = noise(2, 2000), Stream(model, 2)
    first = live.step(x[:, :1000])
    for wrong in (x[:1], x[0], torch.full((2, 5), torch.nan), (x * 32768).short(), x.numpy().astype("i2"), x.tolist()):
        with pytest.raises(UserError, match="a chunk "):
            live.step(wrong)
    rest = live.step(x[:, 1000:])
    torch.testing.assert_close(torch.cat([first, rest, live.flush()], 1), model(x), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="evaluation mode"):
        Stream(model.train())
    with pytest.raises(UserError, match="a stream of 0 channels"):
        Stream(model, 0)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_numpy_comes_back_as_numpy_and_a_second_flush_is_empty(rate):
    x, live = noise(1, 3000), Enhancer(build(LOW, {"causal": True})).stream(rate)
    expected = [live.step(x), live.flush()]
    found = [live.step(x.double().numpy()), live.flush()]
    for y, z in zip(found, expected, strict=True):
        assert isinstance(y, np.ndarray) and y.dtype == np.float32
        np.testing.assert_allclose(y, z, atol=1e-5)
    assert live.flush().shape == (1, 0)


def test_a_long_chunk_is_taken_in_parts(monkeypatch):
    model, x = build(GAG, {"norm": "cumulative", "level": "cumulative"}), noise(1, 16000)
    frames, enhanced = [], model.enhanced
    monkeypatch.setattr(model, "enhanced", lambda spec: frames.append(spec.shape[2]) or enhanced(spec))
    monkeypatch.setattr(stream, "MAX_FRAMES", 8)
    torch.testing.assert_close(run(Stream(model), x, 16000), model(x), atol=1e-5, rtol=0)
    assert max(frames[:-1]) == 8  # the last are those of the whole recording
