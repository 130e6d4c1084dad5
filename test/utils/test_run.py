"""utils/run.py: Kaldi's command line, logs, status files, failures, and a clean end of everything it started."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"


@pytest.fixture
def runner(runner_of, tmp_path):
    def prepare(*words, **options):
        call = {"args": [sys.executable, UTILS / "run.py", *words], "cwd": tmp_path, "start_new_session": True}
        return call | options

    return runner_of(prepare)


def wait_for(condition, seconds=20):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited too long"
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_job_has_its_index_log_and_status(runner, tmp_path):
    runner("--mem", "4G", "JOB=1:3", "--num-threads", "2", "logdir/a.JOB.log", "echo", "job", "JOB", ">&2")
    log = (tmp_path / "logdir" / "a.2.log").read_text().splitlines()
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    for line, pattern in zip(
        log,
        [
            r"# echo job 2 >&2",
            rf"# Started at {date}",
            r"#",
            r"job 2",
            r"# Accounting: time=\d+ threads=2",
            rf"# Ended \(code 0\) at {date}, elapsed time \d+ seconds",
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, line), (line, pattern)
    status = json.loads((tmp_path / "logdir" / "q" / "a.2.status").read_text())
    assert (status["code"], status["signal"], status["host"]) == (0, 0, os.uname().nodename)
    assert 0 <= status["end"] - status["start"] < 60
    assert sorted(os.listdir(tmp_path / "logdir" / "q")) == ["a.1.status", "a.2.status", "a.3.status"]


def test_status_files_of_a_folder_called_log_lie_beside_it(runner, tmp_path):
    runner("exp/log/b.log", "true")
    assert (tmp_path / "exp" / "q" / "b.1.status").exists()


@pytest.mark.parametrize(
    "words, output",
    [
        (["echo", "a", "|", "tr", "a", "b"], "b"),
        (["echo", "a", "&&", "echo", "b"], "a b"),
        (["echo", "$((1+1))"], "2"),
        (["echo", "two  words"], "two  words"),
        (["echo", 'say "hi  there"'], 'say "hi  there"'),
        (["echo", "in $((1 + 1)) double quotes"], "in 2 double quotes"),
        (["echo", "x", ""], "x"),
    ],
)
def test_words_reach_bash_as_kaldi_passes_them(runner, tmp_path, words, output):
    runner("x.log", *words)
    lines = [line for line in (tmp_path / "x.log").read_text().splitlines() if not line.startswith("#")]
    assert " ".join(lines).rstrip() == output


def test_the_identifier_is_replaced_only_where_it_stands_alone(runner, tmp_path):
    runner("JOB=7:7", "x.JOB.log", "echo", "JOBS", "myJOB", "JOB1", "keys.JOB.scp", "a_JOB_b", "/JOB/", "JOB-JOB")
    assert "JOBS myJOB JOB1 keys.7.scp a_7_b /7/ 7-7\n" in (tmp_path / "x.7.log").read_text()


def test_a_warning_when_the_folders_own_path_has_the_identifier(runner, tmp_path):
    folder = tmp_path / "JOB"
    folder.mkdir()
    assert "part of this folder's own path" in runner("JOB=1:1", "x.JOB.log", "echo", f"{folder}/a", cwd=folder)


@pytest.mark.parametrize(
    "words, message",
    [
        (["JOB=1:2", "x.log", "true"], "2 jobs would write one log"),
        (["JOB=1:2", "x.JOBS.log", "true"], "2 jobs would write one log"),
        (["JOB=0:2", "x.JOB.log", "true"], "bad job range 'JOB=0:2'"),
        (["JOB=3:2", "x.JOB.log", "true"], "bad job range 'JOB=3:2'"),
        (["JOB=:2", "x.JOB.log", "true"], "bad job range"),
        (["--pick", "most", "x.log", "true"], "--pick is all, failed or incomplete, not 'most'"),
        (["--max-jobs-run", "x", "x.log", "true"], "takes a whole number, not 'x'"),
        (["--mem"], "option --mem needs a value"),
        (["-pe", "smp", "x.log"], "expected a log file"),
        (["x.log"], "expected a log file and a command"),
    ],
)
def test_a_wrong_line_is_refused(runner, words, message, tmp_path):
    assert message in runner(*words, code=1)
    assert not list(tmp_path.glob("*.log"))


def test_options_of_schedulers_are_accepted_before_and_after_the_range(runner):
    runner("-V", "-pe", "smp", "2", "--time", "1:0", "JOB=1:2", "-l", "x=y", "--gpu", "0", "x.JOB.log", "true")


def test_failures_are_listed_with_the_first_failed_logs_end(runner, tmp_path):
    (tmp_path / "job.sh").write_text(
        "echo line\n[ $1 != 2 ] || { echo 'write: No space left on device'; exit 3; }\n[ $1 != 3 ] || kill -9 $$\n"
    )
    said = runner("JOB=1:4", "x.JOB.log", "bash", "job.sh", "JOB", code=1)
    assert "run.py: 2 / 4 failed, log is in x.*.log" in said
    assert "task 2: code 3, log x.2.log" in said
    assert re.search("task 3: (code 137|signal 9), log x.3.log", said)
    assert "last lines of x.2.log" in said
    assert "| write: No space left on device" in said
    assert "hint: the disk is full" in said
    assert "memory was full: lower --nj" in said


def test_a_single_failed_job(runner, tmp_path):
    said = runner("dir/x.log", "seq", "30", "&&", "exit", "5", code=1)
    assert said.startswith("run.py: job failed, log is in dir/x.log\n")
    assert "| 30\n" in said
    assert "| 5\n" not in said
    assert "# Ended (code 5)" in (tmp_path / "dir" / "x.log").read_text()


def test_a_missing_job_range_is_pointed_out(runner):
    assert "no range such as JOB=1:4" in runner("x.JOB.log", "false", code=1)


def test_max_jobs_run_limits_how_many_run_at_once(runner, tmp_path):
    (tmp_path / "count.sh").write_text("touch on.$1; sleep 0.1; ls on.* 2> gone | wc -l; rm on.$1\n")
    runner("--max-jobs-run", "2", "-tc", "3", "JOB=1:5", "x.JOB.log", "bash", "count.sh", "JOB")
    counts = [int((tmp_path / f"x.{i}.log").read_text().splitlines()[3]) for i in range(1, 6)]
    assert max(counts) <= 2


def test_pick_leaves_out_jobs_that_ended_well(runner, tmp_path):
    command = ["JOB=1:3", "x.JOB.log", "echo", "ran", ">>", "runs.JOB", "&&", "[", "JOB", "-ne", "2", "]"]
    runner(*command, code=1)
    runner("--pick", "failed", *command, code=1)
    (tmp_path / "x.3.log").write_text("# cut off\n")
    runner("--pick", "incomplete", *command, code=1)
    assert [len((tmp_path / f"runs.{i}").read_text().splitlines()) for i in (1, 2, 3)] == [1, 3, 2]


def test_dry_run_prints_the_commands_and_runs_nothing(runner, tmp_path):
    assert runner("--dry-run", "JOB=1:2", "x.JOB.log", "touch", "f.JOB") == "touch f.1 > x.1.log\ntouch f.2 > x.2.log\n"
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_the_whole_group_and_completes_log_and_status(runner, tmp_path, number):
    process = runner.start("JOB=1:2", "x.JOB.log", "sleep", "300", "&", "echo", "$!", ">", "pid.JOB;", "wait")
    pids = [tmp_path / "pid.1", tmp_path / "pid.2"]
    wait_for(lambda: all(p.exists() and p.read_text().strip() for p in pids))
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    process.communicate()
    assert not any(alive(int(p.read_text())) for p in pids)
    assert "# Ended (code " in (tmp_path / "x.1.log").read_text()
    assert json.loads((tmp_path / "q" / "x.2.status").read_text())["signal"] == signal.SIGTERM


def test_what_a_command_has_started_is_its_own_to_end(runner, tmp_path):
    (tmp_path / "loader.sh").write_text("trap 'touch told' TERM; touch begun; while true; do sleep 0.1; done\n")
    (tmp_path / "train.sh").write_text("bash loader.sh & trap 'sleep 0.5; touch saved; exit 1' TERM; wait\n")
    process = runner.start("x.log", "bash", "train.sh")
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.communicate()
    assert (tmp_path / "saved").exists() and not (tmp_path / "told").exists()


@pytest.mark.parametrize("before, after", [("cd . &&", ""), ("true;", "; touch more"), ("", "|| touch more")])
def test_a_command_among_others_ends_as_it_does_alone_and_nothing_follows(runner, tmp_path, before, after):
    (tmp_path / "train.sh").write_text("trap 'sleep 0.5; touch saved; exit 75' TERM; touch begun; sleep 300 & wait\n")
    process = runner.start("x.log", *before.split(), "bash", "train.sh", *after.split())
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.communicate()
    assert (tmp_path / "saved").exists() and not (tmp_path / "more").exists()
    assert json.loads((tmp_path / "q" / "x.1.status").read_text())["code"] == 75


@pytest.mark.parametrize("numbers, saved", [(("INT", "TERM"), True), (("TERM", "INT", "INT"), False)])
def test_one_interrupt_that_comes_on_two_ways_is_one(runner, tmp_path, numbers, saved):
    (tmp_path / "train.sh").write_text("trap 'sleep 1; touch saved; exit 1' TERM; touch begun; sleep 300 & wait\n")
    process = runner.start("x.log", "bash", "train.sh")
    wait_for((tmp_path / "begun").exists)
    for name in numbers:
        process.send_signal(signal.Signals[f"SIG{name}"])
        time.sleep(0.1)
    assert process.wait(30) == 130
    assert "stopped by SIGINT" in process.communicate()[1]
    assert (tmp_path / "saved").exists() == saved


def test_under_nohup_the_end_of_the_terminal_ends_nothing(runner, tmp_path):
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = runner.start("x.log", "touch", "begun;", "sleep", "1;", "touch", "ended", **ignore)
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0
    process.communicate()
    assert (tmp_path / "ended").exists()


def test_what_ignores_term_is_killed(runner, tmp_path):
    (tmp_path / "deaf.sh").write_text("trap true TERM; echo $$ > pid; while true; do sleep 0.1; done\n")
    process = runner.start("x.log", "bash", "deaf.sh")
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text().strip())
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)  # the second one does not wait
    assert process.wait(30) == 143
    process.communicate()
    assert not alive(int(pid.read_text()))
    assert "signal 9" in (tmp_path / "x.log").read_text()


def test_jobs_do_not_outlive_a_runner_that_is_killed_outright(runner, tmp_path):
    process = runner.start("x.log", "sleep", "300", "&", "echo", "$!", ">", "pid;", "wait")
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text().strip())
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(int(pid.read_text())))


def test_an_earlier_status_is_gone_while_the_job_runs(runner, tmp_path):
    runner("x.log", "true")
    status = tmp_path / "q" / "x.1.status"
    assert status.exists()
    runner("x.log", "test", "!", "-e", status)


def test_gpus_are_shared_out(runner, tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,6"}
    runner("--gpu", "1", "JOB=1:2", "x.JOB.log", "echo", "on:$CUDA_VISIBLE_DEVICES;", "sleep", "0.5", env=environment)
    used = {re.search(r"^on:(\S+)", (tmp_path / f"x.{i}.log").read_text(), re.M)[1] for i in (1, 2)}
    assert used == {"4", "6"}


def test_without_a_gpu_there_is_a_warning_and_one_job_at_a_time(runner, tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    if any((Path(folder) / "nvidia-smi").exists() for folder in environment["PATH"].split(":")):
        pytest.skip("nvidia-smi is in /usr/bin")
    assert "lists no GPU" in runner("--gpu", "1", "x.log", "true", env=environment)
