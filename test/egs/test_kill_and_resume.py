"""A recipe that is killed at random moments and run again leaves the same files as one that is not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_recipe_ends_with_the_same_files(tmp_path):
    """Three kills; kill_resume.py with --kills 20 is the long form."""
    if not (ROOT / "tools" / "env.sh").exists():
        pytest.skip("not installed by tools/install.sh, which the recipe would start")
    command = [
        sys.executable,
        Path(__file__).with_name("kill_resume.py"),
        "--kills",
        "3",
        "--seed",
        "4",
        "--work",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ", 0 differ" in done.stdout
