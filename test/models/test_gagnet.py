import pytest
import torch
from torch import nn

from senet.errors import UserError
from senet.layers.norms import CAUSAL
from senet.losses.spectral import RIMagnitude
from senet.models.gagnet import GaGNet
from senet.train.supervised import Supervised

SMALL = {"n_fft": 128, "win_length": 128, "hop_length": 64, "channels": 8, "d_feat": 8, "cd1": 6, "p": 1}
NORMS = ("instance", "instance_running", "batch", "global", "frame", "cumulative_instance", "cumulative")


def build(**conf):
    torch.manual_seed(0)
    return GaGNet(**{**SMALL, **conf}).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


# ---------------------------------------------------------------- size

TABLE = [  # change from the published system, parameters, G multiplications per second in convolutions
    ({}, 5_948_137, 1.331),
    ({"q": 1}, 2_332_963, 0.972),
    ({"q": 2}, 4_140_550, 1.151),
    ({"q": 4}, 7_755_724, 1.511),
    ({"q": 5}, 9_563_311, 1.690),
    ({"p": 1}, 4_312_297, 1.169),
    ({"p": 3}, 7_583_977, 1.493),
    ({"q": 1, "p": 1}, 1_787_683, 0.918),
    ({"q": 2, "p": 1}, 3_049_990, 1.043),
    ({"encoder": "plain"}, 5_623_529, 0.908),
    ({"encoder": "plain", "q": 1, "p": 1}, 1_463_075, 0.495),
    ({"gaze": "squeezed"}, 4_857_577, 1.223),
    ({"inner_skip": "add"}, 5_874_409, 1.203),
    ({"kd1": 5}, 6_537_961, 1.390),
    ({"norm": "batch", "causal": False}, 5_948_137, 1.331),
]


def multiplications(model, frames=100):
    """Of each convolution, by name."""
    counts = {}

    def count(name):
        def hook(conv, inputs, output):
            transposed = isinstance(conv, nn.ConvTranspose2d)
            channels, places = (conv.in_channels, inputs[0]) if transposed else (conv.out_channels, output)
            counts[name] = conv.weight.numel() // channels * places.numel()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count(name))
    model.network(torch.zeros(1, model.stft.num_bins, frames, dtype=torch.complex64, device="meta"))
    return counts


@pytest.mark.parametrize("conf, parameters, giga", TABLE, ids=lambda value: str(value) if value else "published")
def test_parameters_and_multiplications(conf, parameters, giga):
    with torch.device("meta"):
        model = GaGNet(**conf)
    assert num_parameters(model) == parameters
    assert round(sum(multiplications(model).values()) / 1e9, 3) == giga


def test_parameters_and_multiplications_of_the_parts():
    with torch.device("meta"):
        model = GaGNet()
    counts = multiplications(model)

    def mega(part):
        return round(sum(n for name, n in counts.items() if name.startswith(f"{part}.")) / 1e6, 1)

    parts = {
        "encoder": (525_376, 791.9),
        "encoder.0": (140_096, 277.0),
        "encoder.1": (149_312, 304.7),
        "encoder.2": (111_936, 136.4),
        "encoder.3": (74_560, 54.1),
        "encoder.4": (49_472, 19.7),
        "ggms.0": (1_807_587, 179.7),
        "ggms.0.glance": (701_345, 69.8),
        "ggms.0.gaze": (1_106_242, 109.9),
        "ggms.0.glance.paths.0.0": (45_440, 4.5),
    }
    found = {part: (num_parameters(model.get_submodule(part)), mega(part)) for part in parts}
    assert found == parts


def test_bins_behind_each_layer():
    model, widths = build(n_fft=320, win_length=320, hop_length=160, d_feat=16), []
    for layer in model.encoder:
        layer.register_forward_hook(lambda _, inputs, output: widths.append(tuple(output.shape)))
    spec = model.analysis(noise(1, 16_000))
    assert spec.shape == (1, 161, 101)
    model.network(spec)
    assert widths == [(1, 8, 101, 79), (1, 8, 101, 39), (1, 8, 101, 19), (1, 8, 101, 9), (1, 4, 101, 4)]


def test_state_dict_names_are_stable():
    names = list(build(encoder="plain", q=1, dilations=(1,)).state_dict())
    layer = ["conv.weight", "conv.bias", "norm.weight", "norm.bias", "activation.weight"]
    temporal = [f"layers.{name}.weight" for name in (0, 1)] + ["layers.2.weight", "layers.2.bias"]
    temporal += [f"layers.{name}.weight" for name in (3, 4)] + ["layers.5.weight", "layers.5.bias", "layers.6.weight"]
    path = [f"0.{name}" for name in temporal] + ["1.weight", "1.bias"]
    blocks = [("glance", 1), ("gaze", 2)]
    expected = [f"encoder.{k}.{name}" for k in range(5) for name in layer]
    for block, paths in blocks:
        expected += [f"ggms.0.{block}.gate.weight", f"ggms.0.{block}.gate.bias"]
        expected += [f"ggms.0.{block}.paths.{k}.{name}" for k in range(paths) for name in path]
    assert names == expected
    unet = [f"encoder.0.unet.{way}.{k}" for way in ("down", "up") for k in range(4)]
    assert [
        n.removesuffix(".0.weight")
        for n in build().state_dict()
        if n.startswith("encoder.0.unet") and n.endswith(".0.weight")
    ] == unet


# ---------------------------------------------------------------- time


def seen_frames(model, frame, frames):
    """How many frames before and behind one of the output's change it; with norms that look at no other frame."""
    spec = torch.randn(1, 65, frames, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    spec = spec.to(torch.complex128).requires_grad_()
    output = model.double().network(spec)[-1]
    torch.view_as_real(output)[:, :, frame].sum().backward()
    seen = torch.nonzero(spec.grad[0].abs().amax(0))
    return frame - seen.min().item(), seen.max().item() - frame


@pytest.mark.parametrize(
    "conf, past, future",
    [({}, 209, 0), ({"causal": False}, 107, 102), ({"q": 1}, 73, 0), ({"q": 1, "kd1": 5}, 141, 0)],
)
def test_time_context_of_the_published_system(conf, past, future):
    model = build(**{"norm": "batch", "encoder": "plain", "p": 2, **conf})
    assert seen_frames(model, frame=past + 3, frames=past + future + 6) == (past, future)


@pytest.mark.parametrize(
    "causal, kind, level",
    [
        *((True, kind, "cumulative") for kind in NORMS),
        (True, "cumulative", "none"),
        (True, "cumulative", "utterance"),
        (False, "cumulative", "cumulative"),
    ],
)
def test_causal_means_what_it_says(causal, kind, level):
    model = build(norm=kind, causal=causal, level=level)
    assert model.causal == (causal and kind in CAUSAL and level != "utterance")
    assert model.latency == (126 if model.causal else None)  # less the zero at which Hann's 128 begin
    x = noise(1, 1_500)
    changed = x.clone()
    changed[:, 1_000:] *= -3
    with torch.no_grad():
        difference = (model(x) - model(changed))[0].abs()
    if model.causal:
        assert difference[: 1_000 - 126].max() <= 1e-6
        assert difference[1_000 - 126 : 1_000].max() > 1e-5  # the latency is no larger than it need be
    else:
        assert difference[: 1_000 - 128].max() > 1e-6


# ---------------------------------------------------------------- level, compression, reconstruction


def test_gain_one_and_no_residual_give_back_the_input():
    model = build(q=2, glance="relu")
    for ggm in model.ggms:
        for path in (*ggm.glance.paths, *ggm.gaze.paths):
            nn.init.zeros_(path[-1].weight)
            nn.init.zeros_(path[-1].bias)
        nn.init.ones_(ggm.glance.paths[0][-1].bias)
    x = noise(2, 999)
    for stage in model.stages(x):
        torch.testing.assert_close(stage, x, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("level", ["utterance", "cumulative", "none"])
def test_decode_undoes_encode(level, exponent):
    model = build(level=level, exponent=exponent)
    x = 0.01 * noise(2, 1_600)
    spec = model.analysis(x)
    scale = model.level(spec)
    back = model.synthesis(model.decode(model.encode(spec, scale), scale), 1_600)
    torch.testing.assert_close(back, x, atol=1e-7, rtol=1e-4)


def test_encoded_magnitudes_are_roots_of_those_at_unit_power():
    model = build()
    x = noise(1, 32_000)
    spec = model.analysis(x)
    unit = model.analysis(x / x.square().mean().sqrt())
    encoded = model.encode(spec, model.level(spec))
    torch.testing.assert_close(encoded, unit.abs().sqrt() * torch.exp(1j * unit.angle()), rtol=0.01, atol=0.01)
    plain = build(exponent=1.0, level="none")
    torch.testing.assert_close(plain.encode(spec, None), spec)


@pytest.mark.parametrize("level, follows", [("utterance", True), ("cumulative", True), ("none", False)])
def test_the_level_of_the_input_is_that_of_the_output(level, follows):
    model, x = build(level=level), noise(1, 2_000)
    with torch.no_grad():
        loud, quiet = model(x), model(0.05 * x)
    assert torch.allclose(0.05 * loud, quiet, atol=1e-5) == follows


def test_the_glance_gain_and_the_gaze_residual_are_what_is_published():
    model = build(q=1, gaze="squeezed", encoder="plain")
    spec = torch.randn(2, 65, 7, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    ggm, seen = model.ggms[0], {}
    for name in ("glance", "gaze"):
        getattr(ggm, name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    estimate = model.network(spec)[0]
    (z, gain), (_, residual) = seen["glance"], seen["gaze"]
    assert z.shape == (2, 8 + 130, 7, 1) and gain.shape == (2, 65, 7, 1) and residual.shape == (2, 130, 7, 1)
    torch.testing.assert_close(z[:, 8:, :, 0], torch.cat([spec.real, spec.imag], 1))
    expected = gain[..., 0].sigmoid() * spec.abs() * torch.exp(1j * spec.angle())
    expected = expected + torch.complex(residual[:, :65, :, 0], residual[:, 65:, :, 0])
    torch.testing.assert_close(estimate, expected, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("kind", NORMS)
def test_single_precision_is_enough_for_every_norm(kind):
    model, x = build(norm=kind, q=3, p=2, cd1=32), noise(1, 1_600)
    with torch.no_grad():
        single = model(x)
        exact = model.double()(x.double())
    assert exact.dtype == torch.float64
    assert (single - exact).norm() < 1e-4 * exact.norm()


# ---------------------------------------------------------------- every variant

VARIANTS = [
    {"encoder": "plain"},
    {"gaze": "squeezed"},
    {"inner_skip": "add"},
    {"glance": "tanh"},
    {"glance": "relu"},
    {"causal": False},
    {"q": 1, "dilations": (1,)},
    {"kd1": 5, "first_kernel": (3, 5)},
    {"exponent": 1.0, "level": "none"},
    {"n_fft": 192, "win_length": 128, "d_feat": 14},
    *({"norm": kind} for kind in NORMS),
]


@pytest.mark.parametrize("conf", VARIANTS, ids=str)
def test_variants_keep_the_length_and_utterances_apart_and_train(conf):
    model, x = build(**conf), noise(2, 1_001)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:], model(x[1:]), atol=1e-5, rtol=0)
        assert all(model(noise(1, length)).shape == (1, length) for length in (1, 63, 64, 65))
        assert torch.isfinite(model(torch.zeros(1, 1_001))).all()
    stages = model.train().stages(x)
    assert len(stages) == len(model.ggms) and all(stage.shape == x.shape for stage in stages)
    sum(stage.square().sum() for stage in stages).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("length", [1, 64, 100])
def test_a_batch_that_is_too_short_to_be_mirrored_trains(length):
    objective = Supervised(build(q=1), RIMagnitude(), optim_conf={"lr": 1e-3})
    batch = {"ids": ["a", "b"], "noisy": noise(2, length), "clean": noise(2, length, seed=1)}
    result = objective.step(batch | {"lengths": torch.tensor([1, length])})
    assert torch.isfinite(result["loss"]) and torch.isfinite(result["grad_norm"])


@pytest.mark.parametrize("kind", ["instance", "cumulative", "batch"])
def test_gradients_in_silence_are_finite(kind):
    model = build(norm=kind).train()
    model(torch.zeros(2, 640)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "conf, message",
    [
        (
            {"n_fft": 400, "win_length": 400},
            "n_fft is 400, which leaves 99 bins in layer 1 .* n_fft 384 and 386 would fit",
        ),
        ({"n_fft": 512}, "d_feat is 8, but n_fft 512 leaves 7 bins behind the encoder; .* such as 56"),
        ({"win_length": 400}, "win_length is 400, expected 2 to n_fft"),
        ({"exponent": 0.0}, "exponent is 0.0, expected more than 0 and at most 1"),
        ({"causal": False, "kd1": 2}, "kd1 is 2, expected an odd number with causal: false"),
        *(({name: 0}, f"GaGNet: {name} is 0, expected at least 1") for name in ("q", "p", "kd1", "cd1", "channels")),
        *(({name: -1}, f"GaGNet: {name} is -1, expected at least 1") for name in ("q", "p", "kd1", "sample_rate")),
        ({"dilations": ()}, r"dilations is \[\], expected at least one"),
        ({"dilations": (1, -1)}, "dilations has -1, expected sizes of at least 1"),
        ({"first_kernel": (2, 0)}, "first_kernel has 0, expected sizes of at least 1"),
        ({"first_kernel": (2,)}, r"first_kernel is \[2\], expected two numbers"),
        ({"first_kernel": (2, 5, 3)}, r"first_kernel is \[2, 5, 3\], expected two numbers"),
        ({"first_kernel": (2, 5000)}, "n_fft is 128, which leaves .* would fit"),
        (
            {"encoder": "plain", "n_fft": 40, "win_length": 40, "hop_length": 20},
            "leaves 0 bins in layer 4 of the encoder, but it needs at least 1; n_fft",
        ),
        ({"n_fft": -128}, "n_fft is -128, expected an even number from 2 on"),
        ({"norm": "layer"}, "GaGNet: norm is 'layer', expected one of instance"),
        ({"level": "peak"}, "level is 'peak', expected one of none, utterance, cumulative"),
        ({"encoder": "u3"}, "encoder is 'u3', expected one of u2, plain"),
        ({"inner_skip": "sum"}, "inner_skip is 'sum', expected one of cat, add"),
        ({"glance": "gelu"}, "glance is 'gelu', expected one of sigmoid, tanh, relu"),
        ({"gaze": "both"}, "gaze is 'both', expected one of separate, squeezed"),
    ],
)
def test_values_that_do_not_fit_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        build(**conf)


@pytest.mark.parametrize("n_fft", [384, 386])
def test_the_sizes_that_a_refusal_names_do_fit(n_fft):
    build(n_fft=n_fft, d_feat=840)(noise(1, 1_000))
