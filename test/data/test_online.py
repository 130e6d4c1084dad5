"""Mixtures made while training: what a batch follows from, what is in it, and that the device makes the same."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch
from mixtures import RATE, make_sources, same_stream, stream, write_source_set

from senet.data.scp import write_table
from senet.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CROP = ["--seconds", "1"]
DNS = ["--policy", "dns", "--rir", "rir", "--seconds", "1.5"]
SNSD = ["--policy", "snsd", "--seconds", "1", "--num_snr_levels", "3"]
EARLY = [*DNS, "--target", "early", "--rir_prob", "0.7"]
ACTIVE = [*DNS, "--snr_mode", "active", "--seconds", "1.27"]
LOUD = [*DNS, "--level_lower", "-6", "--level_upper", "0"]
POLICIES = {"crop": CROP, "snsd": SNSD, "dns": DNS, "early": EARLY, "active": ACTIVE, "loud": LOUD}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_sources(tmp_path_factory.mktemp("data"))


def finished(batches, *args, **kwargs):
    return [batches.finish(batch) for batch in batches.loader(*args, **kwargs)]


# ------------------------------------------------------------ what a batch follows from


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("words", [CROP, SNSD, DNS], ids=["crop", "snsd", "dns"])
def test_any_number_of_workers_gives_the_same_batches(sources, words, on_device):
    batches = stream(sources, *words, on_device=on_device)
    alone = finished(batches, 2)
    assert len(alone) == batches.num_batches() == 5
    for num_workers in (1, 4):
        assert same_stream(finished(batches, 2, num_workers=num_workers), alone)


@pytest.mark.parametrize("on_device", [False, True])
def test_ranks_together_give_the_batches_of_one(sources, on_device):
    batches = stream(sources, *DNS, batch_size=5, on_device=on_device)
    ranks = [finished(batches, 1, rank=rank, world=2) for rank in (0, 1)]
    for first, second, whole in zip(*ranks, finished(batches, 1), strict=True):
        assert first["ids"] + second["ids"] == whole["ids"] and second["first"] == len(first["ids"])
        assert torch.equal(torch.cat([first["noisy"], second["noisy"]]), whole["noisy"])


def test_starting_later_gives_the_rest_of_the_epoch(sources):
    whole = finished(stream(sources, *DNS), 7)
    assert same_stream(finished(stream(sources, *DNS), 7, start=3, num_workers=1), whole[3:])


def test_every_epoch_and_seed_has_mixtures_of_its_own(sources):
    streams = [(stream(sources, *DNS), 0), (stream(sources, *DNS), 1), (stream(sources, *DNS, seed=4), 0)]
    waves = [wave for batches, epoch in streams for batch in finished(batches, epoch) for wave in batch["noisy"]]
    assert len({wave.numpy().tobytes() for wave in waves}) == len(waves) == 3 * 24


def test_two_passes_join_independent_batches(sources):
    single, double = (finished(stream(sources, *CROP, passes=passes), 1) for passes in (1, 2))
    for one, two in zip(single, double, strict=True):
        size = len(one["ids"])
        assert len(two["ids"]) == len(two["noisy"]) == 2 * size
        assert torch.equal(two["noisy"][:size], one["noisy"]) and not torch.equal(two["noisy"][size:], one["noisy"])


def test_loading_leaves_the_random_state_of_training_alone(sources):
    torch.manual_seed(0)
    expected = torch.get_rng_state()
    finished(stream(sources, *DNS, number=5), 0)
    assert torch.equal(torch.get_rng_state(), expected)


# ------------------------------------------------------------ what is in it


def level(x):
    return 10 * np.log10(np.mean(x.numpy().astype(np.float64) ** 2))


def drawn(batches, epoch):
    """id -> Line of all that an epoch draws."""
    rngs = ((i, np.random.default_rng([batches.seed, epoch, i, 0])) for i in range(24))
    lines = [(i, batches.items.policy.draw(rng, i)) for i, rng in rngs]
    return {line.utt: line for i, found in lines for line in [found[i % len(found)]]}


@pytest.mark.parametrize("words", POLICIES.values(), ids=POLICIES)
def test_a_mixture_is_what_the_plan_would_make_of_its_line(sources, words):
    batches = stream(sources, *words)
    lines = drawn(batches, 1)
    for batch in finished(batches, 1):
        for row, utt in enumerate(batch["ids"]):
            stored, _ = batches.items.mixer.render(lines[utt])
            length = int(batch["lengths"][row])
            assert length == lines[utt].num_samples
            for name, expected in zip(("noisy", "clean", "noise"), stored, strict=True):
                np.testing.assert_array_equal(batch[name][row, :length].numpy() * 32768, expected)
                assert not batch[name][row, length:].any()


@pytest.mark.parametrize("on_device", [False, True])
def test_signals_add_up_at_the_drawn_snr_and_level(sources, on_device):
    batches = stream(sources, *DNS, on_device=on_device, batch_size=24)
    lines = drawn(batches, 5)
    (batch,) = finished(batches, 5)
    assert torch.equal(batch["noisy"], batch["clean"] + batch["noise"])
    assert batch["noisy"].abs().max() < 0.9901
    guarded = 0
    for utt, noisy, clean, noise in zip(*(batch[k] for k in ("ids", "noisy", "clean", "noise")), strict=True):
        assert level(clean) - level(noise) == pytest.approx(lines[utt].snr_db, abs=0.01)
        if max(x.abs().max() for x in (noisy, clean, noise)) < 0.98:
            assert level(noisy) == pytest.approx(lines[utt].level_db, abs=0.01)
        else:
            guarded += 1
    assert guarded < 4
    assert {line.rir is None for line in lines.values()} == {True, False}


@pytest.mark.parametrize("on_device", [False, True])
def test_a_crop_is_a_part_of_the_whole_mixture(sources, on_device):
    whole, part = (
        {utt: batch["noisy"][k].numpy() for batch in finished(s, 0) for k, utt in enumerate(batch["ids"])}
        for s in (stream(sources, *CROP), stream(sources, *CROP, crop_seconds=0.25, on_device=on_device))
    )
    starts = set()
    for utt, x in part.items():
        assert x.shape == (4000,)
        views = np.lib.stride_tricks.sliding_window_view(whole[utt], 4000)
        (start,) = np.flatnonzero((views == x).all(axis=1))
        starts.add(start)
    assert len(starts) > 15


@pytest.mark.parametrize("on_device", [False, True])
def test_mixtures_shorter_than_the_crop_are_padded(sources, on_device):
    for batch in finished(stream(sources, *CROP, crop_seconds=1.5, on_device=on_device), 0):
        assert batch["noisy"].shape == (len(batch["ids"]), 24000) and (batch["lengths"] == 16000).all()
        assert not batch["noisy"][:, 16000:].any() and batch["noisy"][:, 15900:16000].any()


# ------------------------------------------------------------ on the device


def assert_within_one_step(ours, theirs):
    assert ours["ids"] == theirs["ids"] and torch.equal(ours["lengths"], theirs["lengths"].cpu())
    assert ours.keys() == theirs.keys()
    for name in ("noisy", "clean", "noise"):
        difference = (ours[name] - theirs[name].cpu()).abs() * 32768
        assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3
    assert torch.equal(theirs["noisy"], theirs["clean"] + theirs["noise"])


@pytest.mark.parametrize("words", POLICIES.values(), ids=POLICIES)
def test_the_batched_arithmetic_gives_the_samples_of_the_mixer(sources, words):
    for ours, theirs in zip(
        finished(stream(sources, *words), 1), finished(stream(sources, *words, on_device=True), 1), strict=True
    ):
        assert_within_one_step(ours, theirs)


@pytest.mark.parametrize("words", [CROP, SNSD, [*CROP, "--on_clip", "none", "--peak", "0.5"], DNS, EARLY, ACTIVE, LOUD])
def test_on_the_processor_it_gives_the_same_bits(sources, words):
    both = (finished(stream(sources, *words, on_device=on_device), 1) for on_device in (False, True))
    assert same_stream(*both)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("words", POLICIES.values(), ids=POLICIES)
def test_a_gpu_gives_the_samples_of_the_mixer(sources, words):
    batches = stream(sources, *words, on_device=True)
    moved = ({k: v.cuda() if torch.is_tensor(v) else v for k, v in batch.items()} for batch in batches.loader(1))
    for ours, batch in zip(finished(stream(sources, *words), 1), moved, strict=True):
        theirs = batches.finish(batch)
        assert theirs["noisy"].is_cuda
        assert_within_one_step(ours, theirs)


# ------------------------------------------------------------ bad input


@pytest.fixture
def vanishing(tmp_path):
    """Sources of which one speech recording is deleted and one cut short after they were listed."""
    make_sources(tmp_path)
    gone, cut = (tmp_path / "speech" / "wav" / f"{name}.wav" for name in ("speech0-09", "speech1-07"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-5000])
    return tmp_path


def test_a_vanished_source_is_named(vanishing):
    with pytest.raises(UserError, match=r"conf/mix_train.yaml: mixture '\d+': .*speech/wav/speech.*--bad_audio skip"):
        finished(stream(vanishing, *DNS), 0)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_vanished_source_is_skipped_and_counted(vanishing, on_device, caplog):
    batches = stream(vanishing, *DNS, bad_audio="skip", on_device=on_device)
    whole = finished(batches, 0)
    assert [len(batch["ids"]) for batch in whole] == [5, 5, 5, 5, 4]
    assert 0 < sum(batch["skipped"] for batch in whole) < 20
    assert "speech0-09.wav: cannot be opened: No such file or directory; skipped" in caplog.text
    rows = {tuple(row.tolist()) for batch in whole for row in batch["noisy"]}
    assert len(rows) == 24  # what takes the place of a mixture is none of the others
    assert same_stream(finished(batches, 0, num_workers=2), whole)
    assert same_stream(finished(batches, 0, start=2), whole[2:])


def test_silent_sources_are_no_mixture(tmp_path):
    make_sources(tmp_path)
    write_source_set(tmp_path / "noise", [(f"noise-{i}", np.zeros(30000)) for i in range(3)])
    with pytest.raises(UserError, match="noise: 1000 draws in a row are under -60 dBFS"):
        finished(stream(tmp_path, *CROP), 0)


@pytest.fixture
def cancelling(tmp_path):
    """Noise of which one recording in two is the only speech turned over: at 0 dB nothing is left of both."""
    make_sources(tmp_path)
    x = np.round(3000 * np.random.default_rng(0).standard_normal(16000)) / 32768
    other = np.round(3000 * np.random.default_rng(1).standard_normal(16000)) / 32768
    write_source_set(tmp_path / "speech", [("speech0-00", x)])
    write_source_set(tmp_path / "noise", [("noise0-00", -x), ("noise0-01", other)])
    return tmp_path


CANCELLING = ["--policy", "dns", "--seconds", "1", "--snr_lower", "0", "--snr_upper", "0"]


@pytest.mark.parametrize("on_device", [False, True])
def test_a_silent_sum_is_named(cancelling, on_device):
    with pytest.raises(UserError, match=r"mixture '.*: its speech, its noise or their sum is silent.*--bad_audio skip"):
        finished(stream(cancelling, *CANCELLING, on_device=on_device), 0)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_silent_sum_is_skipped_and_counted(cancelling, on_device, caplog):
    batches = stream(cancelling, *CANCELLING, bad_audio="skip", on_device=on_device, number=20)
    whole = finished(batches, 0)
    assert [len(batch["ids"]) for batch in whole] == [5, 5, 5, 5]
    assert 0 < sum(batch["skipped"] for batch in whole) < 20
    assert "sum is silent; draw another; skipped" in caplog.text
    for batch in whole:
        for row, utt in enumerate(batch["ids"]):
            assert batch["noisy"][row].any() and batch["noisy"].isfinite().all()
            first = batch["ids"].index(utt)
            assert torch.equal(batch["noisy"][row], batch["noisy"][first])
    assert same_stream(finished(batches, 0, num_workers=2), whole)


# ------------------------------------------------------------ size


def test_memory_per_source_is_an_index(tmp_path):
    def held(n):
        for kind in ("speech", "noise"):
            for name, value in {"wav.scp": "x.wav", "utt2spk": "s", "utt2num_samples": 48000, "utt2fs": RATE}.items():
                (tmp_path / kind).mkdir(exist_ok=True)
                write_table(tmp_path / kind / name, ((f"{kind}-{i:07d}", value) for i in range(n)))
        gc.collect()
        tracemalloc.start()
        batches = stream(tmp_path, *CROP, number=n)
        batches._orders[0](0)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return used

    # Where lines begin in two lists, three lengths and rates and an index of each set; the order of an epoch.
    assert (held(40000) - held(10000)) / 30000 < 2 * 6 * 8 + 8 + 4
