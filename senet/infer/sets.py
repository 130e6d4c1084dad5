"""Enhance all utterances of a wav.scp, in shards that can be done by parallel jobs.

``OUT/wav/<utt>.wav`` are the results; ``OUT/shards/wav.<shard>.jsonl`` say from which audio and by which model they
were made, so a repeated run does only what changed; ``collect`` writes ``OUT/wav.scp``.
"""

import logging
from pathlib import Path

from senet import records
from senet.data import audio
from senet.data.scp import Scp, write_table
from senet.errors import UserError
from senet.infer.enhance import Item, Progress, enhance_item
from senet.shards import all_shards, my_shards, require_all

SHARD_SIZE = 32


def enhance_shards(model, identity, scp_path, out, job=None, device="cpu"):
    """Do the shards of one job.

    Args:
        model, device: as in ``senet.infer.enhance.enhance``.
        identity: of the model; work of another one is done again.
        scp_path: wav.scp.
        out: output folder.
        job: ``(j, n)`` or None.
    Returns:
        number of utterances that failed; each is named in the log.
    """
    scp, out = Scp(scp_path), Path(out)
    shards = my_shards(len(scp), SHARD_SIZE, job)
    progress = Progress(sum(shard.stop - shard.start for shard in shards))
    for shard in shards:
        path = _shard_path(out, shard)
        header, known = records.previous(path)
        known = known if header == {"model": identity} else {}
        done = [_enhance_utterance(model, scp, i, out, known, progress, device) for i in range(shard.start, shard.stop)]
        done = [record for record in done if record]
        if done != list(known.values()):
            records.write(path, {"model": identity}, done)
    return progress.finish()


def _enhance_utterance(model, scp, i, out, known, progress, device):
    """The utterance's record, or None when it failed."""
    utt = scp.key(i)
    item = Item(scp.value(i), target(out, utt), scp.root)
    if item.target.resolve() == (scp.root / item.source).resolve():
        raise UserError(f"-o {out}: '{item.target}' is an input file and would be overwritten; choose another folder")
    try:
        x, sample_rate = audio.read(item.source, root=item.root)
    except audio.AudioError:
        enhance_item(model, item, progress, device)  # reads again, and reports what is wrong with it
        return None
    digest = records.audio_digest(x, sample_rate)
    if utt in known and known[utt]["input"] == digest and item.target.exists():
        progress.add()
        return known[utt]
    clipped = enhance_item(model, item, progress, device, x, sample_rate)
    return None if clipped is None else {"utt": utt, "input": digest, "samples": len(x), "clipped": clipped}


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
    logging.info("%s: %d utterances, %d with clipped samples", out / "wav.scp", len(wanted), clipped)


def target(out, utt):
    """Where an utterance's result goes."""
    if "/" in utt:
        raise UserError(f"the id '{utt}' has a '/', so no file can be named after it; choose other ids")
    return Path(out) / "wav" / f"{utt}.wav"


def _shard_path(out, shard):
    return out / "shards" / f"wav.{shard.name}.jsonl"
