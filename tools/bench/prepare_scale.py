"""What stages 1 and 2 cost at the scale of DNS5: time, files per second, peak memory of each command.

Makes a corpus with DNS5's layout and names: 48 kHz wav files of 4 to 30 s with sound headers and a few bytes of their
own, the rest holes, so that each takes 4 KiB. Then it runs, each in a fresh process, ``senet prepare`` of speech (split
by speaker), noise and impulse responses; again, when all is known; again with ``--fingerprint name``; and ``senet mix
--plan`` of a validation and a test set with policy dns, after their files were given sound.

"read" is what the processes read of files through system calls (rchar of /proc/PID/io). The files were just written and
so lie in the page cache: on a cold disk each costs its seeks besides. Linux only.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RATE = 48000
SPLIT = "train=0.94 valid=0.02 test=0.04"
SHARES = {"noise": 64_000 / 600_000, "rir": 60_000 / 600_000}  # DNS5 has about that many


def speech_names(n, rng):
    """Paths below clean_fullband: 60 % read_speech, which is one flat folder; M-AILABS, VCTK, SLR, CREMA-D."""
    for i in range(n):
        kind, reader = rng.random(), int(rng.integers(3000))
        if kind < 0.6:
            yield f"read_speech/book_{reader * 3 + i % 3:05d}_chp_{i % 97:04d}_reader_{reader:05d}_{i}_seg_{i % 3}.wav"
        elif kind < 0.8:
            who = f"{('female', 'male')[reader % 2]}/reader{reader % 40}" if reader % 4 else "mix"
            book = f"book_of_some_length_{reader % 200}"
            place = f"german_speech/M-AILABS_Speech_Dataset/de_DE_16k/{who}/{book}/wavs"
            yield f"{place}/{book}_{i:06d}_f000{i % 1000:03d}.wav"
        elif kind < 0.9:
            yield f"vctk_wav48_silence_trimmed/p{225 + reader % 150}/p{225 + reader % 150}_{i:06d}_mic{1 + i % 2}.wav"
        elif kind < 0.98:
            yield f"spanish_speech/SLR61_es_ar_female_arf_{reader % 200:05d}_{i:011d}_48kHz.wav"
        else:
            yield f"emotional_speech/crema_d/{1001 + reader % 91}_DFA_ANG_X{i}.wav"


def noise_names(n, rng):
    """Paths below noise_fullband, one flat folder."""
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"))
    for i in range(n):
        if i % 6:
            yield "".join(rng.choice(letters, 7)) + f"{i:04x}"[-4:] + ".wav"
        else:
            yield f"{('door', 'fan', 'breath_spit')[i % 3]}_Freesound_validated_{100000 + i // 30}_{i // 6 % 5}.wav"


def rir_names(n, rng):
    """Paths below impulse_responses: 100 in each room."""
    for i in range(n):
        size, room = ("smallroom", "mediumroom", "largeroom")[i % 3], f"Room{i // 300 + 1:03d}"
        yield f"SLR26/simulated_rirs_48k/{size}/{room}/{room}-{i // 3 % 100 + 1:05d}.wav"


def make_corpus(root, count):
    """The files; returns their number of each kind."""
    rng = np.random.default_rng(0)
    numbers = {kind: round(share * count) for kind, share in SHARES.items()}
    numbers = {"speech": count - sum(numbers.values()), **numbers}
    trees = {"speech": ("clean_fullband", speech_names), "noise": ("noise_fullband", noise_names)}
    trees["rir"] = ("impulse_responses", rir_names)
    serial, folders = 0, set()
    for kind, (tree, names) in trees.items():
        for name in names(numbers[kind], rng):
            path = f"{root}/{tree}/{name}"
            folder = os.path.dirname(path)
            if folder not in folders:
                os.makedirs(folder, exist_ok=True)
                folders.add(folder)
            serial += 1
            samples = RATE if kind == "rir" else RATE * 4 + serial * 7919 % (RATE * 26)
            size = 2 * samples
            head = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
            head += struct.pack("<HHIIHH4sI", 1, 1, RATE, 2 * RATE, 2, 16, b"data", size)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(fd, head + struct.pack("<4I", *[serial] * 4))
            os.ftruncate(fd, 44 + size)
            os.close(fd)
    return {kind: sum(len(files) for _, _, files in os.walk(f"{root}/{tree}")) for kind, (tree, _) in trees.items()}


def give_sound(folder):
    """4 KiB of noise in each half second of the files of a source set; an impulse in those of room responses."""
    noise = np.random.default_rng(0).normal(0, 3000, 2048).astype("<i2").tobytes()
    with open(folder / "wav.scp", encoding="utf-8") as f:
        for line in f:
            with open(line.split(" ", 1)[1].rstrip("\n"), "r+b") as wav:
                if folder.name.startswith("rir"):
                    wav.seek(44 + 200)
                    wav.write(struct.pack("<3h", 20000, 9000, -4000))
                    continue
                size = os.fstat(wav.fileno()).st_size
                for place in range(4096, size - 4096, RATE):
                    wav.seek(place)
                    wav.write(noise)


def run(*words):
    """Run python with these words; returns the figures as a dict."""
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, *map(str, words)], stderr=subprocess.PIPE, text=True)
    read, last = 0, ""
    for line in child.stderr:
        last = line.strip()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # /proc/PID is there until wait4
    with open(f"/proc/{child.pid}/io", encoding="ascii") as f:
        read = int(f.readline().split()[1])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "ok": child.returncode == 0,
        "last": last,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1e3,
        "read_mb": read / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=600_000)
    parser.add_argument("--clips", type=int, default=300, help="mixtures in each of the two plans")
    parser.add_argument("--nj", type=int, default=2, help="threads")
    parser.add_argument("--dir", help="folder for the generated files, deleted afterwards; 4 KiB for each, and more")
    parser.add_argument("--json", help="write the figures to this file as well")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        print(json.dumps(make_corpus(args.make, args.files)))
        return
    rows = []

    def report(what, files, words):
        row = {"what": what, "files": files, **run(*words)}
        row["files_per_s"] = files / row["seconds"]
        rows.append(row)
        print(
            f"{what:34s} {files:8d} files {row['seconds']:8.1f} s {row['cpu_seconds']:8.1f} s cpu "
            f"{row['files_per_s']:9.0f} files/s {row['peak_mb']:7.0f} MB peak {row['read_mb']:9.0f} MB read"
            + ("" if row["ok"] else f"   FAILED: {row['last']}"),
            flush=True,
        )

    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        corpus, data = Path(folder) / "datasets_fullband", Path(folder) / "data"
        free, nodes = shutil.disk_usage(folder).free, os.statvfs(folder).f_favail
        print(f"{free / 1e9:.0f} GB and {nodes} inodes are free in {folder}", flush=True)
        begin = time.perf_counter()
        # In a process of its own: the peak of a command is at least the size of the process that starts it.
        command = [sys.executable, __file__, "--make", corpus, "--files", str(args.files)]
        counts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(f"made {sum(counts.values())} files in {time.perf_counter() - begin:.0f} s: {counts}", flush=True)
        report("the interpreter and its imports", 0, ["-c", "import senet.bin.prepare, senet.data.prepare"])

        def prepare(kind, tree, out, *more):
            return ["-m", "senet.bin.prepare", "--kind", kind, "--speaker", "dns", "--src", corpus / tree, "--out", out,
                    "--split", SPLIT, "--nj", args.nj, *more]  # fmt: skip

        trees = {"speech": "clean_fullband", "noise": "noise_fullband", "rir": "impulse_responses"}
        for again in ("", ", again"):
            for kind, tree in trees.items():
                report(f"prepare {kind}{again}", counts[kind], prepare(kind, tree, data / kind))
        for kind, tree in trees.items():
            words = prepare(kind, tree, Path(folder) / "names" / kind, "--fingerprint", "name")
            report(f"prepare {kind}, --fingerprint name", counts[kind], words)
        for part in ("valid", "test"):
            for kind in trees:
                give_sound(data / f"{kind}_{part}")
            words = ["-m", "senet.bin.mix", "--plan", "--policy", "dns", "--data", data, "--out", Path(folder) / part,
                     "--speech", f"speech_{part}", "--noise", f"noise_{part}", "--rir", f"rir_{part}", "--seconds", 10,
                     "--num_clips", args.clips, "--nj", args.nj]  # fmt: skip
            report(f"mix --plan of {part} (clips)", args.clips, words)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
