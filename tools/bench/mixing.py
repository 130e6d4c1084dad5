"""Synthesis of mixtures against a plain script in the manner of MS-SNSD's and DNS's, in one run.

Both make the same clips from the same sources (flac speech of about 12 s, wav noise of about 10 s, wav room impulse
responses of 0.3 to 1.3 s): read, reverberate, bring to level, mix, guard the peak, write noisy, clean and noise. senet
reads just the crops, convolves and mixes in blocks, writes arks and reads them back to check; the plain script reads
whole files, works step by step in double precision as those scripts do, convolves by scipy.signal.fftconvolve, and
writes three wav files for each clip. Two cases: crops of 3 s without reverberation, and the DNS rules with a response
for each clip of 10 s. Rounds alternate. Times are of the processor (user + system).

    python tools/bench/mixing.py [--clips 256] [--rounds 5] [--speech_dir DIR --noise_dir DIR --rir_dir DIR]
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
from scipy.signal import fftconvolve

from senet.bin import mix, prepare
from senet.data.plan import Plan
from senet.data.scp import Scp

RATE = 16000
KINDS = "speech", "noise", "rir"
CASES = {
    "crops of 3 s": ["--policy", "crop", "--seconds", "3"],
    "10 s with RIR": ["--policy", "dns", "--seconds", "10", "--rir", "rir", "--rir_prob", "1"],
}


def make_sources(folder, number=40):
    """Recordings of the usual lengths and formats; returns the folders of ``KINDS``."""
    rng = np.random.default_rng(0)
    for kind, seconds, suffix in (("speech", 12.3, "flac"), ("noise", 10.0, "wav")):
        (folder / kind).mkdir()
        for i in range(number):
            noise = np.convolve(rng.standard_normal(int(seconds * RATE)), np.hanning(16) / 8, "same")
            bursts = np.sin(2 * np.pi * 3 * np.arange(len(noise)) / RATE + i) > -0.3
            soundfile.write(folder / kind / f"{kind}_{i}.{suffix}", 0.05 * noise * bursts, RATE, "PCM_16")
    (folder / "rir").mkdir()
    for i, seconds in enumerate(np.linspace(0.3, 1.3, number)):
        rir = rng.standard_normal(int(seconds * RATE))
        rir *= 0.1 * np.exp(-6.9 * np.arange(len(rir)) / len(rir))
        soundfile.write(folder / "rir" / f"rir_{i}.wav", rir, RATE, "PCM_16")
    return [folder / kind for kind in KINDS]


# The plain script


def audioread(path):
    x, rate = soundfile.read(path)
    assert rate == RATE
    return x if x.ndim == 1 else x.mean(axis=1)


def normalize(x, target=-25):
    rms = (x**2).mean() ** 0.5
    return x * (10 ** (target / 20) / (rms + np.finfo(float).eps))


def joined(parts, files):
    out = np.zeros(0)
    for part in parts:
        piece = audioread(files[part.source])[part.start :] if part.source else np.zeros(part.length)
        out = np.append(out, piece[: part.length])
    return out


def snr_mixer(clean, noise, snr):
    clean = normalize(clean)
    noise = normalize(noise)
    rms_clean = (clean**2).mean() ** 0.5
    rms_noise = (noise**2).mean() ** 0.5
    noise_at_snr = noise * (rms_clean / (10 ** (snr / 20)) / (rms_noise + np.finfo(float).eps))
    return clean, noise_at_snr, clean + noise_at_snr


def plain(lines, speech, noise, rir, out):
    for folder in ("noisy", "clean", "noise"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for i, line in enumerate(lines):
        clean, background = joined(line.clean, speech), joined(line.noise, noise)
        if line.rir:
            clean = fftconvolve(clean, audioread(rir[line.rir]), mode="full")[: len(clean)]
        clean, background, noisy = snr_mixer(clean, background, line.snr_db)
        if line.rir:
            gain = 10 ** (line.level_db / 20) / ((noisy**2).mean() ** 0.5 + np.finfo(float).eps)
            noisy, clean, background = (x * gain for x in (noisy, clean, background))
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


def compare(name, options, root, scps, clips, rounds):
    times = {"plan": [], "ours": [], "plain": []}
    for i in range(rounds):
        out = root / name / f"set{i}"
        words = ["--data", root / "data", "--speech", "speech", "--noise", "noise", "--out", out, "--nj", 1]
        words = [str(word) for word in (*words, "--num_clips", clips, *options)]
        times["plan"].append(processor_time(mix.main, [*words, "--plan"]))
        plan = Plan(out / "plan.tsv")
        times["ours"].append(processor_time(mix.main, [*words, "--job", "1/1"]))
        lines = [plan[k] for k in range(len(plan))]
        times["plain"].append(processor_time(plain, lines, *scps, root / name / f"plain{i}"))
    print(name)
    for what, values in times.items():
        processor, wall = (1000 * statistics.median(x) / clips for x in zip(*values, strict=True))
        print(f"  {what:<6} {processor:7.2f} ms of processor, {wall:7.2f} ms of wall time for a clip")
    ratios = [p[0] / o[0] for p, o in zip(times["plain"], times["ours"], strict=True)]
    whole = [p[0] / (o[0] + q[0]) for p, o, q in zip(times["plain"], times["ours"], times["plan"], strict=True)]
    print(f"  plain / ours: {statistics.median(ratios):.2f} (rounds: {' '.join(f'{x:.2f}' for x in ratios)})")
    print(f"  plain / (plan + ours): {statistics.median(whole):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    for kind in KINDS:
        parser.add_argument(f"--{kind}_dir", type=Path)
    args = parser.parse_args()
    given = [getattr(args, f"{kind}_dir") for kind in KINDS]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for kind, folder in zip(KINDS, given if all(given) else make_sources(root), strict=True):
            words = ["--src", folder, "--out", root / "data" / kind, "--kind", "noise", "--speaker", "file"]
            processor_time(prepare.main, [str(word) for word in words])
        scps = [dict(Scp(root / "data" / kind / "wav.scp")) for kind in KINDS]
        for name, options in CASES.items():
            compare(name, options, root, scps, args.clips, args.rounds)


if __name__ == "__main__":
    main()
