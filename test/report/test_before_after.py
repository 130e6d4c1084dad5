"""senet.report.before_after: levels, what is heard of which recording, and that the page stays small."""

import io
from types import SimpleNamespace

import numpy as np
import soundfile
from pages import Page, decoded

from senet.report import before_after, listening

MODEL = SimpleNamespace(
    info={"name": "small <b>", "model": "x.X", "model_conf": {"units": 8}, "training": {"seed": 7}, "licence": "MIT"},
    sample_rate=16000,
    latency=400,
    model=None,
)


def pair(folder, name, x, gain=0.5, rate=16000):
    """A recording, and itself ``gain`` times as loud."""
    paths = folder / f"{name}.wav", folder / f"{name}_after.wav"
    for path, scale in zip(paths, (1, gain), strict=True):
        soundfile.write(path, scale * np.asarray(x), rate, subtype="FLOAT")
    return name, *paths


def tone(seconds, rate=16000, hz=440.0):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def heard(page):
    return [soundfile.read(io.BytesIO(decoded(a["src"])), dtype="float32") for a in page.all("audio")]


def test_says_the_levels_before_after_and_of_what_was_removed(tmp_path):
    found = Page(
        before_after.page(
            [pair(tmp_path, "a", tone(1)), pair(tmp_path, "quiet", np.zeros(800)), pair(tmp_path, "one", [0.5])]
        )
    )
    assert "a 1 s 16 1 −9.0 −15.1 −6.0 −15.1 −6.0 −12.0" in found.text  # dB: of sine and half a sine
    assert "quiet 0.05 s 16 1 – – – – – –" in found.text
    assert "one 0.0625 ms 16 1" in found.text


def test_plays_what_the_files_hold_and_their_difference(tmp_path):
    x = tone(0.5).astype("f4")
    found = Page(before_after.page([pair(tmp_path, "a", x, 0.25)]))
    for (y, rate), gain in zip(heard(found), (1, 0.25, 0.75), strict=True):
        assert rate == 16000
        np.testing.assert_allclose(y, gain * x, atol=1 / 32768)


def test_of_a_long_recording_the_loudest_part_of_the_first_channel_is_heard(tmp_path):
    rate, seconds = 8000, listening.SECONDS
    x = np.stack([0.01 * tone(3 * seconds, rate), tone(3 * seconds, rate, 1000)], axis=1)
    x[seconds * rate : 2 * seconds * rate, 0] *= 30
    found = Page(before_after.page([pair(tmp_path, "long", x, rate=rate)]))
    np.testing.assert_allclose(heard(found)[0][0], x[seconds * rate : 2 * seconds * rate, 0], atol=1 / 32768)
    assert f"36 s at 8 kHz · 12 s from 0:{seconds} on, where it is loudest · the first of 2" in found.text
    assert {"12", "24"} <= set(found.words)  # seconds of the recording


def test_asks_for_nothing_outside_itself_and_names_are_text(tmp_path):
    name = "<script>alert('&')</script>"
    recordings = [(name, *pair(tmp_path, "a", tone(0.1))[1:])]
    text = before_after.page(recordings, MODEL, f"senet enhance '{name}'")
    found = Page(text)
    assert text.count("<script") == 1 and found.all("meta", content="default-src 'none'")
    for _, attributes in found.elements:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("data:image/png;base64,", "data:audio/flac;base64,", "#"))
    ids = {a["id"] for _, a in found.elements if "id" in a}
    assert {a["href"][1:] for a in found.all("a")} | {a["data-of"] for a in found.all("tr") if "data-of" in a} <= ids


def test_says_what_the_model_was(tmp_path):
    found = Page(before_after.page([pair(tmp_path, "a", tone(0.1))], MODEL))
    for said in ("by small <b>", "model x.X", "latency 25 ms", "licence MIT", "seed 7", "units: 8"):
        assert said in found.text
    model = SimpleNamespace(**vars(MODEL) | {"info": {}, "latency": None})
    assert "latency the whole recording" in Page(before_after.page([], model)).text


def test_of_many_recordings_some_are_shown(tmp_path):
    _, *paths = pair(tmp_path, "a", tone(0.1))
    found = Page(before_after.page([(f"<{i}>", *paths) for i in range(1001)], most=3))
    assert "3 of 1,001 recordings, spread evenly" in found.text and len(found.all("audio")) == 9
    assert [name for name in ("<0>", "<1>", "<500>", "<1000>") if name in found.words] == ["<0>", "<500>", "<1000>"]


def test_size_is_limited_and_what_is_missing_said(tmp_path):
    rng = np.random.default_rng(0)
    recordings = [pair(tmp_path, f"{i}", 0.1 * rng.standard_normal(16000)) for i in range(4)]
    whole = before_after.page(recordings)
    limit = 0.7 * len(whole.encode())
    text = before_after.page(recordings, megabytes=limit / 2**20)
    found = Page(text)
    assert len(text.encode()) <= limit
    assert len(found.all("audio")) == 6 and "The other 2 would exceed the size limit of this file" in found.text
    assert len(found.all("tr")) == 5


def test_recordings_that_do_not_fit_each_other_are_said(tmp_path):
    _, before, after = pair(tmp_path, "a", tone(0.1))
    _, _, shorter = pair(tmp_path, "b", tone(0.05))
    found = Page(
        before_after.page([("a", before, shorter), ("b", before, tmp_path / "gone.wav"), ("c", before, after)])
    )
    assert "Not shown: " in found.text and "b_after.wav: has 800 samples of 1 channels at 16000 Hz" in found.text
    assert "gone.wav: cannot be opened" in found.text and len(found.all("audio")) == 3


def test_what_could_not_be_enhanced_is_said(tmp_path):
    failed = ["b.wav: holds NaN <or> infinite samples"]
    found = Page(before_after.page([pair(tmp_path, "a", tone(0.1))], failed=failed))
    assert "2 recordings, before and after" in found.text and f"Not shown: {failed[0]}." in found.text


def test_the_file_is_the_page(tmp_path):
    recordings = [pair(tmp_path, "a", tone(0.1))]
    before_after.write(tmp_path / "new" / "out.html", recordings)
    assert (tmp_path / "new" / "out.html").read_text(encoding="utf-8") == before_after.page(recordings)
