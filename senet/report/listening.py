"""Recordings for the HTML report: which utterances to hear, their spectrograms on one scale, and their audio."""

import base64
import io
import logging

import numpy as np

from senet import metrics
from senet.data.audio import AudioError, read
from senet.data.datadir import DataDir
from senet.data.scp import Scp
from senet.dsp.spectrogram import png, power_db
from senet.errors import UserError
from senet.report.charts import Axis, number

SECONDS = 12  # of an utterance are played and shown


def choose(comparison, count, utterances=()):
    """What to listen to on a test set: [(utt, place, value)], the most telling first.

    The utterances are spread evenly from the worst, place 0, to the best, 100, of the first metric: ranked by the mean
    improvement of the systems over the baseline, or without a baseline by their mean score, which is the ``value``.

    Args:
        comparison: senet.report.comparison.Comparison.
        count: how many.
        utterances: ids to choose instead, of which those count that the set has; their place is None.
    """
    metric = comparison.metrics[0]
    systems = [s for s in comparison.systems if s is not comparison.baseline] or comparison.systems
    ranked = np.stack([comparison.oriented(s, metric) for s in systems])
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
        queue += [(rank, number_of_set, recordings, one) for rank, one in enumerate(chosen)]
    for _, i, recordings, (utt, place, value) in sorted(queue, key=lambda q: q[:2]):
        takes = recordings.takes(utt)
        size = sum(len(part) + 1000 for _, take in takes for part in take.values() if isinstance(part, str))
        if all("missing" in take for _, take in takes):
            sets[i]["unheard"].append((utt, takes[0][1]["missing"]))
        elif size > room:
            sets[i]["unheard"].append((utt, "size"))
        else:
            room -= size
            sets[i]["utterances"].append(_utterance(comparisons[i], utt, place, value, takes))
    if missing:
        logging.warning("%d lists of audio or files cannot be read; the first: %s", len(missing), missing[0])


def _utterance(comparison, utt, place, value, takes):
    i, metric = comparison.utts.index(utt), comparison.metrics[0]
    label, digits = metrics.label(metric), metrics.find(metric)[0].digits
    of = f"{label} {number(value, digits, bool(comparison.baseline))}"
    over = f" over {comparison.baseline.name}" if comparison.baseline else ""
    over += ", mean of the systems" if len(comparison.systems) > 1 + bool(comparison.baseline) else ""
    labels = {name: values[i] for name, values in comparison.labels.items() if name != "seconds"}
    heard = [take for _, take in takes if "audio" in take]
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
                "scores": []
                if isinstance(source, str)
                else [(metrics.find(m)[0], comparison.scores(source, m)[i]) for m in comparison.metrics[:2]],
            }
            for source, take in takes
        ],
    }


def _named(column):
    return column.replace("_", " ").replace("snr", "SNR")


def _place(place):
    """What an utterance's rank, 0 (worst) to 100 (best), is called."""
    if place is None:
        return "Asked for"
    return {0: "Worst", 50: "Median", 100: "Best"}.get(place) or f"Better than {place:.0f} % of the utterances"


class Recordings:
    """The audio of one test set: the noisy input, the systems', and the clean references where there are any.

    Args:
        comparison: of the test set.
        missing: list to which errors are added, one for each list or file that cannot be read.
    """

    def __init__(self, comparison, missing):
        self._missing = missing
        found = {s: self._opened(Scp, comparison.result(s).summary["enhanced"]) for s in comparison.systems}
        data = self._opened(DataDir, comparison.result(comparison.systems[0]).summary["ref"])
        noisy, clean = (data, data) if isinstance(data, str) else (data.noisy, data.clean)
        unprocessed = next((s for s in found if s.is_noisy), "noisy")
        self.sources = {unprocessed: found.get(unprocessed, noisy), "clean": clean} | found
        if clean is None:
            del self.sources["clean"]

    def takes(self, utt):
        """[(source, take)]: a system, "noisy" or "clean", and a dict for the page.

        A take has ``seconds``, ``rate``, ``audio`` and ``picture`` (data URIs), ``top`` (kHz, the same for all), and
        whether it was ``shortened``; or only ``missing``, the reason why it cannot be heard.
        """
        signals = {source: self._read(scp, utt) for source, scp in self.sources.items()}
        heard = [s for s in signals.values() if not isinstance(s, str)]
        if not heard:
            return [(source, {"missing": reason}) for source, reason in signals.items()]
        top = max(rate for _, rate, _ in heard) / 2
        seconds = max(len(x) / rate for x, rate, _ in heard)
        spectra = {k: power_db(s[0], s[1], seconds, top) for k, s in signals.items() if not isinstance(s, str)}
        loudest = max(s.max() for s in spectra.values())
        return [
            (
                source,
                {"missing": signal}
                if isinstance(signal, str)
                else {
                    "seconds": seconds,
                    "top": top / 1000,
                    "shortened": signal[2],
                    "audio": _flac(*signal[:2]),
                    "picture": _data_uri("image/png", png(spectra[source] - loudest)),
                },
            )
            for source, signal in signals.items()
        ]

    def _opened(self, kind, path):
        try:
            return kind(path)
        except (UserError, OSError) as error:
            self._missing.append(error)
            return "the list of its audio is not there any more"

    def _read(self, scp, utt):
        """(samples, rate, whether it was shortened), or a reason."""
        if isinstance(scp, str):
            return scp
        try:
            x, rate = read(scp[utt], root=scp.root)
        except AudioError as error:
            self._missing.append(error)
            return f"its audio cannot be read: {error.reason}"
        except KeyError:
            return "its list of audio does not have this utterance"
        x = x if x.ndim == 1 else x[:, 0]
        return x[: SECONDS * rate], rate, len(x) > SECONDS * rate


def _flac(x, rate):
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(np.nan_to_num(x), -1, 1), rate, format="FLAC", subtype="PCM_16")
    return _data_uri("audio/flac", buffer.getvalue())


def _data_uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
