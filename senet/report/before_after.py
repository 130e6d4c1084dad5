"""Recordings before and after enhancement as one HTML file to look at, sort and listen to; it needs no network.

It stays small, however much was enhanced: of many recordings some are shown, of a long one its loudest part. Levels are
those of the whole recordings.
"""

import math
from pathlib import Path

import numpy as np

from senet.data.stored import decode, fault, open_entry
from senet.dsp.level import mean_square
from senet.errors import UserError
from senet.files import whole_file
from senet.report import listening, template
from senet.report.charts import Axis
from senet.report.origin import how_made
from senet.report.page import quantity

MOST = 20  # recordings are shown
MEGABYTES = 25


def write(
    path, recordings, model=None, command=None, failed=(), title="Before and after", most=MOST, megabytes=MEGABYTES
):
    """Write the page.

    Args:
        path: of the HTML file.
        recordings: list of (name, path before, path after); both of the same rate, channels and length.
        model: the senet.infer.enhance.Enhancer that was used, or None.
        command: the words it was called with, a string.
        failed: of recordings that could not be enhanced, the reason, which names each.
        title: heading.
        most: how many recordings are shown at most; of more, as many are spread evenly over the list.
        megabytes: the file's largest size, of 2^20 bytes; recordings that do not fit have their levels, but no players.
    Raises:
        UserError: the file cannot be written.
    """
    text = page(recordings, model, command, failed, title, most, megabytes)
    with whole_file(path) as f:
        f.write(text)


def page(recordings, model=None, command=None, failed=(), title="Before and after", most=MOST, megabytes=MEGABYTES):
    """The text that ``write`` writes."""
    if len(shown := list(recordings)) > most:
        shown = [shown[round(i)] for i in np.linspace(0, len(shown) - 1, most)]
    rows, missing = [], list(failed)
    for name, *paths in shown:
        try:
            rows.append(_Row(name, [open_entry(Path(path), None) for path in paths]))
        except UserError as error:
            missing.append(error)
    values = {
        "title": title,
        "command": command,
        "total": len(recordings) + len(failed),
        "rows": rows,
        "missing": missing,
        "model": model and _made(model),
        "seconds": listening.SECONDS,
        "megabytes": megabytes,
    }
    room = megabytes * template.MB - len(template.page("before_after", values).encode())
    for i, row in enumerate(rows, 1):
        found = row.utterance(f"recording-{i}")
        if (size := listening.size(found["takes"])) <= room:
            room, row.heard = room - size, found
    return template.page("before_after", values)


class _Row:
    """What the page says of one recording: its form, and ``levels`` {"before", "after", "removed"}.

    Args:
        name: that it is shown by.
        entries: Entry before and after.
    Attributes:
        heard: what ``utterance`` gave, where it is on the page.
    Raises:
        AudioError: a recording is damaged, or the two have different forms.
    """

    def __init__(self, name, entries):
        before, after = forms = [entry.info[:3] for entry in entries]
        if before != after:
            forms = (f"{frames} samples of {channels} channels at {rate} Hz" for rate, channels, frames in forms)
            raise fault(entries[1].where, "form", f"has {' after, and '.join(reversed(list(forms)))} before")
        self.name, self.heard, self._entries = name, None, entries
        self.rate, self.channels, self.frames = before
        self.seconds = self.frames / self.rate
        self._excerpt = min(self.frames, listening.SECONDS * self.rate)
        self.levels = {take: _Level() for take in ("before", "after", "removed")}
        starts = range(0, self.frames, self._excerpt)
        energies = [self._measure(start) for start in starts]
        loudest = starts[int(np.argmax(energies))]
        self._start = min(loudest, self.frames - self._excerpt)

    def _takes(self, start):
        before, after = (decode(e, start, min(self._excerpt, self.frames - start)) for e in self._entries)
        return {"before": before, "after": after, "removed": before - after}

    def _measure(self, start):
        """Count a piece in; returns how much energy it has before."""
        return [self.levels[take].add(x) for take, x in self._takes(start).items()][0]

    def utterance(self, id):
        """For ``utterance`` of template_parts.html."""
        takes = {take: (x.reshape(len(x), -1)[:, 0], self.rate) for take, x in self._takes(self._start).items()}
        takes = listening.recordings_of(takes)
        seconds, start = self._excerpt / self.rate, self._start / self.rate
        said = [f"{template.length(self.seconds)} at {self.rate / 1000:g} kHz"]
        said += [f"{template.length(seconds)} from {_clock(start)} on, where it is loudest"] * (seconds < self.seconds)
        said += [f"the first of {self.channels} channels"] * (self.channels > 1)
        return {
            "id": id,
            "utt": self.name,
            "why": " · ".join(said),
            "labels": {},
            "seconds": seconds,
            "axis": Axis([start, start + seconds], margin=0),
            "takes": [take | {"name": _TAKES[name]} for name, take in takes],
        }


_TAKES = {"before": "before", "after": "after", "removed": "removed: before − after"}


class _Level:
    """Level of a signal that comes in pieces."""

    def __init__(self):
        self._samples, self._energy, self._peak = 0, 0.0, 0.0

    def add(self, x):
        energy = mean_square(x.reshape(-1)) * x.size
        self._samples, self._energy = self._samples + x.size, self._energy + energy
        self._peak = max(self._peak, float(np.abs(x).max()))
        return energy

    @property
    def rms_db(self):
        """dB of full scale; None for silence."""
        return 10 * math.log10(self._energy / self._samples) if self._energy else None

    @property
    def peak_db(self):
        return 20 * math.log10(self._peak) if self._peak else None


def _clock(seconds):
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _made(model):
    """What the model was, for ``how_made`` of template_parts.html; of a pack's training what is a number or a word."""
    info, waits = model.info, "the whole recording"
    if model.latency is not None:
        waits = f"{1000 * model.latency / model.sample_rate:g} ms"
    facts = {
        "model": info.get("model"),
        "sample rate": f"{model.sample_rate} Hz",
        "latency": waits,
        "parameters": quantity(info["parameters"]) if "parameters" in info else None,
        "licence": info.get("licence"),
        "description": info.get("description"),
    }
    training = info.get("training", {})
    told = {name.replace("_", " "): training.get(name) for name in _TRAINING}
    facts |= {name: value for name, value in told.items() if isinstance(value, str | int | float)}
    made = how_made(info.get("name") or type(model.model).__name__, {}, info.get("model_conf"))
    return made | {"facts": [(name, value) for name, value in facts.items() if value not in (None, "")]}


_TRAINING = "recipe", "checkpoint", "seed", "epochs", "updates", "training_seconds", "validation_loss", "written"
