"""What ``senet enhance`` is given on the command line, turned into a list of files with their targets and needs."""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from senet.data.audio import EXTENSIONS, find_audio
from senet.data.blocks import PIPE, SUBTYPES, Recording, is_whole
from senet.data.stored import AudioInfo
from senet.data.wav import SUBTYPES as WAV_SUBTYPES
from senet.errors import UserError
from senet.infer.item import Item, existing, subtype_for


def list_items(inputs, output, suffix=None):
    """Files and folders to enhance.

    Args:
        inputs: paths of audio files and of folders, whose structure is kept below ``output``; or ``"-"`` alone.
        output: a ``.wav`` or ``.flac`` file for one input file, ``"-"`` likewise, otherwise a folder.
        suffix: of the files in that folder; None: the source's if it is one of these two, else ``.wav``.
    Returns:
        list of Item.
    Raises:
        UserError: an input is not there or holds no audio, or a target is one of the inputs, whatever it is called.
    """
    if PIPE in map(str, inputs) and len(inputs) > 1:
        raise UserError(f"'-', standard input, is enhanced alone; {len(inputs)} inputs were given")
    single = str(output) == PIPE or (Path(output).suffix.lower() in EXTENSIONS and not Path(output).is_dir())
    if str(inputs[0]) == PIPE and not single:
        raise UserError(f"-o {output}: is a folder, and standard input has no name; give a .wav or .flac file, or '-'")
    sources = [pair for path in inputs for pair in _sources(path, output)]
    if single:
        if len(sources) > 1 or Path(inputs[0]).is_dir():
            raise UserError(f"-o {output}: is one file, and the input is a folder or several files; give a folder")
        items = [Item(str(sources[0][0]), PIPE if str(output) == PIPE else _target(output, suffix))]
    else:
        names = _names([relative for _, relative in sources], suffix)
        items = [Item(str(path), Path(output, name)) for (path, _), name in zip(sources, names, strict=True)]
    _require_inputs_kept(items)
    return items


def _sources(given, output):
    """[(path, name below the output folder), ...] of one input."""
    path, output = Path(given), Path(output)
    if given == PIPE:
        return [(given, None)]
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return [(path, Path(path.name))]
    found = find_audio(path)
    if output.is_dir() and path.resolve() in output.resolve().parents:  # results of an earlier run
        found = [file for file in found if output.resolve() not in file.resolve().parents]
    if not found:
        raise UserError(f"{path}: holds no audio ({' '.join(EXTENSIONS)})")
    return [(file, file.relative_to(path)) for file in found]


def _target(output, suffix):
    output = Path(output)
    if output.suffix.lower() not in SUBTYPES:
        raise UserError(f"-o {output}: only .wav and .flac are written; name the output {output.with_suffix('.wav')}")
    if suffix not in (None, output.suffix.lower()):
        raise UserError(f"-o {output}: --format {suffix[1:]} says otherwise; leave one of them out")
    return output


def _names(sources, suffix):
    """A target for each source: with the new extension, or with it added where two would become one."""
    endings = [suffix or (path.suffix if path.suffix.lower() in SUBTYPES else ".wav") for path in sources]
    short = [path.with_suffix(ending) for path, ending in zip(sources, endings, strict=True)]
    taken = Counter(short)
    names = [
        name if taken[name] == 1 else path.with_name(f"{path.name}{ending}")
        for name, path, ending in zip(short, sources, endings, strict=True)
    ]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"two inputs would both become '{twice[0]}'; enhance them into different folders")
    return names


def _require_inputs_kept(items):
    """Compare files, not names: links, other spellings, and a disk that takes A for a."""
    sources = {file for item in items if (file := _identity(item.source))}
    for item in items:
        if item.target != PIPE and _identity(item.target) in sources:
            raise UserError(f"-o: '{item.target}' is an input file and would be overwritten; choose another output")


def require_report(path, items):
    """Refuse a page at a place where a recording is or will be, and one of pipes, which are gone afterwards."""
    paths = [p for item in items for p in (item.source, item.target)]
    if PIPE in paths:
        raise UserError(f"--report {path}: compares files, and '-' is none; name files as input and output")
    if Path(path).is_dir() or Path(path).resolve() in {Path(p).resolve() for p in paths}:
        raise UserError(
            f"--report {path}: is a folder or one of the recordings; give it a name of its own, such as a.html"
        )


def _identity(path):
    """(device, inode), or None where there is nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remaining(items, overwrite=False, resume=False):
    """The items that are to be done.

    Args:
        overwrite: all. resume: those without a result that is newer than the recording.
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
    done = {item.target for item in there if resume and not overwrite and _is_done(item)}
    return [item for item in items if item.target not in done]


def _is_done(item):
    return os.stat(item.target).st_mtime_ns >= os.stat(item.source).st_mtime_ns and is_whole(item.target)


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
    disks = {}  # device -> (a folder there, bytes)
    for need in found:
        if need.item.target != PIPE and need.item.target.suffix.lower() == ".wav":
            folder = existing(need.item.target.parent)
            device = os.stat(folder).st_dev
            first, size = disks.get(device, (folder, 0))
            disks[device] = first, size + need.bytes
    for folder, size in disks.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise UserError(f"{folder}: {size / 1e6:.1f} MB will be written, {free / 1e6:.1f} MB are free; free some")


def tell(found, done=0):
    """Print what would be done; the exit status: 1 if a recording cannot be read, or the disk is too small."""
    for need in found:
        about = need.error or "not known before it is read"
        if need.info:
            info = need.info
            about = f"{need.seconds:.1f} s, {info.sample_rate} Hz, {info.channels} channels, {need.bytes / 1e6:.1f} MB"
        print(f"{need.item.source} -> {need.item.target}: {about}")
    broken = sum(need.error is not None for need in found)
    hours = sum(need.seconds for need in found) / 3600
    size = sum(need.bytes for need in found) / 1e6
    there = f", {done} are there" if done else ""
    print(f"{len(found)} to do{there}, {broken} cannot be read; {hours:.2f} h of audio, at most {size:.1f} MB to write")
    require_space(found)
    return 1 if broken else 0
