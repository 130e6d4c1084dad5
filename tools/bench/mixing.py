"""Synthesis of mixtures against a plain script in the manner of MS-SNSD's and DNS's, in one run.

Both make the same 3 s clips from the same sources (flac speech of about 12 s, wav noise of about 10 s): read, bring to
level, mix, guard the peak, write noisy, clean and noise. senet reads just the crops, mixes in blocks, writes arks
and reads them back to check; the plain script reads whole files, works step by step in double precision as those
scripts do, and writes three wav files for each clip. Rounds alternate. Times are of the processor (user + system).

    python tools/bench/mixing.py [--clips 256] [--rounds 5] [--speech_dir DIR --noise_dir DIR]
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from senet.bin import mix, prepare
from senet.data.plan import Plan
from senet.data.scp import Scp

RATE = 16000


def make_sources(folder, number=40):
    """Recordings of the usual lengths and formats; returns (speech folder, noise folder)."""
    rng = np.random.default_rng(0)
    for kind, seconds, suffix in (("speech", 12.3, "flac"), ("noise", 10.0, "wav")):
        (folder / kind).mkdir()
        for i in range(number):
            noise = np.convolve(rng.standard_normal(int(seconds * RATE)), np.hanning(16) / 8, "same")
            bursts = np.sin(2 * np.pi * 3 * np.arange(len(noise)) / RATE + i) > -0.3
            soundfile.write(folder / kind / f"{kind}_{i}.{suffix}", 0.05 * noise * bursts, RATE, "PCM_16")
    return folder / "speech", folder / "noise"


# The plain script


def audioread(path):
    x, rate = soundfile.read(path)
    assert rate == RATE
    return normalize(x if x.ndim == 1 else x.mean(axis=1))


def normalize(x, target=-25):
    rms = (x**2).mean() ** 0.5
    return x * (10 ** (target / 20) / (rms + np.finfo(float).eps))


def snr_mixer(clean, noise, snr):
    clean = normalize(clean)
    noise = normalize(noise)
    rms_clean = (clean**2).mean() ** 0.5
    rms_noise = (noise**2).mean() ** 0.5
    noise_at_snr = noise * (rms_clean / (10 ** (snr / 20)) / (rms_noise + np.finfo(float).eps))
    return clean, noise_at_snr, clean + noise_at_snr


def plain(lines, speech, noise, out):
    for folder in ("noisy", "clean", "noise"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for i, line in enumerate(lines):
        (c,), (n,) = line.clean, line.noise
        clean = audioread(speech[c.source])[c.start : c.start + c.length]
        background = audioread(noise[n.source])[n.start : n.start + n.length]
        clean, background, noisy = snr_mixer(clean, background, line.snr_db)
        largest = np.max(np.abs(noisy))
        if largest > 0.99:
            noisy, clean, background = (x / largest * 0.99 for x in (noisy, clean, background))
        soundfile.write(out / "noisy" / f"noisy{i}_SNRdb_{line.snr_db}_clnsp{i}.wav", noisy, RATE)
        soundfile.write(out / "clean" / f"clnsp{i}.wav", clean, RATE)
        soundfile.write(out / "noise" / f"noisy{i}_SNRdb_{line.snr_db}.wav", background, RATE)


def processor_time(function, *args):
    start = os.times()
    wall = time.perf_counter()
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        function(*args)
    end = os.times()
    return end.user + end.system - start.user - start.system, time.perf_counter() - wall


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--speech_dir", type=Path)
    parser.add_argument("--noise_dir", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        generated = make_sources(root) if not (args.speech_dir and args.noise_dir) else None
        folders = generated or (args.speech_dir, args.noise_dir)
        for kind, folder in zip(("speech", "noise"), folders, strict=True):
            words = ["--src", folder, "--out", root / "data" / kind, "--kind", kind, "--speaker", "file"]
            processor_time(prepare.main, [str(word) for word in words])
        scps = [dict(Scp(root / "data" / kind / "wav.scp")) for kind in ("speech", "noise")]
        times = {"plan": [], "ours": [], "plain": []}
        for i in range(args.rounds):
            out = root / f"set{i}"
            words = ["--data", root / "data", "--speech", "speech", "--noise", "noise", "--out", out, "--nj", 1]
            words = [str(word) for word in (*words, "--num_clips", args.clips)]
            times["plan"].append(processor_time(mix.main, [*words, "--plan"]))
            plan = Plan(out / "plan.tsv")
            times["ours"].append(processor_time(mix.main, [*words, "--job", "1/1"]))
            lines = [plan[k] for k in range(len(plan))]
            times["plain"].append(processor_time(plain, lines, *scps, root / f"plain{i}"))
    for name, values in times.items():
        processor, wall = (1000 * statistics.median(x) / args.clips for x in zip(*values, strict=True))
        print(f"{name:<6} {processor:7.2f} ms of processor, {wall:7.2f} ms of wall time for a clip")
    ratios = [p[0] / o[0] for p, o in zip(times["plain"], times["ours"], strict=True)]
    whole = [p[0] / (o[0] + q[0]) for p, o, q in zip(times["plain"], times["ours"], times["plan"], strict=True)]
    print(f"plain / ours: {statistics.median(ratios):.2f} (rounds: {' '.join(f'{x:.2f}' for x in ratios)})")
    print(f"plain / (plan + ours): {statistics.median(whole):.2f}")


if __name__ == "__main__":
    main()
