"""Enhance a recording with an exported model: python run.py NOISY.wav ENHANCED.wav [--stream]

Needs numpy, soundfile, onnxruntime. With --stream hop by hop, as live.
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


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    info = json.loads((here / "export.json").read_text(encoding="utf-8"))
    part = "stream" if "--stream" in sys.argv else "offline"
    paths = [word for word in sys.argv[1:] if word != "--stream"]
    if len(paths) != 2 or part not in info:
        sys.exit(f"{__doc__}\nexported here: {', '.join({'offline', 'stream'} & set(info))}")
    import soundfile

    x, rate = soundfile.read(paths[0], dtype="float32", always_2d=True)
    if rate != info["sample_rate"] or not len(x):
        sys.exit(f"{paths[0]}: {len(x)} samples at {rate} Hz; expected {info['sample_rate']} Hz: resample first")
    session, x = load(here / info[part]["file"]), np.ascontiguousarray(x.T)
    y = stream(session, x, info["stream"]) if part == "stream" else offline(session, x)
    soundfile.write(paths[1], y.T, rate)
