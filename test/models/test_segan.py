import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from senet import config
from senet.bin.train import get_parser
from senet.errors import UserError
from senet.models import segan
from senet.models.segan import SEGAN, Discriminator, DiscriminatorPlus, SelfAttention, VirtualBatchNorm

SMALL = {"channels": (4, 8, 8, 16), "window": 256}
PLUS = {"channels": (64, 128, 256, 512, 1024), "stride": 4, "padding": "reflect", "skip_gains": True}


def build(cls=SEGAN, seed=0, **conf):
    torch.manual_seed(seed)
    return cls(**{**SMALL, **conf}).eval()


def lively(model, seed=0):
    """The same model with weights and gains as large as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn(p.shape, generator=generator) * (0.5 if name.endswith("gain") else 0.05))
    return model


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


def macs(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


# ---------------------------------------------------------------- sizes

ATTENTION = {  # index: parameters of generator and discriminator
    (): (73_100_049, 24_373_081),
    (2,): (73_106_451, 24_374_362),
    (3,): (73_125_651, 24_378_202),
    (4,): (73_125_651, 24_378_202),
    (5,): (73_202_451, 24_393_562),
    (6,): (73_202_451, 24_393_562),
    (7,): (73_509_651, 24_455_002),
    (8,): (73_509_651, 24_455_002),
    (9,): (74_738_451, 24_700_762),
    (10,): (74_410_770, 25_683_802),
    tuple(range(2, 11)): (77_130_786, 26_227_810),
}


@pytest.mark.parametrize("attention", ATTENTION)
def test_parameter_counts_with_attention(attention):
    with torch.device("meta"):
        networks = [cls(attention=attention, spectral_norm=True) for cls in (SEGAN, Discriminator)]
    assert tuple(map(num_parameters, networks)) == ATTENTION[attention]


@pytest.mark.parametrize(
    "conf, expected",
    [
        ({"num_stages": 2, "shared": True}, 73_100_049),
        ({"num_stages": 4, "shared": True}, 73_100_049),
        ({"num_stages": 2}, 146_200_098),
        ({"num_stages": 3}, 219_300_147),
        ({"num_stages": 4}, 292_400_196),
        ({"num_stages": 2, "shared": True, "attention": (2,)}, 73_106_451),
        ({"num_stages": 2, "attention": (2,)}, 146_212_902),
        ({"num_stages": 2, "shared": True, "attention": (9,)}, 74_738_451),
        ({"num_stages": 2, "attention": (9,)}, 149_476_902),
        ({"num_stages": 2, "attention": (10,)}, 148_821_540),
        ({"num_stages": 3, "shared": True, "attention": (10,)}, 74_410_770),
        ({"num_stages": 3, "attention": (10,)}, 223_232_310),
        (PLUS, 64_770_561),
    ],
)
def test_parameter_counts_of_the_variants(conf, expected):
    with torch.device("meta"):
        assert num_parameters(SEGAN(**conf)) == expected


def test_parameter_counts_of_the_discriminator_of_segan_plus():
    with torch.device("meta"):
        assert num_parameters(DiscriminatorPlus()) == 25_825_793


def test_parameter_counts_of_the_layers():
    with torch.device("meta"):
        generator = SEGAN().generators[0]
    encoder = zip(generator.encoder, generator.encoder_act, strict=True)
    decoder = zip(generator.decoder, generator.decoder_act, strict=True)
    assert [num_parameters(conv) + num_parameters(act) for conv, act in encoder] == [
        528, 15_936, 31_808, 63_616, 127_104, 254_208, 508_160, 1_016_320, 2_032_128, 4_064_256, 16_254_976,
    ]  # fmt: skip
    assert [num_parameters(conv) + num_parameters(act) for conv, act in decoder] == [
        32_506_880, 8_126_976, 4_063_744, 2_031_872, 1_016_064, 508_032, 254_080, 127_040, 63_552, 31_776,
    ]  # fmt: skip
    assert num_parameters(generator.output) == 993


def test_multiplications_per_window():
    with torch.device("meta"):
        model, discriminator, window = SEGAN(), Discriminator(), torch.empty(1, 16384)
        assert abs(macs(lambda: model.network(window)) / 1e6 - 2157.6) < 0.05
        assert abs(macs(lambda: discriminator(window, window)) / 1e6 - 723.3) < 0.05
        model = SEGAN(num_stages=3, shared=True)
        assert abs(macs(lambda: model.network(window)) / 1e6 - 3 * 2157.6) < 0.15


@pytest.mark.parametrize("conf", [{}, PLUS, {"merge": "sum", "z": "none"}, {"attention": (2, 10)}])
def test_the_network_takes_several_windows_lengths(conf):
    with torch.device("meta"):
        model = SEGAN(**conf).eval()
        for length in (16384, 32768):
            assert [stage.shape for stage in model.network(torch.empty(2, length))] == [(2, length)]


def test_a_shared_generator_has_the_same_state_for_every_number_of_stages():
    shapes = [
        {name: value.shape for name, value in build(num_stages=n, shared=True, spectral_norm=True).state_dict().items()}
        for n in (1, 2, 4)
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert len(build(num_stages=3).state_dict()) == 3 * len(build().state_dict())


def test_state_dict_names_are_stable():
    names = set(build(attention=(2, 3), skip_gains=True).state_dict())
    assert names == {
        f"generators.0.{name}"
        for name in (
            *(f"encoder.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")),
            *(f"encoder_act.{i}.weight" for i in range(4)),
            *(f"decoder.{j}.{kind}" for j in range(3) for kind in ("weight", "bias")),
            *(f"decoder_act.{j}.weight" for j in range(3)),
            *(f"skip_gains.{j}" for j in range(3)),
            "output.weight",
            "output.bias",
            *(
                f"{where}.{name}"
                for where in ("encoder_attention.2", "encoder_attention.3", "decoder_attention.0")
                for name in (
                    "gain",
                    *(
                        f"{layer}.parametrizations.weight.{name}"
                        for layer in ("query", "key", "value", "output")
                        for name in ("original", "0.u")
                    ),
                )
            ),
        )
    }


CONF = Path(__file__).resolve().parents[2] / "egs/voicebank_demand/conf"


@pytest.mark.parametrize(
    "name, generators, discriminator",
    [
        ("segan", 73_100_049, 24_373_081),
        ("isegan2", 73_100_049, 24_373_081),
        ("dsegan2", 146_200_098, 24_373_081),
        ("sasegan", 74_738_451, 24_700_762),
        ("isegan_sa", 74_738_451, 24_700_762),
        ("dsegan_sa", 149_476_902, 24_700_762),
        ("segan_plus", 64_770_561 - 2945, 25_825_793),  # 2945 biases, which the released script leaves out
    ],
)
def test_configurations_are_the_published_systems(name, generators, discriminator):
    conf = config.read_yaml(CONF / f"train_{name}.yaml")
    objective = conf["objective_conf"]
    with torch.device("meta"):
        model = config.build("models", conf["model"], conf.get("model_conf"))
        judge = config.build("models", objective["discriminator"], objective.get("discriminator_conf"))
    assert (num_parameters(model), num_parameters(judge)) == (generators, discriminator)
    stages = model.num_stages
    assert conf["loss_conf"]["weights"] == [100 / 2 ** (stages - n) for n in range(1, stages + 1)]
    assert conf.get("seed") == (None if name == "segan_plus" else 111)
    assert conf["crop_seconds"] * 16000 == model.window == 2 * conf["crop_hop_seconds"] * 16000


@pytest.mark.parametrize("name, sizes", [("isegan2", [73_100_049] * 2), ("dsegan2", [219_300_147, 292_400_196])])
def test_more_stages_are_had_as_the_configuration_says(name, sizes):
    path = CONF / f"train_{name}.yaml"
    weights = dict(re.findall(r"(\d): (\[[\d., ]+\])", (CONF / "train_isegan2.yaml").read_text()))
    assert list(weights) == ["3", "4"]
    for (num_stages, text), size in zip(weights.items(), sizes, strict=True):
        words = ["--config", str(path), "--model_conf.num_stages", num_stages, "--loss_conf.weights", text]
        args = get_parser().parse([*words, "--train", "train", "--valid", "valid", "--expdir", "exp"])
        with torch.device("meta"):
            model = config.build("models", args.model, args.model_conf)
        loss = config.build("losses", args.loss, args.loss_conf)
        stages = model.num_stages
        assert (stages, num_parameters(model)) == (int(num_stages), size)
        assert list(loss.weights) == [100 / 2 ** (stages - n) for n in range(1, stages + 1)]


# ---------------------------------------------------------------- layers


def test_a_layer_down_is_a_convolution_with_14_zeros_before_and_15_behind():
    layer = segan.Down(3, 5, 31, 2, "zeros", bias=True)
    x = noise(2, 3, 64)
    padded = torch.cat([torch.zeros(2, 3, 14), x, torch.zeros(2, 3, 15)], 2)
    expected = torch.stack(
        [(padded[:, None, :, 2 * t : 2 * t + 31] * layer.weight).sum((2, 3)) + layer.bias for t in range(32)], 2
    )
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("stride, left", [(2, 14), (4, 13)])
def test_a_layer_up_spreads_each_frame_and_cuts_both_ends(stride, left):
    layer = segan.Up(3, 5, 31, stride, bias=True)
    x = noise(2, 3, 16)
    full = torch.zeros(2, 5, 15 * stride + 31)
    for t in range(16):
        full[:, :, stride * t : stride * t + 31] += torch.einsum("bc,cdk->bdk", x[:, :, t], layer.weight)
    expected = full[:, :, left : left + 16 * stride] + layer.bias[:, None]
    torch.testing.assert_close(layer(x), expected)


def test_down_and_up_keep_even_samples_in_their_place():
    down, up = segan.Down(1, 1, 31, 2, "zeros", bias=False), segan.Up(1, 1, 31, 2, bias=False)
    for layer in (down, up):
        torch.nn.init.zeros_(layer.weight)
        layer.weight.data[0, 0, 14] = 1
    x = noise(1, 1, 64)
    y = up(down(x))
    assert torch.equal(y[:, :, ::2], x[:, :, ::2]) and y[:, :, 1::2].abs().max() == 0


def test_attention_is_the_identity_at_the_start():
    x = noise(2, 16, 32)
    assert torch.equal(SelfAttention(16, 8, 2, 4, spectral_norm=True)(x), x)
    with_attention = build(attention=(1, 2, 3))
    missing, unexpected = with_attention.load_state_dict(build().state_dict(), strict=False)
    assert not unexpected and all("attention" in name for name in missing)
    x = noise(1, 700)
    assert torch.equal(with_attention(x), build()(x))


def test_attention_is_that_of_the_published_code():
    layer = SelfAttention(16, 8, 2, 4, spectral_norm=False)
    layer.gain.data.fill_(0.7)
    x = 10 * noise(1, 16, 12)
    query, key, value = (conv.weight[:, :, 0] @ x[0] for conv in (layer.query, layer.key, layer.value))
    key, value = (torch.stack([m[:, 4 * t : 4 * t + 4].amax(1) for t in range(3)], 1) for m in (key, value))
    weights = torch.softmax(query.T @ key, 1)  # 12 x 3
    expected = x[0] + 0.7 * layer.output.weight[:, :, 0] @ (value @ weights.T)
    assert query.shape == (2, 12) and value.shape == (8, 3)
    torch.testing.assert_close(layer(x)[0], expected)


def test_attention_does_not_enter_the_skips_and_follows_them_in_the_decoder():
    model = lively(build(attention=(1,)))
    generator, seen = model.generators[0], {}
    generator.encoder[1].register_forward_hook(lambda _, args, y: seen.update(skip=y))
    generator.encoder_attention["1"].register_forward_hook(lambda _, args, y: seen.update(encoder=args[0]))
    generator.decoder_attention["1"].register_forward_hook(lambda _, args, y: seen.update(decoder=args[0]))
    model.network(noise(1, 256))
    assert torch.equal(seen["encoder"], generator.encoder_act[1](seen["skip"]))
    assert torch.equal(seen["decoder"][:, 8:], seen["skip"]) and seen["decoder"].shape == (1, 16, 64)


def test_spectral_norm_divides_by_the_largest_singular_value():
    model = build(spectral_norm=True).train()
    for _ in range(100):
        model.network(noise(1, 256))
    generator = model.eval().generators[0]
    for conv in (*generator.encoder, *generator.decoder, generator.output):
        assert abs(torch.linalg.matrix_norm(conv.weight.flatten(1), 2) - 1) < 1e-3


def test_spectral_norm_is_where_it_was_published():
    model = build(attention=(1, 3), spectral_norm=True)
    discriminator = build(Discriminator, attention=(1, 3), spectral_norm=True)
    for network in (model, discriminator):
        plain = [
            name
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d | torch.nn.Linear)
            and not parametrize.is_parametrized(module)
        ]
        assert plain == (["reduce", "score"] if network is discriminator else [])
    model = build(attention=(1,), spectral_norm=True, attn_spectral_norm=False)
    assert not parametrize.is_parametrized(model.generators[0].encoder_attention["1"].query)


def test_an_output_does_not_depend_on_the_outputs_before_it():
    model = lively(build(attention=(2,), spectral_norm=True))
    x = noise(1, 700)
    assert torch.equal(model(x), model(x))


def test_initial_weights_are_those_published():
    model, discriminator = build(channels=(16, 32, 64)), build(Discriminator, channels=(16, 32, 64))
    for conv in (*model.generators[0].encoder[1:], *model.generators[0].decoder, *discriminator.convs[1:]):
        assert conv.weight.abs().max() <= 0.04 and abs(conv.weight.std() - 0.02 * 0.88) < 5e-4  # cut at 2 deviations
        assert conv.bias.abs().max() == 0
    acts = [*model.generators[0].encoder_act, *model.generators[0].decoder_act]
    assert all(act.weight.abs().max() == 0 for act in acts)
    assert abs(discriminator.norms[2].weight.std() - 0.02) < 0.006 and discriminator.norms[2].bias.abs().max() == 0


# ---------------------------------------------------------------- stages and z


def test_each_stage_takes_the_output_of_the_one_before():
    model = lively(build(num_stages=3))
    x, z = noise(2, 256), noise(3, 2, 16, 16)
    stages = model.network(x, z)
    for n, previous in enumerate([x, *stages[:-1]]):
        assert torch.equal(stages[n], model.generators[n](previous, z[n]))


def test_the_loss_of_the_second_stage_reaches_the_first_generator():
    model = lively(build(num_stages=2))
    model.network(noise(2, 256))[1].square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.generators[0].parameters())


def test_z_is_the_same_for_every_window_unless_it_is_to_be_random():
    x = noise(1, 256)
    outputs = {z: lively(build(z=z)).network(x.expand(2, -1))[0] for z in ("fixed", "zeros", "random")}
    assert torch.equal(outputs["fixed"][0], outputs["fixed"][1])
    assert torch.equal(outputs["zeros"][0], outputs["zeros"][1])
    assert not torch.allclose(outputs["random"][0], outputs["random"][1])
    assert not torch.allclose(outputs["fixed"], outputs["zeros"])
    training = lively(build()).train().network(x.expand(2, -1))[0]
    assert not torch.allclose(training[0], training[1])
    assert build(z="none").generators[0].decoder[0].in_channels == 16


def test_the_fixed_z_is_standard_normal_and_differs_between_stages():
    z = SEGAN(channels=(4, 64), window=256, num_stages=2).fixed_z
    assert z.shape == (2, 1, 64, 64) and abs(z.std() - 1) < 0.03 and not torch.equal(z[0], z[1])
    assert torch.equal(z, SEGAN(channels=(4, 64), window=256, num_stages=2, shared=True).fixed_z)
    assert torch.equal(z[:1], SEGAN(channels=(4, 64), window=256).fixed_z)


# ---------------------------------------------------------------- recordings

LENGTHS = [1, 16383, 16384, 16385, 50000]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("overlap", ["none", "hann", "triangular"])
def test_output_has_input_length(overlap, length):
    model = build(channels=(2, 4), window=16384, num_stages=2, overlap=overlap)
    x = noise(2, length)
    with torch.no_grad():
        assert [stage.shape for stage in model.stages(x)] == [(2, length)] * 2


@pytest.mark.parametrize("overlap", ["none", "hann", "triangular"])
@pytest.mark.parametrize("length", [1, 127, 128, 255, 256, 257, 384, 385, 5000])
def test_a_network_that_does_nothing_returns_the_recording(length, overlap, monkeypatch):
    model = build(overlap=overlap)
    monkeypatch.setattr(model, "network", lambda windows: [windows])
    x = noise(2, length)
    torch.testing.assert_close(model(x), x, atol=1e-6, rtol=0)


def test_windows_are_cut_from_the_emphasised_recording_and_joined_before_de_emphasis():
    model = lively(build())
    x = noise(1, 700)
    encoded = F.pad(model.encode(x), (0, 3 * 256 - 700))
    windows = [model.network(encoded[:, start : start + 256])[0] for start in (0, 256, 512)]
    torch.testing.assert_close(model(x), model.decode(torch.cat(windows, 1)[:, :700]), atol=1e-6, rtol=0)


def test_overlapping_windows_are_faded_into_each_other():
    model = lively(build(overlap="triangular"))
    x = noise(1, 512)
    encoded = model.encode(x)
    windows = [model.network(encoded[:, start : start + 256])[0][0] for start in (0, 128, 256)]
    rise = torch.arange(128) / 128
    halves = [
        windows[0][:128],
        (1 - rise) * windows[0][128:] + rise * windows[1][:128],
        (1 - rise) * windows[1][128:] + rise * windows[2][:128],
        windows[2][128:],
    ]
    torch.testing.assert_close(model(x), model.decode(torch.cat(halves)[None]), atol=1e-5, rtol=1e-4)


def test_long_recordings_are_enhanced_in_parts(monkeypatch):
    model = lively(build(num_stages=2))
    x = noise(2, 5000)
    whole = model(x)
    monkeypatch.setattr(segan, "MAX_WINDOWS", 3)
    torch.testing.assert_close(model(x), whole, atol=1e-6, rtol=0)


def test_the_amplitude_map_is_the_published_one():
    samples = torch.tensor([[-32768, 0, 1, 32767]])
    encoded = build(emphasis=0.0).encode(samples / 32768)
    torch.testing.assert_close(encoded, (2 / 65535) * (samples - 32767.0) + 1, atol=1e-7, rtol=0)
    assert encoded[0, 0] == -1 and encoded[0, 3] == 1


def test_encode_and_decode_undo_each_other():
    x = noise(2, 16000)
    model = build()
    torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("overlap", ["none", "triangular"])
def test_latency_is_one_window_and_tight(overlap):
    model = lively(build(overlap=overlap))
    assert model.causal and model.latency == 255
    x = noise(1, 2048)
    changed = x.clone()
    changed[:, 1023:] = noise(1, 1025, seed=1)  # the last sample of a window
    first = (model(x) - model(changed)).abs()[0].gt(1e-7).nonzero()[0].item()
    assert 1023 - model.latency <= first <= 1023 - model.latency + 16


# ---------------------------------------------------------------- discriminator


def test_a_real_pair_meets_plain_batch_norm():
    norm = VirtualBatchNorm(6)
    x = 3 * noise(4, 6, 10) + 1
    torch.testing.assert_close(norm(x, [4]), F.batch_norm(x, None, None, norm.weight, norm.bias, training=True))


def test_other_batches_are_normalised_as_one_more_example_of_the_reference():
    norm = VirtualBatchNorm(6)
    reference, batch, second = 3 * noise(5, 6, 10) + 1, noise(4, 6, 10, seed=1), noise(4, 6, 10, seed=2) - 1
    outputs = norm(torch.cat([reference, batch, second]), [5, 4, 4]).split([5, 4, 4])
    torch.testing.assert_close(outputs[0], norm(reference, [5]))
    for x, output in ((batch, outputs[1]), (second, outputs[2])):
        a = 1 / 5
        m = a * x.mean((0, 2)) + (1 - a) * reference.mean((0, 2))
        q = a * x.square().mean((0, 2)) + (1 - a) * reference.square().mean((0, 2))
        m, q, gain, shift = (v[:, None] for v in (m, q, norm.weight, norm.bias))
        torch.testing.assert_close(output, gain * (x - m) / (1e-5 + q - m**2).sqrt() + shift)


@pytest.mark.parametrize("norm", ["vbn", "bn", "none"])
def test_candidates_judged_together_get_the_scores_they_get_alone(norm):
    model = lively(build(Discriminator, norm=norm, attention=(2,), attn_spectral_norm=False)).train()
    clean, noisy, *fakes = (noise(3, 256, seed=seed) for seed in range(4))
    together = model.judge([clean, *fakes], noisy)
    torch.testing.assert_close(together[0], model(clean, noisy))
    for score, fake in zip(together[1:], fakes, strict=True):
        assert score.shape == (3,)
        torch.testing.assert_close(score, model(fake, noisy, (clean, noisy)))


def test_gradients_flow_through_the_statistics_of_the_reference():
    model = lively(build(Discriminator))
    clean, noisy, fake = (noise(3, 256, seed=seed) for seed in range(3))
    clean.requires_grad_()
    model(fake, noisy, (clean, noisy)).sum().backward()
    assert clean.grad.abs().max() > 0


def test_a_fixed_reference_is_the_first_batch_in_training_and_is_resumed():
    model = lively(build(Discriminator, vbn_ref="fixed"))
    pairs = [(noise(3, 256, seed=2 * k), noise(3, 256, seed=2 * k + 1)) for k in range(3)]
    model(*pairs[2])  # not in training
    assert model.reference.shape[0] == 0
    model.train()(*pairs[0])
    score = model(*pairs[1], pairs[2])
    torch.testing.assert_close(score, lively(build(Discriminator))(*pairs[1], pairs[0]))
    resumed = build(Discriminator, vbn_ref="fixed").train()
    resumed.load_state_dict(model.state_dict())
    torch.testing.assert_close(resumed(*pairs[1]), score)
    assert "reference" not in build(Discriminator).state_dict()


def test_the_second_discriminator_input_matters():
    for cls, conf in ((Discriminator, {}), (DiscriminatorPlus, {"channels": (4, 8), "padding": "zeros"})):
        model = lively(build(cls, **conf))
        clean, noisy, other = (noise(3, 256, seed=seed) for seed in range(3))
        assert not torch.allclose(model(clean, noisy), model(clean, other))


def test_segan_plus_turns_the_maps_in_training_alone():
    model = build(DiscriminatorPlus, channels=(4, 8), hidden=(8, 4))
    x = torch.arange(64.0).expand(2, 3, 64)
    assert model._turned(x) is x
    model.train()
    torch.manual_seed(0)
    shifts = {int(model._turned(x)[0, 0, 0]) for _ in range(200)}
    assert shifts == {0, 1, 2, 3, 4, 5, 59, 60, 61, 62, 63}
    assert model(noise(3, 256), noise(3, 256)).shape == (3,)


# ---------------------------------------------------------------- bad and unusual input


def test_silence_gives_finite_output_and_gradients():
    for conf in ({}, {"attention": (2,), "spectral_norm": True, "num_stages": 2}):
        model, discriminator = build(**conf).train(), build(Discriminator, attention=(2,), spectral_norm=True).train()
        silence = model.encode(torch.zeros(2, 256))
        score = discriminator(model.network(silence)[-1], silence, (silence, silence))
        score.square().mean().backward()
        gradients = [p.grad for network in (model, discriminator) for p in network.parameters()]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_bfloat16_stays_close_and_the_output_is_float32():
    model = lively(build(attention=(2,), spectral_norm=True))
    discriminator = lively(build(Discriminator, attention=(2,), spectral_norm=True))
    x = noise(2, 256)
    with torch.no_grad():
        expected, score = model(x), discriminator(x, x)
        with torch.autocast("cpu", torch.bfloat16):
            output, output_score = model(x), discriminator(x, x)
    assert output.dtype == output_score.dtype == torch.float32
    assert (output - expected).abs().max() < 0.05 * expected.abs().max()
    assert (output_score - score).abs().max() < 0.1 * score.abs().max()


@pytest.mark.parametrize(
    "cls, conf, message",
    [
        (SEGAN, {"z": "noise"}, "z is 'noise', expected one of fixed, random, zeros, none"),
        (SEGAN, {"merge": "add"}, "merge is 'add', expected one of concat, sum"),
        (SEGAN, {"overlap": "half"}, "overlap is 'half', expected one of none, hann, triangular"),
        (SEGAN, {"padding": "same"}, "padding is 'same', expected one of zeros, reflect"),
        (SEGAN, {"num_stages": 0}, "num_stages is 0, expected at least 1"),
        (SEGAN, {"sample_rate": -1}, "sample_rate is -1, expected at least 1"),
        (SEGAN, {"emphasis": 1.0}, "emphasis is 1.0, expected less than 1"),
        (SEGAN, {"emphasis": float("nan")}, "emphasis is nan, expected less than 1"),
        (SEGAN, {"channels": (4, 0, 8, 16)}, "channels has 0, expected sizes of at least 1"),
        (SEGAN, {"channels": (4,)}, r"channels are \[4\], expected those of at least 2 layers"),
        (SEGAN, {"channels": ()}, r"channels are \[\], expected those of at least 2 layers"),
        (SEGAN, {"window": 250}, "window is 250, expected a multiple of 16 for 4 layers of stride 2"),
        (SEGAN, {"window": 0}, "window is 0, expected a multiple of 16"),
        (SEGAN, {"kernel": 3, "stride": 4}, "kernel is 3, stride 4; expected 2 <= stride <= kernel"),
        (SEGAN, {"padding": "reflect", "window": 64}, "last layer's input has 8 frames, too few to reflect 15"),
        (SEGAN, {"stride": 3, "window": 243, "overlap": "hann"}, "window is 243, expected an even number with overlap"),
        (SEGAN, {"attention": (4,)}, "attention has 4, expected 0 to 3"),
        (SEGAN, {"attention": (0,)}, "attention at layer 0, which has 4 channels and 128 frames; expected at least 8"),
        (SEGAN, {"attention": (2, 2)}, r"attention is \[2, 2\], expected each layer once"),
        (SEGAN, {"attention": (2,), "attn_k_qk": 0}, "attn_k_qk is 0, expected at least 1"),
        (SEGAN, {"attn_k_v": -8}, "attn_k_v is -8, expected at least 1"),
        (SEGAN, {"attn_pool": 0}, "attn_pool is 0, expected at least 1"),
        (Discriminator, {"window": 300}, "window is 300, expected a multiple of 16"),
        (Discriminator, {"attention": (2,), "attn_k_qk": -8}, "attn_k_qk is -8, expected at least 1"),
        (Discriminator, {"channels": (4, -1)}, "channels has -1, expected sizes of at least 1"),
        (Discriminator, {"norm": "batch"}, "norm is 'batch', expected one of vbn, bn, none"),
        (Discriminator, {"vbn_ref": "first"}, "vbn_ref is 'first', expected one of current_real, fixed"),
        (DiscriminatorPlus, {"padding": "zeros", "max_shift": -1}, "max_shift is -1, expected at least 0"),
        (DiscriminatorPlus, {"padding": "zeros", "hidden": (8, 0)}, "hidden has 0, expected sizes of at least 1"),
    ],
)
def test_values_that_do_not_fit_are_refused(cls, conf, message):
    with pytest.raises(UserError, match=f"^{cls.__name__}: .*{message}"):
        build(cls, **conf)


def test_a_misspelt_class_is_answered_with_those_that_can_be_named():
    with pytest.raises(UserError, match="did you mean 'SEGAN'. It has Discriminator, DiscriminatorPlus, SEGAN.$"):
        config.build("models", "segan.Segann")


def test_training_windows_of_another_length_are_refused():
    expected = "windows of 16000 samples, expected a multiple of 2048, such as 16384: crop_seconds: 1.024"
    with torch.device("meta"), pytest.raises(UserError, match=expected):
        SEGAN().network(torch.empty(1, 16000))
