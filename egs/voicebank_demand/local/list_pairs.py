"""List VoiceBank-DEMAND's pairs as data directories, from the folders' and the files' names.

Sets and validation speakers are those of ESPnet and SpeechBrain. Noise type and SNR come from the log files where the
corpus has them; they are otherwise estimated when the pairs are formatted (stage 2). What was found is written down in
DATADIR/data_card.md.
"""

import argparse
import logging
import re
import sys
from collections import Counter
from pathlib import Path

from senet.bin import run, setup_logging
from senet.data import audio
from senet.data.parallel import parallel_map
from senet.data.scp import spk2utt, write_table
from senet.errors import UserError
from senet.files import walk_folders, whole_file

FOLDERS = {
    "train": ("clean_trainset_28spk_wav", "noisy_trainset_28spk_wav"),
    "test": ("clean_testset_wav", "noisy_testset_wav"),
}
LOGS = ("log_trainset_28spk.txt", "log_testset.txt")
VALID_SPEAKERS = ("p226", "p287")
PUBLISHED = {"tr_26spk": 10802, "cv_2spk": 770, "tt_2spk": 824}  # pairs
RATES = (48000, 16000)  # Hz, of the corpus and of copies in use

ESTIMATES = """\
Estimated, for want of log files, in stage 2: the SNR (utt2snr_estimated), by active speech level (ITU-T P.56), and
which pairs have the same noise (utt2noise_estimated): noise1 is the largest group of the set, not noise1 of other sets.
Pairs are grouped by the long-term spectrum of noisy - clean. How far to trust it: of pieces of 10 and 5 other real
recordings, on average 88 and 94 % were in a group of mostly their own recording (purity; the worst of 10 draws: 81 and
77 %). Of the corpus, 14 test pairs were looked at whose order suggests five noises: no noise was divided, but two
shared a group."""


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--corpus_dir", type=Path, required=True, help="folder that is searched at any depth")
    parser.add_argument("--counts", choices=("published", "any"), default="published", help="pairs that are expected")
    parser.add_argument("--sets", default="", help="names of those to list, blanks between; all if empty")
    parser.add_argument("--datadir", type=Path, required=True, help="folder for the sets")
    parser.add_argument("--nj", type=int, default=1, help="threads")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    wanted = args.sets.split() or list(PUBLISHED)
    if unknown := [name for name in wanted if name not in PUBLISHED]:
        raise UserError(f"--sets: there is no '{unknown[0]}'; there are {', '.join(PUBLISHED)}")
    found = find_files(args.corpus_dir)
    train = pair_up(args.corpus_dir, FOLDERS["train"], found) if wanted != ["tt_2spk"] else {}
    test = pair_up(args.corpus_dir, FOLDERS["test"], found) if "tt_2spk" in wanted else {}
    shared = {speaker(utt) for utt in train} & {speaker(utt) for utt in test}
    if shared:
        raise UserError(
            f"{args.corpus_dir}: speaker {min(shared)} is in the training and in the test folders; "
            "unpack the four archives into an empty folder"
        )
    sets = {
        "tr_26spk": {utt: pair for utt, pair in train.items() if speaker(utt) not in VALID_SPEAKERS},
        "cv_2spk": {utt: pair for utt, pair in train.items() if speaker(utt) in VALID_SPEAKERS},
        "tt_2spk": test,
    }
    sets = {name: sets[name] for name in wanted}
    for name, pairs in sets.items():
        folders = FOLDERS["test" if name == "tt_2spk" else "train"]
        expected = PUBLISHED[name] if args.counts == "published" else max(len(pairs), 1)
        if len(pairs) != expected:
            raise UserError(
                f"{args.corpus_dir}: {len(pairs)} pairs for {name}, expected {expected}, of the folders "
                f"{' and '.join(folders)} ({_counts(found)}, at any depth); an archive is missing or not unpacked "
                "whole. To work on a part of the corpus: --local_args '--counts any'"
            )
    labels = read_logs(args.corpus_dir)
    rows = [write_pairs(args.datadir / name, pairs, labels, args.nj) for name, pairs in sets.items()]
    write_card(args.datadir / "data_card.md", args.corpus_dir, rows)


def speaker(utt):
    return utt.partition("_")[0]


def find_files(corpus_dir):
    """{folder's name: {utterance: path}}; a file belongs to the closest of the four folders above it."""
    found = {name: {} for names in FOLDERS.values() for name in names}
    for path in audio.find_audio(corpus_dir):
        folder = next((parent.name for parent in path.parents if parent.name in found), None)
        if folder is None:
            continue
        if not re.fullmatch(r"p\d+_\d+", path.stem):
            raise UserError(f"{path}: not a name of the corpus, such as p226_001.wav; move the file elsewhere")
        if path.stem in found[folder]:
            raise UserError(f"{path}: '{path.stem}' is in {found[folder][path.stem]} too; keep one copy of the corpus")
        found[folder][path.stem] = path
    return found


def pair_up(corpus_dir, names, found):
    """{utterance: (noisy, clean) path}; every file needs its other half."""
    clean, noisy = (found[name] for name in names)
    for name in names:
        if not found[name]:
            raise UserError(
                f"{corpus_dir}: no recordings in a folder '{name}', at any depth (found: {_counts(found)}); unpack "
                "that archive there (local/data.sh --help says where to get it), or give another --corpus_dir"
            )
    for utt in sorted(clean.keys() ^ noisy.keys()):
        path, other = (clean[utt], names[1]) if utt in clean else (noisy[utt], names[0])
        raise UserError(
            f"{path}: has no '{utt}' in {other} ({len(clean)} clean files, {len(noisy)} noisy ones); "
            "the two archives do not belong together, or one is not unpacked whole"
        )
    return {utt: (noisy[utt], clean[utt]) for utt in sorted(clean)}


def _counts(found):
    return ", ".join(f"{name} {len(files)}" for name, files in found.items())


def find_logs(corpus_dir):
    """The log files, sorted; links are followed, as to the audio."""
    logs = []
    for here, folders, files in walk_folders(corpus_dir):
        folders[:] = [name for name in folders if not name.startswith(".")]
        logs += [Path(here, name) for name in LOGS if name in files]
    return sorted(logs)


def read_logs(corpus_dir):
    """{utterance: (noise type, SNR in dB as text)}, from lines ``utterance noise SNR``."""
    labels, origin = {}, {}
    for path in find_logs(corpus_dir):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(
                f"{path}: is not UTF-8 text; unpack logfiles.zip again, or remove the file: noise and SNR are then "
                "estimated"
            ) from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if not re.fullmatch(r"\S+\s+\S+\s+-?\d+(\.\d+)?\s*", line):
                raise UserError(
                    f"{path}:{number}: '{line}' is not 'utterance noise SNR', such as 'p232_001 bus 2.5'; mend it, or "
                    "remove the file: noise and SNR are then estimated"
                )
            utt, *label = line.split()
            if labels.setdefault(utt, label) != label:
                raise UserError(
                    f"{path}:{number}: '{line.strip()}', but {origin[utt]} has '{' '.join(labels[utt])}'; keep the log "
                    "file that came with the audio"
                )
            origin.setdefault(utt, f"{path}:{number}")
    return labels


def write_pairs(folder, pairs, labels, nj):
    """A data directory of files as they are; wav.scp comes last, so a set that has it is complete.

    Returns:
        row for the data card.
    """
    (folder / "wav.scp").unlink(missing_ok=True)
    infos = parallel_map(lambda pair: [audio.info(path) for path in pair], list(pairs.values()), nj, folder.name)
    rows, rates, seconds = [], Counter(), 0.0
    for (utt, paths), found in zip(pairs.items(), infos, strict=True):
        check_form(paths, found)
        rates[found[0].sample_rate] += 1
        seconds += found[0].frames / found[0].sample_rate
        rows.append((utt, *(path.absolute() for path in paths), found[0].frames))
    speakers = [(utt, speaker(utt)) for utt in pairs]
    write_table(folder / "utt2spk", speakers)
    write_table(folder / "spk2utt", spk2utt(speakers))
    write_table(folder / "utt2num_samples", [(utt, length) for utt, *_, length in rows])
    known = [(utt, *labels[utt]) for utt in pairs if utt in labels]
    for name, column in (("utt2noise", 1), ("utt2snr", 2)):
        (folder / name).unlink(missing_ok=True)
        if len(known) == len(rows):
            write_table(folder / name, [(row[0], row[column]) for row in known])
    if 0 < len(known) < len(rows):
        logging.warning("%s: the log names %d of %d utterances, so it is not used", folder, len(known), len(rows))
    write_table(folder / "spk1.scp", [(utt, clean) for utt, _, clean, _ in rows])
    write_table(folder / "wav.scp", [(utt, noisy) for utt, noisy, *_ in rows])
    count, origin = len(set(dict(speakers).values())), "log file" if len(known) == len(rows) else "estimated"
    at = ", ".join(f"{n} at {rate} Hz" for rate, n in sorted(rates.items()))
    logging.info(
        "%s: %d pairs of %d speakers, %.2f h; %s; labels: %s", folder, len(rows), count, seconds / 3600, at, origin
    )
    return folder.name, len(rows), count, f"{seconds / 3600:.2f}", at, origin


def check_form(paths, infos):
    where = " and ".join(map(str, paths))
    if len({(info.frames, info.sample_rate) for info in infos}) > 1:
        sizes = " and ".join(f"{info.frames} samples at {info.sample_rate} Hz" for info in infos)
        raise UserError(f"{where}: {sizes}; a pair has one length and rate: unpack the archives again")
    channels = max(info.channels for info in infos)
    if infos[0].sample_rate not in RATES or channels > 1:
        raise UserError(
            f"{where}: {channels} channels at {infos[0].sample_rate} Hz; expected 1 at 48000 Hz, or at 16000 Hz in "
            "copies of the corpus: get the archives of Edinburgh DataShare"
        )


def write_card(path, corpus_dir, rows):
    lines = [
        "# VoiceBank-DEMAND, 28 speakers",
        "",
        f"Read from {corpus_dir.absolute()}. Models are chosen on cv_2spk.",
        "",
        "| set | pairs | speakers | hours | recordings | noise and SNR |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]
    if any(row[5] == "estimated" for row in rows):
        lines += ["", ESTIMATES]
    if copies := [row[0] for row in rows if "16000 Hz" in row[4]]:
        note = (
            f"{', '.join(copies)}: copies at 16 kHz instead of the corpus's 48 kHz; what resampled them is not known. "
            "PESQ of single files can differ in the second decimal."
        )
        logging.warning("%s", note)
        lines += ["", note]
    with whole_file(path) as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
