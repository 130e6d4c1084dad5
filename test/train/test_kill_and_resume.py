"""The train command, killed at random moments and started again, ends with the same bits as an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_trainer import assert_equal

from senet import checkpoint

TIMES = ("seconds", "steps_per_second", "audio_per_second", "waiting")
SUPERVISED = """
model: lowlatency.LowLatencyNet
model_conf: {channels: 2, maps: 1, lstm_units: 4, fc_units: 4, causal: true}
loss: spectral.CompressedSpectrum
loss_conf: {reduction: mean}
optim_conf: {lr: 1e-3}
scheduler: ReduceLROnPlateau
crop_seconds: 0.25
batch_size: 2
"""
ADVERSARIAL = """
model: segan.SEGAN
model_conf: {channels: [2, 4, 4], kernel: 7, window: 512, num_stages: 2, spectral_norm: true}
objective: adversarial
objective_conf:
  discriminator_conf: {channels: [2, 4, 4], kernel: 7, window: 512, spectral_norm: true, vbn_ref: fixed}
  noise_std: 0.05
loss: stages.Stages
loss_conf: {loss: waveform.L1, weights: [50, 100]}
optim: RMSpropTF
crop_seconds: 0.032
crop_hop_seconds: 0.128
batch_size: 8
"""
EVERY = """
max_epoch: 10
log_every: 2
save_every: 2
"""
STEPS = 60  # six in an epoch: 12 utterances by 2, or 48 windows by 8
SYSTEMS = {"supervised": (SUPERVISED, 20, 5), "adversarial": (ADVERSARIAL, 10, 3)}  # configuration, kills, terms


def write_set(folder, n):
    """A data directory of ``n`` tones in noise, half a second each."""
    rng = np.random.default_rng(n)
    folder.mkdir()
    lists = {name: [] for name in ("wav.scp", "spk1.scp", "utt2num_samples", "utt2spk")}
    for i in range(n):
        clean = 0.1 * np.sin(np.arange(8000) * 0.05 * (i + 1))
        for name, x in (("wav.scp", clean + 0.1 * rng.standard_normal(8000)), ("spk1.scp", clean)):
            path = folder / f"{i}_{name}.wav"
            soundfile.write(path, x, 16000)
            lists[name].append(f"s-{i:02d} {path}\n")
        lists["utt2num_samples"].append(f"s-{i:02d} 8000\n")
        lists["utt2spk"].append(f"s-{i:02d} s\n")
    for name, lines in lists.items():
        (folder / name).write_text("".join(lines))


@pytest.fixture(scope="module", params=SYSTEMS)
def ended(request, tmp_path_factory):
    """(folder with the experiments undisturbed, killed and terminated, report of killing.py)."""
    conf, kills, terms = SYSTEMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write_set(folder / "train", 12)
    write_set(folder / "valid", 3)
    (folder / "conf.yaml").write_text(conf + EVERY)
    command = [sys.executable, Path(__file__).with_name("killing.py"), folder, str(kills), str(terms)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    logs = "".join(p.read_text()[-3000:] for p in folder.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    print(done.stdout)  # the figures, with pytest -rP
    return folder, json.loads(done.stdout)


def records(expdir):
    lines = [json.loads(line) for line in (expdir / "train.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in TIMES} for r in lines]


@pytest.mark.parametrize("name", ["killed", "terminated"])
def test_parameters_moments_and_scores_are_the_same_to_the_bit(ended, name):
    folder, _ = ended
    a, b = (checkpoint.load(folder / n / "checkpoints") for n in ("undisturbed", name))
    assert a["trainer"]["step"] == b["trainer"]["step"] == STEPS
    for state in (a, b):
        state["trainer"].pop("seconds")
    assert_equal(a, b)
    best = [checkpoint.load(folder / n / "checkpoints", "best") for n in ("undisturbed", name)]
    assert_equal(best[0]["model"], best[1]["model"])


@pytest.mark.parametrize("name", ["killed", "terminated"])
def test_the_log_has_every_step_once(ended, name):
    folder, _ = ended
    assert records(folder / name) == records(folder / "undisturbed")


def test_there_were_kills_in_the_midst_of_training(ended):
    folder, report = ended
    assert report["killed"]["statuses"].count(-signal.SIGKILL) >= report["killed"]["asked"] / 2
    assert (folder / "killed" / "train.log").read_text().count(" steps are done") >= 2  # it was taken up again


def test_sigterm_ends_with_75_and_soon(ended):
    folder, report = ended
    assert set(report["terminated"]["statuses"]) <= {75, -signal.SIGTERM, 0}  # -SIGTERM: before training began
    assert 75 in report["terminated"]["statuses"]
    assert report["terminated"]["longest_wait"] < 30
    assert "SIGTERM: saved at step" in (folder / "terminated.log").read_text()


def test_the_record_counts_seconds_over_all_runs(ended):
    folder, _ = ended
    record = json.loads((folder / "terminated" / "record.json").read_text())
    state = checkpoint.load(folder / "terminated" / "checkpoints")
    assert record["training_seconds"] == pytest.approx(state["trainer"]["seconds"], abs=0.5)
    assert record["parameters"] > 0 and record["threads"] == 1
