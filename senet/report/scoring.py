"""Score a set of enhanced utterances, against their references where there are any, in shards for parallel jobs.

``OUT/shards/scores.<shard>.jsonl`` holds what was computed, one utterance per line, with digests of the audio and the
version of each metric. A score is computed again only if one of these changed, so a killed or repeated run reads the
audio and goes on where it was. ``collect`` turns the shards into ``OUT/scores/<metric>`` (``utt value``),
``OUT/scores.csv`` and ``OUT/summary.json``.
"""

import contextlib
import csv
import functools
import hashlib
import itertools
import logging
import math
import os
import platform
import time
from pathlib import Path

import numpy as np

from senet import metrics, provenance, records
from senet.data.audio import EXTENSIONS, AudioError, find_audio, read
from senet.data.datadir import DataDir
from senet.data.naming import slug
from senet.data.parallel import progress
from senet.data.scp import Scp, read_floats, write_table
from senet.errors import UserError
from senet.files import whole_file, write_json
from senet.processes import process_map
from senet.report import results
from senet.report.statistics import mean_interval, paired_difference
from senet.shards import Shard, all_shards, my_shards, require_all

SHARD_SIZE = 32
SAVE_EVERY = 10  # seconds after which what is scored of a shard is written, for a run that is killed
_FULL_SCALE = 32767 / 32768
_SIGNALS = ("enhanced", "reference", "noisy", "enhanced_clean")
_NUMERIC = {"utt2snr", "utt2snr_estimated", "utt2level"}
_LISTED = 20  # failed utterances that the summary names for each reason; the scores have them all


class _Recordings:
    """References and noisy recordings that are no data directory: an scp or a folder of audio each, no labels.

    Attributes: as of DataDir.
    """

    def __init__(self, clean, noisy, lists):
        self.path = lists
        self.clean = listed(clean, lists / "spk1.scp")
        self.noisy = noisy and listed(noisy, lists / "wav.scp")

    def table(self, name):
        return None


def listed(path, scp):
    """The Scp of audio files: ``path`` itself, or one written to ``scp`` of all audio in that folder, at any depth.

    Ids are the files' names from the folder on, without their endings.

    Raises:
        UserError: the folder has no audio, or two files of one id.
    """
    if not Path(path).is_dir():
        return Scp(path)
    found = {}
    for file in find_audio(path):
        utt = slug(file.relative_to(path).with_suffix("").as_posix().replace("/", "-"))
        if utt in found:
            raise UserError(f"{file}: {found[utt]} would be '{utt}', too; keep one of them")
        found[utt] = file
    if not found:
        raise UserError(f"{path}: holds no audio ({', '.join(EXTENSIONS)}); give a folder of recordings, or an scp")
    write_table(scp, [(utt, file.resolve()) for utt, file in found.items()])
    return Scp(scp)


class EnhancedSet:
    """The enhanced audio of a test set beside its references.

    Args:
        enhanced: scp or folder of the enhanced audio.
        ref: data directory with wav.scp (noisy) and, for references, spk1.scp (clean); or scp or folder of references.
        enhanced_clean: scp or folder of what the system makes of the clean audio, for the few metrics that take it.
        noisy: where ``ref`` is no data directory, scp or folder of the noisy audio, for improvements.
        lists: folder for the scp files of what was given as folders.
    Attributes:
        labels: {column of scores.csv: Scp} of what the data directory says about the utterances.
    Raises:
        UserError: the two are not about the same utterances, or a label that is to be a number is none.
    """

    def __init__(self, enhanced, ref, enhanced_clean=None, noisy=None, lists=Path("lists")):
        self.name = Path(ref).resolve().name.removesuffix(".scp")
        if (Path(ref) / "wav.scp").exists() or (Path(ref) / "spk1.scp").exists():
            if noisy:
                raise UserError(f"--noisy {noisy}: the data directory --ref {ref} has its own, wav.scp; leave it out")
            self.data = DataDir(ref)
        else:
            self.data = _Recordings(ref, noisy, lists)
        self.ref = str(self.data.path)
        self.enhanced = listed(enhanced, lists / "enhanced.scp")
        self.enhanced_clean = enhanced_clean and listed(enhanced_clean, lists / "enhanced_clean.scp")
        for scp in (self.data.clean, self.data.noisy, self.enhanced_clean):
            if scp is not None:
                _require_same_keys(self.enhanced, scp)
        tables = {file: self.data.table(file) for file in results.LABELS.values()}
        self.labels = {file: table for file, table in tables.items() if table is not None}
        for column in _NUMERIC & self.labels.keys():
            read_floats(self.labels[column].path)  # or a refusal that names the line

    def __len__(self):
        return len(self.enhanced)

    @functools.cached_property
    def num_samples(self):
        """int64 (len,): samples that each utterance should have; None where there is no utt2num_samples."""
        return self.data.num_samples if (self.data.path / "utt2num_samples").exists() else None

    def possible(self, names):
        """Those of the metrics that this set can be scored with: all, or without references those that need none.

        Raises:
            UserError: none of them; or one needs audio that was not given.
        """
        for name in names:
            if self.enhanced_clean is None and "enhanced_clean" in metrics.find(name)[0].also:
                raise UserError(
                    f"{name}: compares with the system's output for the clean audio; enhance {self.ref}/spk1.scp, too, "
                    "and give the scp of that as --enhanced_clean"
                )
            if self.data.noisy is None and "noisy" in _needs(name):
                raise UserError(f"{name}: is the improvement over the noisy input; give that, too, as --noisy")
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

    def score(self, i, names, versions, before, noisy_before):
        """The record of utterance ``i``: its audio's digests, and a value or a reason for each metric.

        Args:
            names: of the metrics.
            versions: of the metrics, by name.
            before: ``(record, versions)`` of an earlier run; the record is None where there is none.
            noisy_before: the same of the unprocessed input, which improvements then need not score again.
        """
        known, known_versions = before
        needs = {name: _needs(name) for name in names}
        signals, problems = self._read(i, set().union(*needs.values()))
        est, rate = signals.get("enhanced", (np.zeros(0), 0))
        others = [signals.get(k, (None,))[0] for k in ("noisy", "enhanced_clean")]
        ref = signals.get("reference", (None,))[0]
        record = {
            "utt": self.enhanced.key(i),
            "audio": {k: records.audio_digest(*signal) for k, signal in signals.items()},
            "rate": rate or signals.get("reference", (None, None))[1],
            "samples": len(est),
            "clipped": int(np.count_nonzero((est >= _FULL_SCALE) | (est <= -1))),
            "scores": {},
            "reasons": {},
        }
        unchanged = {k for k, digest in record["audio"].items() if known and known["audio"].get(k) == digest}
        for name in names:
            problem = next((reason for k, reason in problems.items() if k in needs[name]), None)
            if problem:
                value, reason = None, problem
            elif needs[name] <= unchanged and known_versions.get(name) == versions[name]:
                value, reason = known["scores"][name], known["reasons"].get(name)
            elif base := _known_base(name, versions[name], record["audio"], *noisy_before):
                value, reason = metrics.compute(base, est, ref, rate)
                noisy = noisy_before[0]
                if reason is None and base in noisy["reasons"]:
                    reason = f"noisy input: {noisy['reasons'][base]}"
                elif reason is None:
                    value -= noisy["scores"][base]
            else:
                value, reason = metrics.compute(name, est, ref, rate, *others)
            record["scores"][name] = None if reason else value
            if reason:
                record["reasons"][name] = reason
        if not problems:
            self._tell(i, record["reasons"], signals)
        return record

    def _tell(self, i, reasons, signals):
        """Log once for each reason which files these are, and how long and loud."""
        for reason in sorted(set(reasons.values())):
            if not reason.startswith("not computed"):
                files = [
                    f"{scp.value(i)}: {len(x)} samples at {rate} Hz, peak {np.abs(x).max(initial=0):.3g}"
                    for scp, (x, rate) in ((scp, signals[what]) for what, scp in self._scps() if what in signals)
                ]
                names = " ".join(name for name in reasons if reasons[name] == reason)
                logging.warning("%s: no %s: %s (%s)", self.enhanced.key(i), names, reason, "; ".join(files))

    def _scps(self):
        return zip(_SIGNALS, (self.enhanced, self.data.clean, self.data.noisy, self.enhanced_clean), strict=True)

    def _read(self, i, needed):
        """``({signal: (samples, rate)}, {signal: reason why it cannot be used})``.

        The reference is read whether needed or not: systems compare only if theirs are the same.
        """
        signals, problems = {}, {}
        for what, scp in self._scps():
            if scp is None or what not in needed | {"reference"}:
                continue
            try:
                unknown = what.startswith("enhanced") or self.num_samples is None
                num_samples = None if unknown else int(self.num_samples[i])
                x, rate = signals[what] = read(scp.value(i), root=scp.root, num_samples=num_samples)
                enhanced_rate = signals.get("enhanced", (x, rate))[1]
                reason, detail = _fault(x, rate, enhanced_rate, self.enhanced.value(i))
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
    return {"enhanced", *["reference"] * found.reference, *["noisy"] * improvement, *found.also}


def _known_base(name, version, audio, noisy, noisy_versions):
    """The metric that ``name`` is an improvement in, if the record ``noisy`` has the input's own score with it."""
    found, improvement = metrics.find(name)
    if not improvement or found.also or noisy is None or noisy_versions.get(found.name) != version:
        return None
    scored = noisy["audio"]
    same = scored.get("enhanced") == audio["noisy"] and scored.get("reference") == audio.get("reference")
    return found.name if same else None


def _fault(x, rate, enhanced_rate, enhanced):
    if x.ndim > 1:
        return "channels", f"has {x.shape[1]} channels, one expected"
    if rate != enhanced_rate:
        return "rate differs from the enhanced audio's", f"has {rate} Hz, and {enhanced} {enhanced_rate} Hz"
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


def require_scored(noisy_scores, names):
    """Refuse scores of the unprocessed input that do not have all these metrics in their versions."""
    noisy = results.Result(noisy_scores)
    for name in names:
        found, version = noisy.summary["metrics"].get(name), metrics.find(name)[0].version
        if found is None:
            raise UserError(f"{noisy.path}: was not scored with '{name}'; score it with the same --metrics")
        if found["version"] != version:
            raise UserError(
                f"{noisy.path}: '{name}' is of version '{found['version']}', here it is '{version}'; "
                "score the noisy input again"
            )


def score_shards(audio_set, out, names, job=None, nj=1, noisy_scores=None):
    """Compute the shards of one job with ``nj`` processes; see the module's docstring.

    Args:
        noisy_scores: folder of the unprocessed input's scores of the same set; what is in it is not computed again.
    """
    versions = {name: metrics.find(name)[0].version for name in names}
    shards = my_shards(len(audio_set), SHARD_SIZE, job)
    known = {}  # what is on the disk of the shards at work

    def utterances():
        for shard in shards:
            known[shard] = records.previous(_shard_path(out, shard))
            noisy = records.previous(_shard_path(noisy_scores, shard)) if noisy_scores else ({}, {})
            begun = records.previous(_begun_path(out, shard))  # of a run that was killed
            for i in range(shard.start, shard.stop):
                utt = audio_set.enhanced.key(i)
                ours = begun if utt in begun[1] else known[shard]
                yield i, *((found.get(utt), header.get("versions", {})) for header, found in (ours, noisy))

    score = functools.partial(_score, audio_set, names, versions)
    total = sum(shard.stop - shard.start for shard in shards)
    with contextlib.closing(process_map(score, utterances(), min(nj, total))) as scored:
        scored = progress(scored, total, f"score {audio_set.name}")
        for shard in shards:
            done, written = [], time.monotonic()
            for record in itertools.islice(scored, shard.stop - shard.start):
                done.append(record)
                if time.monotonic() - written > SAVE_EVERY:
                    records.write(_begun_path(out, shard), {"versions": versions}, done)
                    written = time.monotonic()
            header, before = known.pop(shard)
            if header != {"versions": versions} or done != list(before.values()):
                records.write(_shard_path(out, shard), {"versions": versions}, done)
            _begun_path(out, shard).unlink(missing_ok=True)


def _score(audio_set, names, versions, item):
    i, before, noisy_before = item
    return audio_set.score(i, names, versions, before, noisy_before)


def _shard_path(out, shard):
    return Path(out) / "shards" / f"scores.{shard.name}.jsonl"


def _begun_path(out, shard):
    return Path(out) / "shards" / f"begun.{shard.name}.jsonl"


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
    digests = {name: hashlib.sha256() for name in names}
    clipped, references = np.zeros(len(audio_set), np.int64), hashlib.sha256()
    seconds, rates = 0.0, set()
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(whole_file(out / "scores" / name)) for name in names}
        table = stack.enter_context(whole_file(out / "scores.csv"))
        table = csv.writer(table, lineterminator="\n")
        table.writerow(["utt", *audio_set.labels, "seconds", *names, "samples", "clipped"])
        for shard in shards:
            utts = [audio_set.enhanced.key(i) for i in range(shard.start, shard.stop)]
            for i, record in enumerate(_read_shard(_shard_path(out, shard), utts, versions), shard.start):
                utt, clipped[i] = record["utt"], record["clipped"]
                references.update(record["audio"].get("reference", "-").encode())
                scores = {name: results.finite_or_nan(record["scores"][name]) for name in names}
                for name, value in scores.items():
                    values[name][i] = value
                    line = f"{utt} {value!r}\n"
                    files[name].write(line)
                    digests[name].update(line.encode())
                    if reason := record["reasons"].get(name):
                        failures[name].setdefault(reason, []).append(utt)
                rates.add(record["rate"])
                length = record["samples"] if audio_set.num_samples is None else int(audio_set.num_samples[i])
                duration = length / record["rate"] if record["rate"] else None
                seconds += duration or 0
                labels = [label.value(i) for label in audio_set.labels.values()]
                about = [utt, *labels, "" if duration is None else f"{duration:.3f}"]
                table.writerow([*about, *map(repr, scores.values()), record["samples"], record["clipped"]])
    summary = {
        "test_set": audio_set.name,
        "enhanced": _relative(audio_set.enhanced.path, out),
        "ref": _relative(audio_set.ref, out),
        "n": len(audio_set),
        "utterances": audio_set.enhanced.keys_digest.hex(),
        "references": references.hexdigest(),
        "sample_rate": next(iter(rates)) if len(rates) == 1 else None,
        "seconds": seconds,
        "real_time_factor": _read_timing(audio_set.enhanced.path.with_name("enhance.json")),
        "clipped": {"files": int(np.count_nonzero(clipped)), "samples": int(clipped.sum())},
        "metric_order": list(names),
        "metrics": {name: _summarise(name, values[name], failures[name], versions[name]) for name in names},
    }
    for name, digest in digests.items():
        summary["metrics"][name]["sha256"] = digest.hexdigest()
    if noisy:
        results.require_comparable(noisy.summary, summary, noisy.path, out, names)
        for name in names:
            difference = paired_difference(values[name], noisy.scores(name)[1])
            summary["metrics"][name]["over_noisy"] = _plain(difference)
    summary["made_with"] = _made_with(out / "summary.json", summary)
    write_json(out / "summary.json", summary)
    for path in (out / "scores").iterdir():  # of an earlier run with other metrics, and perhaps other references
        if path.name not in names and _is_metric(path.name):
            path.unlink()
    return summary


def _relative(path, out):
    """From the summary's folder: it leads to the same file from everywhere, also in a checkout that was moved."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(out))


def audio_digests(out, i, utt):
    """{signal: digest} of the audio that utterance ``i`` was enhanced and scored from, as far as shards say it."""
    scores = _shard_path(out, Shard(i // SHARD_SIZE, i, i + 1))
    found = {}
    for path in (scores.with_name(scores.name.replace("scores", "wav", 1)), scores):
        with contextlib.suppress(OSError, ValueError):
            record = next((record for record in records.read(path)[1] if record["utt"] == utt), {})
            found |= {"noisy": record["input"]} if "input" in record else record.get("audio", {})
    return found


def _is_metric(name):
    with contextlib.suppress(UserError):
        return bool(metrics.find(name))
    return False


def _read_shard(path, utts, versions):
    """A shard's records, if they are those of these utterances and versions of the metrics."""
    try:
        header, found = records.read(path)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); run without --collect first, which does it again") from None
    whole = all(record.keys() >= {"audio", "rate", "samples", "clipped", "scores", "reasons"} for record in found)
    if header.get("versions") != versions or [r["utt"] for r in found] != utts or not whole:
        raise UserError(f"{path}: of a run with other utterances, metrics or senet; run without --collect first")
    return found


def _read_timing(path):
    """How long enhancing took and on what, as the enhance stage noted it; None for audio that came otherwise."""
    if not path.exists():
        return None
    found = results.read_json(path, "enhance this set again (stage enhance)")
    timing = {"computing": found["computing_seconds"], "audio": found["audio_seconds"]}
    return timing | {k: found[k] for k in ("device", "threads", "cpu")}


def _made_with(path, summary):
    """The code and the machine; those that made an equal summary first, where there is one."""
    with contextlib.suppress(UserError):
        before = results.read_json(path, "")
        if {k: v for k, v in before.items() if k != "made_with"} == summary and "made_with" in before:
            return before["made_with"]
    return {
        "git": provenance.git_state(Path(__file__).parent),
        "versions": provenance.versions("senet", "numpy", "scipy"),
        "host": platform.node(),
    }


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
