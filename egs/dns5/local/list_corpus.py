"""List DNS5 as source sets, and its test sets as data directories, wherever the archives were unpacked."""

import argparse
import logging
import shutil
import sys
from pathlib import Path

import list_test

from senet.bin import prepare, run
from senet.errors import UserError
from senet.files import walk_folders

CLEAN = (
    "VocalSet_48kHz_mono",
    "emotional_speech",
    "french_speech",
    "german_speech",
    "italian_speech",
    "read_speech",
    "russian_speech",
    "spanish_speech",
    "vctk_wav48_silence_trimmed",
)
TESTS = {  # set: folder, and in it, at any depth, the noisy recordings
    "dev_headset": ("V5_dev_testset", "Track1_Headset/noisy"),
    "dev_speakerphone": ("V5_dev_testset", "Track2_Speakerphone/noisy"),
    "blind_headset": ("V5_BlindTestSet", "Track1_Headset/noisy"),
    "blind_speakerphone": ("V5_BlindTestSet", "Track2_Speakerphone/noisy"),
    "dns1_no_reverb": ("no_reverb", "noisy"),  # beside clean
    "dns1_with_reverb": ("with_reverb", "noisy"),
}
FOLDERS = {*CLEAN, "noise_fullband", "impulse_responses", *(folder for folder, _ in TESTS.values())}
ADVICE = """\
It should hold the unpacked archives:
  read_speech/book_00000_chp_0009_reader_06709_3_seg_2.wav     clean speech; others: --local_args "--corpora 'NAME ...'"
  noise_fullband/door_Freesound_validated_349356_0.wav
  impulse_responses/SLR26/simulated_rirs_48k/smallroom/Room001/Room001-00001.wav
  V5_dev_testset/Track1_Headset/noisy/...                      for the test sets dev_headset, dev_speakerphone
  V5_BlindTestSet/Track1_Headset/noisy/...                     for blind_headset, blind_speakerphone
  no_reverb/{noisy,clean}/..._fileid_N.wav, with_reverb/...    for dns1_no_reverb, dns1_with_reverb
Set DNS5=DIR in the environment or in conf/local.conf, or give ./run.sh --dns5 DIR. To fetch them from the challenge's
server (README.md says how large the parts are): local/download.sh --download true
The last two are in https://github.com/microsoft/DNS-Challenge, branch interspeech2020/master: datasets/test_set"""


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--dns5", type=Path, required=True, help="folder that is searched at any depth")
    parser.add_argument("--corpora", required=True, help="names of clean corpora, blanks between; all: those there")
    parser.add_argument("--sets", default="", help="names of those to list; all if empty")
    parser.add_argument("--datadir", type=Path, required=True, help="folder for the sets")
    parser.add_argument("--valid_share", type=float, required=True, help="of speakers, recordings and rooms")
    parser.add_argument("--test_share", type=float, required=True)
    for name in ("seed", "nj", "bad_audio", "fingerprint"):
        parser.add_argument(f"--{name}", required=True, help="as of senet.bin.prepare")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    found = find_folders(args.dns5)
    corpora = [name for name in CLEAN if name in found] if args.corpora == "all" else args.corpora.split()
    for name in corpora:
        if name not in CLEAN:
            raise UserError(f"--corpora: there is no '{name}'; there are {', '.join(CLEAN)}")
    needed = [*(corpora or ["read_speech"]), "noise_fullband", "impulse_responses"]
    if args.sets and TESTS.keys() >= set(args.sets.split()):
        corpora, needed = [], [TESTS[name][0] for name in args.sets.split()]
    if missing := [name for name in needed if name not in found]:
        raise UserError(f"--dns5 {args.dns5}: no folder called {', '.join(missing)} in it, at any depth. {ADVICE}")
    tests = {name: found[folder] for name, (folder, _) in TESTS.items() if folder in found}
    for places in [*(found[name] for name in needed), *tests.values()]:
        if len(places) > 1:
            raise UserError(f"--dns5 {args.dns5}: the same twice, {places[0]} and {places[1]}; keep one copy below it")
    listed = [name for name, (folder,) in tests.items() if list_official(name, folder, args)]
    kinds = (("speech", corpora), ("noise", ["noise_fullband"]), ("rir", ["impulse_responses"])) if corpora else ()
    for kind, names in kinds:
        list_sources(kind, [found[name][0] for name in names], args)
    for name in TESTS.keys() - listed:  # of an earlier run
        shutil.rmtree(args.datadir / name, ignore_errors=True)
    if absent := [f"{name} ({'/'.join(place)})" for name, place in TESTS.items() if name not in listed]:
        logging.info("test sets that are not below %s: %s", args.dns5, ", ".join(absent))


def find_folders(root):
    """{name: paths} of the folders in FOLDERS, also with an ending such as _mono; what is in them is not searched."""
    found = {}
    for here, folders, _ in walk_folders(root):
        path = Path(here)
        name = path.name if path.name in FOLDERS else path.name.removesuffix("_mono")
        if name in FOLDERS and path != root:
            found.setdefault(name, []).append(path)
            folders.clear()
        else:
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
    return found


def list_official(name, folder, args):
    """Whether there was something to list."""
    noisy = sorted(path for path in folder.rglob(TESTS[name][1]) if path.is_dir())
    if not noisy:
        return False
    words = ["--noisy", noisy[0], "--out", args.datadir / name, "--nj", args.nj]
    if name.startswith("dns1"):
        words += ["--clean", noisy[0].with_name("clean")]
    list_test.main(list(map(str, words)))
    return True


def list_sources(kind, folders, args):
    train = 1 - args.valid_share - args.test_share
    split = f"train={train} valid={args.valid_share} test={args.test_share}"
    words = ["--kind", kind, "--speaker", "dns", "--src", *folders, "--out", args.datadir / kind, "--split", split]
    for name in ("seed", "nj", "bad_audio", "fingerprint"):
        words += [f"--{name}", getattr(args, name)]
    prepare.main(list(map(str, words)))


if __name__ == "__main__":
    sys.exit(run(main))
