"""Training on mixtures made on the fly: senet against the DNS synthesiser's way and a plain soundfile Dataset.

Each makes batches of 10 s mixtures of the same generated 16 kHz sources (wav; speech of about 15 s, noise of about
10 s, responses of about 0.6 s), without and with a room impulse response in every mixture.

    senet   policy dns: draw, read, mix to 16 bit, collate, turn into float32 (senet.data.online)
    parts   the same, but only read: what is left for a loading process with --mix_device gpu
    dns     what noisyspeech_synthesizer_singleprocess.py of the DNS challenges does for a file, with its defaults, as a
            Dataset: whole files in double precision, activity of the speech, its mixer, its checks
    dns numpy   the same steps, with numpy in the place of Python's any(), max() and sum() over samples
    plain   what one writes in ten lines: soundfile reads a crop, numpy scales, scipy.signal.fftconvolve
    limit   no mixing: os.pread of the bytes that senet's mixtures are made of, from the page cache

Rounds alternate between the ways. Processor time is that of all processes, user and system. ``--sources N`` measures
the memory of a loading process instead: that of source sets of N recordings against that of 1000.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import itertools
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

from senet.bin import mix
from senet.data import mixture_set
from senet.data.audio import write_wav
from senet.data.online import Mixtures
from senet.data.scp import write_table

RATE, BATCH = 16000, 8
EPS = np.finfo(float).eps


# ------------------------------------------------------------ sources


def make_sources(root, numbers, lines=None):
    """Source sets speech, noise, rir; ``numbers`` of recordings of each; of ``lines`` entries, recordings repeated."""
    rng = np.random.default_rng(0)
    for kind, seconds in (("speech", 15), ("noise", 10), ("rir", 0.6)):
        rows = []
        for i in range(numbers[kind]):
            n = round(RATE * seconds * rng.uniform(0.8, 1.2))
            x = rng.standard_normal(n)
            if kind == "rir":
                x = 0.1 * x * np.exp(-np.arange(n) / (0.1 * RATE))
                x[rng.integers(20, 100)] = 0.8
            else:
                x = np.convolve(x, np.hanning(16) / 8, "same")
                x = 0.05 * x * (np.sin(2 * np.pi * 3 * np.arange(n) / RATE + i) > -0.6 if kind == "speech" else 1)
            path = root / kind / "wav" / f"{kind}_{i}.wav"
            write_wav(path, x, RATE)
            rows.append((str(path), n))
        total = lines or len(rows)
        keys = [f"spk{i // 100:06d}-{kind}{i:08d}" for i in range(total)]
        for name, value in {
            "wav.scp": lambda i, rows=rows: rows[i % len(rows)][0],
            "utt2num_samples": lambda i, rows=rows: rows[i % len(rows)][1],
            "utt2fs": lambda i: RATE,
            "utt2spk": lambda i: f"spk{i // 100:06d}",
        }.items():
            write_table(root / kind / name, ((key, value(i)) for i, key in enumerate(keys)))
    return root


def mixtures(root, seconds, rir, number, on_device=False):
    words = ["--data", root, "--out", "online", "--speech", "speech", "--noise", "noise", "--policy", "dns"]
    words += ["--seconds", seconds] + (["--rir", "rir", "--rir_prob", 1] if rir else [])
    policy, mixer = mixture_set.open_mixer(mix.get_parser().parse([str(word) for word in words]))
    return Mixtures("bench", policy, mixer, number=number, on_device=on_device, batch_size=BATCH, seed=0)


# ------------------------------------------------------------ the DNS synthesiser's way


class DnsWay(Dataset):
    """One file of the official synthesiser for each item, step by step with its defaults, in double precision.

    ``reduce`` is (any, max, sum) over samples: that script takes Python's own, and lets arrays grow frame by frame;
    with numpy's the same steps take a sixth of the time.
    """

    def __init__(self, root, seconds, rir, number, reduce):
        self.files, self.samples, self.rir, self.number = recordings(root), round(seconds * RATE), rir, number
        self.any, self.max, self.sum = reduce

    def __len__(self):
        return self.number

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        while True:
            clean = self.active_audio(rng, "speech", 0.6, pause=0.2)
            if self.rir:
                from scipy.signal import fftconvolve

                response = read_whole(rng.choice(self.files["rir"]))
                clean = fftconvolve(clean, response, mode="full")[: len(clean)]
            noise = self.active_audio(rng, "noise", 0.0, pause=0)
            signals = self.mix(clean, noise, rng.integers(-5, 20), rng.integers(-35, -15))
            if not any(self.is_clipped(x) for x in signals):
                return [torch.from_numpy(x.astype(np.float32)) for x in signals]

    def is_clipped(self, x):
        return self.any(abs(x) > 0.99)

    def active_audio(self, rng, kind, threshold, pause):
        while True:
            audio = self.joined(rng, self.files[kind], pause)
            if threshold == 0 or self.active_share(audio) > threshold:
                return audio

    def joined(self, rng, files, pause):
        joined, left, tries = np.zeros(0), self.samples, 0
        at = rng.integers(len(files))
        while left > 0:
            at = (at + 1) % len(files)
            audio = read_whole(files[at])
            if len(audio) > left:
                start = rng.integers(len(audio) - left)
                audio = audio[start : start + left]
            if self.is_clipped(audio) and tries < 50:
                tries += 1
                continue
            joined, left = np.append(joined, audio), left - len(audio)
            if left > 0 and pause:
                silence = np.zeros(min(left, round(RATE * pause)))
                joined, left = np.append(joined, silence), left - len(silence)
        return joined

    def active_share(self, audio):
        audio, size, active, before = to_level(audio, -25), RATE // 20, [], 0.0
        for start in range(0, len(audio), size):
            energy = 20 * np.log10(self.sum(audio[start : start + size] ** 2) + EPS)
            now = 1 / (1 + np.exp(1 - 0.2 * energy))
            weight = 0.8 if now > before else 0.05
            active.append(weight * now + (1 - weight) * before > 0.13)
            before = now
        return sum(active) / len(active)

    def active_rms(self, clean, noise):
        size, parts = RATE // 10, ([], [])
        for start in range(0, len(noise), size):
            frames = clean[start : start + size], noise[start : start + size]
            if 20 * np.log10((frames[1] ** 2).mean() + EPS) > -50:
                for part, frame in zip(parts, frames, strict=True):
                    part.append(frame)
                if self.any is any:
                    parts = tuple([np.concatenate(part)] for part in parts)
        return [(np.concatenate(part) ** 2).mean() ** 0.5 for part in parts]

    def mix(self, clean, noise, snr, level):
        clean, noise = (x / (self.max(abs(x)) + EPS) for x in (clean, noise))
        levels = self.active_rms(clean, noise)
        clean, noise = (x * (10 ** (-25 / 20) / (rms + EPS)) for x, rms in zip((clean, noise), levels, strict=True))
        noise = noise * (levels[0] / 10 ** (snr / 20) / (levels[1] + EPS))
        noisy = clean + noise
        gain = 10 ** (level / 20) / ((noisy**2).mean() ** 0.5 + EPS)
        signals = [x * gain for x in (noisy, clean, noise)]
        if self.is_clipped(signals[0]):
            largest = self.max(abs(signals[0])) / (0.99 - EPS)
            signals = [x / largest for x in signals]
        return signals


def recordings(root):
    return {kind: sorted(map(str, (root / kind / "wav").iterdir())) for kind in ("speech", "noise", "rir")}


def read_whole(path):
    audio, rate = soundfile.read(path)
    assert rate == RATE
    return audio if audio.ndim == 1 else audio.mean(axis=1)


def to_level(x, level):
    return x * (10 ** (level / 20) / ((x**2).mean() ** 0.5 + EPS))


# ------------------------------------------------------------ a plain Dataset


class Plain(Dataset):
    def __init__(self, root, seconds, rir, number):
        self.files, self.samples, self.rir, self.number = recordings(root), round(seconds * RATE), rir, number

    def __len__(self):
        return self.number

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        speech, noise = self.crop(rng, "speech"), self.crop(rng, "noise")
        if self.rir:
            from scipy.signal import fftconvolve

            response, _ = soundfile.read(rng.choice(self.files["rir"]), dtype="float32")
            speech = fftconvolve(speech, response)[: self.samples]
        noise = noise * (np.sqrt((speech**2).mean() / (noise**2).mean()) * 10 ** (-rng.uniform(-5, 20) / 20))
        noisy = speech + noise
        gain = 10 ** (rng.uniform(-35, -15) / 20) / np.sqrt((noisy**2).mean())
        largest = gain * max(np.abs(x).max() for x in (noisy, speech, noise))
        gain *= min(1, 0.99 / largest)
        return [torch.from_numpy((gain * x).astype(np.float32)) for x in (noisy, speech, noise)]

    def crop(self, rng, kind):
        pieces, left = [], self.samples
        while left:
            with soundfile.SoundFile(rng.choice(self.files[kind])) as file:
                file.seek(rng.integers(max(file.frames - left, 0) + 1))
                pieces.append(file.read(left, dtype="float32"))
            left -= len(pieces[-1])
        return np.concatenate(pieces)


# ------------------------------------------------------------ measuring


def limit(lines, paths):
    """Read, batch by batch, the bytes that ``lines`` are made of."""
    head = 44
    for start in range(0, len(lines), BATCH):
        for parts in lines[start : start + BATCH]:
            for path, first, length in parts:
                file = os.open(path, os.O_RDONLY)
                os.pread(file, 2 * length, head + 2 * first)
                os.close(file)
        yield None


def bytes_of(stream, items, epoch=0):
    """For each mixture of an epoch: (path, first sample, samples) of what it is made of."""
    policy, lines = stream.items.policy, []
    for i in stream._orders[0](epoch)[0][:items]:
        (line,) = policy.draw(stream._rng(epoch, int(i), 0), int(i))
        sets = [(policy.speech, part) for part in line.clean] + [(policy.noise, part) for part in line.noise]
        parts = [(s.scp[part.source], part.start, part.length) for s, part in sets if part.source]
        if line.rir:
            index = policy.rir.scp.index(line.rir)
            parts.append((policy.rir.scp.value(index), 0, int(policy.rir.lengths[index])))
        lines.append(parts)
    return lines


def processor_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(ways, rounds, items):
    """name -> list over rounds of (processor seconds, wall seconds) per item; ways: name -> function giving batches."""
    times = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, way in ways.items():
            processor, wall = processor_seconds(), time.perf_counter()
            batches = way()
            for _ in itertools.islice(batches, items // BATCH):
                pass
            del batches  # its processes end, and their time counts
            if round_number:  # the first warms up
                spent = processor_seconds() - processor, time.perf_counter() - wall
                times[name].append([x / items for x in spent])
    return times


def ways_of(root, seconds, rir, items, workers):
    ours, parts = (mixtures(root, seconds, rir, items, on_device) for on_device in (False, True))
    paths = bytes_of(ours, items)
    total = sum(2 * length for line in paths for *_, length in line)

    def plainly(dataset):
        return lambda: iter(DataLoader(dataset, batch_size=BATCH, num_workers=workers, multiprocessing_context=context))

    context = "fork" if workers else None
    ways = {
        "senet": lambda: map(ours.finish, ours.loader(0, num_workers=workers)),
        "parts": lambda: parts.loader(0, num_workers=workers),
        "dns": plainly(DnsWay(root, seconds, rir, items, (any, max, sum))),
        "dns numpy": plainly(DnsWay(root, seconds, rir, items, (np.any, np.max, np.sum))),
        "plain": plainly(Plain(root, seconds, rir, items)),
    }
    return ways | ({} if workers else {"limit": lambda: limit(paths, None)}), total / items


def compare(root, seconds, rir, items, rounds, workers):
    ways, size = ways_of(root, seconds, rir, items, workers)
    times = measure(ways, rounds, items)
    print(f"\n{'with' if rir else 'without'} RIR, {workers} workers, {seconds:g} s, {size / 1e3:.0f} kB read per item")
    figures = {}
    for name, values in times.items():
        processor, wall = (statistics.median(x) for x in zip(*values, strict=True))
        ratios = [v[0] / o[0] for v, o in zip(values, times["senet"], strict=True)]
        figures[name] = {
            "processor_ms": 1e3 * processor,
            "items_per_second": 1 / wall,
            "ratio": statistics.median(ratios),
        }
        print(
            f"{name:9} {1e3 * processor:8.3f} ms of processor per item  {1 / wall:8.1f} items/s  "
            f"{statistics.median(ratios):6.2f} x senet's processor time ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if "limit" in figures:
        bandwidth = size / figures["limit"]["processor_ms"] / 1e6
        print(f"page cache: {bandwidth:.2f} GB/s; senet reaches {100 * figures['limit']['ratio']:.1f} % of it")
    return figures | {"bytes_per_item": size}


def private_kilobytes(pid):
    """(written to, only read: pages of the mapped lists that nobody else looked at, which the system may take back)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
        fields = dict(line.split(":", 1) for line in f if ":" in line and "kB" in line)
    return [int(fields[name].split()[0]) for name in ("Private_Dirty", "Private_Clean")]


def memory(root, lines, workers=2):
    """``private_kilobytes`` of each loading process after 10 batches of each."""
    start = time.perf_counter()
    batches = mixtures(root, 4, True, 60000)
    opened = time.perf_counter() - start
    loader = batches.loader(0, num_workers=workers)
    for _ in itertools.islice(loader, 10 * workers):
        pass
    found = [private_kilobytes(child.pid) for child in multiprocessing.active_children()]
    loader.close()
    dirty, clean = (", ".join(f"{x / 1024:.1f}" for x in each) for each in zip(*found, strict=True))
    print(f"{lines} recordings in each set: opened in {opened:.1f} s; each worker's own memory {dirty} MiB, ", end="")
    print(f"and {clean} MiB of mapped files")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="length of a mixture")
    parser.add_argument("--items", type=int, default=160, help="mixtures per way and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", type=int, help="measure memory with source sets of so many recordings")
    parser.add_argument("--json", help="write the figures to this file as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if args.sources:
            few = {"speech": 20, "noise": 20, "rir": 20}
            figures = {n: memory(make_sources(root / str(n), few, n), n) for n in (1000, args.sources)}
        else:
            make_sources(root, dict.fromkeys(("speech", "noise", "rir"), min(args.items, 200)))
            figures = {
                f"rir {rir}, {workers} workers": compare(root, args.seconds, rir, args.items, args.rounds, workers)
                for workers in args.workers
                for rir in (False, True)
            }
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
