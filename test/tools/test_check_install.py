import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check_install.py"


def check(*python_options):
    return subprocess.run([sys.executable, *python_options, SCRIPT], capture_output=True, text=True, timeout=300)


def test_green_where_everything_is_installed():
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for name in ("python", "torch", "torchaudio", "kaldiio", "espeak-ng", "senet", "disk", "shared memory"):
        assert any(line[:4] in ("ok  ", "note") and line[6:].startswith(name) for line in lines), name


def test_without_packages_each_red_line_says_what_to_do():
    done = check("-I", "-S")  # no site-packages: as on a machine without anything
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    red = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    assert {lines[i][6:].split()[0] for i in red} >= {"torch", "torchaudio", "numpy", "soundfile", "kaldiio"}
    assert all("tools/install.sh" in lines[i + 1] for i in red)
    assert lines[-1] == f"{len(red)} needed things are not in order."
