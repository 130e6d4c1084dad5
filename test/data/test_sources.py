import os
import pickle
import tracemalloc

import numpy as np
import pytest
import soundfile

from senet.data.audio import AudioError
from senet.data.policies import Dns
from senet.data.scp import write_table
from senet.data.sources import SourceSet
from senet.dsp.resample import resample
from senet.errors import UserError

RATE = 16000


@pytest.fixture
def make(tmp_path):
    """``make(name, {id: (samples, rate)}, **tables)``: a source set of wav files."""

    def make(name, recordings, **tables):
        folder = tmp_path / name
        (folder / "files").mkdir(parents=True)
        for key, (x, rate) in recordings.items():
            soundfile.write(folder / "files" / f"{key}.wav", x, rate, "FLOAT")
        write_table(folder / "utt2spk", [(key, key) for key in recordings])
        write_table(folder / "utt2num_samples", [(key, len(x)) for key, (x, _) in recordings.items()])
        write_table(folder / "utt2fs", [(key, rate) for key, (_, rate) in recordings.items()])
        for table, value in tables.items():
            write_table(folder / table, [(key, value) for key in recordings])
        write_table(folder / "wav.scp", [(key, folder / "files" / f"{key}.wav") for key in recordings])
        return folder

    return make


def noise(seconds, rate, channels=(), seed=0):
    return 0.2 * np.random.default_rng(seed).standard_normal((round(seconds * rate), *channels))


@pytest.mark.parametrize("rate", [48000, 44100, 22050, 8000])
def test_a_crop_at_another_rate_equals_that_of_the_whole_file(make, rate):
    x = noise(4, rate)
    sources = SourceSet(make("noise", {"a": (x, rate)}), RATE)
    whole = resample(x, rate, RATE)
    np.testing.assert_array_equal(sources.read(0), whole)
    for start, length in ((0, RATE), (12345, 2 * RATE), (4 * RATE - 500, 500), (7, 1)):
        np.testing.assert_allclose(sources.read(0, start, length), whole[start : start + length], atol=1e-6)


def test_a_crop_at_another_rate_does_not_read_the_whole_file(make, monkeypatch):
    sources = SourceSet(make("noise", {"a": (noise(20, 48000), 48000)}), RATE)
    from senet.data import audio

    asked, read = [], audio.read
    monkeypatch.setattr(audio, "read", lambda value, start, n, **more: asked.append(n) or read(value, start, n, **more))
    sources.read(0, 100000, RATE)
    assert len(asked) == 1 and 48000 < asked[0] < 51000


def test_mean_or_one_of_the_channels_as_asked_for(make):
    x = noise(1, 48000, (3,))
    folder = make("rir", {"a": (x, 48000)})
    np.testing.assert_allclose(SourceSet(folder, 48000).read(0), x.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(SourceSet(folder, 48000, channel=0).read(0), x[:, 0], atol=1e-6)
    np.testing.assert_array_equal(SourceSet(folder, RATE, channel=0).read(0), resample(x[:, 0], 48000, RATE))


def test_what_was_just_read_is_not_read_again_and_cannot_be_changed(make):
    folder = make("noise", {"a": (noise(2, RATE), RATE)})
    sources = SourceSet(folder, RATE)
    x = sources.read(0, 100, 1000)
    assert sources.read(0, 100, 1000) is x
    assert sources.read(0, 100, 1001) is not x
    with pytest.raises(ValueError, match="read-only"):
        x *= 2


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: os.truncate(path, 20000), "cut"),
        (lambda path: soundfile.write(path, np.zeros(999), RATE), "length"),
        (lambda path: soundfile.write(path, np.zeros(2 * RATE), 8000), "rate"),
        (lambda path: soundfile.write(path, np.full(2 * RATE, np.nan), RATE, "FLOAT"), "nan"),
    ],
)
def test_a_source_that_is_no_longer_what_was_listed_is_named(make, harm, reason):
    folder = make("noise", {"a": (noise(2, RATE), RATE)})
    sources = SourceSet(folder, RATE)
    harm(folder / "files" / "a.wav")
    with pytest.raises(AudioError, match=r"files/a\.wav") as error:
        sources.read(0, 0, RATE)
    assert error.value.reason == reason


def test_tables_of_other_ids_are_refused(make):
    folder = make("noise", {"a": (noise(1, RATE), RATE), "b": (noise(1, RATE), RATE)}, utt2noise="bus")
    assert SourceSet(folder, RATE).table("utt2noise").value(1) == "bus"
    assert SourceSet(folder, RATE).table("utt2recording") is None
    write_table(folder / "utt2spk", [("a", "a")])
    with pytest.raises(UserError, match="utt2spk: its ids differ"):
        SourceSet(folder, RATE)


def test_a_set_goes_to_another_process_as_its_name(make):
    sources = SourceSet(make("rir", {"a": (noise(1, 48000, (2,)), 48000)}), RATE, channel=0)
    sources.read(0)
    sent = pickle.dumps(sources)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read(0), sources.read(0))


def test_nothing_is_held_for_a_recording_but_numbers(tmp_path):
    """A million recordings have to fit beside the batches, in each loading process."""
    number = 50000
    keys = [f"reader_{i:012d}" for i in range(number)]
    for name, value in (("wav.scp", "/corpora/dns5/clean/a_rather_long_folder_name/{}.wav"), ("utt2spk", "{}"),
                        ("utt2num_samples", "160000"), ("utt2fs", "16000"), ("utt2noise", "bus")):  # fmt: skip
        write_table(tmp_path / name, ((key, value.format(key)) for key in keys))
    tracemalloc.start()
    sources = SourceSet(tmp_path, RATE)
    Dns("x", sources, sources, rir=sources, num_samples=RATE, gap_samples=0, snr_range=(0, 1), level_range=(0, 1),
        rir_prob=1, seed=0, min_rms_db=-80, exclude_types=())  # fmt: skip
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 64 * number
