"""What ``senet enhance`` is given on the command line, turned into a list of files with their targets."""

from collections import Counter
from pathlib import Path

from senet.data.audio import EXTENSIONS, find_audio
from senet.errors import UserError
from senet.infer.item import Item


def list_items(inputs, output):
    """Files and folders to enhance.

    Args:
        inputs: paths of audio files and of folders, whose structure is kept below ``output``.
        output: a ``.wav`` file for one input file, otherwise a folder.
    Returns:
        list of Item.
    Raises:
        UserError: an input is not there or holds no audio, or a target is one of the inputs.
    """
    output, sources = Path(output), []
    for source in map(Path, inputs):
        if source.is_dir():
            found = find_audio(source)
            if not found:
                raise UserError(f"{source}: holds no audio ({' '.join(EXTENSIONS)})")
            sources += [(path, path.relative_to(source)) for path in found]
        elif source.exists():
            sources.append((source, Path(source.name)))
        else:
            raise UserError(f"{source}: no such file or folder")
    if output.suffix.lower() in EXTENSIONS and not output.is_dir():
        if len(sources) > 1 or Path(inputs[0]).is_dir():
            raise UserError(f"-o {output}: is one file, and the input is a folder or several files; give a folder")
        if output.suffix.lower() != ".wav":
            raise UserError(f"-o {output}: only .wav is written; name the output {output.with_suffix('.wav')}")
        items = [Item(str(sources[0][0]), output)]
    else:
        names = _names([relative for _, relative in sources])
        items = [Item(str(path), output / name) for (path, _), name in zip(sources, names, strict=True)]
    _require_inputs_kept(items)
    return items


def _names(sources):
    """A target for each source: ``.wav`` for its extension, or added to it where two would become one."""
    short = [path.with_suffix(".wav") for path in sources]
    taken = Counter(short)
    names = [n if taken[n] == 1 else path.with_name(f"{path.name}.wav") for n, path in zip(short, sources, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"two inputs would both become '{twice[0]}'; enhance them into different folders")
    return names


def _require_inputs_kept(items):
    sources = {Path(item.source).resolve() for item in items}
    for item in items:
        if item.target.resolve() in sources:
            raise UserError(f"-o: '{item.target}' is an input file and would be overwritten; choose another output")
