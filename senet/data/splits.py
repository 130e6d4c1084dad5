"""Splits of recordings that share nothing: no speaker, no content, no recording on two sides."""

import hashlib
import logging
from pathlib import Path

import numpy as np

from senet.data.scp import read_rows
from senet.errors import UserError

MIN_GROUPS = 5


def groups(sources, by_speaker):
    """Which sources must stay on one side of a split.

    Sources belong together when they share content or recording, and with ``by_speaker`` also the speaker;
    so do sources that are linked through others.

    Args:
        sources: Sources, sorted.
        by_speaker: whether a speaker's recordings stay together.
    Returns:
        int64 (len(sources),): the first source of each one's group.
    """
    keys = [np.unique(sources.fingerprint, return_inverse=True)[1], _first_places(sources.recording)]
    keys += [_first_places(sources.spk)] if by_speaker else []
    first = np.arange(len(sources))
    while True:
        before = first.copy()
        for key in keys:
            least = np.full(key.max(initial=-1) + 1, len(sources))
            np.minimum.at(least, key, first)
            first = least[key]
        if np.array_equal(first, before):
            return first


def _first_places(values):
    """int64: the place where each value comes first; its own place for a None."""
    first = {}
    return np.array([i if value is None else first.setdefault(value, i) for i, value in enumerate(values)], np.int64)


def split(sources, shares, *, by_speaker, seed):
    """Divide sources at random so that nothing is shared between the parts.

    A part gets its share of the groups (speakers, or recordings), rounded, but at least 5 of them, or
    a fair part of what there is where there are few: with n groups and k parts, n // (2 k), and 1 at the least.

    Args:
        sources: Sources, sorted.
        shares: dict from part to its share of the groups; the first part takes what is left over.
        by_speaker: whether a speaker's recordings stay together.
        seed: integer.
    Returns:
        dict from part to Sources.
    Raises:
        UserError: fewer groups than parts.
    """
    group = groups(sources, by_speaker)
    found = np.unique(group).tolist()
    n, k, unit = len(found), len(shares), "speakers" if by_speaker else "recordings"
    if n < k:
        raise UserError(f"{n} {unit} cannot be split into {' '.join(shares)}; add recordings")
    # A group's place follows from its own name, so one more recording does not reshuffle the others.
    names = sources.spk if by_speaker else sources.utt
    found.sort(key=lambda first: hashlib.blake2b(f"{seed} {names[first]}".encode()).digest()[:16])
    at_least = max(1, min(MIN_GROUPS, n // (2 * k)))
    chosen, at, (first, *others) = {}, 0, shares
    for part in others:
        count = max(at_least, round(shares[part] * n))
        chosen[part] = found[at : at + count]
        at += count
    chosen[first] = found[at:]
    if not all(chosen.values()):
        raise UserError(f"the shares {shares} leave a part empty: there are {n} {unit}; give it a larger share")
    return {part: sources.take(np.isin(group, chosen[part])) for part in shares}


def shared_with(sources, folder, by_speaker):
    """Sources that have speaker (``by_speaker``), content or recording in common with an existing set.

    Returns:
        (rows, reasons): indices, and what is shared, of each.
    Raises:
        UserError: the set's fingerprints are of another kind, so that equal content would not be noticed.
    """
    folder = Path(folder)
    contents = np.array([value.encode() for _, value in read_rows(folder / "utt2fingerprint")], "S")
    if len(sources) and np.char.str_len(contents).max() != np.char.str_len(sources.fingerprint).max():
        raise UserError(
            f"{folder / 'utt2fingerprint'}: made with another --fingerprint than these recordings, so that equal ones "
            "would not be noticed; list both with the same"
        )
    equal = np.isin(sources.fingerprint, contents)
    others = {value for utt, value in read_rows(folder / "utt2recording") if value != utt}
    speakers = {value for _, value in read_rows(folder / "utt2spk")} if by_speaker else ()
    rows, reasons = [], []
    for i, (spk, origin) in enumerate(zip(sources.spk, sources.recording, strict=True)):
        if spk in speakers:
            reason = f"speaker {spk}"
        elif equal[i]:
            reason = "equal content"
        elif origin in others:
            reason = f"recording {origin}"
        else:
            continue
        rows.append(i)
        reasons.append(reason)
    return rows, reasons


def drop_shared(sources, folders, *, by_speaker, on_shared):
    """Sources without those that existing sets have too; with ``on_shared="raise"`` a UserError names the first one."""
    for folder in folders:
        rows, reasons = shared_with(sources, folder, by_speaker)
        if rows and on_shared == "raise":
            raise UserError(
                f"{sources[rows[0]].value}: {reasons[0]} is in {folder} too ({len(rows)} such recordings); "
                "a test would not be fair: take them out, or pass --on_shared drop"
            )
        for row, reason in zip(rows, reasons, strict=True):
            logging.warning("left out: %s: %s is in %s too", sources[row].value, reason, folder)
        sources = sources.take(~np.isin(np.arange(len(sources)), rows))
        if rows and not len(sources):
            raise UserError(f"all recordings are in {folder} too; give other ones")
    return sources


def require_disjoint(train, valid, *, by_speaker):
    """Refuse two source sets, of training and of validation, that have something in common.

    The larger one is read line by line. Equal content is noticed where both were listed with one kind of fingerprint.

    Args:
        train, valid: folders of the sets.
        by_speaker: whether a speaker must not be in both either.
    Raises:
        UserError: a speaker, an equal content or a recording is in both; names the sets and the first one.
    """
    tables = {"utt2spk": "speaker"} if by_speaker else {}
    for table, what in (tables | {"utt2fingerprint": "content", "utt2recording": "recording"}).items():
        paths = [Path(folder) / table for folder in (train, valid)]
        if not all(path.exists() for path in paths):
            continue
        own = table == "utt2recording"  # a file that is a recording by itself has its own id there
        held_out = {value: utt for utt, value in read_rows(paths[1]) if not (own and value == utt)}
        for utt, value in read_rows(paths[0]):
            if value in held_out:
                found = "equal content" if what == "content" else f"{what} '{value}'"
                own_speakers = ", --speaker file makes each recording a speaker of its own" if what == "speaker" else ""
                raise UserError(
                    f"{train} and {valid}: {found} is in both, as '{utt}' and '{held_out[value]}'; a validation on "
                    "what was trained with says nothing. Name other sets (speech, noise in conf/mix_*.yaml), or list "
                    "these anew: senet prepare divides with --split, and --disjoint_from takes out what is shared"
                    + own_speakers
                )


def shared_speakers(one, other):
    """The speakers that two folders with a utt2spk have in common; an empty set where one has none."""
    paths = [Path(folder) / "utt2spk" for folder in (one, other)]
    if not all(path.exists() for path in paths):
        return set()
    first, second = ({speaker for _, speaker in read_rows(path)} for path in paths)
    return first & second
