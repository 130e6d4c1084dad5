"""senet status: one line for each experiment."""

import json
import os
import re
import time

import pytest

from senet.bin import status
from senet.errors import UserError
from senet.files import write_json


def experiment(folder, **values):
    started = {
        "state": "stopped",
        "host": "node7",
        "pid": 4711,
        "job": "12",
        "started": 1.0,
        "step": 1250,
        "steps": 9000,
    }
    speed = {"epoch": 3, "max_epoch": 20, "steps_per_second": 12.345, "audio_per_second": 98.76, "seconds_left": 3723.0}
    losses = {"train_loss": 0.0123456, "valid_loss": 0.013, "valid_epoch": 2, "best_loss": 0.0125, "best_epoch": 1}
    write_json(folder / "status.json", started | speed | losses | values)


def test_a_line_has_what_one_looks_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment(tmp_path / "exp" / "a", state="running", host="node7")
    (tmp_path / "exp" / "a" / ".lock").write_text(json.dumps({"host": "node7", "pid": 4711, "since": ""}))
    experiment(tmp_path / "exp" / "b", state="failed", error="a.wav: is cut off", seconds_left=None)
    (tmp_path / "exp" / "noisy").mkdir()
    assert not status.main([])
    head, a, b, error = capsys.readouterr().out.splitlines()
    cells = dict(zip(re.split(r"  +", head), re.split(r"  +", a), strict=True))
    assert re.fullmatch(r"\d s ago", cells.pop("heard"))
    assert cells == {
        "experiment": "exp/a", "state": "running", "epoch": "3/20", "step": "1250/9000", "loss": "0.01235",
        "valid": "0.013", "best (epoch)": "0.0125 (1)", "steps/s": "12.3", "audio": "98.8 s/s", "left": "1:02:03",
        "where": "node7 4711 job 12",
    }  # fmt: skip
    assert re.split(r"  +", b)[1] == "failed" and error.strip() == "a.wav: is cut off"


def test_from_the_root_all_recipes_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"exp/ and egs/\*/exp/: no experiments there; stage train makes them"):
        status.main([])
    for recipe in ("two", "one"):
        experiment(tmp_path / "egs" / recipe / "exp" / "x")
    status.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert [about["experiment"] for about in found] == ["egs/one/exp/x", "egs/two/exp/x"]
    assert found[0]["train_loss"] == 0.0123456


def test_what_is_not_known_yet_is_a_dash(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".lock").write_text('{"host": "elsewhere", "pid": 5, "since": ""}')
    status.main([str(tmp_path / "x")])
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == ["starting", *"---------", "elsewhere", "5"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder; give experiment folders"):
        status.main([str(tmp_path / "nothing")])


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7 s ago"), (130, "2 min ago"), (7300, "2 h ago"), (9e5, "10 d ago")]
)
def test_ages_have_one_unit(seconds, text):
    assert status.ago(seconds) == text


def test_watching_shows_it_again(tmp_path, monkeypatch, capsys):
    experiment(tmp_path / "x")

    def sleep(seconds):
        if capsys.readouterr().out.count("stopped") != 1 or len(slept) == 2:
            raise KeyboardInterrupt
        slept.append(seconds)

    slept = []
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        status.main([str(tmp_path / "x"), "--watch", "2.5"])
    assert slept == [2.5, 2.5]
    with pytest.raises(UserError, match="--watch 0: expected more than 0 seconds"):
        status.main([str(tmp_path / "x"), "--watch", "0"])


def test_long_logs_are_read_at_their_end_only(tmp_path, capsys):
    """A log of a size that no disk here holds: its hole is read as zeros, if at all."""
    experiment(tmp_path / "x")
    (tmp_path / "x" / "logdir").mkdir()
    with open(tmp_path / "x" / "logdir" / "train.log", "w") as f:
        os.truncate(f.fileno(), 1 << 40)
        f.seek(1 << 40)
        f.write("\nerror: the end\n")
    status.main([str(tmp_path / "x")])
    assert capsys.readouterr().out.splitlines()[-1].strip() == "the end"


def test_a_file_among_the_folders_is_passed_over(tmp_path, capsys):
    experiment(tmp_path / "x")
    (tmp_path / "report.html").write_text("")
    status.main([str(path) for path in sorted(tmp_path.iterdir())])
    assert len(capsys.readouterr().out.splitlines()) == 2
