"""Audio in blocks: what is written is read again, by senet and by soundfile, from files and from pipes."""

import io
import os
import struct
import types

import numpy as np
import pytest
import soundfile

from senet.data import blocks, wav
from senet.data.blocks import SUBTYPES, Recording, write_blocks
from senet.errors import UserError

KINDS = [(suffix, subtype) for suffix, subtypes in SUBTYPES.items() for subtype in subtypes]
STEP = {"PCM_U8": 2**-7, "PCM_S8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-24}


def signal(channels=1, n=1001):
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (n, channels)).astype(np.float32)
    return x[:, 0] if channels == 1 else x


def write(path, x, subtype="PCM_16", frames=None, rate=44100):
    with write_blocks(path, rate, 1 if x.ndim == 1 else x.shape[1], subtype, frames) as writer:
        writer.write(x[:400])
        writer.write(x[400:])
    return writer


def stored(x, subtype):
    """The values that the subtype holds."""
    if (step := STEP.get(subtype)) is None:
        return x
    return np.clip(np.rint(x.astype(np.float64) / step) * step, -1, 1 - step)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_every_subtype_comes_back(tmp_path, suffix, subtype, channels):
    path, x = tmp_path / f"a{suffix}", signal(channels)
    for frames in (None, len(x)):
        writer = write(path, x, subtype, frames)
        info = soundfile.info(path)
        assert (info.subtype, info.frames, info.channels, info.samplerate) == (subtype, len(x), channels, 44100)
        expected = stored(x, subtype)
        assert np.abs(soundfile.read(path)[0] - expected).max() <= 1e-7
        assert np.abs(np.concatenate(list(Recording(path).blocks(77))) - expected).max() <= 1e-7
        step = STEP.get(subtype)
        beyond = np.abs(np.rint(x / step) * step + step / 2) > 1 if step else []
        assert writer.clipped == np.count_nonzero(beyond)
        assert writer.peak == np.abs(x).max()


def test_bytes_do_not_depend_on_the_blocks_or_on_the_time(tmp_path):
    x = signal(2)
    for suffix, subtype in ((".wav", "FLOAT"), (".wav", "PCM_24"), (".flac", "PCM_16")):
        write(tmp_path / f"a{suffix}", x, subtype)
        with write_blocks(tmp_path / f"b{suffix}", 44100, 2, subtype) as writer:
            writer.write(x)
        if suffix == ".wav":  # libsndfile's frames follow the blocks
            assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_more_than_4_gib_is_an_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(wav, "_LARGEST", 1000)
    head = wav.header(wav.Form(16000, 1, "PCM_16", 1001))
    monkeypatch.undo()
    head = head.replace(struct.pack("<I", 1000), b"\xff" * 4)
    x = signal()
    (tmp_path / "a.wav").write_bytes(head + wav.encode(x, "PCM_16")[0])
    y, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 16000 and np.abs(y - stored(x, "PCM_16")).max() <= 1e-7
    assert np.array_equal(np.concatenate(list(Recording(tmp_path / "a.wav").blocks(300))), y.astype(np.float32))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_fails_leaves_nothing(tmp_path, suffix):
    path = tmp_path / "new" / f"a{suffix}"
    with pytest.raises(RuntimeError), write_blocks(path, 16000, 1, "PCM_16") as writer:
        writer.write(signal())
        raise RuntimeError
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_full_disk_is_said_and_leaves_nothing(tmp_path, suffix, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() > 5000:
                raise OSError(28, os.strerror(28))
            return super().write(data)

    monkeypatch.setattr("senet.files.open", lambda path, mode: Full(path, "w"), raising=False)
    with (
        pytest.raises(UserError, match=rf"a\{suffix}: cannot write: No space left"),
        write_blocks(tmp_path / f"a{suffix}", 16000, 1, "PCM_16") as writer,
    ):
        for _ in range(20):
            writer.write(signal())
    assert not list(tmp_path.iterdir())


def test_flac_that_cannot_be(tmp_path):
    with (
        pytest.raises(UserError, match=r"a.flac: a flac cannot hold 9 channels at 16000 Hz .*; write a .wav"),
        write_blocks(tmp_path / "a.flac", 16000, 9, "PCM_16"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_is_whole(tmp_path):
    path = tmp_path / "a.wav"
    assert not blocks.is_whole(path)
    write(path, signal())
    assert blocks.is_whole(path) and blocks.is_whole(path, 1001) and not blocks.is_whole(path, 1000)
    path.write_bytes(path.read_bytes()[:-1])
    assert not blocks.is_whole(path)


class TestPipe:
    @pytest.fixture
    def pipe(self, monkeypatch):
        """``pipe(data)``: the Recording that comes through standard input."""

        def pipe(data):
            monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
            return Recording("-")

        return pipe

    def data(self, subtype="PCM_16", frames=1001, channels=2):
        x = signal(channels)
        return x, wav.header(wav.Form(48000, channels, subtype, frames)) + wav.encode(x, subtype)[0]

    @pytest.mark.parametrize("subtype", wav.SUBTYPES)
    @pytest.mark.parametrize("frames", [1001, None])
    def test_every_subtype_with_and_without_a_length(self, pipe, subtype, frames):
        x, data = self.data(subtype, frames)
        recording = pipe(data)
        assert recording.info == (48000, 2, frames, subtype)
        assert np.abs(np.concatenate(list(recording.blocks(300))) - stored(x, subtype)).max() <= 1e-7

    def test_as_other_programs_write_it(self, pipe, tmp_path):
        """Extensible formats, further chunks, and sizes of 0 where the writer could not go back."""
        x = signal(2)
        soundfile.write(tmp_path / "a.wav", x, 16000, "PCM_24", format="WAVEX")
        data = (tmp_path / "a.wav").read_bytes()
        assert np.abs(np.concatenate(list(pipe(data).blocks(300))) - stored(x, "PCM_24")).max() <= 2**-22
        _, data = self.data()
        listed = data[:36] + b"LIST" + struct.pack("<I", 5) + b"INFOx\0" + b"data" + struct.pack("<I", 0) + data[44:]
        recording = pipe(listed)
        assert recording.info.frames is None
        assert np.array_equal(np.concatenate(list(recording.blocks(300))), stored(x, "PCM_16").astype(np.float32))

    def test_what_follows_the_samples_is_not_heard(self, pipe):
        x, data = self.data()
        assert len(np.concatenate(list(pipe(data + b"LIST\x04\0\0\0INFO").blocks(300)))) == len(x)

    @pytest.mark.parametrize(
        ("cut", "message"),
        [
            (slice(0), "standard input: nothing came; a wav expected"),
            (slice(20), "ends within its header"),
            (slice(44), "claims 1001 samples, 0 came|no samples"),
            (slice(2000), "its header claims 1001 samples, 489 came"),
        ],
    )
    def test_cut(self, pipe, cut, message):
        with pytest.raises(UserError, match=message):
            list(pipe(self.data()[1][cut]).blocks(300))

    def test_other_formats_are_refused(self, pipe, tmp_path):
        soundfile.write(tmp_path / "a.flac", signal(), 16000)
        with pytest.raises(UserError, match="standard input: is no wav .*, and only wav is read from a stream"):
            pipe((tmp_path / "a.flac").read_bytes())
        soundfile.write(tmp_path / "a.wav", signal(), 16000, "ULAW")
        with pytest.raises(UserError, match="standard input: holds samples of format 7"):
            pipe((tmp_path / "a.wav").read_bytes())
