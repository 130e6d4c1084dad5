import gc
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from mixtures import same, same_stream

from senet.data.audio import write_wav
from senet.data.dataset import Batches
from senet.data.scp import read_table, write_table
from senet.errors import UserError

RATE = 16000
CROP = 8000  # samples; half a second
LENGTHS = [8000 + 611 * ((7 * i) % 23) for i in range(22)] + [5000, 3210]  # two are shorter than the crop

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def make(folder, **options):
    return Batches(folder, **{"batch_size": 5, "crop_seconds": 0.5, "sample_rate": RATE, "seed": 3} | options)


@pytest.fixture
def packed(tmp_path, pack):
    pack(tmp_path / "set", LENGTHS)
    return tmp_path / "set"


# ------------------------------------------------------------ what a batch follows from


@pytest.mark.parametrize("options", [{}, {"crop_seconds": None}, {"shuffle": False}])
def test_any_number_of_workers_gives_the_same_batches(packed, options):
    batches = make(packed, **options)
    alone = list(batches.loader(2))
    assert len(alone) == batches.num_batches(2) == 5
    for num_workers in (1, 4):
        assert same_stream(batches.loader(2, num_workers=num_workers), alone)


@pytest.mark.parametrize("options", [{}, {"crop_seconds": None}, {"passes": 2}, {"bad_audio": "skip"}])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_together_give_the_batches_of_one(packed, options, world):
    """Rows, their places, padding and replacements; the last batch, of 4, has nothing for the last of five ranks."""
    lengths = read_table(packed / "utt2num_samples")
    if "bad_audio" in options:
        for utt in list(lengths)[4:7]:
            put(packed, utt, samples=np.zeros(int(lengths[utt])))
    batches, passes = make(packed, **options), options.get("passes", 1)
    whole = list(batches.loader(1))
    ranks = [list(batches.loader(1, rank=rank, world=world)) for rank in range(world)]
    assert len(whole[-1]["ids"]) == 4 * passes
    for shares, batch in zip(zip(*ranks, strict=True), whole, strict=True):
        assert [len(share["ids"]) for share in shares][:1] >= [1]
        size = len(batch["ids"]) // passes
        for share in shares:
            own = len(share["ids"]) // passes
            for k in range(passes):
                rows = slice(k * size + share["first"], k * size + share["first"] + own)
                mine = slice(k * own, (k + 1) * own)
                assert share["ids"][mine] == batch["ids"][rows]
                if own:
                    assert all(torch.equal(share[n][mine], batch[n][rows]) for n in ("noisy", "clean", "lengths"))
        assert sum(len(share["ids"]) for share in shares) == len(batch["ids"])
        assert sum(share["skipped"] for share in shares) == batch["skipped"]


@pytest.mark.parametrize("start", [1, 4])
def test_starting_later_gives_the_rest_of_the_epoch(packed, start):
    whole = list(make(packed).loader(7))
    assert same_stream(make(packed).loader(7, start=start, num_workers=1), whole[start:])


def test_a_batch_is_known_by_epoch_and_index(packed):
    batches = make(packed)
    stream = list(batches.loader(4))
    batches[0, 0]
    assert same(batches[4, 3], stream[3])


def test_seed_and_epoch_change_order_and_crops(packed):
    first, other_epoch, other_seed = make(packed)[0, 0], make(packed)[1, 0], make(packed, seed=4)[0, 0]
    assert first["ids"] != other_epoch["ids"] and first["ids"] != other_seed["ids"]
    whole = [{}, {}]
    for epoch, waves in enumerate(whole):
        for batch in make(packed).loader(epoch):
            waves.update(zip(batch["ids"], batch["noisy"], strict=True))
    moved = [utt for utt in whole[0] if not torch.equal(whole[0][utt], whole[1][utt])]
    assert len(moved) > 15


def test_an_epoch_holds_each_utterance_once(packed):
    for options in ({}, {"crop_seconds": None}, {"shuffle": False}):
        ids = [utt for batch in make(packed, **options).loader(5) for utt in batch["ids"]]
        assert sorted(ids) == list(read_table(packed / "wav.scp"))


def test_validation_has_the_same_crops_in_the_order_of_the_manifest_in_every_epoch(packed):
    batches = make(packed, shuffle=False)
    assert same_stream(batches.loader(0), batches.loader(9))
    assert [utt for batch in batches.loader(0) for utt in batch["ids"]] == list(read_table(packed / "wav.scp"))


def test_loading_leaves_the_random_state_of_training_alone(packed):
    torch.manual_seed(0)
    expected = torch.get_rng_state()
    for num_workers in (0, 1):
        list(make(packed).loader(0, num_workers=num_workers))
        assert torch.equal(torch.get_rng_state(), expected)


# ------------------------------------------------------------ what is in a batch


def test_crops_are_the_stored_samples_of_all_signals_at_one_place(tmp_path, pack):
    audio = pack(tmp_path, LENGTHS)
    ids = list(read_table(tmp_path / "wav.scp"))
    starts = []
    for batch in make(tmp_path).loader(0):
        for row, utt in enumerate(batch["ids"]):
            index, length = ids.index(utt), int(batch["lengths"][row])
            assert length == min(CROP, len(audio["noisy"][index]))
            noisy = batch["noisy"][row, :length].numpy()
            start = int(np.flatnonzero(audio["noisy"][index] == noisy[0])[0])
            while not np.array_equal(audio["noisy"][index][start : start + length], noisy):
                start += 1
            starts.append(start)
            for name in ("clean", "noise"):
                expected = audio[name][index][start : start + length]
                np.testing.assert_array_equal(batch[name][row, :length].numpy(), expected)
    assert len(set(starts)) > 15


def test_short_utterances_are_padded_and_lengths_say_so(packed):
    for batch in make(packed).loader(0):
        assert batch["noisy"].shape == batch["clean"].shape == (len(batch["ids"]), CROP)
        assert batch["lengths"].dtype == torch.int64
        for wave, length in zip(batch["noisy"], batch["lengths"], strict=True):
            assert wave[length:].abs().sum() == 0 and wave[length - 1] != 0


def test_whole_utterances_of_like_length_go_together(tmp_path, pack):
    lengths = [int(n) for n in np.random.default_rng(0).integers(1600, 9000, 300)]
    pack(tmp_path, lengths, signals=("noisy", "clean"))
    stored = {utt: int(n) for utt, n in read_table(tmp_path / "utt2num_samples").items()}
    loaded, useful, first_lengths = 0, 0, []
    for batch in make(tmp_path, batch_size=4, crop_seconds=None).loader(0):
        assert batch["lengths"].tolist() == [stored[utt] for utt in batch["ids"]]
        assert batch["noisy"].shape[1] == batch["lengths"].max()
        loaded += batch["noisy"].numel()
        useful += int(batch["lengths"].sum())
        first_lengths.append(int(batch["lengths"][0]))
    assert useful / loaded > 0.95
    assert first_lengths != sorted(first_lengths)


def test_drop_last_and_too_few_utterances(packed):
    assert make(packed, drop_last=True).num_batches(0) == 4
    assert [len(b["ids"]) for b in make(packed, drop_last=True).loader(0)] == [5] * 4
    with pytest.raises(UserError, match="24 utterances, fewer than batch_size 25"):
        make(packed, batch_size=25, drop_last=True)


@pytest.mark.parametrize(
    ("options", "most"),  # bytes: two line positions and a length; the order of an epoch; where windows end
    [({}, 24 + 8), ({"crop_seconds": 1.0, "crop_hop_seconds": 0.5}, 24 + 5 * 8 + 8)],
)
def test_memory_per_utterance_is_an_index(tmp_path, options, most):
    def held(n):
        ids = [f"spk-{i:07d}" for i in range(n)]
        for name in ("wav.scp", "spk1.scp"):
            write_table(tmp_path / name, ((utt, f"dump/ark/noisy.000001.ark:{i}") for i, utt in enumerate(ids)))
        write_table(tmp_path / "utt2num_samples", ((utt, 48000) for utt in ids))
        del ids
        gc.collect()
        tracemalloc.start()
        batches = make(tmp_path, **options)
        batches._orders[0](0)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return used

    assert (held(40000) - held(10000)) / 30000 < most + 4


# ------------------------------------------------------------ windows

HALF = CROP // 2


def windows(folder, **options):
    return make(folder, **{"crop_hop_seconds": 0.25} | options)


def test_only_complete_windows_count(tmp_path, pack):
    lengths = [16383, 16384, 24575, 24576, 48000]  # 0, 1, 1, 2 and 4 windows of 16384 samples at each 8192
    pack(tmp_path, lengths)
    stored = {utt: int(n) for utt, n in read_table(tmp_path / "utt2num_samples").items()}
    batches = windows(tmp_path, crop_seconds=1.024, crop_hop_seconds=0.512, batch_size=3)
    assert batches.num_batches() == 3
    found = [utt for batch in batches.loader(0) for utt in batch["ids"]]
    places = {n: [f"{utt}@{8192 * k}" for k in range(count)] for (utt, n), count in zip(
        sorted(stored.items(), key=lambda item: item[1]), [0, 1, 1, 2, 4], strict=True
    )}  # fmt: skip
    assert sorted(found) == sorted(sum(places.values(), []))


def test_a_window_is_the_stored_samples_at_the_place_that_its_id_names(tmp_path, pack):
    audio = pack(tmp_path, LENGTHS)
    ids = list(read_table(tmp_path / "wav.scp"))
    for batch in windows(tmp_path).loader(0):
        assert batch["lengths"].tolist() == [CROP] * len(batch["ids"])
        for row, name in enumerate(batch["ids"]):
            utt, start = name.split("@")
            for signal in ("noisy", "clean", "noise"):
                expected = audio[signal][ids.index(utt)][int(start) : int(start) + CROP]
                np.testing.assert_array_equal(batch[signal][row].numpy(), expected)


def test_each_window_is_in_each_epoch_once_and_far_from_its_neighbours(tmp_path, pack):
    pack(tmp_path, [CROP + 20 * HALF] * 12)
    epochs = [[utt for batch in windows(tmp_path).loader(epoch) for utt in batch["ids"]] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]
    assert len(set(epochs[0])) == len(epochs[0]) == 12 * 21
    pairs = zip(epochs[0], epochs[0][1:], strict=False)
    assert sum(a.split("@")[0] == b.split("@")[0] for a, b in pairs) < 50  # 21 by chance


def test_windows_follow_from_seed_epoch_and_index_with_any_workers(packed):
    batches = windows(packed)
    whole = list(batches.loader(2))
    assert same_stream(batches.loader(2, num_workers=2), whole)
    assert same_stream(windows(packed).loader(2, start=3), whole[3:])
    assert same(windows(packed)[2, 4], whole[4])
    assert not same(windows(packed, seed=4)[2, 4], whole[4])


def test_utterances_without_a_window_are_counted_in_the_log(packed, caplog):
    caplog.set_level("INFO")
    batches = windows(packed)
    total = sum((n - CROP) // HALF + 1 for n in LENGTHS if n >= CROP)
    assert f"{packed}: {total} windows of 0.5 s; 2 of 24 utterances are shorter and give none" in caplog.text
    assert batches.num_batches() == -(-total // 5)


def test_a_bad_file_is_skipped_window_by_window(packed):
    utt, n = list(read_table(packed / "utt2num_samples").items())[11]
    put(packed, utt, samples=np.zeros(int(n)))
    with pytest.raises(UserError, match=f"window '{utt}@.*silence"):
        list(windows(packed).loader(0))
    loaded = list(windows(packed, bad_audio="skip").loader(0))
    assert sum(batch["skipped"] for batch in loaded) == (int(n) - CROP) // HALF + 1
    assert not any(name.startswith(f"{utt}@") for batch in loaded for name in batch["ids"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_seconds": None}, "crop_hop_seconds: 0.25, but no crop_seconds"),
        ({"crop_hop_seconds": 0.0}, "crop_hop_seconds: 0.0, expected more than 0 seconds"),
        ({"crop_hop_seconds": -1.0}, "crop_hop_seconds: -1.0, expected more than 0 seconds"),
        ({"feats": "feats"}, "crop_hop_seconds: .* not from stored spectra; train with feats_type: raw"),
        (
            {"crop_seconds": 2.0},
            r"none of 24 utterances lasts crop_seconds 2 \(32000 samples\); the longest has 1.34\d+ s \(21442 ",
        ),
        ({"batch_size": 500, "drop_last": True}, r"has \d+ windows, fewer than batch_size 500"),
    ],
)
def test_windows_that_cannot_be_are_refused(packed, options, message):
    with pytest.raises(UserError, match=message):
        windows(packed, **options)


# ------------------------------------------------------------ several batches in one


@pytest.mark.parametrize("options", [{}, {"crop_hop_seconds": 0.25}, {"crop_seconds": None}])
def test_two_passes_join_the_batches_of_two_independent_orders(packed, options):
    single, double = (list(make(packed, **options, passes=passes).loader(1)) for passes in (1, 2))
    assert len(single) == len(double)
    firsts, seconds = [], []
    for one, two in zip(single, double, strict=True):
        size = len(one["ids"])
        assert len(two["ids"]) == len(two["noisy"]) == 2 * size and two["ids"][:size] == one["ids"]
        assert torch.equal(two["noisy"][:size, : one["noisy"].shape[1]], one["noisy"])
        firsts += two["ids"][:size]
        seconds += two["ids"][size:]
    assert sorted(firsts) == sorted(seconds) and firsts != seconds  # each goes through all of the data


def test_passes_take_other_parts_of_an_utterance(packed):
    waves = [{}, {}]
    for batch in make(packed, passes=2, batch_size=6).loader(0):
        for row, (utt, wave) in enumerate(zip(batch["ids"], batch["noisy"], strict=True)):
            waves[row >= len(batch["ids"]) // 2][utt] = wave
    assert sum(not torch.equal(waves[0][utt], waves[1][utt]) for utt in waves[0]) > 15


# ------------------------------------------------------------ bad input


def put(folder, utt, name="wav.scp", **change):
    """Replace one entry of a manifest by a file of its own: ``samples`` and ``rate``, or ``data`` as bytes."""
    path = folder / f"{utt}.wav"
    if "data" in change:
        path.write_bytes(change["data"])
    else:
        soundfile.write(path, change["samples"], change.get("rate", RATE), subtype="FLOAT")
    rows = read_table(folder / name) | {utt: str(path)}
    write_table(folder / name, rows.items())


def cut(folder, n):
    write_wav(folder / "whole.wav", np.ones(n), RATE)
    return (folder / "whole.wav").read_bytes()[:-100]


NOISE = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
BAD = {
    "nan": (lambda n: {"samples": np.where(np.arange(n) % 50, 0.1, np.nan)}, "NaN"),
    "infinity": (lambda n: {"samples": np.where(np.arange(n) % 50, 0.1, -np.inf)}, "infinite"),
    "silence": (lambda n: {"samples": np.zeros(n)}, "silence"),
    "dc": (lambda n: {"samples": np.full(n, 0.25)}, "constant"),
    "length": (lambda n: {"samples": np.resize(NOISE, n + 1)}, "utt2num_samples says"),
    "stereo": (lambda n: {"samples": np.resize(NOISE, (n, 2))}, "2 channels"),
    "rate": (lambda n: {"samples": np.resize(NOISE, n), "rate": 8000}, "8000 Hz, 16000 Hz expected"),
    "text": (lambda n: {"data": b"this is no audio" * 100}, "not audio"),
    "empty": (lambda n: {"data": b""}, "empty"),
}


@pytest.fixture(params=BAD)
def bad(request, packed):
    """(folder, id of the one bad utterance, what the message has to say)."""
    utt, n = list(read_table(packed / "utt2num_samples").items())[11]
    contents, message = BAD[request.param]
    put(packed, utt, **contents(int(n)))
    return packed, utt, message


def test_bad_audio_stops_with_the_utterance_and_the_reason(bad):
    folder, utt, message = bad
    with pytest.raises(UserError, match=f"utterance '{utt}': .*{utt}.wav.*{message}.*--bad_audio skip"):
        list(make(folder).loader(0))


def test_bad_audio_is_skipped_and_counted_and_batches_keep_their_size(bad):
    folder, utt, _ = bad
    loaded = list(make(folder, bad_audio="skip").loader(0))
    assert [len(batch["ids"]) for batch in loaded] == [5, 5, 5, 5, 4]
    assert sum(batch["skipped"] for batch in loaded) == 1
    assert utt not in [u for batch in loaded for u in batch["ids"]]
    assert all(torch.isfinite(batch["noisy"]).all() for batch in loaded)


def test_what_replaces_bad_audio_does_not_depend_on_workers_or_start(packed):
    utt, n = list(read_table(packed / "utt2num_samples").items())[11]
    put(packed, utt, samples=np.zeros(int(n)))
    batches = make(packed, bad_audio="skip")
    whole = list(batches.loader(0))
    assert same_stream(batches.loader(0, num_workers=2), whole)
    assert same_stream(batches.loader(0, start=2), whole[2:])


def test_a_bad_utterance_is_counted_in_its_own_batch_only(packed):
    lengths = read_table(packed / "utt2num_samples")
    for utt in list(lengths)[4:6]:  # the last of the first batch and, first to replace it, the first of the second
        put(packed, utt, samples=np.zeros(int(lengths[utt])))
    loaded = list(make(packed, bad_audio="skip", shuffle=False).loader(0))
    assert [batch["skipped"] for batch in loaded] == [1, 1, 0, 0, 0]
    assert loaded[0]["ids"] == list(lengths)[:4] + list(lengths)[9:10]


def test_an_error_in_a_worker_is_the_message_alone(packed):
    utt, n = list(read_table(packed / "utt2num_samples").items())[11]
    put(packed, utt, data=cut(packed, int(n)))
    with pytest.raises(UserError, match=f"utterance '{utt}': .*header claims") as caught:
        list(make(packed).loader(0, num_workers=2))
    assert "Traceback" not in str(caught.value)


def test_a_bad_reference_is_found_too(packed):
    utt, n = list(read_table(packed / "utt2num_samples").items())[4]
    put(packed, utt, name="spk1.scp", samples=np.resize(NOISE, int(n) - 1))
    with pytest.raises(UserError, match=f"utterance '{utt}': .*has {int(n) - 1} samples"):
        list(make(packed).loader(0))


def test_digital_silence_in_a_pause_is_no_fault(tmp_path, pack):
    pack(tmp_path, [CROP * 20])
    utt = next(iter(read_table(tmp_path / "wav.scp")))
    samples = np.zeros(CROP * 20)
    samples[:100] = 0.5
    put(tmp_path, utt, samples=samples)
    assert make(tmp_path, batch_size=1)[0, 0]["noisy"].abs().sum() == 0


def test_ten_milliseconds_are_no_utterance(tmp_path, pack):
    pack(tmp_path, [9000, 160])
    with pytest.raises(UserError, match="lasts 10 ms"):
        list(make(tmp_path).loader(0))


def test_nothing_but_bad_audio_is_an_error_and_no_endless_search(packed):
    for utt, n in read_table(packed / "utt2num_samples").items():
        put(packed, utt, samples=np.zeros(int(n)))
    with pytest.raises(UserError, match="too few utterances"):
        make(packed, bad_audio="skip")[0, 0]


def test_manifests_of_other_utterances_are_never_paired(packed):
    rows = read_table(packed / "spk1.scp")
    rows["spk0-utt0000x"] = rows.pop("spk0-utt0000")
    write_table(packed / "spk1.scp", rows.items())
    with pytest.raises(UserError, match="spk1.scp:1: 'spk0-utt0000' of wav.scp:1 is missing"):
        make(packed)


@pytest.mark.parametrize("name", ["spk1.scp", "wav.scp", "utt2num_samples"])
def test_a_missing_manifest_is_named(packed, name):
    (packed / name).unlink()
    with pytest.raises(UserError, match=f"{name}: missing"):
        make(packed)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"crop_seconds": 0}, {"bad_audio": "ignore"}])
def test_impossible_options_are_refused(packed, options):
    with pytest.raises(UserError, match=next(iter(options))):
        make(packed, **options)


# ------------------------------------------------------------ batches by total length


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_by_length_hold_no_more_than_so_many_seconds_and_each_utterance_once(packed, shuffle):
    lengths = {utt: int(n) for utt, n in read_table(packed / "utt2num_samples").items()}
    most = 2 * max(lengths.values()) + 10
    batches = make(packed, crop_seconds=None, batch_seconds=most / RATE, shuffle=shuffle)
    loaded = list(batches.loader(3))
    assert len(loaded) == batches.num_batches(3)
    assert all(batch["noisy"].numel() <= most for batch in loaded)
    assert sorted(u for batch in loaded for u in batch["ids"]) == sorted(lengths)
    assert len({len(batch["ids"]) for batch in loaded}) > 1
    assert batches.batch_bytes() >= max(batch["noisy"].nbytes + batch["clean"].nbytes for batch in loaded)


def test_batches_by_length_are_shared_and_resumed_like_others(packed):
    batches = make(packed, crop_seconds=None, batch_seconds=3.0)
    whole = list(batches.loader(1))
    assert same_stream(batches.loader(1, start=2), whole[2:])
    ranks = [list(batches.loader(1, rank=rank, world=2)) for rank in (0, 1)]
    assert [a["ids"] + b["ids"] for a, b in zip(*ranks, strict=True)] == [batch["ids"] for batch in whole]


def test_an_utterance_that_is_too_long_is_a_batch_of_its_own(packed):
    loaded = list(make(packed, crop_seconds=None, batch_seconds=0.01).loader(0))
    assert all(len(batch["ids"]) == 1 for batch in loaded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "with crop_seconds all items are of one length; use batch_size"),
        ({"crop_seconds": None, "passes": 2}, "several batches of one size in a step; use batch_size"),
    ],
)
def test_batches_by_length_need_whole_utterances_and_one_pass(packed, options, message):
    with pytest.raises(UserError, match=f"batch_seconds: .*{message}"):
        make(packed, batch_seconds=3.0, **options)
