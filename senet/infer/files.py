"""What ``senet enhance`` is given on the command line, turned into a list of files with their targets and needs.

Without torch, so that mistakes are told at once. In a folder of results, ``.senet.jsonl`` says by which model and
options they were made: those that are newer than it.
"""

import logging
import mimetypes
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from senet import records
from senet.data.audio import EXTENSIONS, find_audio
from senet.data.blocks import FLAC_BITS, PIPE, SUBTYPES, Recording, is_whole
from senet.data.stored import AudioInfo
from senet.data.wav import SUBTYPES as WAV_SUBTYPES
from senet.errors import UserError
from senet.files import walk_folders

NOTE = ".senet.jsonl"


class Item(NamedTuple):
    """A recording to enhance and where the result goes."""

    source: str  # audio file, path.ark:offset, or "-" for standard input
    target: Path | str  # .wav or .flac, or "-" for standard output
    root: Path | None = None  # that a relative source starts from


def subtype_for(suffix, source, asked=None):
    """The subtype that is written: as asked for; the source's; or what is nearest to it in that format.

    Args:
        suffix: ``.wav`` or ``.flac``.
        source: the source's subtype; lossy ones become 16 bits.
        asked: or None.
    Raises:
        UserError: the format does not have the one asked for.
    """
    known = SUBTYPES[suffix]
    if asked:
        if asked not in known:
            raise UserError(f"--subtype {asked}: {suffix} has {', '.join(known)}")
        return asked
    if source in known:
        return source
    bits = WAV_SUBTYPES.get(source, (0, FLAC_BITS.get(source, 16)))[1]
    return "PCM_24" if bits > 16 else "PCM_16"


def existing(folder):
    """The folder, or the nearest one above it that is there."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def list_items(inputs, output, suffix=None):
    """Files and folders to enhance.

    Args:
        inputs: paths of audio files and of folders, whose structure is kept below ``output``; or ``"-"`` alone.
        output: a ``.wav`` or ``.flac`` file for one input file, ``"-"`` likewise, otherwise a folder.
        suffix: of the files in that folder; None: the source's if it is one of these two, else ``.wav``. A file's name
            depends on nothing else: where it has that suffix it stays, otherwise the suffix is added: ``a.mp3.wav``.
    Returns:
        list of Item.
    Raises:
        UserError: an input is not there or holds no audio, or a target is one of the inputs, whatever it is called, or
            cannot be written.
    """
    if PIPE in map(str, inputs) and len(inputs) > 1:
        raise UserError(f"'-', standard input, is enhanced alone; {len(inputs)} inputs were given")
    single = is_single(output)
    if str(inputs[0]) == PIPE and not single:
        raise UserError(f"-o {output}: is a folder, and standard input has no name; give a .wav or .flac file, or '-'")
    sources = [pair for path in inputs for pair in _sources(path, output)]
    if single:
        if len(sources) > 1 or Path(inputs[0]).is_dir():
            raise UserError(f"-o {output}: is one file, and the input is a folder or several files; give a folder")
        items = [Item(str(sources[0][0]), PIPE if str(output) == PIPE else _target(output, suffix))]
    else:
        items = [Item(str(path), Path(output, _name(relative, suffix))) for path, relative in sources]
        twice = [target for target, count in Counter(item.target for item in items).items() if count > 1]
        if twice:
            raise UserError(f"two inputs would both become '{twice[0]}'; enhance them into different folders")
    _require_inputs_kept(items)
    _require_places(items)
    return items


def is_single(output):
    """Whether an output is a file, or standard output, and no folder."""
    return str(output) == PIPE or (Path(output).suffix.lower() in EXTENSIONS and not Path(output).is_dir())


def _sources(given, output):
    """[(path, name below the output folder), ...] of one input."""
    path, output = Path(given), Path(output)
    if given == PIPE:
        return [(given, None)]
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return [(path, Path(path.name))]
    found, others = find_audio(path), _others(path)
    if output.is_dir() and path.resolve() in output.resolve().parents:  # results of an earlier run
        found, others = ([f for f in fs if output.resolve() not in f.resolve().parents] for fs in (found, others))
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        logging.warning("%s: left out %s%s; read are %s", path, others[0], more, " ".join(EXTENSIONS))
    if not found:
        raise UserError(f"{path}: holds no audio ({' '.join(EXTENSIONS)})")
    return [(file, file.relative_to(path)) for file in found]


def _others(folder):
    """What is named like audio, of kinds that are not read."""
    found = [Path(here, name) for here, _, names in walk_folders(folder) for name in names if name[0] != "."]
    kinds = ((path, mimetypes.guess_type(path.name)[0] or "") for path in found)
    return [path for path, kind in kinds if kind.startswith("audio/") and path.suffix.lower() not in EXTENSIONS]


def _target(output, suffix):
    output = Path(output)
    if output.suffix.lower() not in SUBTYPES:
        raise UserError(f"-o {output}: only .wav and .flac are written; name the output {output.with_suffix('.wav')}")
    if suffix not in (None, output.suffix.lower()):
        raise UserError(f"-o {output}: --format {suffix[1:]} says otherwise; leave one of them out")
    return output


def _name(path, suffix):
    """Where a recording goes."""
    stays = path.suffix.lower() in ((suffix,) if suffix else SUBTYPES)
    return path if stays else path.with_name(f"{path.name}{suffix or '.wav'}")


def _require_inputs_kept(items):
    """Compare files, not names: links, other spellings, and a disk that takes A for a."""
    sources = {file for item in items if (file := _identity(item.source))}
    for item in items:
        if item.target != PIPE and _identity(item.target) in sources:
            raise UserError(f"-o: '{item.target}' is an input file and would be overwritten; choose another output")


def _require_places(items):
    """Look at the folders of targets, before a model is loaded for what cannot be written."""
    for folder in {item.target.parent: None for item in items if item.target != PIPE}:
        _require_place("-o", folder)


def _require_place(option, folder):
    place = existing(folder)
    if not place.is_dir():
        raise UserError(f"{option} {folder}: {place} is no folder; choose another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{option} {folder}: nothing can be written in {place}; choose a folder where you may")


def require_report(path, items):
    """Refuse a page at a place where a recording is or will be, and one of pipes, which are gone afterwards."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report {path}: an HTML page is written; name it {Path(path).with_suffix('.html')}")
    paths = [p for item in items for p in (item.source, item.target)]
    if PIPE in paths:
        raise UserError(f"--report {path}: compares files, and '-' is none; name files as input and output")
    if Path(path).is_dir() or Path(path).resolve() in {Path(p).resolve() for p in paths}:
        raise UserError(
            f"--report {path}: is a folder or one of the recordings; give it a name of its own, such as a.html"
        )
    _require_place("--report", Path(path).parent)


def _identity(path):
    """(device, inode), or None where there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remaining(items, overwrite=False, resume=False, note=None):
    """The items that are to be done.

    Args:
        overwrite: all. resume: those without a result that is newer than the recording and, where there is one, than
            the note of the model (a path).
    Raises:
        UserError: neither is asked for, and a result is there; or it is no file.
    """
    there = [item for item in items if item.target != PIPE and item.target.exists()]
    for item in there:
        if not item.target.is_file():
            raise UserError(f"-o: '{item.target}' is there and is no file; choose another output")
    if there and not (overwrite or resume):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(
            f"-o: '{there[0].target}'{more} is there already; --overwrite makes it again, --resume goes on with others"
        )
    since = os.stat(note).st_mtime_ns if note and note.exists() else 0
    done = {item.target for item in there if resume and _is_done(item, since)}
    return [item for item in items if item.target not in done]


def _is_done(item, since):
    return os.stat(item.target).st_mtime_ns >= max(since, os.stat(item.source).st_mtime_ns) and is_whole(item.target)


def note_model(note, identity, name, kept):
    """Say in a folder by which model its results are from now on.

    Args:
        note: path, ``<folder>/.senet.jsonl``.
        identity: of the model and of what becomes of its output (``Worker.identity``).
        name: that people call the model by.
        kept: whether results that are there are to be kept.
    Raises:
        UserError: they are, and were not made in this way.
    """
    known, _ = records.previous(note)
    if known.get("model") == identity:
        return
    if kept:
        made = f"by {known['name']}" if known.get("name") not in (None, name) else "by another model or other options"
        raise UserError(
            f"{note.parent}: its results were made {made if known else 'in a way that is not known'}; "
            "to go on with --resume choose the same again; otherwise another folder, or --overwrite"
        )
    records.write(note, {"model": identity, "name": name}, [])


class Need(NamedTuple):
    """What a recording is and takes, by its header."""

    item: Item
    info: AudioInfo | None  # None: not known, or it cannot be read
    bytes: int  # of its target, at most; 0 where that is not known
    error: str | None  # why it cannot be read

    @property
    def seconds(self):
        return self.info.frames / self.info.sample_rate if self.info else 0.0


def needs(items, subtype=None):
    """A Need for each item; standard input is not touched."""
    return [_need(item, subtype) for item in items]


def _need(item, subtype):
    if item.source == PIPE:
        return Need(item, None, 0, None)
    try:
        info = Recording(item.source, item.root).info
    except UserError as error:
        return Need(item, None, 0, str(error))
    suffix = ".wav" if item.target == PIPE else item.target.suffix.lower()
    bits = WAV_SUBTYPES.get(subtype_for(suffix, info.subtype, subtype), (0, 8))[1]
    return Need(item, info, info.frames * info.channels * bits // 8 + 64, None)


def require_space(found):
    """Refuse Needs whose wav files do not fit on their disks; how small a flac gets is not known."""
    for folder, size in _disks(found):
        free = shutil.disk_usage(folder).free
        if size > free:
            raise UserError(f"{folder}: {size / 1e6:.1f} MB will be written, {free / 1e6:.1f} MB are free; free some")


def _disks(found):
    """[(a folder on the disk, bytes of wav files), ...]"""
    disks = {}
    for need in found:
        if need.item.target != PIPE:
            folder = existing(need.item.target.parent)
            device = os.stat(folder).st_dev
            first, size = disks.get(device, (folder, 0))
            disks[device] = first, size + need.bytes * (need.item.target.suffix.lower() == ".wav")
    return disks.values()


def tell(found, done=0):
    """Print what would be done; the exit status: 1 if a recording cannot be read, or the disk is too small."""
    for need in found:
        if need.error:
            print(need.error)
            continue
        about = "not known before it is read"
        if need.info:
            info = need.info
            about = f"{need.seconds:.1f} s, {info.sample_rate} Hz, {info.channels} channels, {need.bytes / 1e6:.1f} MB"
        print(f"{need.item.source} -> {need.item.target}: {about}")
    broken = sum(need.error is not None for need in found)
    hours = sum(need.seconds for need in found) / 3600
    size = sum(need.bytes for need in found) / 1e6
    there = f", {done} are there" if done else ""
    known = f"{broken} cannot be read as far as headers tell; {hours:.2f} h of audio, at most {size:.1f} MB to write"
    print(f"{len(found)} to do{there}, {known}")
    for folder, _ in _disks(found):
        print(f"{folder}: {shutil.disk_usage(folder).free / 1e6:.1f} MB are free")
    require_space(found)
    return 1 if broken else 0
