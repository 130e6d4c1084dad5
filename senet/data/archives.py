"""Lists of the archives that make a corpus, such as a recipe's conf/archives.yaml.

url: https://host/path            # each file is below it unless it has its own url
about: what this is, and who states the sums
parts:
  NAME:
    about: text
    default: true                 # fetched when no part is asked for
    unpack: FOLDER                # below the folder of downloads; that folder itself when not given
    size: 39 GB                   # about, where an archive has no bytes
    unpacked: 58 GB               # about
    archives:
      - {file: a.zip, bytes: 1234, md5: HEX}        # bytes and md5, sha1 or sha256 where they are known
      - {file: b.tgz, pieces: aa-ah aj}             # a split archive: b.tgz.partaa ... in this order
      - {file: c/model.onnx, unpack: no}            # no archive: goes to FOLDER/c/model.onnx
"""

import dataclasses
import itertools
import string
from pathlib import Path, PurePosixPath

import humanfriendly

from senet import config
from senet.data.unpack import SUFFIXES
from senet.errors import UserError

_SUMS = ("md5", "sha1", "sha256")
_GROWTH = 1.5  # unpacked bytes for each of an archive, where nothing is known; 16-bit speech has about 1.4


@dataclasses.dataclass
class File:
    """One file of the server. ``path`` is its place here, ``size`` an estimate where ``bytes`` is not known."""

    url: str
    path: Path
    bytes: int | None = None
    algorithm: str | None = None
    digest: str | None = None
    size: float | None = None

    @property
    def part(self):
        return self.path.with_name(self.path.name + ".part")


@dataclasses.dataclass
class Archive:
    """Files that are unpacked together into ``folder``, or one that is left as it is (``folder`` None)."""

    name: str  # below the downloads
    files: list
    folder: Path | None
    unpacked: float = 0

    @property
    def size(self):
        return sum(file.size or 0 for file in self.files)


@dataclasses.dataclass
class Part:
    name: str
    about: str
    default: bool
    archives: list

    @property
    def sizes_known(self):
        return all(file.size is not None for archive in self.archives for file in archive.files)


def read_list(path, downloads, url=None):
    """The parts of a list, name -> ``Part``, with places below the folder ``downloads``.

    Args:
        url: take all files from below this address instead.
    Raises:
        UserError: names the file, the part and the key.
    """
    content = config.read_yaml(path)
    _check_keys(path, content, ("url", "about", "parts"), needed=("parts",))
    base = url or content.get("url") or ""
    parts = {}
    for name, entry in content["parts"].items():
        where = f"{path}: part '{name}'"
        _check_keys(where, entry, ("about", "default", "unpack", "size", "unpacked", "archives"), needed=("archives",))
        try:
            total, unpacked = (humanfriendly.parse_size(str(entry.get(key, 0))) for key in ("size", "unpacked"))
        except humanfriendly.InvalidSize as error:
            raise UserError(f"{where}: {error}") from None
        folder = Path(downloads) / _below(where, entry.get("unpack", "."))
        archives = [_archive(where, item, Path(downloads), folder, base, url) for item in entry["archives"]]
        _estimate(archives, total, unpacked)
        parts[name] = Part(name, entry.get("about", ""), entry.get("default", False), archives)
    names = [archive.name for part in parts.values() for archive in part.archives]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: two archives would both be '{twice}' in the folder of downloads; rename one's file")
    return parts


def _check_keys(where, mapping, known, needed=()):
    if not isinstance(mapping, dict):
        raise UserError(f"{where}: expected keys {', '.join(known)}, found '{mapping}'")
    for key in mapping:
        if key not in known:
            raise UserError(
                f"{where}: unknown key '{key}';{config.did_you_mean(str(key), known)} it may have {', '.join(known)}"
            )
    for key in needed:
        if not mapping.get(key):
            raise UserError(f"{where}: the key '{key}' is missing")


def _below(where, name):
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(f"{where}: '{name}' is not below the folder of downloads")
    return name


def _archive(where, item, downloads, folder, base, mirror):
    split = isinstance(item, dict) and "pieces" in item
    _check_keys(
        where, item, ("file", "url", *(("pieces",) if split else ("bytes", "unpack", *_SUMS))), needed=("file",)
    )
    name = _below(where, item["file"])
    where = f"{where}: {name}"
    url = f"{base.rstrip('/')}/{name}" if mirror or "url" not in item else item["url"]
    if "://" not in url:
        raise UserError(f"{where}: no url, neither its own nor the list's")
    if item.get("unpack", True) is False:
        place, folder = folder / name, None
    else:
        place = downloads / PurePosixPath(name).name
        if not name.endswith(SUFFIXES[:-1] if split else SUFFIXES):
            raise UserError(f"{where}: not one of {', '.join(SUFFIXES)}; 'unpack: no' keeps a file as it is")
        if any((downloads / (name + suffix)).exists() for suffix in ("", ".part", ".partaa")):
            place = downloads / name  # someone fetched it with the server's folders
    if split:
        ends = [f".part{letters}" for letters in _pieces(where, item["pieces"])]
        files = [File(url + end, place.with_name(place.name + end)) for end in ends]
    else:
        algorithm = next((key for key in _SUMS if key in item), None)
        files = [File(url, place, item.get("bytes"), algorithm, item.get(algorithm))]
    return Archive(place.relative_to(downloads).as_posix(), files, folder)


def _pieces(where, text):
    """``"aa-ad ah"`` -> ``["aa", "ab", "ac", "ad", "ah"]``, the letters that split(1) counts with."""
    letters = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    found = []
    for word in str(text).split():
        first, _, last = word.partition("-")
        try:
            found += letters[letters.index(first) : letters.index(last or first) + 1]
        except ValueError:
            raise UserError(f"{where}: pieces '{text}' are not of the form 'aa-ah aj'") from None
    if not found or found != sorted(set(found)):
        raise UserError(f"{where}: pieces '{text}' are not in the order of their names")
    return found


def _estimate(archives, total, unpacked):
    """Fill in the sizes that are not known exactly, from those of the whole part (0: not known)."""
    files = [file for archive in archives for file in archive.files]
    for file in files:
        file.size = file.bytes
    unknown = [file for file in files if file.size is None]
    rest = total - sum(file.bytes or 0 for file in files)
    for file in unknown:
        file.size = rest / len(unknown) if rest > 0 else None
    known = sum(archive.size for archive in archives)
    for archive in filter(lambda archive: archive.folder, archives):
        if unpacked:
            archive.unpacked = unpacked * (archive.size / known if known else 1 / len(archives))
        else:
            archive.unpacked = archive.size * _GROWTH


def choose(parts, names):
    """The parts asked for; those of the default where ``names`` is empty."""
    for name in names:
        if name not in parts:
            raise UserError(
                f"there is no part '{name}';{config.did_you_mean(name, parts)} there are {', '.join(parts)}"
            )
    chosen = [part for part in parts.values() if part.name in names or (not names and part.default)]
    if not chosen:
        raise UserError(f"no part is fetched by default; choose with --part from {', '.join(parts)}")
    return chosen
