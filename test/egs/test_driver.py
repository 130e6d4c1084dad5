"""utils/se.sh: which stages run, are skipped, are done again, and what is said about it.

A recipe in a temporary repository calls the real driver; the commands behind it are stand-ins
(fake_python.py), so that what is tested is the control of the stages alone.
"""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN_SH = """#!/usr/bin/env bash
# A recipe for tests.
set -euo pipefail
. ./path.sh
exec se.sh --train_config conf/train_x.yaml --test_sets "test" --corpus corpus "$@"
"""
DATA_SH = """set -eu
echo data >> "$FAKE_CALLS"
mkdir -p data/speech data/noise
ls corpus > data/speech/wav.scp
echo n > data/noise/wav.scp
"""


class Recipe:
    def __init__(self, root):
        self.path = root / "egs" / "fake"
        self.calls_file = root / "calls.log"
        for folder in ("conf", "local", "corpus"):
            (self.path / folder).mkdir(parents=True)
        shutil.copytree(ROOT / "utils", root / "utils")
        (root / "senet").mkdir()
        for name in ("__init__.py", "checkpoint.py", "errors.py", "files.py", "infer/card.py", "infer/pack.py"):
            (root / "senet" / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / "senet" / name, root / "senet" / name)
        for name in ("path.sh", "cmd.sh"):
            shutil.copy(ROOT / "egs" / "mini" / name, self.path)
        (root / "tools").mkdir()
        (root / "tools" / "env.sh").write_text(f"export SENET_PYTHON_DIR={root}/bin\n")
        (root / "bin").mkdir()
        fake = (Path(__file__).parent / "fake_python.py").read_text()
        (root / "bin" / "python").write_text(f"#!{sys.executable} -S\n{fake}")
        (root / "bin" / "python").chmod(0o755)
        (root / "bin" / "python3").symlink_to(sys.executable)
        self.write("run.sh", RUN_SH)
        self.write("local/data.sh", DATA_SH)
        self.write("corpus/a.wav", "")
        self.write("conf/train_x.yaml", "model: x\n")
        for name in ("train", "valid", "test", "blind"):
            self.write(f"conf/mix_{name}.yaml", "# comment\nspeech: speech\nnoise: noise\n")
        self.environment = {**os.environ, "FAKE_CALLS": str(self.calls_file), "SENET_CMD_BACKEND": "local"}

    def write(self, name, text):
        (self.path / name).write_text(text)

    def start(self, *words, **variables):
        return subprocess.Popen(
            ["bash", "run.sh", *words],
            cwd=self.path,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words, code=0, **variables):
        """Run the recipe; returns (the commands it called, stdout, stderr)."""
        self.calls_file.write_text("")
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, out + err
        return self.calls(), out, err

    def calls(self):
        """The commands called, once each, with the set they were called for."""
        found = []
        for line in self.calls_file.read_text().splitlines():
            command = line.split()[0]
            name = next(
                (s for s in ("test", "valid", "train", "blind") if f"raw/{s}" in line or f"enhanced_{s}" in line), ""
            )
            name = "" if command in ("train", "compare", "data", "pack") else f" {name}"
            if command == "score":
                name += " noisy" if "--out exp/noisy" in line else ""
                name += " expected" if "--expected" in line else ""
            if step := re.search(r"exp/\w+/step_0*(\d+)/", line):
                name += f" step {step[1]}"
            if command + name not in found:
                found.append(command + name)
        return found


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe that has run once; tests copy it."""
    recipe = Recipe(tmp_path_factory.mktemp("driver") / "root")
    recipe.first = recipe.run()
    return recipe


ALL = ["data", "mix train", "mix valid", "mix test", "feats train", "feats valid", "train", "enhance test"]
ALL += ["score test noisy", "score test", "compare", "pack"]


@pytest.fixture
def done(finished, tmp_path):
    """A recipe of its own for the test, in which everything is done."""
    root = tmp_path / "root"
    shutil.copytree(finished.path.parents[1], root, symlinks=True)
    recipe = object.__new__(Recipe)
    recipe.path, recipe.calls_file = root / "egs" / "fake", root / "calls.log"
    recipe.environment = {**finished.environment, "FAKE_CALLS": str(recipe.calls_file)}
    (root / "tools" / "env.sh").write_text(f"export SENET_PYTHON_DIR={root}/bin\n")
    os.utime(recipe.path / "corpus" / "a.wav", ns=(0, (finished.path / "corpus" / "a.wav").stat().st_mtime_ns))
    return recipe


def states(listed):
    """{(unit, folder): state} of --list's lines."""
    return {tuple(line.split()[1:3]): line.split(None, 3)[3] for line in listed.splitlines() if line[:1] in "123456"}


def test_all_stages_run_in_order_and_the_table_is_shown(finished):
    calls, out, _ = finished.first
    assert calls == ALL
    assert "| system | stoi |" in out
    assert "stages 0 (download) to 8 (pack)" in out
    assert "stage 4 (train) took" in out
    assert "train at work" in out, "the training's log is shown while it runs"


def test_log_lines_carry_time_and_place(finished):
    assert re.search(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d \(se\.sh:\d+:\w+\) stage 4: train exp/train_x", finished.first[1], re.M
    )


def test_a_finished_recipe_does_nothing_but_report(done):
    calls, out, _ = done.run()
    assert calls == ["compare"]
    assert "stage 4: train exp/train_x: done" in out


@pytest.mark.parametrize("stages", [("4", "6"), ("train", "score")])
def test_stages_by_number_and_by_name(done, stages):
    calls, _, _ = done.run("--stage", stages[0], "--stop_stage", stages[1], "--force")
    assert calls == ["train", "enhance test", "score test noisy", "score test"]


def test_an_unknown_stage_is_refused(done):
    assert "no stage 'trian'" in done.run("--stage", "trian", code=1)[2]


def test_a_changed_mixing_config_redoes_that_set_and_what_depends_on_it(done):
    done.write("conf/mix_test.yaml", "speech: speech\nnoise: noise\nseed: 2\n")
    listed = states(done.run("--list")[1])
    assert listed["mix", "dump/raw/test"].startswith("stale: conf/mix_test.yaml")
    assert listed["mix", "dump/raw/train"].startswith("done")
    assert listed["train", "exp/train_x"].startswith("done")
    assert listed["enhance", "exp/train_x/enhanced_test"].startswith("stale: depends on dump/raw/test")
    assert listed["score", "exp/train_x/enhanced_test"].startswith("stale: depends on")
    assert done.run()[0] == ["mix test", "enhance test", "score test noisy", "score test", "compare"]


def test_changed_manifests_redo_the_rest_and_equal_ones_nothing(done):
    os.utime(done.path / "corpus" / "a.wav", (1, 1))
    assert done.run("--stop_stage", "3")[0] == ["data"], "stage 1 wrote the same lists again"
    done.write("corpus/b.wav", "")
    assert done.run("--stop_stage", "3")[0] == ["data", *ALL[1:6]]


def test_training_refuses_data_that_changed(done):
    done.write("corpus/b.wav", "")
    done.run("--stop_stage", "data")
    assert "refused: trained on other data" in states(done.run("--list")[1])["train", "exp/train_x"]
    _, _, err = done.run(code=1)
    assert "exp/train_x was trained on other data" in err
    assert "--tag" in err
    assert "refused: trained on other data" in states(done.run("--list")[1])["train", "exp/train_x"]
    assert "stale: --force" in states(done.run("--list", "--force")[1])["train", "exp/train_x"]
    calls, out, _ = done.run("--tag", "more")
    assert calls == ["train", *ALL[7:]]
    assert "exp/train_x_more" in out


def test_a_changed_training_config_calls_train_and_keeps_the_experiment(done):
    (done.path / "exp/train_x/mine").write_text("kept")
    done.write("conf/train_x.yaml", "model: x\nmax_epoch: 9\n")
    assert done.run()[0] == ["train", "enhance test", "score test", "compare", "pack"]
    assert (done.path / "exp/train_x/mine").exists()


def test_settings_that_a_training_refused_are_not_what_is_there(done):
    done.run("--train_args", "--lr 2", code=1, FAKE_FAIL="train")
    assert all(state.startswith("done") for state in states(done.run("--list")[1]).values())
    listed = states(done.run("--list", "--train_args", "--lr 2")[1])
    assert listed["train", "exp/train_x"] == "stale: train_args: nothing -> --lr 2"
    assert listed["enhance", "exp/train_x/enhanced_test"] == "stale: depends on exp/train_x/checkpoints/index.json"
    assert listed["score", "exp/train_x/enhanced_test"].startswith("stale: depends on exp/train_x/enhanced_test/")


@pytest.mark.parametrize("words", [["--nj", "3"], ["--num_workers", "1"], ["--num_threads", "1"]])
def test_speed_is_no_part_of_the_identity(done, words):
    assert done.run(*words)[0] == ["compare"]


def test_metrics_redo_the_scores_only(done):
    assert done.run("--metrics", "stoi")[0] == ["score test noisy", "score test", "compare", "pack"]


def test_scores_are_computed_when_what_they_need_was_installed(done):
    installed = {"FAKE_VERSIONS": "pesq_wb 1 pesq 0.0.4\nstoi 2"}
    without = {"FAKE_VERSIONS": "pesq_wb 1 pesq not installed\nstoi 2"}
    assert {call.split()[0] for call in done.run(**without)[0]} == {"score", "compare"}
    assert [call.split()[0] for call in done.run(**without)[0]] == ["compare"]
    state = states(done.run("--list", **installed)[1])["score", "exp/train_x/enhanced_test"]
    assert state == "stale: version: pesq_wb 1 pesq not installed -> pesq_wb 1 pesq 0.0.4"
    assert {call.split()[0] for call in done.run(**installed)[0]} == {"score", "compare"}


def test_how_a_corpus_was_fetched_does_not_count(recipe):
    recipe.run("--local_args", "--seed 1")
    calls, _, _ = recipe.run("--local_args", "--seed 1 --download true --url http://mirror --part 'a b'")
    assert [call.split()[0] for call in calls] == ["compare"]
    assert "data" in recipe.run("--local_args", "--seed 2", "--stop_stage", "data")[0]


class TestLastCheckpoints:
    """--score_checkpoints: stages 5 and 6 work with each of the last ones, too."""

    WORDS = ("--train_args", "--keep_last 3", "--score_checkpoints", "2")

    def test_each_is_enhanced_with_and_scored(self, recipe):
        calls, _, _ = recipe.run(*self.WORDS)
        assert calls == [
            *ALL[:7], "enhance test", "enhance test step 6", "enhance test step 7",
            "score test noisy", "score test", "score test step 6", "score test step 7", "compare", "pack",
        ]  # fmt: skip
        wav = recipe.path / "exp/train_x/step_00000006/enhanced_test/wav/a.wav"
        assert wav.read_text().endswith(" step_00000006.pt\n")
        assert (wav.parents[1] / "summary.json").exists()
        assert recipe.run(*self.WORDS)[0] == ["compare"]
        assert recipe.run(*self.WORDS[:2])[0] == ["compare"], "without them the rest is as it was"

    def test_more_of_them_and_a_longer_training_do_what_is_new(self, recipe):
        recipe.run(*self.WORDS)
        assert recipe.run(*self.WORDS[:3], "3")[0] == ["enhance test step 5", "score test step 5", "compare"]
        longer = ("--train_args", "--keep_last 3 --max_steps 8", "--score_checkpoints", "2")
        assert recipe.run(*longer)[0] == [
            "train", "enhance test", "enhance test step 8", "score test", "score test step 8", "compare", "pack",
        ]  # fmt: skip

    def test_they_are_listed(self, recipe):
        recipe.run(*self.WORDS, "--stop_stage", "train")
        listed = states(recipe.run("--list", *self.WORDS)[1])
        assert listed["enhance", "exp/train_x/step_00000006/enhanced_test"] == "new"
        assert listed["score", "exp/train_x/step_00000007/enhanced_test"].startswith("missing input: ")

    def test_too_few_are_refused_with_the_option_that_keeps_more(self, done):
        _, _, err = done.run("--score_checkpoints", "2", code=1)
        message = "exp/train_x/checkpoints has 1 of the regular series (one at each multiple of save_every updates)"
        assert f"stage 5: --score_checkpoints: {message}" in err and "keep_last: 2" in err
        listed = done.run("--list", "--score_checkpoints", "2")[1]
        assert re.search(r"5 enhance +exp/train_x/step_\* +missing input: exp/train_x/checkpoints has 1", listed)
        assert states(listed)["score", "exp/train_x/enhanced_test"].startswith("done")


def test_enhanced_audio_of_another_size_or_time_is_scored_again(done):
    path = done.path / "exp/train_x/enhanced_test/wav/a.wav"
    path.write_text(path.read_text()[::-1])
    for words in ([], ["--stage", "score"]):
        found = states(done.run("--list", *words)[1])["score", "exp/train_x/enhanced_test"]
        assert found == "stale: exp/train_x/enhanced_test/wav changed"
    assert done.run("--stage", "score")[0] == ["score test", "compare"]
    path.rename(path.with_name("b.wav"))
    assert states(done.run("--list", "--stage", "score")[1])["score", "exp/train_x/enhanced_test"].startswith("stale")
    assert done.run("--stage", "score")[0] == ["score test", "compare"]


def test_a_deleted_or_cut_output_is_made_again(done):
    (done.path / "dump/raw/test/wav.scp").unlink()
    (done.path / "exp/train_x/enhanced_test/wav/a.wav").write_text("")
    listed = states(done.run("--list")[1])
    assert listed["mix", "dump/raw/test"] == "partly: dump/raw/test/wav.scp is gone"
    calls = done.run()[0]  # files of another time are read again to be scored, too
    assert calls == ["mix test", "enhance test", "score test", "compare"]
    assert (done.path / "exp/train_x/enhanced_test/wav/a.wav").read_text()


def test_force_repeats_and_keeps_the_old_training_aside(done):
    (done.path / "exp/train_x/mine").write_text("kept")
    assert done.run("--force")[0] == ALL
    assert len(list((done.path / "exp/.old").glob("train_x-*/mine"))) == 1


def test_a_failed_training_ends_with_its_error(recipe):
    _, out, err = recipe.run(code=1, FAKE_FAIL="train")
    assert out.count("train at work") == 1 and "no such luck" not in out and not re.search("^#", out, re.M)
    assert "--num_workers" not in recipe.calls_file.read_text(), "the training knows"
    assert err.splitlines()[-2] == "error: no such luck"
    assert err.splitlines()[-1].startswith("se.sh: stage 4 (train) did not finish")
    assert err.count("no such luck") == 1


@pytest.fixture
def busy(recipe):
    """A run that is at the training set's mixing as long as its ``hold`` is there."""
    recipe.calls_file.write_text("")
    hold = recipe.path / "hold"
    hold.touch()
    process = recipe.start(FAKE_HOLD=str(hold))
    process.hold = hold
    while "mix train" not in recipe.calls():
        time.sleep(0.05)
        assert process.poll() is None
    yield process
    process.terminate()
    process.communicate()


def test_a_second_run_at_the_same_time_waits_for_what_both_need(recipe, busy):
    recipe.write("conf/train_y.yaml", "model: y\n")
    other = recipe.start("--train_config", "conf/train_y.yaml")
    while "it waits" not in (line := other.stdout.readline()):
        assert line
    busy.hold.unlink()
    out, err = other.communicate(timeout=300)
    assert other.returncode == 0 == busy.wait(timeout=300), out + err
    assert f"dump/raw/train: process {busy.pid} is at work on mix there (on {os.uname().nodename}, since " in line
    assert "), which this run needs, too: it waits" in line
    calls = [line.split() for line in recipe.calls_file.read_text().splitlines()]
    assert sum(call[0] == "mix" and "--collect" in call for call in calls) == 3, "each set is made once"
    assert sorted(call[2] for call in calls if call[0] == "train") == ["conf/train_x.yaml", "conf/train_y.yaml"]


@pytest.mark.parametrize("words", [["--force"], ["--num_clips", "train=4"]])
def test_a_second_run_at_the_same_time_that_does_it_otherwise_is_refused(recipe, busy, words):
    _, _, err = recipe.run("--stage", "mix", *words, code=1)
    assert err.splitlines()[-1].startswith(f"error: dump/raw/train: process {busy.pid} is at work on mix there")


def test_a_second_run_that_waits_can_be_ended_and_leaves_the_first_alone(recipe, busy):
    other = recipe.start()
    while "it waits" not in other.stdout.readline():
        assert other.poll() is None
    time.sleep(1)  # until it does
    other.terminate()
    _, err = other.communicate(timeout=60)
    assert other.returncode == 143 and "was interrupted by SIGTERM" in err
    busy.hold.unlink()
    assert busy.wait(timeout=300) == 0


def test_a_training_that_a_scheduler_refuses_has_no_log_to_show(recipe):
    recipe.write("cmd.sh", (recipe.path / "cmd.sh").read_text() + 'cuda_cmd="run.py --pick nothing"\n')
    _, _, err = recipe.run("--stop_stage", "train", code=1)
    assert err.splitlines()[0] == "run.py: --pick is all, failed or incomplete, not 'nothing'"
    assert err.splitlines()[1].startswith("se.sh: stage 4 (train) did not finish")


def test_a_failed_stage_is_named_and_the_run_goes_on_there(recipe):
    calls, _, err = recipe.run(code=1, FAKE_FAIL="feats")
    assert calls == ALL[:5]
    assert "run.py: job failed, log is in dump/raw/train/logdir/feats.1.log" in err
    assert "no such luck" in err
    assert "stage 3 (feats) did not finish" in err
    assert "the same command goes on where it stopped; with --stage feats added" in err
    assert recipe.run()[0] == ALL[4:]


def test_starting_late_names_the_input_and_its_stage(recipe):
    _, _, err = recipe.run("--stage", "train", code=1)
    assert "missing input: dump/raw/train/wav.scp, which stage 2 (mix) makes" in err
    _, _, err = recipe.run("--stage", "train", "--feats_type", "stft", code=1)
    assert "missing input: dump/stft/train/wav.scp, which stage 3 (feats) makes" in err
    assert not (recipe.path / "exp").exists() or not list((recipe.path / "exp").rglob("*.json"))


def test_list_on_a_fresh_recipe_runs_nothing(recipe):
    calls, out, _ = recipe.run("--list")
    assert calls == []
    listed = states(out)
    assert listed["data", "data"] == "new"
    assert listed["mix", "dump/raw/train"] == "missing input: data/speech, which stage 1 (data) makes"
    assert [p.name for p in recipe.path.iterdir() if p.name in ("data", "dump", "exp")] == []


def disk(out):
    """{stage: what is said of its disk} of --dry_run's lines."""
    return {line.split()[2]: line.split(None, 3)[3] for line in out.splitlines() if re.match(r"disk \d", line)}


class TestDisk:
    """--dry_run says what each stage needs; nothing is begun that cannot fit."""

    def test_dry_run_runs_nothing_and_says_what_is_to_be_done(self, done):
        done.write("conf/mix_test.yaml", "speech: speech\nseed: 2\n")
        calls, out, _ = done.run("--dry_run")
        assert calls == []
        assert states(out)["mix", "dump/raw/test"].startswith("stale")
        assert states(done.run("--list")[1])["mix", "dump/raw/test"].startswith("stale")
        said = disk(out)
        assert said["data"] == said["feats"] == said["train"] == "nothing to do"
        assert re.fullmatch(r"3 MB, \S+ [MGT]B free \(.*/dump/raw/test\)", said["mix"])
        assert said["enhance"].startswith("1 MB, ")  # 500000 samples of 16 bits
        assert re.search(r"^disk all +7 MB, ", out, re.M)

    def test_it_is_known_before_there_are_data(self, recipe):
        recipe.write("local/download.sh", 'echo "$*"; echo "downloads: 7000000 bytes"\n')
        calls, out, _ = recipe.run("--dry_run", "--local_args", "--part all")
        said = disk(out)
        assert calls == [] and not (recipe.path / "dump").exists()
        assert said["data"].startswith("not known: lists only")
        needs = {stage: text.split(",")[0] for stage, text in said.items() if stage != "data"}
        expected = {"download": "7 MB", "mix": "9 MB", "feats": "6 MB", "train": "3 MB", "enhance": "1 MB"}
        assert needs == expected | {"score": "little", "report": "little", "pack": "3 MB"}
        assert "about" not in out
        assert re.search(r"^disk all +at least 29 MB, ", out, re.M)

    def test_estimates_and_what_is_not_fetched_are_marked(self, recipe):
        recipe.write("local/download.sh", "echo \"downloads: nothing is fetched without '--download true' (9 GB)\"\n")
        recipe.calls_file.write_text("")
        said = disk(recipe.run("--dry_run", FAKE_ABOUT="about")[1])
        assert said["download"] == "downloads: nothing is fetched without '--download true' (9 GB)"
        assert [said[stage].split(",")[0] for stage in ("mix", "enhance")] == ["about 9 MB", "about 1 MB"]

    def test_what_is_not_known_is_said(self, recipe):
        said = disk(recipe.run("--dry_run", "--stage", "enhance")[1])
        assert said["enhance"] == "not known: dump/raw/test/utt2num_samples is not there before stage 2 (mix)"

    def test_what_an_interrupted_stage_has_made_counts(self, done):
        (done.path / "dump/raw/test/wav.scp").unlink()
        (done.path / "dump/raw/test/ark/noisy.000001.ark").write_bytes(bytes(2_000_000))
        assert disk(done.run("--dry_run", FAKE_BYTES="9000000")[1])["mix"].startswith("7 MB, ")

    def test_too_little_is_refused_by_a_dry_run_and_before_the_work(self, recipe):
        much = {"FAKE_BYTES": str(10**18)}
        _, out, err = recipe.run("--dry_run", code=1, **much)
        assert disk(out)["mix"].startswith("3e+06 TB, ")
        assert "did not finish" not in err
        calls, _, err = recipe.run(code=1, **much)
        assert "TB are needed there (stage 2 mix, 3 feats, 4 train" in err and "did not finish" not in err
        assert calls == [] and not (recipe.path / "dump").exists()

    def test_a_stage_that_is_done_needs_nothing(self, done):
        assert done.run(FAKE_BYTES=str(10**18))[0] == ["compare"]
        assert "disk all         little" in done.run("--dry_run", FAKE_BYTES=str(10**18))[1]


class TestChecked:
    """What can be seen to be wrong is said before anything runs, and by --dry_run, in one line."""

    @pytest.mark.parametrize("command, stage", [("mix", "2 (mix)"), ("feats", "3 (feats)"), ("train", "4 (train)")])
    @pytest.mark.parametrize("words", [[], ["--dry_run"]])
    def test_options_of_the_commands(self, recipe, command, stage, words):
        calls, _, err = recipe.run(*words, code=1, FAKE_WRONG=command)
        assert calls == []
        assert err == f"se.sh: stage {stage}: such an option is not known\n"

    def test_a_set_that_is_not_there(self, recipe):
        calls, _, err = recipe.run("--test_sets", "test blnid", code=1)
        assert calls == [] and "there is no set 'blnid'" in err and "there are: blind test train valid" in err

    def test_a_set_that_the_corpus_has_nothing_for(self, done):
        done.write("conf/mix_blind.yaml", "speech: blind\n")
        _, _, err = done.run("--test_sets", "blind", code=1)
        missing = "missing input: data/blind, which stage 1 (data) makes: it is done, and has found nothing for that in"
        assert missing in err
        assert missing in done.run("--dry_run", "--test_sets", "blind")[1]

    def test_a_missing_corpus(self, recipe):
        recipe.write("run.sh", RUN_SH.replace("# A recipe for tests.", "# A recipe.\n# Usage: ./run.sh --corpus DIR"))
        out = recipe.run("--list", "--corpus", "/nowhere")[1]
        assert out.startswith("the corpus is not there: /nowhere; how to say where it is, or to have it fetched:\n")
        assert out.splitlines()[1] == "  Usage: ./run.sh --corpus DIR"
        recipe.write("local/download.sh", 'echo "downloads: 3 GB"\n')
        assert "is not there" not in recipe.run("--list", "--corpus", "/nowhere")[1]


class TestOnline:
    """--online true: the training set is mixed while training."""

    WORDS = ("--online", "true")
    ONLINE = [name for name in ALL if name not in ("mix train", "feats train")]

    def test_it_is_not_stored(self, recipe):
        recipe.calls_file.write_text("")
        words = ["--mix_args", "--snr_lower -5 --seed 3 --snr_levels -5 0", "--num_clips", "train=40 valid=2"]
        assert recipe.run(*self.WORDS, *words)[0] == self.ONLINE
        train = next(line for line in recipe.calls_file.read_text().splitlines() if line.startswith("train "))
        assert "--train conf/mix_train.yaml --valid dump/raw/valid" in train
        assert "--data data --mix_conf.snr_lower -5 --mix_conf.snr_levels [-5, 0] --mix_conf.num_clips 40" in train
        assert "seed" not in train, "that of the training decides"
        assert "--num_workers 2" in train
        assert not (recipe.path / "dump/raw/train").exists()
        assert recipe.run(*self.WORDS, *words)[0] == ["compare"]

    def test_its_config_and_options_call_the_training_again(self, recipe):
        recipe.run(*self.WORDS, "--skip_eval")
        recipe.write("conf/mix_train.yaml", "speech: speech\nnoise: noise\nseconds: 2\n")
        listed = states(recipe.run("--list", *self.WORDS)[1])
        assert listed["train", "exp/train_x"] == "stale: conf/mix_train.yaml changed"
        assert recipe.run(*self.WORDS, "--skip_eval")[0] == ["train"]
        assert recipe.run(*self.WORDS, "--skip_eval", "--num_clips", "train=9")[0] == ["train"]

    def test_other_sources_are_other_data(self, recipe):
        recipe.run(*self.WORDS, "--skip_eval")
        recipe.write("corpus/b.wav", "")
        _, _, err = recipe.run(*self.WORDS, "--skip_eval", code=1)
        assert "exp/train_x was trained on other data than is there now (data/speech differs)" in err

    def test_stored_data_and_mixtures_are_different_experiments(self, done):
        assert "was trained on other data" in done.run(*self.WORDS, code=1)[2]
        assert done.run(*self.WORDS, "--tag", "online")[0] == ["train", *ALL[7:8], "score test", "compare", "pack"]


class TestExpected:
    """--expected: nothing is trained on a test set whose noisy input does not score as is published."""

    WORDS = ("--expected", "published.yaml")

    @pytest.fixture(autouse=True)
    def published(self, recipe):
        recipe.write("published.yaml", "- {system: noisy}\n")

    def test_the_noisy_input_is_scored_before_training_and_not_twice(self, recipe):
        scored = ["score test noisy", "score test noisy expected"]
        assert recipe.run(*self.WORDS)[0] == [*ALL[:6], *scored, "train", *ALL[7:8], "score test", "compare", "pack"]
        assert recipe.run(*self.WORDS)[0] == ["compare"]
        forced = ["train", "enhance test", "score test noisy", "score test", "compare", "pack"]
        assert recipe.run(*self.WORDS, "--force", "--stage", "train")[0] == forced

    def test_other_scores_stop_the_recipe(self, recipe):
        for _ in range(2):
            calls, _, err = recipe.run(*self.WORDS, code=1, FAKE_UNLIKE="test")
            assert "error: the noisy input scores otherwise" in err and "stage 4 (train) did not finish" in err
            assert "train" not in calls
        recipe.write("published.yaml", "- {system: noisy, tolerance: 1}\n")
        assert recipe.run(*self.WORDS, "--stop_stage", "train")[0] == ["score test noisy expected", "train"]

    def test_that_it_failed_is_listed_and_later_stages_warn(self, recipe):
        recipe.run(*self.WORDS)
        recipe.write("published.yaml", "- {system: noisy, tolerance: 1}\n")
        recipe.run(*self.WORDS, code=1, FAKE_UNLIKE="test")
        assert states(recipe.run("--list", *self.WORDS)[1])["check", "exp/noisy/enhanced_test"] == "partly: it failed"
        out = recipe.run(*self.WORDS, "--stage", "enhance")[1]
        assert out.count("WARNING: test: the noisy input did not score as published.yaml says") == 1
        recipe.run(*self.WORDS)
        assert "WARNING" not in recipe.run(*self.WORDS, "--stage", "enhance")[1]

    def test_it_is_listed(self, recipe):
        listed = states(recipe.run("--list", *self.WORDS)[1])
        assert listed["check", "exp/noisy/enhanced_test"].endswith("which stage 6 (score) makes")


def test_a_set_without_references_goes_through(done):
    words = ("--test_sets", "test blind")
    calls = ["mix blind", "enhance blind", "score blind noisy", "score blind", "compare", "pack"]
    assert done.run(*words)[0] == calls
    assert not (done.path / "dump/raw/blind/spk1.scp").exists()
    assert done.run(*words)[0] == ["compare"]


def test_positional_words_are_refused_in_one_line(done):
    _, _, err = done.run("--nj", "2", "oops", "--stage", "5", code=2)
    assert err == "se.sh: what is 'oops --stage 5'? Options come as --name value; --help lists them\n"


def test_help_shows_the_recipes_values(done):
    calls, out, _ = done.run("--help")
    assert calls == []
    assert "A recipe for tests." in out
    assert "--train_config conf/train_x.yaml" in out
    assert '--test_sets "test"' in out
    shown = set(re.findall(r"--([a-z_]+)", out))
    source = (ROOT / "utils" / "se.sh").read_text()
    defaults = source.split("names=(")[1].split("usage()")[0]
    options = set(re.findall(r"^([a-z_]+)=", defaults, re.M))
    assert options <= shown


def test_a_mistyped_option_is_refused_with_a_suggestion(done):
    assert "did you mean --train_config?" in done.run("--train_conf", "x", code=1)[2]


def test_num_clips_names_sets(done):
    assert done.run("--num_clips", "valid=2 test=1", "--stop_stage", "mix")[0] == ["mix valid", "mix test"]
    assert (done.path / "dump/raw/valid/plan.tsv").read_text().count("\n") == 2
    assert "--num_clips 'vaild=2'" in done.run("--num_clips", "vaild=2", code=1)[2]


def test_values_with_blanks_reach_the_command_as_one_word(done):
    done.run("--mix_args", "--seed '4 2'", "--stop_stage", "mix")
    assert "--seed 4 2 --plan" in done.calls_file.read_text()
    assert "No closing quotation" in done.run("--mix_args", "--seed '4", code=1)[2]


def test_an_unknown_back_end_is_refused(done):
    assert "no back end 'moon'" in done.run(code=1, SENET_CMD_BACKEND="moon")[2]


def test_without_an_installation_the_installer_is_named(done):
    (done.path.parents[1] / "tools" / "env.sh").unlink()
    _, _, err = done.run(code=1)
    assert len(err.splitlines()) == 1
    assert "tools/install.sh" in err


def test_local_settings_come_last_and_are_plain_lines(done):
    done.write("conf/local.conf", "SENET_CMD_BACKEND=moon\n")
    assert done.run()[0] == ["compare"], "the environment has the last word"
    del done.environment["SENET_CMD_BACKEND"]
    assert "no back end 'moon'" in done.run(code=1)[2]
    done.write("conf/local.conf", "SENET_CMD_BACKEND= moon\n")
    assert "path.sh: a line of conf/local.conf is not NAME=VALUE" in done.run(code=127)[2]


def test_a_signal_to_the_driver_ends_its_jobs_at_once(recipe):
    recipe.calls_file.write_text("")
    process = recipe.start(FAKE_SECONDS="30")
    try:
        while "mix train" not in recipe.calls():
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "stage 2 (mix) was interrupted" in err


class TestControlC:
    """At a terminal Ctrl-C sends SIGINT to the driver and to what it runs, all at once."""

    def press(self, recipe, *delays, until="train", **variables):
        """Press it ``delays`` seconds after the training began, and after the press before; returns (code, output)."""
        recipe.calls_file.write_text("")
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(recipe.path)
            os.execvpe("bash", ["bash", "run.sh"], {**recipe.environment, "FAKE_SECONDS": "0", **variables})
        shown = b""
        end = time.monotonic() + 60
        with contextlib.suppress(OSError):  # EIO: the end
            while time.monotonic() < end:
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 4096)
                if f"{until} at work".encode() in shown or until in recipe.calls():
                    for delay in delays:
                        time.sleep(delay)
                        os.write(terminal, b"\x03")
                    delays = ()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(terminal)
        return code, shown.decode().replace("\r\n", "\n")

    def test_once_lets_a_training_save(self, recipe):
        code, shown = self.press(recipe, 0.3, FAKE_SECONDS_TRAIN="50", FAKE_SAVING="1.5")
        assert code == 130
        assert "saved at step 5 and stopped" in shown
        assert "run.py: stopped by SIGINT; the jobs were ended\n" in shown
        assert "stage 4 (train) was interrupted by SIGINT, saved at step 5; the same command" in shown.splitlines()[-1]

    def test_twice_kills(self, recipe):
        began = time.monotonic()
        code, shown = self.press(recipe, 0.3, 0.5, FAKE_SECONDS_TRAIN="50", FAKE_SAVING="40")
        assert time.monotonic() - began < 30
        assert code == 130
        assert "run.py: stopped by SIGINT; the jobs were ended; killed\n" in shown
        assert "was interrupted by SIGINT, and the training has not saved" in shown.splitlines()[-1]

    def test_a_script_of_the_recipe_leaves_nothing_at_work(self, recipe):
        recipe.write("local/data.sh", 'sleep 60 &\necho $! > pid\necho data >> "$FAKE_CALLS"\nwait $!\n')
        code, shown = self.press(recipe, 0.3, until="data")
        assert code == 130 and "stage 1 (data) was interrupted by SIGINT;" in shown
        stat = Path("/proc", (recipe.path / "pid").read_text().strip(), "stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def outputs(recipe):
    """{path: content} of what the stages made, records and logs left out."""
    return {
        path.relative_to(recipe.path).as_posix(): path.read_text()
        for folder in ("data", "dump", "exp")
        for path in (recipe.path / folder).rglob("*")
        if path.is_file() and not {".stages", "logdir"} & set(path.parts)
    }


@pytest.mark.parametrize("command", ["mix", "feats"])
def test_a_redo_that_fails_leaves_what_was_finished(done, command):
    before = outputs(done)
    _, _, err = done.run("--mix_args", "--seconds 9", "--feats_args", "--x 1", code=1, FAKE_FAIL=command)
    after = outputs(done)
    if command == "feats":  # mix was done again before
        before, after = ({p: t for p, t in o.items() if "lengths.json" in p} for o in (before, after))
        assert before
        assert "dump/raw/train: the earlier outputs of feats are back" in err
    assert after == before
    assert "did not finish" in err
    if command == "mix":
        assert done.run()[0] == ["compare"], "with the old options everything is done"


def test_a_redo_that_is_killed_goes_on_with_the_new_options(done, tmp_path):
    words = ["--mix_args", "--seed 5", "--stop_stage", "mix"]
    before = outputs(done)
    done.run(*words)
    expected = outputs(done)
    done.run("--stop_stage", "mix")
    assert outputs(done) == before
    for calls in (1, 2, 3):
        done.calls_file.write_text("")
        process = done.start(*words, FAKE_SECONDS="0.3")
        while done.calls_file.read_text().count("mix ") < calls:
            time.sleep(0.02)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done.run(*words)
    assert outputs(done) == expected


def test_an_interrupted_redo_goes_on_where_it_was(done):
    done.calls_file.write_text("")
    process = done.start("--mix_args", "--seed 5", FAKE_SECONDS="0.5")
    while "--job" not in done.calls_file.read_text():
        time.sleep(0.02)
        assert process.poll() is None
    plan = done.path / "dump/raw/train/plan.tsv"
    made = plan.stat().st_mtime_ns
    process.terminate()
    process.communicate()
    assert "stale" in states(done.run("--list", "--mix_args", "--seed 5")[1])["mix", "dump/raw/train"]
    assert plan.stat().st_mtime_ns < made, "the earlier one"
    _, out, _ = done.run("--mix_args", "--seed 5", "--stop_stage", "mix")
    assert "stage 2: mix dump/raw/train (partly: it was interrupted)" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--stage", "5", "--stop_stage", "3"], "--stage 5 (enhance) comes after --stop_stage 3 (feats)"),
        (["--nj", "0"], "--nj '0': a whole number from 1 upwards"),
        (["--nj", "abc"], "--nj 'abc'"),
        (["--ngpu", "one"], "--ngpu 'one'"),
        (["--num_nodes", "0"], "--num_nodes '0': a whole number from 1 upwards"),
        (["--score_checkpoints", "all"], "--score_checkpoints 'all': a whole number"),
        (["--expdir", ""], "--expdir is empty"),
        (["--expdir", "-x"], "--expdir '-x'"),
        (["--sample_rate", "abc"], "--sample_rate 'abc': not a rate"),
        (["--train_args", "it's"], '--train_args "it\'s": cannot be split'),
        (["--tag", "a&b"], "--tag 'a&b': use letters, digits"),
        (["--tag", "a/b"], "--tag 'a/b': no '/'"),
        (["--dumpdir", "$HOME"], "--dumpdir '$HOME': use"),
        (["--datadir", "a]b"], "--datadir 'a]b': use"),
        (["--feats_type", "mel"], "--feats_type 'mel': it is"),
        (["--feats_type", "fbank"], "--feats_type fbank: there is no training on it"),
        (
            ["--feats_type", "stft", "--online", "true"],
            "--online true: what is mixed while training has no stored stft",
        ),
        (["--expected", "nowhere"], "--expected: no file 'nowhere'"),
        (["--train_config", "nowhere"], "--train_config: no file 'nowhere'; there are: conf/train_x.yaml"),
    ],
)
def test_wrong_values_are_refused_before_any_work(recipe, words, message):
    calls, out, err = recipe.run(*words, code=1)
    assert message in err
    assert calls == [] and out == "" and "did not finish" not in err


def test_names_with_harmless_signs_are_taken(recipe):
    assert "exp=1/train_x_a.b-c+d@\u00fc" in recipe.run("--list", "--tag", "a.b-c+d@\u00fc", "--expdir", "exp=1")[1]


def test_fbank_is_made_where_nothing_is_trained(recipe):
    assert recipe.run("--feats_type", "fbank", "--stop_stage", "feats")[0] == ALL[:6]


def test_parts_are_left_out(done):
    assert done.run("--force", "--skip_data_prep", "--skip_train")[0] == ALL[7:]
    assert done.run("--force", "--skip_eval", "--skip_train", "--stage", "feats")[0] == ["feats train", "feats valid"]


class TestPack:
    """Stage 8 makes a pack of the experiment, once its test sets are scored."""

    def test_it_is_made_with_its_options_and_again_when_they_change(self, done):
        assert (done.path / "exp/train_x/train_x.senet").read_text().startswith("packed")
        words = ("--pack_args", "--licence 'CC BY 4.0'")
        assert done.run("--stage", "pack", *words)[0] == ["pack"]
        assert line(done, "pack") == "pack exp/train_x -o exp/train_x/train_x.senet --overwrite --licence CC BY 4.0"
        assert done.run("--stage", "pack", *words)[0] == []
        assert pack_state(done) == "stale: pack_args: --licence 'CC BY 4.0' -> nothing"

    def test_other_scores_or_weights_make_another(self, done):
        assert pack_state(done).startswith("done")
        assert pack_state(done, "--metrics", "stoi").startswith("stale: depends on exp/train_x/enhanced_test")
        (done.path / "exp/train_x/train_x.senet").unlink()
        assert done.run("--stage", "8")[0] == ["pack"]

    def test_what_is_not_scored_is_not_packed_unless_by_hand(self, recipe):
        recipe.run("--stop_stage", "train")
        message = "missing input: exp/train_x/enhanced_test/summary.json, which stage 6 (score) makes"
        assert message in recipe.run("--stage", "pack", code=1)[2]

    def test_a_wrong_option_is_found_before_anything_is_trained(self, recipe):
        _, _, err = recipe.run(code=1, FAKE_WRONG="pack")
        assert "stage 8 (pack): such an option is not known" in err
        assert recipe.calls() == []


def pack_state(recipe, *words):
    listed = recipe.run("--list", *words)[1].splitlines()
    return next(text.split(None, 3)[3] for text in listed if text.startswith("8 pack"))


MODEL = "../other/exp/train_y"


@pytest.fixture
def beside(recipe):
    """A recipe in which nothing was done, beside another one with a trained model."""
    there = recipe.path.parent / "other" / "exp" / "train_y"
    (there / "checkpoints").mkdir(parents=True)
    (there / "config.yaml").write_text("model: y\n")
    (there / "record.json").write_text(json.dumps({"seed": 3, "parameters": 5}))
    train_elsewhere(there, "a1")
    return recipe


def train_elsewhere(exp, digest):
    entry = {"file": "step_00000001.pt", "sha256": digest, "step": 1, "epoch": 0, "score": None, "regular": True}
    (exp / "checkpoints" / "index.json").write_text(json.dumps({"checkpoints": [entry]}))


def line(recipe, command):
    return next(x for x in recipe.calls_file.read_text().splitlines() if x.startswith(f"{command} "))


ELSEWHERE = ["data", "mix test", "enhance test", "score test noisy", "score test", "compare"]


class TestModelFromElsewhere:
    """--model: enhance with and score an experiment of another recipe."""

    def test_only_what_it_needs_is_made_and_nothing_is_trained(self, beside):
        calls, out, _ = beside.run("--model", MODEL)
        assert calls == ELSEWHERE
        assert f"-o exp/other_train_y/enhanced_test --model {MODEL}" in line(beside, "enhance")
        assert "experiment exp/other_train_y" in out
        assert beside.run("--model", f"{MODEL}/")[0] == ["compare"], "the same folder"
        assert "--train_config" not in out
        out = beside.run("--model", MODEL, "--train_config", "conf/train_x.yaml", "--stage", "report")[1]
        assert "--train_config conf/train_x.yaml is not used" in out

    def test_a_recipe_that_can_lists_only_what_the_test_sets_need(self, beside):
        script = f'sets=\nfor word; do if [ "$word" = --sets ]; then echo only >> sets.log; fi; done\n{DATA_SH}'
        beside.write("local/data.sh", script)
        beside.run("--model", MODEL, "--stop_stage", "mix")
        assert (beside.path / "sets.log").read_text() == "only\n"
        assert beside.run("--stop_stage", "mix")[0][0] == "data", "a training needs all"
        assert beside.run("--model", MODEL, "--stop_stage", "mix")[0] == []
        assert (beside.path / "sets.log").read_text() == "only\n"

    def test_a_training_that_goes_on_is_said_and_noted(self, beside):
        status = beside.path / MODEL / "status.json"
        status.write_text(json.dumps({"state": "running", "step": 101, "steps": 2100}))
        out = beside.run("--model", MODEL)[1]
        assert out.count("WARNING") == 1 and "not finished (running at step 101 of 2100)" in out
        record = json.loads((beside.path / "exp" / "other_train_y" / "record.json").read_text())
        assert record["unfinished"] == "running at step 101 of 2100"
        status.write_text(json.dumps({"state": "finished", "step": 2100, "steps": 2100}))
        assert "WARNING" not in beside.run("--model", MODEL)[1]

    def test_its_record_is_kept_with_where_it_was_trained(self, beside):
        beside.run("--model", MODEL)
        exp = beside.path / "exp" / "other_train_y"
        record = json.loads((exp / "record.json").read_text())
        assert record == {"seed": 3, "parameters": 5, "trained_in": {"path": MODEL}}
        assert (exp / "config.yaml").read_text() == "model: y\n"
        assert not (exp / "checkpoints").exists()

    def test_it_is_done_again_when_the_checkpoint_is_another(self, beside):
        beside.run("--model", MODEL)
        train_elsewhere(beside.path / MODEL, "b2")
        listed = states(beside.run("--list", "--model", MODEL)[1])
        assert listed["enhance", "exp/other_train_y/enhanced_test"] == f"stale: {MODEL}/checkpoints/index.json changed"
        assert beside.run("--model", MODEL)[0] == ["enhance test", "score test", "compare"]

    def test_stages_can_be_chosen_and_a_tag_given(self, beside):
        beside.run("--model", MODEL, "--stop_stage", "mix")
        calls, _, _ = beside.run(
            "--model", MODEL, "--stage", "5", "--tag", "last", "--enhance_args", "--checkpoint last"
        )
        assert calls == ELSEWHERE[2:]
        assert "-o exp/other_train_y_last/enhanced_test" in line(beside, "enhance")

    def test_it_may_be_a_pack(self, recipe):
        shutil.copy(ROOT / "test/infer/format_1.senet", recipe.path / "given.senet")
        calls, _, _ = recipe.run("--model", "given.senet")
        assert calls == ELSEWHERE
        assert "-o exp/given/enhanced_test --model given.senet" in line(recipe, "enhance")
        record = json.loads((recipe.path / "exp/given/record.json").read_text())
        assert record == {"parameters": 376, "macs_per_second": None, "trained_in": {"path": "given.senet"}}
        assert json.loads((recipe.path / "exp/given/config.yaml").read_text())["model"] == "lowlatency.LowLatencyNet"
        assert recipe.run("--model", "given.senet")[0] == ["compare"]
        with open(recipe.path / "given.senet", "ab") as f:
            f.write(b"x")
        listed = states(recipe.run("--list", "--model", "given.senet")[1])
        assert listed["enhance", "exp/given/enhanced_test"] == "stale: given.senet changed"
        err = recipe.run("--model", "given.senet", code=1)[2]
        assert "error: given.senet: damaged: " in err and "Traceback" not in err

    def test_it_does_not_take_the_folder_of_an_own_experiment(self, done):
        err = done.run("--model", "exp/train_x/train_x.senet", code=1)[2]
        assert "exp/train_x is an experiment that was trained here; add --tag NAME" in err

    def test_it_is_listed_and_dry_run_without_running(self, beside):
        calls, out, _ = beside.run("--list", "--model", MODEL)
        assert (
            calls == [] and ("train", "exp/train_x") not in states(out) and ("mix", "dump/raw/train") not in states(out)
        )
        assert states(out)["enhance", "exp/other_train_y/enhanced_test"].startswith("missing input: dump/raw/test")
        calls, out, _ = beside.run("--dry_run", "--model", MODEL)
        assert calls == [] and "disk 5 enhance" in out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["--model", "../other/exp/train_z"],
                "no trained model there; it is a folder such as ../mini/exp/NAME, or",
            ),
            (["--model", "exp/train_x"], "trained in this recipe; choose it by --train_config and --tag instead"),
            (["--model", MODEL, "--score_checkpoints", "2"], "not of a model that was trained elsewhere"),
            (["--model", "../other/ex p"], "use letters, digits"),
            (["--tag", "a b"], "use letters, digits and ._-+=@ in it"),
            (["--metrics", ""], "--metrics is empty"),
            (["--model", MODEL, "--stage", "4", "--stop_stage", "4"], "nothing to do: stages 4 to 4 are left out"),
            (["--model", MODEL, "--stage", "pack"], "nothing to do: stages 8 to 8 are left out"),
        ],
    )
    def test_what_cannot_be_is_refused(self, beside, words, message):
        here = beside.path / "exp" / "train_x"
        (here / "checkpoints").mkdir(parents=True)
        (here / "config.yaml").write_text("model: x\n")
        train_elsewhere(here, "c3")
        assert message in beside.run(*words, code=1)[2]


class TestReportOverRecipes:
    """--compare and --baseline."""

    def test_other_experiments_and_the_baseline_reach_it(self, beside):
        beside.run("--compare", f"{MODEL} '{MODEL}/'", "--baseline", "other_train_y", "--model", MODEL)
        outputs = "RESULTS.md exp/results.csv exp/results.json exp/report.html"
        report = line(beside, "compare")
        assert report.endswith(f" {MODEL} {MODEL}/ --baseline other_train_y --out {outputs}"), report
        listed = beside.run("--list", "--stage", "report")[1]
        assert f"7 report    always made anew: {outputs}" in listed

    def test_a_baseline_that_will_not_be_there_is_refused_before_anything_runs(self, beside):
        calls, _, err = beside.run("--baseline", "nope", code=1)
        assert calls == [] and "--baseline nope: no such system; there are, or will be, noisy, train_x" in err
        beside.run("--baseline", "train_x_a", "--tag", "a", "--list")
        beside.run("--baseline", "train_y", "--compare", MODEL, "--list")
        beside.run("--baseline", "nope", "--stop_stage", "score", "--list")

    def test_a_folder_that_is_not_there_is_refused_before_anything_runs(self, beside):
        calls, _, err = beside.run("--compare", f"{MODEL} ../other/exp/train_z", code=1)
        assert calls == [] and "--compare: no folder '../other/exp/train_z'" in err
