"""The train command, from options to an experiment."""

import json

import pytest
import torch

from senet import checkpoint
from senet.bin import feats, train
from senet.dsp.stft import STFT
from senet.errors import UserError
from senet.infer.load import load_model

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
        (["--model_conf.lstm_units", "-3"], "LowLatencyNet: lstm_units is -3, expected at least 1"),
        (["--optim_conf.lr", "-1"], "optim_conf: Adam refuses its values"),
    ],
)
def test_values_that_a_class_refuses_are_named(small_set, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "exp", small_set, *words)


@pytest.fixture
def untrained(small_set, tmp_path):
    """Trains, as it were, a model without parameters; returns the experiment."""

    def call(*words):
        where = ["--train", str(small_set), "--valid", str(small_set), "--expdir", str(tmp_path / "exp")]
        assert not train.main([*where, "--model", "classical.LogMMSE", "--num_threads", "1", *words])
        return tmp_path / "exp"

    return call


def test_a_model_without_parameters_gets_its_checkpoint_at_once(untrained):
    exp = untrained()
    said = (exp / "train.log").read_text()
    assert "classical.LogMMSE has no trainable parameters, so there is nothing to train" in said
    assert json.loads((exp / "record.json").read_text())["parameters"] == 0
    assert [e["step"] for e in checkpoint.entries(exp / "checkpoints")] == [0]
    model = load_model(exp)
    assert model(torch.randn(1, 1000)).shape == (1, 1000)


def test_training_such_a_model_again_changes_nothing_and_its_settings_count(untrained):
    exp = untrained()
    before = {p: p.read_bytes() for p in (exp / "checkpoints").iterdir()}
    untrained()
    assert {p: p.read_bytes() for p in (exp / "checkpoints").iterdir()} == before
    with pytest.raises(UserError, match="model_conf.smoothing: 0.98 there, 0.9 now"):
        untrained("--model_conf.smoothing", "0.9")


def test_a_model_with_parameters_needs_a_loss(small_set, tmp_path):
    with pytest.raises(UserError, match="loss: not given, and lowlatency.LowLatencyNet has parameters to train"):
        run(tmp_path / "exp", small_set, "--loss", "null")


def test_the_averaged_weights_are_what_enhances(small_set, tmp_path):
    run(tmp_path / "exp", small_set, "--ema_decay", "0.5", "--max_epoch", "1", "--save_every", "1", "--keep_last", "2")
    state = checkpoint.load(tmp_path / "exp" / "checkpoints")
    assert all(torch.equal(v, state["model"][k]) for k, v in load_model(tmp_path / "exp", "last").state_dict().items())
    assert not torch.equal(state["model"]["output.weight"], state["trained"]["weights"]["output.weight"])
    mean = load_model(tmp_path / "exp", "mean_last_2").state_dict()["output.weight"]
    two = [load_model(tmp_path / "exp", f"step_0000000{i}.pt").state_dict()["output.weight"] for i in (2, 3)]
    torch.testing.assert_close(mean, (two[0] + two[1]) / 2)


def test_stored_spectra_of_another_window_than_the_models_are_refused(spectra, tmp_path, monkeypatch):
    inner = train.build_model

    def build_model(args, device):
        model = inner(args, device)
        model.stft = STFT(512, 160, 400, window="sqrt_hann")
        return model

    monkeypatch.setattr(train, "build_model", build_model)
    with pytest.raises(UserError, match="window is hann, sqrt_hann expected by the model"):
        run(tmp_path / "exp", spectra, "--feats_type", "stft")


def test_the_options_of_the_objective_are_filled_in_but_for_those_of_the_command():
    parser = train.get_parser()
    words = ["--train", "a", "--valid", "b", "--expdir", "c", "--model", "segan.SEGAN", "--objective", "adversarial"]
    args = parser.parse([*words, "--objective_conf.gan_half", "true"])
    defaults = train.resolve_options(args, parser)["objective_conf"]
    assert defaults["batches"] == 2 and defaults["discriminator"] == "segan.Discriminator"
    assert args.objective_conf == defaults | {"gan_half": True}
    assert not set(defaults) & set(vars(args))
    plain = parser.parse([*words[:-1], "supervised"])
    train.resolve_options(plain, parser)
    assert plain.objective_conf == {}
    with pytest.raises(UserError, match="Adversarial has no 'ema_decay'.* It takes discriminator, discriminator_conf"):
        train.resolve_options(parser.parse([*words, "--objective_conf.ema_decay", "0.9"]), parser)


def test_a_bad_word_on_the_command_line_is_not_blamed_on_the_file(tmp_path, capsys):
    (tmp_path / "train.yaml").write_text("max_epoch: 3\n")
    with pytest.raises(SystemExit):
        train.main(["--config", str(tmp_path / "train.yaml"), "--max_epoch", "abc"])
    error = capsys.readouterr().err
    assert "--max_epoch: invalid int value: 'abc'" in error
    assert "train.yaml" not in error.splitlines()[-1]
