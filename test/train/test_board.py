"""TensorBoard: the numbers of the log, and the same utterances at each validation."""

import errno
import functools
import io
import logging
import struct
import sys

import numpy as np
import pytest
import soundfile
import torch
from test_trainer import _signal_after, records, trainer
from toys import supervised

from senet.bin import train
from senet.errors import UserError
from senet.train import session

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="pip install senet[tb]")

EVERYTHING = {events.SCALARS: 0, events.IMAGES: 0, events.AUDIO: 0}


def board(expdir, valid=None, count=0):
    from senet.train.board import Board

    return functools.partial(Board, expdir / "tensorboard", valid=valid, count=count)


def shown(expdir):
    found = events.EventAccumulator(str(expdir / "tensorboard"), EVERYTHING)
    return found.Reload()


class Half(torch.nn.Module):
    sample_rate = 16000

    def __init__(self, gain=0.5):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, noisy):
        return self.gain * noisy


def test_the_curves_are_those_of_the_log_also_after_a_crash(tmp_path):
    objective = supervised()
    _signal_after(objective, "step", 7)
    with pytest.raises(SystemExit):
        trainer(tmp_path, objective, log_every=1, save_every=0, board=board(tmp_path)).fit()
    trainer(tmp_path, log_every=1, max_epoch=2, save_every=0, board=board(tmp_path)).fit()
    (tmp_path / "checkpoints" / "index.json").write_text(  # as if it had been killed after step 7
        (tmp_path / "checkpoints" / "index.json").read_text().replace("step_00000010.pt", "gone.pt")
    )
    trainer(tmp_path, log_every=1, board=board(tmp_path)).fit()
    found = shown(tmp_path)
    for event, names in (("train", ("loss", "lr", "grad_norm", "steps_per_second")), ("valid", ("loss", "train_loss"))):
        for name in names:
            points = [(e.step, e.value) for e in found.Scalars(f"{event}/{name}")]
            assert [step for step, _ in points] == [r["step"] for r in records(tmp_path, event)]
            if name != "steps_per_second":
                assert [v for _, v in points] == pytest.approx([r[name] for r in records(tmp_path, event)], rel=1e-5)


def test_utterances_are_heard_noisy_and_clean_once_and_enhanced_each_time(small_set, tmp_path):
    for start in (0, 10):  # the second goes on after the first, which was killed at 20
        with_utterances = board(tmp_path, small_set, 2)(start)
        for step in (10, 20) if start == 0 else (20, 30):
            with_utterances.listen(Half(step / 40), step)
        with_utterances.close()
    found = shown(tmp_path)
    utts = ["spk0-utt0", "spk1-utt3"]  # the first and the last of five
    assert sorted(found.Tags()["audio"]) == sorted(
        f"audio/{utt}/{name}" for utt in utts for name in ("noisy", "clean", "enhanced")
    )
    noisy, _ = soundfile.read(small_set / "wav" / f"{utts[0]}.wav")
    for name, steps in (("noisy", [0]), ("clean", [0]), ("enhanced", [10, 20, 30])):
        audio = found.Audio(f"audio/{utts[0]}/{name}")
        images = found.Images(f"spectrogram/{utts[0]}/{name}")
        assert [e.step for e in audio] == [e.step for e in images] == steps
        assert struct.unpack(">II", images[0].encoded_image_string[16:24]) == (images[0].width, images[0].height)
        x, rate = soundfile.read(io.BytesIO(audio[-1].encoded_audio_string))
        assert rate == 16000 and len(x) == len(noisy)
        if name != "clean":
            np.testing.assert_allclose(x, noisy * (0.75 if name == "enhanced" else 1), atol=1 / 32768)


def test_what_a_model_cannot_do_or_an_utterance_is_not_ends_no_training(small_set, tmp_path, caplog):
    class Large(Half):
        def forward(self, noisy):
            raise torch.OutOfMemoryError("too large")

    made = board(tmp_path, small_set, 1)(0)
    made.listen(Half(float("nan")), 1)
    with caplog.at_level(logging.WARNING):
        made.listen(Large(), 2)
    made.close()
    assert "spk0-utt0: not heard, for want of memory: too large" in caplog.text
    assert [e.step for e in shown(tmp_path).Audio("audio/spk0-utt0/enhanced")] == [1]


def test_a_disk_that_is_full_ends_tensorboard_and_not_the_training(small_set, tmp_path, monkeypatch, caplog):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    made = board(tmp_path, small_set, 1)(0)
    monkeypatch.setattr(made.writer, "flush", full)
    with caplog.at_level(logging.WARNING):
        made.listen(Half(), 1)
        made.add({"event": "train", "step": 2, "epoch": 1, "loss": 1.0})
        made.listen(Half(), 2)
        made.close()
    assert caplog.text.count("TensorBoard ends here: [Errno 28] No space left on device") == 1


def options(*words):
    return train.get_parser().parse(["--train", "x", "--valid", "x", "--expdir", "exp/x", "--model", "x.X", *words])


def test_without_tensorboard_training_says_so_once_unless_it_was_asked_for(monkeypatch, caplog):
    assert session.open_board(options()) and session.open_board(options("--tensorboard", "false")) is None
    monkeypatch.delitem(sys.modules, "senet.train.board", raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        assert session.open_board(options()) is None
    assert caplog.text.count("no TensorBoard: it is not installed") == 1
    with pytest.raises(UserError, match="--tensorboard true: .*pip install"):
        session.open_board(options("--tensorboard", "true"))
