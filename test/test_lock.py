"""The lock of a folder: one process, on this machine or another, and not for ever."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from senet import lock
from senet.errors import UserError
from senet.lock import Lock

HOLD = (
    "import sys, time; from senet.lock import Lock\nwith Lock(sys.argv[1]): print('held', flush=True); time.sleep(99)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of ``exp``."""
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "exp"], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_in_use_is_refused_with_host_pid_and_time(holder, tmp_path):
    year = time.strftime("%Y")
    with (
        pytest.raises(UserError, match=rf"exp: in use by process {holder.pid} on {os.uname().nodename} since {year}-"),
        Lock(tmp_path / "exp"),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free_at_once(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 3600)  # nobody looks on: the kernel knows
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Lock(tmp_path / "exp"):
        assert json.loads((tmp_path / "exp" / ".lock").read_text())["pid"] == os.getpid()


def test_a_released_lock_is_free_and_names_nobody(tmp_path):
    for _ in range(2):
        with Lock(tmp_path):
            pass
        assert (tmp_path / ".lock").read_text() == ""


def test_a_forked_process_that_outlives_the_holder_does_not_keep_the_lock(tmp_path):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock = Lock(tmp_path)
        lock.__enter__()
        helper = os.fork()
        if helper == 0:
            time.sleep(60)
        os.write(writing, f"{helper}\n".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    helper = int(os.read(reading, 100))
    try:
        with Lock(tmp_path):
            pass
    finally:
        os.kill(helper, signal.SIGKILL)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The file is of a process on another machine, whose locks are not seen here."""
    monkeypatch.setattr(lock, "PULSE", 0.1)
    monkeypatch.setattr(lock, "PATIENCE", 1.0)
    path = tmp_path / ".lock"
    path.write_text('{"host": "node7", "pid": 12, "since": "2026-01-02T03:04:05+0000"}\n')
    return path


def test_a_process_on_another_machine_is_respected_while_it_stirs(elsewhere):
    stop = threading.Event()

    def stir():
        while not stop.wait(0.05):
            os.utime(elsewhere)

    thread = threading.Thread(target=stir)
    thread.start()
    try:
        with pytest.raises(UserError, match="process 12 on node7 since 2026-01-02"), Lock(elsewhere.parent):
            pass
    finally:
        stop.set()
        thread.join()
    assert "node7" in elsewhere.read_text()


def test_one_that_does_not_stir_was_killed(elsewhere):
    with Lock(elsewhere.parent):
        assert json.loads(elsewhere.read_text())["pid"] == os.getpid()


def test_without_locks_of_the_kernel_the_file_alone_decides(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_try", lambda file: None)
    with pytest.raises(UserError, match=f"process {holder.pid} on"), Lock(tmp_path / "exp"):
        pass
