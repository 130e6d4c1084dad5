"""Kaldi's ``key value`` text files: wav.scp, utt2spk, utt2num_samples and their kin.

One entry per line, ``\\n`` line ends, a final newline, keys unique and in C-locale
(byte) order. Keys are printable ASCII without white space: file names are made from
them, and two Unicode spellings of one letter look the same but never match. Values
are any UTF-8, such as paths with blanks or letters of any script.

Files are read once, in blocks of lines, with every line checked, so that all the
readers here refuse the same damage with the same words: ``file:line``, what was
found, what to do.
"""

import functools
import hashlib
import itertools
import mmap
import operator
import re
from pathlib import Path

import numpy as np

from senet.errors import UserError
from senet.files import whole_file

_BLOCK = 1 << 20  # bytes read at a time
_MEND = "mend the line, or drop it with utils/fix_data_dir.sh"
BYTE_ORDER_MARK = "\ufeff".encode()  # some editors put it, invisibly, at the start of a file


class Scp:
    """A ``key value`` file that stays on the disk.

    The file is memory mapped, so that all processes share its pages; only the
    position of each line, 8 bytes, is held. Opening checks every line.

    Args:
        path: the file.
        allow_pipes: accept values that are shell commands (``sox a.flac -t wav - |``).
    Raises:
        UserError: with ``file:line``, for a line out of order, a repeated key, a key without
            value, a carriage return, bytes that are not UTF-8, a last line that was cut off,
            a pipe that was not allowed; and for an empty file.
    """

    def __init__(self, path, allow_pipes=False):
        self.path = Path(path)
        self.allow_pipes = allow_pipes
        self._starts = np.zeros(_count_lines(self.path) + 1, np.int64)  # the last is the end of the file
        digest, relative, line = hashlib.blake2b(digest_size=16), None, 0
        for block, keys, rows in _blocks(self.path, allow_pipes):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
            np.add(ends, self._starts[line], out=self._starts[line + 1 : line + 1 + len(keys)])
            line += len(keys)
            digest.update(b"\n".join(keys) + b"\n")
            if relative is None:
                relative = next((v.rstrip() for _, v in rows if v[:1] != b"/" and v.rstrip()[-1:] != b"|"), None)
        self.keys_digest = digest.digest()  # equal for two files exactly when all their keys are
        self._relative = relative and relative.decode()
        self._root = None
        with open(self.path, "rb") as f:
            self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)

    def __reduce__(self):
        return Scp, (self.path, self.allow_pipes)

    def __len__(self):
        return len(self._starts) - 1

    def _line(self, i):
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path}: there is no line {i + 1}, the last is {len(self)}")
        return self._map[self._starts[i] : self._starts[i + 1]]

    def key(self, i):
        """The key of line ``i``, counted from 0."""
        return self._line(i).split(None, 1)[0].decode()

    def value(self, i):
        """The value of line ``i``, counted from 0."""
        return self._line(i).split(None, 1)[1].rstrip().decode()

    def _find(self, key):
        wanted, low, high = key.encode(), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._line(middle).split(None, 1)[0] < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self.key(low) == key else None

    def index(self, key):
        """The line, counted from 0, that holds ``key``; KeyError when none does."""
        i = self._find(key)
        if i is None:
            raise KeyError(f"{self.path}: '{key}' is not among its {len(self)} keys")
        return i

    def __getitem__(self, key):
        return self.value(self.index(key))

    def __contains__(self, key):
        return self._find(key) is not None

    def __iter__(self):
        return ((self.key(i), self.value(i)) for i in range(len(self)))

    @property
    def root(self):
        """The folder that relative values start from.

        It is the closest folder above the file in which the first relative value exists, so that
        a dump is read from wherever its reader stands, and never as the file of the same name of
        another recipe; and the working directory, as in Kaldi, when there is no such folder.
        """
        if self._root is None:
            root = Path()
            if self._relative is not None:
                name = split_value(self._relative)[0]
                above = self.path.resolve().parents
                root = next((folder for folder in above if (folder / name).exists()), root)
            self._root = root  # once and complete: other threads look at it meanwhile
        return self._root


def split_value(value):
    """``"a.ark:57"`` -> ``("a.ark", 57)``; ``"a.wav"`` -> ``("a.wav", None)``."""
    path, colon, offset = value.rpartition(":")
    return (path, int(offset)) if colon and offset.isascii() and offset.isdigit() else (value, None)


def read_ints(path):
    """The values of a file such as utt2num_samples, as int64 in the file's order."""
    return read_ints_and_digest(path)[0]


def read_ints_and_digest(path):
    """``read_ints``, and the ``keys_digest`` that a Scp of the same keys has."""
    values, digest, line = np.empty(_count_lines(path), np.int64), hashlib.blake2b(digest_size=16), 0
    for _, keys, rows in _blocks(path, allow_pipes=True):
        try:
            values[line : line + len(rows)] = [int(value) for _, value in rows]
        except (ValueError, OverflowError):
            n, value = next((n, v) for n, (_, v) in enumerate(rows, 1) if not re.fullmatch(rb"[+-]?\d{1,18}\s*", v))
            found = value.decode().rstrip()
            raise UserError(f"{path}:{line + n}: '{found}' is no whole number of at most 18 digits; {_MEND}") from None
        digest.update(b"\n".join(keys) + b"\n")
        line += len(rows)
    return values, digest.digest()


def read_floats(path):
    """``(keys, values)``: list of str, float64 (n,), of a file such as scores/<metric>; ``nan`` is a number, too."""
    utts, values = [], []
    for _, keys, rows in _blocks(path, allow_pipes=True):
        try:
            values += [float(value) for _, value in rows]
        except ValueError:
            n, value = next((n, v.decode().rstrip()) for n, (_, v) in enumerate(rows, 1) if not _is_float(v))
            raise UserError(f"{path}:{len(utts) + n}: '{value}' is not a number; make the file again") from None
        utts += b"\n".join(keys).decode().split("\n")
    return utts, np.array(values)


def _is_float(value):
    try:
        float(value)
    except ValueError:
        return False
    return True


def read_rows(path):
    """Yield the ``(key, value)`` of each line, as str."""
    for _, _, rows in _blocks(path, allow_pipes=True):
        for key, value in rows:
            yield key.decode(), value.rstrip().decode()


def read_table(path):
    """A small file as a dict of str, in the file's order."""
    return dict(read_rows(path))


def write_table(path, rows, sort=True):
    """Write ``(key, value)`` rows, whole.

    Args:
        path: the file.
        rows: iterable of pairs; values are written with ``str``.
        sort: put the rows in C-locale order; otherwise they have to be in it.
    Raises:
        UserError: a repeated key, a key that is no key, an empty value, a row out of order.
    """
    rows = ((str(key), str(value)) for key, value in rows)
    if sort:
        rows = sorted(rows, key=lambda row: row[0].encode())
    with whole_file(path) as f:
        last = None
        for key, value in rows:
            line = f"{key} {value}\n"
            problem = bad_key(key) or line_problem(line.encode(), allow_pipes=True)
            if not problem and last is not None and key <= last:
                problem = "is there twice" if key == last else f"comes after '{last}'"
            if problem:
                raise UserError(f"{path}: cannot write the line of '{key}': {problem}")
            f.write(line)
            last = key


def bad_key(key):
    """What is wrong with an id, or None: it has to be printable ASCII without white space."""
    if not key:
        return "is empty"
    if not key.isascii():
        return "has letters that are not ASCII"
    if " " in key or not key.isprintable():
        return "has white space or control characters"
    return None


def spk2utt(utt2spk):
    """Rows ``(spk, "utt1 utt2 ...")`` from rows ``(utt, spk)``."""
    speakers = {}
    for utt, spk in utt2spk:
        speakers.setdefault(spk, []).append(utt)
    return ((spk, " ".join(utts)) for spk, utts in sorted(speakers.items()))


def utt2spk(spk2utt):
    """Rows ``(utt, spk)``, sorted, from rows ``(spk, "utt1 utt2 ...")``."""
    return sorted((utt, spk) for spk, utts in spk2utt for utt in utts.split())


def _count_lines(path):
    """To allocate what is held per line once, in its final size."""
    with open(path, "rb") as f:
        return sum(block.count(b"\n") for block in iter(functools.partial(f.read, _BLOCK), b""))


def _blocks(path, allow_pipes):
    """Yield ``(bytes of whole lines, keys, [[key, value], ...])``, in bytes, with each line checked."""
    last, rest = None, b""
    with open(path, "rb") as f:
        while data := f.read(_BLOCK):
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest += data
                continue
            block, rest = rest + data[:cut], data[cut:]
            rows = [line.split(None, 1) for line in block.split(b"\n")]
            if rows.pop() or set(map(len, rows)) != {2}:
                break
            keys = list(map(operator.itemgetter(0), rows))
            if not _is_sound(block, rows, keys, last, allow_pipes):
                break
            last = keys[-1]
            yield block, keys, rows
        else:
            if not rest and last is not None:
                return
    number, problem = next(problems(path, allow_pipes))
    raise UserError(f"{path}:{number}: {problem}")


def _is_sound(block, rows, keys, last, allow_pipes):
    """Whether all is well, at millions of lines a second; ``problems`` finds the line that is not, at its leisure."""
    return (
        b"\r" not in block
        and b"\0" not in block
        and (last is None or last < keys[0])
        and all(map(operator.lt, keys, itertools.islice(keys, 1, None)))
        and not bad_key(b"".join(keys).decode("latin-1"))
        and (block.isascii() or _decodes(block))
        and (allow_pipes or b"|" not in block or not any(row[1].rstrip()[-1:] == b"|" for row in rows))
    )


def problems(path, allow_pipes=False):
    """Yield ``(line number, what is wrong)`` for each line that ``Scp`` would refuse."""
    last, number, seen = None, 0, set()
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            problem = line_problem(line, allow_pipes)
            if problem:
                yield number, problem
                continue
            key = line.split(None, 1)[0]
            if key in seen:
                yield number, f"'{key.decode()}' is there twice; {_MEND}"
            elif last is not None and key < last:
                order = f"'{key.decode()}' comes after '{last.decode()}'"
                yield number, f"{order}; sort with 'LC_ALL=C sort -k1,1' or utils/fix_data_dir.sh"
            last = key
            seen.add(key)
    if number == 0:
        yield 1, "the file is empty; run the stage that makes it again"


def line_problem(line, allow_pipes=False):
    """What is wrong with one line (bytes, with its line end), or None."""
    if not line.endswith(b"\n"):
        return f"the last line does not end: the file was cut off while it was written; make it again, or {_MEND}"
    if line.startswith(BYTE_ORDER_MARK):
        return "there is a byte order mark (BOM, invisible) before the key; remove it with utils/fix_data_dir.sh"
    if b"\r" in line:
        return "there is a carriage return (a file from Windows?); remove it with utils/fix_data_dir.sh"
    if not _decodes(line):
        return f"the line is not UTF-8; {_MEND}"
    if b"\0" in line or b"\n" in line[:-1]:
        return f"there is a NUL byte or a second line break; {_MEND}"
    row = [part.decode() for part in line.split(None, 1)]
    if not row:
        return f"the line is empty; {_MEND}"
    if problem := bad_key(row[0]):
        return f"the key '{row[0]}' {problem}; choose another id"
    if len(row) == 1:
        return f"'{row[0]}' has no value; {_MEND}"
    if not allow_pipes and row[1].rstrip().endswith("|"):
        only = "which only senet.bin.mix --policy pairs --allow_pipes runs"
        return f"the value is a shell command (it ends in '|'), {only}; write its output to a file"
    return None


def _decodes(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
