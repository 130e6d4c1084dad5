"""The runners on a real Slurm and a real GridEngine, started by tools/cluster.sh on this machine; a whole recipe."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY_NET = (
    "--model_conf.channels 4 --model_conf.maps 2 --model_conf.lstm_units 16 --model_conf.fc_units 16 "
    "--max_epoch 1 --max_steps 2 --batch_size 4"
)
NEEDED = {"slurm": ("slurmctld", "slurmd", "munged", "sbatch"), "sge": ("sge_qmaster", "sge_execd", "qsub")}
RUNNER = {"slurm": "slurm.py", "sge": "queue.py"}
PLACES = f"{os.environ['PATH']}:/usr/sbin:/sbin"

pytestmark = pytest.mark.cluster


class Cluster:
    """A running scheduler.

    Attributes:
        kind: slurm or sge. environment: what makes commands use it.
    """

    def __init__(self, kind, environment, work):
        self.kind, self.environment, self.work = kind, environment, work

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, ROOT / "utils" / RUNNER[self.kind], *words],
            cwd=self.work,
            env={**self.environment, "PWD": str(self.work)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, code=0, limit=60):
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=limit)
        finally:
            process.terminate()
        assert process.returncode == code, out + err
        return out + err

    def ask(self, *words):
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def jobs(self):
        """Lines of the queue."""
        if self.kind == "slurm":
            return self.ask("squeue", "-h", "-r").splitlines()
        return [line for line in self.ask("qstat", "-u", "*", "-g", "d").splitlines() if line.split()[0].isdigit()]

    def is_empty(self):
        """No job is left, or will be in a moment: a task writes its status before the scheduler knows that it ended."""
        end = time.time() + 20
        while self.jobs():
            assert time.time() < end, self.jobs()
            time.sleep(0.2)

    def start_requeued(self, process):
        """Start the job that ``process`` waits for, which Slurm would do after two minutes."""
        end = time.time() + 30
        while not any(" PD " in line for line in self.jobs()):
            assert time.time() < end and process.poll() is None, process.communicate()
            time.sleep(0.2)
        time.sleep(3)  # in the same second, the job's credentials count as revoked
        self.ask("scontrol", "update", f"JobId={(self.work / 'q' / 'x.job').read_text().strip()}", "StartTime=now")

    def status(self, name):
        return json.loads((self.work / "q" / f"{name}.status").read_text())

    def wait_for(self, *names, limit=40):
        end = time.time() + limit
        while not all((self.work / name).exists() for name in names):
            assert time.time() < end, f"no {names} after {limit} s; in the queue: {self.jobs()}"
            time.sleep(0.1)


@pytest.fixture(scope="module", params=["slurm", "sge"])
def scheduler(request):
    """(kind, environment) of a scheduler that runs for these tests."""
    kind = request.param
    missing = [name for name in NEEDED[kind] if not shutil.which(name, path=PLACES)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed (as root: tools/cluster.sh {kind} install)")
    if os.geteuid() != 0:
        pytest.skip(f"the daemons of {kind} are started as root")
    folder = Path(tempfile.mkdtemp(prefix=f"senet-{kind}-", dir="/tmp"))  # pytest's folders are closed to other users
    place = folder / "cluster"
    folder.chmod(0o755)

    def cluster(action, limit=120):
        call = [ROOT / "tools" / "cluster.sh", kind, action, place]
        return subprocess.run(call, capture_output=True, text=True, timeout=limit)

    try:
        started = cluster("start")
        if started.returncode:
            pytest.skip(f"{kind} does not start here: {started.stderr.strip()[-300:]}")
        pairs = [word.split("=", 1) for word in shlex.split(started.stdout) if "=" in word]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield kind, {**os.environ, **dict(pairs), "PATH": path, "SENET_CMD_BACKEND": kind}
    finally:
        stopped = cluster("stop")
        shutil.rmtree(folder, ignore_errors=True)
        assert stopped.returncode == 0, stopped.stderr


@pytest.fixture
def cluster(scheduler, tmp_path):
    yield Cluster(*scheduler, tmp_path)


def test_each_task_has_its_index_log_and_status(cluster):
    cluster.run("--num-threads", "2", "JOB=1:3", "log/a.JOB.log", "echo", "task", "JOB", '"two  words"')
    for i in (1, 2, 3):
        log = (cluster.work / "log" / f"a.{i}.log").read_text()
        assert f'\ntask {i} "two  words"\n# Accounting: time=' in log and "with status 0\n" in log, log
        assert cluster.status(f"a.{i}")["code"] == 0
    cluster.is_empty()


def test_failed_and_killed_tasks_are_told_apart_and_picked_again(cluster):
    (cluster.work / "job.sh").write_text(
        "echo $1; [ $1 != 2 ] || exit 3; [ $1 != 4 ] || kill -9 $$\necho ran >> runs.$1\n"
    )
    words = ["JOB=1:5", "x.JOB.log", "bash", "job.sh", "JOB"]
    said = cluster.run(*words, code=1)
    assert f"{RUNNER[cluster.kind]}: 2 / 5 failed, log is in x.*.log" in said
    assert "task 2: code 3, log x.2.log" in said and "task 4: signal 9, log x.4.log" in said
    assert "memory was full: lower --nj" in said
    (cluster.work / "job.sh").write_text("echo again $1; echo ran >> runs.$1\n")
    cluster.run("--pick", "failed", *words)
    runs = {i: len((cluster.work / f"runs.{i}").read_text().splitlines()) for i in range(1, 6)}
    assert runs == dict.fromkeys(range(1, 6), 1)
    assert "again 4" in (cluster.work / "x.4.log").read_text()


def test_a_cancelled_task_and_a_vanished_one_have_failed(cluster):
    words = ["touch", "begun.JOB;", "[", "JOB", "-eq", "2", "]", "&&", "kill", "-9", "$PPID;", "sleep", "300"]
    process = cluster.start("JOB=1:2", "x.JOB.log", *words)  # the second one kills its script
    cluster.wait_for("begun.1", "begun.2")
    job = (cluster.work / "q" / "x.job").read_text().strip()
    cluster.ask(*(["scancel", f"{job}_1"] if cluster.kind == "slurm" else ["qdel", job, "-t", "1"]))
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert re.search(r"task 1: (signal|code) ", said) and re.search(r"task 2: (signal|code) ", said), said
    cluster.is_empty()


@pytest.mark.parametrize("wrong", ["queue", "processors", "nodes"])
def test_an_impossible_request_ends_with_one_message_and_leaves_no_job(cluster, wrong):
    words = {
        "queue": ["-p" if cluster.kind == "slurm" else "-q", "nosuch"],
        "processors": ["--num-threads", "999"],
        "nodes": ["--num-nodes", "2"],
    }[wrong]
    if wrong == "nodes" and cluster.kind == "sge":
        pytest.skip("several nodes are Slurm's")
    said = cluster.run(*words, "x.log", "true", code=1, limit=40)
    reasons = {
        ("slurm", "queue"): "Invalid partition name specified",
        ("slurm", "processors"): r"would wait for ever, and was cancelled: \w+|not available",
        ("slurm", "nodes"): "was cancelled: PartitionNodeLimit: more nodes than the partition has",
        ("sge", "queue"): 'unknown queue "nosuch"',
        ("sge", "processors"): "no suitable queues",
    }
    assert re.search(reasons[cluster.kind, wrong], said), said
    assert (
        "the call was: " in said
        and " ".join(words).replace("--num-threads ", "").replace("--num-nodes", "--nodes") in said
    )
    cluster.is_empty()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cancels_the_job(cluster, number):
    process = cluster.start("JOB=1:2", "x.JOB.log", "touch", "begun.JOB;", "sleep", "300")
    cluster.wait_for("begun.1")
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, said
    assert "was cancelled" in said
    cluster.is_empty()


def test_what_a_killed_runner_left_is_cancelled_by_the_next_call(cluster):
    process = cluster.start("x.log", "touch", "begun;", "sleep", "300")
    cluster.wait_for("begun")
    process.kill()
    process.communicate()
    assert cluster.jobs()
    assert "of an earlier call is still in the queue; cancelling it" in cluster.run("x.log", "echo", "again")
    assert "again" in (cluster.work / "x.log").read_text()
    cluster.is_empty()


def test_max_jobs_run_limits_how_many_run_at_once(cluster):
    (cluster.work / "count.sh").write_text("touch on.$1; sleep 0.3; ls on.* | wc -l; rm on.$1\n")
    cluster.run("--max-jobs-run", "1", "JOB=1:3", "x.JOB.log", "bash", "count.sh", "JOB")
    assert all("\n1\n# Accounting" in (cluster.work / f"x.{i}.log").read_text() for i in (1, 2, 3))


def test_dry_run_asks_the_scheduler_for_nothing(cluster):
    said = cluster.run("--dry-run", "JOB=1:2", "x.JOB.log", "touch", "f.JOB")
    assert "# task 2: touch f.2 > x.2.log" in said
    assert not os.listdir(cluster.work)


def test_a_command_that_saved_its_work_goes_on(cluster):
    words = ["[", "-e", "saved", "]", "&&", "echo", "went", "on", "||", "{", "touch", "saved;", "exit", "75;", "}"]
    process = cluster.start("x.log", *words)
    cluster.wait_for("saved")
    if cluster.kind == "slurm":
        cluster.start_requeued(process)
    assert process.wait(60) == 0, process.communicate()
    assert "went on" in (cluster.work / "x.log").read_text()
    assert cluster.status("x.1")["code"] == 0
    cluster.is_empty()


def test_a_warning_reaches_a_command_of_several_parts_which_saves_and_goes_on(cluster):
    """Slurm's near the end of the time, GridEngine's before it suspends a job."""
    (cluster.work / "train.sh").write_text(
        "[ ! -e saved ] || exec echo went on\n"
        "trap 'touch saved; exit 75' USR1\ntouch begun\nfor i in $(seq 600); do sleep 0.1; done\n"
    )
    notify = ["-notify"] if cluster.kind == "sge" else []
    process = cluster.start(*notify, "x.log", "cd", ".", "&&", "bash", "train.sh;", "echo", "followed")
    cluster.wait_for("begun")
    job = (cluster.work / "q" / "x.job").read_text().strip()
    if cluster.kind == "slurm":
        cluster.ask("scancel", "--batch", "--signal=USR1", job)
        cluster.wait_for("saved")
        cluster.start_requeued(process)
    else:
        cluster.ask("qmod", "-sj", job)
        cluster.wait_for("saved")
        cluster.ask("qmod", "-usj", job)
    assert process.wait(60) == 0, process.communicate()
    log = (cluster.work / "x.log").read_text()
    assert log.count("\nfollowed\n") == 1 and "\nwent on\nfollowed\n" in log, log
    cluster.is_empty()


def test_gridengine_lets_a_job_save_that_is_cancelled(cluster):
    if cluster.kind != "sge":
        pytest.skip("Slurm sends SIGTERM, without being asked to")
    (cluster.work / "train.sh").write_text("trap 'touch saved; exit 75' USR2\ntouch begun\nsleep 60 & wait\n")
    process = cluster.start("-notify", "x.log", "bash", "train.sh")
    cluster.wait_for("begun")
    process.terminate()
    assert process.wait(60) == 143, process.communicate()
    assert (cluster.work / "saved").exists()
    cluster.is_empty()


def test_a_preempted_task_is_waited_for(cluster):
    if cluster.kind != "slurm":
        pytest.skip("asked of Slurm, which preempts by itself")
    process = cluster.start("x.log", "echo", "restart", "${SLURM_RESTART_COUNT:-0};", "touch", "begun;", "sleep", "3")
    cluster.wait_for("begun")
    cluster.ask("scontrol", "requeue", (cluster.work / "q" / "x.job").read_text().strip())
    cluster.start_requeued(process)
    assert process.wait(60) == 0, process.communicate()
    log = (cluster.work / "x.log").read_text()
    assert "restart 0\n" in log and "restart 1\n" in log
    cluster.is_empty()


def test_several_nodes_get_a_process_each_and_a_warning_reaches_all(cluster):
    if cluster.kind != "slurm":
        assert "option --num-nodes 2: " in cluster.run("--num-nodes", "2", "x.log", "true", code=1)
        return
    (cluster.work / "rank.sh").write_text(
        "trap 'echo warned $SLURM_PROCID; touch warned.$SLURM_PROCID\n"
        "until [ -e warned.0 ] && [ -e warned.1 ]; do sleep 0.1; done; exit 3' USR1\n"
        "trap : TERM\n"  # from srun, when the first has ended
        "echo rank $SLURM_PROCID of $SLURM_NTASKS at $MASTER_ADDR\ntouch begun.$SLURM_PROCID\n"
        "for i in $(seq 300); do sleep 0.1; done\n"
    )
    process = cluster.start("-p", "pair", "--num-nodes", "2", "x.log", "bash", "rank.sh")
    cluster.wait_for("begun.0", "begun.1")
    cluster.ask("scancel", "--batch", "--signal=USR1", (cluster.work / "q" / "x.job").read_text().strip())
    said = process.communicate(timeout=60)[1]
    log = (cluster.work / "x.log").read_text()
    assert "task 1: code 3" in said
    assert all(f"rank {i} of 2 at 127.0.0.1" in log and f"warned {i}" in log for i in (0, 1)), log


def test_a_training_on_two_nodes_is_requeued_and_goes_on(cluster):
    """One process on each, found by what srun says; a warning to them saves, and they are started again."""
    if cluster.kind != "slurm":
        pytest.skip("several nodes are Slurm's")
    words = [sys.executable, ROOT / "test" / "train" / "ranks.py", "plain", cluster.work, "0", "20", "signal"]
    cluster.environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    process = cluster.start("-p", "pair", "--num-nodes", "2", "x.log", *map(str, words))
    end = time.time() + 120
    while not (cluster.work / "x.log").exists() or "saved at step 7" not in (cluster.work / "x.log").read_text():
        assert time.time() < end and process.poll() is None, process.communicate()
        time.sleep(0.5)
    cluster.start_requeued(process)
    assert process.wait(120) == 0, process.communicate()
    assert "max_steps 20 is reached" in (cluster.work / "x.log").read_text()
    assert (cluster.work / "rank0.pt").exists() and (cluster.work / "rank1.pt").exists()
    cluster.is_empty()


def run_recipe(environment, corpus, out):
    """egs/mini in a tiny size on ``corpus``; returns {what it made: content}, and the seconds it took."""
    words = ["--speech_dir", corpus / "speech", "--noise_dir", corpus / "noise", "--nj", "2", "--num_threads", "1"]
    words += ["--num_clips", "train=12 valid=2 test=4", "--mix_args", "--seconds 1", "--train_args", TINY_NET]
    words += ["--metrics", "stoi si_sdr", "--datadir", out / "data", "--dumpdir", out / "dump", "--expdir", out / "exp"]
    begin = time.time()
    done = subprocess.run(
        ["./run.sh", *map(str, words)],
        cwd=ROOT / "egs" / "mini",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    made = ("dump/raw/*/ark/*.ark", "exp/*/enhanced_test/wav/*", "exp/*/enhanced_test/scores/*")
    found = {path.relative_to(out): path.read_bytes() for pattern in made for path in sorted(out.glob(pattern))}
    return found, time.time() - begin


@pytest.fixture(scope="module")
def local_recipe(tmp_path_factory):
    """Folder of the corpus, what the recipe makes of it on this machine, and the seconds it took."""
    if not (ROOT / "tools" / "env.sh").exists():
        pytest.skip("not installed by tools/install.sh, which the recipe would start")
    folder = tmp_path_factory.mktemp("local")
    sys.path.insert(0, str(ROOT / "test" / "egs"))
    from kill_resume import make_corpus

    make_corpus(folder / "corpus")
    environment = {**os.environ, "SENET_CMD_BACKEND": "local"}
    return folder / "corpus", *run_recipe(environment, folder / "corpus", folder / "run")


def test_a_whole_recipe_makes_the_same_bytes_as_on_this_machine_without_a_scheduler(cluster, local_recipe):
    corpus, expected, alone = local_recipe
    made, took = run_recipe(cluster.environment, corpus, cluster.work / "run")
    print(f"egs/mini in a tiny size: local {alone:.0f} s, {cluster.kind} {took:.0f} s")
    assert made == expected and len(made) > 8
    logs = [path.read_text(errors="replace") for path in (cluster.work / "run").rglob("logdir/*.log")]
    assert len(logs) > 6 and all(text.startswith("# Running on ") for text in logs)
    cluster.is_empty()
