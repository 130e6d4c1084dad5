"""Is a data directory what it should be? Every line of every manifest is looked at, and the audio if asked for."""

import collections
import itertools
import re
from pathlib import Path
from typing import NamedTuple

from senet.data import audio
from senet.data.datadir import FIX, Problem, key_differences, speaker_files, utterance_files
from senet.data.parallel import available_cpus, parallel_map
from senet.data.scp import Scp, problems, read_ints_and_digest, read_rows, read_table, spk2utt
from senet.errors import UserError

_AUDIO_SCP = re.compile(r"(wav|spk\d+|noise\d+|dereverb\d+)\.scp")
_CHECKED_AT_ONCE = 64  # utterances


class Report(NamedTuple):
    """What ``validate`` found."""

    path: Path
    problems: list  # of Problem
    utterances: int
    speakers: int
    seconds: float | None  # None: lengths or rates are not known
    rates: dict  # Hz -> utterances; all of them only after audio was checked or when utt2fs is there

    def __str__(self):
        hours = "unknown length" if self.seconds is None else f"{self.seconds / 3600:.3g} h"
        rates = ", ".join(f"{rate} Hz" for rate in sorted(self.rates)) or "unknown rate"
        verdict = _counted(len(self.problems), "error") if self.problems else "valid"
        counts = f"{_counted(self.utterances, 'utterance')}, {_counted(self.speakers, 'speaker')}"
        return f"{self.path}: {verdict}; {counts}, {hours}, {rates}"


def _counted(n, word):
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def validate(
    path,
    *,
    check_audio=False,
    sample_rate=None,
    channels=None,
    min_seconds=0.1,
    length_tolerance=0,
    allow_pipes=False,
    spk_sort=True,
    skip=(),
    jobs=None,
):
    """Look at every manifest of a data directory and, if asked to, decode all its audio.

    Args:
        path: the folder.
        check_audio: open and decode every file of every audio scp.
        sample_rate: Hz expected of all; None for what utt2fs says, or any without it.
        channels: number expected; None for 1 in a paired set and any in a source set.
        min_seconds: shortest utterance.
        length_tolerance: samples that clean and noise may be longer or shorter than noisy.
        allow_pipes: accept shell commands in place of files; their audio is not checked.
        spk_sort: expect speakers in the order of their utterances.
        skip: names of files to leave alone.
        jobs: threads for the audio; None for one per processor.
    Returns:
        Report.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    found, scps = [], {}
    names = [name for name in utterance_files(path) if name not in skip]
    for name in sorted({"wav.scp", "utt2spk"} - set(names) - set(skip)):
        found.append(Problem(path / name, None, "missing; stage 1 or 2 makes it"))
    for name in names:
        pipes = allow_pipes or not name.endswith(".scp")
        faults = []
        try:
            scps[name] = Scp(path / name, pipes)
        except UserError:
            faults = [Problem(path / name, line, text) for line, text in problems(path / name, pipes)]
        found += faults or _bad_values(path / name)
    segmented = (path / "segments").exists()  # audio is keyed by recording then
    signals = [scp for name, scp in scps.items() if _AUDIO_SCP.fullmatch(name)]
    recordings = scps.get("wav.scp")
    base = (None if segmented else recordings) or scps.get("utt2spk")
    if base is None:
        return Report(path, found, 0, 0, None, {})
    for scp in scps.values():
        found += key_differences(scp, recordings if segmented and recordings and scp in signals else base)
    found += _bad_segments(path / "segments", base, recordings) if segmented else []
    found += _bad_speakers(path, spk_sort) if "utt2spk" in scps else []
    found += _bad_speaker_files(path, allow_pipes) if "utt2spk" in scps else []
    infos = None
    if check_audio and not found and signals:
        expected = _Expected(path, sample_rate, channels, min_seconds, length_tolerance, segmented)
        infos = _check_audio(signals[0] if segmented else base, signals, expected, jobs or available_cpus(), found)
    speakers = len(set(read_table(path / "utt2spk").values())) if "utt2spk" in scps else 0
    seconds, rates = _durations(path, scps, infos) if not found else (None, {})
    if segmented and not found:
        times = (value.split()[1:] for _, value in read_rows(path / "segments"))
        seconds = sum(float(end) - float(start) for start, end in times)
    return Report(path, found, len(base), speakers, seconds, rates)


_NUMBERS = {
    "utt2num_samples": (int, "a whole number of samples above 0"),
    "utt2num_frames": (int, "a whole number of frames above 0"),
    "utt2fs": (int, "a rate in Hz above 0"),
    "utt2dur": (float, "seconds above 0"),
}


def bad_value(name, value):
    """What is wrong with a value of the file ``name``, or None."""
    if name == "utt2spk" and len(value.split()) != 1:
        return f"'{value}' is {len(value.split())} speakers, one expected"
    if name in _NUMBERS:
        kind, expected = _NUMBERS[name]
        try:
            if 0 < kind(value) < float("inf"):
                return None
        except ValueError:
            pass
        return f"'{value}' found, {expected} expected; make the file again"
    return None


def _bad_segments(path, base, recordings):
    """Problems of a segments file: lines of utterance, recording, start and end in seconds."""
    faults = [Problem(path, line, text) for line, text in problems(path, allow_pipes=True)]
    if faults:
        return faults
    for line, (utt, value) in enumerate(read_rows(path), 1):
        recording, *times = value.split()
        try:
            start, end = map(float, times)
            sound = 0 <= start < end < float("inf")
        except ValueError:
            sound = False
        if not sound:
            message = f"'{utt}': '{value}' found, a recording, start and end expected: seconds, 0 <= start < end"
            faults.append(Problem(path, line, f"{message}; make the file again", utt))
        elif recordings is not None and recording not in recordings:
            message = f"'{utt}': recording '{recording}' is not in {recordings.path.name}; {FIX}"
            faults.append(Problem(path, line, message, utt))
    return [*faults, *key_differences(Scp(path, allow_pipes=True), base)]


def _bad_values(path):
    if path.name not in (*_NUMBERS, "utt2spk"):
        return []
    faults = ((line, utt, bad_value(path.name, value)) for line, (utt, value) in enumerate(read_rows(path), 1))
    return [Problem(path, line, f"'{utt}': {fault}", utt) for line, utt, fault in faults if fault]


def _bad_speakers(path, spk_sort):
    """Problems of the order of speakers, and of spk2utt against utt2spk."""
    found = []
    rows = read_table(path / "utt2spk")
    for line, (before, (utt, spk)) in enumerate(itertools.pairwise([(None, ""), *rows.items()]), 1):
        if spk_sort and spk < before[1]:
            message = f"speaker '{spk}' of '{utt}' comes after '{before[1]}': begin ids with the speaker and '-'"
            found.append(Problem(path / "utt2spk", line, f"{message}, or pass --no_spk_sort", utt))
            break  # the rest follows from the first
    file = path / "spk2utt"
    if not file.exists():
        return [*found, Problem(file, None, "missing; utils/fix_data_dir.sh makes it from utt2spk")]
    faults = [Problem(file, line, text) for line, text in problems(file, allow_pipes=True)]
    if faults:
        return found + faults
    expected = dict(spk2utt(rows.items()))
    for line, (spk, utts) in enumerate(read_rows(file), 1):
        if expected.pop(spk, None) != " ".join(utts.split()):
            message = f"the utterances of '{spk}' are not those of utt2spk; utils/fix_data_dir.sh makes the file again"
            found.append(Problem(file, line, message))
    found += [Problem(file, None, f"speaker '{spk}' of utt2spk is missing; {FIX}") for spk in expected]
    return found


def _bad_speaker_files(path, allow_pipes):
    """Problems of cmvn.scp, spk2gender and their like: each has a line for each speaker."""
    if not (path / "spk2utt").exists() or any(problems(path / "spk2utt", allow_pipes=True)):
        return []  # reported already
    found, speakers = [], read_table(path / "spk2utt")
    for name in speaker_files(path):
        pipes = allow_pipes or not name.endswith(".scp")
        faults = [Problem(path / name, line, text) for line, text in problems(path / name, pipes)]
        found += faults
        if faults:
            continue
        table = read_table(path / name)
        for line, (spk, value) in enumerate(table.items(), 1):
            if spk not in speakers:
                found.append(Problem(path / name, line, f"speaker '{spk}' is not in spk2utt; {FIX}"))
            elif name == "spk2gender" and value not in ("m", "f"):
                found.append(Problem(path / name, line, f"'{spk}': '{value}' found, m or f expected; mend the line"))
        lacking = (spk for spk in speakers if spk not in table)
        found += [Problem(path / name, None, f"speaker '{spk}' of spk2utt is missing; add a line") for spk in lacking]
    return found


class _Expected:
    """What the audio of utterance ``i`` has to be."""

    def __init__(self, path, sample_rate, channels, min_seconds, length_tolerance, segmented):
        self.sample_rate, self.min_seconds, self.length_tolerance = sample_rate, min_seconds, length_tolerance
        self.channels = 1 if channels is None and (path / "spk1.scp").exists() else channels
        self._lengths, self._rates = (
            read_ints_and_digest(path / name)[0] if (path / name).exists() and not segmented else None
            for name in ("utt2num_samples", "utt2fs")
        )

    def length(self, i):
        return None if self._lengths is None else int(self._lengths[i])

    def rate(self, i):
        return self.sample_rate if self.sample_rate or self._rates is None else int(self._rates[i])


def _check_audio(base, signals, expected, jobs, found):
    """Decode all; append to ``found``; return the AudioInfo of each utterance of ``base`` that is sound."""
    parts = [range(i, min(i + _CHECKED_AT_ONCE, len(base))) for i in range(0, len(base), _CHECKED_AT_ONCE)]

    def check_part(lines):
        return [_check_utterance(i, signals, expected) for i in lines]

    infos = []
    for results in parallel_map(check_part, parts, jobs, "checking audio, in parts of 64 utterances"):
        for faults, info in results:
            found += faults
            infos += [info] if info else []
    return infos


def _check_utterance(i, signals, expected):
    """(problems, AudioInfo of the first signal or None) of the signals of one utterance."""
    faults, first = [], None
    for scp in sorted(signals, key=lambda scp: scp.path.name != "wav.scp"):
        utt, value = scp.key(i), scp.value(i)
        if value.endswith("|"):
            continue
        exact = scp.path.name == "wav.scp" or expected.length_tolerance == 0
        try:
            info = audio.check(
                value,
                root=scp.root,
                sample_rate=first.sample_rate if first else expected.rate(i),
                channels=expected.channels,
                num_samples=expected.length(i) if exact else None,
                min_seconds=expected.min_seconds,
            )
        except audio.AudioError as error:
            faults.append(Problem(scp.path, i + 1, f"'{utt}': {error} [{error.reason}]", utt))
            continue
        first = first or info
        if abs(info.frames - first.frames) > expected.length_tolerance:
            message = f"'{utt}': {value} has {info.frames} samples, wav.scp {first.frames}; make both again [length]"
            faults.append(Problem(scp.path, i + 1, message, utt))
    return faults, first


def _durations(path, scps, infos):
    """(seconds, {rate: utterances}) from the audio itself, or else from what the manifests say."""
    if infos is not None:
        return sum(i.frames / i.sample_rate for i in infos), dict(collections.Counter(i.sample_rate for i in infos))
    rates = {}
    if "utt2fs" in scps:
        rates = dict(collections.Counter(read_ints_and_digest(path / "utt2fs")[0].tolist()))
    elif "wav.scp" in scps and not scps["wav.scp"].value(0).endswith("|"):
        try:  # the first file speaks for all, which --check_audio verifies
            rates = {audio.info(scps["wav.scp"].value(0), scps["wav.scp"].root).sample_rate: len(scps["wav.scp"])}
        except audio.AudioError:
            return None, {}
    if "utt2num_samples" not in scps or not rates:
        return None, rates
    lengths = read_ints_and_digest(path / "utt2num_samples")[0]
    if "utt2fs" in scps:
        return float((lengths / read_ints_and_digest(path / "utt2fs")[0]).sum()), rates
    return float(lengths.sum() / next(iter(rates))), rates
