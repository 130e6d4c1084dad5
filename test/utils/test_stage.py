"""utils/stage.py: what counts as done, and what is removed, kept or refused when it does not."""

import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

STAGE = Path(__file__).resolve().parents[2] / "utils" / "stage.py"


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words, code=0):
        done = subprocess.run([sys.executable, STAGE, *words], capture_output=True, text=True, timeout=30)
        assert done.returncode == code, done
        return (done.stdout + done.stderr).strip()

    return call


@pytest.fixture
def unit(stage):
    """A unit "mix" in dump with an input, done once; its methods repeat it with other options."""

    class Unit:
        words = ["mix", "dump", "--input", "1 (data)", "data/in", "--option", "seed=1"]

        def begin(self, *more, code=0):
            return stage("begin", *self.words, *more, code=code)

        def state(self, *more):
            return stage("state", *self.words, *more)

        def make(self):
            for name in ("wav.scp", "ark/a.ark"):
                path = Path("dump", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{name}\n")

    Path("data").mkdir()
    Path("data/in").write_text("one\n")
    unit = Unit()
    assert unit.begin() == "new"
    unit.make()
    stage("end", "mix", "dump", "--require", "wav.scp")
    return unit


def test_finished_work_is_recognised(unit):
    assert unit.state().startswith("done")
    assert unit.begin(code=3).startswith("done")


def test_content_of_the_inputs_counts_and_not_their_time(unit):
    os.utime("data/in", (1, 1))
    assert unit.state().startswith("done")
    Path("data/in").write_text("two\n")
    assert unit.state() == "stale: data/in changed"


def test_options_count(unit):
    unit.words = [*unit.words[:-1], "seed=2"]
    assert unit.state() == "stale: seed: 1 -> 2"


def visible():
    return sorted(p.name for p in Path("dump").iterdir() if p.name[0] != ".")


def test_what_was_made_of_other_inputs_is_set_aside_until_the_new_is_there(unit, stage):
    Path("data/in").write_text("two\n")
    Path("dump/mine.txt").write_text("not made by the unit\n")
    assert "stay in dump/.old-mix until" in unit.begin()
    assert visible() == ["mine.txt"]
    unit.make()
    stage("end", "mix", "dump")
    assert sorted(p.name for p in Path("dump").iterdir()) == [".stages", "ark", "mine.txt", "wav.scp"]


def test_a_failure_brings_the_earlier_outputs_back_and_the_new_options_go_on_later(unit, stage):
    old = unit.state()
    other = [*unit.words[:-1], "seed=2"]
    me = ["--pid", str(os.getpid())]
    stage("begin", *other, *me)
    Path("dump/plan.tsv").write_text("the first part of the new\n")
    assert "earlier outputs of mix are back; the unfinished new" in stage("restore", *other, *me)
    assert visible() == ["ark", "wav.scp"] and unit.state() == old
    assert stage("begin", *other, *me).startswith("partly: it was interrupted")
    assert visible() == ["plan.tsv"]
    stage("restore", *other, *me)
    assert unit.begin(code=3) == old, "the old options find everything done"
    assert sorted(p.name for p in Path("dump").iterdir()) == [".stages", "ark", "wav.scp"]


def test_a_failure_before_anything_is_made_leaves_no_trace(unit, stage):
    before = sorted(Path("dump").rglob("*"))
    other = [*unit.words[:-1], "seed=2", "--pid", str(os.getpid())]
    stage("begin", *other)
    stage("restore", *other)
    assert sorted(Path("dump").rglob("*")) == before
    assert unit.state().startswith("done")


def test_a_failure_of_the_first_attempt_keeps_what_it_made(stage):
    me = ["mix", "dump", "--option", "seed=a", "--pid", str(os.getpid())]
    stage("begin", *me)
    Path("dump/plan.tsv").write_text("1\n")
    stage("restore", *me)
    assert visible() == ["plan.tsv"]


class Killed(BaseException):
    pass


def contents():
    return {str(p): p.read_text() for p in Path("dump").rglob("*") if p.is_file() and p.parent.name != ".stages"}


@pytest.mark.parametrize("wanted", ["seed=1", "seed=2"])
def test_killed_at_any_step_it_goes_on_with_either_options(unit, stage, monkeypatch, wanted):
    """All moves of a redo that fails: cut off before each step, then begun again, with the new options or the old."""
    monkeypatch.syspath_prepend(str(STAGE.parent))
    import unit as module

    finished = Path("finished").resolve()
    shutil.copytree("dump", finished)
    old = contents()
    pid = os.getpid()

    def make(option):
        return module.Unit("mix", "dump", options=[option], inputs=[["1 (data)", "data/in"]])

    def attempt():
        redo = make("seed=2")
        redo.recall(pid)
        redo.begin(force=False, pid=pid)
        for name in ("plan.tsv", "ark/a.ark"):
            Path("dump", name).parent.mkdir(exist_ok=True)
            Path("dump", name).write_text("new")
        make("seed=2").restore(pid)

    real = {name: getattr(os, name) for name in ("replace", "unlink", "rmdir")}
    for steps in range(100):
        shutil.rmtree("dump")
        shutil.copytree(finished, "dump")
        left = [steps]

        def counted(name, left=left):
            def call(*words, **options):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return real[name](*words, **options)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, counted(name))
            try:
                attempt()
                break
            except Killed:
                pass
        again = make(wanted)
        again.recall(pid)
        if wanted == "seed=1":
            assert again.state().startswith("done"), steps
            assert {p: t for p, t in contents().items() if "/." not in p} == old, steps
            continue
        again.begin(force=False, pid=pid)
        found = {p: t for p, t in contents().items() if "/." not in p}
        assert set(found.values()) <= {"new"}, (steps, found)
        for name in ("plan.tsv", "ark/a.ark"):
            Path("dump", name).parent.mkdir(exist_ok=True)
            Path("dump", name).write_text("new")
        module.finish("mix", "dump", [])
        assert contents() == {"dump/plan.tsv": "new", "dump/ark/a.ark": "new"}, steps
    assert 10 < steps < 99


def test_interrupted_work_is_kept_and_continued(unit, stage):
    unit.begin("--force")
    Path("dump/ark").mkdir(exist_ok=True)
    Path("dump/ark/a.ark").write_text("begun\n")
    assert unit.state() == "partly: it was interrupted"
    unit.begin()
    assert Path("dump/ark/a.ark").exists()
    Path("data/in").write_text("two\n")
    unit.begin()
    assert not Path("dump/ark").exists()


def test_a_deleted_output_is_noticed_and_the_rest_kept(unit):
    Path("dump/wav.scp").unlink()
    assert unit.state() == "partly: dump/wav.scp is gone"
    unit.begin()
    assert Path("dump/ark/a.ark").exists()


def test_a_truncated_output_is_noticed_and_made_again(unit):
    Path("dump/ark/a.ark").write_text("")
    assert unit.state() == "partly: dump/ark/a.ark has another size than it had"
    unit.begin()
    assert not Path("dump/ark/a.ark").exists()
    assert Path("dump/wav.scp").exists()


def test_force_makes_everything_again(unit):
    unit.begin("--force")
    assert not Path("dump/wav.scp").exists()


def test_folders_that_the_command_looks_after_are_kept(unit):
    unit.begin("--force", "--keep", "ark")
    assert Path("dump/ark/a.ark").exists()
    assert not Path("dump/wav.scp").exists()


def test_a_missing_input_is_named_with_its_stage(unit):
    Path("data/in").unlink()
    message = "missing input: data/in, which stage 1 (data) makes"
    assert unit.state() == message
    assert unit.begin(code=1) == message
    assert Path("dump/wav.scp").exists()


def test_work_without_its_output_is_not_finished(unit, stage):
    unit.begin("--force")
    assert "mix ended without making it" in stage("end", "mix", "dump", "--require", "wav.scp", code=1)
    Path("dump/wav.scp").touch()
    assert "or it is empty" in stage("end", "mix", "dump", "--require", "wav.scp", code=1)


def test_two_units_in_one_folder_keep_apart(unit, stage):
    feats = ["feats", "dump", "--input", "2 (mix)", "dump/wav.scp", "dump/.stages/mix.json"]
    stage("begin", *feats)
    Path("dump/lengths").write_text("1\n")
    stage("end", "feats", "dump")
    Path("dump/lengths").write_text("changed\n")
    assert stage("state", *feats) == "partly: dump/lengths has another size than it had"
    assert unit.state().startswith("done")
    Path("data/in").write_text("two\n")
    unit.begin()
    assert Path("dump/lengths").exists()
    assert stage("state", *feats).startswith("missing input: dump/wav.scp, which stage 2 (mix) makes")
    unit.make()
    assert stage("state", *feats).startswith("missing input: dump/.stages/mix.json")
    stage("end", "mix", "dump")
    assert stage("state", *feats) == "stale: dump/.stages/mix.json changed"


def test_a_folder_made_by_other_means_needs_no_record(stage):
    Path("dump").mkdir()
    Path("dump/wav.scp").write_text("a b\n")
    assert stage("state", "feats", "out", "--input", "2 (mix)", "dump/wav.scp", "dump/.stages/mix.json") == "new"


def test_comments_in_a_config_do_not_count(stage):
    words = ["mix", "dump", "--input", "", "mix.yaml"]
    Path("mix.yaml").write_text("seed: 1\n")
    stage("begin", *words)
    stage("end", "mix", "dump")
    Path("mix.yaml").write_text("# why\nseed: 1\n\n")
    assert stage("state", *words).startswith("done")
    Path("mix.yaml").write_text("seed: 2\n")
    assert stage("state", *words) == "stale: mix.yaml changed"


def test_a_corpus_counts_by_names_sizes_and_times(stage):
    words = ["data", "data", "--corpus", "corpus dir"]
    Path("corpus dir/a").mkdir(parents=True)
    Path("corpus dir/a/1.wav").write_text("x")
    stage("begin", *words)
    stage("end", "data", "data")
    assert stage("state", *words).startswith("done")
    Path("corpus dir/a/2.wav").write_text("x")
    assert stage("state", *words) == "stale: corpus dir changed"
    Path("corpus dir/a/2.wav").unlink()
    assert stage("state", *words).startswith("done")
    Path("corpus dir").rename("elsewhere")
    assert stage("state", *words).startswith("done"), "what was made of a corpus stays good without it"


def test_a_corpus_behind_links_counts_too(stage):
    words = ["data", "data", "--corpus", "corpus"]
    Path("disk/a").mkdir(parents=True)
    Path("disk/a/1.wav").write_text("x")
    Path("corpus").mkdir()
    Path("corpus/linked").symlink_to(Path("disk").resolve())
    Path("disk/a/round").symlink_to(Path("disk").resolve())
    stage("begin", *words)
    stage("end", "data", "data")
    assert stage("state", *words).startswith("done")
    Path("disk/a/2.wav").write_text("x")
    assert stage("state", *words) == "stale: corpus changed"


def test_work_that_never_succeeded_is_new(stage):
    words = ["data", "data", "--corpus"]
    stage("begin", *words, "nowhere")
    stage("restore", *words, "nowhere")
    assert stage("state", *words, "corpus") == "new: what was begun with other options or inputs was never finished"


def test_what_changed_is_named(unit, stage):
    words = ["mix", "other", "--corpus", "here", "--option", "seed=1", "--option", "num_clips=8", "--option", "x=a=b"]
    stage("begin", *words)
    stage("end", "mix", "other")
    words[3], words[7] = "there", "num_clips="
    assert stage("state", *words) == "stale: inputs: here -> there, num_clips: 8 -> nothing"


def test_a_corpus_of_many_files_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(STAGE.parent)
    from unit import listing

    for i in range(20):
        (tmp_path / "corpus" / str(i)).mkdir(parents=True)
        for k in range(100):
            (tmp_path / "corpus" / str(i) / f"a rather long name of a recording {k}.wav").touch()
    tracemalloc.start()
    try:
        assert listing(tmp_path / "corpus")
        assert tracemalloc.get_traced_memory()[1] < 150 * 2000  # bytes; a list of all files has more than 300 for each
    finally:
        tracemalloc.stop()


def test_training_is_continued_but_not_on_other_data(stage):
    words = ["train", "exp/a", "--experiment", "--input", "", "x.yaml", "--input", "3 (feats)", "wav.scp"]
    Path("x.yaml").write_text("max_epoch: 1\n")
    Path("wav.scp").write_text("a b\n")
    stage("begin", *words)
    Path("exp/a/model.pt").write_text("weights")
    stage("end", "train", "exp/a")
    Path("x.yaml").write_text("max_epoch: 2\n")
    stage("begin", *words)
    assert Path("exp/a/model.pt").exists()
    stage("end", "train", "exp/a")
    Path("wav.scp").write_text("c d\n")
    assert stage("state", *words).startswith("refused: trained on other data (wav.scp changed)")
    assert "was trained on other data" in stage("begin", *words, code=1)
    assert "is now exp/.old/a-" in stage("begin", "--force", *words)
    assert not Path("exp/a/model.pt").exists()
    assert len(list(Path("exp/.old").glob("a-*/model.pt"))) == 1


def test_a_training_that_was_refused_or_saved_nothing_is_what_it_was(stage):
    def words(lr):
        return [
            "train",
            "exp/a",
            "--experiment",
            "--option",
            f"train_args=--lr {lr}",
            "--input",
            "3 (feats)",
            "wav.scp",
        ]

    Path("wav.scp").write_text("a b\n")
    stage("begin", *words(1))
    Path("exp/a/checkpoints").mkdir()
    Path("exp/a/checkpoints/index.json").write_text("one")
    Path("exp/a/train.log").write_text("")
    stage("end", "train", "exp/a")
    for ended in (["restore", *words(2), "--failed"], ["state", *words(2)]):  # by itself, and killed
        assert stage("begin", *words(2), "--pid", "4194303").startswith("stale: train_args: --lr 1 -> --lr 2")
        Path("exp/a/train.log").write_text("error: other settings\n")
        stage(*ended)
        assert stage("state", *words(1)).startswith("done")
        assert stage("state", *words(2)).startswith("stale: train_args: --lr 1 -> --lr 2")
        assert stage("begin", *words(1), code=3).startswith("done")
    stage("begin", *words(2))
    Path("exp/a/checkpoints/index.json").write_text("two")  # it was none that is refused: a longer one, say
    stage("restore", *words(2))
    assert stage("state", *words(1)).startswith("stale")
    stage("begin", *words(2))
    stage("end", "train", "exp/a")
    assert stage("state", *words(2)).startswith("done")


def test_a_unit_that_another_process_works_on_is_waited_for_or_refused(unit, stage):
    other = subprocess.Popen(["sleep", "60"])
    try:
        unit.begin("--force", "--pid", str(other.pid))
        assert f"process {other.pid} is at work on mix" in unit.begin(code=5)
        for more in (["--force"], ["--option", "seed=2"]):
            assert f"process {other.pid} is at work on mix" in unit.begin(*more, code=4)
        waiting = subprocess.Popen([sys.executable, STAGE, "wait", "mix", "dump"])
        time.sleep(1)
        assert waiting.poll() is None
    finally:
        other.kill()
        other.wait()
    assert waiting.wait(timeout=30) == 0
    unit.begin()


def test_of_several_that_begin_at_once_one_does(unit):
    others = [subprocess.Popen(["sleep", "60"]) for _ in range(6)]
    calls = [[sys.executable, STAGE, "begin", *unit.words[:-1], "seed=2", "--pid", str(p.pid)] for p in others]
    try:
        begun = [subprocess.Popen(call, stdout=subprocess.DEVNULL) for call in calls]
        assert sorted(p.wait(timeout=60) for p in begun) == [0, 5, 5, 5, 5, 5]
    finally:
        for process in others:
            process.kill()
            process.wait()


def test_a_damaged_record_is_an_error_that_names_it(unit):
    Path("dump/.stages/mix.json").write_text("{")
    done = subprocess.run([sys.executable, STAGE, "begin", *unit.words], capture_output=True, text=True)
    assert done.returncode == 1
    assert "dump/.stages/mix.json: not a stage record" in done.stderr


def test_jobs_are_at_most_the_shards(stage):
    Path("list").write_text("a\n" * 257)
    assert stage("jobs", "8", "list", "128") == "3"
    assert stage("jobs", "2", "list", "128") == "2"
    Path("list").write_text("")
    assert stage("jobs", "8", "list", "128") == "1"


def test_words_are_split_but_nothing_is_run(stage):
    assert stage("words", "a 'b c' $(touch evaluated)").splitlines() == ["a", "b c", "$(touch", "evaluated)"]
    assert not Path("evaluated").exists()
    assert "No closing quotation" in stage("words", "'a", code=1)


def test_options_of_fetching_do_not_count_for_the_data(stage):
    kept = "--corpus_dir 'a b' --counts any"
    assert stage("data_options", kept).strip() == kept
    words = "--download --part 'testset logfiles' --corpus_dir 'a b' --mssnsd_url http://x --keep-archives true"
    assert stage("data_options", f"{words} --counts any --url http://y --download true").strip() == kept
    assert stage("data_options", "--download true").strip() == ""


def test_source_sets_come_from_the_config_or_its_overrides(stage):
    Path("mix.yaml").write_text("# speech: no\nspeech: speech_train # why\nnoise: 'noise_train'\nseed: 1\n")
    assert stage("sources", "mix.yaml", "data", "").split() == ["data/speech_train", "data/noise_train"]
    assert stage("sources", "mix.yaml", "data", "--noise other --seed 2").split() == ["data/speech_train", "data/other"]


def test_mixing_options_become_those_of_a_training_that_mixes(stage):
    words = "--snr_lower -5 --snr_levels -5 0 2.5 --seed 3 --allow_pipes --rir 'my rirs'"
    made = ["--mix_conf.snr_lower", "-5", "--mix_conf.snr_levels", "[-5, 0, 2.5]", "--mix_conf.rir", "my rirs"]
    assert stage("mix_conf", words).splitlines() == made
    assert stage("mix_conf", "") == ""
    assert "what is 'oops'?" in stage("mix_conf", "oops", code=1)


def test_it_starts_in_the_time_of_python_itself():
    def seconds(*words):
        def once():
            begin = os.times()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            end = os.times()
            return end.children_user + end.children_system - begin.children_user - begin.children_system

        return min(once() for _ in range(5))

    start = time.monotonic()
    assert seconds(STAGE, "words", "a") - seconds("-c", "pass") < 0.15
    assert time.monotonic() - start < 60
