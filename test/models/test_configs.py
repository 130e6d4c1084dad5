"""Every training configuration of every recipe, as the train command builds it, with a small network."""

import pytest
import torch
from reduced import CONFIGS, config_id, reduced

from senet import config
from senet.bin.train import get_parser, resolve_options
from senet.errors import UserError
from senet.train.build import build_model, build_objective
from senet.train.data import open_data


@pytest.fixture(params=CONFIGS, ids=config_id)
def args(request):
    """The options of one configuration, with a reduced network."""
    return options_of(request.param)


def options_of(path):
    parser = get_parser()
    args = parser.parse([*reduced(path), "--train", "train", "--valid", "valid", "--expdir", "exp"])
    resolve_options(args, parser)
    return args


def one_of_each(*options):
    """Configurations that differ in these options, the last of those that are alike: variants follow defaults."""
    return list({str([getattr(options_of(path), name) for name in options]): path for path in CONFIGS}.values())


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


def test_silence_gives_finite_gradients(learning, args):
    batch = training_batch(learning, 4000)
    for name in ("noisy", "clean", "noise"):
        batch[name].zero_()
    build_objective(args, learning, "cpu").step(batch)  # refuses a gradient that is not finite
    assert all(torch.isfinite(parameter).all() for parameter in learning.parameters())


def test_the_future_matters_as_far_as_the_latency_says(model):
    x = batch_of(1, 16000)["noisy"]
    changed = x.clone()
    changed[:, 9000:] = -3 * x[:, 9000:].flip(1)
    with torch.no_grad():
        difference = (model(x) - model(changed))[0].abs()
    assert difference[9000:].max() > 1e-4
    if model.causal:
        assert difference[: 9000 - model.latency].max() <= 1e-6
    else:
        assert model.latency is None
        assert difference[: 9000 - 1600].max() > 1e-6  # more than 100 ms ahead


def test_bfloat16_gives_nearly_the_same_in_float32(model):
    x = batch_of(2, 8000)["noisy"]
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(x)
    assert rounded.dtype == torch.float32
    assert torch.isfinite(rounded).all()
    assert (rounded - exact).norm() < 0.05 * exact.norm()


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
    networks = [n for n in (learning, getattr(objective, "discriminator", None)) if n is not None]
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in networks]
    for _ in range(2):  # a layer behind a gain that starts at 0 gets its first gradient when that has moved
        objective.step(training_batch(learning, 8000))
    objective.end_epoch({"loss": 1.0})
    assert objective.lr > 0
    for network, old in zip(networks, before, strict=True):
        for name, parameter in network.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name
        moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, old[name])}
        assert moved  # not all: the first steps of RMSpropTF are very small


# ---------------------------------------------------------------- once for those that are alike


def build_reduced(path):
    torch.manual_seed(0)
    args = options_of(path)
    return args, build_model(args, "cpu").eval()


@pytest.mark.parametrize("path", one_of_each("model", "model_conf", "loss", "loss_conf"), ids=config_id)
def test_two_mixtures_can_be_learnt_by_heart(path):
    args, model = build_reduced(path)
    if args.loss is None:
        pytest.skip("has nothing to learn")
    args.optim_conf = args.optim_conf | {"lr": 5e-3}
    args.scheduler, args.warmup_steps = None, 0
    if args.objective == "adversarial":  # for the model and the loss; against a discriminator it takes longer
        args.objective, args.objective_conf, args.optim = "supervised", {}, "Adam"
    objective, batch = build_objective(args, model, "cpu"), batch_of(2, getattr(model, "window", 4000))
    first = float(objective.evaluate(batch)[0]["loss"])
    for _ in range(40):
        objective.step(batch)
    assert float(objective.evaluate(batch)[0]["loss"]) < 0.6 * first


@pytest.mark.parametrize("path", one_of_each("model", "model_conf"), ids=config_id)
def test_the_state_is_the_parameters_and_what_training_averages(path):
    _, model = build_reduced(path)
    rest = set(model.state_dict()) - {name for name, _ in model.named_parameters()}
    kept = ("running_mean", "running_var", "num_batches_tracked", ".u", ".v")
    assert all(name.endswith(kept) for name in rest)
    names = list(model.state_dict())
    model(batch_of(1, 4000)["noisy"])
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("path", one_of_each("model"), ids=config_id)
def test_a_compiled_model_gives_the_same(path):
    _, model = build_reduced(path)
    x = batch_of(2, 4000)["noisy"]
    torch.compiler.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="aot_eager")(x), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # an LSTM's list of its own weights
@pytest.mark.parametrize("path", one_of_each("model"), ids=config_id)
def test_an_exported_model_gives_the_same(path):
    _, model = build_reduced(path)
    x, other = batch_of(1, 4000)["noisy"], batch_of(1, 4000, seed=1)["noisy"]
    program = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(other), model(other), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("path", one_of_each("model"), ids=config_id)
def test_mistyped_and_unknown_options_are_refused_with_what_fits(path):
    args = options_of(path)
    option = list(args.model_conf)[-1]
    for wrong, message in [
        ({option + "s": 1}, f"has no '{option}s'; did you mean '{option}'"),
        ({"nothing_like_it": 1}, "has no 'nothing_like_it'.* It takes sample_rate, "),
        ({"sample_rate": "fast"}, 'model_conf.sample_rate: expected int .*found "fast"'),
    ]:
        with pytest.raises(UserError, match=message):
            config.build("models", args.model, wrong)


@pytest.mark.parametrize("path", one_of_each("model"), ids=config_id)
def test_data_of_another_rate_are_refused_with_both_rates(path, small_set):
    args = options_of(path)
    args.train = args.valid = small_set
    args.batch_size = 1
    model = build_model(args, "cpu")
    model.sample_rate = 8000
    with pytest.raises(UserError, match="16000 Hz.*8000|8000 Hz.*16000"):
        train, _ = open_data(args, model)
        next(iter(train.loader(0)))
