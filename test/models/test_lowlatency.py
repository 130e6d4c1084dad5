import pytest
import torch

from senet.errors import UserError
from senet.losses.spectral import CompressedSpectrum
from senet.models.lowlatency import MASKS, LowLatencyNet

SMALL = {"channels": 8, "maps": 4, "lstm_units": 16, "fc_units": 16}


def build(seed=0, **conf):
    torch.manual_seed(seed)
    return LowLatencyNet(**{**SMALL, **conf}).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "conf, expected",
    [
        ({}, 27_587_275),
        ({"causal": True}, 14_086_744),
        ({"causal": True, "delta_phase": "raw", "delta_encoding": "angle"}, 14_086_968),
        ({"delta_phase": "baseband", "delta_encoding": "cossin"}, 27_587_723),
        ({"inputs": "magnitude", "mask": "mag"}, 27_362_433),
        ({"lstm_units": 400, "fc_units": 600}, 8_791_218),
        ({"lstm_units": 400, "fc_units": 600, "causal": True}, 4_618_418),
    ],
)
def test_parameter_counts_of_the_published_sizes(conf, expected):
    with torch.device("meta"):
        assert num_parameters(LowLatencyNet(**conf)) == expected


def test_parameter_counts_of_the_layers():
    with torch.device("meta"):
        model = LowLatencyNet()
    counts = [num_parameters(m) for m in (*model.convs, model.reduce, model.hidden, model.output)]
    assert counts == [480, 7_200, *[25_632] * 5, 264, 1_787_031, 449_236]
    assert num_parameters(model.lstm) == 25_206_720 + 8 * 1023  # PyTorch's second bias vector


@pytest.mark.parametrize(
    "conf, millions",
    [
        ({}, 62.35),
        ({"causal": True}, 48.86),
        ({"causal": True, "delta_phase": "raw", "delta_encoding": "angle"}, 48.92),
        ({"delta_phase": "baseband"}, 62.47),
        ({"inputs": "magnitude", "mask": "mag"}, 62.07),
        ({"lstm_units": 400, "fc_units": 600}, 43.57),
        ({"lstm_units": 400, "fc_units": 600, "causal": True}, 39.40),
    ],
)
def test_multiplications_per_frame_of_the_published_sizes(conf, millions):
    with torch.device("meta"):
        model = LowLatencyNet(**conf)
    weights = {name: p.numel() for name, p in model.named_parameters() if "weight" in name}
    macs = sum(n * (257 if name.startswith(("convs", "reduce")) else 1) for name, n in weights.items())
    assert abs(macs / 1e6 - millions) < 0.006


def test_the_convolutions_see_131_frames_and_27_bins():
    model = build()
    x = torch.zeros(1, 2, 301, 257, requires_grad=True)
    y = x
    for conv in model.convs:
        torch.nn.init.ones_(conv.weight)
        y = conv(y)
    y[0, 0, 150, 128].backward()
    seen = x.grad[0, 0] != 0
    assert seen.any(1).sum() == 131 and seen.any(0).sum() == 27


def test_state_dict_names_and_shapes_are_stable():
    convs = [f"convs.{i}.{kind}" for i in range(7) for kind in ("weight", "bias")]
    lstm = [f"lstm.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    dense = [f"{layer}.{kind}" for layer in ("hidden", "output") for kind in ("weight", "bias")]
    state = build(causal=True, delta_phase="baseband").state_dict()
    assert list(state) == convs + ["reduce.weight", "reduce.bias"] + lstm + dense
    assert state["convs.0.weight"].shape == (8, 4, 1, 7) and state["lstm.weight_ih_l0"].shape == (64, 4 * 257)


# ---------------------------------------------------------------- inputs and masks


@pytest.mark.parametrize("level_form", ["none", "utterance", "cumulative"])
@pytest.mark.parametrize("inputs", ["complex", "magnitude"])
def test_features_keep_phase_and_compress_magnitude(inputs, level_form):
    model = build(inputs=inputs, level=level_form)
    spec = model.analysis(noise(1, 1600))
    power = spec.abs().square().mean(1, keepdim=True)
    frames = torch.arange(1, spec.shape[2] + 1)
    level = {"none": torch.ones(1), "utterance": power.mean(2, keepdim=True), "cumulative": power.cumsum(2) / frames}
    scaled = spec / level[level_form].sqrt()
    expected = scaled.abs() ** 0.3
    if inputs == "complex":
        expected = torch.view_as_real(expected * torch.exp(1j * spec.angle())).movedim(3, 1)
    else:
        expected = expected[:, None]
    torch.testing.assert_close(model.features(spec), expected.transpose(2, 3), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("encoding", ["angle", "cossin"])
@pytest.mark.parametrize("form", ["raw", "baseband", "frequency"])
def test_delta_phase_channels(form, encoding, weighted):
    model = build(delta_phase=form, delta_encoding=encoding, delta_weighting=weighted)
    spec = model.analysis(noise(1, 1600))
    x = model.features(spec)
    previous = spec.roll(1, 1 if form == "frequency" else 2)
    angle = (spec * previous.conj()).angle()
    if form == "baseband":
        advance = 2 * torch.pi * torch.arange(257) * 160 / 512
        angle = torch.remainder(angle - advance[:, None] + torch.pi, 2 * torch.pi) - torch.pi
    delta = [angle / torch.pi] if encoding == "angle" else [angle.cos(), angle.sin()]
    expected = torch.stack(delta, 1).transpose(2, 3) * (spec.abs().transpose(1, 2)[:, None] ** 0.3 if weighted else 1)
    assert x.shape[1] == 2 + len(delta)
    inner = (slice(None), slice(2, None), slice(1, None), slice(1, 256))  # with predecessor; 0 Hz and 8 kHz are real
    close = (x[inner] - expected[:, :, 1:, 1:256]).abs() < 2e-3
    assert close.float().mean() > 0.999  # rounding may put a half turn on either side


@pytest.mark.parametrize("level", ["utterance", "cumulative"])
def test_level_normalisation_makes_the_mask_independent_of_the_recording_level(level):
    model = build(level=level)
    x = noise(1, 8000)
    torch.testing.assert_close(model(8 * x), 8 * model(x), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mask", list(MASKS))
def test_a_mask_of_ones_returns_the_input(mask):
    model = build(mask=mask, mask_bound=2.0)
    ones = {
        "mag": [30.0],
        "ri_sigmoid": [30.0, 30.0],
        "complex": [torch.atanh(torch.tensor(0.5)).item(), 0.0],
        "complex_unbounded": [1.0, 0.0],
        "polar": [30.0, 0.0, 0.0],
    }[mask]
    torch.nn.init.zeros_(model.output.weight)
    model.output.bias.data = torch.tensor(ones).repeat_interleave(257)
    for length in (1, 7, 160, 16000, 16159):
        x = noise(2, length)
        torch.testing.assert_close(model(x), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "mask, raw, factor",
    [
        ("mag", [0.4], 0.598688),
        ("complex", [0.5, -0.3], 2 * (0.462117 - 0.291313j)),
        ("complex_unbounded", [0.5, -0.3], 0.5 - 0.3j),
        ("polar", [0.4, 0.0, 1.0], 0.598688 * (1 + 1j) / 2**0.5),
    ],
)
def test_masks_multiply_by_the_factor_they_are_named_after(mask, raw, factor):
    model = build(mask=mask)
    spec = torch.randn(1, 257, 3, dtype=torch.complex64)
    outputs = torch.tensor(raw)[None, None, :, None].expand(1, 3, -1, 257)
    torch.testing.assert_close(model.apply_mask(outputs, spec), factor * spec, atol=1e-5, rtol=1e-5)


def test_ri_sigmoid_scales_real_and_imaginary_part_separately():
    spec = torch.full((1, 257, 1), 2 - 3j)
    outputs = torch.tensor([0.0, 30.0])[None, None, :, None].expand(1, 1, 2, 257)
    assert torch.allclose(build(mask="ri_sigmoid").apply_mask(outputs, spec), torch.tensor(1 - 3j))


# ---------------------------------------------------------------- time

LOOKAHEADS = [
    (0, "distributed"),
    (5, "distributed"),
    (20, "distributed"),
    (65, "distributed"),
    (1, "delayed"),
    (20, "delayed"),
]


@pytest.mark.parametrize("lookahead, form", LOOKAHEADS)
def test_the_first_changed_frame_comes_lookahead_frames_before_the_changed_input(lookahead, form):
    conf = {"causal": True, "lookahead": lookahead, "lookahead_form": form}
    model = build(**conf, delta_phase="baseband", level="cumulative").double()
    spec = torch.randn(1, 257, 120, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    changed = spec.clone()
    changed[:, :, 100:] *= 5j
    with torch.no_grad():
        masks = [model.network(s)[0] / s for s in (spec, changed)]
    difference = (masks[0] - masks[1]).abs().amax((0, 1))
    first = 100 - lookahead
    assert difference[:first].max() < 1e-12 < 1e-7 < difference[first]


@pytest.mark.parametrize("lookahead, form", LOOKAHEADS)
def test_latency_in_samples_is_kept_and_tight(lookahead, form):
    model = build(causal=True, lookahead=lookahead, lookahead_form=form, delta_phase="baseband").double()
    assert model.latency == 398 + 160 * lookahead
    n = 160 * (40 + lookahead) + 199  # the last sample under the window of a frame
    x = noise(1, 160 * (60 + lookahead)).double()
    changed = x.clone()
    changed[:, n:] = 1e4 * noise(1, x.shape[1] - n, seed=1)
    with torch.no_grad():
        difference = (model(x) - model(changed))[0].abs()
    first = difference.nonzero()[0].item()
    # The periodic window starts with a zero and so is 399 samples long: what sample n changes starts 398 before it.
    assert first == n - model.latency


@pytest.mark.parametrize("conf", [{}, {"causal": True, "level": "utterance"}])
def test_models_that_need_the_whole_recording_say_so(conf):
    model = build(**conf).double()
    x = noise(1, 48000).double()
    changed = torch.cat([x[:, :40000], 5 * x[:, 40000:]], 1)
    assert not model.causal and model.latency is None
    assert (model(x) - model(changed))[0, :24000].abs().max() > 1e-12  # a second before the change


def test_distributed_lookahead_never_exceeds_half_of_a_convolutions_reach():
    for lookahead in range(66):
        model = build(causal=True, lookahead=lookahead)
        future = [c.future for c in model.convs]
        assert sum(future) == lookahead
        assert all(f <= most for f, most in zip(future, [0, 3, 2, 4, 8, 16, 32], strict=True))


# ---------------------------------------------------------------- bad and unusual input


def test_silence_gives_silence_and_finite_gradients():
    for mask in MASKS:
        model = build(mask=mask, causal=True, delta_phase="baseband", delta_weighting=True, level="cumulative")
        spec = model.analysis(torch.zeros(1, 8000))
        loss, _ = CompressedSpectrum()(model.network(spec), {"clean": spec}, torch.tensor([51]))
        loss.backward()
        assert model(torch.zeros(1, 8000)).abs().max() == 0
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"mask": "magnitude"}, "mask is 'magnitude', expected one of mag, ri_sigmoid"),
        ({"channels": -8}, "channels is -8, expected at least 1"),
        ({"dilations": (1, 0)}, "dilations has 0, expected sizes of at least 1"),
        ({"inputs": "ri"}, "inputs is 'ri', expected one of complex, magnitude"),
        ({"delta_phase": "time"}, "delta_phase is 'time', expected one of none, raw"),
        ({"delta_encoding": "sin"}, "delta_encoding is 'sin'"),
        ({"level": "rms"}, "level is 'rms', expected one of none, utterance, cumulative"),
        ({"lookahead_form": "late"}, "lookahead_form is 'late'"),
        ({"lookahead": 5}, "lookahead is 5, expected 0, or more with causal: true"),
        ({"causal": True, "lookahead": 66}, "lookahead is 66 frames, expected at most 65, or lookahead_form: delayed"),
        ({"hop_length": 256}, "hop_length is 256, expected 1 to win_length / 2 = 200"),
    ],
)
def test_values_that_do_not_fit_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        build(**conf)
