"""utils/slurm.py against commands that stand in for Slurm's and do what Slurm does on a bad day (fake_slurm.py).

What the real one does is in test/cluster.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"
FAST = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import scheduler, slurm
scheduler.LATE, scheduler.HOPELESS, scheduler.ASK, scheduler.LOOK = 3.0, 1.0, (0.2, 0.5), (0.05, 0.2)
scheduler.REMIND, scheduler.CANCELLING = 1.0, 2.0
sys.exit(scheduler.main(slurm.Slurm, sys.argv[1:], ""))
"""


@pytest.fixture
def runner(runner_of, tmp_path):
    """``run(*words, wrong=, code=)`` runs slurm.py, its waiting times in small, and returns what it said."""
    folder, work = tmp_path / "fake", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (folder / name).symlink_to(Path(__file__).with_name("fake_slurm.py"))

    def prepare(*words, wrong="", reason=""):
        path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        fake = {"PATH": path, "FAKE_FOLDER": str(folder), "FAKE_SLURM": wrong, "FAKE_REASON": reason}
        environment = {**os.environ, **fake, "PWD": str(work)}
        return {"args": [sys.executable, "-c", FAST, UTILS, *words], "cwd": work, "env": environment}

    def calls(name):
        text = (folder / "calls").read_text() if (folder / "calls").exists() else ""
        return [line for line in text.splitlines() if line.startswith(name)]

    run = runner_of(prepare)
    run.work, run.calls = work, calls
    return run


def status(runner, name):
    return json.loads((runner.work / "q" / f"{name}.status").read_text())


def test_an_array_is_one_job_with_a_log_and_a_status_for_each_task(runner):
    runner(
        "JOB=1:3",
        "--mem",
        "4G",
        "log/a.JOB.log",
        "echo",
        "task",
        "JOB",
        '"two  words"',
        "&&",
        "[",
        "JOB",
        "-gt",
        "0",
        "]",
    )
    (call,) = runner.calls("sbatch")
    assert "--mem-per-cpu 4G" in call and "--array=1-3 " in call and "--output=q/a.log" in call
    log = (runner.work / "log" / "a.2.log").read_text().splitlines()
    patterns = [
        r"# Running on \S+",
        r"# Started at \w+ .*",
        r'# echo task 2 \'"two  words"\' && \[ 2 -gt 0 \]',
        'task 2 "two  words"',
        r"# Accounting: time=\d+ threads=1",
        r"# Finished at \w+ .* with status 0",
    ]
    assert all(re.fullmatch(*pair) for pair in zip(patterns, log, strict=True)), log
    ended = status(runner, "a.2")
    assert (ended["code"], ended["signal"], ended["job_id"], ended["host"]) == (0, 0, "72", os.uname().nodename)
    assert 0 <= ended["end"] - ended["start"] < 60
    assert sorted(os.listdir(runner.work / "q")) == ["a.1.status", "a.2.status", "a.3.status", "a.sh"]


def test_the_jobs_run_in_the_recipes_environment(runner):
    (runner.work / "path.sh").write_text("export PLACE='from path.sh'\n")
    runner("x.log", "echo", "$PLACE", "in", "$PWD")
    assert f"from path.sh in {runner.work}\n" in (runner.work / "x.log").read_text()
    (runner.work / "path.sh").write_text("echo 'senet is not installed yet' >&2; return 1\n")
    assert "  | senet is not installed yet" in runner("x.log", "true", code=1)


def test_failed_and_killed_tasks_are_listed_with_the_first_ones_log(runner):
    (runner.work / "job.sh").write_text(
        "[ $1 != 2 ] || { echo 'No space left on device'; exit 3; }\n[ $1 != 3 ] || kill -9 $$\n"
    )
    said = runner("JOB=1:4", "x.JOB.log", "bash", "job.sh", "JOB", code=1)
    assert said.startswith("slurm.py: 2 / 4 failed, log is in x.*.log\n  task 2: code 3, log x.2.log\n")
    assert "  task 3: signal 9, log x.3.log" in said
    assert "| No space left on device" in said and "the disk is full" in said and "memory was full: lower --nj" in said
    assert status(runner, "x.1")["code"] == 0 and status(runner, "x.3")["signal"] == 9


def test_a_vanished_job_has_failed_after_a_short_time(runner):
    begin = time.time()
    said = runner("x.log", "true", wrong="vanish", code=1)
    assert "task 1: code 1, gone from the queue without a status (cancelled before it began?)" in said
    assert "a file is missing" not in said
    assert time.time() - begin < 30
    assert status(runner, "x.1")["code"] == 1


def test_a_task_killed_with_its_script_ends_as_slurm_remembers(runner):
    said = runner("x.log", "sleep", "60", wrong="kill", code=1)
    assert "task 1: signal 9, OUT_OF_MEMORY by Slurm; it left no status, log x.log" in said
    assert "unless somebody did that, memory was full: lower batch_size" in said


def test_a_job_whose_time_is_over_is_told_what_to_ask_for(runner):
    said = runner("x.log", "sleep", "30", wrong="limit", code=1)
    assert 'hint: its time was over; ask for more, as in cmd.sh by "slurm.py --time' in said


def test_a_job_that_can_never_start_is_cancelled_with_the_reason(runner):
    said = runner("--num-threads", "9", "x.log", "true", wrong="pending", reason="PartitionConfig", code=1)
    assert "job 7 would wait for ever, and was cancelled: PartitionConfig" in said
    assert "--cpus-per-task 9" in said
    assert runner.calls("scancel") == ["scancel 7"]
    log = (runner.work / "x.log").read_text()
    assert log.startswith("# Refused: job 7 would wait for ever") and "\n#   the call was: sbatch" in log


def test_more_nodes_than_the_partition_has_will_never_come(runner):
    said = runner("--num-nodes", "2", "x.log", "true", wrong="pending", reason="PartitionNodeLimit", code=1)
    assert "would wait for ever, and was cancelled: PartitionNodeLimit: more nodes than the partition has" in said
    assert runner.calls("scontrol")[:2] == ["scontrol -o show job 7", "scontrol -o show partition cpu"]


def test_a_job_that_waits_says_why_again_and_again(runner):
    process = runner.start("x.log", "true", wrong="pending", reason="Priority")
    time.sleep(6)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1]
    assert said.count("slurm.py: job 7 waits in the queue: Priority\n") >= 2
    assert process.returncode == 143


def test_a_refused_submission_shows_slurms_words_and_the_call(runner):
    said = runner("--time", "1:00", "x.log", "true", wrong="refuse", code=1)
    assert "Batch job submission failed: Socket timed out" in said
    assert "the call was: sbatch --time 1:00 " in said


def test_without_slurm_there_is_one_message(tmp_path):
    done = subprocess.run(
        [sys.executable, UTILS / "slurm.py", "x.log", "true"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("slurm.py: sbatch: No such file or directory\n")
    assert "SENET_CMD_BACKEND=local" in done.stderr


def test_a_log_that_comes_later_than_its_status_is_shown(runner):
    said = runner("x.log", "true", wrong="late", code=1)
    assert "task 1: code 3" in said and "| a late line" in said


def test_a_preempted_task_is_waited_for(runner):
    runner("x.log", "echo", "second", "time", wrong="preempt")
    assert "second time" in (runner.work / "x.log").read_text()
    assert status(runner, "x.1")["code"] == 0


@pytest.mark.parametrize(
    ("command", "log", "signals"),
    [
        ("sbatch", ["x.log"], ["--signal=B:USR1@60"]),
        ("sbatch --signal=B:USR1@9", ["x.log"], ["--signal=B:USR1@9"]),
        ("sbatch", ["JOB=1:2", "x.JOB.log"], []),
    ],
)
def test_a_single_job_is_warned_before_its_time_ends(runner, command, log, signals):
    (runner.work / "c.conf").write_text(f"command {command}\n")
    call = runner("--dry-run", "--config", "c.conf", *log, "true").splitlines()[0]
    assert [word for word in call.split() if "--signal" in word] == signals


def test_a_command_that_wants_to_go_on_is_requeued(runner):
    runner("x.log", "exit", "75", code=1)
    assert runner.calls("scontrol requeue") == ["scontrol requeue 71"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_cancels_the_job_and_lets_it_say_how_it_ended(runner, number):
    process = runner.start("JOB=1:2", "x.JOB.log", "touch", "begun.JOB;", "sleep", "300")
    end = time.time() + 30
    while not all((runner.work / f"begun.{i}").exists() for i in (1, 2)):
        assert time.time() < end
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert f"slurm.py: stopped by {signal.Signals(number).name}; job 7 was cancelled" in said
    assert runner.calls("scancel") == ["scancel 7"]
    assert status(runner, "x.2")["signal"] == signal.SIGTERM
    assert not (runner.work / "q" / "x.job").exists()


def test_what_a_killed_runner_left_in_the_queue_is_looked_for(runner):
    process = runner.start("x.log", "touch", "begun;", "sleep", "300")
    end = time.time() + 30
    while not all((runner.work / name).exists() for name in ("begun", "q/x.job")):
        assert time.time() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert (runner.work / "q" / "x.job").read_text() == "7\n"
    assert runner("x.log", "true") == ""
    assert any("-j 7 -o %o" in call for call in runner.calls("squeue"))
    subprocess.run(
        [runner.work.parent / "fake" / "scancel", "7"],
        env={**os.environ, "FAKE_FOLDER": str(runner.work.parent / "fake")},
        check=True,
    )


def test_pick_runs_only_what_has_not_ended_well(runner):
    command = [
        "JOB=1:4",
        "x.JOB.log",
        "echo",
        "ran",
        ">>",
        "runs.JOB",
        "&&",
        "[",
        "JOB",
        "-ne",
        "2",
        "]",
        "&&",
        "[",
        "JOB",
        "-ne",
        "4",
        "]",
    ]
    runner(*command, code=1)
    said = runner("--pick", "failed", *command, code=1)
    assert "task 2" in said and "task 4" in said
    assert [len((runner.work / f"runs.{i}").read_text().splitlines()) for i in range(1, 5)] == [1, 2, 1, 2]
    assert "--array=1-2 " in runner.calls("sbatch")[-1]


def test_dry_run_prints_the_call_and_the_script_and_runs_nothing(runner):
    said = runner("--dry-run", "--num-nodes", "2", "--gpu", "4", "x.log", "python", "-m", "senet.bin.train")
    assert said.startswith("sbatch --nodes 2 --gres=gpu:4 ")
    assert "--ntasks-per-node=4" in said and "srun --kill-on-bad-exit=1" in said and "MASTER_ADDR" in said
    assert "# task 1: python -m senet.bin.train > x.log" in said
    assert not os.listdir(runner.work)
    assert not runner.calls("")


def test_max_jobs_run_and_single_dash_options_reach_sbatch(runner):
    runner("-tc", "2", "-p", "long", "JOB=2:4", "x.JOB.log", "true")
    assert "--array=2-4%2 -p long " in runner.calls("sbatch")[0]


def write(runner, text):
    (runner.work / "conf").mkdir(exist_ok=True)
    (runner.work / "conf" / "slurm.conf").write_text(text)


def test_the_option_file_says_what_options_become_in_any_order(runner):
    write(
        runner,
        "option gpu=0 -p cpu   # a comment\noption gpu=* -p gpu --gres=gpu:$0\ndefault gpu=0\n"
        "command sbatch --export=ALL\n"
        "option mem=0\noption mem=* --mem=$0\noption num-threads=* -c $0\noption quality=* --qos '$0 or so'\n",
    )
    assert runner("--dry-run", "x.log", "true").startswith("sbatch --export=ALL -p cpu --parsable")
    said = runner("--dry-run", "--mem", "0", "--gpu", "2", "--num-threads", "3", "--quality", "best", "x.log", "true")
    assert "sbatch --export=ALL -p gpu --gres=gpu:2 -c 3 --qos 'best or so' --parsable" in said


@pytest.mark.parametrize(
    "text, words, message",
    [
        (
            "command sbatch\n",
            ["--mem", "4G"],
            "option --mem 4G: conf/slurm.conf has no line for it, 'option mem=* ...'",
        ),
        ("option mem=* --mem $0\n", [], "conf/slurm.conf: there is no line 'command ...'"),
        ("command sbatch\noption mem --mem $0\n", [], "conf/slurm.conf, line 2: 'option mem --mem $0': expected"),
        ("command sbatch 'x\n", [], "conf/slurm.conf, line 1: No closing quotation"),
        ("", ["--config", "conf/none.conf"], "conf/none.conf: cannot read it: No such file or directory"),
    ],
)
def test_a_wrong_option_file_is_named_with_the_line(runner, text, words, message):
    write(runner, text)
    assert message in runner(*words, "x.log", "true", code=1)
    assert not runner.calls("")
