"""Precision, compilation and recomputation: what they change, and what they leave."""

import contextlib

import pytest
import torch
from test_parts import BATCH, gradient, of
from test_trainer import assert_equal, last_state, records, trainer
from toys import WINDOW, ToyBatches, adversarial, supervised

from senet.losses.spectral import CompressedSpectrum
from senet.losses.waveform import SISDR
from senet.train import faster, updater
from senet.train.precision import Overflow, Scaler, set_precision

SIXTEEN = ["bf16", "fp16"]


@pytest.mark.parametrize("precision", SIXTEEN)
@pytest.mark.parametrize("loss", [SISDR(), CompressedSpectrum()], ids=lambda loss: loss.domain)
def test_16_bits_give_nearly_the_gradient_of_32(precision, loss):
    exact, rounded = of(loss), of(loss, precision=precision)
    losses = [objective.step(BATCH)["loss"].item() for objective in (exact, rounded)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    a, b = (gradient(objective.model) for objective in (exact, rounded))
    assert torch.nn.functional.cosine_similarity(a, b, 0) > 0.99
    assert (a - b).norm() < 0.1 * a.norm()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in rounded.model.parameters())


@pytest.mark.parametrize("precision", SIXTEEN)
def test_losses_and_complex_numbers_are_of_32_bits(precision):
    seen = []

    class Watched(CompressedSpectrum):
        def forward(self, stages, refs, lengths):
            seen.extend([*(s.dtype for s in stages), torch.is_autocast_enabled("cpu")])
            return super().forward(stages, refs, lengths)

    objective = of(Watched(), precision=precision)
    hook = objective.model.output.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    objective.step(BATCH)
    hook.remove()
    sixteen = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == [sixteen, torch.complex64, False]
    seen.clear()
    objective.evaluate(BATCH)
    assert seen == [torch.complex64, False]


@pytest.mark.parametrize("precision", SIXTEEN)
def test_an_adversarial_training_has_scores_of_32_bits(precision):
    objective = adversarial(precision=precision)
    for _ in range(20):
        with contextlib.suppress(Overflow):
            values = objective.step(ToyBatches([4], length=WINDOW)[0, 0])
    assert objective.updater.updates > 0 and all(
        v.dtype == torch.float32 and torch.isfinite(v) for v in values.values()
    )
    assert ("d_loss_scale" in values) == (precision == "fp16")


def test_products_of_float32_are_rounded_where_that_is_asked_for():
    try:
        for precision, expected in (("tf32", True), ("fp32", False), ("bf16", True)):
            set_precision(precision)
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == expected
    finally:
        set_precision("fp32")


# ------------------------------------------------------------ the scale of fp16


def overflowing(objective, above):
    """Gradients that are not finite at scales above this."""
    weight = next(objective.model.parameters())
    weight.register_hook(lambda g: g * (float("inf") if objective.updater.scaler.scale > above else 1.0))


def test_an_overflow_halves_the_scale_and_leaves_the_update_out():
    objective, batch = supervised(precision="fp16"), ToyBatches([4])[0, 0]
    overflowing(objective, Scaler.START / 4)
    before = [p.detach().clone() for p in objective.model.parameters()]
    for scale in ("65536", "32768"):
        with pytest.raises(Overflow, match=f"^gradient norm is not finite, with a loss scale of {scale}$"):
            objective.step(batch)
        assert all(torch.equal(p, q) for p, q in zip(objective.model.parameters(), before, strict=True))
    assert objective.step(batch)["loss_scale"] == Scaler.START / 4 and objective.updater.updates == 1


def test_updates_that_fp16_leaves_out_are_counted_and_named_and_leave_no_trace(tmp_path, caplog):
    """As if these batches had not been: neither running statistics nor the average of the weights, nor a mean know."""

    def objective(**options):
        made = supervised(ema_decay=0.5, grad_clip=0.0, **options)
        made.model.inner[2].p = 0.0  # what dropout draws depends on the step
        return made

    found = objective(precision="fp16")
    overflowing(found, Scaler.START / 4)
    trainer(tmp_path / "fp16", found, max_epoch=1, log_every=5).fit()
    assert [r["ids"][0] for r in records(tmp_path / "fp16", "nonfinite")] == ["e0b0u0", "e0b1u0"]
    assert "with a loss scale of 65536 at step 1, epoch 1: NOT LEARNED FROM (0 in a row, 1 of them" in caplog.text
    state = last_state(tmp_path / "fp16")
    assert state["updates"] == 3 and state["trainer"]["nonfinite"] == 2
    assert state["model"]["inner.1.num_batches_tracked"] == 3 and found.weights.updates == 3
    other, norms = objective(precision="fp16"), []
    other.updater.scaler.scale = Scaler.START / 4
    for i in range(2, 5):
        norms.append(other.step(ToyBatches([4] * 5)[0, i])["grad_norm"].item())
    assert_equal(other.state_dict()["model"], state["model"])
    assert records(tmp_path / "fp16", "train")[0]["grad_norm"] == pytest.approx(sum(norms) / 3)


def test_a_gradient_that_is_not_finite_at_scale_1_is_an_error():
    objective = supervised(precision="fp16")
    objective.updater.scaler.scale = 2.0
    overflowing(objective, 0)
    with pytest.raises(Overflow):
        objective.step(ToyBatches([4])[0, 0])
    with pytest.raises(FloatingPointError, match="not finite, with a loss scale of 1$") as error:
        objective.step(ToyBatches([4])[0, 0])
    assert error.type is FloatingPointError


def test_the_scale_grows_again_and_is_in_the_checkpoint(monkeypatch):
    monkeypatch.setattr(Scaler, "GROWTH", 3)
    objective = supervised(precision="fp16")
    objective.updater.scaler.scale = 512.0
    for _ in range(4):
        objective.step(ToyBatches([4])[0, 0])
    assert objective.updater.scaler.state_dict() == {"scale": 1024.0, "good": 1}
    other = supervised(precision="fp16")
    other.load_state_dict(objective.state_dict())
    assert_equal(other.updater.scaler.state_dict(), objective.updater.scaler.state_dict())


def test_the_scale_leaves_no_trace_in_the_update():
    """A power of 2: without 16 bits, gradients come out to the bit."""
    plain, scaled = supervised(), supervised()
    scaled.updater.scaler = Scaler()
    for objective in (plain, scaled):
        torch.manual_seed(0)
        objective.step(ToyBatches([4])[0, 0])
    assert_equal(plain.model.state_dict(), scaled.model.state_dict())


# ------------------------------------------------------------ compiled, recomputed


def test_only_training_is_compiled(monkeypatch):
    calls = []

    def compiled(function):
        return lambda *args: (calls.append(function.__name__), function(*args))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    objective = of(CompressedSpectrum(), compile=True)
    objective.step(BATCH), objective.evaluate(BATCH)
    assert calls == ["network"]
    objective = adversarial(compile=True)
    calls.clear()
    objective.step(ToyBatches([4], length=WINDOW)[0, 0])
    assert calls == ["network", "judge"] * 2


class Blocks(torch.nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.count = 0
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), norm, torch.nn.Tanh()) for _ in range(3)
        )
        self.blocks[0].register_forward_hook(self._seen)

    def _seen(self, *_):
        self.count += 1

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def of_blocks(norm, checkpointing):
    torch.manual_seed(0)
    network = Blocks(norm())
    inner = network.blocks[0][0]
    inner.calls = 0
    inner.register_forward_pre_hook(lambda module, args: setattr(module, "calls", module.calls + 1))
    if checkpointing:
        faster.checkpoint_blocks(network)
    network(torch.randn(4, 8)).square().sum().backward()
    return network, inner.calls


def test_blocks_are_computed_again_for_the_same_gradient():
    """With the same dropout."""
    (plain, once), (again, twice) = (of_blocks(torch.nn.Identity, c) for c in (False, True))
    assert (once, twice) == (1, 2)
    assert_equal([p.grad for p in plain.parameters()], [p.grad for p in again.parameters()])
    assert plain.state_dict().keys() == again.state_dict().keys()
    again.eval()
    calls = again.blocks[0][0].calls
    again(torch.randn(4, 8)).sum().backward()
    assert again.blocks[0][0].calls == calls + 1


def test_running_statistics_are_moved_once():
    network, calls = of_blocks(lambda: torch.nn.BatchNorm1d(8), True)
    assert calls == 1 and network.blocks[0][2].num_batches_tracked == 3  # one norm in three blocks


def test_an_objective_with_recomputation_learns_the_same():
    plain, again = (of(SISDR(), checkpointing=c) for c in (False, True))
    for objective in (plain, again):
        objective.step(BATCH)
    assert_equal([p.grad for p in plain.model.parameters()], [p.grad for p in again.model.parameters()])


class OnGPU:
    is_cuda = True

    def is_floating_point(self):
        return True


@pytest.mark.parametrize(
    ("optim", "conf", "parameters", "expected"),
    [
        ("Adam", {}, [OnGPU()], {"fused": True}),
        ("Adam", {"fused": False}, [OnGPU()], {}),
        ("Adam", {"foreach": True}, [OnGPU()], {}),
        ("RMSprop", {}, [OnGPU()], {}),  # has none
        ("RMSpropTF", {}, [OnGPU()], {}),
        ("Adam", {}, [torch.nn.Parameter(torch.zeros(1))], {}),
    ],
)
def test_on_a_gpu_the_optimiser_is_fused_where_it_can_be(optim, conf, parameters, expected):
    assert updater._fused(optim, conf, parameters) == expected
