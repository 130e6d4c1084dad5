"""Checkpoints: a damaged one is noticed and the one before it used; one that was being written does not count."""

import errno
import json
import logging
import os
import random
import signal
import time

import pytest
import torch

from senet import checkpoint, files
from senet.errors import UserError


def state_of(step):
    return {
        "model": {"w": torch.full((50, 50), float(step))},
        "trainer": {"step": step, "best": float("inf"), "x": None},
    }


def save(folder, step, score=None, **options):
    return checkpoint.save(folder, state_of(step), step=step, epoch=step // 10, score=score, **options)


def saved_steps(folder):
    return [e["step"] for e in checkpoint.entries(folder)]


def test_what_is_saved_comes_back(tmp_path):
    state = {
        "tensors": [torch.randn(3), torch.arange(4), torch.randn(2, dtype=torch.complex64), torch.zeros(0)],
        "plain": {"a": 1, "b": 1e-300, "c": "text", "d": None, "e": True, "f": (1, [2, {"g": b"bytes"}])},
    }
    checkpoint.save(tmp_path, state, step=400, epoch=2, score=1.5)
    back = checkpoint.load(tmp_path)
    assert back["plain"] == state["plain"]
    assert all(torch.equal(a, b) for a, b in zip(back["tensors"], state["tensors"], strict=True))
    (entry,) = checkpoint.entries(tmp_path)
    assert entry == {"file": "step_00000400.pt", "sha256": files.sha256(tmp_path / "step_00000400.pt"), "step": 400,
                     "epoch": 2, "score": 1.5, "regular": True}  # fmt: skip


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, torch.float32])
def test_anything_but_tensors_and_plain_values_is_refused_before_it_is_written(tmp_path, value):
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\] is a "):
        checkpoint.save(tmp_path, {"a": [0, value]}, step=1, epoch=0)
    assert not list(tmp_path.iterdir())


def test_the_last_two_and_the_best_are_kept(tmp_path):
    for step, score in [(1, 5.0), (2, 3.0), (3, None), (4, 4.0), (5, 3.0), (6, None), (7, None)]:
        save(tmp_path, step, score, keep_best=2)
    assert saved_steps(tmp_path) == [2, 5, 6, 7]
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [f"step_{s:08d}.pt" for s in (2, 5, 6, 7)]
    assert checkpoint.load(tmp_path, "best")["trainer"]["step"] == 2  # the earlier of two equal ones
    assert checkpoint.load(tmp_path, "last")["trainer"]["step"] == 7
    assert checkpoint.load(tmp_path, "step_00000005.pt")["trainer"]["step"] == 5


def test_the_best_is_the_last_where_nothing_was_validated(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert checkpoint.load(tmp_path, "best")["trainer"]["step"] == 2


def test_saving_a_step_again_replaces_it_and_all_later_ones(tmp_path):
    for step in (1, 2, 3, 2, 2):
        path = save(tmp_path, step, score=step)
        assert saved_steps(tmp_path)[-1] == step and path.exists()
    assert saved_steps(tmp_path) == [1, 2] and len(list(tmp_path.glob("*.pt"))) == 2
    assert checkpoint.load(tmp_path)["trainer"]["step"] == 2


def test_a_flipped_byte_in_any_place_is_noticed_and_the_previous_used(tmp_path, caplog):
    save(tmp_path, 1, score=2.0)
    path = save(tmp_path, 2, score=1.0)
    whole = path.read_bytes()
    for place in [0, len(whole) - 1, *random.Random(0).sample(range(len(whole)), 18)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        for which in ("last", "best"):
            caplog.clear()
            assert checkpoint.load(tmp_path, which)["trainer"]["step"] == 1
            (record,) = caplog.records
            assert record.levelno == logging.ERROR and f"{path}: damaged: its SHA-256" in record.getMessage()
        with pytest.raises(UserError, match="none of step_00000002.pt is usable"):
            checkpoint.load(tmp_path, path.name)  # asked for by name, nothing else will do
    path.write_bytes(whole)
    assert checkpoint.load(tmp_path)["trainer"]["step"] == 2


def test_a_cut_or_missing_file_is_noticed_too(tmp_path, caplog):
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    second.write_bytes(second.read_bytes()[:-1])
    assert checkpoint.load(tmp_path)["trainer"]["step"] == 1
    second.unlink()
    assert checkpoint.load(tmp_path)["trainer"]["step"] == 1
    assert "cannot read: No such file" in caplog.text
    first.unlink()
    message = (
        r"none of step_00000002.pt, step_00000001.pt is usable; .* Restore one from a copy, or remove .* to train anew"
    )
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"checkpoints": [{}]}', '{"checkpoints": [{"file": "x"}]}'])
def test_a_damaged_index_is_named(tmp_path, text):
    save(tmp_path, 1)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError, match=r"index.json: damaged"):
        checkpoint.load(tmp_path)


def test_a_flipped_byte_anywhere_in_the_index_is_noticed_and_the_one_before_used(tmp_path, caplog):
    for step in (1, 2, 3):
        save(tmp_path, step, score=4.0 - step)
    path = tmp_path / "index.json"
    whole, listed = path.read_bytes(), checkpoint.entries(tmp_path)
    blank = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        caplog.clear()
        if checkpoint.entries(tmp_path) == listed:  # the byte stood for nothing
            blank += 1
            continue
        assert "index.json: damaged; NOT USED" in caplog.text
        assert saved_steps(tmp_path) == [1, 2]
    assert blank < 20
    assert checkpoint.load(tmp_path)["trainer"]["step"] == 2
    save(tmp_path, 3)
    assert saved_steps(tmp_path)[-1] == 3 and "damaged" in caplog.text


class TestMissingIndex:
    @pytest.fixture
    def folder(self, tmp_path):
        for step in (1, 2, 3):
            save(tmp_path, step, score=4.0 - step)
        (tmp_path / "index.json").unlink()
        return tmp_path

    def test_the_one_before_is_used_and_nothing_is_removed(self, folder, caplog):
        files_before = set(folder.glob("step_*.pt"))
        assert saved_steps(folder) == [1, 2] and checkpoint.load(folder)["trainer"]["step"] == 2
        (record,) = caplog.records  # once, however often it is asked
        assert "index.json: missing; NOT USED, going by index_before.json" in record.getMessage()
        save(folder, 4, score=0.5)
        assert saved_steps(folder) == [2, 4]
        assert set(folder.glob("step_*.pt")) == files_before - {folder / "step_00000001.pt"} | {
            folder / "step_00000004.pt"
        }

    def test_checkpoints_without_any_index_are_refused_and_stay(self, folder):
        (folder / "index_before.json").unlink()
        content = {path: path.read_bytes() for path in folder.iterdir()}
        for use in (checkpoint.entries, checkpoint.load, lambda folder: save(folder, 4)):
            with pytest.raises(UserError, match=r"index.json: missing, .* Restore it, or remove .* to start anew"):
                use(folder)
        assert {path: path.read_bytes() for path in folder.iterdir()} == content


def test_a_kill_at_the_first_save_of_all_leaves_a_folder_that_is_empty_or_whole(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def write(path, value, inner=checkpoint.write_json):
        if value["checkpoints"]:
            raise Killed
        inner(path, value)

    monkeypatch.setattr(checkpoint, "write_json", write)
    with pytest.raises(Killed):
        save(tmp_path, 1)
    monkeypatch.undo()
    assert (tmp_path / "step_00000001.pt").exists() and checkpoint.entries(tmp_path) == []
    save(tmp_path, 1)
    assert saved_steps(tmp_path) == [1]


def test_what_a_save_that_was_killed_did_not_remove_the_next_one_does(tmp_path, monkeypatch):
    save(tmp_path, 1), save(tmp_path, 2)
    monkeypatch.setattr(checkpoint, "_remove", lambda *_: None)
    save(tmp_path, 3)
    monkeypatch.undo()
    assert (tmp_path / "step_00000001.pt").exists()
    save(tmp_path, 4)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step_00000003.pt", "step_00000004.pt"]


def test_a_pickled_object_is_not_run(tmp_path):
    path = save(tmp_path, 1)

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"a": Harmful()}, path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["checkpoints"][0]["sha256"] = files.sha256(path)
    del index["sha256"]
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="holds more than tensors and plain values"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_and_an_unknown_name_say_what_to_do(tmp_path):
    assert checkpoint.entries(tmp_path / "absent") == []
    with pytest.raises(UserError, match="no checkpoint there; train first"):
        checkpoint.load(tmp_path / "absent")
    save(tmp_path, 1)
    with pytest.raises(UserError, match=r"no checkpoint 'step_9.pt'; there are step_00000001.pt"):
        checkpoint.load(tmp_path, "step_9.pt")


@pytest.mark.parametrize("failing", ["step_00000002.pt", "index.json"])
def test_a_full_disk_leaves_the_previous_one_and_names_the_file(tmp_path, monkeypatch, failing):
    save(tmp_path, 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    fsync = os.fsync

    def full(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f".{failing}.tmp"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=rf"{failing}: cannot write: No space left on device"):
        save(tmp_path, 2)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name in before} == before
    assert checkpoint.load(tmp_path)["trainer"]["step"] == 1
    monkeypatch.undo()
    save(tmp_path, 2)
    assert saved_steps(tmp_path) == [1, 2] and len(list(tmp_path.iterdir())) == 4  # no remains


def test_a_kill_at_any_moment_of_saving_leaves_a_readable_last(tmp_path):
    rng, reached = random.Random(1), 0
    for _ in range(20):
        before = checkpoint.entries(tmp_path)
        pid = os.fork()
        if pid == 0:  # save until killed
            try:
                for step in range(reached + 1, reached + 10_000):
                    save(tmp_path, step, score=float(step % 7))
            finally:
                os._exit(1)
        deadline = time.monotonic() + 60
        while checkpoint.entries(tmp_path) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.04))
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        state = checkpoint.load(tmp_path)
        step = state["trainer"]["step"]
        assert step == checkpoint.entries(tmp_path)[-1]["step"] > reached  # the newest: none was refused
        assert torch.equal(state["model"]["w"], state_of(step)["model"]["w"])
        checkpoint.load(tmp_path, "best")
        reached = step
    save(tmp_path, reached + 1)
    indices = {"index.json", "index_before.json"}
    assert {p.name for p in tmp_path.iterdir()} == indices | {e["file"] for e in checkpoint.entries(tmp_path)}


class TestSeries:
    """Regular checkpoints, one every so many steps, and what others come between them."""

    @pytest.fixture
    def folder(self, tmp_path):
        for step in (2, 3, 4, 6, 7, 8, 9):  # 3, 7 and 9 come from the ends of epochs and from interruptions
            save(tmp_path, step, score=abs(step - 5.6), regular=step % 2 == 0, keep_best=2, keep_last=3)
        return tmp_path

    def test_the_last_of_it_are_kept_beside_the_newest_two_and_the_best(self, folder):
        assert saved_steps(folder) == [4, 6, 7, 8, 9]
        assert [e["step"] for e in checkpoint.series(checkpoint.entries(folder))] == [8, 6, 4]

    def test_an_index_from_before_there_were_such_is_all_regular(self, folder):
        index = json.loads((folder / "index.json").read_text())
        for entry in index["checkpoints"]:
            del entry["regular"]
        del index["sha256"]
        (folder / "index.json").write_text(json.dumps(index))
        assert [e["step"] for e in checkpoint.series(checkpoint.entries(folder))] == [9, 8, 7, 6, 4]

    @pytest.mark.parametrize(
        ("which", "count", "steps"), [("last", 3, (8, 6, 4)), ("best", 2, (6, 7)), ("last", 1, (8,))]
    )
    def test_means_are_of_the_tensors_of_those_asked_for(self, folder, which, count, steps):
        mean = checkpoint.load_mean(folder, which, count)
        torch.testing.assert_close(mean, {"w": torch.full((50, 50), sum(steps) / count)})

    def test_a_damaged_one_is_reported_and_the_next_one_taken(self, folder, caplog):
        (folder / "step_00000008.pt").write_bytes(b"")
        assert checkpoint.load_mean(folder, "last", 2)["w"][0, 0] == 5
        assert "step_00000008.pt: damaged" in caplog.text

    def test_too_few_are_refused_with_what_there_is(self, folder):
        message = r"mean of 4 .* only 3 of the regular series can be used; there are step_00000004.pt, .*keep_last: 4"
        with pytest.raises(UserError, match=message):
            checkpoint.load_mean(folder, "last", 4)
        with pytest.raises(UserError, match=r"only 5 with a validation score .*keep_best: 6"):
            checkpoint.load_mean(folder, "best", 6)
        with pytest.raises(UserError, match="no checkpoint there; train first"):
            checkpoint.load_mean(folder / "absent", "best", 1)


def test_means_are_complex_where_the_tensors_are_and_counters_are_the_newests(tmp_path):
    for step in (1, 2):
        model = {
            "c": torch.tensor([step * 1j]),
            "half": torch.tensor([step], dtype=torch.bfloat16),
            "n": torch.tensor(step),
        }
        checkpoint.save(tmp_path, {"model": model}, step=step, epoch=0, score=step)
    mean = checkpoint.load_mean(tmp_path, "best", 2)  # the best is the older
    assert mean["c"] == 1.5j and mean["n"] == 2 and mean["n"].dtype == torch.int64
    assert mean["half"] == 1.5 and mean["half"].dtype == torch.bfloat16


def test_a_mean_over_two_models_is_refused(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, {"model": {"w": torch.zeros(step)}}, step=step, epoch=0)
    with pytest.raises(UserError, match=r"'w' is \(1,\) in the checkpoint and \(2,\) in the model"):
        checkpoint.load_mean(tmp_path, "last", 2)
