"""Processes of one machine: who they are, what ends them, which status they leave."""

import os
import signal
import subprocess
import sys
import time

import pytest

from senet.train.launch import launch

NAMES = "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"
SHOW = f"import os; print(*(os.environ[n] for n in {NAMES}), flush=True)"


def python(code):
    return [sys.executable, "-c", code]


def test_each_process_is_told_its_place(capfd):
    assert launch(python(SHOW), 3) == 0
    assert sorted(capfd.readouterr().out.split("\n")[:3]) == [f"{rank} 3 {rank} 127.0.0.1" for rank in range(3)]


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((75, 75), 75), ((0, 75), 75), ((3, 0), 3), ((75, 4), 4), ((0, -9), 137)]
)
def test_one_status_speaks_for_all(codes, expected):
    end = "c = {}[int(os.environ['RANK'])]; os.kill(os.getpid(), -c) if c < 0 else sys.exit(c)"
    assert launch(python("import os, sys; " + end.format(codes)), 2) == expected


def test_when_one_fails_the_others_are_ended(caplog):
    """Also one that does not heed SIGTERM."""
    stay = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    code = f"import os, signal, sys, time\nif os.environ['RANK'] == '1': sys.exit(3)\n{stay}"
    start = time.monotonic()
    assert launch(python(code), 2, grace=0.5) == 3
    assert time.monotonic() - start < 30
    assert "rank 1 ended with status 3; the others are ended" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_and_they_take_their_time(number, tmp_path):
    code = (
        "import os, pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (time.sleep(1), sys.exit(75)))\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).touch()\n"
        "time.sleep(60)"
    )
    inner = f"import sys; from senet.train.launch import launch; sys.exit(launch({python(code)!r}, 2, grace=0.1))"
    process = subprocess.Popen(python(inner))
    while len(os.listdir(tmp_path)) < 2:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 75


def test_nothing_is_left_when_the_launcher_is_killed(tmp_path):
    code = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(60)"
    inner = f"from senet.train.launch import launch; launch({python(code)!r}, 2)"
    process = subprocess.Popen(python(inner))
    while len(pids := os.listdir(tmp_path)) < 2:
        time.sleep(0.05)
    process.kill()
    process.wait()
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"{pids} live on")
