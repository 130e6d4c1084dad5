"""Every training configuration of every recipe, small, from mixing to enhanced files, by the commands themselves."""

import json

import pytest
import soundfile
import torch
from reduced import CONFIGS, config_id, reduced

from senet import config
from senet.bin import enhance, mix, prepare, train
from senet.data.scp import read_table


@pytest.fixture(scope="module")
def mixtures(miniature, tmp_path_factory):
    """A set of four mixtures of 0.6 s, made as the recipes make theirs."""
    folder = tmp_path_factory.mktemp("recipe")
    data = folder / "data"
    for kind, source in (("speech", "clean_test"), ("noise", "noise_test")):
        prepare.main(["--src", str(miniature / source), "--out", str(data / kind), "--kind", kind])
    out = folder / "dump" / "train"
    words = ["--speech", "speech", "--noise", "noise", "--num_clips", "4", "--seconds", "0.6"]
    mix.main(["--data", str(data), "--out", str(out), *words])
    return out


@pytest.mark.parametrize("path", CONFIGS, ids=config_id)
def test_it_trains_and_enhances(path, mixtures, tmp_path):
    expdir = tmp_path / "exp"
    options = config.read_yaml(path)
    trains = options.get("loss") is not None
    words = [*reduced(path), "--train", str(mixtures), "--valid", str(mixtures), "--expdir", str(expdir)]
    if trains:
        # The same few mixtures again and again, at a rate that shows within a few steps; RMSpropTF is slow to start.
        epochs = "25" if options.get("objective") == "adversarial" else "5"
        words += ["--batch_size", "4", "--max_epoch", epochs, "--max_steps", "0", "--log_every", "1"]
        words += ["--warmup_steps", "0", "--optim_conf.lr", "3e-3"]
        if "--crop_seconds" not in words:
            words += ["--crop_seconds", "0.6"]
    assert not train.main([*words, "--num_workers", "0", "--num_threads", "1"])
    if trains:
        records = [json.loads(line) for line in (expdir / "train.jsonl").read_text().splitlines()]
        losses = [record["loss"] for record in records if record["event"] == "valid"]
        assert losses[-1] < losses[0], losses

    out = tmp_path / "enhanced"
    assert not enhance.main([str(mixtures / "wav.scp"), "-o", str(out), "--model", str(expdir)])
    enhanced = read_table(out / "wav.scp")
    lengths = read_table(mixtures / "utt2num_samples")
    assert len(enhanced) == 4
    for utt, wav in enhanced.items():
        wave, rate = soundfile.read(wav)
        assert (rate, len(wave)) == (16000, int(lengths[utt]))
        assert torch.from_numpy(wave).isfinite().all() and wave.any()
