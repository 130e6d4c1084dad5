"""Fixtures for all tests."""

import os
from pathlib import Path

import numpy as np
import pytest


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
