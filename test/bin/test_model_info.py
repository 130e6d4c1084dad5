"""The model_info command: figures of a configuration, an experiment, a model."""

import json

import pytest

from senet.bin import model_info
from senet.bin import pack as pack_command
from senet.errors import UserError

SMALL = ["--model_conf", "{channels: 4, maps: 2, lstm_units: 8, fc_units: 8, causal: true}"]


@pytest.fixture
def report(capsys):
    """``report(*words)``: what the command prints, as JSON."""

    def run(*words):
        assert not model_info.main([*words, "--json", "--seconds", "1"])
        return json.loads(capsys.readouterr().out)

    return run


def test_figures_of_a_configuration(report, tmp_path):
    (tmp_path / "train.yaml").write_text(
        "model: lowlatency.LowLatencyNet\nloss: spectral.CompressedSpectrum\n"
        "model_conf: {channels: 4, maps: 2, lstm_units: 8, fc_units: 8, causal: true}\n"
        "batch_size: 3\ncrop_seconds: 2\nmax_epoch: 7\n"
    )
    info = report("--config", str(tmp_path / "train.yaml"))
    assert info["parameters"]["total"] == sum(info["parameters"]["parts"].values()) == 23_672
    assert info["macs"]["per_second"] == sum(info["macs"]["per_second_of_parts"].values())
    assert info["causal"] and info["latency_samples"] == 398
    assert info["receptive_field"]["future_samples"] == 398 and info["receptive_field"]["past_samples"] is None
    assert info["receptive_field"]["recurrent"]
    training = info["training"]
    assert (training["batch_size"], training["seconds"]) == (3, 2)
    assert 4 * 4 * 23_672 < training["kept_bytes"] < training["peak_bytes"]  # weights, gradients, Adam's two moments


def test_training_memory_grows_with_the_batch():
    words = ["--model", "lowlatency.LowLatencyNet", *SMALL, "--loss", "waveform.SISDR", "--crop_seconds", "1"]
    args = [model_info.parse([*words, "--batch_size", str(n)]) for n in (1, 2, 4)]
    one, two, four = (model_info.training_memory(a)["peak_bytes"] for a in args)
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)


def test_an_experiment_is_a_model_too(report, make_experiment, tmp_path):
    exp = make_experiment(tmp_path / "exp", 0)
    assert report("--model", str(exp))["parameters"]["total"] == 23_672
    wider = report("--model", str(exp), "--model_conf.lstm_units", "9")
    assert wider["parameters"]["total"] > 23_672


def test_so_is_a_pack(report, make_experiment, tmp_path):
    exp, pack = make_experiment(tmp_path / "exp", 0), tmp_path / "small.senet"
    pack_command.main([str(exp), "-o", str(pack)])
    assert report("--model", str(pack)) == report("--model", str(exp)) | {"training": None}
    wider = report("--model", str(pack), "--model_conf.lstm_units", "9")
    assert wider == report("--model", str(exp), "--model_conf.lstm_units", "9") | {"training": None}


def test_the_text_names_parts_counter_latency_and_memory(capsys):
    words = ["--model", "lowlatency.LowLatencyNet", *SMALL, "--loss", "waveform.L1", "--seconds", "2"]
    model_info.main(words)
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines()[3:8]] == ["convs", "reduce", "lstm", "hidden", "output"]
    assert "latency          24.875 ms (398 samples)" in text
    assert "past: all, by recurrent layers" in text and "future: 24.875 ms" in text
    assert "not counted: Fourier transforms" in text
    assert "batch of 8 x 2 s" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model or --config is missing"),
        (["--model", "lowlatency.LowLatencyNet", "--seconds", "0"], "--seconds 0: expected more than 0"),
        (["--model", "lowlatency.LowLatencyNet", "--model_conf.lstm_unit", "3"], "did you mean 'lstm_units'"),
        (["--model", "exp/nowhere"], "exp/nowhere: no such model; expected an experiment"),
        (["--model", "lowlatncy.LowLatencyNet"], "did you mean 'lowlatency'"),
    ],
)
def test_wrong_options_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        model_info.main(words)
