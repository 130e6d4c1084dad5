"""Copy, combine, subset and split data directories; every manifest in them comes along.

Files that are keyed by utterance or speaker are recognised by their names (``senet.data.datadir``), so that
``noise1.scp``, ``spk1_feats.scp`` or ``utt2snr`` need not be listed. Relative values are made absolute where they
would otherwise point elsewhere from the new place. Stale files of the destination go to its ``.backup``.
"""

import hashlib
import heapq
import os
import shutil
from pathlib import Path

import numpy as np

from senet.data.datadir import key_differences, speaker_files, utterance_files
from senet.data.scp import Scp, read_ints, read_rows, read_table, spk2utt, write_table
from senet.errors import UserError
from senet.files import whole_file

_PROPERTIES = ("frame_shift", "feats_type", "feats_config.json")  # one value that holds for the whole set


def copy(src, dst, *, utt_prefix="", utt_suffix="", spk_prefix="", spk_suffix=""):
    """Copy a data directory; prefixes and suffixes rename its utterances and speakers.

    When utterances are renamed, utt2uniq says what they were called.
    """
    files = _open_all(src)
    _prepare_destination(dst, src)

    def utt_name(utt):
        return f"{utt_prefix}{utt}{utt_suffix}"

    def spk_name(spk):
        return f"{spk_prefix}{spk}{spk_suffix}"

    for name, scp in files.items():
        value = spk_name if name == "utt2spk" else _relocated(scp, dst)
        write_table(Path(dst) / name, ((utt_name(k), value(v)) for k, v in scp), sort=bool(utt_suffix))
    if (utt_prefix or utt_suffix) and "utt2uniq" not in files:
        write_table(Path(dst) / "utt2uniq", ((utt_name(k), k) for k, _ in files["wav.scp"]))
    _write_rest(src, dst, spk_name)


def combine(dst, sources, *, extra_files=(), allow_missing=False):
    """Merge data directories.

    Args:
        dst: the new folder.
        sources: the folders to merge; no utterance may be in two of them.
        extra_files: names that all of them must have, besides those that any of them has.
        allow_missing: leave a file out that one of them lacks, rather than refuse.
    """
    sets = [_open_all(src) for src in sources]
    names = sorted(set().union(*sets, extra_files))
    for name in list(names):
        lacking = [str(src) for src, files in zip(sources, sets, strict=True) if name not in files]
        if lacking and (not allow_missing or name in extra_files or name in ("wav.scp", "utt2spk")):
            raise UserError(f"{lacking[0]}/{name}: missing, other sources have it; make it, or pass --allow_missing")
        if lacking:
            names.remove(name)
    speakers = [_speaker_tables(src, dst) for src in sources]
    _prepare_destination(dst, *sources)
    for name in names:
        write_table(Path(dst) / name, _merged([files[name] for files in sets], dst), sort=False)
    _write_spk2utt(dst)
    for name in sorted(set.intersection(*(set(tables) for tables in speakers))):
        write_table(Path(dst) / name, {k: v for tables in speakers for k, v in tables[name].items()}.items())
    for name in _PROPERTIES:
        values = {(Path(src) / name).read_bytes() for src in sources if (Path(src) / name).exists()}
        if len(values) > 1:
            raise UserError(f"{dst}: the sources differ in {name}; features of two kinds cannot be combined")
        for value in values:
            with whole_file(Path(dst) / name, "wb") as f:
                f.write(value)


def _merged(scps, dst):
    def rows(scp):
        value = _relocated(scp, dst)
        return ((k, value(v), scp.path) for k, v in scp)

    last = None
    for row in heapq.merge(*map(rows, scps)):
        if last and row[0] == last[0]:
            raise UserError(f"'{row[0]}' is both in {last[2]} and {row[2]}; copy one with --utt_prefix first")
        yield row[:2]
        last = row


def subset(src, dst, n=None, *, how="random", utt_list=None, spk_list=None, seed=0):
    """Write the part of a data directory.

    Args:
        src, dst: folders.
        n: number of utterances; of utterances per speaker for ``per_spk``.
        how: which ones. ``random``, ``first``, ``last``, ``shortest``; ``speakers``: all utterances of random speakers,
            until there are ``n``; ``per_spk``: random ones of each speaker.
        utt_list, spk_list: instead of ``n``, files whose first column names utterances or speakers.
        seed: of the random choices. A choice depends on the seed and the id alone, so a smaller subset is part of a
            larger one and the same everywhere.
    """
    files = _open_all(src)
    if utt_list is not None:
        scp = files["utt2spk"]
        chosen = [scp.index(utt) for utt in _listed(utt_list, scp.__contains__, scp.path)]
    else:
        utts, speakers = zip(*files["utt2spk"], strict=True)
        if spk_list is not None:
            wanted = set(_listed(spk_list, set(speakers).__contains__, files["utt2spk"].path))
            chosen = [i for i, spk in enumerate(speakers) if spk in wanted]
        elif how != "per_spk" and n > len(utts):
            raise UserError(f"{src}: has {len(utts)} utterances, fewer than the {n} asked for")
        else:
            chosen = _chosen(utts, speakers, n, how, seed, src)
    if not chosen:
        raise UserError(f"{src}: no utterance is left of {len(files['utt2spk'])}; check the list or the number")
    _prepare_destination(dst, src)
    _write_part(src, files, sorted(set(chosen)), dst)


def _listed(path, exists, where):
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if line.strip():
                name = line.split()[0]
                if not exists(name):
                    raise UserError(f"{path}:{number}: '{name}' is not in {where}; take it off the list")
                yield name


def _chosen(utts, speakers, n, how, seed, src):
    """Indices of the utterances that ``subset`` keeps, in any order."""

    def rank(name):
        return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()

    everything = range(len(utts))
    if how == "first":
        return everything[:n]
    if how == "last":
        return everything[len(utts) - n :]
    if how == "shortest":
        return np.argsort(_lengths(Path(src)), kind="stable")[:n].tolist()
    if how == "random":
        return heapq.nsmallest(n, everything, key=lambda i: rank(utts[i]))
    groups = {}
    for i, spk in enumerate(speakers):
        groups.setdefault(spk, []).append(i)
    if how == "per_spk":
        return [i for group in groups.values() for i in heapq.nsmallest(n, group, key=lambda i: rank(utts[i]))]
    chosen = []
    for spk in sorted(groups, key=rank):  # how == "speakers"
        chosen += groups[spk]
        if len(chosen) >= n:
            break
    return chosen


def _lengths(src):
    for name in ("utt2num_samples", "utt2num_frames"):
        if (src / name).exists():
            rates = read_ints(src / "utt2fs") if (src / "utt2fs").exists() and name == "utt2num_samples" else 1
            return read_ints(src / name) / rates
    if (src / "utt2dur").exists():
        return np.array([float(value) for _, value in read_rows(src / "utt2dur")])
    raise UserError(f"{src}/utt2num_samples: missing, and utt2num_frames and utt2dur are too; lengths are not known")


def split(src, nj, *, per_utt=False):
    """Write ``src/split<nj>/1 .. nj``, or ``src/split<nj>utt/...`` when speakers may be divided.

    The parts are contiguous. Without speakers to keep together the first ones have one utterance more.

    Returns:
        list of the folders.
    """
    if nj < 1:
        raise UserError(f"{src}: cannot be split in {nj}; the number of jobs is at least 1")
    files = _open_all(src)
    speakers = [i if per_utt else spk for i, (_, spk) in enumerate(files["utt2spk"])]
    if nj > len(set(speakers)):
        what, instead = ("utterances", "") if per_utt else ("speakers", " or --per_utt")
        raise UserError(f"{src}: {len(set(speakers))} {what} cannot be split in {nj}; use fewer jobs{instead}")
    folders = []
    for part, chosen in enumerate(_parts(speakers, nj)):
        folder = Path(src) / f"split{nj}{'utt' if per_utt else ''}" / str(part + 1)
        _prepare_destination(folder, src)
        _write_part(src, files, sorted(chosen), folder)
        folders.append(folder)
    return folders


def _parts(speakers, nj):
    """Yield ``nj`` lists of indices of ``speakers``, of like length; equal ones stay together."""
    groups = {}
    for i, spk in enumerate(speakers):
        groups.setdefault(spk, []).append(i)
    waiting, left = list(groups.values())[::-1], len(speakers)
    for part in range(nj):
        chosen = waiting.pop()
        size = -(-left // (nj - part))  # of what is left, an equal share
        # Take the next speaker while that comes nearer to the share, and one is left for each part to come.
        while len(waiting) >= nj - part and 2 * len(chosen) + len(waiting[-1]) <= 2 * size:
            chosen += waiting.pop()
        if part == nj - 1:
            chosen += [i for group in waiting for i in group]
        left -= len(chosen)
        yield chosen


def split_scp(path, outs, *, utt2spk=None):
    """Divide a file keyed by utterance into contiguous parts of like length, with ``utt2spk`` between speakers only."""
    rows = list(read_rows(path))
    if utt2spk is None:
        speakers = range(len(rows))
    else:
        known = read_table(utt2spk)
        if missing := next((utt for utt, _ in rows if utt not in known), None):
            raise UserError(f"{path}: '{missing}' is not in {utt2spk}; give the utt2spk of these utterances")
        speakers = [known[utt] for utt, _ in rows]
    if len(outs) > len(set(speakers)):
        what = "lines" if utt2spk is None else "speakers"
        raise UserError(f"{path}: {len(set(speakers))} {what} cannot be split in {len(outs)}; use fewer parts")
    for out, chosen in zip(outs, _parts(speakers, len(outs)), strict=True):
        write_table(out, [rows[i] for i in sorted(chosen)], sort=False)


def filter_lines(lines, ids, *, field=1, exclude=False):
    """Yield the lines whose ``field``-th word, counted from 1, is in ``ids``; or is not, with ``exclude``."""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) < field:
            raise UserError(f"line {number}: has {len(words)} fields, {field} expected")
        if (words[field - 1] in ids) != exclude:
            yield line


def _open_all(src):
    """name -> Scp of every file keyed by utterance, after a look whether their keys are the same."""
    src = Path(src)
    for name in ("wav.scp", "utt2spk"):
        if not (src / name).exists():
            raise UserError(f"{src / name}: missing; is this a data directory?")
    files = {name: Scp(src / name, allow_pipes=True) for name in utterance_files(src)}
    for scp in files.values():
        for problem in key_differences(scp, files["wav.scp"]):
            raise UserError(str(problem))
    return files


def _relocated(scp, dst):
    """Function value -> value that means the same file when the scp lies in ``dst``."""
    root = scp.root.resolve()
    if scp.path.suffix != ".scp" or Path(dst).resolve().is_relative_to(root) or root == Path.cwd():
        return str
    return lambda value: value if value.endswith("|") else os.path.join(root, value)


def _prepare_destination(dst, *sources):
    """Make the folder; move the manifests of an earlier set out of the way."""
    dst = Path(dst)
    if any(dst.resolve() == Path(src).resolve() for src in sources):
        raise UserError(f"{dst}: is both source and destination; choose another folder")
    dst.mkdir(parents=True, exist_ok=True)
    for name in (*utterance_files(dst), *speaker_files(dst), "spk2utt", *_PROPERTIES):
        if (dst / name).exists():
            (dst / ".backup").mkdir(exist_ok=True)
            os.replace(dst / name, dst / ".backup" / name)


def _write_part(src, files, chosen, dst):
    for name, scp in files.items():
        value = _relocated(scp, dst)
        write_table(Path(dst) / name, ((scp.key(i), value(scp.value(i))) for i in chosen), sort=False)
    _write_rest(src, dst)


def _write_rest(src, dst, spk_name=str):
    """What follows from the utterances in ``dst``: spk2utt, the lines of its speakers, properties of the set."""
    _write_spk2utt(dst)
    speakers = set(read_table(Path(dst) / "spk2utt"))
    for name, table in _speaker_tables(src, dst).items():
        rows = [(spk_name(k), v) for k, v in table.items() if spk_name(k) in speakers]
        if rows:
            write_table(Path(dst) / name, rows)
    for name in _PROPERTIES:
        if (Path(src) / name).exists():
            with whole_file(Path(dst) / name, "wb") as f, open(Path(src) / name, "rb") as original:
                shutil.copyfileobj(original, f)


def _write_spk2utt(dst):
    write_table(Path(dst) / "spk2utt", spk2utt(read_rows(Path(dst) / "utt2spk")))


def _speaker_tables(src, dst):
    """name -> {speaker: value} of the files keyed by speaker."""
    tables = {}
    for name in speaker_files(src):
        scp = Scp(Path(src) / name, allow_pipes=True)
        value = _relocated(scp, dst)
        tables[name] = {k: value(v) for k, v in scp}
    return tables
