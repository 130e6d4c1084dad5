"""Enhance all utterances of a wav.scp, in shards that can be done by parallel jobs.

``OUT/wav/<utt>.wav`` are the results; ``OUT/shards/wav.<shard>.jsonl`` say from which audio and by which model they
were made, so a repeated run does only what changed; ``collect`` writes ``OUT/wav.scp``. How long the shards took is
in files of its own, ``OUT/shards/wav.<shard>.time.json``, and in sum in ``OUT/enhance.json``: it is another each time,
and nothing is done again for it.
"""

import collections
import json
import logging
import platform
from pathlib import Path
from typing import NamedTuple

import torch

from senet import provenance, records
from senet.data.blocks import Recording, is_whole
from senet.data.scp import Scp, write_table
from senet.data.stored import AudioError, AudioInfo
from senet.errors import UserError
from senet.files import write_json
from senet.infer.enhance import BLOCK_SECONDS
from senet.infer.files import Item
from senet.infer.item import How, Outcome, Progress, by_length, enhance_items
from senet.infer.work import Worker
from senet.processes import process_map
from senet.shards import all_shards, my_shards, require_all

SHARD_SIZE = 32


def enhance_shards(workers, how, scp_path, out, job=None):
    """Do the shards of one job.

    Args:
        workers: a ``senet.infer.work.Worker`` for each process.
        how: How; work by another one, or by another model, is done again.
        scp_path: wav.scp.
        out: output folder.
        job: ``(j, n)`` or None.
    Returns:
        number of utterances that failed; each is named in the log.
    """
    shards = my_shards(len(Scp(scp_path)), SHARD_SIZE, job)
    progress = Progress(sum(shard.stop - shard.start for shard in shards))
    identity = workers[0].identity(how)
    tasks = [_Task(worker, identity, how, scp_path, Path(out)) for worker in workers]
    for outcomes in process_map(tasks, shards, len(tasks)):
        for outcome in outcomes:
            progress.add(outcome)
    return progress.finish()


class _Task(NamedTuple):
    """Does a shard: ``task(shard)`` -> an Outcome for each utterance, None where it was done before."""

    worker: Worker
    identity: str
    how: How
    scp_path: str
    out: Path

    def __call__(self, shard):
        scp, path = Scp(self.scp_path), _shard_path(self.out, shard)
        header, known = records.previous(path)
        known = known if header == {"model": self.identity} else {}
        found = self._enhanced([self._utterance(scp, i, known) for i in range(shard.start, shard.stop)])
        kept = [utterance.record for utterance in found if utterance.record]
        if kept != list(known.values()):
            records.write(path, {"model": self.identity}, kept)
        outcomes = [utterance.outcome for utterance in found]
        computing, seconds = (sum(getattr(o, k) for o in outcomes if o) for k in ("computing", "seconds"))
        where = _where(self.worker.enhancer.device)
        where |= {"checkpoint": self.worker.checkpoint, "sha256": self.identity, "batch_size": self.worker.batch_size}
        _write_time(_time_path(self.out, shard), computing, seconds, where)
        return outcomes

    def _utterance(self, scp, i, known):
        """With its record if it was done before, and with an Outcome if it cannot be read."""
        utt = scp.key(i)
        item = Item(scp.value(i), target(self.out, utt), scp.root)
        if item.target.exists() and (scp.root / item.source).exists() and item.target.samefile(scp.root / item.source):
            raise UserError(
                f"-o {self.out}: '{item.target}' is an input file and would be overwritten; choose another folder"
            )
        try:
            recording = Recording(item.source, item.root)
            rate = recording.info.sample_rate
            digest = records.blocks_digest(recording.blocks(round(BLOCK_SECONDS * rate)), rate)
        except AudioError as error:
            return _Utterance(utt, item, outcome=Outcome(item.source, str(item.target), error=str(error)))
        if utt in known and known[utt]["input"] == digest and is_whole(item.target, known[utt]["samples"]):
            return _Utterance(utt, item, record=known[utt])
        return _Utterance(utt, item, recording.info, digest)

    def _enhanced(self, found):
        """All _Utterances, those that are to be enhanced with their Outcomes, and records where they did not fail."""
        todo = [(i, utterance.info) for i, utterance in enumerate(found) if utterance.info]
        for together in by_length(todo, self.worker.batch_size, self.worker.window):
            outcomes = enhance_items(self.worker.enhancer, [found[i].item for i in together], self.how)
            for i, outcome in zip(together, outcomes, strict=True):
                found[i] = found[i].done(outcome)
        return found


class _Utterance(NamedTuple):
    """One of a shard and what became of it."""

    utt: str
    item: Item
    info: AudioInfo | None = None  # of those that are to be enhanced
    digest: str | None = None  # of their audio
    record: dict | None = None  # none where it failed
    outcome: Outcome | None = None  # none where it was done before

    def done(self, outcome):
        record = {"utt": self.utt, "input": self.digest, "samples": outcome.samples, "clipped": outcome.clipped}
        return self._replace(record=None if outcome.error else record, outcome=outcome)


def _where(device):
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else str(device),
        "threads": torch.get_num_threads(),
        "host": platform.node(),
        "cpu": provenance.cpu_name(),
    }


def _write_time(path, computing, seconds, where):
    """Note how long a shard took; what was measured over more of its audio with the same model stays."""
    known = _read_time(path)
    if seconds and (known.get("sha256") != where["sha256"] or seconds >= known["audio_seconds"]):
        write_json(path, {"computing_seconds": computing, "audio_seconds": seconds} | where)


def _read_time(path):
    """Empty where nothing was noted."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def collect(scp_path, out):
    """Check that every utterance is done, and write ``OUT/wav.scp``."""
    scp, out = Scp(scp_path), Path(out)
    shards = all_shards(len(scp), SHARD_SIZE)
    require_all([_shard_path(out, shard) for shard in shards], "senet.bin.enhance")
    done, models, clipped = [], set(), 0
    for shard in shards:
        header, found = records.read(_shard_path(out, shard))
        models.add(header["model"])
        done += [record["utt"] for record in found]
        clipped += sum(record["clipped"] > 0 for record in found)
    wanted = [scp.key(i) for i in range(len(scp))]
    if done != wanted or len(models) > 1:
        missing = sorted(set(wanted) - set(done))
        problem = "holds work of two sets or models"
        if missing:
            problem = f"{len(missing)} utterances are not enhanced, such as '{missing[0]}'"
        raise UserError(f"{out}: {problem}; run 'senet.bin.enhance' again without --collect and see its log")
    write_table(out / "wav.scp", ((utt, target(out, utt)) for utt in wanted), sort=False)
    _collect_times(out, shards, models)
    logging.info("%s: %d utterances, %d with clipped samples", out / "wav.scp", len(wanted), clipped)


def _collect_times(out, shards, models):
    """Sum up what the shards of this model took, on that machine and in those batches where most audio was enhanced."""
    times = [time for shard in shards if (time := _read_time(_time_path(out, shard))).get("sha256") in models]
    seconds = collections.Counter()
    for time in times:
        seconds[_machine(time)] += time["audio_seconds"]
    if not times:
        (out / "enhance.json").unlink(missing_ok=True)
        return
    machine = seconds.most_common(1)[0][0]
    there = [time for time in times if _machine(time) == machine]
    total = {k: sum(time[k] for time in there) for k in ("computing_seconds", "audio_seconds")}
    write_json(out / "enhance.json", there[0] | total)


def _machine(time):
    return tuple(time.get(k, 1) for k in ("device", "threads", "cpu", "batch_size"))


def target(out, utt):
    """Where an utterance's result goes."""
    if "/" in utt:
        raise UserError(f"the id '{utt}' has a '/', so no file can be named after it; choose other ids")
    return Path(out) / "wav" / f"{utt}.wav"


def _shard_path(out, shard):
    return out / "shards" / f"wav.{shard.name}.jsonl"


def _time_path(out, shard):
    return out / "shards" / f"wav.{shard.name}.time.json"
