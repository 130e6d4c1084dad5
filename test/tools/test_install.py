"""tools/install.sh, against a stand-in for the environment's python, so that nothing is downloaded."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Writes down what pip is asked for, and behaves as the files beside it say.
PYTHON = """#!/usr/bin/env bash
here=$(dirname "$0") words=$*
case "$words" in
  "-m pip install"*)
    echo "${words#-m pip install --disable-pip-version-check --no-input }" >> "$here/pip.log"
    if [ -f "$here/refuses" ] && [[ $words == *"$(cat "$here/refuses")"* ]]; then echo "no such thing"; exit 1; fi
    if [[ $words == *torch==* ]]; then touch "$here/torch"; fi
    if [[ $words == *torchaudio* ]]; then touch "$here/torchaudio"; fi ;;
  "-m pip show -q torchaudio") [ -f "$here/torchaudio" ] ;;
  *find_spec*) echo "$here/../site/torchaudio" ;;
  *"import torchaudio"*) [ -f "$here/torchaudio" ] && ! ls "$here"/../site/torchaudio/lib/*.so > /dev/null 2>&1 ;;
  *'version("torch")'*) echo 2.13 ;;
  -) [ -f "$here/torch" ] ;;
esac
"""


@pytest.fixture
def house(tmp_path):
    """A repository with just the installer, and an active environment; returns (folder of the stand-in, run)."""
    (tmp_path / "tools").mkdir()
    for name in ("setup.py", "tools/install.sh", "tools/check_install.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    bin_dir = tmp_path / "active" / "bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "python").write_text(PYTHON)
    (bin_dir / "python").chmod(0o755)
    lib = tmp_path / "active" / "site" / "torchaudio" / "lib"
    lib.mkdir(parents=True)
    (lib / "_torchaudio.abi3.so").write_text("")

    def run(*options, path=os.environ["PATH"]):
        env = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "active"), "PATH": path}
        return subprocess.run(
            [tmp_path / "tools" / "install.sh", *options], env=env, capture_output=True, text=True, timeout=60
        )

    return bin_dir, run


def asked(bin_dir):
    """What pip was asked to install, in order."""
    log = bin_dir / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


def with_nvidia_smi(bin_dir, works):
    script = bin_dir / "nvidia-smi"
    script.write_text(f"#!/bin/sh\nexit {0 if works else 9}\n")
    script.chmod(0o755)
    return f"{bin_dir}:{os.environ['PATH']}"


def test_cpu_build_where_there_is_no_gpu_and_a_torchaudio_that_imports(house):
    bin_dir, run = house
    done = run("--active", path=with_nvidia_smi(bin_dir, works=False))
    assert done.returncode == 0, done.stderr
    assert asked(bin_dir)[:2] == ["torch==2.13.0+cpu", "--no-deps torchaudio==2.13.*"]
    assert [line.rpartition("[")[2] for line in asked(bin_dir)[2:]] == ["tb,mini,dev]", "onnx]"]
    lib = bin_dir.parent / "site" / "torchaudio" / "lib"
    assert [p.name for p in lib.iterdir()] == ["_torchaudio.abi3.so.disabled"]
    assert "minutes" in done.stdout and "GB" in done.stdout


def test_default_build_where_there_is_a_gpu_or_no_cpu_build(house):
    bin_dir, run = house
    assert run("--active", path=with_nvidia_smi(bin_dir, works=True)).returncode == 0
    assert asked(bin_dir)[0] == "torch==2.13.0"
    (bin_dir / "torch").unlink()
    (bin_dir / "pip.log").unlink()
    (bin_dir / "refuses").write_text("+cpu")
    assert run("--active", "--python", "python3", path=with_nvidia_smi(bin_dir, works=False)).returncode == 0
    assert asked(bin_dir)[:2] == ["torch==2.13.0+cpu", "torch==2.13.0"]


def test_a_torch_of_ones_own_is_kept_and_another_can_be_named(house):
    bin_dir, run = house
    (bin_dir / "torch").touch()
    assert run("--active").returncode == 0
    assert not any(line.startswith("torch==") for line in asked(bin_dir))
    assert run("--active", "--torch", "torch==2.8.0").returncode == 0
    assert "torch==2.8.0" in asked(bin_dir)


def test_nothing_happens_twice_until_the_requirements_change(house):
    bin_dir, run = house
    assert run("--active").returncode == 0
    first = asked(bin_dir)
    again = run()  # without options: the choice is remembered
    assert (again.returncode, again.stdout) == (0, "") and asked(bin_dir) == first
    setup = bin_dir.parents[1] / "setup.py"
    setup.write_text(setup.read_text() + "# another requirement\n")
    assert run().returncode == 0
    assert len(asked(bin_dir)) > len(first)


def test_failure_shows_the_log_leaves_no_env_and_can_be_repeated(house):
    bin_dir, run = house
    (bin_dir / "refuses").write_text("[tb,mini,dev]")
    failed = run("--active")
    assert failed.returncode == 1
    assert "no such thing" in failed.stderr and "C compiler" in failed.stderr
    env_file = bin_dir.parents[1] / "tools" / "env.sh"
    assert not env_file.exists()
    (bin_dir / "refuses").unlink()
    assert run("--active").returncode == 0
    assert f"export SENET_PYTHON_DIR={bin_dir}\n" in env_file.read_text()


def test_a_machine_without_onnxruntime_has_all_the_rest(house):
    bin_dir, run = house
    (bin_dir / "refuses").write_text("[onnx]")
    done = run("--active")
    assert done.returncode == 0
    assert 'DNSMOS will be "not computed"' in done.stdout


def test_two_at_once_install_once(house):
    bin_dir, run = house
    script = bin_dir.parents[1] / "tools" / "install.sh"
    env = {**os.environ, "VIRTUAL_ENV": str(bin_dir.parent)}
    both = [subprocess.Popen([script, "--active"], env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    assert len(asked(bin_dir)) == 4  # torch, torchaudio, the rest, onnxruntime


@pytest.mark.parametrize(
    "options, message", [(["--actve"], "unknown option '--actve'"), (["--torch"], "needs a value")]
)
def test_wrong_options_are_refused(house, options, message):
    bin_dir, run = house
    refused = run(*options)
    assert refused.returncode == 1 and message in refused.stderr and asked(bin_dir) == []
