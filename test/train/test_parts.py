"""A batch computed in parts: the gradient is that of the whole, and what is not is said here too."""

import logging

import pytest
import torch
from test_supervised import audio_batch
from toys import WINDOW, SquaredError, TinyNet, ToyBatches, adversarial, supervised

from senet.data.batching import part_of
from senet.errors import UserError
from senet.losses.resynthesis import Hybrid, PlainSpectrum
from senet.losses.spectral import CompressedSpectrum, RIMagnitude
from senet.losses.stages import Progressive, Stages
from senet.losses.waveform import L1, SISDR
from senet.models.lowlatency import LowLatencyNet
from senet.train.largest import largest_micro_batch
from senet.train.supervised import Supervised
from senet.train.updater import rows_of

LOSSES = [
    SISDR(),
    L1(),
    Hybrid(),
    PlainSpectrum(time_weight=0.5),
    CompressedSpectrum(),
    CompressedSpectrum(reduction="mean"),
    RIMagnitude(),
    Stages("spectral.RIMagnitude"),
    Progressive("waveform.SISDR", weights=(1.0,)),
]
BATCH = audio_batch((4000, 2900, 3300, 1700, 2000))


def of(loss, **options):
    torch.manual_seed(0)
    model = LowLatencyNet(channels=2, maps=1, lstm_units=4, fc_units=4, causal=True)
    return Supervised(model, loss, optim="SGD", optim_conf={"lr": 0.01}, **options)


def gradient(network):
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def assert_close(values, expected, rel=1e-4):
    assert values.keys() == expected.keys()
    assert {k: float(v) for k, v in values.items()} == pytest.approx(
        {k: float(v) for k, v in expected.items()}, rel=rel
    )


def assert_same_gradient(a, b):
    a, b = gradient(a), gradient(b)
    assert b.norm() > 0 and (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_each_losss_gradient_and_values_are_those_of_the_whole_batch(loss, micro_batch):
    """Of utterances of all lengths, in parts that are not equal."""
    whole, parts = of(loss), of(loss, micro_batch=micro_batch)
    assert_close(parts.step(BATCH), whole.step(BATCH))
    assert_same_gradient(parts.model, whole.model)


def test_a_mean_over_frames_is_not_one_over_clips():
    """RIMagnitude without its weights would have another gradient."""
    whole, parts = of(RIMagnitude()), of(RIMagnitude(), micro_batch=2)
    parts.loss.weigh = lambda lengths: torch.ones(len(lengths))
    whole.step(BATCH), parts.step(BATCH)
    assert (gradient(whole.model) - gradient(parts.model)).norm() > 1e-3 * gradient(whole.model).norm()


@pytest.mark.parametrize("batches", [1, 2])
def test_both_networks_of_an_adversarial_training_learn_what_they_learn_of_the_whole_batch(batches):
    """Without norms over the batch, and without z."""
    options = {"discriminator_conf": {"norm": "none"}, "model_conf": {"z": "none"}, "batches": batches, "optim": "SGD"}
    batch = ToyBatches([6], length=WINDOW)[0, 0]
    whole, parts = adversarial(**options), adversarial(**options, micro_batch=2)
    assert_close(parts.step(batch), whole.step(batch), rel=1e-3)
    assert_same_gradient(parts.model, whole.model)
    assert_same_gradient(parts.discriminator, whole.discriminator)


def test_batch_norm_takes_statistics_of_each_part():
    whole, parts = (supervised(optim="SGD", micro_batch=m) for m in (None, 2))
    for objective in (whole, parts):
        objective.model.inner[2].p = 0.0  # dropout
        objective.step(ToyBatches([4])[0, 0])
    assert (gradient(whole.model) - gradient(parts.model)).norm() > 1e-2 * gradient(whole.model).norm()
    assert parts.model.inner[1].num_batches_tracked == 2


def test_chance_is_drawn_for_each_part_by_its_place_in_the_batch():
    """So that whoever computes a part, alone or after others, draws the same."""
    seen = []

    def loss_of(part):
        seen.append((part["ids"], torch.rand(3)))
        return part["noisy"].sum() * next(iter(objective.model.parameters())).sum(), {}

    objective, batch = supervised(micro_batch=2, grad_clip=0.0), ToyBatches([4])[0, 0]
    torch.manual_seed(5)
    objective.updater.step(loss_of, batch)
    after = torch.rand(3)
    assert not torch.equal(seen[0][1], seen[1][1]) and not torch.equal(after, seen[0][1])
    later = rows_of(batch, slice(2, 4)) | {"first": 2}
    torch.manual_seed(5)
    objective.updater.micro_batch = 1
    objective.updater.step(loss_of, later)
    assert torch.equal(seen[2][1], seen[1][1]) and torch.equal(torch.rand(3), after)


@pytest.mark.parametrize(
    ("rows", "n", "sizes"), [(5, 2, [3, 2]), (4, 4, [1] * 4), (1, 3, [1, 0, 0]), (7, 3, [3, 2, 2])]
)
def test_parts_are_even_and_the_first_has_most(rows, n, sizes):
    slices = [part_of(rows, k, n) for k in range(n)]
    assert [s.stop - s.start for s in slices] == sizes
    assert [row for s in slices for row in range(s.start, s.stop)] == list(range(rows))


# ------------------------------------------------------------ out of memory


class Small(TinyNet):
    """Has memory for so many items, which it finds out after the batch norm."""

    def __init__(self, room, error):
        super().__init__()
        self.room, self.error = room, error

    def stages(self, noisy):
        found = super().stages(noisy)
        if len(noisy) > self.room:
            raise self.error
        return found


GPU = torch.OutOfMemoryError("CUDA out of memory")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def small(room, error=GPU, **options):
    torch.manual_seed(1)
    return Supervised(Small(room, error), SquaredError(), **{"optim_conf": {"lr": 0.01}} | options)


@pytest.mark.parametrize("error", [GPU, CPU], ids=["GPU", "CPU"])
def test_out_of_memory_halves_the_micro_batch_and_repeats_the_update_from_the_same_state(error, caplog):
    retried, expected = small(2, error), small(8, micro_batch=2)
    for objective in (retried, expected):
        for i in range(3):
            torch.manual_seed(i)
            objective.step(ToyBatches([8] * 3)[0, i])
    assert retried.updater.micro_batch == 2 and retried.updater.updates == 3
    a, b = retried.model.state_dict(), expected.model.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [t.partition(":")[0] for t in told] == [f"out of memory with {n} items at a time" for n in (8, 4)]


def test_a_training_that_goes_on_knows_what_there_is_room_for(caplog):
    """Until another number is asked for."""
    batch = ToyBatches([8])[0, 0]
    before = small(2, micro_batch=7)
    before.step(batch)
    assert before.updater.micro_batch == 2
    for asked, expected in ((7, 2), (3, 3), (None, None)):
        after = small(2, micro_batch=asked)
        after.load_state_dict(before.state_dict())
        assert after.updater.micro_batch == expected
    earlier = before.state_dict()
    del earlier["micro_batch"]
    after = small(2, micro_batch=7)
    after.load_state_dict(earlier)
    assert after.updater.micro_batch == 7


def test_only_the_network_that_had_no_room_repeats_its_update():
    objective = adversarial(batches=1)
    inner, sizes = objective.model.network, []

    def network(encoded):
        sizes.append((len(encoded), torch.is_grad_enabled()))
        if torch.is_grad_enabled() and len(encoded) > 2:
            raise GPU
        return inner(encoded)

    objective.model.network = network
    objective.step(ToyBatches([4], length=WINDOW)[0, 0])
    assert sizes == [(4, False), (4, True), (2, True), (2, True)]
    assert objective.updater.updates == objective.discriminator_updater.updates == 1


@pytest.mark.parametrize(("room", "options"), [(0, {}), (2, {"oom": "stop"})])
def test_without_room_for_one_or_a_retry_it_is_an_error(room, options):
    objective = small(room, **options)
    objective.model.inner[1] = torch.nn.Identity()  # batch norm needs two
    with pytest.raises(torch.OutOfMemoryError):
        objective.step(ToyBatches([4])[0, 0])


def test_other_errors_are_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        small(2, RuntimeError("shapes do not fit")).step(ToyBatches([4])[0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"micro_batch": 0}, "micro_batch: 0, expected at least 1"),
        ({"oom": "again"}, "oom is 'again', expected one of retry, stop"),
        ({"precision": "fp8"}, "precision is 'fp8', expected one of fp32, tf32, bf16, fp16"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        supervised(**options)


# ------------------------------------------------------------ the largest that fits


def heaviest(n):
    return ToyBatches([n])[0, 0]


@pytest.mark.parametrize(("room", "found"), [(1, 1), (2, 2), (5, 5), (7, 7), (8, 8), (100, 8)])
def test_the_largest_micro_batch_is_found_and_nothing_is_learnt_by_it(room, found):
    objective, other = small(room), small(room)
    for each in (objective, other):
        each.model.inner[1] = torch.nn.Identity()
    assert largest_micro_batch(objective, heaviest, 8) == found
    assert objective.updater.updates == 0 and objective.updater.micro_batch is None
    for each in (objective, other):
        each.updater.micro_batch = 1
        torch.manual_seed(3)
        each.step(heaviest(4))
    a, b = objective.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_what_does_not_fit_at_all_is_an_error():
    objective = small(0)
    objective.model.inner[1] = torch.nn.Identity()
    with pytest.raises(torch.OutOfMemoryError):
        largest_micro_batch(objective, heaviest, 8)
