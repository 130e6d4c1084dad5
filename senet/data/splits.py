"""Splits of recordings that share nothing: no speaker, no content, no recording on two sides."""

import hashlib
import logging
from pathlib import Path

from senet.data.scp import read_table
from senet.errors import UserError

MIN_GROUPS = 5


def groups(sources, by_speaker):
    """Lists of sources that must stay on one side of a split, sorted.

    Sources belong together when they share content or recording, and with ``by_speaker`` also the speaker;
    so do sources that are linked through others.
    """
    parent = {}

    def root(key):
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    def keys(source):
        shared = [("content", source.fingerprint), ("recording", source.recording)]
        return [*shared, ("speaker", source.spk)] if by_speaker else shared

    for source in sources:
        first, *others = map(root, keys(source))
        for other in others:
            parent[root(other)] = root(first)
    members = {}
    for source in sources:
        members.setdefault(root(("content", source.fingerprint)), []).append(source)
    return sorted(members.values())


def split(sources, shares, *, by_speaker, seed):
    """Divide sources at random so that nothing is shared between the parts.

    A part gets its share of the groups (speakers, or recordings), rounded, but at least 5 of them, or
    a fair part of what there is where there are few: with n groups and k parts, n // (2 k), and 1 at the least.

    Args:
        sources: list of Source.
        shares: dict from part to its share of the groups; the first part takes what is left over.
        by_speaker: whether a speaker's recordings stay together.
        seed: integer.
    Returns:
        dict from part to list of Source.
    Raises:
        UserError: fewer groups than parts.
    """
    found = groups(sources, by_speaker)
    n, k, unit = len(found), len(shares), "speakers" if by_speaker else "recordings"
    if n < k:
        raise UserError(
            f"{n} {'speakers' if by_speaker else 'recordings'} cannot be split into {' '.join(shares)}; add recordings"
        )
    # A group's place follows from its own name, so one more recording does not reshuffle the others.
    found.sort(key=lambda g: hashlib.blake2b(f"{seed} {g[0].spk if by_speaker else g[0].utt}".encode()).digest())
    at_least = max(1, min(MIN_GROUPS, n // (2 * k)))
    parts, at, (first, *others) = {}, 0, shares
    for part in others:
        count = max(at_least, round(shares[part] * n))
        parts[part] = sorted(s for group in found[at : at + count] for s in group)
        at += count
    parts[first] = sorted(s for group in found[at:] for s in group)
    if not all(parts.values()):
        raise UserError(f"the shares {shares} leave a part empty: there are {n} {unit}; give it a larger share")
    return {part: parts[part] for part in shares}


def shared_with(sources, folder, by_speaker):
    """Sources that have speaker (``by_speaker``), content or recording in common with an existing set.

    Returns:
        list of (Source, what is shared).
    """
    folder = Path(folder)
    contents = set(read_table(folder / "utt2fingerprint").values())
    others = set(read_table(folder / "utt2recording").values())
    speakers = set(read_table(folder / "utt2spk").values()) if by_speaker else set()
    found = []
    for s in sources:
        if s.spk in speakers:
            found.append((s, f"speaker {s.spk}"))
        elif s.fingerprint in contents:
            found.append((s, "equal content"))
        elif s.recording in others and s.recording != s.utt:
            found.append((s, f"recording {s.recording}"))
    return found


def drop_shared(sources, folders, *, by_speaker, on_shared):
    """Sources without those that existing sets have too; with ``on_shared="raise"`` a UserError names the first one."""
    for folder in folders:
        found = shared_with(sources, folder, by_speaker)
        if found and on_shared == "raise":
            source, what = found[0]
            raise UserError(
                f"{source.value}: {what} is in {folder} too ({len(found)} such recordings); "
                "a test would not be fair: take them out, or pass --on_shared drop"
            )
        for source, what in found:
            logging.warning("left out: %s: %s is in %s too", source.value, what, folder)
        dropped = {source.utt for source, _ in found}
        sources = [s for s in sources if s.utt not in dropped]
        if found and not sources:
            raise UserError(f"all recordings are in {folder} too; give other ones")
    return sources
