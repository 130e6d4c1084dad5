"""Scoring against a plain script, in one run: speed with one and with two processes, values, and where the time goes.

The table of VoiceBank-DEMAND (PESQ-WB, CSIG, CBAK, COVL, SSNR, STOI) with ESTOI and SI-SDR, of the same wav files, by

- ``senet score`` in one process,
- ``senet score --nj 2``, and
- ``tools/bench/plain/scoring.py``: one loop that calls pesq and pystoi, with the composite frame by frame.

Times are of whole commands, each with one thread, from starting Python to the files on the disk: start-up is included,
and said beside them, as the time that the same command takes for the first two utterances. Where other programs run,
times of the processor mean more than wall times.

The ratio to the plain script comes from its loops over frames for LLR, WSS and SSNR; PESQ's C code is the same in both.
Their share is measured, and the ratio said without them, too: that against a script with arrays instead of loops is
between the two. Then the first is done once more in this process to see what
share of its processor time is spent outside PESQ's C code and STOI's core (resampling, envelopes, correlations). The
exit code is 1 where the values of one and two processes differ at all, or those of the plain script by more than 1e-4,
PESQ's by anything.

    python tools/bench/scoring.py [--utterances 100] [--noisy_dir DIR --clean_dir DIR] [--json FILE]

The folders hold wav files of the same names; if they are fewer, each is used again. Without them the utterances are
made: voices of changing pitch with pauses, in coloured noise at -5 to 20 dB, as long as those of VoiceBank-DEMAND.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is loaded, and for the commands started here

import numpy as np

from senet.data.audio import info, write_wav
from senet.data.scp import read_table, write_table
from senet.report import scoring

RATE = 16000
METRICS = ["pesq_wb", "csig", "cbak", "covl", "ssnr", "stoi", "estoi", "si_sdr"]
TOLERANCE = 1e-4


def make_pairs(noisy_dir, clean_dir, number):
    """Utterances of 1.2 to 10 s, 2.5 s on average."""
    rng = np.random.default_rng(0)
    for i in range(number):
        n = int(RATE * min(1.2 + rng.exponential(1.4), 10))
        pitch = rng.uniform(90, 240) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * np.arange(n) / RATE))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        voice = sum(np.sin(k * phase) / k for k in range(1, 25))
        loudness = rng.uniform(-0.4, 1, n // 2400 + 2)  # of syllables; below 0 is a pause
        loudness[1::4] = 1
        syllables = np.interp(np.arange(n), 2400 * np.arange(len(loudness)), loudness)
        clean = np.maximum(syllables, 0) * (voice + 0.1 * rng.standard_normal(n)) + 1e-3 * rng.standard_normal(n)
        noise = np.convolve(rng.standard_normal(n), rng.uniform(0, 1) ** np.arange(60), "same")
        clean *= 0.05 / np.sqrt(np.mean(clean**2))
        noise *= 0.05 / np.sqrt(np.mean(noise**2)) * 10 ** (-rng.uniform(-5, 20) / 20)
        write_wav(clean_dir / f"utt{i:04d}.wav", clean, RATE)
        write_wav(noisy_dir / f"utt{i:04d}.wav", clean + noise, RATE)


def copy_pairs(given, folders, number):
    names = sorted(path.name for path in given[0].glob("*.wav"))
    for i in range(number):
        for source, folder in zip(given, folders, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / names[i % len(names)], folder / f"utt{i:04d}.wav")


def make_set(folder, noisy_dir, clean_dir):
    """The data directory of these files."""
    names = sorted(path.stem for path in noisy_dir.iterdir())
    for scp, source in (("wav.scp", noisy_dir), ("spk1.scp", clean_dir)):
        write_table(folder / scp, [(name, source / f"{name}.wav") for name in names])
    write_table(folder / "utt2num_samples", [(name, info(clean_dir / f"{name}.wav").frames) for name in names])


def timed(command):
    """Seconds of wall time and of the processors that a command takes, its children included."""
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, processor


def run_all(root, folders):
    """The three commands on a set of files, which ``root`` gets: {name: (wall, processor seconds)}."""
    make_set(root / "set", *folders)

    def score(out, *options):
        words = ["--enhanced", root / "set" / "wav.scp", "--ref", root / "set", "--out", root / out]
        return [sys.executable, "-m", "senet.bin.score", *words, "--metrics", " ".join(METRICS), *options]

    plain = [sys.executable, Path(__file__).parent / "plain" / "scoring.py", *folders, root / "plain.json"]
    return {
        "plain": timed(plain),
        "senet, 1 process": timed(score("one")),
        "senet, 2 processes": timed(score("two", "--nj", "2")),
    }


def senet_scores(out):
    columns = {name: read_table(out / "scores" / name) for name in METRICS}
    return {utt: {name: float(columns[name][utt]) for name in METRICS} for utt in columns["stoi"]}


def share_outside(data, out):
    """Of the processor time of scoring in this process, what is neither PESQ's C code nor STOI's core."""
    import pesq._pesq

    from senet import metrics
    from senet.metrics import stoi

    spent = []

    def clocked(function):
        def call(*args):
            start = time.process_time()
            try:
                return function(*args)
            finally:
                spent.append(time.process_time() - start)

        return call

    audio = scoring.EnhancedSet(data / "wav.scp", data)
    noise = np.random.default_rng(0).standard_normal((2, RATE)) / 10
    for name in METRICS:
        metrics.compute(name, *noise, RATE)  # loads what is loaded late
    pesq._pesq.cypesq = clocked(pesq._pesq.cypesq)
    stoi.envelopes, stoi._mean = clocked(stoi.envelopes), clocked(stoi._mean)
    start = time.process_time()
    scoring.score_shards(audio, out, METRICS)
    return 1 - sum(spent) / (time.process_time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--noisy_dir", type=Path)
    parser.add_argument("--clean_dir", type=Path)
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folders = root / "noisy", root / "clean"
        if args.noisy_dir and args.clean_dir:
            copy_pairs((args.noisy_dir, args.clean_dir), folders, args.utterances)
        else:
            make_pairs(*folders, args.utterances)
        times = run_all(root, folders)
        few = root / "few" / "noisy", root / "few" / "clean"
        copy_pairs(folders, few, 2)
        start_up = {what: wall for what, (wall, _) in run_all(root / "few", few).items()}
        seconds = sum(map(int, read_table(root / "set" / "utt2num_samples").values())) / RATE
        outside = share_outside(root / "set", root / "here")
        plain = json.loads((root / "plain.json").read_text())
        expected, loops = plain["scores"], plain["frame_loops"]
        found = [senet_scores(root / out) for out in ("one", "two")]
    deviation = {name: max(abs(found[0][utt][name] - expected[utt][name]) for utt in expected) for name in METRICS}
    print(f"{len(expected)} utterances, {seconds:.0f} s of audio, {os.cpu_count()} CPUs")
    for what, (wall, processor) in times.items():
        speed = f"{len(expected) / wall:7.2f} utterances/s, {times['plain'][0] / wall:6.2f} x plain"
        started = f"start-up and two utterances {start_up[what]:.1f} s of {wall:.1f} s"
        print(f"{what:<20} {speed}; {1000 * processor / len(expected):5.0f} ms of processor for each; {started}")
    plain, ours = times["plain"][1], times["senet, 1 process"][1]
    ratios = f"{plain / ours:.2f} x senet's in one process, {(plain - loops) / ours:.2f} x without them"
    print(f"plain's loops over frames: {100 * loops / plain:.0f} % of its processor time; this is {ratios}")
    print(f"outside PESQ's C code and STOI's core: {100 * outside:.1f} %")
    print("largest difference to plain:", ", ".join(f"{name} {x:.1g}" for name, x in deviation.items()))
    if args.json:
        figures = {"utterances": len(expected), "audio_seconds": seconds, "seconds": times, "start_up": start_up}
        figures["frame_loops"] = loops / plain
        args.json.write_text(json.dumps({**figures, "outside": outside, "difference": deviation}, indent=2) + "\n")
    if found[0] != found[1] or not max(deviation.values()) <= TOLERANCE or deviation["pesq_wb"]:
        sys.exit("the values differ")


if __name__ == "__main__":
    main()
