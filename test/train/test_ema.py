"""The moving average of the weights: its values, what is evaluated and kept, and that resuming is exact."""

import pytest
import torch
from test_trainer import assert_equal, fit_in_pieces, last_state, records, trainer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toys import ToyBatches, supervised

from senet import checkpoint
from senet.errors import UserError
from senet.train.ema import Weights


def snapshot(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_the_average_follows_its_formula_and_buffers_are_copied():
    objective, batches = supervised(ema_decay=0.75), ToyBatches([4] * 4)
    for i in range(4):
        objective.step(batches[0, i])
        now = snapshot(objective.model)
        if i == 0:
            expected = now
        for name, value in now.items():
            is_buffer = "running" in name or "tracked" in name
            expected[name] = value if is_buffer else 0.75 * expected[name] + 0.25 * value
        found = snapshot(objective.weights.evaluated)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
    assert found["inner.1.num_batches_tracked"] == 4
    assert not torch.equal(found["inner.0.weight"], now["inner.0.weight"])


def test_the_average_is_torchs():
    objective, batches = supervised(ema_decay=0.9), ToyBatches([4] * 5)
    torchs = AveragedModel(objective.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for i in range(5):
        objective.step(batches[0, i])
        torchs.update_parameters(objective.model)
    assert_equal(snapshot(torchs.module), snapshot(objective.weights.evaluated))


def test_the_average_does_not_change_the_training():
    plain, averaged = supervised(), supervised(ema_decay=0.9)
    for i in range(5):
        batch = ToyBatches([4] * 5)[0, i]
        for objective in (plain, averaged):
            torch.manual_seed(i)
            objective.step(batch)
            objective.evaluate(batch)
    assert_equal(snapshot(plain.model), snapshot(averaged.model))
    assert plain.weights.evaluated is plain.model
    assert plain.state_dict().keys() == averaged.state_dict().keys() - {"trained"}


def test_validation_and_the_kept_model_are_the_averages(tmp_path):
    objective = supervised(ema_decay=0.9)
    trainer(tmp_path, objective, max_epoch=1).fit()
    averaged = objective.weights.evaluated
    state = checkpoint.load(tmp_path / "checkpoints")
    assert_equal(state["model"], snapshot(averaged))
    assert_equal(state["trained"]["weights"], snapshot(objective.model))
    valid = ToyBatches([3, 1], seed=99)
    with torch.no_grad():
        errors = torch.cat([averaged.stages(valid[0, i]["noisy"])[0] - valid[0, i]["clean"] for i in range(2)])
    assert records(tmp_path, "valid")[0]["loss"] == pytest.approx(errors.square().mean().item(), rel=1e-6)


@pytest.mark.parametrize("signals", [[("step", 1)], [("step", 7), ("evaluate", 1), ("step", 2)]], ids=str)
def test_resuming_is_exact(tmp_path, signals):
    options = {"objective": lambda: supervised(ema_decay=0.9)}
    fit_in_pieces(tmp_path / "a", [], **options)
    fit_in_pieces(tmp_path / "b", signals, **options)
    assert_equal(last_state(tmp_path / "a"), last_state(tmp_path / "b"))
    assert records(tmp_path / "a") == records(tmp_path / "b")


@pytest.mark.parametrize(("before", "now"), [(0.0, 0.9), (0.9, 0.0)])
def test_a_checkpoint_with_or_without_an_average_is_no_other(tmp_path, before, now):
    trainer(tmp_path, supervised(ema_decay=before), max_epoch=1).fit()
    with pytest.raises(
        UserError, match="checkpoints: ema_decay: .* average of the weights is wanted, and the checkpoi"
    ):
        trainer(tmp_path, supervised(ema_decay=now)).fit()


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(UserError, match=rf"ema_decay is {decay}, expected 0 \(no average\) to below 1"):
        Weights(torch.nn.Linear(1, 1), decay)


def test_shared_weights_and_recurrent_layers_are_averaged_like_others():
    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = torch.nn.LSTM(2, 3)

    model = Shared()
    weights = Weights(model, 0.5)
    weights.update()
    assert weights.evaluated.first is weights.evaluated.second
    before = snapshot(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    weights.update()
    for name, value in weights.evaluated.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.5)
