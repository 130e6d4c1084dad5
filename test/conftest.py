"""Fixtures for all tests."""

import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for reduced.py


@pytest.fixture(autouse=True)
def no_log_goes_on():
    """A command logs to the standard error that it was called with: after a test that is closed."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real recordings for development; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SENET_REAL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder} (set SENET_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def small_set(tmp_path_factory):
    """Data directory of five utterances of about a second at 16 kHz, as wav files in ``wav`` (noisy) and ``spk1``.

    The clean signals are noise in bursts: enough like speech for PESQ and STOI. Do not change it: it is shared.
    """
    from senet.data.audio import write_wav
    from senet.data.scp import write_table

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "test"
    for i in range(5):
        utt, n = f"spk{i % 2}-utt{i}", 16000 + 1600 * i
        burst = np.sin(2 * np.pi * 3 * np.arange(n) / 16000) > -0.3
        clean = 0.1 * burst * np.convolve(rng.standard_normal(n), np.ones(8) / 2, "same")
        write_wav(folder / "spk1" / f"{utt}.wav", clean, 16000)
        write_wav(folder / "wav" / f"{utt}.wav", clean + 0.05 * rng.standard_normal(n), 16000)
    utts = sorted(path.stem for path in (folder / "wav").iterdir())
    for kind, scp in (("wav", "wav.scp"), ("spk1", "spk1.scp")):
        write_table(folder / scp, [(utt, folder / kind / f"{utt}.wav") for utt in utts])
    write_table(folder / "utt2num_samples", [(utt, 16000 + 1600 * int(utt[-1])) for utt in utts])
    write_table(folder / "utt2spk", [(utt, utt[:4]) for utt in utts])
    return folder


@pytest.fixture(scope="session")
def make_experiment():
    """``make(folder, *seeds)``: an experiment folder as training leaves it, with one checkpoint of a small random
    network for each seed; the first has the best score, the last is the last."""
    import torch

    from senet import checkpoint, config

    options = {
        "model": "lowlatency.LowLatencyNet",
        "model_conf": {"channels": 4, "maps": 2, "lstm_units": 8, "fc_units": 8, "causal": True},
    }

    def make(folder, *seeds):
        for step, seed in enumerate(seeds, 1):
            torch.manual_seed(seed)
            state = {"model": config.build("models", options["model"], options["model_conf"]).state_dict()}
            checkpoint.save(folder / "checkpoints", state, step=step, epoch=step, score=float(step))
        config.save_resolved(folder / "config.yaml", options)
        return folder

    return make


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """LibriSpeech and MS-SNSD in small: their trees and names, and one recording for each way to be difficult.

    Folders ``clean_train`` (8 speakers), ``clean_test`` (2), ``noise_train``, ``noise_test``. Tone bursts for speech,
    4 s unless said otherwise. Do not change it: it is shared.
    """
    import soundfile

    root = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(1)

    def write(name, seconds, rate=16000, channels=1, gain=0.1):
        t = np.arange(int(seconds * rate))[:, None] / rate
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000, channels) * t) * (np.sin(2 * np.pi * 2 * t) > -0.5)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, gain * (tone + 0.3 * rng.standard_normal(tone.shape)), rate, "PCM_16")

    for speaker in range(11, 19):
        for number in range(2):
            write(f"clean_train/{speaker}/1/{speaker}-1-{number:04d}.flac", 4 + 0.1 * number)
    write("clean_train/11/2/11-2-0000.flac", 2.5)  # too short for 3 s
    write("clean_train/12/2/12-2-0000.flac", 4, gain=0)  # silent
    write("clean_train/13/2/13-2-0000.flac", 4, rate=48000)
    write("clean_train/14/2/14-2-0000.WAV", 4, channels=2)
    for speaker in (21, 22):
        write(f"clean_test/{speaker}/1/{speaker}-1-0000.flac", 4)
    for kind in ("AirConditioner", "Babble", "Typing"):
        for number in range(1, 5):
            write(f"noise_train/{kind}_{number}.wav", 5)
    for take in "AB":
        write(f"noise_train/dog_1-187207-{take}.wav", 3.5)
    write("noise_train/Munching_1.wav", 1.5)
    for number in (1, 2):  # the names occur in noise_train, too
        write(f"noise_test/Babble_{number}.wav", 5)
    (root / "noise_train" / "Babble_2.wav").write_bytes((root / "noise_test" / "Babble_2.wav").read_bytes())
    return root
