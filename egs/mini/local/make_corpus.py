#!/usr/bin/env python3
"""Makes the corpus of egs/mini on the spot: speech by espeak-ng, noises by formula.

    OUT/speech/{train,valid,test}/<speaker>/<speaker>_01.wav ...   22.05 kHz, 16 bit
    OUT/noise/{train,valid,test}/<kind>_01.wav ...                 16 kHz, 16 bit

The three sets share no voice, no sentence and no noise recording; some kinds of noise are only in the test set.
The same files come out each time, with any --nj; what is there already is kept, so it can be interrupted.
"""

import argparse
import logging
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
from espeak import Espeak
from noises import make

from senet.bin import run, setup_logging
from senet.data.audio import write_wav
from senet.dsp.resample import resample

SEED = 20
SENTENCES = Path(__file__).with_name("sentences.txt")

# espeak-ng's voice variants that speak without echo, whisper or clipping; each set has its own. Left out for another
# reason: f2, f3, f5 and victor, which sound slightly different each time.
VARIANTS = {
    "train": "Alex Andrea Annie Denis Mario Michael Nguyen adam anika aunty boris david f1 grandma ian iven3 iven4 "
    "m1 m3 m5 m6 m8 marcelo quincy rob steph travis zac",
    "valid": "benjamin m4 max",
    "test": "belinda edward2 grandpa m7 robert shelby",
}
ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbcwmd")
ACCENTS_EACH = {"train": 3, "valid": 2, "test": 1}
SENTENCE_RANGE = {"train": (0, 110), "valid": (110, 125), "test": (125, 150)}
RECORDINGS = {"train": 6, "valid": 4, "test": 8}  # of each speaker, 2 sentences each: about 6 s

TRAIN_KINDS = "coloured band hum fan engine typing rain birds babble"
NOISES = {  # how many recordings of which kinds
    "train": (12, TRAIN_KINDS),
    "valid": (1, TRAIN_KINDS),
    "test": (2, "coloured fan typing rain babble siren wind steps"),
}
NOISE_SECONDS, NOISE_RATE = 12, 16000

# People in the background; none of them is a speaker above.
BABBLE_VOICES = "de+klatt fr+m2 es+croak it+klatt2 nl+f4 pt+klatt3 pl+linda sv+kaukovalta"
BABBLE_TEXT = {
    "de": "Am Abend gingen wir langsam durch die Altstadt, kauften Brot und redeten über das Wetter von gestern.",
    "fr": "Le matin, les enfants courent vers la place du village et les marchands ouvrent lentement leurs boutiques.",
    "es": "Mi hermana trabaja cerca del puerto y cada tarde compra pescado fresco para toda la familia.",
    "it": "Domani partiamo presto con il treno e mangiamo qualcosa di buono vicino alla stazione.",
    "nl": "De buren hebben een nieuwe fiets gekocht en rijden nu elke ochtend samen langs het water.",
    "pt": "O barco chegou cedo ao porto e os pescadores contaram histórias até ao meio da tarde.",
    "pl": "Wczoraj wieczorem padał deszcz, więc zostaliśmy w domu i czytaliśmy stare gazety.",
    "sv": "På sommaren badar vi i sjön varje dag och plockar blåbär i skogen bakom huset.",
}


def speakers(part):
    """(name, voice, settings) of each speaker of a set; pitch and speed are drawn once, by the name."""
    for i, variant in enumerate(VARIANTS[part].split()):
        for k in range(ACCENTS_EACH[part]):
            accent = ACCENTS[(i + 2 * k) % len(ACCENTS)]
            rng = np.random.default_rng([SEED, i, k, len(part)])
            settings = {
                "pitch": rng.integers(15, 90),
                "pitch_range": rng.integers(35, 80),
                "words_per_minute": rng.integers(135, 205),
            }
            yield f"{variant.lower()}_{accent.rpartition('-')[2]}", f"{accent}+{variant}", settings


def make_speaker(job):
    """All recordings of one speaker, in a fresh process: espeak-ng's random numbers go on from one text to the next."""
    folder, part, name, voice, settings = job
    if folder.is_dir():
        return
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()[slice(*SENTENCE_RANGE[part])]
    rng = np.random.default_rng([SEED, *name.encode()])
    espeak = Espeak()
    espeak.voice(voice, **settings)
    beside = folder.with_name(f".{name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    for i in range(RECORDINGS[part]):
        text = " ".join(rng.choice(sentences, 2, replace=False))
        write_wav(beside / f"{name}_{i + 1:02d}.wav", espeak.say(text) / np.float32(32768), espeak.sample_rate)
    beside.rename(folder)


def make_talkers():
    """People who talk in the background: list of float32 arrays at NOISE_RATE."""
    espeak = Espeak()
    talkers = []
    for i, voice in enumerate(BABBLE_VOICES.split()):
        espeak.voice(voice, pitch=35 + 5 * i)
        speech = espeak.say(BABBLE_TEXT[voice.partition("+")[0]]) / np.float32(32768)
        talkers.append(resample(speech, espeak.sample_rate, NOISE_RATE))
    return talkers


def make_kind(job):
    """All recordings of one kind of noise for one set."""
    folder, part, kind, count = job
    talkers = None
    for i in range(count):
        path = folder / f"{kind}_{i + 1:02d}.wav"
        if not path.exists():
            if kind == "babble" and talkers is None:
                talkers = make_talkers()
            seed = [SEED, i, *f"{part} {kind}".encode()]
            write_wav(path, make(kind, seed, NOISE_SECONDS, NOISE_RATE, talkers), NOISE_RATE)


def get_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make it in (about 190 MB)")
    parser.add_argument("--nj", type=int, default=os.cpu_count(), help="processes (default: %(default)s)")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    jobs = []
    for part in VARIANTS:
        for name, voice, settings in speakers(part):
            jobs.append((make_speaker, (args.out / "speech" / part / name, part, name, voice, settings)))
        count, kinds = NOISES[part]
        for kind in kinds.split():
            jobs.append((make_kind, (args.out / "noise" / part, part, kind, count)))
    logging.info("%s: making what is not there yet of speech and noise, less than a minute", args.out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes are ended, and say nothing
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["numpy", "noises", "senet.data.audio", "senet.dsp.resample"])
    with processes.Pool(args.nj, maxtasksperchild=1) as pool:
        for result in [pool.apply_async(make_one, (job,)) for make_one, job in jobs]:
            result.get()
    logging.info("%s: the corpus is there", args.out)


if __name__ == "__main__":
    sys.exit(run(main))
