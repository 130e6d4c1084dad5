"""TensorBoard: the numbers of train.jsonl as curves, and a few validation utterances to hear and see."""

import functools
import logging
from pathlib import Path

import numpy as np
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from senet.data.audio import AudioError, read, wav_bytes
from senet.data.datadir import DataDir
from senet.dsp.spectrogram import png, power_db

log = logging.getLogger(__name__)

SECONDS = 12  # of an utterance are heard and shown


def _while_it_can(method):
    """A disk that is full ends TensorBoard and not the training: what has to be kept will say so."""

    @functools.wraps(method)
    def guarded(self, *arguments):
        try:
            if not self.ended:
                method(self, *arguments)
        except OSError as error:
            self.ended = True
            log.warning("TensorBoard ends here: %s", error)

    return guarded


class Board:
    """Writes ``folder``; what an earlier run wrote there after ``step`` is repeated, so TensorBoard drops it.

    Args:
        folder: for TensorBoard's files.
        step: the one that the training starts from.
        valid: data directory; ``count`` of its utterances, spread evenly over it, are heard: noisy and clean once,
            enhanced after each validation. Their spectrograms have one scale.
        count: 0: none.
    """

    def __init__(self, folder, step, valid, count):
        first = not list(Path(folder).glob("events.*"))
        self.writer, self.ended = SummaryWriter(folder, purge_step=step + 1), False
        self.utterances = dict(_utterances(DataDir(valid), count)) if count else {}
        if first:
            self._show_given()

    @_while_it_can
    def add(self, record):
        """The numbers of a record of train.jsonl."""
        for name, value in record.items():
            if type(value) in (int, float) and name not in ("step", "epoch"):
                self.writer.add_scalar(f"{record['event']}/{name}", value, record["step"])

    @_while_it_can
    @torch.no_grad()
    def listen(self, model, step):
        """What a model on any device makes of the utterances. To look is not worth a training: what fails is told."""
        model.eval()
        for utt, (signals, rate, loudest) in self.utterances.items():
            try:
                noisy = torch.from_numpy(signals["noisy"])[None].to(next(model.parameters()).device)
                enhanced = model(noisy)[0].float().cpu().numpy()
            except torch.OutOfMemoryError as error:
                log.warning("%s: not heard, for want of memory: %s", utt, error)
            else:
                self._show(f"{utt}/enhanced", enhanced, rate, loudest, step)
        self.writer.flush()

    @_while_it_can
    def close(self):
        self.writer.close()

    @_while_it_can
    def _show_given(self):
        for utt, (signals, rate, loudest) in self.utterances.items():
            for name, x in signals.items():
                self._show(f"{utt}/{name}", x, rate, loudest, 0)
        self.writer.flush()

    def _show(self, name, x, rate, loudest, step):
        power = power_db(x, rate, len(x) / rate, rate / 2)
        image = Summary.Image(height=power.shape[0], width=power.shape[1], colorspace=3)
        image.encoded_image_string = png(power - loudest)
        audio = Summary.Audio(sample_rate=rate, num_channels=1, length_frames=len(x), content_type="audio/wav")
        audio.encoded_audio_string = wav_bytes(np.clip(np.nan_to_num(x), -1, 1), rate)[0]
        values = Summary.Value(tag=f"spectrogram/{name}", image=image), Summary.Value(tag=f"audio/{name}", audio=audio)
        self.writer.file_writer.add_summary(Summary(value=values), step)


def _utterances(data, count):
    """Yield (utt, ({"noisy", "clean": samples}, Hz, dB of the loudest point of their spectrograms))."""
    for i in dict.fromkeys(np.linspace(0, len(data) - 1, count).round().astype(int).tolist()):
        signals = {}
        try:
            for name, scp in (("noisy", data.noisy), ("clean", data.clean)):
                x, rate = read(scp.value(i), root=scp.root)
                signals[name] = x[: SECONDS * rate]
        except AudioError as error:
            log.warning("%s: not heard: %s", data.noisy.key(i), error)
            continue
        loudest = max(power_db(x, rate, len(x) / rate, rate / 2).max() for x in signals.values())
        yield data.noisy.key(i), (signals, rate, loudest)
