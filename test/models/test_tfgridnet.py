import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from senet.errors import UserError
from senet.losses.waveform import SISDR
from senet.models.tfgridnet import TFGridNet

STFT = {"n_fft": 64, "win_length": 64, "hop_length": 32}
SMALL = {**STFT, "n_layers": 2, "emb_dim": 8, "lstm_units": 6, "n_heads": 2, "approx_qk_dim": 66}
ESPNET = {"frontend": "ri", "qk_rounding": "ceil", "window": "hann"}
ESPNET_SIZES = {
    "n_fft": 128,
    "win_length": 128,
    "hop_length": 64,
    "n_layers": 6,
    "emb_dim": 48,
    "lstm_units": 192,
    "approx_qk_dim": 512,
}
VARIANTS = [
    {},
    {"variant": "v2"},
    {"variant": "v3"},
    {"variant": "v1", "emb_hs": 4},
    {"variant": "v2", "emb_hs": 4},
    {"variant": "v2", "emb_hs": 2},
    {"frontend": "ri"},
    {"progressive": True},
]
each_variant = pytest.mark.parametrize("conf", VARIANTS, ids=lambda conf: "-".join(map(str, conf.values())) or "v1")


def build(seed=0, **conf):
    torch.manual_seed(seed)
    return TFGridNet(**{**SMALL, **conf}).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


# ---------------------------------------------------------------- published sizes


@pytest.mark.parametrize(
    "conf, expected",
    [
        ({}, 2_359_523),  # Acceleration123, DL
        ({"progressive": True}, 2_361_835),  # PL
        ({**ESPNET, **ESPNET_SIZES}, 8_175_008),
        ({**ESPNET, **ESPNET_SIZES, "variant": "v2"}, 8_175_008),
        ({**ESPNET, **ESPNET_SIZES, "variant": "v3", "approx_qk_dim": 4 * 65}, 8_042_336),  # 4 channels given
        ({**ESPNET, **ESPNET_SIZES, "n_fft": 512, "win_length": 512, "hop_length": 256}, 8_381_504),
        (ESPNET, 2_360_835),
        ({**ESPNET, "variant": "v2"}, 2_360_835),
        ({**ESPNET, "variant": "v3"}, 2_115_075),
        ({**ESPNET, "variant": "v2", "emb_hs": 4}, 2_361_795),
    ],
)
def test_parameter_counts_of_the_published_sizes(conf, expected):
    with torch.device("meta"):
        assert num_parameters(TFGridNet(**conf)) == expected


def test_parameter_counts_of_the_parts():
    with torch.device("meta"):
        model = TFGridNet()
    parts = (model.phase_encoder, model.conv, model.norm, *model.blocks, *model.deconvs)
    assert [num_parameters(part) for part in parts] == [32, 1184, 64, *[471_533] * 5, 578]
    block = model.blocks[0]
    for path in (block.intra, block.inter):
        assert [num_parameters(part) for part in (path.norm, path.lstm, path.join)] == [64, 184_000, 25_632]
    attention = block.attention
    heads = [num_parameters(part) for part in (attention.query, attention.key, attention.value)]
    assert heads == [4 * 2173, 4 * 2173, 4 * 4345]
    assert num_parameters(attention.output) == 17_377


def test_multiplications_per_second_are_those_by_hand():
    """Of one block, 5 of which make 32.9 G, and what is around them."""
    steps = 63 * 252 + 60 * 255  # of the LSTMs over frequency and over time
    lstm = 2 * 4 * 100 * (4 * 32 + 100) * steps
    join = 200 * 32 * 4 * steps
    pointwise = 63 * 255 * 32 * (16 + 16 + 32 + 32)
    attention = 63 * 63 * 255 * 4 * (4 + 8)
    block = lstm + join + pointwise + attention
    assert block == pytest.approx(6.58e9, rel=1e-3)
    borders = 4 * 3 * 4 * 63 * 257 + 9 * 4 * 32 * 63 * 255 + 9 * 32 * 2 * 63 * 255
    with torch.device("meta"):
        model, spec = TFGridNet(n_layers=1), torch.empty(1, 257, 63, dtype=torch.complex64)
    with FlopCounterMode(display=False) as counter:
        model.network(spec)
    assert counter.get_total_flops() / 2 == pytest.approx(block + borders, rel=1e-3)


# ---------------------------------------------------------------- behaviour


@each_variant
@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 1000])  # 64: 3 frames, fewer than a window
def test_output_has_input_length(conf, length):
    model, x = build(**conf), noise(2, length)
    with torch.no_grad():
        stages = model.stages(x)
        assert [stage.shape for stage in stages] == [x.shape] * (2 if conf.get("progressive") else 1)
        assert torch.equal(model(x), stages[-1])


@each_variant
def test_an_utterance_alone_equals_the_same_in_a_batch(conf):
    model, x = build(**conf), noise(3, 2000)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=0)


@each_variant
def test_silence_has_finite_output_and_gradients(conf):
    model = build(**conf)
    x = torch.zeros(2, 1000, requires_grad=True)
    sum(stage.square().sum() for stage in model.stages(x)).backward()
    assert torch.isfinite(model(x)).all() and torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_phase_front_end_tells_polarity_by_its_biases_alone():
    model, x = build(), noise(1, 2000)
    with torch.no_grad():
        assert (model(-x) - model(x)).abs().max() > 1e-3
        for conv in (model.phase_encoder.real, model.phase_encoder.imag):
            conv.bias.zero_()
        torch.testing.assert_close(model(-x), model(x), atol=1e-6, rtol=0)


def test_the_phase_front_end_is_the_root_of_a_complex_convolutions_magnitude():
    encoder, x = build().phase_encoder, noise(2, 2, 9, 5)
    weight = torch.complex(encoder.real.weight, encoder.imag.weight)[:, 0, :, 0]
    bias = torch.complex(encoder.real.bias - encoder.imag.bias, encoder.real.bias + encoder.imag.bias)
    spec = torch.nn.functional.pad(torch.complex(x[:, 0], x[:, 1]), (0, 0, 1, 1))
    expected = sum(weight[None, :, k, None, None] * spec[:, None, k : k + 9] for k in range(3)) + bias[:, None, None]
    torch.testing.assert_close(encoder(x), expected.abs() ** 0.5)


@pytest.mark.parametrize("gain", [1e-3, 0.5, 100.0])
def test_the_ri_front_end_scales_its_output_with_its_input(gain):
    model, x = build(frontend="ri"), noise(2, 2000) * torch.tensor([[1.0], [3.0]])
    with torch.no_grad():
        torch.testing.assert_close(model(gain * x) / gain, model(x), atol=1e-5, rtol=1e-4)


def test_the_ri_front_end_divides_by_the_standard_deviation_of_whole_hops():
    model, x = build(frontend="ri"), noise(2, 2016) + 0.05
    torch.testing.assert_close(model.level(model.analysis(x))[:, 0, 0], x.std(1))


@pytest.mark.parametrize(
    "conf, length, expected",
    [
        ({}, 31, (0, 0)),
        ({}, 3, (0, 1)),
        ({"emb_hs": 4}, 31, (0, 1)),
        ({"variant": "v2"}, 31, (3, 3)),
        ({"variant": "v2", "emb_hs": 2}, 31, (2, 3)),
        ({"variant": "v2", "emb_hs": 4}, 3, (0, 1)),
    ],
)
def test_windows_fit_after_the_variants_padding(conf, length, expected):
    assert build(**conf).blocks[0]._padding(length) == expected


def test_v3_runs_with_weights_of_another_transform():
    conf = {"variant": "v3", "qk_rounding": "ceil"}
    model, other = build(**conf), build(**conf, n_fft=128, win_length=128, hop_length=64, approx_qk_dim=126 + 63)
    other.load_state_dict(model.state_dict())


def test_v3_norms_the_channels_of_each_head_and_bin():
    project, x = build(variant="v3").blocks[0].attention.query, noise(2, 5, 31, 8)
    torch.nn.init.normal_(project.weight), torch.nn.init.normal_(project.bias)
    heads = project.linear(x).chunk(2, 3)
    for h, y in enumerate(heads):
        y = torch.where(y > 0, y, 0.25 * y)
        y = (y - y.mean(3, keepdim=True)) / (y.var(3, unbiased=False, keepdim=True) + 1e-5).sqrt()
        expected = y * project.weight[h, 0, 0] + project.bias[h, 0, 0]
        torch.testing.assert_close(project(x)[:, h], expected, atol=1e-5, rtol=1e-4)


def test_joining_is_the_inverse_of_cutting_for_equal_window_and_hop():
    """A v2 whose LSTM hands on its windows and whose linear layer is the identity returns the normalised input."""
    path = build(variant="v2", emb_hs=4, emb_dim=4, lstm_units=8).blocks[0].intra

    class Same(torch.nn.Module):
        def forward(self, x):
            return x, None

    path.lstm = Same()
    torch.nn.init.eye_(path.join.weight), torch.nn.init.zeros_(path.join.bias)
    x = noise(2, 3, 8, 4)
    torch.testing.assert_close(path(x, 2), path.norm(x))
    torch.testing.assert_close(path(x.transpose(1, 2), 1), path.norm(x).transpose(1, 2))


def test_every_frame_attends_to_every_other():
    attention = build().blocks[0].attention
    x = noise(1, 6, 31, 8).requires_grad_()
    attention(x)[0, 2].sum().backward()
    assert (x.grad[0].abs().sum((1, 2)) > 0).all()


def test_progressive_blocks_read_the_sum_of_what_came_before():
    model = build(progressive=True, n_layers=3)
    inputs = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        first, second, third = model.trunk(model.analysis(noise(1, 960)))
    torch.testing.assert_close(inputs[1], inputs[0] + first)
    torch.testing.assert_close(inputs[2], inputs[0] + first + second)


def test_enhancing_computes_only_the_last_of_the_progressive_estimates():
    model, calls = build(progressive=True), []
    for k, deconv in enumerate(model.deconvs):
        deconv.register_forward_hook(lambda *_, k=k: calls.append(k))
    with torch.no_grad():
        model(noise(1, 960))
    assert calls == [1]


@pytest.mark.parametrize("frontend, steps", [("phase", 150), ("ri", 50)])
def test_one_pair_is_learnt_to_15_db(frontend, steps):
    time = torch.arange(8000) / 16000
    voice = sum(torch.sin(2 * torch.pi * k * (150 * time + torch.sin(4 * torch.pi * time))) / k for k in range(1, 9))
    clean = 0.1 * torch.sin(6 * torch.pi * time).relu()[None] * voice
    noisy, lengths = clean + noise(1, 8000) / 2, torch.tensor([8000])
    sizes = {"n_layers": 1, "emb_dim": 16, "lstm_units": 24, "n_heads": 2, "approx_qk_dim": 512}
    torch.manual_seed(0)
    model, loss = TFGridNet(frontend=frontend, variant="v2", emb_hs=4, **sizes), SISDR()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model.stages(noisy), {"clean": clean}, lengths)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    assert loss([model(noisy)], {"clean": clean}, lengths)[0] < -15


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"frontend": "complex"}, "frontend is 'complex', expected one of phase, ri"),
        ({"variant": "v4"}, "variant is 'v4', expected one of v1, v2, v3"),
        ({"qk_rounding": "up"}, "qk_rounding is 'up', expected one of floor, ceil"),
        ({"emb_hs": 5}, "emb_hs is 5, expected 1 to emb_ks = 4"),
        ({"n_fft": 2, "win_length": 2, "hop_length": 1}, "n_fft is 2, expected at least 4"),
        ({"emb_dim": 9}, "emb_dim is 9, expected a multiple of n_heads = 2"),
        ({"approx_qk_dim": 30}, "approx_qk_dim is 30, expected at least the 31 bins"),
    ],
)
def test_values_that_do_not_fit_are_refused(conf, message):
    with pytest.raises(UserError, match=message):
        build(**conf)


SIZES = (
    "sample_rate", "phase_channels", "n_layers", "emb_dim", "emb_ks", "emb_hs", "lstm_units", "n_heads",
    "approx_qk_dim",
)  # fmt: skip


@pytest.mark.parametrize("size", [0, -2])
@pytest.mark.parametrize("name", SIZES)
def test_sizes_below_1_are_refused(name, size):
    with pytest.raises(UserError, match=f"TFGridNet: {name} is {size}, expected at least 1"):
        build(**{name: size})


@pytest.mark.parametrize("n_fft", [4, 6])
def test_the_shortest_transform_works(n_fft):
    model = build(n_fft=n_fft, win_length=4, hop_length=2)
    assert model(noise(1, 50)).shape == (1, 50)
