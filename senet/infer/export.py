"""A trained model as files that run without senet: ONNX with a runner script, or programs of torch.export.

A folder is made that holds ``model`` (whole recordings) and, of causal models, ``stream`` (see
``senet.infer.export_step``), and export.json, which says how they are used. Everything in it was run, and compared with
PyTorch, before the folder appears.
"""

import contextlib
import copy
import importlib.metadata
import importlib.util
import logging
import math
import operator
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from senet import __version__
from senet.errors import UserError
from senet.files import sha256, write_json
from senet.infer.export_step import hop_step

TOLERANCE = 1e-4  # largest difference from PyTorch in double precision, of samples in [-1, 1]
ROUNDING = 8  # times PyTorch's own difference from that in single precision is let pass, too
OPSET = 18
SUFFIX = {"onnx": ".onnx", "pt2": ".pt2"}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
SECONDS = 4.0  # of audio that speed is measured with, and that a fixed length has
MOST = 1 << 28  # bytes of a constant that is computed once, at export
QUANTISED = ["MatMul", "Gemm", "LSTM"]  # what int8 makes faster; convolutions become slower
GAIN = 1.1  # times smaller or faster that int8 has to be, or it is not kept
LEAST_SNR = 30  # dB, of int8's output, taking float's for the signal: noise that enhanced speech may hide


def export(enhancer, folder, name, kind="onnx", parts=("offline", "stream"), int8=False):
    """Write the folder.

    Args:
        enhancer: Enhancer on the CPU.
        folder: path; made whole or not at all. An earlier export there is replaced.
        name: where the model came from, for export.json.
        kind: ``"onnx"`` or ``"pt2"``.
        parts: which of ``offline``, ``stream``.
        int8: of ONNX, also with weights of 8 bits, where that makes it faster or smaller and hardly changes the output.
    Returns:
        what is in export.json.
    Raises:
        UserError: a package is missing, the folder holds something else, the model cannot stream or be traced, or what
            was exported differs from PyTorch by more than rounding: then nothing is left.
    """
    require_packages(kind)
    folder, model = require_folder(folder), enhancer.model
    steps = {"offline": model} | ({"stream": hop_step(model)} if "stream" in parts else {})
    info = {
        "name": name,
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sample_rate": model.sample_rate,
        "latency": model.latency,
        "format": kind,
        "licence": enhancer.info.get("licence"),
        "versions": {"senet": __version__, "torch": torch.__version__}
        | {package: importlib.metadata.version(package) for package in PACKAGES[kind]},
    }
    part = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        for which in parts:
            info[which] = _export_part(which, steps[which], part, kind)
        if kind == "onnx":
            info["opset"] = OPSET
            shutil.copyfile(Path(__file__).with_name("export_run.py"), part / "run.py")
        for which in parts:
            logging.info("%s: comparing with PyTorch", file_name(which, kind))
            info[which]["check"] = _check(which, model, part / file_name(which, kind), info[which])
            if int8:
                info[which]["int8"] = _quantise(which, part, model.sample_rate, info[which])
        info["files"] = {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(part.iterdir())
        }
        write_json(part / "export.json", info)
        _replace(folder, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return info


def require_packages(kind):
    missing = [package for package in PACKAGES[kind] if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"--format {kind} needs {', '.join(missing)}: pip install 'senet[onnx]'")


def require_folder(folder):
    """The path of a folder to make, empty, or of an earlier export; else UserError."""
    folder = Path(folder).absolute()
    if folder.exists() and not (folder / "export.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"-o {folder}: is there and holds something else than an export; give another folder")
    return folder


def _replace(folder, part):
    """``part`` becomes ``folder``; an earlier one stays until it is there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def file_name(which, kind, suffix=""):
    return {"offline": "model", "stream": "stream"}[which] + suffix + SUFFIX[kind]


# ---------------------------------------------------------------- tracing


def _export_part(which, step, folder, kind):
    """Write one file; returns how it is used."""
    path, start = folder / file_name(which, kind), time.perf_counter()
    logging.info("%s: tracing", path.name)
    info = {"file": path.name}
    if which == "stream":
        state, other = step.initial_state(2), step.initial_state(3)
        inputs = {"samples": torch.zeros(2, step.hop), "left": torch.zeros(1), **state}
        dynamic = {"samples": {0: "channels"}, "left": {}}
        for name, value in state.items():
            dynamic[name] = {d: "channels" for d in range(value.ndim) if value.shape[d] != other[name].shape[d]}
        info |= {"hop": step.hop, "rest": step.rest, "delay": step.delay, **step.framing}
        info["state"] = [_described(k, v, dynamic[k]) for k, v in state.items()]
        outputs = ["enhanced", *(f"next_{k}" for k in state)]
    else:
        rate, hop = step.sample_rate, getattr(getattr(step, "stft", None), "hop_length", 0)
        # Neither 0 nor 1 of anything, no whole number of hops or windows: such sizes would be taken for constants.
        inputs = {"noisy": torch.zeros(2, round(SECONDS * rate) + hop // 2 + 1)}
        dynamic, outputs = {"noisy": {0: "channels", 1: "samples"}}, ["enhanced"]
    try:
        _WRITERS[kind](step, inputs, dynamic, outputs, path, info)
    except UserError:
        raise
    except Exception as error:
        logging.debug("", exc_info=True)
        cause = error
        while cause.__cause__ is not None:  # torch wraps it in advice for its developers
            cause = cause.__cause__
        reason = (str(cause).strip().splitlines() or [""])[0] or type(cause).__name__
        raise UserError(f"{path.name}: torch cannot export {type(step).__name__}: {reason}") from error
    logging.info("%s: %s MB, %.1f s", path.name, f"{path.stat().st_size / 1e6:.1f}", time.perf_counter() - start)
    return info


def _described(name, value, dynamic):
    first = value.flatten()[:1].tolist() or [0]
    if not (value == first[0]).all():
        raise UserError(f"the state '{name}' does not begin with one number, as run.py has it")
    shape = [dynamic.get(d, size) for d, size in enumerate(value.shape)]
    return {"name": name, "shape": shape, "dtype": str(value.dtype).removeprefix("torch."), "initial": first[0]}


def _program(step, inputs, dynamic):
    """torch.export's program of ``step`` for arguments of any size where ``dynamic`` has a name."""
    shapes = [dict.fromkeys(dynamic[name], torch.export.Dim.DYNAMIC) for name in inputs]
    with torch.no_grad(), _quiet():
        return torch.export.export(_Flat(step), tuple(inputs.values()), dynamic_shapes=(tuple(shapes),), strict=False)


class _Flat(nn.Module):
    """The same with arguments that have no names."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, *args):
        return self.step(*args)


def _write_onnx(step, inputs, dynamic, outputs, path, info):
    from senet.infer.export_real import RealNumbers

    program = _program(RealNumbers(step), inputs, dynamic)
    logging.info("%s: translating %d operations", path.name, len(program.graph.nodes))
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
            custom_translation_table={operator.floordiv: _floor_divide()},
        )
    logging.info("%s: simplifying", path.name)
    with _quiet():
        _tidy(exported.model)
        exported.save(str(path))


def _tidy(model):
    """Compute what is constant, also weights that are made of others: quantisation looks for them.

    This is onnxscript's ``optimize`` without its rewriting, which takes the addition of 1e-8 for one of nothing
    (onnxscript 0.7.2), so that a power of it became infinite on silence. onnxruntime rewrites for itself.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    common.InlinePass()(model)
    optimizer.fold_constants(model, onnx_shape_inference=True, input_size_limit=MOST, output_size_limit=MOST)
    for name in (
        "RemoveUnusedNodes", "RemoveUnusedFunctions", "RemoveUnusedOpsets", "LiftConstantsToInitializers",
        "DeduplicateInitializers", "CommonSubexpressionElimination", "OutputFix", "NameFix",
    ):  # fmt: skip
        getattr(common, f"{name}Pass")()(model)


def _floor_divide():
    """Division of sizes as Python has it; ONNX's rounds towards 0, and torch 2.13 translates one as the other."""
    from onnxscript import opset18 as op

    def floordiv(x, y):
        return op.Div(op.Sub(x, op.Mod(x, y)), y)

    return floordiv


def _write_pt2(step, inputs, dynamic, outputs, path, info):
    program = _program(step, inputs, dynamic)
    if any(limit.upper < 1 << 40 for limit in program.range_constraints.values()):
        # An LSTM: torch.export takes its number of frames for a constant.
        info["samples"] = inputs["noisy"].shape[1]
        dynamic = {name: {d: n for d, n in sizes.items() if n != "samples"} for name, sizes in dynamic.items()}
        program = _program(step, inputs, dynamic)
        logging.warning("%s: takes %d samples, no more and no less; ONNX any number", path.name, info["samples"])
    torch.export.save(program, path)


_WRITERS = {"onnx": _write_onnx, "pt2": _write_pt2}


@contextlib.contextmanager
def _quiet():
    """Without what the exporters have to say about themselves."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


# ---------------------------------------------------------------- checks


def _check(which, model, path, info):
    """Compare with PyTorch in double precision on generated recordings; differences, PyTorch's own, and the speed.

    Double precision is the one reference that rounding leaves alone. The phase of a bin that holds nothing but rounding
    is any, in PyTorch as well: where a network reads it, no two programs in single precision agree to ``TOLERANCE``.

    Raises:
        UserError: on one it differs by more than the tolerance and by more than ``ROUNDING`` times what PyTorch does.
    """
    rate, run, exact = model.sample_rate, _runner(which, path, info), copy.deepcopy(model).double()
    fixed = info.get("samples")
    lengths = [fixed or round(seconds * rate) for seconds in (1.0, 0.237, 2.113, 1 / rate)]
    recordings = [noisy_speech(n, rate, channels=2 - k % 2, seed=k) for k, n in enumerate(lengths)]
    recordings.append(faint_speech(fixed or round(SECONDS * rate), rate, seed=0))
    found, own = [], []  # differences, a recording each
    for x in recordings:
        with torch.inference_mode():
            single, again = (model(torch.from_numpy(x)).numpy() for _ in range(2))
            expected = exact(torch.from_numpy(x).double()).numpy()
        if not np.array_equal(single, again, equal_nan=True):
            raise UserError("the model gives another output each time, so that no export can be checked (z: random?)")
        found.append(_differences(run(x), expected))
        own.append(_differences(single, expected))
        rounding = own[-1]["largest_difference"]
        most = max(TOLERANCE, ROUNDING * rounding) if math.isfinite(rounding) else TOLERANCE
        if not found[-1]["largest_difference"] <= most:
            raise UserError(
                f"{info['file']}: differs from PyTorch by {found[-1]['largest_difference']:.2g} on {len(x)} x "
                f"{x.shape[1]} generated samples, expected at most {most:.2g}; nothing was written"
            )
    found, own = ({key: max(one[key] for one in several) for key in several[0]} for several in (found, own))
    x = noisy_speech(fixed or round(SECONDS * rate), rate, 1, seed=9)
    factor = _real_time_factor(run, x, rate)
    largest = found["largest_difference"], own["largest_difference"]
    words = "%s: differs from double precision by at most %.2g, PyTorch by %.2g; real-time factor %.3f"
    logging.info(words, info["file"], *largest, factor)
    if largest[0] > TOLERANCE:
        logging.warning(
            "%s: this model depends on rounding, in PyTorch, too, where a recording has nothing at some frequencies; "
            "elsewhere both agree to %g",
            info["file"], TOLERANCE,
        )  # fmt: skip
    return found | {
        "reference": "PyTorch in double precision",
        "pytorch": own,
        "tolerance": TOLERANCE,
        "real_time_factor": factor,
    }


def _differences(found, expected):
    """The largest and the RMS; infinite where there is no comparing."""
    difference = np.abs(found - expected) if found.shape == expected.shape else np.array(math.nan)
    largest, rms = float(difference.max()), float(np.sqrt(np.square(difference).mean()))
    both = {"largest_difference": largest, "rms_difference": rms}
    return both if math.isfinite(rms) else dict.fromkeys(both, math.inf)


def _real_time_factor(run, x, rate):
    """Seconds of computing per second of audio on one thread, after a first run."""
    run(x)
    start = time.perf_counter()
    run(x)
    return (time.perf_counter() - start) * rate / x.shape[1]


def _runner(which, path, info):
    """What runs an exported file on (C, N), by the functions of the runner script."""
    from senet.infer import export_run

    session = export_run.load(path) if path.suffix == ".onnx" else _Program(path)
    if which == "stream":
        return lambda x: export_run.stream(session, x, info)
    return lambda x: export_run.offline(session, x)


class _Program:
    """A file of torch.export with the face of a session of onnxruntime."""

    def __init__(self, path):
        self.program = torch.export.load(path).module()

    def run(self, _, inputs):
        with torch.no_grad():
            outputs = self.program(*(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs.values()))
        return [y.numpy() for y in (outputs if isinstance(outputs, tuple | list) else [outputs])]


def noisy_speech(length, rate, channels, seed):
    """(channels, length) float32: bursts of a harmonic tone that glides, in noise, and a silent beginning."""
    rng = np.random.default_rng(seed)
    time_axis = np.arange(length) / rate
    x = 0.03 * rng.standard_normal((channels, length))
    for row in x:
        pitch = rng.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * time_axis))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        bursts = np.sin(2 * np.pi * 2.5 * time_axis) > -0.3
        row += bursts * sum(0.1 / k * np.sin(k * phase) for k in range(1, 12))
    x[:, : length // 20] = 0
    return x.astype(np.float32)


def faint_speech(length, rate, seed):
    """(2, length) float32: the same with bins that hold next to nothing, as a resampler and a 16-bit file leave it.

    Nothing at the highest frequencies, a part near silence and a faint one.
    """
    spec = np.fft.rfft(noisy_speech(length, rate, 1, seed))
    spec /= 1 + (np.arange(spec.shape[1]) / (0.35 * spec.shape[1])) ** 16
    x = np.fft.irfft(spec, length)
    x *= np.interp(np.arange(length) / length, (0.3, 0.35, 0.5, 0.55, 0.75, 0.8), (1, 3e-4, 3e-4, 0.03, 0.03, 1))
    return np.concatenate([x, np.round(x * (1 << 15)) / (1 << 15)]).astype(np.float32)


# ---------------------------------------------------------------- int8


def _quantise(which, folder, rate, info):
    """Write ``<file>.int8.onnx`` and say what it brought; removed again, with a warning, where it brought nothing."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = folder / file_name(which, "onnx"), folder / file_name(which, "onnx", ".int8")
    model = onnx.load(source)
    del model.graph.value_info[:]  # shapes, of which those of weights that are transposed would be wrong
    with _quiet():
        quantize_dynamic(model, target, op_types_to_quantize=QUANTISED, weight_type=QuantType.QInt8)
    x = noisy_speech(round(SECONDS * rate), rate, 1, seed=9)
    plain, small = (_runner(which, path, info) for path in (source, target))
    expected, found = plain(x), small(x)
    factors = _real_time_factor(plain, x, rate), _real_time_factor(small, x, rate)
    smaller = source.stat().st_size / target.stat().st_size
    error = float(np.sum((found - expected) ** 2.0))
    result = {
        "times_smaller": smaller,
        "times_faster": factors[0] / factors[1],
        "real_time_factor": factors[1],
        "float_bytes": _float_bytes(target),
        "largest_difference": float(np.abs(found - expected).max()),
        "snr_db": 10 * math.log10(max(float(np.sum(expected**2.0)), 1e-10) / max(error, 1e-10)),
    }
    pays = max(smaller, result["times_faster"]) >= GAIN
    result["kept"] = pays and result["snr_db"] >= LEAST_SNR
    floats = f"{result['float_bytes'] / 1e6:.1f} of {target.stat().st_size / 1e6:.1f} MB float: all but LSTM, linear"
    words = "{times_smaller:.2f} times smaller ({}), {times_faster:.2f} times as fast, SNR {snr_db:.1f} dB"
    said = words.format(floats, **result)
    if result["kept"]:
        logging.info("%s: %s; run.py --int8 runs it", target.name, said)
    else:
        reason = f"an SNR below {LEAST_SNR} dB would be heard" if pays else "does not pay"
        logging.warning("%s: %s: %s, not kept", target.name, said, reason)
        target.unlink()
    return result


def _float_bytes(path):
    """What a quantised file still holds as float32."""
    import onnx

    kept = (t for t in onnx.load(path).graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    return sum(4 * math.prod(t.dims) for t in kept)
