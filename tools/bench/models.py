"""Time of every system in its real size, against a plain reading of its description with the same weights.

A system is a configuration ``egs/*/conf/train_*.yaml``; equal networks of several recipes are measured once. The plain
readings are in ``plain/``: straightforward PyTorch that takes each step as the description has it. First both have to
give the same output; then they take turns in the same process, and the figures are medians.

    inference   forward of a batch, without gradients
    training    forward in training mode, squared error of the waveform, backward; what the two would share, the
                system's own loss and its optimiser, is left out
    real time   seconds that one CPU thread needs for a second of one signal
    ratio       senet's time over that of the plain reading: below 1 is faster
    memory      highest use of GPU memory in the training step, only with --device cuda

A plain reading may be that of a network of spectra or of windows; then senet's transforms stand around it as well.

    python tools/bench/models.py [train_lowlatency train_gagnet ...] [--batch_size 4] [--seconds 3] [--device cuda]

A Markdown table goes to stdout, progress to stderr. The exit status is 1 if two outputs differ.
"""

import argparse
import contextlib
import importlib
import inspect
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from senet import config
from senet.bin import train

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4  # of the loudest sample: thousands of float32 products in another order


def systems(names):
    """name -> (model's dotted name, its options as in the file), each network once.

    A network is called by its file; one that several recipes have by the first recipe's.
    """
    parser, found, known = train.get_parser(), {}, []
    for path in sorted(ROOT.glob("egs/*/conf/train_*.yaml")):
        words = ["--config", str(path), "--train", "-", "--valid", "-", "--expdir", "-"]
        args = parser.parse(words)
        network = args.model, config.resolve("models", args.model, args.model_conf)
        if network in known or (names and path.stem not in names and f"{path.parts[-3]}/{path.stem}" not in names):
            continue
        known.append(network)
        found[f"{path.parts[-3]}/{path.stem}"] = args.model, args.model_conf
    return found


def plain_reading(model, dotted, conf):
    """(the same network in plain words, None) or (None, why there is none)."""
    family, _, name = dotted.partition(".")
    try:
        module = importlib.import_module(f"plain.{family}")
    except ModuleNotFoundError:
        return None, "no plain reading"
    build = getattr(module, f"Plain{name}")
    unknown = set(conf) - set(inspect.signature(build).parameters)
    if unknown:
        return None, f"the plain reading has no {', '.join(sorted(unknown))}"
    other = build(**{key: tuple(value) if isinstance(value, list) else value for key, value in conf.items()})
    module.load_weights(other, model)
    takes = inspect.signature(other.forward).parameters
    if "spec" in takes:
        other = OfSpectra(model, other)
    elif "z" in takes:
        other = OfWindows(model, other)
    return other, None


class OfSpectra(nn.Module):
    """A network of spectra between the transforms of a senet model."""

    def __init__(self, model, network):
        super().__init__()
        self.network = network
        self.whole, self.analysis, self.level, self.encode = model.stft.whole, model.analysis, model.level, model.encode
        self.decode, self.synthesis = model.decode, model.synthesis

    def forward(self, noisy):
        length = noisy.shape[1]
        spec = self.analysis(F.pad(noisy, (0, self.whole(length) - length)))
        level = self.level(spec)
        return self.synthesis(self.decode(self.network(self.encode(spec, level)), level), length)


class OfWindows(nn.Module):
    """Generators of windows between the maps of a senet SEGAN, with its fixed code."""

    def __init__(self, model, generators):
        super().__init__()
        self.generators = generators
        self.window, self.encode, self.decode = model.window, model.encode, model.decode
        self.register_buffer("z", model.fixed_z)

    def forward(self, noisy):
        length = noisy.shape[1]
        encoded = F.pad(self.encode(noisy), (0, -length % self.window))
        windows = encoded.unflatten(1, (-1, self.window)).flatten(0, 1)
        result = self.generators.network(windows, self.z.expand(-1, len(windows), -1, -1))[-1]
        return self.decode(result.view_as(encoded)[:, :length])


def compare(networks, x):
    """Largest difference of the outputs over the largest sample."""
    with torch.no_grad(), exact():
        first, second = (network.eval()(x) for network in networks)
    return ((first - second).abs().max() / first.abs().max()).item()


@contextlib.contextmanager
def exact():
    """float32 products without TensorFloat-32, which GPUs use for convolutions otherwise."""
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


def take_turns(networks, work, x, repeats):
    """Seconds that ``work(network, x)`` takes: a list for each network; the first round warms up and is not counted."""
    times = [[] for _ in networks]
    for _ in range(repeats + 1):
        for network, seconds in zip(networks, times, strict=True):
            synchronise(x)
            begin = time.perf_counter()
            work(network, x)
            synchronise(x)
            seconds.append(time.perf_counter() - begin)
    return [seconds[1:] for seconds in times]


def synchronise(x):
    if x.is_cuda:
        torch.cuda.synchronize()


def infer(network, x):
    with torch.no_grad():
        network.eval()(x)


def train_step(network, x):
    network.train().zero_grad(set_to_none=True)
    (network(x) - 0.5 * x).square().mean().backward()


def peak_memory(network, x):
    """MiB of GPU memory in a training step, of which the network's weights and gradients are a part."""
    torch.cuda.reset_peak_memory_stats()
    train_step(network, x)
    return torch.cuda.max_memory_allocated() / 2**20


def measure(dotted, conf, args):
    """name -> figure of one system."""
    torch.manual_seed(0)
    model = config.build("models", dotted, conf).to(args.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.ndim < 2:  # biases and gains, of which many are 0 at first and would hide a difference
            parameter.data += 0.1 * torch.randn_like(parameter)
    figures = {"parameters": sum(p.numel() for p in parameters)}
    other, reason = plain_reading(model, dotted, conf)
    networks = [model] if other is None else [model, other.to(args.device)]
    x = 0.1 * torch.randn(args.batch_size, round(args.seconds * model.sample_rate), device=args.device)
    if other is None:
        figures["note"] = reason
    else:
        figures["difference"] = compare(networks, x[:1])
    figures |= timed("inference", take_turns(networks, infer, x, args.repeats))
    if parameters:
        figures |= timed("training", take_turns(networks, train_step, x, args.repeats))
        if x.is_cuda:
            for network, name in zip(networks, ("memory_mib", "memory_mib_plain"), strict=False):
                figures[name] = peak_memory(network, x)
                network.zero_grad(set_to_none=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = take_turns([network.cpu() for network in networks], infer, x[:1].cpu(), args.repeats)
    torch.set_num_threads(threads)
    return figures | timed("real_time", [[t / args.seconds for t in each] for each in seconds])


def timed(name, times):
    """Medians and, if there are two, their ratio, turn by turn."""
    figures = {name: statistics.median(times[0])}
    if len(times) == 2:
        ratios = [ours / plain for ours, plain in zip(*times, strict=True)]
        figures |= {f"{name}_plain": statistics.median(times[1]), f"{name}_ratio": statistics.median(ratios)}
        figures |= {f"{name}_ratio_range": [min(ratios), max(ratios)]}
    return figures


COLUMNS = {
    "parameters": ("parameters", "{:,}"),
    "difference": ("difference", "{:.0e}"),
    "inference": ("inference (s)", "{:.3f}"),
    "inference_ratio": ("ratio", "{:.2f}"),
    "training": ("training (s)", "{:.3f}"),
    "training_ratio": ("ratio", "{:.2f}"),
    "memory_mib": ("memory (MiB)", "{:.0f}"),
    "memory_mib_plain": ("plain (MiB)", "{:.0f}"),
    "real_time": ("real time", "{:.3f}"),
    "real_time_ratio": ("ratio", "{:.2f}"),
}


def row(name, figures):
    cells = [form.format(figures[key]) if key in figures else "" for key, (_, form) in COLUMNS.items()]
    return f"| {name} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="train_x or recipe/train_x; default: all")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3, help="length of each signal")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU, for inference and training")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = systems(args.systems)
    if not chosen:
        parser.error(f"no configuration is called {' or '.join(args.systems)}")

    where = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} threads"
    batch = f"batches of {args.batch_size} x {args.seconds:g} s"
    print(f"{where}; {batch}; medians of {args.repeats}; torch {torch.__version__}\n")
    print(f"| system | {' | '.join(title for title, _ in COLUMNS.values())} |")
    print("|---|" + "---:|" * len(COLUMNS), flush=True)
    results = {}
    for name, (dotted, conf) in chosen.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures = results[name] = measure(dotted, conf, args)
        print(row(name, figures), flush=True)
        if "note" in figures:
            print(f"{name}: {figures['note']}", file=sys.stderr)
        if args.json:
            args.json.write_text(json.dumps({**vars(args), "json": None, "results": results}, indent=2) + "\n")
    differing = [name for name, figures in results.items() if not figures.get("difference", 0) < TOLERANCE]
    if differing:
        sys.exit(f"more than {TOLERANCE:g} from their plain reading: {', '.join(differing)}")


if __name__ == "__main__":
    main()
