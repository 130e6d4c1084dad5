import io
import os
import pickle
import struct

import kaldiio
import numpy as np
import pytest
import soundfile

from senet.data import audio, stored
from senet.data.audio import AudioError, WavArkWriter, check, find_audio, info, read, read_mono, to_int16, write_wav
from senet.errors import UserError

RATE = 16000


@pytest.fixture
def signal():
    return (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)


@pytest.fixture
def ark(tmp_path, signal):
    """(values, int16 signals): mono signals of three lengths, then a stereo one."""
    signals = [to_int16(signal[:n])[0] for n in (RATE, 1, 12345)] + [to_int16(np.stack([signal, -signal], 1))[0]]
    with WavArkWriter(tmp_path / "a.ark") as writer:
        values = [writer.write(f"utt{i}", x, RATE) for i, x in enumerate(signals)]
    return values, signals


def test_ark_is_read_alike_by_senet_and_kaldiio(ark):
    values, signals = ark
    for value, x in zip(values, signals, strict=True):
        samples, rate = read(value)
        assert rate == RATE
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples, x / np.float32(32768))
        assert kaldiio.load_mat(value)[0] == RATE
        np.testing.assert_array_equal(kaldiio.load_mat(value)[1], x)
    # Sequentially, as Kaldi's own tables are read.
    for i, (key, (_, y)) in enumerate(kaldiio.load_ark(values[0].rpartition(":")[0])):
        assert key == f"utt{i}"
        np.testing.assert_array_equal(y, signals[i])


def test_arks_of_kaldiio_are_read(tmp_path, signal):
    x = to_int16(signal)[0]
    scp = tmp_path / "k.scp"
    kaldiio.save_ark(str(tmp_path / "k.ark"), {"a": (RATE, x), "b": (RATE, x[::-1].copy())}, scp=str(scp))
    kaldiio.save_ark(
        str(tmp_path / "f.ark"), {"c": (x, RATE), "d": (x[::-1].copy(), RATE)}, scp=str(scp), append=True,
        write_function="soundfile", write_kwargs={"format": "flac"},
    )  # fmt: skip
    values = dict(line.split() for line in scp.read_text().splitlines())
    for key, y in {"a": x, "b": x[::-1], "c": x, "d": x[::-1]}.items():
        np.testing.assert_array_equal(read(values[key], 100, 500)[0] * 32768, y[100:600])
        assert info(values[key]) == (RATE, 1, RATE, "PCM_16")


@pytest.mark.parametrize(
    "name", ["x.wav", "x.flac", "x.ogg", "x.mp3", "x.opus", "float.wav", "24.wav", "extensible.wav", "big.wav"]
)
def test_a_crop_is_that_part_of_the_whole(tmp_path, signal, name):
    path = tmp_path / name
    options = {
        "x.opus": {"format": "OGG", "subtype": "OPUS"},
        "float.wav": {"subtype": "FLOAT"},
        "24.wav": {"subtype": "PCM_24"},
        "extensible.wav": {"format": "WAVEX"},
        "big.wav": {"endian": "BIG"},
    }
    smooth = np.convolve(signal, np.ones(32) / 4, "same")
    soundfile.write(path, smooth, RATE, **options.get(name, {}))
    whole, rate = read(path)
    assert rate == RATE
    assert info(path).frames == len(whole) == RATE
    assert np.abs(whole - smooth).max() < {"x.ogg": 0.1, "x.mp3": 0.1, "x.opus": 0.2}.get(name, 1e-4)
    for start, frames in ((0, RATE), (0, 1), (5000, 3000), (RATE - 1, 1), (RATE, 0)):
        # mp3 frames overlap, and float sums depend on where decoding began
        np.testing.assert_allclose(read(path, start, frames)[0], whole[start : start + frames], atol=1e-6)
    np.testing.assert_allclose(read(path, 15000)[0], whole[15000:], atol=1e-6)


def test_channels_are_columns(ark):
    values, signals = ark
    samples, _ = read(values[3], 10, 20)
    np.testing.assert_array_equal(samples, signals[3][10:30] / np.float32(32768))
    with pytest.raises(AudioError, match="has 2 channels, 1 expected") as error:
        read_mono(values[3], sample_rate=RATE)
    assert error.value.reason == "channels"


def test_only_the_crop_is_read(ark, monkeypatch):
    values, _ = ark
    read(values[0])  # opens the file
    requested = []

    def count(name):
        function = getattr(os, name)

        def counting(fd, what, position):
            requested.append(what if isinstance(what, int) else sum(buffer.nbytes for buffer in what))
            return function(fd, what, position)

        monkeypatch.setattr(stored.os, name, counting)

    count("pread")
    count("preadv")
    read(values[0], 5000, 100)
    assert requested == [64, 200]  # header, samples


def test_lengths_are_compared(ark):
    values, _ = ark
    assert len(read_mono(values[2], sample_rate=RATE, num_samples=12345)) == 12345
    with pytest.raises(AudioError, match="has 12345 samples, and utt2num_samples says 12346") as error:
        read(values[2], 0, 10, num_samples=12346)
    assert error.value.reason == "length"
    for start, frames in ((12340, 6), (-1, 5), (12346, None)):
        with pytest.raises(AudioError, match="it has 12345"):
            read(values[2], start, frames)


def test_a_cut_ark_is_an_error_where_it_is_cut(tmp_path, ark):
    values, signals = ark
    path = tmp_path / "a.ark"
    path.write_bytes(path.read_bytes()[: int(values[2].rpartition(":")[2]) + 1000])
    np.testing.assert_array_equal(read(values[0])[0] * 32768, signals[0])
    for value in values[2:]:
        with pytest.raises(AudioError, match="cut|1000|claims|there is nothing"):
            read(value, 0, 10)
    with pytest.raises(AudioError, match="is not audio"):  # an offset of another ark
        info(f"{path}:3")


def test_a_replaced_ark_is_read_anew(tmp_path, signal):
    for scale in (1, 0.5):
        with WavArkWriter(tmp_path / "a.ark") as writer:
            value = writer.write("u", scale * signal, RATE)
        np.testing.assert_allclose(read(value)[0], scale * signal, atol=2e-5)


def test_more_files_than_are_kept_open(tmp_path, signal):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(2):
        for i in range(80):
            path = tmp_path / f"{i}.wav"
            if not path.exists():
                write_wav(path, signal[i : i + 10], RATE)
            np.testing.assert_allclose(read(path)[0], signal[i : i + 10], atol=2e-5)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 64


def test_forked_processes_read_by_position(ark):
    values, signals = ark
    read(values[0])
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            same = all(np.array_equal(read(values[0], s, 50)[0] * 32768, signals[0][s : s + 50]) for s in range(500))
            os._exit(0 if same else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_int16_is_rounded_and_clipped():
    samples, clipped = to_int16(np.array([0.5 / 32768, 1.5 / 32768, 0.6 / 32768, 1.0, -1.0, -1.1, 32767 / 32768]))
    assert samples.tolist() == [0, 2, 1, 32767, -32768, -32768, 32767]
    assert clipped == 2
    with pytest.raises(ValueError, match="not finite"):
        to_int16(np.array([0.0, np.nan]))


def test_written_wav_is_what_soundfile_reads(tmp_path, signal):
    stereo = np.stack([signal, 12 * signal], 1)
    clipped = write_wav(tmp_path / "new" / "x.wav", stereo, 48000)
    samples, rate = soundfile.read(tmp_path / "new" / "x.wav", dtype="int16")
    assert rate == 48000
    assert clipped == np.count_nonzero(np.abs(12 * signal) > 1) > 0
    np.testing.assert_array_equal(samples, to_int16(stereo)[0])


def test_an_ark_appears_whole_or_not_at_all(tmp_path, signal):
    with pytest.raises(RuntimeError), WavArkWriter(tmp_path / "a.ark") as writer:
        writer.write("a", signal, RATE)
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with WavArkWriter(tmp_path / "a.ark", "dump/a.ark") as writer:
        assert writer.write("a", 12 * signal, RATE) == "dump/a.ark:2"
        assert writer.clipped > 0
        with pytest.raises(UserError, match="'b c' has white space"):
            writer.write("b c", signal, RATE)


def broken_files(folder, x):
    """name -> (expected reason, part of the message); twelve kinds of broken audio and some of their cousins."""
    sound = folder / "sound.wav"
    write_wav(sound, x, RATE)
    content = sound.read_bytes()
    soundfile.write(folder / "sound.flac", x, RATE)
    flac = (folder / "sound.flac").read_bytes()

    def put(name, data):
        (folder / name).write_bytes(data)

    def put_float(name, samples):
        soundfile.write(folder / name, samples.astype(np.float32), RATE, subtype="FLOAT")

    put("cut.wav", content[: len(content) // 2])
    put_float("cut_float.wav", x)
    put("cut_float.wav", (folder / "cut_float.wav").read_bytes()[:30000])
    put("header_only.wav", content[:40] + struct.pack("<I", 0))
    put("header_of_cut.wav", content[:44])
    put("cut_in_header.wav", content[:30])
    put("empty.wav", b"")
    put("text.wav", b"This is not audio but a text file.\n" * 30)
    put("cut.flac", flac[: len(flac) // 2])
    put("cut_end.flac", flac[:-200])
    put("flac_header.flac", flac[:60])
    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus_inf", -np.inf)):
        bad = x.copy()
        bad[RATE // 2] = value
        put_float(f"{name}.wav", bad)
    write_wav(folder / "stereo.wav", np.stack([x, x], 1), RATE)
    write_wav(folder / "rate.wav", x, 8000)
    write_wav(folder / "dc.wav", np.full(RATE, 0.25), RATE)
    write_wav(folder / "silent.wav", np.zeros(RATE), RATE)
    write_wav(folder / "dither.wav", np.arange(RATE) % 3 / 32768 - 1 / 32768, RATE)
    write_wav(folder / "short.wav", x[: RATE // 100], RATE)
    return {
        "cut.wav": ("cut", "its header claims 32000 bytes of samples, 15978 are there"),
        "cut_float.wav": ("cut", "its header claims 64000 bytes"),
        "header_only.wav": ("no samples", "has a header but no samples"),
        "header_of_cut.wav": ("cut", "claims 32000 bytes of samples, 0 are there"),
        "cut_in_header.wav": ("cut", "ends within its header"),
        "empty.wav": ("empty", "the file is empty"),
        "text.wav": ("format", "is not audio that can be read (it begins with b'This is not"),
        "cut.flac": ("cut", "asked for|cannot all be decoded"),
        "cut_end.flac": ("cut", "asked for|cannot all be decoded"),
        "flac_header.flac": ("format", "is not audio that can be read (it begins with b'fLaC"),
        "nan.wav": ("nan", f"sample {RATE // 2} (counted from 0) is not a number (NaN)"),
        "inf.wav": ("inf", f"sample {RATE // 2} (counted from 0) is infinite"),
        "minus_inf.wav": ("inf", f"sample {RATE // 2} (counted from 0) is infinite"),
        "stereo.wav": ("channels", "has 2 channels, 1 expected"),
        "rate.wav": ("rate", "has 8000 Hz, 16000 Hz expected"),
        "dc.wav": ("dc", "is constant at 0.25"),
        "silent.wav": ("silent", "is digital silence"),
        "dither.wav": ("silent", "is digital silence"),
        "short.wav": ("short", "lasts 10 ms, at least 100 ms expected"),
        "absent.wav": ("missing", "No such file"),
    }


def test_check_names_each_kind_of_broken_audio_with_file_and_reason(tmp_path, signal):
    for name, (reason, words) in broken_files(tmp_path, signal).items():
        with pytest.raises(AudioError) as error:
            check(tmp_path / name, sample_rate=RATE)
        message = str(error.value)
        assert (name, error.value.reason) == (name, reason)
        assert message.startswith(f"{tmp_path / name}: ")
        assert any(part in message for part in words.split("|")), message
    for name in ("sound.wav", "sound.flac"):
        assert check(tmp_path / name, sample_rate=RATE, num_samples=RATE).frames == RATE
    with pytest.raises(AudioError, match="utt2num_samples says 5"):
        check(tmp_path / "sound.wav", num_samples=5)


def test_reading_refuses_what_is_cut_even_outside_the_crop(tmp_path, signal):
    faults = broken_files(tmp_path, signal)
    for name in ("cut.wav", "cut_float.wav", "header_only.wav", "empty.wav", "text.wav", "absent.wav"):
        for function in (info, lambda path: read(path, 0, 10)):
            with pytest.raises(AudioError) as error:
                function(tmp_path / name)
            assert error.value.reason == faults[name][0]
    for name in ("cut.flac", "cut_end.flac"):
        with pytest.raises(AudioError):
            info(tmp_path / name)
        with pytest.raises(AudioError):
            read(tmp_path / name)


def ogg(x, subtype):
    content = io.BytesIO()
    soundfile.write(content, x, RATE, format="OGG", subtype=subtype)
    return content.getvalue()


def pages(content):
    return [b"OggS" + page for page in content.split(b"OggS")[1:]]


def patched(page, **parts):
    """The page with another flag or serial number, and the checksum of that."""
    page = bytearray(page)
    page[5] = parts.get("flags", page[5])
    page[14:18] = parts.get("serial", page[14:18])
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x104C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    page[22:26] = checksum.to_bytes(4, "little")
    return bytes(page)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
class TestOgg:
    FRAMES = 3 * RATE - 104  # with Opus's 312 samples of lead at 48 kHz, whole packets: none is trimmed

    @pytest.fixture
    def content(self, signal, subtype):
        return ogg(np.tile(signal, 3)[: self.FRAMES], subtype)

    def test_a_cut_stream_is_refused(self, tmp_path, content, subtype):
        path = tmp_path / "x.ogg"
        last = len(content) - len(pages(content)[-1])
        for size in (len(content) // 2, len(content) - 1, last + 40, last + 20, last + 3):
            path.write_bytes(content[:size])
            with pytest.raises(AudioError, match="x.ogg: .* not end with a whole page: it was cut off") as error:
                info(path)
            assert error.value.reason == "cut"

    def test_what_is_healthy_is_read(self, tmp_path, content, subtype):
        path = tmp_path / "x.ogg"
        *others, last = pages(content)
        for sound in (
            b"".join([*others, patched(last, flags=last[5])]),
            b"".join([*others, patched(last, flags=0)]),  # as Android's recorder leaves it
            content + b"TAG" + bytes(125),
        ):
            path.write_bytes(sound)
            assert len(read(path)[0]) == self.FRAMES

    def test_a_chain_is_refused_where_libsndfile_reads_its_first_stream_alone(self, tmp_path, content, subtype):
        path = tmp_path / "x.ogg"
        path.write_bytes(content + b"".join(patched(page, serial=b"next") for page in pages(content)))
        assert soundfile.info(path).frames == self.FRAMES
        with pytest.raises(AudioError, match="several Ogg streams, one after the other"):
            info(path)

    def test_streams_side_by_side_are_no_chain(self, tmp_path, content, subtype):
        path = tmp_path / "x.ogg"
        (first, *mine), (other, *others) = pages(content), [patched(p, serial=b"next") for p in pages(content)]
        path.write_bytes(b"".join([first, other, *mine, *others]))
        assert info(path).frames == self.FRAMES
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(AudioError, match="it was cut off"):
            info(path)

    def test_an_ark_says_where_a_stream_ends(self, tmp_path, signal, subtype):
        scp, utts = tmp_path / "o.scp", {"a": signal, "b": signal[:9000]}
        kaldiio.save_ark(
            str(tmp_path / "o.ark"), {k: (RATE, x) for k, x in utts.items()}, scp=str(scp),
            write_function="soundfile", write_kwargs={"format": "ogg", "subtype": subtype},
        )  # fmt: skip
        values = dict(line.split() for line in scp.read_text().splitlines())
        assert {k: len(read(value)[0]) for k, value in values.items()} == {k: len(x) for k, x in utts.items()}
        (tmp_path / "o.ark").write_bytes((tmp_path / "o.ark").read_bytes()[:-1])
        assert len(read(values["a"])[0]) == RATE
        with pytest.raises(AudioError, match="the ark claims") as error:
            info(values["b"])
        assert error.value.reason == "cut"


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16"])
def test_codecs_that_cannot_seek_are_read(tmp_path, signal, subtype):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.convolve(signal, np.ones(8) / 8, "same"), 8000, subtype=subtype)
    with soundfile.SoundFile(path) as sound:
        expected = sound.read(sound.frames, dtype="float32")
    found = info(path)
    assert found == (8000, 1, len(expected), subtype)
    np.testing.assert_array_equal(read(path)[0], expected)
    np.testing.assert_array_equal(read(path, 5000, 3000)[0], expected[5000:8000])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AudioError, match="claims .* bytes of samples"):
        info(path)


def test_of_a_cut_flac_no_wrong_place_is_said(tmp_path, signal):
    broken_files(tmp_path, signal)
    with pytest.raises(AudioError, match=f"of its {RATE} samples, 100 to {RATE} cannot all be decoded"):
        read(tmp_path / "cut.flac", 100)


def test_long_audio_is_checked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_CHECK_BLOCK", 1000)
    x = np.zeros(RATE, np.float32)
    x[-1] = 0.5
    write_wav(tmp_path / "x.wav", x, RATE)
    assert check(tmp_path / "x.wav").frames == RATE  # not silent: the last sample sounds
    x[-2] = np.nan
    for signal in (x, np.stack([np.zeros_like(x), x], axis=1)):
        soundfile.write(tmp_path / "x.wav", signal, RATE, subtype="FLOAT")
        with pytest.raises(AudioError, match=rf"sample {RATE - 2} .*NaN"):
            check(tmp_path / "x.wav", channels=None)


def test_a_wav_written_to_a_pipe_has_the_length_that_is_there(tmp_path, signal):
    path = tmp_path / "x.wav"
    write_wav(path, signal, RATE)
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert info(path).frames == RATE


def test_chunks_before_the_samples_are_skipped(tmp_path, signal):
    path = tmp_path / "x.wav"
    write_wav(path, signal, RATE)
    content = path.read_bytes()
    extra = b"LIST" + struct.pack("<I", 301) + b"x" * 302
    path.write_bytes(content[:12] + extra + content[12:36] + extra + content[36:])
    np.testing.assert_array_equal(read(path, 7, 100)[0] * 32768, to_int16(signal)[0][7:107])
    path.write_bytes(content[:36] + b"LIST" + struct.pack("<I", 0xFFFFFFF0) + content[36:])
    with pytest.raises(AudioError, match="ends within its header"):
        info(path)


def test_relative_values_start_from_the_root(tmp_path, signal, monkeypatch):
    monkeypatch.chdir("/")
    write_wav(tmp_path / "a b" / "x.wav", signal, RATE)
    assert info("a b/x.wav", tmp_path).frames == RATE
    assert len(read("a b/x.wav", 1, 2, root=tmp_path)[0]) == 2
    assert info(tmp_path / "a b" / "x.wav", "/elsewhere").frames == RATE


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(AudioError("x.wav: is empty", "empty")))
    assert (str(error), error.reason) == ("x.wav: is empty", "empty")


def test_finds_audio_below_a_folder(tmp_path):
    names = ["b/x.WAV", "a.flac", "b/c/d.Mp3", "b/e.ogg", "ä ö/f.opus", "notes.txt", ".hidden.wav", ".cache/g.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path)]
    assert [name for name in found if "loop" not in name] == sorted(names[:5])


def test_real_recordings_are_sound(real_data):
    files = find_audio(real_data / "VoiceBank-DEMAND")
    assert files
    for path in files[:10]:
        frames = check(path, channels=None).frames
        samples, rate = read(path, frames // 2, 100)
        expected, expected_rate = soundfile.read(path, 100, frames // 2, dtype="float32")
        assert rate == expected_rate
        np.testing.assert_array_equal(samples, expected)
