"""The train command, from options to an experiment."""

import json

import pytest

from senet.bin import feats, train
from senet.errors import UserError

MODEL = ["--model", "lowlatency.LowLatencyNet", "--loss", "spectral.CompressedSpectrum", "--model_conf"]
SIZES = "{channels: 4, maps: 2, lstm_units: 8, fc_units: 8, dilations: [], causal: true}"


def run(expdir, data, *words):
    options = ["--train", str(data), "--valid", str(data), "--expdir", str(expdir), *MODEL, SIZES]
    options += ["--batch_size", "2", "--max_epoch", "2", "--log_every", "1", "--num_threads", "1"]
    assert not train.main([*options, *words])
    lines = map(json.loads, (expdir / "train.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def spectra(small_set, tmp_path_factory):
    out = tmp_path_factory.mktemp("stft") / "set"
    feats.main(["--feats_type", "stft", "--src", str(small_set), "--out", str(out)])
    return out


def test_stored_spectra_give_the_losses_of_the_waveforms(small_set, spectra, tmp_path):
    from_audio = run(tmp_path / "raw", small_set)
    from_spectra = run(tmp_path / "stft", spectra, "--feats_type", "stft")
    assert len(from_audio) == 2 * (3 + 1)
    assert from_spectra == pytest.approx(from_audio, rel=1e-4)


def test_stored_spectra_of_other_sizes_than_the_models_are_refused(spectra, tmp_path):
    with pytest.raises(UserError, match="hop_length is 160, 128 expected by the model"):
        run(tmp_path / "exp", spectra, "--feats_type", "stft", "--model_conf.hop_length", "128")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model_conf.lstm_units", "-3"], "model_conf: LowLatencyNet refuses its values"),
        (["--optim_conf.lr", "-1"], "optim_conf: Adam refuses its values"),
    ],
)
def test_values_that_a_class_refuses_are_named(small_set, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "exp", small_set, *words)


def test_a_bad_word_on_the_command_line_is_not_blamed_on_the_file(tmp_path, capsys):
    (tmp_path / "train.yaml").write_text("max_epoch: 3\n")
    with pytest.raises(SystemExit):
        train.main(["--config", str(tmp_path / "train.yaml"), "--max_epoch", "abc"])
    error = capsys.readouterr().err
    assert "--max_epoch: invalid int value: 'abc'" in error
    assert "train.yaml" not in error.splitlines()[-1]
