"""What it costs to use a model: real-time factors of every system, live and offline; long files; many short ones.

A system is a configuration ``egs/*/conf/train_*.yaml`` in its real size, or a causal variant that no recipe trains
(``VARIANTS``); equal networks of several recipes are measured once, with random weights, which cost what trained ones
do. Three parts, each a Markdown table:

systems  Seconds of one CPU thread for a second of one signal (real-time factor), of processor time, so that other
         programs count little; the ways take turns, and a figure is the median of the rounds.

    offline   the model on the whole signal
    stream    senet.infer.stream.Stream in chunks of one hop, as live: each step has to be done before the next
    ratio     of the plain loop to the stream. The plain loop is streaming without state: for each hop the model runs
              on the last ``--past`` seconds and the newest hop is kept. It is what a model that knows only whole
              signals can do; of systems that remember for longer its output is another one.
    step      of the stream, per chunk: median, 99th percentile and longest (ms of wall time), which have to stay
              below the hop's length
    ONNX      what senet export writes for the column before it, in onnxruntime
    int8      the same with ``--int8``, where that pays

  The stream is compared with offline; more than 1e-5 of difference is an error. senet export compares what it writes.

memory   Largest resident memory of ``senet enhance`` on a recording of a minute and of an hour, and their ratio.

files    ``senet enhance`` on a folder of files of 1 to 3 s: files per second of the whole command, with 1 and with 2
         processes, and processor time for each file; what the command takes for one file, most of which is start-up;
         and in one process the share of the processor time after start-up that is spent outside the model.

    python tools/bench/inference.py [train_gagnet_causal ...] [--parts systems memory files] [--json FILE] [--quick]

The exit status is 1 if what has to be equal is not.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is loaded, and for the commands started here

import numpy as np
import torch
from models import systems

from senet import checkpoint, config
from senet.data.audio import write_wav

VARIANTS = {"voicebank_demand/train_nunet_tls, causal": ("cnunet.NUNet", {"norm": "cumulative"})}
LONG = ["mini/train_lowlatency", "dns5/train_gagnet"]  # for "memory": as a stream, and in windows
SHORT = ["librispeech_mssnsd/train_lowlatency_causal_small"]  # for "files"
TOLERANCE = 1e-5  # of the loudest sample


def build(dotted, conf):
    torch.manual_seed(0)
    return config.build("models", dotted, conf).eval().requires_grad_(False)


def noise(seconds, rate, seed=0):
    """Bursts of noise in noise, about as loud as speech; (N,) float32."""
    rng, n = np.random.default_rng(seed), max(1, round(seconds * rate))
    bursts = np.sin(2 * np.pi * 3 * np.arange(n) / rate) > -0.3
    return (0.1 * bursts * rng.standard_normal(n) + 0.02 * rng.standard_normal(n)).astype(np.float32)


# ------------------------------------------------------------ systems


class Offline:
    """The model on the whole signal: one step."""

    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        yield self.model(x)


class Live:
    """A stream in chunks of one hop."""

    def __init__(self, model, hop):
        from senet.infer.stream import Stream

        self.stream, self.hop = Stream(model), hop

    def __call__(self, x):
        for chunk in x.split(self.hop, dim=1):
            yield self.stream.step(chunk)
        yield self.stream.flush()


class Plain:
    """A loop over hops that keeps nothing: the model on the last ``past`` samples for each; some hops of the signal."""

    def __init__(self, model, hop, past, steps):
        self.model, self.hop, self.past, self.steps = model, hop, past, steps

    def __call__(self, x):
        ends = np.linspace(min(self.past, x.shape[1]), x.shape[1], self.steps).astype(int)
        for end in ends:
            yield self.model(x[:, max(0, end - self.past) : end])[:, -self.hop :]


class Exported:
    """A file of senet export in onnxruntime, on the whole signal: one step."""

    def __init__(self, path, info):
        from senet.infer import export_run

        self.session, self.info, self.run = export_run.load(path), info, export_run

    def __call__(self, x):
        live = "hop" in self.info
        found = (
            self.run.stream(self.session, x.numpy(), self.info) if live else self.run.offline(self.session, x.numpy())
        )
        yield torch.from_numpy(found)


def exported(model, folder):
    """({name of a way: Exported}, {part that cannot be exported: reason})."""
    from senet.infer.enhance import Enhancer
    from senet.infer.export import export

    ways, reasons = {}, {}
    for part in ("offline", "stream")[: 1 + model.causal]:
        try:
            info = export(Enhancer(model), folder / part, "bench", parts=(part,), int8=True)[part]
        except Exception as error:  # those who do the work throw many kinds
            reasons[part] = str(error).strip().splitlines()[0]
            continue
        for suffix in ("", ".int8"):
            path = (folder / part / info["file"]).with_suffix(f"{suffix}.onnx")
            if path.exists():
                ways[f"{part}{suffix or '.onnx'}"] = Exported(path, info)
    return ways, reasons


def timed(way, x):
    """(output, processor seconds in all, wall seconds of each step)."""
    outputs, walls = [], []
    with torch.inference_mode():
        last = time.perf_counter()
        processor = time.process_time()
        for output in way(x):
            outputs.append(output)
            now = time.perf_counter()
            walls.append(now - last)
            last = now
        processor = time.process_time() - processor
    return torch.cat(outputs, 1), processor, walls


def measure(dotted, conf, args):
    """name -> figure of one system."""
    model = build(dotted, conf)
    rate = model.sample_rate
    hop = model.stft.hop_length if hasattr(model, "stft") else model.window
    x = torch.from_numpy(noise(args.seconds, rate))[None]
    ways = {"offline": Offline(model)}
    if model.latency is not None:
        ways["stream"] = Live(model, hop)
        ways["plain"] = Plain(model, hop, max(hop, round(args.past * rate)), args.plain_steps)
    audio = {"plain": args.plain_steps * hop / rate}
    with tempfile.TemporaryDirectory() as scratch:
        more, reasons = exported(model, Path(scratch)) if args.onnx else ({}, {})
        outputs, factors, steps = take_turns(ways | more, x, args.repeats)
    figures = {name: statistics.median(of) / audio.get(name, args.seconds) for name, of in factors.items()}
    figures["not_exported"] = reasons
    figures |= {
        "parameters": sum(p.numel() for p in model.parameters()),
        "latency_ms": None if model.latency is None else 1000 * model.latency / rate,
        "hop_ms": 1000 * hop / rate,
    }
    if "stream" in ways:
        ratios = [plain / live for plain, live in zip(factors["plain"], factors["stream"], strict=True)]
        figures["ratio"] = statistics.median(ratios) * args.seconds / audio["plain"]
        figures["step_ms"] = [1000 * float(q) for q in np.quantile(steps, (0.5, 0.99, 1))]
        figures["difference"] = difference(outputs["stream"], outputs["offline"])
    return figures


def take_turns(ways, x, repeats):
    """Last outputs and processor seconds by way, and wall seconds of the stream's steps; a first round warms up."""
    outputs, factors, steps = {}, {name: [] for name in ways}, []
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            outputs[name], processor, walls = timed(way, x)
            if repeat:
                factors[name].append(processor)
                steps += walls[:-1] if name == "stream" else []  # the last is flush
    return outputs, factors, steps


def difference(found, expected):
    """Largest, of the loudest sample; 1 where the lengths differ."""
    if found.shape != expected.shape:
        return 1.0
    return ((found - expected).abs().max() / expected.abs().max()).item()


def systems_part(args):
    chosen = systems(args.systems)
    chosen |= {name: made for name, made in VARIANTS.items() if not args.systems or name in args.systems}
    if not chosen:
        sys.exit(f"no configuration is called {' or '.join(args.systems)}")
    keys = ("offline", "offline.onnx", "offline.int8", "stream", "stream.onnx", "stream.int8", "plain", "ratio")
    heading = ["parameters", "latency (ms)", "offline", "ONNX", "int8", "stream", "ONNX", "int8", "plain loop", "ratio"]
    print_row("system", [*heading, "step (ms)", "hop (ms)"])
    print_row("---", ["---:"] * (len(heading) + 2))
    found = {}
    for name, (dotted, conf) in chosen.items():
        f = found[name] = measure(dotted, conf, args)
        step = " / ".join(f"{ms:.2f}" for ms in f["step_ms"]) if "step_ms" in f else ""
        cells = [f"{f['parameters']:,}", "all" if f["latency_ms"] is None else f"{f['latency_ms']:g}"]
        cells += [f"{f[key]:.3g}" if key in f else "" for key in keys]
        print_row(name, [*cells, step, f"{f['hop_ms']:g}"])
        for part, reason in f["not_exported"].items():
            print(f"{name}, {part}: {reason}", file=sys.stderr)
        if args.json:
            args.json.write_text(json.dumps({"systems": found}, indent=1) + "\n", encoding="utf-8")
    return found, [n for n, f in found.items() if not f.get("difference", 0) <= TOLERANCE]


def print_row(name, cells):
    print("|", " | ".join([name, *cells]), "|", flush=True)


# ------------------------------------------------------------ the command: long files and many


def make_experiment(folder, name):
    """An experiment folder as training leaves it, of a system with random weights."""
    ((dotted, conf),) = systems([name]).values()
    model = build(dotted, conf)
    checkpoint.save(folder / "checkpoints", {"model": model.state_dict()}, step=1, epoch=1, score=0.0)
    config.save_resolved(folder / "config.yaml", {"model": dotted, "model_conf": conf})
    return folder, model.sample_rate


# Run by a process of its own, which is small: a new process counts the memory of the one that it was forked from.
WATCH = """
import json, os, sys, time
start = time.perf_counter()
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
wall, processor = time.perf_counter() - start, used.ru_utime + used.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), wall, processor, used.ru_maxrss / 1024]))
"""


def run(*words):
    """``senet enhance``: wall seconds, processor seconds and largest resident MiB, of its child processes as well."""
    command = [sys.executable, "-m", "senet.bin.enhance", *map(str, words)]
    done = subprocess.run([sys.executable, "-c", WATCH, *command], capture_output=True, text=True)
    status, *figures = json.loads(done.stdout)
    if status:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return figures


def memory_part(args):
    print_row("memory of senet enhance", [f"{s:g} s (MiB)" for s in args.lengths] + ["ratio", "real time"])
    print_row("---", ["---:"] * 4)
    found = {}
    for name in args.long:
        with tempfile.TemporaryDirectory() as scratch:
            folder, rate = make_experiment(Path(scratch) / "exp", name)
            peaks = []
            for seconds in args.lengths:
                write_wav(Path(scratch) / "in.wav", np.tile(noise(1, rate), int(seconds)), rate)
                words = [Path(scratch) / "in.wav", "-o", Path(scratch) / "out.wav", "--model", folder]
                _, processor, peak = run(*words, "--overwrite", "--num_threads", 1)
                peaks.append(peak)
        found[name] = {"peak_mib": peaks, "ratio": peaks[1] / peaks[0], "real_time": processor / args.lengths[1]}
        ratios = [f"{found[name][key]:.3f}" for key in ("ratio", "real_time")]
        print_row(name, [*(f"{peak:.0f}" for peak in peaks), *ratios])
    return found, []


def files_part(args):
    heading = [f"{n} process{'es' * (n > 1)} ({of})" for of in ("files/s", "ms of processor") for n in (1, 2)]
    print_row(
        f"{args.files} short files", [*heading[:2], "speed-up", *heading[2:], "start-up (s)", "outside the model"]
    )
    print_row("---", ["---:"] * 7)
    found = {}
    for name in args.short:
        with tempfile.TemporaryDirectory() as scratch:
            scratch = Path(scratch)
            folder, rate = make_experiment(scratch / "exp", name)
            lengths = np.random.default_rng(0).uniform(1, 3, args.files)
            for i, seconds in enumerate(lengths):
                write_wav(scratch / "in" / f"{i:04d}.wav", noise(seconds, rate, i), rate)
            words = ["--model", folder, "--num_threads", 1, "-o"]
            first, _, _ = run(scratch / "in" / "0000.wav", *words, scratch / "first.wav")
            runs = [run(scratch / "in", *words, scratch / f"out{n}", "--nj", n) for n in (1, 2)]
            outside = share_outside([scratch / "in", *words, scratch / "here"])
        f = found[name] = {
            "files_per_second": [args.files / wall for wall, _, _ in runs],
            "processor_ms": [1000 * processor / args.files for _, processor, _ in runs],
            "start_up": first,
            "outside": outside,
            "audio_seconds": float(lengths.sum()),
        }
        cells = [f"{speed:.1f}" for speed in f["files_per_second"]] + [f"{runs[0][0] / runs[1][0]:.2f}"]
        cells += [f"{ms:.0f}" for ms in f["processor_ms"]]
        print_row(name, [*cells, f"{first:.1f}", f"{100 * outside:.1f} %"])
    return found, []


def share_outside(words):
    """Of the processor time of enhancing in this process, what is not the model's; loading it is left out."""
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

    from senet.bin import enhance

    calls, inside = [], []  # modules that are running, each begun by the one before; seconds of the outermost

    def before(*_):
        calls.append(time.process_time())

    def after(*_):
        begun = calls.pop()
        if not calls:
            inside.append(time.process_time() - begun)

    first, prepare = [], enhance.prepare

    def prepared(*args):
        model = prepare(*args)
        first.append(time.process_time())
        return model

    enhance.prepare = prepared
    hooks = [register_module_forward_pre_hook(before), register_module_forward_hook(after)]
    try:
        if enhance.main(list(map(str, words))):
            sys.exit("some files failed")
    finally:
        for hook in hooks:
            hook.remove()
        enhance.prepare = prepare
    return 1 - sum(inside) / (time.process_time() - first[0])


PARTS = {"systems": systems_part, "memory": memory_part, "files": files_part}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="train_x or recipe/train_x; default: all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=8, help="length of the signal, for systems")
    parser.add_argument("--past", type=float, default=1, help="seconds that the plain loop looks back")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, for systems")
    parser.add_argument("--no_onnx", dest="onnx", action="store_false", help="leave ONNX out, which has to be exported")
    parser.add_argument("--long", nargs="+", default=LONG, metavar="SYSTEM", help="for memory")
    parser.add_argument("--short", nargs="+", default=SHORT, metavar="SYSTEM", help="for files")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    parser.add_argument("--quick", action="store_true", help="sizes that show that it runs, and nothing else")
    args = parser.parse_args()
    args.lengths, args.plain_steps = (60, 3600), 20
    if args.quick:
        args.seconds, args.past, args.plain_steps, args.repeats, args.files, args.lengths = 0.5, 0.2, 2, 1, 4, (1, 2)
    torch.set_num_threads(1)
    found, failed = {}, []
    for part in args.parts:
        found[part], differing = PARTS[part](args)
        failed += differing
        print(flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if failed:
        sys.exit(f"not equal to the model on the whole signal: {', '.join(failed)}")


if __name__ == "__main__":
    main()
