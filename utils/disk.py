#!/usr/bin/env python3
"""The disk that a recipe's stages need, beside what is free.

  disk.py samples DIR [SAID]   samples of a mixed set: as `senet.bin.mix --dry_run` said, or as its manifest says
  disk.py table STAGE...       a line for each stage ("2 mix") and one for all
  disk.py check                nothing, where there is enough

The last two read lines "stage TAB folder TAB state TAB said": what the command for work that is not done says of its
need, bytes or GB at the end, or why that is not known. Exit status 1 and a message where a disk has too little.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from unit import UserError, walk


def samples(folder, said=""):
    if found := re.search(r"(\d+) samples", said):
        return int(found[1])
    path = Path(folder, "utt2num_samples")
    if not path.exists():
        raise UserError(f"{path} is not there before stage 2 (mix)")
    with open(path, encoding="utf-8") as f:
        return sum(int(line.split()[1]) for line in f)


FACTORS = {"b": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Need:
    """One line of the input: what the work in one folder still writes.

    Attributes:
        stage: number and name.
        folder: where.
        bytes: how much; None where that is not known.
        about: whether that is an estimate.
        said: what the command said: the reason where it is not known.
        nothing: whether that is why nothing is to be done.
        disk, free: which disk that is (a number), and its free bytes.
    """

    def __init__(self, line):
        self.stage, folder, state, said = line.rstrip("\n").split("\t", 3)
        self.folder = folder or said.partition(": ")[0]
        found = re.search(r"([\d.]+) (bytes?|[KMGT]B)$", said)
        self.bytes = round(float(found[1]) * FACTORS[found[2][0]]) if found else None
        self.nothing = ": nothing " in said
        if self.nothing:
            self.bytes = 0
        self.about, self.said = ": about " in said, said
        place = Path(self.folder).absolute()
        if found and state.startswith("partly"):  # what is there stays
            self.bytes = max(0, self.bytes - sum((place / file).stat().st_size for file in walk(place)))
        while not place.exists():
            place = place.parent
        self.disk, self.free = place.stat().st_dev, shutil.disk_usage(place).free


def by_disk(needs):
    disks = {}
    for need in needs:
        if need.bytes is not None and not need.nothing:
            disks.setdefault(need.disk, []).append(need)
    return disks.values()


def total(needs):
    return sum(need.bytes for need in needs)


def describe(needs):
    """``2.88 GB, 45.2 GB free (dump)``, for each disk, and what is not known."""
    parts = []
    for group in by_disk(needs):
        about = "about " if any(need.about and need.bytes >= 1e6 for need in group) else ""
        parts.append(f"{about}{size(total(group))}, {size(group[0].free)} free ({place(group)})")
    parts += [need.said for need in needs if need.nothing]
    unknown = [need.said for need in needs if need.bytes is None]
    if unknown:
        parts.append(f"not known: {unknown[0]}{' and more' if len(unknown) > 1 else ''}")
    return "; ".join(parts) or "nothing to do"


def place(needs):
    """The folder that holds all of theirs."""
    return os.path.commonpath([os.path.abspath(need.folder) for need in needs])


def size(number):
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return "little"


def table(stages, needs):
    for stage in stages:
        print(f"disk {stage:<12}{describe([need for need in needs if need.stage == stage])}")
    if len(stages) > 1:
        least = "at least " if any(need.bytes is None for need in needs) else ""
        known = [need for need in needs if need.bytes is not None and not need.nothing]
        print(f"disk {'all':<12}{least}{describe(known)}")


def check(needs):
    for group in by_disk(needs):
        if total(group) > group[0].free:
            stages = ", ".join(dict.fromkeys(need.stage for need in group if need.bytes))
            free, needed, about = size(group[0].free), size(total(group)), any(need.about for need in group)
            raise UserError(
                f"the disk of {place(group)} has {free} free, and {'about ' * about}{needed} are needed there (stage "
                f"{stages}{'; after stage 1 that is known exactly' * about}). Free some, put --datadir, --dumpdir or "
                "--expdir elsewhere, or make smaller sets with --num_clips"
            )


def main(command, *words):
    if command == "samples":
        print(samples(*words))
        return
    needs = [Need(line) for line in sys.stdin if line.rstrip("\n").split("\t")[-1]]
    if command == "table":
        table(words, needs)
    check(needs)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (UserError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
