"""Every --help, and every tool that handles manifests only, runs without torch and the other slow imports."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Runs each command line in turn in one process, in a folder with a data directory 'data/a', and prints what each
# made Python import, and its exit status.
CHILD = """
import contextlib, importlib, io, json, sys

HEAVY = ("torch", "torchaudio", "scipy", "jinja2", "pesq", "pystoi", "soxr")
report = {}
for line in json.loads(sys.argv[1]):
    name, *arguments = line.split()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            from senet.bin import run, senet
            main = senet if name == "senet" else importlib.import_module(f"senet.bin.{name}").main
            status = run(main, arguments)
        except SystemExit as stop:
            status = stop.code or 0
    heavy = sorted(m for m in HEAVY if m in sys.modules)
    for module in [m for m in sys.modules if m.partition(".")[0] in heavy]:
        del sys.modules[module]
    report[line] = {"status": status, "heavy": heavy, "said": said.getvalue()}
print(json.dumps(report))
"""


def commands():
    return sorted(p.stem for p in (ROOT / "senet" / "bin").glob("*.py") if p.stem != "__init__")


HELPS = ["senet --help", *(f"{name} --help" for name in commands())]
MANIFEST_TOOLS = [
    "validate data/a",
    "validate --fix data/a",
    "datadir copy data/a data/b --utt_prefix x- --spk_prefix x-",
    "datadir combine --allow_missing data/c data/a data/b",
    "datadir subset data/a 1 data/d --first",
    "datadir split data/a 2",
    "datadir filter data/d/utt2spk data/a/wav.scp",
    "status",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    data = folder / "data" / "a"
    data.mkdir(parents=True)
    (folder / "exp" / "a" / "checkpoints").mkdir(parents=True)
    ids = ["s1-a", "s1-b", "s2-a"]
    (data / "wav.scp").write_text("".join(f"{u} wav/{u}.wav\n" for u in ids))
    (data / "spk1.scp").write_text("".join(f"{u} wav/{u}_clean.wav\n" for u in ids))
    (data / "utt2spk").write_text("".join(f"{u} {u[:2]}\n" for u in ids))
    (data / "spk2utt").write_text("s1 s1-a s1-b\ns2 s2-a\n")
    (data / "utt2num_samples").write_text("".join(f"{u} 16000\n" for u in ids))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([*HELPS, *MANIFEST_TOOLS])],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("line", HELPS)
def test_help_is_there_and_imports_nothing_slow(report, line):
    assert report[line]["status"] == 0 and "usage" in report[line]["said"]
    assert report[line]["heavy"] == []
    said = " ".join(report[line]["said"].split())
    assert not re.search(r"\(default: (None|False|\[\]|\{\})?\)", said)


@pytest.mark.parametrize("line", MANIFEST_TOOLS)
def test_manifest_tools_work_and_import_nothing_slow(report, line):
    assert report[line]["status"] == 0, report[line]["said"]
    assert report[line]["heavy"] == []


def test_senet_itself_lists_every_command_with_what_it_does(report):
    lines = report["senet --help"]["said"].splitlines()
    for name in commands():
        (line,) = [text for text in lines if text.split()[:1] == [name]]
        assert len(line.split()) > 2
