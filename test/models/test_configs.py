"""Every training configuration of every recipe, as the train command builds it, with a small network.

A new egs/*/conf/train_*.yaml is tested without being listed here; a new model should get small sizes in REDUCED.
"""

from pathlib import Path

import pytest
import torch

from senet import config
from senet.bin.train import build_model, build_objective, get_parser, resolve_options

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(ROOT.glob("egs/*/conf/train_*.yaml"))
REDUCED = {
    "cnunet.CNUNet": {"channels": 8, "inner": 8, "depths": (2, 1), "dense_layers": 2},
    "cnunet.NUNet": {"channels": 8, "inner": 4, "depths": (2, 1), "dense_layers": 2},
    "gagnet.GaGNet": {"channels": 8, "d_feat": 32, "cd1": 8, "p": 1},
    "lowlatency.LowLatencyNet": {"channels": 4, "maps": 2, "lstm_units": 24, "fc_units": 24},
    "tfgridnet.TFGridNet": {"emb_dim": 4, "lstm_units": 6, "n_heads": 2, "approx_qk_dim": 514},
}


@pytest.fixture(params=CONFIGS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def args(request):
    """The options of one configuration, with a reduced network."""
    parser = get_parser()
    args = parser.parse(["--config", str(request.param), "--train", "train", "--valid", "valid", "--expdir", "exp"])
    args.model_conf = args.model_conf | REDUCED.get(args.model, {})
    resolve_options(args, parser)
    if args.objective == "adversarial":
        discriminator, conf = (args.objective_conf.get(key) for key in ("discriminator", "discriminator_conf"))
        conf = config.resolve("models", discriminator, conf)
        args.model_conf, conf = thin(args.model_conf), thin(conf)
        args.objective_conf = args.objective_conf | {"discriminator_conf": conf}
    return args


def thin(conf):
    """Few channels in as many layers, as attention is placed by a layer's number."""
    return conf | {"channels": [max(4, c // 64) for c in conf["channels"]], "window": 8192}


@pytest.fixture
def model(args):
    torch.manual_seed(0)
    return build_model(args, "cpu").eval()


@pytest.fixture
def learning(model):
    """The model, if there is something to learn."""
    if not any(True for _ in model.parameters()):
        pytest.skip("has no parameters")
    return model


def training_batch(model, length):
    """As the train command makes it: of windows for a model that has them."""
    return batch_of(4, getattr(model, "window", length))


def batch_of(batch_size, length, seed=0):
    """Tones in noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / 16000
    pitch = 200 + 600 * torch.rand(batch_size, 1, generator=generator)
    clean = 0.1 * sum(torch.sin(2 * torch.pi * k * pitch * time) / k for k in (1, 2, 3))
    noise = 0.1 * torch.randn(batch_size, length, generator=generator)
    return {
        "ids": [f"utt{i}" for i in range(batch_size)],
        "noisy": clean + noise,
        "clean": clean,
        "noise": noise,
        "lengths": torch.full((batch_size,), length),
    }


def test_recipes_have_configurations():
    assert {path.parts[-3] for path in CONFIGS} >= {"mini", "librispeech_mssnsd"}


@pytest.mark.parametrize("length", [1, 7, 160, 400, 4001])
def test_output_has_input_length(model, length):
    x = batch_of(2, length)["noisy"]
    with torch.no_grad():
        stages = model.stages(x)
        assert all(stage.shape == x.shape for stage in stages)
        torch.testing.assert_close(model(x), stages[-1])


def test_an_utterance_alone_equals_the_same_in_a_batch(model):
    x = batch_of(3, 8001)["noisy"]
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=0)


def test_silence_stays_finite(model):
    with torch.no_grad():
        assert torch.isfinite(model(torch.zeros(1, 4000))).all()


def test_future_samples_do_not_change_the_past_of_a_causal_model(model):
    if not model.causal:
        assert model.latency is None
        pytest.skip("uses the whole recording")
    x = batch_of(1, 16000)["noisy"]
    changed = x.clone()
    changed[:, 9000:] = -3 * x[:, 9000:]
    with torch.no_grad():
        difference = (model(x) - model(changed))[0].abs()
    assert difference[: 9000 - model.latency].max() <= 1e-6
    assert difference[9000:].max() > 1e-4


def test_a_saved_model_comes_back_from_its_configuration(model, args, tmp_path):
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(1)
    other = build_model(args, "cpu").eval()
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    x = batch_of(1, 4000)["noisy"]
    with torch.no_grad():
        assert torch.equal(other(x), model(x))


def test_finite_gradients_reach_every_parameter(learning, args):
    objective = build_objective(args, learning, "cpu")
    for _ in range(2):  # a layer behind a gain that starts at 0 gets its first gradient when that has moved
        objective.step(training_batch(learning, 8000))
    for name, parameter in learning.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_two_mixtures_can_be_learnt_by_heart(learning, args):
    args.optim_conf = args.optim_conf | {"lr": 5e-3}
    args.scheduler = None
    args.warmup_steps = 0
    if args.objective == "adversarial":  # for the model and the loss; against a discriminator it takes longer
        args.objective, args.objective_conf, args.optim = "supervised", {}, "Adam"
    objective, batch = build_objective(args, learning, "cpu"), batch_of(2, getattr(learning, "window", 4000))
    first = float(objective.evaluate(batch)[0]["loss"])
    for _ in range(40):
        objective.step(batch)
    assert float(objective.evaluate(batch)[0]["loss"]) < 0.6 * first
