"""Recordings for the HTML report: which utterances to hear, their spectrograms on one scale, and their audio."""

import base64
import io
import logging
import os
from pathlib import Path

import numpy as np

from senet import metrics, records
from senet.data.audio import AudioError, read
from senet.data.scp import Scp
from senet.dsp.spectrogram import png, power_db
from senet.errors import UserError
from senet.report import scoring
from senet.report.charts import Axis, number

SECONDS = 12  # of an utterance are played and shown


def choose(comparison, count, utterances=()):
    """What to listen to on a test set: [(utt, place, value)], the most telling first.

    The utterances are spread evenly from the worst, place 0, to the best, 100, of the leading metric: ranked by the
    ``value``, the mean improvement of the systems over the baseline, or without a baseline their mean score.

    Args:
        comparison: senet.report.comparison.Comparison.
        count: how many.
        utterances: ids to choose instead, of which those count that the set has; their place is None.
    """
    metric = leading_metric(comparison)
    ranked = np.stack([comparison.oriented(s, metric) for s in _but_baseline(comparison)])
    found = np.isfinite(ranked)
    ranked = np.where(found, ranked, 0).sum(axis=0) / np.where(found.any(axis=0), found.sum(axis=0), np.nan)
    values = -ranked if metrics.find(metric)[0].lower_is_better else ranked
    if utterances:
        line = {utt: i for i, utt in enumerate(comparison.utts)}
        return [(utt, None, float(values[line[utt]])) for utt in utterances if utt in line]
    order = np.argsort(ranked, kind="stable")[: np.count_nonzero(np.isfinite(ranked))]  # nan sorts last
    places = [50.0] if count == 1 else sorted(np.linspace(0, 100, count), key=lambda p: (p != 50, -abs(p - 50), -p))
    chosen = {}
    for place in places if len(order) else ():
        i = order[round(place / 100 * (len(order) - 1))]
        chosen.setdefault(comparison.utts[i], (comparison.utts[i], float(place), float(values[i])))
    return list(chosen.values())


def leading_metric(comparison):
    """That of which most systems have something to choose by; of several the first."""
    systems = _but_baseline(comparison)
    having = {m: sum(np.isfinite(comparison.oriented(s, m)).any() for s in systems) for m in comparison.metrics}
    return max(having, key=having.get)


def _but_baseline(comparison):
    return [s for s in comparison.systems if s is not comparison.baseline] or comparison.systems


def add_recordings(sets, comparisons, audio, utterances, room):
    """Put what can be heard into ``sets``, the most telling utterances of each set first, while there is room.

    Args:
        sets: the page's dict of each test set, with lists of ``utterances`` and of those ``unheard``.
        comparisons: the same sets.
        audio, utterances: how many, or which; see ``choose``.
        room: largest number of bytes.
    """
    queue, missing = [], []
    for number_of_set, comparison in enumerate(comparisons):
        recordings = Recordings(comparison, missing)
        chosen = choose(comparison, audio, utterances)
        sets[number_of_set]["chosen_by"] = metrics.label(leading_metric(comparison))
        sets[number_of_set]["none_chosen"] = bool(audio) and not chosen
        queue += [(rank, number_of_set, recordings, one) for rank, one in enumerate(chosen)]
    for _, i, recordings, (utt, place, value) in sorted(queue, key=lambda q: q[:2]):
        takes = recordings_of(recordings.signals(utt))
        needed = size(take for _, take in takes)
        if all("missing" in take for _, take in takes):
            sets[i]["unheard"].append((utt, takes[0][1]["missing"]))
        elif needed > room:
            sets[i]["unheard"].append((utt, "size"))
        else:
            room -= needed
            sets[i]["utterances"].append(_utterance(comparisons[i], utt, place, value, takes))
    if missing:
        logging.warning("%d recordings, or lists of them, cannot be heard; the first: %s", len(missing), missing[0])


def size(takes):
    """How many bytes of a page the dicts of ``recordings_of`` need."""
    return sum(len(part) + 1000 for take in takes for part in take.values() if isinstance(part, str))


def _utterance(comparison, utt, place, value, takes):
    i, metric = comparison.utts.index(utt), leading_metric(comparison)
    label, digits = metrics.label(metric), metrics.find(metric)[0].digits
    of = f"{label} {number(value, digits, comparison.has_differences(metric))}"
    over = f" over {comparison.baseline.name}" if comparison.has_differences(metric) else ""
    over += ", mean of the systems" if len(comparison.systems) > 1 + bool(comparison.baseline) else ""
    labels = {name: values[i] for name, values in comparison.labels.items() if name != "seconds"}
    heard = [take for _, take in takes if "audio" in take]
    told = sorted(comparison.metrics, key=lambda name: name != metric)[:2]
    return {
        "utt": utt,
        "why": f"{_place(place)}: {of}{over}",
        "labels": {_named(k): f"{v:g}".replace("-", "−") if isinstance(v, float) else v for k, v in labels.items()},
        "seconds": heard[0]["seconds"],
        "shortened": any(take["shortened"] for take in heard),
        "axis": Axis([0, heard[0]["seconds"]], margin=0),
        "takes": [
            take
            | {
                "name": getattr(source, "name", source),
                "system": not isinstance(source, str),
                "said": "" if isinstance(source, str) else " · ".join(_score(comparison, source, m, i) for m in told),
            }
            for source, take in takes
        ],
    }


def _score(comparison, system, metric, i):
    return f"{metrics.label(metric)} {number(comparison.scores(system, metric)[i], metrics.find(metric)[0].digits)}"


def _named(column):
    return column.replace("_", " ").replace("snr", "SNR")


def _place(place):
    """What an utterance's rank, 0 (worst) to 100 (best), is called."""
    if place is None:
        return "Asked for"
    return {0: "Worst", 50: "Median", 100: "Best"}.get(place) or f"Better than {place:.0f} % of the utterances"


class Recordings:
    """The audio of one test set: the noisy input, the systems', and the clean references where there are any.

    Only what was scored is played: audio whose digest is not that in the shards of the scores is refused.

    Args:
        comparison: of the test set.
        missing: list to which errors are added, one for each list or file that cannot be played.
    """

    def __init__(self, comparison, missing):
        self._comparison, self._missing = comparison, missing
        self._results = {s: comparison.result(s) for s in comparison.systems}
        found = {s: self._opened(s.name, _enhanced(result)) for s, result in self._results.items()}
        refs = [_located(result, "ref") for result in self._results.values()]
        ref = next((ref for ref in refs if ref.exists()), refs[0])
        lists = {"noisy": ref / "wav.scp", "clean": ref / "spk1.scp"}
        lists = {source: path for source, path in lists.items() if path.exists()} or lists  # of folders: maybe one
        unprocessed = {s: scp for s, scp in found.items() if s.is_noisy}
        if unprocessed:
            lists.pop("noisy", None)
        self.sources = unprocessed | {source: self._opened(source, path) for source, path in lists.items()} | found

    def signals(self, utt):
        """{source: (samples, rate in Hz) or the reason why it cannot be heard}; sources: systems, "noisy", "clean"."""
        return {source: self._read(source, utt) for source in self.sources}

    def _opened(self, name, path):
        try:
            return Scp(path)
        except (UserError, OSError) as error:
            reason = f"{path}: {error.strerror}" if isinstance(error, OSError) else error
            self._missing.append(f"{name}: {reason}")
            return "the list of its audio is not there any more"

    def _read(self, source, utt):
        scp, name = self.sources[source], getattr(source, "name", source)
        if isinstance(scp, str):
            return scp
        try:
            x, rate = read(scp[utt], root=scp.root)
        except AudioError as error:
            self._missing.append(f"{name}: {error}")
            return f"its audio cannot be read: {error.reason}"
        except KeyError:
            return "its list of audio does not have this utterance"
        scored = self._scored(source, utt)
        if scored == records.audio_digest(x, rate):
            return x if x.ndim == 1 else x[:, 0], rate
        if scored is None:
            problem = "it is not on record which audio was scored; score the set again"
        else:
            problem = "its audio is not that which was scored; enhance and score the set again"
        self._missing.append(f"{name}: {scp.root / scp[utt]}: {problem}")
        return problem

    def _scored(self, source, utt):
        """Digest of the audio that was scored, or None."""
        i = self._comparison.utts.index(utt)
        if source in self._results:
            return scoring.audio_digests(self._results[source].path, i, utt).get("enhanced")
        what = {"clean": "reference"}.get(source, source)
        found = (scoring.audio_digests(result.path, i, utt).get(what) for result in self._results.values())
        return next(filter(None, found), None)


def _enhanced(result):
    """The list of a system's audio: beside its scores, or where it was when it was scored."""
    beside = result.path / "wav.scp"
    return beside if beside.exists() else _located(result, "enhanced")


def _located(result, key):
    """A path in a summary starts from the summary's folder; in older ones from one above it, the recipe's."""
    path, folder = result.summary.get(key, ""), result.path.resolve()
    paths = [Path(os.path.normpath(above / path)) for above in (folder, *folder.parents)]
    return next((p for p in paths if p.exists()), paths[0])


def recordings_of(signals):
    """[(source, take)] of ``Recordings.signals``: dicts for the page.

    A take has ``seconds``, ``audio`` and ``picture`` (data URIs), ``top`` (kHz, the same for all), and
    whether it was ``shortened``; or only ``missing``, the reason why it cannot be heard.
    """
    heard = {source: (s[0][: SECONDS * s[1]], s[1]) for source, s in signals.items() if not isinstance(s, str)}
    if not heard:
        return [(source, {"missing": reason}) for source, reason in signals.items()]
    top = max(rate for _, rate in heard.values()) / 2
    seconds = max(len(x) / rate for x, rate in heard.values())
    spectra = {source: power_db(*s, seconds, top) for source, s in heard.items()}
    loudest = max(s.max() for s in spectra.values())
    return [
        (
            source,
            {"missing": signal}
            if isinstance(signal, str)
            else {
                "seconds": seconds,
                "top": top / 1000,
                "shortened": len(signal[0]) > len(heard[source][0]),
                "audio": _flac(*heard[source]),
                "picture": _data_uri("image/png", png(spectra[source] - loudest)),
            },
        )
        for source, signal in signals.items()
    ]


def _flac(x, rate):
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(np.nan_to_num(x), -1, 1), rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", buffer.getvalue())


def _data_uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
