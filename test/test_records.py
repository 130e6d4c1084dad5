"""Records of shards: round trip, damage, and digests of audio."""

import numpy as np

from senet import records


def test_what_is_written_is_read(tmp_path):
    lines = [{"utt": "a", "value": 0.1 + 0.2}, {"utt": "b", "value": None}]
    records.write(tmp_path / "x.jsonl", {"model": "m"}, lines)
    assert records.read(tmp_path / "x.jsonl") == ({"model": "m"}, lines)
    assert records.previous(tmp_path / "x.jsonl") == ({"model": "m"}, {"a": lines[0], "b": lines[1]})


def test_nothing_is_known_from_an_absent_or_damaged_file(tmp_path, caplog):
    path = tmp_path / "x.jsonl"
    assert records.previous(path) == ({}, {})
    assert not caplog.text
    for damage in ("", '{"model": "m"}\n{"utt": "a', '{"model": "m"}\n{"value": 1}\n', "[]\n3\n"):
        path.write_text(damage)
        assert records.previous(path) == ({}, {})
        assert "x.jsonl: damaged" in caplog.text
        caplog.clear()


def test_audio_digest_sees_samples_and_rate():
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    changed = x.copy()
    changed[500] += 1 / 32768
    digests = [records.audio_digest(*args) for args in ((x, 16000), (x, 8000), (changed, 16000), (x[:-1], 16000))]
    assert len(set(digests)) == 4
    assert records.audio_digest(x[::2], 16000) == records.audio_digest(x[::2].copy(), 16000)
