import subprocess
import sys

import kaldiio
import numpy as np
import pytest

from senet.data.ark import MatrixArkWriter, read_matrix
from senet.data.audio import AudioError
from senet.errors import UserError


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)


@pytest.fixture
def value(tmp_path, matrix):
    """The second entry of an ark of three."""
    with MatrixArkWriter(tmp_path / "a.ark") as ark:
        ark.write("a", np.zeros((3, 2), np.float32))
        value = ark.write("b", matrix)
        ark.write("c", np.ones((4, 7), np.float32))
    return value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kaldiio_reads_what_senet_writes(tmp_path, matrix, dtype):
    with MatrixArkWriter(tmp_path / "a.ark") as ark:
        value = ark.write("utt", matrix.astype(dtype))
    for stored in (kaldiio.load_mat(value), dict(kaldiio.load_ark(str(tmp_path / "a.ark")))["utt"]):
        assert stored.dtype == dtype
        np.testing.assert_array_equal(stored, matrix)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_senet_reads_what_kaldiio_writes(tmp_path, matrix, dtype):
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as ark:
        ark("utt", matrix.astype(dtype))
    value = (tmp_path / "a.scp").read_text().split()[1]
    assert read_matrix(value).dtype == dtype
    np.testing.assert_array_equal(read_matrix(value), matrix)


def test_a_part_is_the_rows_of_the_whole(value, matrix):
    np.testing.assert_array_equal(read_matrix(value, 10, 25), matrix[10:35])
    np.testing.assert_array_equal(read_matrix(value, 45), matrix[45:])
    np.testing.assert_array_equal(read_matrix(value, num_rows=50), matrix)


def test_only_the_asked_rows_are_read(value, monkeypatch):
    import os

    pread, sizes = os.pread, []
    monkeypatch.setattr(os, "pread", lambda fd, n, at: sizes.append(n) or pread(fd, n, at))
    read_matrix(value, 10, 25)
    assert sum(sizes) <= 25 * 7 * 4 + 20


def test_relative_values_start_from_root(tmp_path, matrix, monkeypatch):
    with MatrixArkWriter(tmp_path / "x" / "a.ark", value_prefix="x/a.ark") as ark:
        value = ark.write("utt", matrix)
    assert value == "x/a.ark:4"
    np.testing.assert_array_equal(read_matrix(value, root=tmp_path), matrix)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_matrix(value), matrix)


def test_an_ark_that_was_cut_is_refused_even_where_the_rows_are_there(tmp_path, matrix):
    with MatrixArkWriter(tmp_path / "a.ark") as ark:
        value = ark.write("utt", matrix)
    whole = (tmp_path / "a.ark").read_bytes()
    (tmp_path / "a.ark").write_bytes(whole[:-40])
    with pytest.raises(AudioError, match="ends 40 bytes before the end of this 50 x 7 matrix") as caught:
        read_matrix(value, 0, 5)
    assert caught.value.reason == "cut"


@pytest.mark.parametrize(
    ("options", "shift", "message"),
    [
        ({"num_rows": 51}, 0, "has 50 rows, 51 expected"),
        ({"start": 40, "rows": 11}, 0, "rows 40 to 51 asked for, it has 50"),
        ({"start": -1, "rows": 2}, 0, "asked for"),
        ({}, 1, "no float matrix starts there"),
        ({}, 10**9, "no float matrix starts there"),
    ],
)
def test_wrong_rows_and_wrong_places_are_refused(value, options, shift, message):
    path, offset = value.rsplit(":", 1)
    with pytest.raises(AudioError, match=message):
        read_matrix(f"{path}:{int(offset) + shift}", **options)


def test_missing_files_and_values_without_offset_are_refused(tmp_path):
    with pytest.raises(AudioError, match="cannot open .*: No such file"):
        read_matrix(f"{tmp_path}/none.ark:5")
    with pytest.raises(AudioError, match="not of the form path.ark:offset"):
        read_matrix(f"{tmp_path}/none.ark")


def test_a_key_with_white_space_is_refused_and_leaves_no_ark(tmp_path, matrix):
    with pytest.raises(UserError, match="'a b' has white space"), MatrixArkWriter(tmp_path / "a.ark") as ark:
        ark.write("utt", matrix)
        ark.write("a b", matrix)
    assert list(tmp_path.iterdir()) == []


def test_importing_ark_imports_no_torch():
    code = "import sys, senet.data.ark; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
