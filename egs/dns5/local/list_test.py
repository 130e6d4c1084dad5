"""List a test set of the DNS challenges as a data directory: noisy recordings, with references if there are any."""

import argparse
import logging
import re
import sys
from pathlib import Path

from senet.bin import run, setup_logging
from senet.data import audio
from senet.data.naming import slug
from senet.data.parallel import parallel_map
from senet.data.scp import spk2utt, write_table
from senet.errors import UserError


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--noisy", type=Path, required=True, help="folder of noisy recordings")
    parser.add_argument(
        "--clean", type=Path, help="folder of their references; names end in the same fileid_N, as of 2020's set"
    )
    parser.add_argument("--out", type=Path, required=True, help="data directory to write")
    parser.add_argument("--nj", type=int, default=1, help="threads")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    noisy = audio.find_audio(args.noisy)
    if not noisy:
        raise UserError(f"{args.noisy}: holds no recordings; unpack the archive of this test set again")
    pairs = pair_up(args.noisy, noisy, args.clean) if args.clean else [(path,) for path in noisy]
    infos = parallel_map(lambda pair: [header(path) for path in pair], pairs, args.nj, f"{args.out}: headers read")
    rows = {}
    for pair, found in zip(pairs, infos, strict=True):
        if len({(info.frames, info.sample_rate) for info in found}) > 1:
            sizes = " and ".join(f"{info.frames} samples at {info.sample_rate} Hz" for info in found)
            raise UserError(f"{pair[0]} and {pair[1]}: {sizes}; a pair has one length and rate: unpack the set again")
        utt = slug(pair[0].stem)
        if utt in rows:
            raise UserError(f"{pair[0]} and {rows[utt][0][0]}: both would be called '{utt}'; keep one of them")
        rows[utt] = pair, found[0].frames
    write_set(args.out, sorted(rows.items()))


def pair_up(noisy_dir, noisy, clean_dir):
    """[(noisy, clean) path], by the number at the end of both names; every file needs its other half."""
    noisy, clean = by_fileid(noisy), by_fileid(audio.find_audio(clean_dir))
    for number in sorted(noisy.keys() ^ clean.keys()):
        path, other = (noisy[number], clean_dir) if number in noisy else (clean[number], noisy_dir)
        raise UserError(f"{path}: {other} has no file that ends in fileid_{number}; the set is not whole")
    return [(noisy[number], clean[number]) for number in sorted(noisy)]


def by_fileid(paths):
    found = {}
    for path in paths:
        match = re.search(r"fileid_(\d+)$", path.stem)
        if not match:
            raise UserError(f"{path}: the name does not end in fileid_N, by which pairs are found")
        number = int(match[1])
        if number in found:
            raise UserError(f"{path}: {found[number]} ends in fileid_{number}, too; keep one copy of the set")
        found[number] = path
    return found


def header(path):
    with open(path, "rb") as f:
        if f.read(23) == b"version https://git-lfs":
            raise UserError(f"{path}: is a pointer of git LFS, not audio; run 'git lfs pull' in that repository")
    return audio.info(path)


def write_set(folder, rows):
    """A data directory of files as they are; wav.scp comes last, so a set that has it is complete.

    Who speaks is not known, so each recording is its own speaker.
    """
    for name in ("wav.scp", "spk1.scp"):
        (folder / name).unlink(missing_ok=True)
    write_table(folder / "utt2spk", [(utt, utt) for utt, _ in rows])
    write_table(folder / "spk2utt", spk2utt([(utt, utt) for utt, _ in rows]))
    write_table(folder / "utt2num_samples", [(utt, length) for utt, (_, length) in rows])
    if len(rows[0][1][0]) > 1:
        write_table(folder / "spk1.scp", [(utt, pair[1].absolute()) for utt, (pair, _) in rows])
    write_table(folder / "wav.scp", [(utt, pair[0].absolute()) for utt, (pair, _) in rows])
    logging.info("%s: %d recordings%s", folder, len(rows), "" if (folder / "spk1.scp").exists() else ", no references")


if __name__ == "__main__":
    sys.exit(run(main))
