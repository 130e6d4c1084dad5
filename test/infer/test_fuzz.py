"""Whatever is named like audio: enhanced with its length, rate and channels, or refused in one line, and nothing else.

The same inputs each time; ``SENET_FUZZ=100 pytest test/infer/test_fuzz.py`` tries 100 times as many.
"""

import io
import logging
import os
import struct
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from senet.bin import enhance
from senet.infer import load
from senet.infer.enhance import MAX_RATE

FORMATS = [
    (".wav", "PCM_16"), (".wav", "PCM_U8"), (".wav", "PCM_24"), (".wav", "PCM_32"), (".wav", "FLOAT"),
    (".wav", "DOUBLE"), (".wav", "ULAW"), (".wav", "IMA_ADPCM"), (".flac", "PCM_16"), (".flac", "PCM_24"),
    (".ogg", "VORBIS"), (".mp3", "MPEG_LAYER_III"), (".opus", "OPUS"),
]  # fmt: skip
MAGIC = [b"", b"RIFF\xff\xff\xff\xffWAVEfmt ", b"RF64", b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90d", b"AUDIO", b"FORM"]


def fuzz(examples):
    return settings(
        max_examples=examples * int(os.environ.get("SENET_FUZZ", 1)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def run(expdir):
    """``run(name, data, piped)``: ``senet enhance`` of a file of these bytes; what came of it, after the checks that
    hold for any input."""
    model = load.load_model(expdir)
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record)

    def run(name, data, piped=False, *words):
        del lines[:]
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "in" / name, Path(folder) / "out"
            source.parent.mkdir()
            source.write_bytes(data)
            target = out / "a.wav" if piped else out
            patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
            call = ["-" if piped else str(source), "-o", str(target), "--model", str(expdir), *words]
            status = enhance.main(call)
            assert source.read_bytes() == data and list(source.parent.iterdir()) == [source]
            found = [path for path in out.rglob("[!.]*") if path.is_file()]
            errors = [record.getMessage() for record in lines if record.levelno >= logging.ERROR]
            if status:
                assert status == 1 and not found
                (reason,) = errors
                assert "\n" not in reason and ("standard input" if piped else name) in reason
                return reason
            assert not errors
            (path,) = found
            y, rate = soundfile.read(path, always_2d=True)
            assert np.isfinite(y).all()
            return y, rate, soundfile.info(path).subtype

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enhance, "setup_logging", lambda: None)
        patch.setattr(load, "load_model", lambda *_: model)
        patch.setattr(os, "fsync", lambda _: None)  # a disk that is busy takes longer than all the rest
        logging.getLogger().addHandler(handler)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.INFO)
        yield run
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(level)


def require_same_form(found, data, piped=False):
    """What was written has the form that libsndfile sees in the source."""
    y, rate, _ = found
    try:
        info = soundfile.info(io.BytesIO(data))
    except soundfile.LibsndfileError:
        assert piped  # there, chunks that say nothing of the form are not looked at
    else:
        assert (rate, *y.shape) == (info.samplerate, info.frames, info.channels)


def encoded(x, rate, kind):
    suffix, subtype = kind
    buffer = io.BytesIO()
    container = {".mp3": "MP3", ".opus": "OGG"}.get(suffix, suffix[1:].upper())
    soundfile.write(buffer, x, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def signal(frames, channels, seed=0):
    x = 0.1 * np.random.default_rng(seed).standard_normal((frames, channels))
    return x[:, 0] if channels == 1 else x


WHOLE = {kind: encoded(signal(3000, 2), 16000, kind) for kind in FORMATS}


@fuzz(60)
@given(kind=st.sampled_from(FORMATS), share=st.floats(0, 1), piped=st.booleans())
def test_a_file_that_was_cut_off(run, kind, share, piped):
    whole = WHOLE[kind]
    data = whole[: int(share * len(whole))]
    found = run(f"a{kind[0]}", data, piped)
    if not isinstance(found, str):
        assert kind[0] in (".ogg", ".opus", ".mp3") or data == whole  # streams without a length in their header
        require_same_form(found, data, piped)


@fuzz(60)
@given(
    suffix=st.sampled_from([".wav", ".WAV", ".flac", ".ogg", ".mp3", ".opus"]),
    magic=st.sampled_from(MAGIC),
    data=st.binary(max_size=200),
    piped=st.booleans(),
)
def test_any_bytes(run, suffix, magic, data, piped):
    found = run(f"a{suffix}", magic + data, piped)
    if not isinstance(found, str):
        require_same_form(found, magic + data, piped)


@fuzz(100)
@given(
    kind=st.sampled_from(FORMATS),
    changes=st.lists(
        st.tuples(st.integers(0, 120) | st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6
    ),
    piped=st.booleans(),
)
def test_damaged_bytes(run, kind, changes, piped):
    data = bytearray(WHOLE[kind])
    for place, value in changes:
        data[place % len(data)] = value
    found = run(f"a{kind[0]}", bytes(data), piped)
    if not isinstance(found, str):
        require_same_form(found, bytes(data), piped)


@fuzz(80)
@given(
    form=st.sampled_from([1, 3, 6, 0xFFFE, 0]),
    channels=st.sampled_from([0, 1, 2, 8, 255, 1024, 65535]),
    rate=st.sampled_from([0, 1, 7, 8000, 192000, 4_000_000_000, (1 << 32) - 1]),
    bits=st.sampled_from([0, 1, 8, 12, 16, 24, 32, 64, 65535]),
    claimed=st.sampled_from([None, 0, 1, 3, 1 << 31, 0x7FFFF000, 0xFFFFFFFE, 0xFFFFFFFF]),
    data=st.binary(max_size=64),
    piped=st.booleans(),
)
def test_absurd_wav_headers(run, form, channels, rate, bits, claimed, data, piped):
    width = bits // 8 * channels
    said = struct.pack("<HHIIHH", form, channels, rate, min(width * rate, 0xFFFFFFFF), width % 65536, bits)
    size = len(data) if claimed is None else claimed
    head = b"RIFF" + struct.pack("<I", min(36 + size, 0xFFFFFFFF)) + b"WAVEfmt " + struct.pack("<I", 16) + said
    content = head + b"data" + struct.pack("<I", size) + data
    found = run("a.wav", content, piped)
    if not isinstance(found, str) and not piped:
        require_same_form(found, content)
    elif not isinstance(found, str):  # where 0 and the largest sizes mean "not known"
        there = size if 0 < size < 0x7FFFF000 else len(data)
        assert (found[1], *found[0].shape) == (rate, there // width, channels)


@fuzz(60)
@given(
    rate=st.integers(0, (1 << 20) - 1),
    channels=st.integers(1, 8),
    bits=st.integers(4, 32),
    total=st.sampled_from([0, 1, 2999, 3000, 3001, (1 << 36) - 1]),
    block=st.sampled_from([0, 1, 15, 16, 4096, 65535]),
)
def test_absurd_flac_headers(run, rate, channels, bits, total, block):
    data = bytearray(WHOLE[".flac", "PCM_16"])
    packed = rate << 44 | channels - 1 << 41 | bits - 1 << 36 | total
    data[8:12] = struct.pack(">HH", block, block)
    data[18:26] = struct.pack(">Q", packed)
    found = run("a.flac", bytes(data))
    if not isinstance(found, str):
        require_same_form(found, bytes(data))


@fuzz(80)
@given(
    kind=st.sampled_from(FORMATS[:6]),
    form=st.tuples(st.integers(0, 10), st.integers(1, 8), st.sampled_from([7, 8000, 11025, 16000, 44100, 192000])),
    scale=st.sampled_from([0, 1e-30, 1, 100, 1e38]),
    piped=st.booleans(),
)
@example(kind=FORMATS[0], form=(2, 1, 1), scale=1, piped=False)  # 2 s at 1 Hz
@example(kind=FORMATS[4], form=(10, 2, (1 << 31) - 1), scale=1, piped=False)
def test_a_few_samples(run, kind, form, scale, piped):
    frames, channels, rate = form
    data = encoded(scale * signal(frames, channels, frames), rate, kind)
    found = run(f"a{kind[0]}", data, piped)
    if not frames:
        assert "no samples" in found
    elif isinstance(found, str):
        assert scale == 1e38 or rate > MAX_RATE, found
    else:
        assert (found[1], *found[0].shape) == (rate, frames, channels) and found[2] == kind[1]


@fuzz(30)
@given(
    kind=st.sampled_from([(".wav", "FLOAT"), (".wav", "DOUBLE")]),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 1e300]),
    place=st.integers(0, 199),
    channels=st.integers(1, 3),
    piped=st.booleans(),
)
def test_samples_that_are_no_numbers(run, kind, value, place, channels, piped):
    x = signal(200, channels)
    x[place] = value
    assert "holds NaN or infinite samples" in run("a.wav", encoded(x, 16000, kind), piped)
