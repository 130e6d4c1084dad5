"""What a folder says of its training: alive, silent, dead, ended, and how far."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from test_trainer import _signal_after, trainer
from toys import ToyBatches, supervised

from senet import checkpoint
from senet.files import write_json
from senet.train import status

ELSEWHERE = {"host": "another-machine", "pid": 1, "since": "2026-01-01T00:00:00+0000"}


def said(expdir):
    return json.loads((expdir / "status.json").read_text())


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder's lock until it is ended: its pid."""
    code = (
        "import fcntl, json, os, platform, sys, time\n"
        f"f = open({str(tmp_path / '.lock')!r}, 'a+'); fcntl.lockf(f, fcntl.LOCK_EX)\n"
        "f.write(json.dumps({'host': platform.node(), 'pid': os.getpid(), 'since': ''})); f.flush()\n"
        "print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def note(folder, age=0.0, **values):
    """A status.json that is ``age`` seconds old."""
    values = {"state": "running", "host": os.uname().nodename, "pid": 1, "started": time.time() - 1000, **values}
    write_json(folder / "status.json", values)
    os.utime(folder / "status.json", (time.time() - age,) * 2)


class TestWriting:
    def test_a_training_that_ends_says_so_with_its_losses(self, tmp_path):
        trainer(tmp_path).fit()
        found = status.read(tmp_path)
        assert found["state"] == "finished" and found["seconds_left"] == 0 and found["error"] is None
        assert (found["step"], found["steps"], found["epoch"], found["max_epoch"]) == (15, 15, 3, 3)
        lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
        best = min((line for line in lines if line["event"] == "valid"), key=lambda line: line["loss"])
        assert (found["best_loss"], found["best_epoch"]) == (best["loss"], best["epoch"])
        assert (found["valid_epoch"], found["train_loss"]) == (3, lines[-2]["loss"])

    def test_one_that_a_signal_stopped_and_went_on_knows_its_best_epoch(self, tmp_path):
        objective = supervised()
        _signal_after(objective, "step", 7)
        with pytest.raises(SystemExit):
            trainer(tmp_path, objective, max_epoch=2).fit()
        found = status.read(tmp_path)
        assert (found["state"], found["step"], found["steps"], found["valid_epoch"]) == ("stopped", 7, 10, 1)
        assert found["seconds_left"] is None
        objective = supervised()
        _signal_after(objective, "step", 1, signal.SIGINT)
        with pytest.raises(SystemExit):
            trainer(tmp_path, objective, max_epoch=4).fit()
        found = status.read(tmp_path)
        assert (found["step"], found["steps"], found["best_epoch"]) == (8, 20, 1)

    def test_one_that_failed_says_why(self, tmp_path):
        train = ToyBatches([4] * 5)
        train.bad[0, 3] = float("nan")
        with pytest.raises(Exception, match="step 4"):
            trainer(tmp_path, train=train).fit()
        found = status.read(tmp_path)
        assert found["state"] == "failed" and found["step"] == 3 and "step 4, epoch 1" in found["error"]

    def test_nothing_left_to_do_is_finished_whatever_was_said_before(self, tmp_path):
        trainer(tmp_path).fit()
        write_json(tmp_path / "status.json", said(tmp_path) | {"state": "running"})
        assert status.read(tmp_path)["state"] == "dead"
        trainer(tmp_path).fit()
        assert status.read(tmp_path)["state"] == "finished"

    def test_it_is_written_once_a_minute_and_after_validation(self, tmp_path, monkeypatch):
        written = []
        write = status.write_json
        monkeypatch.setattr(
            status, "write_json", lambda path, values: (written.append(dict(values)), write(path, values))
        )
        trainer(tmp_path, max_epoch=2).fit()
        assert [(v["state"], v["step"]) for v in written] == [("running", 0), ("running", 6), ("finished", 10)]
        monkeypatch.setattr(status, "EVERY", 0.0)
        trainer(tmp_path, max_epoch=3).fit()
        steps = [v["step"] for v in written[3:]]
        assert set(steps) == set(range(10, 16)) and steps.count(15) == 4  # two batches of validation are signs of life

    def test_a_disk_that_does_not_take_it_is_no_reason_to_stop(self, tmp_path, monkeypatch, caplog):
        def full(path, values):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(status, "write_json", full)
        with caplog.at_level(logging.WARNING):
            trainer(tmp_path, max_epoch=1).fit()
        assert "not told to senet status: [Errno 28]" in caplog.text
        assert checkpoint.entries(tmp_path / "checkpoints")[-1]["step"] == 5


class TestReading:
    def test_the_lock_tells_the_living_from_the_dead(self, tmp_path, holder):
        assert status.read(tmp_path)["state"] == "starting"
        note(tmp_path, pid=holder.pid)
        assert status.read(tmp_path)["state"] == "running"
        note(tmp_path, pid=holder.pid, age=700)
        assert status.read(tmp_path)["state"] == "silent" and 699 < status.read(tmp_path)["heard"] < 760
        assert status.read(tmp_path, silent_after=800)["state"] == "running"
        note(tmp_path, pid=holder.pid + 1, state="stopped")  # what another process said before
        assert status.read(tmp_path)["state"] == "starting" and status.read(tmp_path)["pid"] == holder.pid
        note(tmp_path, pid=holder.pid)
        holder.kill()
        holder.wait()
        assert status.read(tmp_path)["state"] == "dead"
        assert status.read(tmp_path)["seconds_left"] is None

    @pytest.mark.parametrize("before", ["stopped", "failed", "finished"])
    def test_one_that_was_killed_as_it_started_is_dead_whatever_was_said_before(self, tmp_path, holder, before):
        note(tmp_path, state=before, pid=holder.pid + 1, error="of then")
        holder.kill()
        holder.wait()
        found = status.read(tmp_path)
        assert (found["state"], found["pid"], found["error"]) == ("dead", holder.pid, None)
        note(tmp_path, state=before, pid=holder.pid)  # it said so itself, before it was killed
        assert status.read(tmp_path)["state"] == before

    def test_looking_does_not_take_the_lock(self, tmp_path):
        (tmp_path / ".lock").write_text(json.dumps({**ELSEWHERE, "host": os.uname().nodename}))
        code = (
            "import fcntl, sys; f = open(sys.argv[1], 'a+')\n"
            "while sys.stdin.readline(): fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); fcntl.lockf(f, fcntl.LOCK_UN); "
            "print('taken', flush=True)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / ".lock")], stdin=-1, stdout=-1, text=True
        ) as other:
            for _ in range(50):
                other.stdin.write("\n")
                other.stdin.flush()
                status.read(tmp_path)
                assert other.stdout.readline() == "taken\n"

    def test_of_another_machine_the_age_of_the_lock_counts(self, tmp_path):
        (tmp_path / ".lock").write_text(json.dumps(ELSEWHERE))
        note(tmp_path, **{k: ELSEWHERE[k] for k in ("host", "pid")})
        assert status.read(tmp_path)["state"] == "running"
        os.utime(tmp_path / ".lock", (time.time() - 100,) * 2)
        assert status.read(tmp_path)["state"] == "dead"

    def test_it_waits_while_run_sh_has_begun_it_and_lives(self, tmp_path):
        start = open("/proc/self/stat").read().rpartition(")")[2].split()[19]  # noqa: SIM115
        record = {"state": "begun", "owner": f"{os.getpid()} {os.uname().nodename} {start}"}
        write_json(tmp_path / ".stages" / "train.json", record)
        assert status.read(tmp_path)["state"] == "waiting"
        note(tmp_path, state="stopped", step=7)  # and is put back into the queue
        assert status.read(tmp_path)["state"] == "waiting" and status.read(tmp_path)["step"] == 7
        write_json(tmp_path / ".stages" / "train.json", record | {"owner": f"{os.getpid()} {os.uname().nodename} 1"})
        assert status.read(tmp_path)["state"] == "stopped"

    @pytest.mark.parametrize(("step", "state"), [(0, "finished"), (5, "stopped")])
    def test_without_status_the_checkpoints_tell_the_step(self, tmp_path, step, state):
        checkpoint.save(tmp_path / "checkpoints", {"model": {}}, step=step, epoch=1)
        found = status.read(tmp_path)
        assert (found["state"], found["step"], found["epoch"], found["heard"]) == (state, step, 1, None)

    @pytest.mark.parametrize(
        ("lines", "error"),
        [
            (["# Started", "epoch 1/3 5/20", "# Ended (code 0) at x"], None),
            (["error: a.wav: is cut off", "# Ended (code 1) at x"], "a.wav: is cut off"),
            (["2026-01-01T00:00:00 (checkpoint.py:1) ERROR: a.pt: damaged", "2026 INFO: epoch 1"], "a.pt: damaged"),
            (["Traceback", "  File 'x'", "torch.OutOfMemoryError: CUDA out of memory"],
             "torch.OutOfMemoryError: CUDA out of memory"),
            (["epoch 1", "slurmstepd: error: *** JOB 4 CANCELLED ***"], "slurmstepd: error: *** JOB 4 CANCELLED ***"),
            (["saved at step 7", "# Ended (code 75) at x"], None),
            (["epoch 1", "# Ended (code 137) at x"], "# Ended (code 137) at x"),
            (["bash: line 1: 93 Killed  python", "# Ended (code 137) at x"], "bash: line 1: 93 Killed  python"),
        ],
    )  # fmt: skip
    def test_the_last_error_is_that_of_the_jobs_log(self, tmp_path, lines, error):
        note(tmp_path, state="stopped")
        (tmp_path / "logdir").mkdir()
        (tmp_path / "logdir" / "train.log").write_text("x\n" * 100_000 + "\n".join(lines) + "\n")
        assert status.read(tmp_path)["error"] == error
        os.utime(tmp_path / "logdir" / "train.log", (1.0, 1.0))  # of an earlier training
        assert status.read(tmp_path)["error"] is None

    def test_one_that_failed_before_it_began_has_failed(self, tmp_path):
        (tmp_path / "logdir").mkdir()
        (tmp_path / "logdir" / "train.log").write_text("# Started\nerror: loss: not given\n# Ended (code 1) at x\n")
        found = status.read(tmp_path)
        assert (found["state"], found["error"]) == ("failed", "loss: not given")

    def test_damaged_files_are_shown_not_raised(self, tmp_path):
        (tmp_path / "status.json").write_text('{"state": "runn')
        (tmp_path / ".lock").write_text("")
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "index.json").write_text("[")
        assert "damaged" in status.read(tmp_path)["error"]

    def test_what_a_scheduler_refuses_has_failed_with_its_reason(self, tmp_path):
        (tmp_path / "logdir").mkdir()
        (tmp_path / "logdir" / "train.log").write_text(
            "# Refused: sbatch: error: invalid partition\n#   the call was: x\n"
        )
        write_json(tmp_path / ".stages" / "train.json", {"state": "begun", "owner": None, "failed": True})
        found = status.read(tmp_path)
        assert (found["state"], found["error"]) == ("failed", "sbatch: error: invalid partition")
        note(tmp_path, state="stopped", started=None)  # and went on since, without run.sh
        os.utime(tmp_path / ".stages" / "train.json", (time.time() - 10,) * 2)
        assert status.read(tmp_path)["state"] == "stopped"

    def test_a_job_that_has_begun_starts_and_does_not_wait(self, tmp_path):
        start = open("/proc/self/stat").read().rpartition(")")[2].split()[19]  # noqa: SIM115
        record = {"state": "begun", "owner": f"{os.getpid()} {os.uname().nodename} {start}"}
        write_json(tmp_path / ".stages" / "train.json", record)
        (tmp_path / "logdir").mkdir()
        log = tmp_path / "logdir" / "train.log"
        log.write_text("# Running on node1\n# python -m senet.bin.train\n")
        assert status.read(tmp_path)["state"] == "starting"
        log.write_text("# Running on node1\n# Finished at now with status 75\n")  # and is in the queue again
        assert status.read(tmp_path)["state"] == "waiting"
        note(tmp_path, state="finished")
        assert status.read(tmp_path)["state"] == "waiting"  # for more epochs
        log.write_text("# Running on node1\n# Finished at now with status 0\n")
        assert status.read(tmp_path)["state"] == "finished"

    def test_a_refusal_of_many_lines_is_told_with_what_differs(self, tmp_path):
        (tmp_path / "logdir").mkdir()
        (tmp_path / "logdir" / "train.log").write_text(
            "error: x: other settings:\n  lr: 1 there, 2 now\nGive it\n# Ended (code 1)\n"
        )
        assert status.read(tmp_path)["error"] == "x: other settings: lr: 1 there, 2 now"
