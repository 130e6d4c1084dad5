"""Float matrices in Kaldi's binary ark files, row ranges read without the rest.

One entry is ``key``, a blank, ``\\0B``, ``FM `` (float32) or ``DM `` (float64), the numbers of rows and columns as
``\\4`` + int32 each, then the values, row by row, all little-endian. A scp line gives ``path:offset``, the offset
counted to the ``\\0B``. Kaldi and kaldiio read and write the same files.
"""

import os
import struct
from contextlib import contextmanager

import numpy as np

from senet.data.audio import AudioError
from senet.data.scp import bad_key, split_value
from senet.errors import UserError
from senet.files import whole_file

_HEADER = struct.Struct("<2s3sBiBi")  # b"\0B", b"FM ", 4, rows, 4, columns
_DTYPES = {b"FM ": np.dtype("<f4"), b"DM ": np.dtype("<f8")}


class MatrixArkWriter:
    """An ark of matrices that appears whole when the ``with`` block ends.

    Args:
        path: the ark file.
        value_prefix: how the scp calls it, when not by ``path``.
    """

    def __init__(self, path, value_prefix=None):
        self.path = path
        self.value_prefix = str(path if value_prefix is None else value_prefix)

    def __enter__(self):
        self._manager = whole_file(self.path, "wb")
        self._file = self._manager.__enter__()
        return self

    def __exit__(self, *exc):
        return self._manager.__exit__(*exc)

    def write(self, key, matrix):
        """Append ``matrix`` (T, D), kept as float64 if it is that, else float32; returns its scp value."""
        if problem := bad_key(key):
            raise UserError(f"{self.path}: the key '{key}' {problem}; choose another id")
        matrix = np.asarray(matrix)
        tag = b"DM " if matrix.dtype == np.float64 else b"FM "
        rows, columns = matrix.shape
        self._file.write(key.encode() + b" ")
        value = f"{self.value_prefix}:{self._file.tell()}"
        self._file.write(_HEADER.pack(b"\0B", tag, 4, rows, 4, columns))
        self._file.write(np.ascontiguousarray(matrix, dtype=_DTYPES[tag]).data)
        return value


def read_matrix(value, start=0, rows=None, *, root=None, num_rows=None):
    """Rows ``start .. start + rows`` of a stored matrix; only those are read.

    Args:
        value: ``path.ark:offset`` of a scp line.
        start, rows: the range in rows; ``rows=None`` goes to the end.
        root: folder that a relative path is relative to; the working directory when None.
        num_rows: rows the entry must have, to find an ark that was replaced or an entry of another utterance.
    Returns:
        (rows, D) float32 or float64, as stored.
    Raises:
        AudioError: no such file, no matrix there, a cut file, another number of rows, a range outside.
    """
    path, at = split_value(value)
    if at is None:
        raise AudioError(f"'{value}': not of the form path.ark:offset; make the scp again", "format")
    with _opened(path if root is None else os.path.join(root, path), value) as (fd, size):
        dtype, total, columns = _header(os.pread(fd, _HEADER.size, at), value)
        begin = at + _HEADER.size
        missing = begin + total * columns * dtype.itemsize - size
        if missing > 0:
            raise AudioError(
                f"{value}: the file ends {missing} bytes before the end of this {total} x {columns} matrix; "
                "it was cut, make it again",
                "cut",
            )
        if num_rows is not None and total != num_rows:
            raise AudioError(f"{value}: has {total} rows, {num_rows} expected; make the features again", "length")
        rows = total - start if rows is None else rows
        if start < 0 or rows < 0 or start + rows > total:
            raise AudioError(f"{value}: rows {start} to {start + rows} asked for, it has {total}", "length")
        data = os.pread(fd, rows * columns * dtype.itemsize, begin + start * columns * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(rows, columns)


@contextmanager
def _opened(path, value):
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise AudioError(f"{value}: cannot open {path}: {error.strerror}", "missing") from error
    try:
        yield fd, os.fstat(fd).st_size
    finally:
        os.close(fd)


def _header(data, value):
    if len(data) == _HEADER.size:
        magic, tag, four, rows, four_too, columns = _HEADER.unpack(data)
        if magic == b"\0B" and tag in _DTYPES and four == four_too == 4 and rows >= 0 and columns >= 0:
            return _DTYPES[tag], rows, columns
    raise AudioError(
        f"{value}: no float matrix starts there (found {data[:5]!r}, expected b'\\x00BFM ' or b'\\x00BDM '); "
        "ark and scp do not belong together, make them again",
        "format",
    )
