import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from senet.data.scp import Scp, read_ints, read_ints_and_digest, read_table, spk2utt, split_value, utt2spk, write_table
from senet.errors import UserError


@pytest.fixture
def write(tmp_path):
    def make(content, name="wav.scp"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return make


def test_finds_every_key_and_line(write):
    rows = [(f"spk{i // 7:03d}-utt{i:05d}", f"dump/a b/ä{i}.ark:{i * 17}") for i in range(2000)]
    scp = Scp(write("".join(f"{k} {v}\n" for k, v in rows).encode()))
    assert len(scp) == 2000
    assert list(scp) == rows
    for i in (0, 1, 999, 1998, 1999):
        key, value = rows[i]
        assert (scp.key(i), scp.value(i), scp[key], scp.index(key)) == (key, value, value, i)
        assert key in scp
    for absent in ("a", "spk000-utt00000x", "spk000-utt0000", "zzz", ""):
        assert absent not in scp
    with pytest.raises(KeyError, match="'zzz' is not among its 2000 keys"):
        scp["zzz"]
    with pytest.raises(IndexError):
        scp.key(2000)
    with pytest.raises(IndexError):
        scp.value(-1)


def test_lines_longer_than_a_block_and_many_blocks(write):
    rows = [(f"u{i}", "x" * (3_000_000 if i == 5 else 300_000)) for i in range(10)]
    assert list(Scp(write("".join(f"{k} {v}\n" for k, v in rows).encode()))) == rows


def test_a_fault_far_into_a_file_is_named_with_its_line(write):
    lines = [f"utt{i:07d} dump/noisy.ark:{i}\n" for i in range(60_000)]  # 1.8 MB: more than one block
    lines[51_234] = lines[51_233]
    with pytest.raises(UserError, match=r"wav.scp:51235: 'utt0051233' is there twice"):
        Scp(write("".join(lines).encode()))


FAULTS = {
    "duplicate": (b"a x\nb y\nb z\n", r":3: 'b' is there twice"),
    "twice, not side by side": (b"a x\nb y\na z\n", r":3: 'a' is there twice"),
    "unsorted": (b"a x\nc y\nb z\n", r":3: 'b' comes after 'c'; sort"),
    "not in C order": (b"a x\nB y\n", r":2: 'B' comes after 'a'"),
    "CRLF": (b"a x\nb y\r\n", r":2: there is a carriage return"),
    "key that is not ASCII": ("a x\nä y\n".encode(), r":2: the key 'ä' has letters that are not ASCII"),
    "byte order mark": (b"\xef\xbb\xbfa x\n", r":1: there is a byte order mark"),
    "no-break space": ("a\u00a0b x\n".encode(), r":1: the key .* has letters that are not ASCII"),
    "control character": (b"a\x07 x\n", r":1: the key .* control characters"),
    "not UTF-8": (b"a x\nb \xff\n", r":2: the line is not UTF-8"),
    "no value": (b"a x\nb\nc z\n", r":2: 'b' has no value"),
    "blank value": (b"a x\nb   \n", r":2: 'b' has no value"),
    "empty line": (b"a x\n\nb y\n", r":2: the line is empty"),
    "pipe": (b"a x\nb cat y.wav | \n", r":2: the value is a shell command"),
    "cut last line": (b"a x.ark:100\nb x.ark:2", r":2: the last line does not end"),
    "NUL bytes": (b"a x\nb \0\0\0\n", r":2: there is a NUL byte"),
    "empty file": (b"", r":1: the file is empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_with_file_and_line(write, fault):
    content, message = FAULTS[fault]
    with pytest.raises(UserError, match="wav.scp" + message):
        Scp(write(content))
    if fault != "pipe":  # other readers refuse the same lines
        with pytest.raises(UserError, match="wav.scp" + message):
            read_table(write(content))


def test_pipes_and_unusual_but_sound_lines(write):
    assert Scp(write(b"a sox x.flac -t wav - |\n"), allow_pipes=True)["a"] == "sox x.flac -t wav - |"
    assert list(Scp(write("a\tx y.wav\nb  ä|b.wav \n".encode()))) == [("a", "x y.wav"), ("b", "ä|b.wav")]


def test_pickles_by_opening_again(write):
    scp = Scp(write(b"a x |\nb y\n"), allow_pipes=True)
    assert list(pickle.loads(pickle.dumps(scp))) == list(scp)


def test_shared_with_a_forked_process(write):
    scp = Scp(write(b"a x\nb y\n"))
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.write(write_end, scp["b"].encode())
        os._exit(0)
    os.wait()
    assert os.read(read_end, 10) == b"y"


def test_digest_tells_whether_two_files_have_the_same_keys(write):
    scp = Scp(write(b"a x\nb y\n"))
    assert scp.keys_digest == read_ints_and_digest(write(b"a 1\nb 2\n", "n"))[1]
    for other in (b"a x\nbb y\n", b"a x\nb y\nc z\n", b"ab x\nb y\n"):
        assert Scp(write(other, "other")).keys_digest != scp.keys_digest


def test_relative_values_are_found_from_anywhere_but_never_in_another_recipe(tmp_path, monkeypatch):
    for recipe in ("a", "b"):
        folder = tmp_path / recipe / "dump" / "train"
        folder.mkdir(parents=True)
        (folder / "x.ark").write_text(recipe)
        (folder / "wav.scp").write_text("u0 /somewhere/else.wav\nu1 dump/train/x.ark:3\n")
    monkeypatch.chdir(tmp_path / "a")
    assert (Scp("dump/train/wav.scp").root / "dump/train/x.ark").read_text() == "a"
    assert (Scp("../b/dump/train/wav.scp").root / "dump/train/x.ark").read_text() == "b"
    monkeypatch.chdir("/")
    assert Scp(tmp_path / "b/dump/train/wav.scp").root == tmp_path / "b"
    # As in Kaldi, the working directory, when no folder above the file has it.
    away = tmp_path / "away"
    away.mkdir()
    (away / "wav.scp").write_text("u dump/train/x.ark:3\n")
    monkeypatch.chdir(tmp_path / "a")
    assert (Scp(away / "wav.scp").root / "dump/train/x.ark").resolve() == tmp_path / "a/dump/train/x.ark"


def test_a_second_thread_that_asks_meanwhile_gets_the_same_root(write, monkeypatch):
    scp, exists = Scp(write(b"u x.ark:3\n")), Path.exists
    (scp.path.parent / "x.ark").touch()
    looking, asked = threading.Event(), threading.Event()

    def slow_exists(path):
        looking.set()
        asked.wait(0.2)
        return exists(path)

    monkeypatch.setattr(Path, "exists", slow_exists)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: scp.root)
        assert looking.wait(5)
        second = pool.submit(lambda: scp.root)
        assert first.result() == second.result() == scp.path.parent


def test_integers_in_the_order_of_the_file(write):
    values = read_ints(write(b"a 5\nb 123456789012345\nc -1\n"))
    assert values.dtype == np.int64
    assert values.tolist() == [5, 123456789012345, -1]
    for bad in ("1.5", "x", "99999999999999999999"):
        with pytest.raises(UserError, match=rf"wav.scp:2: '{bad}' is no whole number"):
            read_ints(write(f"a 5\nb {bad}\n".encode()))


def test_tables_survive_a_round_trip_in_byte_order(tmp_path):
    rows = {"b": "1 2", "B": "ä", "a-1": "x", "a": "y", "a1": "z"}
    write_table(tmp_path / "t", rows.items())
    assert (tmp_path / "t").read_bytes() == "B ä\na y\na-1 x\na1 z\nb 1 2\n".encode()
    assert read_table(tmp_path / "t") == rows
    assert len(Scp(tmp_path / "t")) == 5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x"), ("a", "y")], "'a': is there twice"),
        ([("a b", "x")], "white space"),
        ([("ä", "x")], "not ASCII"),
        ([("", "x")], "is empty"),
        ([("a", " ")], "no value"),
        ([("a", "x\ny")], "second line break"),
        ([("a", "x\r")], "carriage return"),
    ],
)
def test_refuses_to_write_what_it_would_not_read(tmp_path, rows, message):
    (tmp_path / "t").write_text("old 1\n")
    with pytest.raises(UserError, match=message):
        write_table(tmp_path / "t", rows)
    assert (tmp_path / "t").read_text() == "old 1\n"
    assert os.listdir(tmp_path) == ["t"]


def test_refuses_to_write_rows_out_of_order(tmp_path):
    with pytest.raises(UserError, match="'a': comes after 'b'"):
        write_table(tmp_path / "t", [("b", 1), ("a", 2)], sort=False)


def test_spk2utt():
    assert list(spk2utt([("s1-a", "s1"), ("s0-b", "s0"), ("s1-c", "s1")])) == [("s0", "s0-b"), ("s1", "s1-a s1-c")]


def test_utt2spk_is_the_way_back():
    rows = [("s0-b", "s0"), ("s1-a", "s1"), ("s1-c", "s1")]
    assert utt2spk(spk2utt(rows)) == rows


def test_offsets_of_values():
    assert split_value("dump/a.ark:57") == ("dump/a.ark", 57)
    assert split_value("dump/a:b.wav") == ("dump/a:b.wav", None)
    assert split_value("a.wav") == ("a.wav", None)
