import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check_install.py"


def check(*python_options, script=SCRIPT):
    return subprocess.run([sys.executable, *python_options, script], capture_output=True, text=True, timeout=300)


def test_green_where_everything_is_installed():
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for name in ("python", "torch", "torchaudio", "kaldiio", "espeak-ng", "senet", "disk", "shared memory"):
        assert any(line[:4] in ("ok  ", "note") and line[6:].startswith(name) for line in lines), name


def test_without_packages_each_red_line_says_what_to_do(tmp_path):
    script = tmp_path / "tools" / SCRIPT.name  # beside no env.sh: nothing was installed
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    done = check("-I", "-S", script=script)  # no site-packages: as on a machine without anything
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    red = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    assert {lines[i][6:].split()[0] for i in red} >= {"torch", "torchaudio", "numpy", "soundfile", "kaldiio"}
    assert all("tools/install.sh" in lines[i + 1] for i in red)
    assert lines[-1] == f"{len(red)} needed things are not in order."


def test_another_python_looks_at_the_environment_of_the_recipes(tmp_path):
    script = tmp_path / "tools" / SCRIPT.name
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    chosen = tmp_path / "chosen" / "bin" / "python"
    chosen.parent.mkdir(parents=True)
    chosen.write_text("#!/bin/sh\necho chosen $1\n")
    chosen.chmod(0o755)
    (script.parent / "env.sh").write_text(f"export SENET_PYTHON_DIR={chosen.parent}\n")
    assert check(script=script).stdout == f"chosen {script}\n"
