"""Loading a trained model, and what is said when that cannot be done."""

import shutil

import pytest
import torch

from senet import checkpoint, config
from senet.errors import UserError
from senet.infer.load import identity, load_model


@pytest.fixture
def copy(expdir, tmp_path):
    return shutil.copytree(expdir, tmp_path / "exp")


def test_weights_are_those_of_the_checkpoint_asked_for(expdir):
    for which, name in (("best", "step_00000001.pt"), ("last", "step_00000002.pt"), ("step_00000002.pt",) * 2):
        model = load_model(expdir, which).model
        saved = torch.load(expdir / "checkpoints" / name, weights_only=True)["model"]
        assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())


def test_a_mean_of_checkpoints_is_the_mean_of_their_weights(expdir):
    mean, states = (
        load_model(expdir, "mean_best_2").model,
        [load_model(expdir, which).model.state_dict() for which in ("best", "last")],
    )
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2)
    assert identity(expdir, mean) == identity(expdir, load_model(expdir, "mean_last_2").model)
    with pytest.raises(UserError, match="mean of 3 checkpoints is wanted, and only 2 with a validation score"):
        load_model(expdir, "mean_best_3")
    with pytest.raises(UserError, match="no checkpoint 'mean_last_0'; there are step_00000001.pt"):
        load_model(expdir, "mean_last_0")


def test_model_is_ready_to_run(expdir):
    model = load_model(expdir).model
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model(torch.zeros(1, 1000)).shape == (1, 1000)


def test_damaged_best_checkpoint_is_reported_and_the_next_one_used(copy, caplog):
    with open(copy / "checkpoints" / "step_00000001.pt", "r+b") as f:
        f.seek(500)
        f.write(b"\xff\x00\xff")
    model = load_model(copy).model
    saved = torch.load(copy / "checkpoints" / "step_00000002.pt", weights_only=True)["model"]
    assert torch.equal(model.output.weight, saved["output.weight"])
    assert "step_00000001.pt: damaged" in caplog.text


def test_checkpoint_of_another_configuration_names_the_key(copy):
    options = config.load_resolved(copy)
    options["model_conf"]["lstm_units"] = 9
    config.save_resolved(copy / "config.yaml", options)
    with pytest.raises(UserError, match=r"'lstm.weight_ih_l0' is \(32, 514\) in the checkpoint and \(36, 514\) in the"):
        load_model(copy)


def test_checkpoint_without_a_model(copy):
    checkpoint.save(copy / "checkpoints", {"optimizer": {}}, step=3, epoch=3)
    with pytest.raises(UserError, match="no model in the checkpoint, only optimizer"):
        load_model(copy, "last")


def test_missing_pieces_are_named(copy, tmp_path):
    for name in ("nowhere", "nowhere.senet"):
        with pytest.raises(UserError, match=f"{name}: no such model; expected an experiment, .* or a pack"):
            load_model(tmp_path / name)
    with pytest.raises(UserError, match="no checkpoint 'step_3.pt'; there are step_00000001.pt"):
        load_model(copy, "step_3.pt")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint there; train first"):
        load_model(copy)
    (copy / "config.yaml").unlink()
    with pytest.raises(UserError, match="config.yaml: missing"):
        load_model(copy)


def test_what_was_meant_is_said(copy):
    for name, meant in (
        ("config.yaml", f"part of an experiment; give its folder, {copy}$"),
        ("checkpoints/step_00000001.pt", f"give its folder, {copy}, and as the checkpoint step_00000001.pt$"),
        ("..", f"no trained model, but there are some below it: .*{copy.name}"),
    ):
        with pytest.raises(UserError, match=meant):
            load_model(copy / name)


def test_a_device_that_is_not_there_is_refused(copy):
    for device in ("cuda:99", "fpga", "nonsense"):
        with pytest.raises(UserError, match=f"device '{device}': cannot be used here; there is cpu"):
            load_model(copy, device=device)


def test_identity_tells_weights_and_configurations_apart(expdir, copy):
    best, last = load_model(expdir).model, load_model(expdir, "last").model
    assert identity(expdir, best) == identity(copy, load_model(copy).model)
    assert identity(expdir, best) != identity(expdir, last)
    options = config.load_resolved(copy)
    options["model_conf"]["exponent"] = 0.5  # changes what the same weights do
    config.save_resolved(copy / "config.yaml", options)
    assert identity(copy, load_model(copy).model) != identity(expdir, best)
