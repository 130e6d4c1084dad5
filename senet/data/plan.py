"""plan.tsv: what each mixture of a set is made of, written before any audio.

First line: ``# senet plan 1 policy=crop sample_rate=16000 seed=0 ...``, the settings all lines share.
Second line: the names of the columns. Then one line for each mixture:

    utt         id of the mixture, with the speaker as prefix
    spk         speaker
    clean       parts of the speech signal, in order, joined by commas
    noise       parts of the noise signal
    snr_db      speech (after the rir) to noise, RMS over the whole mixture or, with snr_mode=active, its active parts
    level_db    RMS of the signal named by ``level_of`` in the settings, in dB of full scale, before the peak guard
    rir         room impulse response that the speech is convolved with, or ``-``
    num_samples length of the mixture at the plan's sample rate

A part is ``source@start+length`` (samples at the plan's rate) or ``~n`` (n zeros). ``-`` stands for "none".
A line and the settings say all that is needed: any machine makes the same samples of them.
"""

import hashlib
import re
from typing import NamedTuple

from senet.errors import UserError
from senet.files import whole_file

COLUMNS = ("utt", "spk", "clean", "noise", "snr_db", "level_db", "rir", "num_samples")
MAGIC = "# senet plan 1"


class Part(NamedTuple):
    source: str | None  # id in the source set; None for zeros
    start: int
    length: int

    def __str__(self):
        return f"~{self.length}" if self.source is None else f"{self.source}@{self.start}+{self.length}"


def silence(length):
    return Part(None, 0, length)


_PART = re.compile(r"~(\d+)|([^@+,~\s]+)@(\d+)\+(\d+)")


def parse_parts(text):
    """``"a@5+10,~3"`` -> ``(Part("a", 5, 10), Part(None, 0, 3))``; ``"-"`` -> ``()``; ValueError otherwise."""
    if text == "-":
        return ()
    parts = []
    for piece in text.split(","):
        match = _PART.fullmatch(piece)
        if not match:
            raise ValueError(f"'{piece}' is not a part (source@start+length or ~zeros)")
        zeros, source, start, length = match.groups()
        parts.append(silence(int(zeros)) if zeros else Part(source, int(start), int(length)))
    return tuple(parts)


class Line(NamedTuple):
    utt: str
    spk: str
    clean: tuple
    noise: tuple
    snr_db: float | None
    level_db: float | None
    rir: str | None
    num_samples: int

    def __str__(self):
        return "\t".join(
            (
                self.utt,
                self.spk,
                ",".join(map(str, self.clean)) or "-",
                ",".join(map(str, self.noise)) or "-",
                # repr of a float is the shortest text that reads back as the same number
                "-" if self.snr_db is None else repr(float(self.snr_db)),
                "-" if self.level_db is None else repr(float(self.level_db)),
                self.rir or "-",
                str(self.num_samples),
            )
        )


class Plan:
    """An opened plan.tsv. Lines are parsed when asked for: a job parses only its own.

    Attributes: ``settings`` (dict of text), ``len(plan)``, ``plan[i]`` (a Line).
    """

    def __init__(self, path):
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"{path}: there is no plan yet; run this command with --plan first") from None
        head, _, rest = text.partition("\n")
        if not head.startswith(MAGIC + " ") or not text.endswith("\n"):
            raise UserError(
                f"{path}:1: not a mixing plan ('{MAGIC} ...' was expected); run this command with --plan again"
            )
        self.settings = _settings(head)
        columns, _, rest = rest.partition("\n")
        if columns != "\t".join(COLUMNS):
            raise UserError(f"{path}:2: columns are '{columns}', expected '{' '.join(COLUMNS)}' (tabs between)")
        self._head = head
        self._lines = rest.splitlines()

    def __len__(self):
        return len(self._lines)

    def __getitem__(self, i):
        fields = self._lines[i].split("\t")
        try:
            utt, spk, clean, noise, snr, level, rir, n = fields
            return Line(
                utt,
                spk,
                parse_parts(clean),
                parse_parts(noise),
                _number(snr),
                _number(level),
                None if rir == "-" else rir,
                int(n),
            )
        except ValueError as error:
            raise UserError(f"{self.path}:{i + 3}: {error}; run this command with --plan again") from None

    def digest(self, start, stop):
        """Hexadecimal digest of the settings and of lines start..stop-1: equal digest, equal audio."""
        text = "\n".join([self._head, *self._lines[start:stop]])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_settings(path):
    """The settings of a plan of any length."""
    with open(path, encoding="utf-8") as f:
        return _settings(f.readline())


def _settings(head):
    return dict(word.split("=", 1) for word in head[len(MAGIC) :].split() if "=" in word)


def _number(text):
    return None if text == "-" else float(text)


def plan_text(settings, lines):
    head = " ".join([MAGIC, *(f"{key}={value}" for key, value in settings.items())])
    return "\n".join([head, "\t".join(COLUMNS), *map(str, lines)]) + "\n"


def write_plan(path, settings, lines):
    """Write a plan, whole. ``settings``: dict whose values print without white space."""
    with whole_file(path) as f:
        f.write(plan_text(settings, lines))
