"""utils/ssh.py with a stand-in for ssh: machines in turn, the recipe's environment, no job outlives its connection."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"
SSH = """#!/usr/bin/env bash
# As sshd does it: a command for the login shell, in a session of its own, its input ours as long as we are there.
while [ "$1" = -o ]; do shift 2; done
[ "$1" != down ] || { echo "ssh: connect to host down port 22: No route to host" >&2; exit 255; }
MACHINE=$1 exec setsid --wait sh -c "$2"
"""


@pytest.fixture
def runner(runner_of, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    (work / ".queue").mkdir(parents=True)
    home.mkdir()
    (home / "ssh").write_text(SSH)
    (home / "ssh").chmod(0o755)

    def prepare(*words, machines="one  # the first\n\nuser@two\n"):
        if machines is not None:
            (work / ".queue" / "machines").write_text(machines)
        environment = {**os.environ, "PATH": f"{home}:{os.environ['PATH']}", "HOME": str(home)}
        return {"args": [sys.executable, UTILS / "ssh.py", *words], "cwd": work, "env": environment}

    run = runner_of(prepare)
    run.work = work
    return run


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_jobs_go_to_the_machines_in_turn_in_this_folder_and_its_environment(runner):
    (runner.work / "path.sh").write_text("export PLACE=recipe\n")
    runner("--gpu", "1", "JOB=1:3", "x.JOB.log", "echo", "$MACHINE", "$PLACE", "$PWD", '"two  words"')
    for i, machine in ((1, "one"), (2, "user@two"), (3, "one")):
        log = (runner.work / f"x.{i}.log").read_text()
        assert f'{machine} recipe {runner.work} "two  words"\n' in log
        assert log.startswith("# echo $MACHINE $PLACE $PWD") and "# Ended (code 0)" in log


def test_a_failure_and_a_machine_that_is_down_are_reported(runner):
    said = runner("JOB=1:2", "x.JOB.log", "exit", "4", machines="one\ndown\n", code=1)
    assert "ssh.py: 2 / 2 failed" in said
    assert "task 1: code 4" in said and "task 2: code 255" in said
    assert "No route to host" in (runner.work / "x.2.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_job_outlives_the_runner(runner, number):
    process = runner.start("x.log", "sleep", "300", "&", "echo", "$!", ">", "pid;", "wait")
    end = time.time() + 20
    while not (pid := (runner.work / "pid")).exists() or not pid.read_text().strip():
        assert time.time() < end
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    end = time.time() + 20
    while alive(int(pid.read_text())):
        assert time.time() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    "machines, message",
    [(None, ".queue/machines: No such file or directory; it lists the machines"), ("# none\n", "lists no machine")],
)
def test_without_machines_there_is_one_message(runner, machines, message):
    assert message in runner("x.log", "true", machines=machines, code=1)
