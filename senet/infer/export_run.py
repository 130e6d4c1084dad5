"""Enhance a recording with an exported model: python run.py NOISY ENHANCED.wav [--stream] [--int8]

Needs numpy, soundfile, onnxruntime. With --stream hop by hop, as live; with --int8 by the weights of 8 bits.
"""

import json
import sys
from pathlib import Path

import numpy as np


def load(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def offline(session, x):
    """(channels, samples) float32 -> the same."""
    return session.run(None, {"noisy": x})[0]


def stream(session, x, live):
    """(channels, samples) float32 -> the same, hop by hop; live: the entry "stream" of export.json."""
    (channels, n), hop, rest = x.shape, live["hop"], live["rest"]
    x = np.pad(x, [(0, 0), (0, -(-max(n, live["least"]) // hop) * hop - n)]) if rest else x
    x = np.pad(x, [(0, 0), (live["before"], live["after"])], live["mode"])
    state = {s["name"]: np.full([channels if d == "channels" else d for d in s["shape"]], s["initial"], s["dtype"])
             for s in live["state"]}  # fmt: skip
    if rest:
        state["wave"] = x[:, :rest]
    total, out = x.shape[1] - rest, []
    for t in range(0, live["delay"] + n, hop):
        samples = x[:, rest + t : rest + t + hop]
        samples = np.pad(samples, [(0, 0), (0, hop - samples.shape[1])])  # zeros when the signal is over
        y, *values = session.run(None, {"samples": samples, "left": np.float32([total - t]), **state})
        state = dict(zip(state, values, strict=True))
        out.append(y)
    return np.concatenate(out, 1)[:, live["delay"] : live["delay"] + n]


def main(words):
    here, options = Path(__file__).resolve().parent, {word for word in words if word.startswith("--")}
    info = json.loads((here / "export.json").read_text(encoding="utf-8"))
    paths, part = [word for word in words if word not in options], "stream" if "--stream" in options else "offline"
    if len(paths) != 2 or options - {"--stream", "--int8"} or part not in info:
        sys.exit(f"{__doc__}\nexported here: {', '.join({'offline', 'stream'} & set(info))}")
    file = here / info[part]["file"].replace(".onnx", ".int8.onnx" if "--int8" in options else ".onnx")
    noisy, enhanced = map(Path, paths)
    for path in (file, noisy):
        if not path.is_file():
            sys.exit(f"{path}: no such file")
    if enhanced.suffix.lower() not in (".wav", ".flac") or (enhanced.exists() and enhanced.samefile(noisy)):
        sys.exit(f"{enhanced}: expected a .wav or .flac to write, and not the input")
    import soundfile

    try:
        x, rate = soundfile.read(noisy, dtype="float32", always_2d=True)
        if rate != info["sample_rate"] or not len(x):
            sys.exit(f"{noisy}: {len(x)} samples at {rate} Hz; expected some at {info['sample_rate']} Hz: resample it")
        session, x = load(file), np.ascontiguousarray(x.T)
        y = stream(session, x, info["stream"]) if part == "stream" else offline(session, x)
        soundfile.write(enhanced, y.T, rate)
    except soundfile.SoundFileError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
