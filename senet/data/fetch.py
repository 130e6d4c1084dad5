"""Corpora's archives: transferred, checked and unpacked as a list says (senet.data.archives).

A killed run is continued by the next one, wherever it was. Below the downloads, ``.fetch`` holds what that needs:
``NAME.done`` for each archive that is unpacked, ``NAME.own`` for each file that was fetched and found right (only such
ones are removed), ``NAME.unpacking`` while an archive is unpacked, ``NAME.unpacked`` while its content is moved to its
place.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
from pathlib import Path

from senet.data import transfer
from senet.data.transfer import size
from senet.data.unpack import DamagedError, unpack, zip_size
from senet.errors import UserError
from senet.files import write_json


def free_bytes(folder):
    """Free space of the disk that holds ``folder``, or will."""
    folder = Path(folder).absolute()
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


class Store:
    """A folder of downloads and what is known about it."""

    def __init__(self, downloads):
        self.downloads = Path(downloads)

    def note(self, name, suffix):
        return self.downloads / ".fetch" / f"{name}.{suffix}"

    def done(self, archive):
        """Whether it was unpacked, and what came out of it is still there."""
        try:
            entries = json.loads(self.note(archive.name, "done").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        folder = archive.folder or archive.files[0].path.parent
        return all((folder / entry).exists() for entry in entries)

    def owns(self, file):
        """Whether it was fetched and found right by us."""
        try:
            noted = json.loads(self._own(file).read_text(encoding="utf-8"))
            return noted == file.path.stat().st_size
        except (OSError, ValueError):
            return False

    def _own(self, file):
        return self.note(file.path.relative_to(self.downloads).as_posix(), "own")

    def needs(self, parts, keep_archives=False):
        """Bytes to transfer and bytes that the disk must have free for it, both about."""
        to_transfer = used = peak = 0
        for archive in (archive for part in parts for archive in part.archives if not self.done(archive)):
            own = 0
            if not self.unpacked(archive):
                for file in archive.files:
                    here = file.path.exists()
                    there = file.part.stat().st_size if file.part.exists() else 0
                    left = 0 if here else max((file.size or 0) - there, 0)
                    own += left + there if not here or self.owns(file) else 0
                    to_transfer, used = to_transfer + left, used + left
                remains = _bytes_below(self.note(archive.name, "unpacking"))  # of a killed run; they go first
                used += max(archive.unpacked - remains, 0)
            peak = max(peak, used)
            if archive.folder and not keep_archives:
                used -= own
        return to_transfer, peak

    def get(self, file):
        """Have a file, right; one that the user put there is taken as it is, or refused."""
        if file.path.exists():
            if not self.owns(file) and (fault := transfer.fault(file.path, file.bytes, file.algorithm, file.digest)):
                raise UserError(
                    f"{file.path}: {fault}. Delete it to have it fetched; an unfinished download is continued when it "
                    f"is called {file.part.name}"
                )
            return
        logging.info("fetching %s%s", file.url, f" ({size(file.size)})" if file.size else "")
        transfer.transfer(file.url, file.part, file.bytes)
        if fault := transfer.fault(file.part, file.bytes, file.algorithm, file.digest):
            file.part.unlink()
            raise UserError(f"{file.url}: {fault}. It was removed; the same command fetches it anew")
        write_json(self._own(file), file.part.stat().st_size)
        os.replace(file.part, file.path)

    def release(self, archive, keep=False):
        """Remove an archive's files, those that we fetched, or leave them to the user."""
        for file in filter(self.owns, archive.files):
            if not keep:
                file.path.unlink()
            self._own(file).unlink()

    def unpacked(self, archive):
        """Whether it is unpacked in the hidden folder, but not all moved from there yet."""
        return (self.note(archive.name, "unpacked") / "entries").exists()

    def unpack(self, archive):
        unpacking, unpacked = (self.note(archive.name, suffix) for suffix in ("unpacking", "unpacked"))
        if not self.unpacked(archive):
            for remains in (unpacking, unpacked):
                shutil.rmtree(remains, ignore_errors=True)
            self._unpack(archive, unpacking / "content")
            write_json(unpacking / "entries", sorted(os.listdir(unpacking / "content")))
            os.replace(unpacking, unpacked)
        _move(unpacked / "content", archive.folder)
        os.replace(unpacked / "entries", self.note(archive.name, "done"))
        shutil.rmtree(unpacked)

    def _unpack(self, archive, folder):
        paths = [file.path for file in archive.files]
        total = sum(path.stat().st_size for path in paths)
        if archive.name.endswith(".zip"):
            _require_bytes(self.downloads, zip_size(paths[0]), archive.name)
        logging.info("unpacking %s (%s)", archive.name, size(total))
        progress = transfer.Progress(f"unpacking {archive.name}", total=total)
        try:
            unpack(archive.name, paths, folder, progress.add)
        except DamagedError as error:
            raise UserError(self._damage(archive, error)) from None
        except OSError as error:
            raise UserError(
                f"{self.downloads}: unpacking {archive.name} stopped: {error.strerror}; free some space and run again"
            ) from None
        finally:
            progress.end()

    def _damage(self, archive, error):
        if len(archive.files) == 1:
            if self.owns(archive.files[0]):
                self.release(archive)
                return f"{error.path}: not whole: {error}. It was removed; the same command fetches it anew"
            return f"{error.path}: not whole: {error}. Delete it and run again"
        sizes = {file.path.name: file.path.stat().st_size for file in archive.files}
        *others, _ = sizes
        odd = [f"{name} ({sizes[name]} bytes)" for name in others if sizes[name] != max(sizes.values())]
        hint = f"shorter than the other pieces: {', '.join(odd)}. " if odd else ""
        return (
            f"{error.path}: the archive joined from {len(sizes)} pieces is not whole, here or just before: {error}. "
            f"{hint}Delete the damaged pieces and run again; the list or the server may also lack one"
        )


def _bytes_below(folder):
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)


def _move(source, target):
    """Move a tree into another one, which may have some of its folders and files already."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        place = target / entry.name
        if entry.is_dir(follow_symlinks=False) and place.is_dir():
            _move(Path(entry.path), place)
        else:
            os.replace(entry.path, place)


def require_space(parts, downloads, keep_archives=False):
    """Refuse what does not fit on the disk, with a ``UserError`` that says how much is missing."""
    _, needed = Store(downloads).needs(parts, keep_archives)
    _require_bytes(downloads, needed, "archives and what is in them")


def _require_bytes(downloads, needed, what):
    free = free_bytes(downloads)
    if needed > free:
        raise UserError(
            f"{downloads}: {what}: about {size(needed)} of disk space are needed, {size(free)} are free. Free some, "
            "choose fewer parts (--part), or another folder (--downloads)"
        )


def fetch(parts, downloads, keep_archives=False):
    """Transfer, check and unpack parts into the folder ``downloads``, one archive after another; see the top.

    Raises:
        UserError: too little space, a file that the server does not have or that is not right, another run at work.
    """
    store = Store(downloads)
    require_space(parts, downloads, keep_archives)
    with _alone(store):
        for part in parts:
            if all(map(store.done, part.archives)):
                logging.info("%s is there", part.name)
            for archive in part.archives:
                _fetch_archive(store, archive)
                if archive.folder:
                    store.release(archive, keep_archives)


def _fetch_archive(store, archive):
    if store.done(archive):
        return
    if not store.unpacked(archive):
        for file in archive.files:
            store.get(file)
    if archive.folder:
        store.unpack(archive)
    else:
        write_json(store.note(archive.name, "done"), [archive.files[0].path.name])


@contextlib.contextmanager
def _alone(store):
    lock = store.downloads / ".fetch" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "a") as file:  # its time stays: stage 1 looks whether anything in the folder changed
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{store.downloads}: another run is fetching into it; wait for it to end") from None
        yield


def describe(parts, downloads, keep_archives=False):
    """What fetching would take, as lines of text, a part each and one for all, and whether the disk has room for it."""
    store, free = Store(downloads), free_bytes(downloads)
    lines = []
    for part in parts:
        to_transfer, needed = store.needs([part], keep_archives)
        more = "" if part.sizes_known else "at least "
        text = f"{more}{size(to_transfer)} to transfer, {more}{size(needed)} of disk"
        lines.append(
            f"{part.name:<20} {'is there' if all(map(store.done, part.archives)) else text:<58} {part.about}".rstrip()
        )
    to_transfer, needed = store.needs(parts, keep_archives)
    more = "" if all(part.sizes_known for part in parts) else "at least "
    enough = "enough" if needed <= free else "not enough"
    lines.append(  # the last words are for the driver's --dry_run
        f"{downloads}: {more}{size(to_transfer)} to transfer; {size(free)} free, {enough} for the peak (archives and "
        f"what comes out of them) of {more}{size(needed)}"
    )
    return lines, needed <= free
