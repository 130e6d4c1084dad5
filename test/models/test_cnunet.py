import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from senet.errors import UserError
from senet.layers.memory import with_past
from senet.models.cnunet import (
    Attention,
    CNUNet,
    ComplexSubPixelConv,
    DenseBlock,
    DilatedConv,
    NestedBlock,
    NUNet,
    SubPixelConv,
    Unit,
    join,
    recent_sum,
)

SMALL = {"n_fft": 32, "hop_length": 8, "win_length": 24, "channels": 8, "inner": 8, "depths": (3, 2), "dense_layers": 3}


def small(cls=CNUNet, **conf):
    torch.manual_seed(0)
    return cls(**SMALL | conf).eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


def macs_per_frame(model):
    """Multiplications of all convolutions for one more frame; a network on the meta device."""

    def macs(frames):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.network(torch.zeros(1, 257, frames, dtype=torch.complex64, device="meta"))
        return counter.get_total_flops() / 2

    return macs(165) - macs(164)


# ---------------------------------------------------------------- sizes


def test_cnunet_has_the_published_sizes():
    with torch.device("meta"):
        model = CNUNet()
        assert count(model) == count(CNUNet(wiring="released")) == 1_486_806
    assert [count(block) for block in model.encoder] == [150_220, 127_273, 108_614, 108_614, 108_614, 89_955]
    for part in range(2):
        sizes = [count(block) for block in model.decoder[part]]
        assert sizes == [44_696, 54_586, 54_586, 54_586, 64_476, 76_510]
        assert [count(up) for up in model.upsample[part]] == [1_568] * 6
    assert [count(down) for down in model.downsample] == [6_208] * 6
    assert [count(model.entry), count(model.dense), count(model.output)] == [321, 38_121, 130]
    per_frame = macs_per_frame(model)
    assert round(per_frame / 1e6, 2) == 46.14
    assert round(163 * per_frame / 1e9, 3) == 7.521 and round(160 * per_frame / 1e9, 2) == 7.38


@pytest.mark.parametrize(
    "tls, ctfa, parameters, gmacs",
    [
        (False, False, 2_582_782, (11.02, 10.82)),
        (True, False, 2_779_390, (11.76, 11.55)),
        (False, True, 2_633_854, (11.36, 11.15)),
        (True, True, 2_830_462, (12.10, 11.88)),
    ],
)
def test_the_four_nunets_have_the_published_sizes(tls, ctfa, parameters, gmacs):
    with torch.device("meta"):
        model = NUNet(tls=tls, ctfa=ctfa)
    assert count(model) == parameters
    per_frame = macs_per_frame(model)
    assert (round(163 * per_frame / 1e9, 2), round(160 * per_frame / 1e9, 2)) == gmacs


def test_the_blocks_of_nunet_have_the_published_sizes():
    with torch.device("meta"):
        model = NUNet()
    assert [count(block) for block in model.encoder] == [235_205, 204_259, 173_313, 173_313, 173_313, 142_367]
    assert [count(block) for block in model.decoder] == [171_039, 208_129, 208_129, 208_129, 245_219, 282_309]
    assert [count(model.downsample[0]), count(model.upsample[0])] == [12_352, 49_280]
    assert [count(model.entry), count(model.dense), count(model.output)] == [257, 35_624, 65]


def test_elements_have_the_published_sizes():
    encoder = NestedBlock(64, 64, 32, 6, 7, "global", attention=32, parts=2, dense_parts=2, arithmetic="complex")
    decoder = NestedBlock(64, 32, 16, 6, 7, "global", skips="augmented", attention=32, dense_parts=2)
    assert count(encoder.entry) == 4_289
    assert [count(down) for down in encoder.down] == [12_385] + [6_241] * 5
    assert [count(up) for up in encoder.up] == [12_418] * 5 + [24_834]
    assert [count(encoder.dense), count(decoder.dense)] == [11_129, 3_585]
    assert [count(encoder.attention), count(decoder.attention)] == [2 * 2_144, 2_144]
    assert [count(up[1]) for up in decoder.up] == [6_209] * 5 + [12_417]
    assert [count(down[0]) for down in decoder.down] == [2_080] + [528] * 5
    assert [count(up[0]) for up in decoder.up] == [1_568] * 6


# ---------------------------------------------------------------- layers


def test_sub_pixels_are_the_two_halves_of_the_channels():
    conv = SubPixelConv(3, 5)
    x = noise(2, 3, 4, 6)
    plain = torch.nn.functional.conv2d(torch.nn.functional.pad(x, (1, 1, 1, 0)), conv.weight, conv.bias)
    found = conv(x)
    assert found.shape == (2, 5, 4, 12)
    torch.testing.assert_close(found[..., 0::2], plain[:, :5])
    torch.testing.assert_close(found[..., 1::2], plain[:, 5:])


def test_grouped_sub_pixels_are_two_convolutions():
    conv = SubPixelConv(6, 4, groups=2)
    halves = [SubPixelConv(3, 2), SubPixelConv(3, 2)]
    for half, weight, bias in zip(halves, conv.weight.chunk(2), conv.bias.chunk(2), strict=True):
        half.weight.data, half.bias.data = weight, bias
    x = noise(2, 6, 4, 5)
    expected = torch.cat([half(part) for half, part in zip(halves, x.chunk(2, 1), strict=True)], 1)
    torch.testing.assert_close(conv(x), expected)


def test_complex_sub_pixels_follow_the_complex_product():
    torch.manual_seed(0)
    conv = ComplexSubPixelConv(6, 4)
    real, imag = SubPixelConv(3, 2), SubPixelConv(3, 2)
    real.load_state_dict(conv.real.state_dict())
    imag.load_state_dict(conv.imag.state_dict())
    x = noise(2, 6, 4, 5)
    r, i = x.chunk(2, 1)
    expected = torch.cat([real(r) - imag(i), imag(r) + real(i)], 1)
    torch.testing.assert_close(conv(x), expected, atol=1e-6, rtol=1e-5)


def test_a_complex_product_by_hand():
    conv = ComplexSubPixelConv(2, 2)  # one complex channel to one of twice the bins
    for weights, (first, second) in ((conv.real, (2.0, 0.0)), (conv.imag, (3.0, 1.0))):
        torch.nn.init.zeros_(weights.weight)
        torch.nn.init.zeros_(weights.bias)
        weights.weight.data[:, 0, 1, 1] = torch.tensor([first, second])  # the present frame and bin
    x = torch.tensor([5.0, 7.0])[None, :, None, None]  # 5 + 7j, one frame, one bin
    # (2 + 3j)(5 + 7j) = -11 + 29j at the even bin, 1j (5 + 7j) = -7 + 5j at the odd one
    assert conv(x)[0, :, 0].tolist() == [[-11.0, -7.0], [29.0, 5.0]]


def test_parts_are_joined_and_normalised_apart():
    a, b = noise(1, 4, 2, 3), noise(1, 2, 2, 3, seed=1)
    assert torch.equal(join([a, b], 2), torch.cat([a[:, :2], b[:, :1], a[:, 2:], b[:, 1:]], 1))
    unit = Unit(torch.nn.Identity(), 4, "global", parts=2)
    scaled = torch.cat([a[:, :2], 100 * a[:, 2:] + 3], 1)
    torch.testing.assert_close(unit(scaled), unit(a), atol=1e-5, rtol=1e-5)


def test_attention_follows_its_formula():
    torch.manual_seed(0)
    attention, x = Attention(4, frames=3), noise(2, 4, 7, 5)
    frame, bin = torch.empty_like(x), torch.empty_like(x)
    for t in range(7):
        present = x[:, :, t : t + 1].mean(3, keepdim=True)
        recent = x[:, :, max(t - 2, 0) : t + 1].sum(2, keepdim=True) / 3
        frame[:, :, t] = attention.time_gate(attention.time_squeeze(present))[:, :, 0]
        bin[:, :, t] = attention.frequency_gate(attention.frequency_squeeze(recent))[:, :, 0]
    torch.testing.assert_close(attention(x), x * frame * bin)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 32])
def test_recent_frames_are_summed_with_zeros_before_the_first(frames):
    x = noise(2, 3, 20, 4)
    expected = torch.stack([x[:, :, max(t - frames + 1, 0) : t + 1].sum(2) for t in range(20)], 2)
    torch.testing.assert_close(recent_sum(with_past(x, frames - 1), frames), expected)


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_training_computes_the_same_dilated_convolution(dilation):
    torch.manual_seed(0)
    conv, x = DilatedConv(12, 4, dilation), noise(2, 12, 7, 3)
    with torch.no_grad():
        expected = conv.mix(conv.grouped(x))
        torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-5)
    conv(x).square().sum().backward()
    found = [p.grad.clone() for p in conv.parameters()]
    conv.zero_grad()
    conv.mix(conv.grouped(x)).square().sum().backward()
    for gradient, parameter in zip(found, conv.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-4, rtol=1e-4)


def test_the_dense_block_reads_what_came_before_newest_first():
    torch.manual_seed(0)
    block, x = DenseBlock(8, 3, "frame", parts=2), noise(1, 8, 9, 5)
    outputs = [block.entry(x)]
    for layer in block.layers:
        halves = [y[:, :2] for y in outputs[::-1]] + [y[:, 2:] for y in outputs[::-1]]
        outputs.append(layer(torch.cat(halves, 1)))
    torch.testing.assert_close(block(x), block.output(outputs[-1]))


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("cls", [CNUNet, NUNet])
def test_output_has_input_length_and_follows_the_published_framing(cls):
    model = cls(channels=8, inner=8, depths=(2, 1), dense_layers=1).eval()
    assert model.analysis(torch.zeros(1, 16000)).shape == (1, 257, 163)
    with torch.no_grad():
        for length in (1, 99, 100, 15999, 16050):
            assert model(0.1 * noise(2, length)).shape == (2, length)


@pytest.mark.parametrize("cls", [CNUNet, NUNet])
@pytest.mark.parametrize("kind", ["global", "frame", "cumulative"])
def test_the_norm_decides_whether_the_future_changes_the_past(cls, kind):
    model = small(cls, norm=kind)
    assert (model.causal, model.latency) == ((False, None) if kind == "global" else (True, 23))
    x = 0.1 * noise(1, 400)
    changed = x.clone()
    changed[:, 200:] *= -3
    with torch.no_grad():
        difference = (model(x) - model(changed))[0].abs()
    if kind == "global":
        assert difference[:100].max() > 1e-4
    else:
        assert difference[: 200 - 16].max() == 0  # a window less a hop, as sample 200 begins a hop
        assert difference[200 - 16 : 200].max() > 0


@pytest.mark.parametrize(
    "cls, conf",
    [
        (CNUNet, {"augmented": False}),
        (CNUNet, {"arithmetic": "real"}),
        (CNUNet, {"attention": "all"}),
        (CNUNet, {"attention": "none"}),
        (CNUNet, {"attention_frames": 8}),
        (NUNet, {"tls": False}),
        (NUNet, {"ctfa": False}),
        (NUNet, {"norm": "frame"}),
    ],
)
def test_variants_learn_in_every_parameter(cls, conf):
    model = small(cls, **conf).train()
    model(0.1 * noise(2, 160)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_ablations_take_away_what_they_name():
    with torch.device("meta"):
        full, two_level, real = CNUNet(), CNUNet(augmented=False), CNUNet(arithmetic="real")
        attended, plain = CNUNet(attention="all"), CNUNet(attention="none")
    reductions = 2 * 1_568 * (6 + 5 + 4 + 4 + 4 + 3)
    assert count(full) - count(two_level) == reductions
    assert count(full) == count(real)
    assert count(full) - count(plain) == 4 * 2_144 and count(attended) - count(plain) == 6 * 4 * 2_144


def test_released_wiring_crosses_three_local_skips():
    conf = {"channels": 8, "inner": 8, "dense_layers": 1}
    torch.manual_seed(0)
    consistent, released = CNUNet(**conf).eval(), CNUNet(**conf, wiring="released").eval()
    released.load_state_dict(consistent.state_dict())
    taken = {}
    for part in range(2):
        for stage, block in enumerate(released.decoder[part], 1):
            block.register_forward_pre_hook(lambda _, args, key=(part, stage): taken.update({key: args[1]}))
    given = {}
    for stage, block in enumerate(released.encoder, 1):
        block.register_forward_hook(lambda _, args, outputs, stage=stage: given.update({stage: outputs[1]}))
    x = 0.1 * noise(1, 1000)
    with torch.no_grad():
        assert not torch.equal(released(x), consistent(x))
    crossed = set()
    for (part, stage), local in taken.items():
        for level, (found, both) in enumerate(zip(local, given[7 - stage], strict=True), 1):
            own, other = both.chunk(2, 1)[part], both.chunk(2, 1)[1 - part]
            assert torch.equal(found, own) or torch.equal(found, other)
            if not torch.equal(found, own):
                crossed.add((stage, "real" if part == 0 else "imaginary", level))
    assert crossed == {(3, "imaginary", 4), (4, "imaginary", 4), (5, "real", 4)}


def test_nunet_keeps_the_noisy_phase():
    model = small(NUNet)
    spec = model.analysis(0.1 * noise(1, 160))
    with torch.no_grad():
        (estimate,) = model.network(spec)
    assert not estimate[:, 0].any()
    factor = estimate[:, 1:] / spec[:, 1:]
    torch.testing.assert_close(factor.imag, torch.zeros_like(factor.imag), atol=1e-5, rtol=0)


@pytest.mark.parametrize("cls", [CNUNet, NUNet])
def test_double_precision_is_kept(cls):
    model, x = small(cls), 0.1 * noise(1, 400)
    with torch.no_grad():
        single, double = model(x), model.double()(x.double())
        moved = model(x.double() + 1e-12 * noise(1, 400, seed=1))
    torch.testing.assert_close(single, double.float(), atol=1e-5, rtol=0)
    assert 0 < (double - moved).abs().max() < 1e-9


@pytest.mark.parametrize("clamp_training", [True, False])
def test_the_output_is_limited_in_training_as_chosen(clamp_training):
    model = small(clamp_training=clamp_training)
    spec = model.analysis(3 * noise(1, 160))
    assert model.synthesis(spec, 160).abs().max() == 1
    assert (model.train().synthesis(spec, 160).abs().max() == 1) == clamp_training


@pytest.mark.parametrize(
    "cls, conf, message",
    [
        (
            CNUNet,
            {"n_fft": 480, "win_length": 400},
            r"n_fft is 480, expected 512, 1024, 1536, \.\.\., because .* n_fft / 2 bins",
        ),
        (NUNet, {"depths": (9,)}, "n_fft is 512, expected 1024, 2048, .* are halved 9 times"),
        (CNUNet, {"channels": 30}, "channels is 30, expected 4, 8, 12, "),
        (CNUNet, {"inner": 12}, "inner is 12, expected 8, 16, 24"),
        (NUNet, {"inner": 0}, "inner is 0, expected 2, 4, 6"),
        (CNUNet, {"attention_frames": 0}, "CNUNet: attention_frames is 0, expected at least 1"),
        (NUNet, {"depths": (2, 0)}, "NUNet: depths has 0, expected sizes of at least 1"),
        (NUNet, {"depths": ()}, r"NUNet: depths is \[\], expected at least one"),
        (CNUNet, {"n_fft": -512}, "n_fft is -512, expected 512, 1024"),
        (CNUNet, {"sample_rate": 0}, "CNUNet: sample_rate is 0, expected at least 1"),
        (CNUNet, {"norm": "layer"}, "CNUNet: norm is 'layer', expected one of instance, "),
        (CNUNet, {"attention": "some"}, "attention is 'some', expected one of outermost, all, none"),
        (CNUNet, {"wiring": "released", "depths": (2, 1)}, r"expected \[6, 5, 4, 4, 4, 3\]"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(cls, conf, message):
    with pytest.raises(UserError, match=message):
        cls(**conf)
