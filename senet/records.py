"""What a shard of work remembers, so that a repeated run does only what has changed.

A file of JSON lines: the first says what holds for the whole shard, each other is about one utterance (``"utt"``).
Digests in them say what the work was done from; there are no times, so equal work gives equal bytes.
"""

import hashlib
import json
import logging

import numpy as np

from senet.files import whole_file


def write(path, header, records):
    """Write the shard's file, whole."""
    with whole_file(path) as f:
        for line in (header, *records):
            f.write(json.dumps(line) + "\n")


def read(path):
    """``(header, records)``; ValueError for a file that is damaged."""
    with open(path, encoding="utf-8") as f:
        header, *records = (json.loads(line) for line in f)
    if not all(isinstance(line, dict) for line in (header, *records)) or not all("utt" in r for r in records):
        raise ValueError("not records of utterances")
    return header, records


def previous(path):
    """``(header, {utt: record})`` of an earlier run; empty when there was none or its file is damaged."""
    if not path.exists():
        return {}, {}
    try:
        header, records = read(path)
        return header, {record["utt"]: record for record in records}
    except ValueError as error:
        logging.warning("%s: damaged (%s); this shard is done again", path, error)
        return {}, {}


def audio_digest(samples, sample_rate):
    """16 hexadecimal digits that change when a sample or the rate changes."""
    return blocks_digest([samples], sample_rate)


def blocks_digest(blocks, sample_rate):
    """``audio_digest`` of a signal that comes in blocks."""
    digest = hashlib.blake2b(digest_size=8, person=str(sample_rate).encode())
    for samples in blocks:
        digest.update(np.ascontiguousarray(samples).data)
    return digest.hexdigest()
