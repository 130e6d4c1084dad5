"""Multiplications of every system in its real size: what was published or counted on public code, by the same rules.

Rounded figures are compared to the last digit that is given. Systems whose literature counts one window, one frame or a
file of a second are compared so.
"""

import pytest
import torch

from senet import config
from senet.models import measure

SECOND = 16000


def build(dotted, **conf):
    with torch.device("meta"):
        return config.build("models", dotted, conf).eval()


@pytest.mark.parametrize(
    ("conf", "giga"),
    [
        ({}, 1.331),
        ({"q": 1}, 0.972),
        ({"q": 2}, 1.151),
        ({"q": 4}, 1.511),
        ({"q": 5}, 1.690),
        ({"p": 1}, 1.169),
        ({"p": 3}, 1.493),
        ({"q": 1, "p": 1}, 0.918),
        ({"q": 2, "p": 1}, 1.043),
        ({"encoder": "plain"}, 0.908),
        ({"encoder": "plain", "q": 1, "p": 1}, 0.495),
        ({"gaze": "squeezed"}, 1.223),
        ({"inner_skip": "add"}, 1.203),
        ({"kd1": 5}, 1.390),
        ({"norm": "batch", "causal": False, "level": "none"}, 1.331),
    ],
    ids=str,
)
def test_gagnet_per_second_of_100_frames(conf, giga):
    steady = measure.steady_macs(build("gagnet.GaGNet", **conf), SECOND)
    assert steady.convolutions == pytest.approx(giga * 1e9, abs=0.5e6)
    assert steady.products == 0


def test_gagnet_by_part():
    parts = measure.steady_macs(build("gagnet.GaGNet"), SECOND).parts
    assert parts["encoder"] == pytest.approx(791.9e6, abs=5e4)
    assert parts["ggms"] == pytest.approx(3 * 179.7e6, abs=15e4)


@pytest.mark.parametrize(
    ("dotted", "conf", "giga"),
    [
        ("cnunet.CNUNet", {}, 7.38),
        ("cnunet.CNUNet", {"wiring": "released", "norm": "frame"}, 7.38),
        ("cnunet.NUNet", {"tls": False, "ctfa": False}, 10.82),
        ("cnunet.NUNet", {"tls": True, "ctfa": False}, 11.55),
        ("cnunet.NUNet", {"tls": False, "ctfa": True}, 11.15),
        ("cnunet.NUNet", {}, 11.88),
    ],
    ids=str,
)
def test_nested_unets_per_second_of_160_frames(dotted, conf, giga):
    steady = measure.steady_macs(build(dotted, **conf), SECOND)
    assert steady.total == pytest.approx(giga * 1e9, abs=5e6)


def test_cnunet_by_part():
    parts = measure.steady_macs(build("cnunet.CNUNet"), SECOND).parts
    of_163_frames = {
        "entry": 5.3,
        "encoder": 2166.4 + 1033.8 + 510.3 + 255.2 + 127.6 + 62.2,
        "downsample": 128.2 + 64.1 + 32.0 + 16.0 + 8.0 + 4.0,
        "dense": 24.2,
        "upsample": 2 * (1.0 + 2.0 + 4.0 + 8.0 + 16.0 + 32.1),
        "decoder": 2 * (21.9 + 44.9 + 89.9 + 179.8 + 364.0 + 775.5),
        "output": 5.3,
    }
    assert parts == pytest.approx({name: 1e6 * n * 160 / 163 for name, n in of_163_frames.items()}, rel=0.02)


@pytest.mark.parametrize(
    ("conf", "mega"),
    [
        ({}, 62.35),
        ({"causal": True}, 48.86),
        ({"causal": True, "delta_phase": "raw", "delta_encoding": "angle"}, 48.92),
        ({"delta_phase": "raw"}, 62.47),
        ({"inputs": "magnitude", "mask": "mag"}, 62.07),
        ({"lstm_units": 400, "fc_units": 600}, 43.57),
        ({"causal": True, "lstm_units": 400, "fc_units": 600}, 39.40),
    ],
    ids=str,
)
def test_low_latency_network_per_frame(conf, mega):
    steady = measure.steady_macs(build("lowlatency.LowLatencyNet", **conf), SECOND // 10)  # 100 frames per second
    assert steady.total / 100 == pytest.approx(mega * 1e6, abs=0.5e4)


@pytest.mark.parametrize(
    ("conf", "mega"),
    [
        ({}, 2157.6),
        ({"num_stages": 2, "shared": True}, 2 * 2157.6),
        ({"num_stages": 2}, 2 * 2157.6),
        ({"num_stages": 3}, 3 * 2157.6),
        ({"num_stages": 4, "shared": True}, 4 * 2157.6),
    ],
    ids=str,
)
def test_segan_per_window(conf, mega):
    model = build("segan.SEGAN", **conf)
    assert measure.macs(model, model.window).total == pytest.approx(mega * 1e6, abs=conf.get("num_stages", 1) * 5e4)


@pytest.mark.parametrize(("layer", "channels"), [(2, 32), (6, 128), (9, 512), (10, 1024)])
def test_attention_of_sasegan_per_window(layer, channels):
    """1.25 L C^2 + 5/32 L^2 C for each layer: in the encoder, and in the decoder with twice the channels."""
    length = 16384 >> (layer + 1)
    layers = [channels] if layer == 10 else [channels, 2 * channels]
    hand = sum(1.25 * length * c**2 + 5 / 32 * length**2 * c for c in layers)
    # Keys and values are pooled after their convolutions, so the formula's first term holds for all L places.
    plain, attending = (measure.macs(build("segan.SEGAN", attention=at), 16384).total for at in ((), (layer,)))
    assert attending - plain == hand


def test_segan_discriminator_per_window():
    with torch.device("meta"):
        model = config.build("models", "segan.Discriminator", {}).eval()
        noisy = torch.empty(1, 16384)
    model.sample_rate, forward = 16000, model.forward
    model.forward = lambda wave: forward(wave, noisy)
    assert measure.macs(model, 16384).total == pytest.approx(723.3e6, abs=5e4)


def tfgridnet_by_hand(frames, bins=255, units=100, width=32, span=4, heads=4, keys=4):
    """The layers of a block one by one, five times, and the front and back end."""
    step = 2 * 4 * units * (span * width + units)  # of an LSTM, both directions
    spread = 2 * units * width * span  # of a transposed convolution
    along_frequency, along_time = frames * (bins - span + 1), bins * (frames - span + 1)
    places = frames * bins
    projections = places * (heads * width * (2 * keys + width // heads) + width**2)
    attention = heads * frames**2 * bins * (keys + width // heads)
    block = (along_frequency + along_time) * (step + spread) + projections + attention
    phase_encoder = frames * (bins + 2) * 4 * 4 * 3
    return 5 * block + phase_encoder + places * width * 9 * (4 + 2)


def test_tfgridnet_for_a_file_of_63_frames():
    # A second is made up to whole hops, which gives 64 frames.
    counted = measure.macs(build("tfgridnet.TFGridNet"), 62 * 256)
    assert counted.total == tfgridnet_by_hand(63)
    assert counted.total == pytest.approx(32.9e9 + 0.03e9, abs=0.05e9)


def test_attention_of_tfgridnet_grows_with_the_square_of_the_length():
    small = {"n_fft": 64, "hop_length": 32, "win_length": 64}
    model, progressive = (build("tfgridnet.TFGridNet", progressive=p, **small) for p in (False, True))
    for frames in (20, 40, 80):
        counted = measure.macs(model, (frames - 1) * 32).total
        assert counted == tfgridnet_by_hand(frames, bins=31, keys=33)
    assert measure.macs(progressive, 79 * 32).total == counted  # whose earlier estimates are for training


@pytest.mark.parametrize(
    ("conf", "giga"),
    [
        ({"frontend": "ri", "window": "hann", "qk_rounding": "ceil"}, 33.79),
        ({"frontend": "ri", "window": "hann", "qk_rounding": "ceil", "variant": "v2", "emb_hs": 4}, 9.35),
    ],
)
def test_tfgridnet_of_espnet_for_a_file(conf, giga):
    """Counted on the public code with ptflops, which adds norms and activations: a few percent."""
    counted = measure.macs(build("tfgridnet.TFGridNet", **conf), 62 * 256).total
    assert 0.95 * giga * 1e9 < counted < giga * 1e9
