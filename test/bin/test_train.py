"""The train command, from options to an experiment."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from mixtures import make_sources, write_source_set

from senet import checkpoint, config
from senet.bin import feats, model_info, pack, train
from senet.bin import run as run_command
from senet.dsp.stft import STFT
from senet.errors import UserError
from senet.infer.load import load_model
from senet.lock import Lock
from senet.train import build, session, status
from senet.train.data import require_shared_memory
from senet.train.distributed import Group, Place
from senet.train.launch import launch

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


def test_the_record_says_what_the_model_costs_and_how_long_it_was_trained(small_set, tmp_path):
    exp = tmp_path / "exp"
    run(exp, small_set)
    record = json.loads((exp / "record.json").read_text())
    info = model_info.measure_model(model_info.parse(["--model", str(exp), "--seconds", "1"]))
    assert record["macs_per_second"] == info["macs"]["per_second"] > 0
    assert record["parameters"] == info["parameters"]["total"]
    assert (record["updates"], record["epochs"]) == (6, 2) and record["training_seconds"] > 0
    assert record["validation_loss"] == min(e["score"] for e in checkpoint.entries(exp / "checkpoints"))
    run(exp, small_set)  # nothing is left to do
    again = json.loads((exp / "record.json").read_text())
    assert {**again, "written": record["written"]} == record


def test_counting_a_models_macs_leaves_its_random_numbers_alone():
    args = train.get_parser().parse([*MODEL, SIZES, "--train", "x", "--valid", "x", "--expdir", "x"])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert build.count_macs(args) > 0
    assert torch.equal(torch.get_rng_state(), before)


class Branching(torch.nn.Module):
    """Asks for a value, which there is none of on the meta device."""

    sample_rate = 16000

    def forward(self, noisy):
        return noisy if noisy.abs().max() > 1 else -noisy


def test_macs_that_cannot_be_counted_are_none(monkeypatch, caplog):
    monkeypatch.setattr(config, "build", lambda *args: Branching())
    args = train.get_parser().parse([*MODEL, SIZES, "--train", "x", "--valid", "x", "--expdir", "x"])
    assert build.count_macs(args) is None
    assert "its MACs are not counted" in caplog.text


def test_stored_spectra_of_other_sizes_than_the_models_are_refused(spectra, tmp_path):
    with pytest.raises(UserError, match="hop_length is 160, 128 expected by the model"):
        run(tmp_path / "exp", spectra, "--feats_type", "stft", "--model_conf.hop_length", "128")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model_conf.lstm_units", "-3"], "LowLatencyNet: lstm_units is -3, expected at least 1"),
        (["--optim_conf.lr", "-1"], "optim_conf: Adam refuses its values"),
        (
            ["--objective", "supervise"],
            "there is none; did you mean 'supervised'. It is one of adversarial, supervised",
        ),
        (["--mix_device", "gpu"], "--mix_device gpu: --train .* is stored, there is nothing to mix"),
    ],
)
def test_values_that_a_class_refuses_are_named(small_set, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "exp", small_set, *words)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, "-3") for name in train.SMALLEST] + [("grad_clip", "nan"), ("num_threads", "0")],
)
def test_numbers_that_mean_nothing_are_refused(tmp_path, name, value):
    words = ["--train", "x", "--valid", "x", "--expdir", str(tmp_path / "exp"), *MODEL, SIZES]
    with pytest.raises(UserError, match=rf"--{name} {value}(\.0)?: expected at least [01]"):
        train.main([*words, f"--{name}={value}"])
    assert not (tmp_path / "exp").exists()


def test_a_word_in_place_of_a_micro_batch_is_told_what_there_is(capsys):
    with pytest.raises(SystemExit):
        train.get_parser().parse(
            ["--train", "x", "--valid", "x", "--expdir", "x", *MODEL, SIZES, "--micro_batch", "abc"]
        )
    assert "argument --micro_batch: 'abc', expected a number, auto or null" in capsys.readouterr().err


def test_a_place_that_makes_no_sense_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "3")
    words = ["--train", "x", "--valid", "x", "--expdir", str(tmp_path / "exp"), *MODEL, SIZES]
    assert run_command(train.main, words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the environment has RANK=5, WORLD_SIZE=3")


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
    model = load_model(exp).model
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
    assert all(
        torch.equal(v, state["model"][k]) for k, v in load_model(tmp_path / "exp", "last").model.state_dict().items()
    )
    assert not torch.equal(state["model"]["output.weight"], state["trained"]["weights"]["output.weight"])
    mean = load_model(tmp_path / "exp", "mean_last_2").model.state_dict()["output.weight"]
    two = [load_model(tmp_path / "exp", f"step_0000000{i}.pt").model.state_dict()["output.weight"] for i in (2, 3)]
    torch.testing.assert_close(mean, (two[0] + two[1]) / 2)


def test_stored_spectra_of_another_window_than_the_models_are_refused(spectra, tmp_path, monkeypatch):
    inner = build.build_model

    def build_model(args, device):
        model = inner(args, device)
        model.stft = STFT(512, 160, 400, window="sqrt_hann")
        return model

    monkeypatch.setattr(session, "build_model", build_model)
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


# ------------------------------------------------------------ mixing while training

POLICIES = {
    "crop": {"seconds": 0.5, "snr_lower": -5, "seed": 1},
    "dns": {"policy": "dns", "rir": "rir", "seconds": 0.75, "target": "early"},
    "snsd": {"policy": "snsd", "seconds": 0.5, "snr_levels": [0, 10]},
}


@pytest.fixture
def mixing(tmp_path, small_set):
    """``mixing(policy, *words)`` trains on mixtures made on the fly into exp, and returns the losses."""
    make_sources(tmp_path / "data")

    def call(policy="crop", *words):
        conf = {"speech": "speech", "noise": "noise", "num_clips": 6} | POLICIES[policy]
        path = tmp_path / "conf" / f"mix_{policy}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(conf))
        valid = ["--valid", str(small_set), "--data", str(tmp_path / "data")]
        return run(tmp_path / "exp", path, *valid, *words)

    return call


@pytest.mark.parametrize("policy", POLICIES)
def test_training_mixes_as_it_goes(mixing, tmp_path, policy):
    assert len(mixing(policy, "--num_workers", "2")) == 2 * (3 + 1)
    saved = config.load_resolved(tmp_path / "exp")
    assert saved["mix_conf"]["policy"] == policy and saved["mix_conf"]["peak"] == 0.99
    record = json.loads((tmp_path / "exp" / "record.json").read_text())
    assert record["data"]["train speech"]["recordings"] == 10 and ("train rir" in record["data"]) == (policy == "dns")
    assert "6 mixtures in 3 batches" in (tmp_path / "exp" / "train.log").read_text()


def test_mixing_on_the_device_of_training_gives_the_same_losses(mixing, tmp_path):
    losses = mixing("dns")
    (tmp_path / "exp").rename(tmp_path / "cpu")
    assert mixing("dns", "--mix_device", "gpu") == pytest.approx(losses, rel=1e-4)


def test_the_options_of_a_mixture_are_overridden_one_by_one(mixing, tmp_path):
    assert len(mixing("crop", "--mix_conf.num_clips", "4", "--mix_conf.snr_levels", "[0, 5]")) == 2 * (2 + 1)
    saved = config.load_resolved(tmp_path / "exp")["mix_conf"]
    assert (saved["num_clips"], saved["snr_levels"], saved["snr_lower"]) == (4, [0.0, 5.0], -5.0)


def test_an_experiment_of_mixtures_continues_from_its_saved_configuration(mixing, tmp_path):
    mixing("dns", "--mix_conf.rir", "null", "--mix_conf.target", "reverberant")
    assert mixing("dns", "--config", str(tmp_path / "exp" / "config.yaml"), "--max_epoch", "3")[-1]
    with pytest.raises(
        UserError, match=r"other settings:\n  mix_conf.rir: null there, \"rir\" now\n  mix_conf.target: "
    ):
        mixing("dns")


def test_a_training_that_met_a_broken_file_goes_on_without_it(small_set, tmp_path):
    data = shutil.copytree(small_set, tmp_path / "set")
    (data / "wav.scp").write_text((data / "wav.scp").read_text().replace(str(small_set), str(data)))
    words = ["--valid", str(small_set)]
    run(tmp_path / "exp", data, *words)
    next((data / "wav").iterdir()).unlink()
    words += ["--max_epoch", "3"]
    with pytest.raises(UserError, match="--bad_audio skip, of a recipe --train_args '--bad_audio skip'"):
        run(tmp_path / "exp", data, *words)
    assert len(run(tmp_path / "exp", data, *words, "--bad_audio", "skip")) == 3 * (3 + 1)


def test_other_mixing_settings_and_sources_are_refused_on_resuming(mixing, tmp_path):
    mixing()
    with pytest.raises(UserError, match="mix_conf.snr_lower: -5.0 there, 0.0 now"):
        mixing("crop", "--mix_conf.snr_lower", "0")
    write_source_set(tmp_path / "data" / "noise", [("noise-1", torch.randn(20000).numpy() / 10)])
    with pytest.raises(UserError, match="train noise data: 5 recordings of .*/noise there, 1 recordings of"):
        mixing()


def test_a_set_that_was_mixed_before_and_mixing_on_the_fly_are_other_data(mixing, small_set, tmp_path):
    run(tmp_path / "exp", small_set)
    with pytest.raises(
        UserError, match=r"mix_conf.speech: null there(.|\n)*train data: 5 utterances .* there, none now\n"
    ):
        mixing()


def test_adversarial_training_takes_two_batches_of_mixtures(mixing, tmp_path):
    sizes = "{channels: [2, 4, 4], kernel: 7, window: 512}"
    words = ["--model", "segan.SEGAN", "--model_conf", sizes, "--loss", "waveform.L1", "--objective", "adversarial"]
    words += ["--objective_conf", f"{{discriminator_conf: {sizes}}}", "--mix_conf.seconds", "0.032"]
    assert len(mixing("crop", *words)) == 2 * (3 + 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix_conf.snr_lowr", "0"], "--mix_conf.snr_lowr: there is no such option; did you mean 'snr_lower'?"),
        (["--mix_conf.seed", "3"], "--mix_conf.seed: there is no such option"),
        (["--mix_conf.policy", "pairs"], "policy pairs has nothing to mix"),
        (["--mix_conf.noise", "nothing"], "nothing/utt2num_samples: missing; .* is not a source set"),
        (["--mix_conf.exclude_types", "noise"], "leaves no recording"),
        (["--crop_seconds", "0.25", "--crop_hop_seconds", "0.1"], "crop_hop_seconds: .* is mixed while training"),
        (["--feats_type", "stft"], "feats_type: stft is stored, and .* is mixed while training"),
    ],
)
def test_what_cannot_be_mixed_while_training_is_refused(mixing, words, message):
    with pytest.raises(UserError, match=message):
        mixing("crop", *words)


def test_mix_conf_needs_a_mixing_configuration(small_set, tmp_path):
    with pytest.raises(UserError, match="--mix_conf: --train .* is not a mixing configuration"):
        run(tmp_path / "exp", small_set, "--mix_conf.seconds", "3")


# ------------------------------------------------------------ what training and validation may share


def planned(folder, small_set, **settings):
    """A copy of a data directory that says that it was mixed of some source sets."""
    shutil.copytree(small_set, folder)
    head = " ".join(f"{key}={value}" for key, value in ({"policy": "crop"} | settings).items())
    (folder / "plan.tsv").write_text(f"# senet plan 1 {head}\n")
    return folder


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("speech_valid/utt2spk", "held-1 speech1", r"speaker 'speech1' is in both, as 'speech1-01' and 'held-1'"),
        ("speech_valid/utt2fingerprint", "held-1 1770", "equal content is in both, as 'speech0-00' and 'held-1'"),
        ("noise_valid/utt2fingerprint", "held-1 4e20", "equal content is in both, as 'noise0-00' and 'held-1'"),
        ("noise_valid/utt2recording", "held-1 tape", "recording 'tape' is in both, as 'noise0-00' and 'held-1'"),
        ("speech_valid/utt2recording", "speech0-00 speech0-00", None),  # an id like another, no common recording
        ("noise_valid/utt2spk", "held-1 noise0", None),
        ("speech_valid/utt2spk", "held-1 somebody", None),
    ],
)
def test_mixing_from_what_the_validation_set_has_is_refused(mixing, small_set, tmp_path, table, row, message):
    for kind in ("speech", "noise"):
        (tmp_path / "data" / f"{kind}_valid").mkdir()
    (tmp_path / "data" / table).write_text(f"{row}\n")
    (tmp_path / "data" / "noise" / "utt2recording").write_text("noise0-00 tape\n")
    (tmp_path / "data" / "speech" / "utt2recording").write_text("speech0-00 speech0-00\n")
    valid = planned(tmp_path / "valid", small_set, speech="speech_valid", noise="noise_valid")
    if message is None:
        assert mixing("crop", "--valid", str(valid))
        return
    with pytest.raises(
        UserError, match=f"data/{table.partition('_')[0]} and .*data/{table.partition('/')[0]}: {message}"
    ):
        mixing("crop", "--valid", str(valid))


def test_sets_that_were_mixed_before_are_held_to_it_too(mixing, small_set, tmp_path):
    ours = planned(tmp_path / "train", small_set, speech="speech", noise="noise")
    theirs = planned(tmp_path / "valid", small_set, speech="speech", noise="noise")
    words = ["--valid", str(theirs), "--data", str(tmp_path / "data")]
    with pytest.raises(UserError, match="speaker 'speech0' is in both"):
        run(tmp_path / "exp", ours, *words)
    for folder in (ours, theirs):
        (folder / "plan.tsv").write_text("# senet plan 1 policy=pairs speech=speech\n")
    assert run(tmp_path / "exp", ours, *words)


def test_speakers_that_data_directories_share_are_only_told(small_set, tmp_path):
    other = shutil.copytree(small_set, tmp_path / "other")
    run(tmp_path / "a", small_set, "--valid", str(other))
    told = f"{small_set} and {other}: 2 speakers are in both, such as 'spk0'"
    assert told in (tmp_path / "a" / "train.log").read_text()
    (other / "utt2spk").write_text((other / "utt2spk").read_text().replace(" spk", " held"))
    run(tmp_path / "b", small_set, "--valid", str(other))
    assert "are in both" not in (tmp_path / "b" / "train.log").read_text()


def test_dry_run_checks_the_options_and_says_the_disk_of_the_checkpoints(tmp_path, capsys):
    def said(*words):
        where = ["--train", "none", "--valid", "none", "--expdir", str(tmp_path / "exp"), "--dry_run"]
        train.main([*where, "--model", "lowlatency.LowLatencyNet", "--model_conf", SIZES, *words])
        return int(capsys.readouterr().out.split()[-2])

    adam = said("--loss", "waveform.L1")
    parameters = sum(p.numel() for p in config.build("models", *MODEL[1:2], config.mapping(SIZES)).parameters())
    assert 4 * 3 * 4 * parameters < adam < 4 * 3 * 4 * parameters * 1.1, "two last, the best and a new one; two moments"
    assert said("--loss", "waveform.L1", "--keep_best", "5") == 2 * adam
    assert said("--loss", "waveform.L1", "--optim", "SGD", "--optim_conf", "{lr: 0.1}") < 0.4 * adam
    assert said() < 0.1 * adam, "without a loss nothing is trained"
    with pytest.raises(UserError, match="LowLatencyNet has no 'chanels'"):
        said("--model_conf.chanels", "3")
    stages = ["--loss", "stages.Stages", "--loss_conf", "{loss: spectral.CompressedSpectrum, weights: [1, 2]}"]
    with pytest.raises(UserError, match="loss_conf.weights: 2 weights for a model of 1 stage"):
        said(*stages)
    gan = ["--model", "segan.SEGAN", "--model_conf", "{channels: [2, 4, 4], kernel: 7, window: 512}", "--loss"]
    gan += ["waveform.L1", "--objective", "adversarial", "--crop_seconds", "0.064", "--crop_hop_seconds", "0.064"]
    with pytest.raises(UserError, match="the discriminator takes windows of 16384 samples, and the batch has 1024"):
        said(*gan)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--ngpu 1: torch .* sees no GPU here"):
            said("--ngpu", "1")
    assert not (tmp_path / "exp").exists()


# ------------------------------------------------------------ what is refused before it fails hours later


def test_shared_memory_too_small_for_the_readers_is_refused_with_what_fits(small_set, tmp_path, monkeypatch):
    class Small:
        f_bavail, f_blocks, f_frsize = 150, 250, 1000

    monkeypatch.setattr(os, "statvfs", lambda path: Small)
    # Two utterances of up to 22400 samples, noisy and clean, in float32; two batches each and one in use.
    message = r"--num_workers 4: .* up to 0 MB each, may take 3 MB .*has 0 MB free of 0 MB. Use --num_workers 0"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "exp", small_set, "--num_workers", "4")
    assert run(tmp_path / "exp", small_set, "--num_workers", "0")


@pytest.mark.parametrize("workers", [2, 3])
def test_the_readers_that_fit_are_named(small_set, tmp_path, monkeypatch, workers):
    class Small:
        f_bavail, f_blocks, f_frsize = 5 * 2 * (2 * 22400 * 4 + 8), 250, 1

    monkeypatch.setattr(os, "statvfs", lambda path: Small)
    if workers == 2:
        assert run(tmp_path / "exp", small_set, "--num_workers", "2")
        return
    with pytest.raises(UserError, match="Use --num_workers 2, a smaller batch_size"):
        run(tmp_path / "exp", small_set, "--num_workers", "3")


def test_each_process_of_a_machine_has_readers_of_its_share(monkeypatch):
    class Small:
        f_bavail, f_blocks, f_frsize = 100, 250, 1

    class Stream:
        def batch_bytes(self, world):
            return 20 // world

    monkeypatch.setattr(os, "statvfs", lambda path: Small)
    args = argparse.Namespace(num_workers=2)
    for hosts in (["a"], ["a", "a"], ["a", "b"]):  # 5 x 20, 2 x 5 x 10, 5 x 10
        require_shared_memory(args, Group(0, len(hosts), hosts), Stream(), Stream())
    args.num_workers = 3
    require_shared_memory(args, Group(0, 2, ["a", "b"]), Stream())
    with pytest.raises(UserError, match="MB free for each of 2 processes of 0 MB. Use --num_workers 2,"):
        require_shared_memory(args, Group(0, 2, ["a", "a"]), Stream())


def test_more_gpus_than_there_are_are_refused(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(
        UserError, match=r"--ngpu 4: torch .* sees only 2 GPUs here \(CUDA_VISIBLE_DEVICES is '0,1'\); use --ngpu 2"
    ):
        run(tmp_path / "exp", small_set, "--ngpu", "4")


def test_a_longer_training_goes_on_and_its_schedule_is_told(small_set, tmp_path):
    cosine = ["--scheduler", "CosineAnnealingLR", "--scheduler_conf.T_max", "2"]
    assert len(run(tmp_path / "exp", small_set, *cosine)) == 2 * (3 + 1)
    assert "rises again" not in (tmp_path / "exp" / "train.log").read_text()
    assert len(run(tmp_path / "exp", small_set, *cosine, "--max_epoch", "3")) == 3 * (3 + 1)
    assert (
        "after 2 epochs the learning rate is 0, and so it is in the next; then it rises again (1 are to come in all)"
        in (tmp_path / "exp" / "train.log").read_text()
    )
    with pytest.raises(UserError, match=r"other settings:\n  scheduler_conf.T_max: 2 there, 3 now"):
        run(tmp_path / "exp", small_set, *cosine[:-1], "3", "--max_epoch", "3")


def test_sizes_that_were_hardly_meant_are_told(small_set, tmp_path):
    run(tmp_path / "exp", small_set, "--crop_seconds", "100", "--batch_size", "6", "--max_steps", "1")
    log = (tmp_path / "exp" / "train.log").read_text()
    assert "WARNING: crop_seconds 100: the longest of" in log and "filled up with silence to 100 s" in log
    assert re.search("WARNING: batch_size 6: .* has 5 utterances, of which each batch is made", log)
    run(tmp_path / "fits", small_set, "--crop_seconds", "0.5", "--batch_size", "5", "--max_steps", "1")
    assert "of which each" not in (log := (tmp_path / "fits" / "train.log").read_text()) and "silence" not in log


def test_what_ended_a_training_is_in_its_log_and_status(small_set, tmp_path):
    words = ["--optim_conf.lr", "1e30", "--grad_clip", "0"]
    with pytest.raises(UserError, match="is nan at step") as ended:
        run(tmp_path / "exp", small_set, *words)
    assert f"ERROR: {ended.value}\n" in (tmp_path / "exp" / "train.log").read_text()
    found = status.read(tmp_path / "exp")
    assert found["state"] == "failed" and found["error"] == str(ended.value)
    with pytest.raises(UserError, match="has no class 'Nosuch'") as ended:
        run(tmp_path / "other", small_set, "--optim", "Nosuch")
    found = status.read(tmp_path / "other")
    assert found["state"] == "failed" and found["error"] == " ".join(str(ended.value).split())


def test_a_refusal_of_other_settings_leaves_the_experiment_as_it_is(small_set, tmp_path):
    run(tmp_path / "exp", small_set)
    before = {p: p.read_bytes() for p in (tmp_path / "exp").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="other settings"):
        run(tmp_path / "exp", small_set, "--optim_conf.lr", "0.5")
    assert {p: p.read_bytes() for p in (tmp_path / "exp").rglob("*") if p.is_file()} == before


def test_a_schedule_that_ends_before_the_training_is_refused(small_set, tmp_path):
    words = ["--scheduler", "OneCycleLR", "--scheduler_conf", "{max_lr: 0.01, total_steps: 6}"]
    words += ["--scheduler_interval", "step"]
    assert run(tmp_path / "exp", small_set, *words)
    with pytest.raises(UserError, match="OneCycleLR ends after 6 steps, and the training takes 9. Lower max_epoch"):
        run(tmp_path / "exp", small_set, *words, "--max_epoch", "3")


def test_an_experiment_in_use_is_refused(small_set, tmp_path):
    exp = tmp_path / "exp"
    exp.mkdir()
    pid = os.fork()
    if pid == 0:
        with Lock(exp):
            os.write(writing := os.open(tmp_path / "held", os.O_WRONLY | os.O_CREAT), b".")
            os.close(writing)
            time.sleep(60)
        os._exit(0)
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with pytest.raises(UserError, match=f"exp: in use by process {pid} on .* since 2"):
            run(exp, small_set)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert run(exp, small_set)
    assert (exp / ".lock").read_text() == ""


def test_a_signal_before_the_first_step_says_that_the_command_continues(small_set, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(session, "build_model", lambda *args: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "exp", small_set)
    assert stop.value.code == 75
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_the_whole_batch_is_computed_at_once_where_it_fits(small_set, tmp_path):
    plain = run(tmp_path / "plain", small_set, "--max_steps", "2")
    assert run(tmp_path / "auto", small_set, "--max_steps", "2", "--micro_batch", "auto") == plain
    assert "memory suffices for 2 items at a time: all of a batch" in (tmp_path / "auto" / "train.log").read_text()


def test_a_micro_batch_that_was_found_is_not_looked_for_again(small_set, tmp_path):
    for steps in ("2", "4"):
        run(tmp_path / "exp", small_set, "--max_steps", steps, "--micro_batch", "auto")
    assert (tmp_path / "exp" / "train.log").read_text().count("memory suffices for 2 items") == 1


def test_precision_and_batches_by_length_are_options(small_set, tmp_path):
    words = ["--precision", "bf16", "--batch_seconds", "6", "--checkpointing", "--micro_batch", "1", "--max_steps", "2"]
    assert all(value > 0 for value in run(tmp_path / "exp", small_set, *words))
    with pytest.raises(UserError, match=r"precision: \"bf16\" there, \"fp32\" now"):
        run(tmp_path / "exp", small_set, *words, "--precision", "fp32")
    with pytest.raises(UserError, match="batch_seconds: with crop_seconds"):
        run(tmp_path / "other", small_set, "--batch_seconds", "6", "--crop_seconds", "0.5")


# ------------------------------------------------------------ several processes


def launched(expdir, data, processes, *words, trains_with=("-m", "senet.bin.train")):
    options = ["--train", data, "--valid", data, "--expdir", expdir, *MODEL, SIZES, "--num_threads", "1"]
    options += ["--batch_size", "2", "--max_epoch", "2", "--log_every", "1", "--join_seconds", "120", *words]
    return launch([sys.executable, *trains_with, *map(str, options)], processes, grace=2)


def test_two_processes_train_what_one_does(small_set, tmp_path, capfd):
    """Whole utterances, of which an epoch has three batches of two, two and one."""
    alone = run(tmp_path / "one", small_set)
    assert launched(tmp_path / "two", small_set, 2) == 0
    events = [json.loads(line) for line in (tmp_path / "two" / "train.jsonl").read_text().splitlines()]
    assert [e["loss"] for e in events] == pytest.approx(alone, rel=1e-4)
    record = json.loads((tmp_path / "two" / "record.json").read_text())
    assert record["processes"] == 2 and len(record["hosts"]) == 2 and record["updates"] == 6
    said, written = capfd.readouterr().err, (tmp_path / "two" / "train.log").read_text()
    assert said.count("epoch 2/2 3/3") == 1 + 1 and "rank 0 of 2 on " in said  # each training's, once
    assert written.count("epoch 2/2 3/3") == written.count("finished after") == 1
    assert not [line for line in written.splitlines() if "INFO" in line and "[rank 1 on" in line]


@pytest.mark.parametrize("how", [["-m", "senet.bin.train"], ["command.py", "train"]])
def test_torchrun_starts_processes_too(small_set, tmp_path, how):
    words = ["--train", small_set, "--valid", small_set, "--expdir", tmp_path / "exp", *MODEL, SIZES]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (tmp_path / "command.py").write_text("import sys; from senet.bin import senet; sys.exit(senet())")  # the command
    how = [str(tmp_path / word) if word == "command.py" else word for word in how]
    call = [*torchrun, *how, *map(str, words), "--num_threads", "2", "--max_steps", "1"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "rank 0 of 2 on " in (tmp_path / "exp" / "train.log").read_text()


def test_what_is_wrong_with_one_process_is_said_with_its_rank_and_ends_all(small_set, tmp_path, capfd):
    code = (
        "import os, sys; from senet.bin import run, train; from senet.train import session\n"
        "def fail(*args): raise MemoryError('no room')\n"
        "if os.environ['RANK'] == '1': session.require_shared_memory = fail\n"
        "sys.exit(run(train.main))"
    )
    assert launched(tmp_path / "exp", small_set, 2, trains_with=("-c", code)) == 1
    said = capfd.readouterr().err
    assert "error: rank 1 on " in said and "MemoryError: no room" in said
    log = (tmp_path / "exp" / "train.log").read_text()
    assert "ERROR: no room [rank 1 on " in log and "in fail" in log


@pytest.mark.parametrize(
    ("wanted", "others", "threads"),
    [
        (None, [], 4),
        (None, [("here", {0, 1, 2, 3})], 2),  # as torchrun leaves them
        (None, [("here", {4, 5, 6, 7}), ("there", {0, 1, 2, 3})], 4),  # as srun binds them
        (6, [("here", {4, 5, 6, 7}), ("there", {0, 1, 2, 3})], 3),
        (1, [("here", {0, 1, 2, 3})], 1),
    ],
)
def test_processes_share_the_threads_of_their_machine_unless_they_have_cores_of_their_own(
    monkeypatch, wanted, others, threads
):
    found = []
    group = Group(0, 1 + len(others), ["here", *(host for host, _ in others)])
    group.gather = lambda value: [value, *(cores for _, cores in others)]
    monkeypatch.setattr(build, "available_cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    build.set_threads(wanted, group)
    assert found == [threads]


def test_a_batch_is_not_smaller_than_the_processes_are_many(small_set, tmp_path, capfd):
    assert launched(tmp_path / "exp", small_set, 2, "--batch_size", "1") == 1
    assert "--batch_size 1: 2 processes share each batch; use at least that" in capfd.readouterr().err


def test_gpus_of_one_machine_get_a_process_each(small_set, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr("senet.train.launch.launch", lambda command, n: calls.append((command, n)) or 75)
    words = ["--train", "x", "--valid", "x", "--expdir", "x", *MODEL, SIZES, "--ngpu", "2"]
    assert train.main(words) == 75
    assert calls == [([sys.executable, "-m", "senet.bin.train", *words], 2)]
    args = train.get_parser().parse(words)
    assert build.choose_device(args, Place(3, 4, 1)) == torch.device("cuda", 1)
    with pytest.raises(UserError, match="--ngpu 2: this is process 3 of its machine"):
        build.choose_device(args, Place(2, 4, 2))


def begun_with(expdir):
    """The weights before the first step: with a learning rate of 0 they stay."""
    return checkpoint.load(expdir / "checkpoints", "last")["model"]


@pytest.mark.parametrize("kind", ["experiment", "pack", "file", "lone file"])
def test_a_training_begins_with_the_weights_of_another(small_set, tmp_path, kind, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, small_set, "--max_epoch", "1")
    name = checkpoint.entries(first / "checkpoints")[-1]["file"]
    if kind == "pack":
        pack.main([str(first), "-o", str(tmp_path / "first.senet")])
    shutil.copy(first / "checkpoints" / name, tmp_path / "lone.pt")
    source = {"experiment": first, "pack": tmp_path / "first.senet", "file": first / "checkpoints" / name}
    source = str(source.get(kind, tmp_path / "lone.pt"))
    words = ["--max_epoch", "1", "--seed", "3", "--optim_conf.lr", "0", "--init_from", source]
    run(second, small_set, *words)
    there, here = begun_with(first), begun_with(second)
    assert all(torch.equal(here[k], there[k]) for k in there if here[k].is_floating_point() and "running" not in k)
    record = json.loads((second / "record.json").read_text())["init_from"]
    assert record == {"path": source, "sha256": checkpoint.digest_of(there)}
    if kind == "experiment":
        shutil.rmtree(first)
        run(second, small_set, *words, "--max_epoch", "2")
        assert "has checkpoints of its own and goes on from there" in capsys.readouterr().err
        assert config.load_resolved(second)["init_from"] == source
        assert json.loads((second / "record.json").read_text())["init_from"] == record


def test_weights_of_another_model_or_from_nowhere_are_refused(small_set, tmp_path):
    run(tmp_path / "first", small_set, "--max_epoch", "1")
    with pytest.raises(
        UserError, match=r"--init_from .*first: .* is \(8, .* and \(12, .*; use the --model and --model_conf"
    ):
        run(tmp_path / "second", small_set, "--init_from", str(tmp_path / "first"), "--model_conf.fc_units", "12")
    with pytest.raises(UserError, match="--init_from nowhere: nothing is there; give an experiment, a pack"):
        run(tmp_path / "second", small_set, "--init_from", "nowhere")
