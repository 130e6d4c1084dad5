"""Mend a data directory: sort, drop what is not sound or not in every file, and say what and why."""

import shutil
from pathlib import Path

from senet.data.audio import AudioError, info
from senet.data.datadir import Problem, speaker_files, utterance_files
from senet.data.scp import BYTE_ORDER_MARK, Scp, line_problem, spk2utt, write_table
from senet.data.validate import bad_value, validate
from senet.errors import UserError


def fix(path, *, utt_files=(), spk_files=(), check_audio=False, allow_pipes=False, **options):
    """Keep the utterances that every manifest has a sound line for; originals go to ``.backup``.

    A key with two different values is dropped, since neither is known to be the right one; so is a last line that
    was cut off. utt2num_samples is made where there is none.

    Args:
        path: the folder.
        utt_files, spk_files: names of files keyed by utterance or speaker, besides those that their names tell.
        check_audio: drop utterances whose audio is not sound, too.
        allow_pipes, options: as ``validate`` takes them.
    Returns:
        list of Problem: what was dropped or mended, and why.
    Raises:
        UserError: wav.scp or utt2spk is missing, or no utterance would be left; nothing is changed then.
    """
    path = Path(path)
    for name in ("wav.scp", "utt2spk"):
        if not (path / name).exists():
            raise UserError(f"{path / name}: missing, and cannot be made from the other files; run its stage again")
    dropped = _fix_manifests(path, utt_files, spk_files, allow_pipes)
    if check_audio:
        faults = validate(path, check_audio=True, allow_pipes=allow_pipes, **options).problems
        faults = [fault for fault in faults if fault.utt]
        if faults:
            dropped += faults
            _fix_manifests(path, utt_files, spk_files, allow_pipes, without={fault.utt for fault in faults})
    if not (path / "utt2num_samples").exists() and not (path / "segments").exists():
        dropped += _make_lengths(path, allow_pipes)
    return dropped


def _make_lengths(path, allow_pipes):
    """utt2num_samples from the headers of wav.scp's audio, where all have one; Kaldi's sets come without."""
    scp = Scp(path / "wav.scp", allow_pipes)
    try:
        lengths = [(utt, info(value, scp.root).frames) for utt, value in scp]
    except AudioError:  # a command, or what --check_audio drops
        return []
    write_table(path / "utt2num_samples", lengths)
    return [Problem(path / "utt2num_samples", None, "made from the headers of the audio")]


def _fix_manifests(path, utt_files, spk_files, allow_pipes, without=frozenset()):
    names = sorted({*utterance_files(path), *utt_files})
    dropped, tables, changed = [], {}, set()
    for name in names:
        tables[name], faults = _salvage(path / name, allow_pipes or not name.endswith(".scp"))
        dropped += faults
        if faults or list(tables[name]) != sorted(tables[name]):
            changed.add(name)
    kept = set.intersection(*(set(table) for table in tables.values())) - without
    if not kept:
        raise UserError(f"{path}: no utterance has a sound line in all of {', '.join(names)}; nothing was changed")
    for utt in sorted(set().union(*tables.values()) - kept - without):
        lacking = [name for name in names if utt not in tables[name]]
        dropped.append(Problem(path / lacking[0], None, f"'{utt}' dropped: no sound line in {', '.join(lacking)}", utt))
    for name in names:
        if name in changed or len(tables[name]) > len(kept):
            _replace(path / name, [row for row in tables[name].items() if row[0] in kept])
    speakers = dict(spk2utt(sorted((utt, tables["utt2spk"][utt]) for utt in kept)))
    for name in ("spk2utt", *sorted({*speaker_files(path), *spk_files})):
        table, faults = _salvage(path / name, True) if (path / name).exists() else ({}, [])
        rows = speakers if name == "spk2utt" else {spk: value for spk, value in table.items() if spk in speakers}
        if faults or list(rows.items()) != sorted(table.items()) or list(table) != sorted(table):
            _replace(path / name, rows.items())
            dropped += faults
    return dropped


def _salvage(path, allow_pipes):
    """({key: value} of the lines that are sound, problems of the others)."""
    table, faults, contradicting, returns = {}, [], set(), 0
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if number == 1 and line.startswith(BYTE_ORDER_MARK):
                faults.append(Problem(path, number, "byte order mark removed"))
                line = line[len(BYTE_ORDER_MARK) :]
            if line.endswith(b"\r\n"):
                returns, line = returns + 1, line[:-2] + b"\n"
            if problem := line_problem(line, allow_pipes):
                faults.append(Problem(path, number, f"dropped: {problem}"))
                continue
            key, value = (part.decode() for part in line.rstrip().split(None, 1))
            if problem := bad_value(path.name, value):
                faults.append(Problem(path, number, f"dropped: '{key}': {problem}", key))
            elif key not in table:
                table[key] = value
            elif table[key] == value:
                faults.append(Problem(path, number, f"'{key}' is there twice with one value: kept once", key))
            else:
                contradicting.add(key)
                faults.append(Problem(path, number, f"dropped: '{key}' is there with two values", key))
    if returns:
        faults.append(Problem(path, None, f"{returns} carriage returns removed"))
    for key in contradicting:
        del table[key]
    return table, faults


def _replace(path, rows):
    """Write ``rows`` to ``path``; keep what was there, under a name that is still free, in ``.backup``."""
    if path.exists():
        backup = path.parent / ".backup" / path.name
        backup.parent.mkdir(exist_ok=True)
        number = 0
        while backup.exists():
            number += 1
            backup = backup.with_name(f"{path.name}.{number}")
        shutil.copy2(path, backup)
    write_table(path, rows)
