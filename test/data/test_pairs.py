"""Existing pairs, and recordings without references, as mixed sets. Bytes and pipes are in test_mixing."""

import numpy as np
import pytest
import soundfile
from scipy import signal

from senet.bin import mix
from senet.data import audio
from senet.data.pairs import covering_length
from senet.data.scp import Scp, read_ints, read_table, write_table
from senet.errors import UserError


@pytest.fixture
def make(tmp_path):
    """``make(signals, rate=48000, subtype="PCM_16")`` writes data/set from {"wav": [x, ...], "spk1": ...}, formats it
    at 16 kHz and gives the folder; more words go to senet.bin.mix."""

    def made(signals, *words, rate=48000, subtype="PCM_16", labels=None):
        data, out = tmp_path / "data", tmp_path / "dump"
        for name, audios in signals.items():
            paths = [tmp_path / f"{name}{i}.wav" for i in range(len(audios))]
            for path, x in zip(paths, audios, strict=True):
                soundfile.write(path, x, rate, subtype)
            write_table(data / "set" / f"{name}.scp", [(f"p-{i:02d}", path) for i, path in enumerate(paths)])
        write_table(data / "set" / "utt2spk", [(f"p-{i:02d}", "p") for i in range(len(signals["wav"]))])
        for name, values in (labels or {}).items():
            write_table(data / "set" / name, values)
        mix.main(["--data", str(data), "--speech", "set", "--policy", "pairs", "--out", str(out), "--nj", "1", *words])
        return out

    return made


def stored(out, name):
    scp = Scp(out / f"{name}.scp")
    return [np.rint(32768 * audio.read(value, root=scp.root)[0]).astype(int) for _, value in scp]


def tone(frequency, n=24000, rate=48000):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(n) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_every_sample_within_the_recording_is_made(make, rate):
    lengths = [4800, 4801, 4802, 4803]
    out = make({"wav": [np.full(n, 0.25) for n in lengths]}, rate=rate)
    assert read_ints(out / "utt2num_samples").tolist() == [-(-n * 16000 // rate) for n in lengths]
    assert [covering_length(n, rate, 16000) for n in lengths] == [len(x) for x in stored(out, "wav")]


def test_the_resampler_passes_speech_and_stops_what_would_alias(make):
    """VoiceBank-DEMAND's specification: pass band to about 7.6 kHz, stop band from 8 kHz."""
    frequencies = [100.5, 1000.5, 4000.5, 7000.5, 7400.5, 7600.5, 8000.5, 8400.5, 9000.5, 12000.5, 20000.5]
    out = make({"wav": [tone(f) for f in frequencies]}, subtype="FLOAT")
    gains = [20 * np.log10(x[2000:-2000].std() * np.sqrt(8) / 32768 + 1e-9) for x in stored(out, "wav")]
    assert np.abs(gains[:5]).max() < 0.01
    assert gains[5] > -3.1
    assert max(gains[6:]) < -90  # nothing but zeros in 16 bit


def test_rounding_is_to_the_nearest_and_without_dither(make):
    x = np.arange(-4000, 4000) / 32768 + 0.3 / 32768
    out = make({"wav": [x]}, rate=16000, subtype="FLOAT")
    assert np.array_equal(stored(out, "wav")[0], np.arange(-4000, 4000))


def test_equal_recordings_stay_equal(make):
    x = np.random.default_rng(0).standard_normal(30000) / 8
    out = make({"wav": [x], "spk1": [x]})
    assert not np.any(stored(out, "noise1")[0])
    assert read_table(out / "utt2snr_estimated") == {"p-00": "inf"}


def test_estimated_snr_leaves_pauses_out(make):
    rng = np.random.default_rng(0)
    speech = np.concatenate([rng.standard_normal(16000), np.zeros(48000)]) / 10
    noise = rng.standard_normal(64000) / 100
    out = make({"wav": [speech + noise], "spk1": [speech]}, rate=16000)
    # 20 dB while there is speech, whose end is seen 200 ms late; 14 dB over all of it.
    assert 18.7 < float(read_table(out / "utt2snr_estimated")["p-00"]) < 20
    assert not (out / "utt2snr").exists()


def test_pairs_are_grouped_by_the_sound_of_their_noise(make):
    rng = np.random.default_rng(0)
    bands = (500, "low"), (3000, "high"), ((800, 1500), "band")
    shapes = [signal.butter(2, edge, kind, fs=16000) for edge, kind in bands]
    kinds = [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
    clean = [tone(300, 16000 + 100 * i, 16000) * (np.arange(16000 + 100 * i) % 4000 < 2500) for i in range(len(kinds))]
    noises = [signal.lfilter(*shapes[k], rng.normal(size=len(x))) for k, x in zip(kinds, clean, strict=True)]
    noisy = [x + 10 ** (-rng.uniform(20, 45) / 20) * n / n.std() for x, n in zip(clean, noises, strict=True)]
    out = make({"wav": noisy, "spk1": clean}, "--noise_types", "3", rate=16000)
    assert list(read_table(out / "utt2noise_estimated").values()) == [f"noise{k + 1}" for k in kinds]
    make({"wav": noisy[:2], "spk1": clean[:2]}, "--noise_types", "3", rate=16000)  # fewer pairs than noises
    assert read_table(out / "utt2noise_estimated") == {"p-00": "noise1", "p-01": "noise2"}


def test_number_of_noises_is_checked(make):
    with pytest.raises(UserError, match="from 1 on, for --policy pairs"):
        make({"wav": [tone(300)], "spk1": [tone(300)]}, "--noise_types", "0")


def test_what_the_corpus_says_is_passed_on(make):
    x = [tone(300), tone(500)]
    labels = {"utt2snr": [("p-00", "2.5"), ("p-01", "7.5")], "utt2rir": [("p-00", "none"), ("p-01", "room")]}
    out = make({"wav": x, "spk1": x}, labels=labels)
    assert read_table(out / "utt2snr") == dict(labels["utt2snr"])
    assert read_table(out / "utt2rir") == dict(labels["utt2rir"])
    assert not (out / "utt2snr_estimated").exists()


def test_labels_of_some_recordings_only_are_refused(make):
    x = [tone(300), tone(500)]
    with pytest.raises(UserError, match="utt2snr: lacks 1 of the 2 ids in wav.scp, such as 'p-01'"):
        make({"wav": x, "spk1": x}, labels={"utt2snr": [("p-00", "2.5")]})


def test_recordings_without_references_are_noisy_alone(make):
    x = [tone(300), tone(500, n=20000)]
    out = make({"wav": x}, labels={"utt2noise": [("p-00", "a"), ("p-01", "b")]})
    assert len(stored(out, "wav")) == 2
    assert sorted(path.name for path in (out / "ark").iterdir()) == ["noisy.000001.ark", "shard.000001.tsv"]
    assert not [name for name in ("spk1.scp", "noise1.scp", "utt2snr_estimated", "utt2snr") if (out / name).exists()]
    assert read_table(out / "utt2noise") == {"p-00": "a", "p-01": "b"}
    assert read_table(out / "utt2dur") == {"p-00": "0.5000", "p-01": "0.4167"}


def test_references_that_vanish_are_not_left_in_the_set(make, tmp_path):
    make({"wav": [tone(300)], "spk1": [tone(400)]})
    (tmp_path / "data" / "set" / "spk1.scp").unlink()
    out = make({"wav": [tone(300)]})
    assert not (out / "spk1.scp").exists() and not list((out / "ark").glob("clean*"))


@pytest.mark.parametrize("on_clip", ["none", "scale_all"])
def test_beyond_full_scale_is_clipped_or_scaled_and_the_sum_stays_exact(make, on_clip):
    clean = 1.6 * tone(300)
    noisy = clean + 0.3
    out = make({"wav": [noisy], "spk1": [clean]}, "--on_clip", on_clip, subtype="FLOAT")
    noisy, clean, noise = (stored(out, name)[0] for name in ("wav", "spk1", "noise1"))
    assert np.array_equal(noisy, clean + noise)
    if on_clip == "none":
        assert noisy.max() == 32767 and clean.max() == pytest.approx(0.8 * 32768, abs=2)
    else:
        assert noisy.max() == pytest.approx(0.99 * 32768, abs=2)
        assert clean.max() / noisy.max() == pytest.approx(0.8 / 1.1, abs=1e-3)
