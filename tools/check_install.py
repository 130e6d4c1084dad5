#!/usr/bin/env python3
"""Says what of senet's needs is there, in which version, and what to do about what is not.

Runs with any Python >= 3.10, with or without the packages; once tools/install.sh has run, it looks at the environment
that the recipes use. Exit status 1 when something that every recipe
needs is missing; what only some tasks need is a note.
"""

import argparse
import ctypes
import importlib
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALL = "run tools/install.sh"

# import name, distribution, what needs it (None: every recipe does)
PACKAGES = [
    ("numpy", "numpy", None),
    ("scipy", "scipy", None),
    ("soundfile", "soundfile", None),
    ("soxr", "soxr", None),
    ("kaldiio", "kaldiio", None),
    ("configargparse", "ConfigArgParse", None),
    ("yaml", "PyYAML", None),
    ("humanfriendly", "humanfriendly", None),
    ("jinja2", "Jinja2", None),
    ("pesq", "pesq", "PESQ scores"),
    ("pystoi", "pystoi", "STOI scores"),
    ("onnxruntime", "onnxruntime", "DNSMOS scores, senet export"),
    ("onnxscript", "onnxscript", "senet export"),
    ("tensorboard", "tensorboard", "TensorBoard logs"),
    ("pytest", "pytest", "test/run.sh"),
    ("xdist", "pytest-xdist", "test/run.sh"),
    ("hypothesis", "hypothesis", "test/run.sh"),
    ("safetensors", "safetensors", "test/run.sh"),
]


def first_line(error):
    return str(error).strip().split("\n")[0][:90] or type(error).__name__


def check_python():
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 10):  # noqa: UP036 - this script is the one that may meet an older Python
        return "red", found, "senet needs 3.10 or newer: tools/install.sh --python PYTHON"
    return "ok", f"{found}  {sys.executable}", ""


def check_bash():
    text = subprocess.run(["bash", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", text)
    if not found or tuple(map(int, found.groups())) < (4, 4):
        return "red", found.group(0) if found else "none", "the recipes need bash 4.4 or newer on PATH"
    return "ok", found.group(0).removeprefix("version "), ""


def check_torch():
    try:
        import torch
    except (ImportError, OSError) as error:
        return "red", first_line(error), INSTALL
    version = torch.__version__
    if tuple(map(int, version.split(".")[:2])) < (2, 6):
        return "red", version, "senet needs 2.6 or newer: tools/install.sh --torch 'torch>=2.6'"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return "ok", f"{version}, CUDA {torch.version.cuda}: {len(names)} x {names[0]}", ""
    if shutil.which("nvidia-smi"):
        advice = "nvidia-smi is here but torch sees no GPU: check the driver, or tools/install.sh --torch SPEC"
        return "note", f"{version}, no GPU", advice
    return "ok", f"{version}, CPU only", ""


def check_torchaudio():
    try:
        for part in ("functional", "transforms", "compliance.kaldi"):
            importlib.import_module(f"torchaudio.{part}")
        return "ok", importlib.metadata.version("torchaudio"), ""
    except (ImportError, OSError) as error:
        return "red", first_line(error), f"{INSTALL}: it leaves a torchaudio that works beside this torch"


def check_package(module, distribution, needed_for):
    try:
        importlib.import_module(module)
        return "ok", importlib.metadata.version(distribution), ""
    except (ImportError, OSError) as error:
        level, reason = ("note", f"; {needed_for} need it") if needed_for else ("red", "")
        return level, first_line(error), INSTALL + reason


def check_espeak():
    """egs/mini speaks its corpus with espeak-ng; its library and voices come in a pip package."""
    try:
        import espeakng_loader

        ctypes.CDLL(espeakng_loader.get_library_path())
        variants = len(list(Path(espeakng_loader.get_data_path(), "voices", "!v").iterdir()))
        return "ok", f"{importlib.metadata.version('espeakng-loader')}, {variants} voice variants", ""
    except (ImportError, OSError) as error:
        return "note", first_line(error), f"{INSTALL}; only egs/mini needs it"


def check_senet():
    try:
        import senet
    except ImportError as error:
        return "red", first_line(error), INSTALL
    where = Path(senet.__file__).resolve().parent.parent
    if where != ROOT:
        return "red", f"{senet.__version__}  {where}", f"another copy than {ROOT}: run tools/install.sh there"
    return "ok", f"{senet.__version__}  {where}", ""


def check_compiler():
    compiler = shutil.which("cc") or shutil.which("gcc")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if compiler and header.exists():
        return "ok", compiler, ""
    advice = "only to install pesq; Debian: apt-get install gcc python3-dev"
    return "note", "no C compiler" if not compiler else f"no {header}", advice


def check_linters():
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    missing = [name for name in ("ruff", "shellcheck") if not shutil.which(name, path=places)]
    if missing:
        return "note", "no " + ", ".join(missing), f"{INSTALL}; test/run.sh needs it"
    return "ok", "there", ""


def check_disk():
    free = shutil.disk_usage(ROOT).free / 1e9
    advice = "egs/mini takes 0.5 GB; DNS5 about 1 TB" if free < 5 else ""
    return "red" if free < 1 else "note" if advice else "ok", f"{free:.0f} GB free", advice


def check_memory():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    advice = "use few jobs: --nj 1 --num_workers 0" if total < 4 else ""
    return "note" if advice else "ok", f"{total:.0f} GB", advice


def check_cores():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "ok", str(cores), ""


def check_shm():
    if not os.path.isdir("/dev/shm"):
        return "ok", "not used on this system", ""
    size = shutil.disk_usage("/dev/shm").total / 1e9
    if size < 0.5:
        advice = "loader workers pass batches through it: --num_workers 0, or docker run --shm-size 8g"
        return "note", f"{size:.2f} GB", advice
    return "ok", f"{size:.1f} GB", ""


def rows():
    yield "python", check_python()
    yield "bash", check_bash()
    yield "torch", check_torch()
    yield "torchaudio", check_torchaudio()
    for module, distribution, needed_for in PACKAGES:
        yield distribution.lower(), check_package(module, distribution, needed_for)
    yield "espeak-ng", check_espeak()
    yield "senet", check_senet()
    yield "ruff, shellcheck", check_linters()
    yield "C compiler", check_compiler()
    yield "disk", check_disk()
    yield "memory", check_memory()
    yield "cores", check_cores()
    yield "shared memory", check_shm()


def recipes_python():
    """The Python that tools/install.sh chose for the recipes, or None before it has run."""
    try:
        text = (ROOT / "tools" / "env.sh").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    folder = re.search(r"^export SENET_PYTHON_DIR=(.*)$", text, re.MULTILINE)
    python = Path(*shlex.split(folder[1]), "python") if folder else None
    return python if python and python.exists() else None


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quiet", action="store_true", help="print only what is not in order")
    args = parser.parse_args(argv)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    marks = {"ok": ("ok  ", "\033[32m"), "note": ("note", "\033[33m"), "red": ("FAIL", "\033[31m")}
    red = 0
    for name, (level, found, advice) in rows():
        red += level == "red"
        if args.quiet and level == "ok":
            continue
        mark, code = marks[level]
        mark = f"{code}{mark}\033[0m" if colour else mark
        print(f"{mark}  {name:<16}  {found}" + (f"\n      -> {advice}" if advice else ""), flush=True)
    if red:
        print(f"{red} needed {'thing is' if red == 1 else 'things are'} not in order.")
    elif not args.quiet:
        print("Everything that the recipes need is there.")
    return 1 if red else 0


if __name__ == "__main__":
    recipes = recipes_python()
    if recipes and recipes.parent.parent.resolve() != Path(sys.prefix).resolve():
        os.execv(recipes, [str(recipes), __file__, *sys.argv[1:]])
    sys.exit(main())
