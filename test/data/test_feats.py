import json
import subprocess
import sys

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from torch.nn.utils import parameters_to_vector

from senet.bin.feats import main
from senet.data import feats
from senet.data.audio import write_wav
from senet.data.dataset import Batches
from senet.data.scp import read_ints, read_table, write_table
from senet.dsp.fbank import Fbank
from senet.dsp.stft import STFT
from senet.errors import UserError
from senet.losses.spectral import CompressedSpectrum
from senet.models.lowlatency import LowLatencyNet
from senet.train.supervised import Supervised

RATE = 16000
LENGTHS = [4000 + 1571 * ((5 * i) % 11) for i in range(11)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feats, "SHARD_SIZE", 4)


@pytest.fixture
def stage(tmp_path):
    """``stage("stft", "--job", "1/2")`` runs the command from raw/ to <feats_type>/; returns the folder."""

    def call(feats_type, *options, out=None):
        src = tmp_path / "raw"
        out = src if feats_type == "raw" else tmp_path / (out or feats_type)
        main(["--feats_type", feats_type, "--src", str(src), "--out", str(out), *options])
        return out

    return call


@pytest.fixture
def audio(tmp_path, pack):
    return pack(tmp_path / "raw", LENGTHS)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ------------------------------------------------------------ values


def naive_stft(x, n_fft=512, hop=160, win=400):
    """DFT of Hann-windowed frames around each multiple of the hop, by definition."""
    window = np.zeros(n_fft)
    window[(n_fft - win) // 2 :][:win] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win)
    padded = np.pad(x.astype(np.float64), n_fft // 2)
    frames = [padded[t * hop : t * hop + n_fft] * window for t in range(1 + len(x) // hop)]
    return np.fft.rfft(frames)


def kaldi_fbank(x, rate, bins, *, snip_edges):
    """Kaldi's feature-window.cc, feature-fbank.cc and mel-computations.cc with dither 0, in float64."""
    x = x.astype(np.float64) * 32768
    length, shift = rate * 25 // 1000, rate * 10 // 1000
    if snip_edges:
        starts = np.arange(0, len(x) - length + 1, shift)
    else:
        starts = np.arange((len(x) + shift // 2) // shift) * shift + shift // 2 - length // 2
    index = starts[:, None] + np.arange(length)
    index = np.where(index < 0, -index - 1, index)
    frames = x[np.where(index >= len(x), 2 * len(x) - 1 - index, index)]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    size = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * hann**0.85, size)) ** 2

    def mel(f):
        return 1127 * np.log(1 + f / 700)

    edges = np.linspace(mel(20), mel(rate / 2), bins + 2)
    grid = mel(np.arange(size // 2) * rate / size)[:, None]
    rise = (grid - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - grid) / (edges[2:] - edges[1:-1])
    energies = power[:, :-1] @ np.maximum(0, np.minimum(rise, fall))
    return np.log(np.maximum(energies, np.finfo(np.float32).eps))


def test_stft_rows_are_real_and_imaginary_parts_of_the_spectrum(audio, stage):
    folder = stage("stft")
    for name, scp in (("noisy", "feats.scp"), ("clean", "spk1_feats.scp")):
        stored = kaldiio.load_scp(str(folder / scp))
        for utt, wave in zip(stored, audio[name], strict=True):
            spec = naive_stft(wave)
            assert stored[utt].dtype == np.float32 and stored[utt].shape == (1 + len(wave) // 160, 514)
            np.testing.assert_allclose(stored[utt], np.hstack([spec.real, spec.imag]), atol=2e-5)


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_fbank_is_kaldis(tmp_path, pack, stage, snip_edges, rate):
    audio = pack(tmp_path / "raw", LENGTHS[:3], sample_rate=rate)
    folder = stage("fbank", "--snip_edges", str(snip_edges).lower(), "--num_mel_bins", "40")
    stored = kaldiio.load_scp(str(folder / "feats.scp"))
    for utt, wave in zip(stored, audio["noisy"], strict=True):
        np.testing.assert_allclose(stored[utt], kaldi_fbank(wave, rate, 40, snip_edges=snip_edges), atol=1e-3)


def test_fbank_of_speech_is_kaldis(real_data):
    path = min((real_data / "LibriSpeech").rglob("*.flac"))
    wave, rate = soundfile.read(path, dtype="float32")
    difference = np.abs(Fbank(rate)(torch.from_numpy(wave)).numpy() - kaldi_fbank(wave, rate, 80, snip_edges=True))
    # Kaldi and torchaudio make the filters in float32, which shows where a narrow filter has next to no energy.
    assert difference.mean() < 1e-5 and difference.max() < 5e-3


def test_fbank_of_silence_within_a_signal_is_the_floor(tmp_path, pack, stage):
    pack(tmp_path / "raw", [8000])
    wave = np.random.default_rng(0).standard_normal(8000) * 0.1
    wave[2000:6000] = 0
    write_wav(tmp_path / "x.wav", wave, RATE)
    (utt,) = read_table(tmp_path / "raw" / "wav.scp")
    write_table(tmp_path / "raw" / "wav.scp", [(utt, tmp_path / "x.wav")])
    stored = kaldiio.load_scp(str(stage("fbank") / "feats.scp"))[utt]
    assert stored.shape == (48, 80)
    np.testing.assert_allclose(stored[20], np.log(np.finfo(np.float32).eps), rtol=1e-6)


@pytest.mark.parametrize("feats_type", ["stft", "fbank"])
def test_cmvn_holds_kaldis_statistics_of_all_frames(audio, stage, feats_type):
    folder = stage(feats_type)
    rows = np.vstack(list(kaldiio.load_scp(str(folder / "feats.scp")).values())).astype(np.float64)
    stats = kaldiio.load_scp(str(folder / "cmvn.scp"))["global"]
    assert stats.dtype == np.float64
    np.testing.assert_allclose(stats[0], [*rows.sum(0), len(rows)], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(stats[1], [*np.square(rows).sum(0), 0], rtol=1e-9)
    assert read_ints(folder / "utt2num_frames").sum() == len(rows)
    assert float((folder / "frame_shift").read_text()) == 0.01


def test_manifests_come_along(audio, stage, tmp_path):
    write_table(tmp_path / "raw" / "utt2snr", ((utt, 3.5) for utt in read_table(tmp_path / "raw" / "wav.scp")))
    folder = stage("stft")
    for name in ("wav.scp", "spk1.scp", "noise1.scp", "utt2spk", "spk2utt", "utt2num_samples", "utt2snr"):
        assert (folder / name).read_bytes() == (tmp_path / "raw" / name).read_bytes()


def test_raw_measures_and_rewrites_nothing(audio, stage, tmp_path):
    before = contents(tmp_path / "raw")
    folder = stage("raw")
    after = contents(folder)
    assert {k: v for k, v in after.items() if k.parts[0] != "stats"} == before
    for name, measure in (("utt2rms", lambda x: np.sqrt(np.mean(x**2))), ("utt2peak", lambda x: np.abs(x).max())):
        expected = [measure(wave.astype(np.float64)) for wave in audio["noisy"]]
        values = [float(v) for v in read_table(folder / "stats" / name).values()]
        np.testing.assert_allclose(values, expected, atol=1e-6)
    summary = json.loads((folder / "stats" / "summary.json").read_text())
    power = np.mean(np.concatenate(audio["clean"]).astype(np.float64) ** 2)
    assert summary["clean"]["rms_dbfs"] == pytest.approx(10 * np.log10(power), abs=0.006)
    assert summary["seconds"]["max"] == max(LENGTHS) / RATE and summary["utterances"] == len(LENGTHS)


# ------------------------------------------------------------ jobs, resuming


@pytest.mark.parametrize("feats_type", ["raw", "stft", "fbank"])
def test_the_number_of_jobs_does_not_change_a_byte(audio, stage, feats_type):
    alone = contents(stage(feats_type))
    folder = stage(feats_type)
    for path in alone:
        if feats_type != "raw" or path.parts[0] == "stats":
            (folder / path).unlink()
    for j in (2, 3, 1):
        stage(feats_type, "--job", f"{j}/3")
    stage(feats_type, "--collect")
    assert contents(folder) == alone


def test_what_is_done_is_not_done_again(audio, stage, monkeypatch):
    folder = stage("stft")
    expected = contents(folder)
    monkeypatch.setattr(feats.StoredFeatures, "_make", None)
    stage("stft")
    assert contents(folder) == expected


def test_after_an_interruption_the_rest_is_made(audio, stage, monkeypatch):
    expected = contents(stage("stft"))
    waves, made = feats.StoredFeatures._waves, []

    def interrupted(self, i):
        made.append(i)
        if len(made) == 7:
            raise KeyboardInterrupt
        return waves(self, i)

    (folder := stage("stft")).rename(folder.with_name("before"))
    monkeypatch.setattr(feats.StoredFeatures, "_waves", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage("stft")
    stage("stft")
    assert contents(folder) == expected
    assert sorted(set(made)) == list(range(len(LENGTHS))) and made.count(0) == 1 and made.count(4) == 2


def test_features_that_are_being_replaced_cannot_be_read(audio, stage):
    folder = stage("stft")
    stage("stft", "--n_fft", "400", "--job", "1/3")
    with pytest.raises(UserError, match="feats_config.json: missing; stage 3"):
        batches(folder, folder)


@pytest.mark.parametrize("change", ["option", "audio", "manifest"])
def test_changed_options_audio_and_manifests_are_made_again(audio, stage, tmp_path, pack, change):
    folder = stage("stft")
    options = ["--n_fft", "400"] if change == "option" else []
    if change != "option":
        pack(tmp_path / "raw", LENGTHS[:9] if change == "manifest" else LENGTHS, seed=1)
    with pytest.raises(UserError, match="missing or out of date"):
        stage("stft", "--collect", *options)
    stage("stft", *options)
    fresh = stage("stft", *options, out="fresh")
    stored, expected = (dict(kaldiio.load_scp(str(f / "feats.scp"))) for f in (folder, fresh))
    assert stored.keys() == expected.keys()
    for utt in expected:
        np.testing.assert_array_equal(stored[utt], expected[utt])
    assert (folder / "cmvn.ark").read_bytes() == (fresh / "cmvn.ark").read_bytes()


def test_collect_says_how_many_shards_are_missing(audio, stage):
    stage("stft", "--job", "1/3")
    with pytest.raises(UserError, match=r"000002.json: missing or out of date \(2 of 3 shards\); run senet.bin.feats"):
        stage("stft", "--collect")


def test_bad_audio_is_named(audio, stage, tmp_path):
    rows = read_table(tmp_path / "raw" / "wav.scp")
    utt = list(rows)[6]
    write_wav(tmp_path / "x.wav", np.zeros(100), RATE)
    write_table(tmp_path / "raw" / "wav.scp", (rows | {utt: str(tmp_path / "x.wav")}).items())
    with pytest.raises(UserError, match=f"utterance '{utt}': .*x.wav: has 100 samples"):
        stage("stft")


@pytest.mark.parametrize("feats_type", ["stft", "fbank"])
def test_dry_run_says_the_disk_that_the_matrices_take(audio, stage, tmp_path, capsys, feats_type):
    out = stage(feats_type)
    stored = sum(path.stat().st_size for path in (out / "ark").glob("*.ark"))
    stage(feats_type, "--dry_run", str(sum(LENGTHS)), out="nowhere")
    said = int(capsys.readouterr().out.split()[-2])
    assert said == pytest.approx(stored, rel=0.05)
    assert not (tmp_path / "nowhere").exists()


def test_raw_features_stay_where_the_audio_is(audio, tmp_path):
    with pytest.raises(UserError, match="raw features are the audio itself"):
        main(["--feats_type", "raw", "--src", str(tmp_path / "raw"), "--out", str(tmp_path / "other")])


def test_spectra_from_before_windows_and_paddings_were_options_have_the_first_of_them(audio, stage, tmp_path):
    config = stage("stft") / "feats_config.json"
    old = {name: v for name, v in json.loads(config.read_text()).items() if name not in ("window", "padding")}
    config.write_text(json.dumps(old))
    assert batches(tmp_path / "raw", tmp_path / "stft", stft=STFT())[0, 0]["noisy_stft"].shape[1] == 257
    with pytest.raises(UserError, match="padding is zeros, reflect expected"):
        batches(tmp_path / "raw", tmp_path / "stft", stft=STFT(padding="reflect"))


def test_transforms_that_do_not_exist_are_refused(audio, stage):
    with pytest.raises(UserError, match="window is 'blackman', expected one of hann, sqrt_hann, hamming"):
        stage("stft", "--window", "blackman")
    with pytest.raises(UserError, match="padding is 'none', expected one of zeros, reflect, full"):
        stage("stft", "--padding", "none")


def test_filters_beyond_the_nyquist_frequency_are_refused(audio, stage):
    with pytest.raises(UserError, match="20 to 9000 Hz; at least 4 expected, within 0 to 8000 Hz"):
        stage("fbank", "--high_freq", "9000")


def test_help_and_raw_statistics_import_no_torch():
    code = (
        "import sys, senet.data.feats, senet.bin.feats; senet.bin.feats.get_parser().format_help();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ------------------------------------------------------------ training from stored spectra


def batches(folder, stored=None, **options):
    return Batches(folder, **{"batch_size": 4, "sample_rate": RATE, "seed": 0, "feats": stored} | options)


def small_model():
    torch.manual_seed(0)
    return LowLatencyNet(channels=4, maps=2, dilations=(1,), lstm_units=8, fc_units=8, causal=True)


def test_stored_spectra_are_the_models(audio, stage, tmp_path):
    stored, model = stage("stft"), small_model()
    for ours, raw in zip(batches(stored, stored).loader(1), batches(tmp_path / "raw").loader(1), strict=True):
        assert ours["ids"] == raw["ids"] and torch.equal(ours["lengths"], raw["lengths"])
        assert torch.equal(ours["frame_lengths"], model.stft.num_frames(raw["lengths"]))
        for name in ("noisy", "clean"):
            spec = model.analysis(raw[name])
            assert ours[f"{name}_stft"].dtype == torch.complex64 and ours[f"{name}_stft"].shape == spec.shape
            for row, frames in enumerate(ours["frame_lengths"]):
                expected, found = spec[row, :, :frames], ours[f"{name}_stft"][row, :, :frames]
                if frames < spec.shape[2]:  # the last window reaches into the padding, of zeros in both
                    assert ours[f"{name}_stft"][row, :, frames:].abs().sum() == 0
                assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("crop_seconds", [None, 0.2])
@pytest.mark.parametrize("padding", ["reflect", "full"])
def test_other_windows_and_paddings_are_stored_and_told(audio, stage, tmp_path, padding, crop_seconds):
    stored = stage("stft", "--n_fft", "320", "--win_length", "320", "--window", "sqrt_hann", "--padding", padding)
    stft = STFT(320, 160, 320, "sqrt_hann", padding)
    found = json.loads((stored / "feats_config.json").read_text())
    assert (found["window"], found["padding"]) == ("sqrt_hann", padding)
    spectra = kaldiio.load_scp(str(stored / "feats.scp"))
    for utt, wave in zip(spectra, audio["noisy"], strict=True):
        expected = stft(torch.from_numpy(wave)[None])[0].T
        np.testing.assert_allclose(spectra[utt], torch.cat([expected.real, expected.imag], 1), atol=1e-5)
        assert len(spectra[utt]) == stft.num_frames(len(wave))
    for batch in batches(stored, stored, stft=stft, crop_seconds=crop_seconds).loader(0):
        assert torch.equal(batch["frame_lengths"], stft.num_frames(batch["lengths"]))
        if crop_seconds:
            assert batch["noisy_stft"].shape[2] == stft.num_frames(3200) and batch["lengths"].max() <= 3200
        else:
            assert batch["noisy_stft"].shape[2] == batch["frame_lengths"].max()


@pytest.mark.parametrize("crop_seconds", [None, 1.5])
def test_training_from_raw_and_from_stored_spectra_gives_the_same_losses(audio, stage, tmp_path, crop_seconds):
    stored = stage("stft")
    assert max(LENGTHS) < 1.5 * RATE
    losses, weights = {}, {"start": parameters_to_vector(small_model().parameters())}
    for kind, folder in (("raw", None), ("stft", stored)):
        model = small_model()
        objective = Supervised(model, CompressedSpectrum(reduction="mean"), optim_conf={"lr": 0.01})
        data = batches(stored if folder else tmp_path / "raw", folder, crop_seconds=crop_seconds)
        losses[kind] = [float(objective.step(batch)["loss"]) for epoch in range(3) for batch in data.loader(epoch)]
        weights[kind] = parameters_to_vector(model.parameters())
    np.testing.assert_allclose(losses["stft"], losses["raw"], rtol=1e-5)
    assert not torch.allclose(weights["raw"], weights["start"], atol=1e-3)
    assert torch.allclose(weights["stft"], weights["raw"], atol=1e-5)


def test_crops_of_stored_spectra_are_whole_frames_of_both_signals(audio, stage):
    stored = stage("stft")
    whole = {name: kaldiio.load_scp(str(stored / name)) for name in ("feats.scp", "spk1_feats.scp")}
    starts = []
    for batch in batches(stored, stored, crop_seconds=0.3).loader(0):
        for row, utt in enumerate(batch["ids"]):
            frames = int(batch["frame_lengths"][row])
            total = len(whole["feats.scp"][utt])
            assert frames == min(31, total) and 1 + batch["lengths"][row] // 160 == frames
            assert batch["noisy_stft"].shape[2] == 31
            pieces = {}
            for name, scp in (("noisy_stft", "feats.scp"), ("clean_stft", "spk1_feats.scp")):
                found = batch[name][row].numpy().T[:frames]
                rows = whole[scp][utt][:, :257] + 1j * whole[scp][utt][:, 257:]
                pieces[name] = [s for s in range(total - frames + 1) if np.array_equal(rows[s : s + frames], found)]
            assert pieces["noisy_stft"] == pieces["clean_stft"] and len(pieces["noisy_stft"]) == 1
            starts += pieces["noisy_stft"]
    assert len(set(starts)) > 5


def test_stored_batches_do_not_depend_on_workers(audio, stage):
    stored = stage("stft")
    streams = [list(batches(stored, stored, crop_seconds=0.3).loader(0, num_workers=n)) for n in (0, 1)]
    for alone, worked in zip(*streams, strict=True):
        assert alone["ids"] == worked["ids"] and torch.equal(alone["noisy_stft"], worked["noisy_stft"])


def test_an_ark_that_was_cut_stops_training_with_the_utterance(audio, stage):
    stored = stage("stft")
    ark = stored / "ark" / "feats.000002.ark"
    ark.write_bytes(ark.read_bytes()[:-8])
    utt = list(read_table(stored / "feats.scp"))[7]
    with pytest.raises(UserError, match=f"utterance '{utt}': .*it was cut"):
        list(batches(stored, stored).loader(0))
    loaded = list(batches(stored, stored, bad_audio="skip").loader(0))
    assert sum(batch["skipped"] for batch in loaded) == 1 and [len(b["ids"]) for b in loaded] == [4, 4, 3]


def test_other_features_and_other_rates_are_refused(audio, stage, tmp_path):
    with pytest.raises(UserError, match="feats_type is fbank, stft expected"):
        batches(tmp_path / "raw", stage("fbank"))
    with pytest.raises(UserError, match="sample_rate is 16000, 8000 expected"):
        batches(tmp_path / "raw", stage("stft"), sample_rate=8000)
    with pytest.raises(UserError, match="hop_length is 160, 128 expected by the model; .* --hop_length 128"):
        batches(tmp_path / "raw", tmp_path / "stft", stft=STFT(hop_length=128))
    with pytest.raises(UserError, match="window is hann, hamming expected by the model; .* --window hamming"):
        batches(tmp_path / "raw", tmp_path / "stft", stft=STFT(window="hamming"))
    with pytest.raises(UserError, match="padding is zeros, full expected by the model; .* --padding full"):
        batches(tmp_path / "raw", tmp_path / "stft", stft=STFT(padding="full"))
    assert batches(tmp_path / "raw", tmp_path / "stft", stft=STFT())[0, 0]["noisy_stft"].shape[1] == 257
    with pytest.raises(UserError, match=r"feats_config.json: missing; stage 3"):
        batches(tmp_path / "raw", stage("raw"))
