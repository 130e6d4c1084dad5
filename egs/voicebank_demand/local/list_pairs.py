"""List VoiceBank-DEMAND's pairs as data directories, from the folders' and the files' names.

Sets and validation speakers are those of ESPnet and SpeechBrain. Noise type and SNR come from the log files where the
corpus has them; the SNR is otherwise measured when the pairs are formatted (stage 2).
"""

import argparse
import logging
import sys
from pathlib import Path

from senet.bin import run, setup_logging
from senet.data import audio
from senet.data.parallel import parallel_map
from senet.data.scp import spk2utt, write_table
from senet.errors import UserError

FOLDERS = {
    "train": ("clean_trainset_28spk_wav", "noisy_trainset_28spk_wav"),
    "test": ("clean_testset_wav", "noisy_testset_wav"),
}
LOGS = ("log_trainset_28spk.txt", "log_testset.txt")
VALID_SPEAKERS = ("p226", "p287")
PUBLISHED = {"tr_26spk": 10802, "cv_2spk": 770, "tt_2spk": 824}  # pairs


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--corpus_dir", type=Path, required=True, help="folder that is searched at any depth")
    parser.add_argument("--counts", choices=("published", "any"), default="published", help="pairs that are expected")
    parser.add_argument("--datadir", type=Path, required=True, help="folder for the sets")
    parser.add_argument("--nj", type=int, default=1, help="threads")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    files = {name: {} for names in FOLDERS.values() for name in names}
    for path in audio.find_audio(args.corpus_dir):
        folder = next((parent.name for parent in path.parents if parent.name in files), None)
        if folder is None:
            continue
        if path.stem in files[folder]:
            raise UserError(f"{path}: '{path.stem}' is in {files[folder][path.stem]} too; keep one copy of the corpus")
        files[folder][path.stem] = path
    train, test = (pair_up(args.corpus_dir, *(files[name] for name in names), names) for names in FOLDERS.values())
    sets = {
        "tr_26spk": {utt: pair for utt, pair in train.items() if speaker(utt) not in VALID_SPEAKERS},
        "cv_2spk": {utt: pair for utt, pair in train.items() if speaker(utt) in VALID_SPEAKERS},
        "tt_2spk": test,
    }
    shared = {speaker(utt) for utt in train} & {speaker(utt) for utt in test}
    if shared:
        raise UserError(f"{args.corpus_dir}: test speaker {min(shared)} is in the training part too")
    for name, pairs in sets.items():
        expected = PUBLISHED[name] if args.counts == "published" else max(len(pairs), 1)
        if len(pairs) != expected:
            raise UserError(
                f"{args.corpus_dir}: {len(pairs)} pairs for {name}, expected {expected}; an archive is missing or not "
                "unpacked whole. To work on a part of the corpus: --local_args '--counts any'"
            )
    labels = read_logs(args.corpus_dir)
    for name, pairs in sets.items():
        write_pairs(args.datadir / name, pairs, labels, args.nj)


def speaker(utt):
    return utt.partition("_")[0]


def pair_up(corpus_dir, clean, noisy, names):
    """Utterance -> (noisy, clean) path; every file needs its other half."""
    if not clean or not noisy:
        missing = names[0] if not clean else names[1]
        raise UserError(f"{corpus_dir}: no recordings in a folder '{missing}', at any depth; unpack that archive")
    for utt in sorted(clean.keys() ^ noisy.keys()):
        path, other = (clean[utt], names[1]) if utt in clean else (noisy[utt], names[0])
        raise UserError(f"{path}: has no '{utt}' in {other}; the two archives do not belong together or are cut")
    return {utt: (noisy[utt], clean[utt]) for utt in sorted(clean)}


def read_logs(corpus_dir):
    """Utterance -> (noise type, SNR in dB as text), from lines ``utterance noise SNR``."""
    labels = {}
    for path in sorted(path for name in LOGS for path in corpus_dir.rglob(name)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fields = line.split()
            if len(fields) != 3:
                raise UserError(f"{path}:{number}: '{line}' is not 'utterance noise SNR'")
            labels[fields[0]] = fields[1], fields[2]
    return labels


def write_pairs(folder, pairs, labels, nj):
    """A data directory of files as they are; wav.scp comes last, so a set that has it is complete."""
    (folder / "wav.scp").unlink(missing_ok=True)
    infos = parallel_map(lambda pair: [audio.info(path) for path in pair], list(pairs.values()), nj, folder.name)
    rows = []
    for (utt, (noisy, clean)), found in zip(pairs.items(), infos, strict=True):
        if len({(info.frames, info.sample_rate) for info in found}) > 1:
            sizes = " and ".join(f"{info.frames} samples at {info.sample_rate} Hz" for info in found)
            raise UserError(f"{noisy} and {clean}: {sizes}; a pair has one length and rate: unpack the archives again")
        rows.append((utt, noisy.absolute(), clean.absolute(), found[0].frames))
    write_table(folder / "utt2spk", [(utt, speaker(utt)) for utt, *_ in rows])
    write_table(folder / "spk2utt", spk2utt([(utt, speaker(utt)) for utt, *_ in rows]))
    write_table(folder / "utt2num_samples", [(utt, length) for utt, *_, length in rows])
    known = [(utt, *labels[utt]) for utt, *_ in rows if utt in labels]
    for name, column in (("utt2noise", 1), ("utt2snr", 2)):
        (folder / name).unlink(missing_ok=True)
        if len(known) == len(rows):
            write_table(folder / name, [(row[0], row[column]) for row in known])
    write_table(folder / "spk1.scp", [(utt, clean) for utt, _, clean, _ in rows])
    write_table(folder / "wav.scp", [(utt, noisy) for utt, noisy, *_ in rows])
    logging.info("%s: %d pairs of %d speakers", folder, len(rows), len({speaker(utt) for utt, *_ in rows}))


if __name__ == "__main__":
    sys.exit(run(main))
