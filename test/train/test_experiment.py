"""The experiment folder: what it records, and that other settings or data are refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from senet import config
from senet.errors import UserError
from senet.files import write_json
from senet.train.experiment import CHANGEABLE, Experiment, describe_data

DEFAULTS = {"train": None, "valid": None, "max_epoch": 100, "seed": 0, "patience": 0, "model_conf": {"n": 2, "m": 1}}


@pytest.fixture(autouse=True)
def in_recipe(tmp_path, monkeypatch):
    """The working directory is a recipe with data, and exp/a has a checkpoint's index once something was trained."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid"):
        write_data(tmp_path / "dump" / name, 3)


def write_data(folder, n):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wav.scp").write_text("".join(f"s-{i} wav/{i}.wav\n" for i in range(n)))
    (folder / "utt2num_samples").write_text("".join(f"s-{i} {1000 * (i + 1)}\n" for i in range(n)))


def options(**changes):
    return {**DEFAULTS, "train": "dump/train", "valid": "dump/valid", "config": "x.yaml", **changes}


def open_experiment(argv=("--max_epoch", "3"), defaults=DEFAULTS, **changes):
    experiment = Experiment("exp/a", options(**changes), defaults, list(argv))
    experiment.write_record(parameters=5)
    return experiment


def has_checkpoint():
    entry = {"file": "step_00000001.pt", "sha256": "", "step": 1, "epoch": 0, "score": None}
    write_json("exp/a/checkpoints/index.json", {"checkpoints": [entry]})


def test_the_record_says_how_it_was_made():
    open_experiment(argv=["--max_epoch", "3", "--x", "a b"])
    record = json.loads(Path("exp/a/record.json").read_text())
    assert record["command"] == "python -m senet.bin.train --max_epoch 3 --x 'a b'"
    assert record["data"]["train"] == describe_data("dump/train")
    assert record["data"]["train"]["utterances"] == 3 and record["data"]["train"]["samples"] == 6000
    assert record["versions"]["torch"] and record["hardware"]["cores"] >= 1 and record["parameters"] == 5
    assert record["seed"] == 0 and "git" in record


def test_run_sh_repeats_the_command_from_anywhere(tmp_path):
    open_experiment(argv=["--config", "conf/a b.yaml", "--max_epoch", "3"])
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\npwd\nprintf "<%s>" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "path.sh").write_text(f"PATH={tmp_path}/bin:$PATH\n")
    open_experiment(argv=["--config", "conf/a b.yaml", "--max_epoch", "3"])
    said = subprocess.run(
        [tmp_path / "exp/a/run.sh", "--max_epoch", "5"], cwd="/", capture_output=True, text=True, check=True
    )
    words = ["-m", "senet.bin.train", "--config", "conf/a b.yaml", "--max_epoch", "3", "--max_epoch", "5"]
    assert said.stdout == f"{os.getcwd()}\n" + "".join(f"<{word}>" for word in words)


@pytest.mark.parametrize(
    "changes", [{}, {"max_epoch": 7}, {"patience": 3}, {"config": "y.yaml"}, {"train": "moved"}], ids=str
)  # fmt: skip
def test_a_run_may_be_continued_longer_or_elsewhere(tmp_path, changes):
    open_experiment()
    has_checkpoint()
    write_data(tmp_path / "moved", 3)
    open_experiment(**changes)
    assert config.load_resolved("exp/a")["max_epoch"] == changes.get("max_epoch", 100)


def test_other_settings_are_refused_with_the_differences():
    open_experiment()
    has_checkpoint()
    with pytest.raises(UserError) as refused:
        open_experiment(seed=1, model_conf={"n": 3, "k": {"x": 1}}, max_epoch=7)
    assert str(refused.value).splitlines() == [
        "exp/a: holds checkpoints of an experiment with other settings:",
        "  model_conf.k.x: not set there, 1 now",
        "  model_conf.m: 1 there, not set now",
        "  model_conf.n: 2 there, 3 now",
        "  seed: 0 there, 1 now",
        "Give this one a folder of its own (--tag NAME of run.sh, --expdir here), or remove exp/a.",
    ]
    assert config.load_resolved("exp/a")["seed"] == 0  # as it was


def test_other_data_are_refused(tmp_path):
    open_experiment()
    has_checkpoint()
    write_data(tmp_path / "dump" / "train", 4)
    with pytest.raises(UserError, match="train data: 3 utterances of dump/train there, 4 utterances of dump/train now"):
        open_experiment()


def test_other_mixtures_under_the_same_lists_are_refused(tmp_path):
    plan = tmp_path / "dump" / "train" / "plan.tsv"
    plan.write_text("# senet plan 1 policy=crop seed=0\n")
    open_experiment()
    has_checkpoint()
    open_experiment()
    plan.write_text("# senet plan 1 policy=crop seed=1\n")
    with pytest.raises(UserError, match="train data: 3 utterances of dump/train were mixed by another plan.tsv since"):
        open_experiment()
    plan.unlink()
    with pytest.raises(UserError, match="by another plan"):
        open_experiment()


def test_every_option_but_those_that_may_change_is_compared():
    from senet.bin.train import get_parser

    parser = get_parser()
    names = set(parser.option_names()) - {"help", "dry_run"}
    assert names > CHANGEABLE, "an option that may change is one"
    values = {name: parser.get_default(name) for name in names} | {"train": "dump/train", "valid": "dump/valid"}
    Experiment("exp/a", values, values, []).write_record()
    has_checkpoint()
    for name in names - {"train", "valid"}:
        changed = values | {name: {"x": 1} if name.endswith("_conf") else "another"}
        if name in CHANGEABLE or name == "mix_conf":  # which asks for other data
            continue
        with pytest.raises(UserError, match=rf"other settings:\n  {name}"):
            Experiment("exp/a", changed, values, [])


def test_without_a_checkpoint_the_settings_may_change():
    open_experiment()
    open_experiment(seed=1)
    assert config.load_resolved("exp/a")["seed"] == 1


def test_an_option_that_senet_got_later_counts_as_its_default_then():
    open_experiment()
    has_checkpoint()
    later = {**DEFAULTS, "warmup_steps": 0, "model_conf": {"n": 2, "m": 1, "new": "x"}}
    open_experiment(defaults=later, warmup_steps=0, model_conf=later["model_conf"])
    has_checkpoint()
    with pytest.raises(UserError, match=r"other settings:\n  warmup_steps: 0 there, 10 now\n"):
        open_experiment(defaults=later, warmup_steps=10, model_conf=later["model_conf"])


def test_a_folder_that_is_no_data_directory_is_named():
    with pytest.raises(UserError, match="nowhere/utt2num_samples: missing; 'nowhere' is not a data directory"):
        describe_data("nowhere")
