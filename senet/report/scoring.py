"""Score a set of enhanced utterances, against their references where there are any, in shards for parallel jobs.

``OUT/shards/scores.<shard>.jsonl`` holds what was computed, one utterance per line, with digests of the audio and the
version of each metric. A score is computed again only if one of these changed, so a killed or repeated run reads the
audio and goes on where it was. ``collect`` turns the shards into ``OUT/scores/<metric>`` (``utt value``),
``OUT/scores.csv`` and ``OUT/summary.json``.
"""

import contextlib
import hashlib
import logging
import math
from pathlib import Path

import numpy as np

from senet import metrics, records
from senet.data.audio import AudioError, read
from senet.data.datadir import DataDir
from senet.data.parallel import progress
from senet.data.scp import Scp
from senet.errors import UserError
from senet.files import whole_file, write_json
from senet.report import results
from senet.report.statistics import mean_interval, paired_difference
from senet.shards import all_shards, my_shards, require_all

SHARD_SIZE = 32
_FULL_SCALE = 32767 / 32768
_SIGNALS = ("enhanced", "reference", "noisy")
_LISTED = 20  # failed utterances that the summary names for each reason; the scores have them all


class EnhancedSet:
    """The enhanced audio of a test set beside the set's data directory.

    Args:
        enhanced: scp of the enhanced audio.
        ref: data directory with wav.scp (noisy), utt2num_samples and, for references, spk1.scp (clean).
    Raises:
        UserError: the two are not about the same utterances.
    """

    def __init__(self, enhanced, ref):
        self.ref, self.name = str(ref), Path(ref).resolve().name
        self.enhanced, self.data = Scp(enhanced), DataDir(ref)
        _require_same_keys(self.enhanced, self.data.noisy if self.data.clean is None else self.data.clean)

    def __len__(self):
        return len(self.enhanced)

    def possible(self, names):
        """Those of the metrics that this set can be scored with: all, or without references those that need none.

        Raises:
            UserError: none of them.
        """
        if self.data.clean is not None:
            return names
        left_out = [name for name in names if metrics.find(name)[0].reference]
        if len(left_out) == len(names):
            raise UserError(
                f"{self.ref}: has no spk1.scp, and {', '.join(names)} need clean references; "
                "leave this set out, or score it with DNSMOS (dnsmos_ovrl, ...), too"
            )
        if left_out:
            logging.info("%s: has no references; left out: %s", self.name, " ".join(left_out))
        return [name for name in names if name not in left_out]

    def score(self, i, names, versions, known, known_versions):
        """The record of utterance ``i``: its audio's digests, and a value or a reason for each metric.

        Args:
            names: of the metrics.
            versions: of the metrics, by name.
            known, known_versions: records of an earlier run by utterance, and what it was done with.
        """
        utt = self.enhanced.key(i)
        before = known.get(utt, {"audio": {}})
        record = {"utt": utt, "audio": {}, "samples": 0, "clipped": 0, "scores": {}, "reasons": {}}
        needs = {name: _needs(name) for name in names}
        signals, problems = self._read(i, set().union(*needs.values()))
        record["audio"] = {k: records.audio_digest(x, rate) for k, (x, rate) in signals.items()}
        est, rate = signals.get("enhanced", (np.zeros(0), 0))
        ref, noisy = (signals.get(k, (None,))[0] for k in ("reference", "noisy"))
        record["samples"] = len(est)
        record["clipped"] = int(np.count_nonzero((est >= _FULL_SCALE) | (est <= -1)))
        unchanged = {k for k, digest in record["audio"].items() if before["audio"].get(k) == digest}
        for name in names:
            problem = next((reason for k, reason in problems.items() if k in needs[name]), None)
            if problem:
                value, reason = None, problem
            elif needs[name] <= unchanged and known_versions.get(name) == versions[name]:
                value, reason = before["scores"][name], before["reasons"].get(name)
            else:
                value, reason = metrics.compute(name, est, ref, rate, noisy)
            record["scores"][name] = None if reason else value
            if reason:
                record["reasons"][name] = reason
        return record

    def _read(self, i, needed):
        """``({signal: (samples, rate)}, {signal: reason why it cannot be used})``.

        The reference is read whether needed or not: systems compare only if theirs are the same.
        """
        signals, problems = {}, {}
        for what, scp in zip(_SIGNALS, (self.enhanced, self.data.clean, self.data.noisy), strict=True):
            if scp is None or (what == "noisy" and what not in needed):
                continue
            try:
                num_samples = None if what == "enhanced" else int(self.data.num_samples[i])
                x, rate = signals[what] = read(scp.value(i), root=scp.root, num_samples=num_samples)
                reason, detail = _fault(x, rate, signals.get("enhanced", (x, rate))[1])
            except AudioError as error:
                reason, detail = error.reason, str(error)
            else:
                detail = f"{scp.value(i)}: {detail}"
            if reason:
                problems[what] = f"{what} audio: {reason}"
                logging.warning("%s: %s", self.enhanced.key(i), detail)
        return signals, problems


def _needs(name):
    """The signals that a metric is computed from."""
    found, improvement = metrics.find(name)
    return {what for what, is_needed in zip(_SIGNALS, (True, found.reference, improvement), strict=True) if is_needed}


def _fault(x, rate, enhanced_rate):
    if x.ndim > 1:
        return "channels", f"has {x.shape[1]} channels, one expected"
    if rate != enhanced_rate:
        return "rate differs from the enhanced audio's", f"has {rate} Hz, the enhanced audio {enhanced_rate}"
    return None, None


def _require_same_keys(enhanced, reference):
    if enhanced.keys_digest == reference.keys_digest:
        return
    ours, theirs = ({scp.key(i) for i in range(len(scp))} for scp in (enhanced, reference))
    sentences = [f"{enhanced.path}: not the utterances of {reference.path}"]
    for keys, words in ((theirs - ours, "missing"), (ours - theirs, "without a reference")):
        if keys:
            sentences.append(f"{len(keys)} {words}, such as '{min(keys)}'")
    raise UserError("; ".join(sentences) + ". Enhance exactly this set (stage enhance), or give its own --ref")


def score_shards(audio_set, out, names, job=None):
    """Compute the shards of one job; see the module's docstring."""
    versions = {name: metrics.find(name)[0].version for name in names}
    shards = my_shards(len(audio_set), SHARD_SIZE, job)
    work = [(shard, i) for shard in shards for i in range(shard.start, shard.stop)]
    for shard, i in progress(work, len(work), f"score {audio_set.name}"):
        path = _shard_path(out, shard)
        if i == shard.start:
            header, known = records.previous(path)
            done = []
        done.append(audio_set.score(i, names, versions, known, header.get("versions", {})))
        if i == shard.stop - 1 and (header != {"versions": versions} or done != list(known.values())):
            records.write(path, {"versions": versions}, done)


def _shard_path(out, shard):
    return Path(out) / "shards" / f"scores.{shard.name}.jsonl"


def collect(audio_set, out, names, noisy_scores=None):
    """Write the final files from the shards.

    Args:
        noisy_scores: folder of the unprocessed input's scores of the same set; adds paired differences to the summary.
    Returns:
        the summary, as written to summary.json.
    """
    out = Path(out)
    shards = all_shards(len(audio_set), SHARD_SIZE)
    require_all([_shard_path(out, shard) for shard in shards], "senet.bin.score")
    noisy = results.Result(noisy_scores) if noisy_scores else None
    versions = {name: metrics.find(name)[0].version for name in names}
    values = {name: np.full(len(audio_set), math.nan) for name in names}
    failures = {name: {} for name in names}
    clipped, references = np.zeros(len(audio_set), np.int64), hashlib.sha256()
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(whole_file(out / "scores" / name)) for name in names}
        table = stack.enter_context(whole_file(out / "scores.csv"))
        table.write(",".join(["utt", *names, "samples", "clipped"]) + "\n")
        for shard in shards:
            path = _shard_path(out, shard)
            header, found = records.read(path)
            utts = [audio_set.enhanced.key(i) for i in range(shard.start, shard.stop)]
            if header["versions"] != versions or [r["utt"] for r in found] != utts:
                raise UserError(f"{path}: of a run with other utterances or metrics; run without --collect first")
            for i, record in enumerate(found, shard.start):
                utt, clipped[i] = record["utt"], record["clipped"]
                references.update(record["audio"].get("reference", "-").encode())
                scores = {name: results.finite_or_nan(record["scores"][name]) for name in names}
                for name, value in scores.items():
                    values[name][i] = value
                    files[name].write(f"{utt} {value!r}\n")
                    if reason := record["reasons"].get(name):
                        failures[name].setdefault(reason, []).append(utt)
                row = [utt, *map(repr, scores.values()), record["samples"], record["clipped"]]
                table.write(",".join(map(str, row)) + "\n")
    summary = {
        "test_set": audio_set.name,
        "enhanced": str(audio_set.enhanced.path),
        "ref": audio_set.ref,
        "n": len(audio_set),
        "utterances": audio_set.enhanced.keys_digest.hex(),
        "references": references.hexdigest(),
        "clipped": {"files": int(np.count_nonzero(clipped)), "samples": int(clipped.sum())},
        "metric_order": list(names),
        "metrics": {name: _summarise(name, values[name], failures[name], versions[name]) for name in names},
    }
    if noisy:
        results.require_comparable(noisy.summary, summary, noisy.path, out, names)
        for name in names:
            difference = paired_difference(values[name], noisy.scores(name)[1])
            summary["metrics"][name]["over_noisy"] = _plain(difference)
    write_json(out / "summary.json", summary)
    return summary


def _summarise(name, values, failures, version):
    scored = values[np.isfinite(values)]
    return {
        **_plain(mean_interval(scored)),
        "std": float(scored.std(ddof=1)) if len(scored) > 1 else None,
        "failed": len(values) - len(scored),
        "reasons": {reason: {"n": len(utts), "utts": utts[:_LISTED]} for reason, utts in sorted(failures.items())},
        "version": version,
    }


def _plain(mean):
    """A Mean for JSON, which has no nan."""
    number = {k: v if math.isfinite(v) else None for k, v in mean._asdict().items()}
    return {"mean": number["mean"], "interval": [number["low"], number["high"]], "n": mean.n}
