"""Stands in for `python` in the driver's tests: does what each senet.bin command does to the disk, in no time.

What it writes is a function of its options and of the files it reads, so a test can see by content
what was made again, and calls.log tells what was called, but for dry runs. FAKE_FAIL=<command> makes that
command fail, FAKE_WRONG=<command> its dry run; FAKE_SECONDS is what each takes, FAKE_SECONDS_TRAIN a training;
a plan of mixing takes as long as there is a file FAKE_HOLD;
FAKE_SAVING=<seconds> makes one save when it is told to end; FAKE_BYTES is the disk that each needs, FAKE_ABOUT=about an
estimate; FAKE_VERSIONS what scores are made with; FAKE_UNLIKE=<set> a test set whose noisy scores are not the expected
ones.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

assert sys.argv[1] == "-m", sys.argv
command = sys.argv[2].removeprefix("senet.bin.")
words = sys.argv[3:]
options = {w[2:]: v for w, v in zip(words, [*words[1:], ""], strict=True) if w.startswith("--")}
if "dry_run" in options:
    if os.environ.get("FAKE_WRONG") == command:
        sys.exit(f"usage: {command}\n{command}.py: error: such an option is not known")
    about = "about " if "FAKE_ABOUT" in os.environ else ""
    print(f"{options.get('out', 'model')}: {about}3 h, 500000 samples, {os.environ.get('FAKE_BYTES', 3000000)} bytes")
    sys.exit()
if "versions" in options:
    print(os.environ.get("FAKE_VERSIONS", "1"))
    sys.exit()
with open(os.environ["FAKE_CALLS"], "a", encoding="utf-8") as calls:
    calls.write(f"{command} {' '.join(words)}\n")
print(f"{command} at work", flush=True)
if command == "train" and "FAKE_SAVING" in os.environ:  # seconds that saving takes

    def save(*_):
        time.sleep(float(os.environ["FAKE_SAVING"]))
        print("saved at step 5 and stopped")
        sys.exit(143)

    signal.signal(signal.SIGTERM, save)
if os.environ.get("FAKE_FAIL") == command:
    sys.exit("error: no such luck")
while "--plan" in words and os.path.exists(os.environ.get("FAKE_HOLD", "")):
    time.sleep(0.05)
time.sleep(float(os.environ.get(f"FAKE_SECONDS_{command.upper()}", os.environ.get("FAKE_SECONDS", 0))))


def write(path, text):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def known(*paths):
    """A hash of files' content, in place of what a real command would compute from them."""
    return hashlib.sha256(b"".join(Path(p).read_bytes() for p in paths)).hexdigest()[:12]


def shard():
    """Write this job's share, as a real command would: kept when it is there."""
    path = Path(out, "ark", f"noisy.{int(options['job'].split('/')[0]):06d}.ark")
    if not path.exists():
        write(path, f"audio of {known(Path(out, 'plan.tsv'))}\n")


out = options.get("out", "")
partial = options.keys() & {"job", "collect"}
if command == "mix":
    data = Path(options["data"])
    if "plan" in options:
        size = options.get("num_clips", "3")
        made = known(options["config"], data / "speech" / "wav.scp")
        write(Path(out, "plan.tsv"), f"# senet plan 1 {options.get('seed', 0)} {made}\n" * int(size))
    elif "job" in options:
        shard()
    else:
        for name in ("wav.scp", "spk1.scp")[: 1 if Path(out).name == "blind" else 2]:
            write(Path(out, name), f"a {known(Path(out, 'plan.tsv'))}\n")
        write(Path(out, "utt2num_samples"), "a 16000\nb 8000\n")
elif command == "feats" and "collect" in options:
    for name in ("wav.scp", "utt2num_samples"):
        write(Path(out, name), Path(options["src"], name).read_text())
    write(Path(out, "lengths.json"), "{}\n")
elif command == "train":
    exp = Path(options["expdir"])
    write(exp / "config.yaml", "model: x\n")
    online = options["train"].endswith(".yaml")
    data = [options["train"], options["data"] + "/speech/wav.scp"] if online else [options["train"] + "/wav.scp"]
    made = known(options["config"], *data)
    last = int(options.get("max_steps", "7"))
    kept = range(last - int(options.get("keep_last", "1")) + 1, last + 1)
    listed = [
        {
            "file": f"step_{step:08d}.pt",
            "sha256": f"{made}-{step}",
            "step": step,
            "epoch": 1,
            "score": None,
            "regular": True,
        }
        for step in kept
    ]
    write(exp / "checkpoints" / "index.json", json.dumps({"checkpoints": listed}))
elif command == "enhance" and "collect" in options:
    out = words[words.index("-o") + 1]
    model = Path(options["model"])
    made = known(model if model.is_file() else model / "checkpoints" / "index.json", words[0])
    write(Path(out, "wav", "a.wav"), f"{made} {options.get('checkpoint', 'best')}\n")
    write(Path(out, "wav.scp"), f"a {out}/wav/a.wav\n")
elif command == "score" and "collect" in options:
    write(Path(out, "scores", "stoi"), "a 0.5\n")
    write(Path(out, "summary.json"), f"{options['metrics']} {known(options['enhanced'])}\n")
    if "expected" in options and os.environ.get("FAKE_UNLIKE") == Path(options["ref"]).name:
        sys.exit("error: the noisy input scores otherwise")
elif command == "pack":
    write(words[words.index("-o") + 1], f"packed {known(Path(words[0], 'checkpoints', 'index.json'))}\n")
elif command == "compare":
    write(out, "| system | stoi |\n")
