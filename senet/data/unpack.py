"""Unpacking of archives that nobody vouches for: what is damaged, cut or points outside its folder is refused.

A tar file is read as one stream to its very end, so that the checks of gzip, bzip2 or xz are made, from one file or
from the pieces of a split archive: these are never joined on the disk.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from senet.errors import UserError

_TARS = {
    (".tar.gz", ".tgz"): gzip.GzipFile,
    (".tar.bz2", ".tbz2"): bz2.BZ2File,
    (".tar.xz", ".txz"): lzma.LZMAFile,
}
SUFFIXES = (*(suffix for suffixes in _TARS for suffix in suffixes), ".zip")
_BLOCK = 1 << 20


class DamagedError(Exception):
    """The archive is not whole, or no archive. ``path`` is the file, or the piece, that was being read."""

    def __init__(self, path, reason):
        super().__init__(str(reason) or type(reason).__name__)
        self.path = path


def unpack(name, paths, folder, on_bytes=lambda count: None):
    """Unpack an archive, whole, into ``folder``, which is made.

    Args:
        name: the archive's name; its suffix, one of ``SUFFIXES``, says what it is.
        paths: its file, or the pieces of a split tar in their order.
        on_bytes: called with the number of bytes of the archive that were read since the last call.
    Raises:
        DamagedError: cut, altered or something else.
        UserError: a member lies outside the folder, or the archive needs another program.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
        _unzip(paths[0], folder, on_bytes)
    else:
        decompress = next(opener for suffixes, opener in _TARS.items() if name.endswith(suffixes))
        _untar(_Joined(paths, on_bytes), decompress, folder)


def zip_size(path):
    """Bytes that the members of a zip file take when unpacked; 0 when it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0


class _Joined(io.RawIOBase):
    """Files read one after another as if they were one; ``path`` is the current one."""

    def __init__(self, paths, on_bytes):
        self._rest, self._file, self._on_bytes = list(paths), None, on_bytes
        self._next()

    def _next(self):
        self.close_file()
        self.path = self._rest.pop(0)
        self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115, closed by _next or close_file

    def close_file(self):
        if self._file:
            self._file.close()

    def readable(self):
        return True

    def readinto(self, buffer):
        while not (count := self._file.readinto(buffer)) and self._rest:
            self._next()
        self._on_bytes(count)
        return count


def _untar(joined, decompress, folder):
    if not hasattr(tarfile, "data_filter"):
        raise UserError(f"{joined.path}: this Python cannot unpack safely; update it (3.10.12, 3.11.4, 3.12 or later)")
    try:
        with (
            io.BufferedReader(joined, _BLOCK) as compressed,
            decompress(compressed, "rb")
            if decompress is not gzip.GzipFile
            else gzip.GzipFile(fileobj=compressed) as tar,
            tarfile.open(fileobj=tar, mode="r|") as members,
        ):
            while member := members.next():
                members.extract(member, folder, filter="data")
                members.members.clear()  # of which there may be a million
            while block := members.fileobj.read(_BLOCK):  # to the end: the check sums are behind the last member
                if block.strip(b"\0"):
                    raise tarfile.ReadError("what follows a member is not another one")
    except tarfile.FilterError as error:
        raise UserError(f"{joined.path}: refused to unpack: {error}") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DamagedError(joined.path, error) from None
    except OSError as error:
        if error.errno:  # of the disk; gzip and bz2 raise one without
            raise
        raise DamagedError(joined.path, error) from None
    finally:
        joined.close_file()


def _unzip(path, folder, on_bytes):
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                place = PurePosixPath(member.filename)
                if place.is_absolute() or ".." in place.parts:
                    raise UserError(f"{path}: refused to unpack: '{member.filename}' is outside the destination")
            for member in archive.infolist():
                archive.extract(member, folder)
                on_bytes(member.compress_size)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DamagedError(path, error) from None
    except (NotImplementedError, RuntimeError) as error:  # deflate64, a password
        raise UserError(f"{path}: Python cannot unpack it: {error}; do it by hand, as with 7z or unzip") from None
