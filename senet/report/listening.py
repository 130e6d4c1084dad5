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
        number = {utt: i for i, utt in enumerate(comparison.utts)}
        return [(utt, None, float(values[number[utt]])) for utt in utterances if utt in number]
    order = np.argsort(ranked, kind="stable")[: np.count_nonzero(np.isfinite(ranked))]  # nan sorts last
    places = [50.0] if count == 1 else sorted(np.linspace(0, 100, count), key=lambda p: (p != 50, -abs(p - 50), -p))
    chosen = {}
    for place in places if len(order) else ():
        i = order[round(place / 100 * (len(order) - 1))]
        chosen.setdefault(comparison.utts[i], (comparison.utts[i], float(place), float(values[i])))
    return list(chosen.values())


class Recordings:
    """The audio of one test set: the noisy input, the systems', and the clean references where there are any.

    Args:
        comparison: of the test set.
    """

    def __init__(self, comparison):
        found = {s: _opened(Scp, comparison.result(s).summary["enhanced"]) for s in comparison.systems}
        data = _opened(DataDir, comparison.result(comparison.systems[0]).summary["ref"])
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
        signals = {source: _read(scp, utt) for source, scp in self.sources.items()}
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


def _opened(kind, path):
    try:
        return kind(path)
    except (UserError, OSError) as error:
        logging.warning("no audio: %s", error)
        return "the list of its audio is not there any more"


def _read(scp, utt):
    """(samples, rate, whether it was shortened), or a reason."""
    if isinstance(scp, str):
        return scp
    try:
        x, rate = read(scp[utt], root=scp.root)
    except AudioError as error:
        logging.warning("%s: %s", utt, error)
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
