"""senet.bin.score: files it writes, parallel jobs, resuming, and what cannot be scored."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from senet import records
from senet.bin import score
from senet.data.audio import read, write_wav
from senet.data.scp import read_table, write_table
from senet.errors import UserError
from senet.metrics import base
from senet.report import scoring
from senet.report.breakdown import read_labels

FS = 16000
METRICS = "pesq_wb stoi si_sdr snri"


@pytest.fixture(autouse=True, scope="module")
def _unchanged_code():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring.provenance, "git_state", lambda folder: {"commit": "0123456", "dirty": False})
        yield


def run_score(ref, out, *options, enhanced=None, metrics=METRICS):
    argv = ["--enhanced", enhanced or ref / "wav.scp", "--ref", ref, "--out", out, "--metrics", metrics, *options]
    assert not score.main([str(a) for a in argv])


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def enhanced(small_set, tmp_path):
    """A system that takes away half of the noise."""
    rows = []
    for utt, noisy in read_table(small_set / "wav.scp").items():
        x = (read(noisy)[0] + read(str(small_set / "spk1" / f"{utt}.wav"))[0]) / 2
        write_wav(tmp_path / "wav" / f"{utt}.wav", x, FS)
        rows.append((utt, tmp_path / "wav" / f"{utt}.wav"))
    write_table(tmp_path / "wav.scp", rows)
    return tmp_path / "wav.scp"


@pytest.fixture(scope="module")
def noisy_scores(small_set, tmp_path_factory):
    out = tmp_path_factory.mktemp("noisy") / "out"  # as far from the audio as those of the tests: equal summaries
    run_score(small_set, out)
    return out


def test_scores_are_those_of_the_stored_files(small_set, noisy_scores):
    from senet import metrics

    utts = list(read_table(small_set / "wav.scp"))
    for name in METRICS.split():
        scores = read_table(noisy_scores / "scores" / name)
        assert list(scores) == utts
        for utt in utts:
            est, ref = (read(str(small_set / kind / f"{utt}.wav"))[0] for kind in ("wav", "spk1"))
            assert float(scores[utt]) == metrics.compute(name, est, ref, FS, noisy=est)[0]  # the very number, unrounded


def test_summary(noisy_scores):
    summary = json.loads((noisy_scores / "summary.json").read_text())
    values = [float(v) for v in read_table(noisy_scores / "scores" / "si_sdr").values()]
    found = summary["metrics"]["si_sdr"]
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert found["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert found["interval"][0] < found["mean"] < found["interval"][1]
    assert (found["n"], found["failed"], found["reasons"]) == (5, 0, {})
    assert summary["metrics"]["pesq_wb"]["version"] == "1 pesq 0.0.4"
    assert (summary["test_set"], summary["n"]) == ("test", 5)
    header, *rows = (noisy_scores / "scores.csv").read_text().splitlines()
    assert header == "utt,utt2spk,seconds,pesq_wb,stoi,si_sdr,snri,samples,clipped"
    assert len(rows) == 5 and rows[0].startswith("spk0-utt0,spk0,1.000,")
    assert (summary["sample_rate"], summary["seconds"], summary["real_time_factor"]) == (FS, pytest.approx(6), None)
    assert summary["made_with"].keys() == {"git", "versions", "host"}


def test_where_the_audio_is_and_which_it_was(small_set, enhanced, tmp_path, monkeypatch):
    out = tmp_path / "a" / "exp" / "x"
    monkeypatch.chdir(small_set.parent)
    run_score(Path("test"), out, enhanced=enhanced, metrics="snr")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["enhanced"] == "../../../wav.scp"  # from the summary's folder
    assert (out / summary["ref"]).samefile(small_set)
    utt = list(read_table(enhanced))[3]
    digests = {"enhanced": enhanced, "reference": small_set / "spk1.scp"}
    digests = {what: records.audio_digest(*read(read_table(scp)[utt])) for what, scp in digests.items()}
    assert scoring.audio_digests(out, 3, utt) == digests and scoring.audio_digests(out, 3, "other") == {}
    records.write(out / "shards" / "wav.000001.jsonl", {"model": "m"}, [{"utt": utt, "input": "0"}])  # of enhancing it
    assert scoring.audio_digests(out, 3, utt) == digests | {"noisy": "0"}


def test_what_is_known_of_the_utterances_stands_beside_their_scores(small_set, tmp_path):
    ref = shutil.copytree(small_set, tmp_path / "test")
    utts = list(read_table(small_set / "wav.scp"))
    write_table(ref / "utt2snr", [(utt, "2.50") for utt in utts])
    write_table(ref / "utt2noise", [(utt, 'a "loud", near\tfan') for utt in utts])
    run_score(ref, tmp_path / "out", metrics="snr")
    with open(tmp_path / "out" / "scores.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    # no label is called as a metric is
    assert list(rows[0]) == ["utt", "utt2spk", "utt2snr", "utt2noise", "seconds", "snr", "samples", "clipped"]
    assert {k: v.tolist() for k, v in read_labels(tmp_path / "out", utts).items() if k in ("snr", "noise")} == {
        "snr": [2.5] * 5,
        "noise": ['a "loud", near\tfan'] * 5,
    }
    assert rows[0]["snr"] == read_table(tmp_path / "out" / "scores" / "snr")[utts[0]]
    assert [row["utt"] for row in rows] == utts
    assert {(row["utt2snr"], row["utt2noise"]) for row in rows} == {("2.50", 'a "loud", near\tfan')}
    write_table(ref / "utt2snr_estimated", [(utt, "high" if utt == utts[2] else "1") for utt in utts])
    with pytest.raises(UserError, match="utt2snr_estimated:3: 'high' is not a number"):
        run_score(ref, tmp_path / "out", metrics="snr")


def test_time_that_enhancing_took(small_set, enhanced, tmp_path):
    time = {"computing_seconds": 0.5, "audio_seconds": 6.0, "device": "cpu", "threads": 1, "cpu": "A", "host": "b"}
    enhanced.with_name("enhance.json").write_text(json.dumps(time))
    run_score(small_set, tmp_path / "out", enhanced=enhanced, metrics="snr")
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["real_time_factor"]
    assert found == {"computing": 0.5, "audio": 6.0, "device": "cpu", "threads": 1, "cpu": "A"}


def test_the_code_that_made_the_numbers_stays_with_them(small_set, tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    commits = []
    for metrics, commit in (("snr", "a"), ("snr", "b"), ("snr stoi", "c")):
        monkeypatch.setattr(scoring.provenance, "git_state", lambda folder, commit=commit: {"commit": commit})
        run_score(small_set, tmp_path, metrics=metrics)
        commits.append(json.loads(path.read_text())["made_with"]["git"]["commit"])
    assert commits == ["a", "a", "c"]


def test_paired_difference_to_the_noisy_input(small_set, enhanced, noisy_scores, tmp_path):
    run_score(small_set, tmp_path / "out", "--noisy_scores", noisy_scores, enhanced=enhanced)
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]
    difference = found["si_sdr"]["over_noisy"]
    assert difference["mean"] == pytest.approx(6.02, abs=0.05)  # half the noise
    assert difference["interval"][0] < difference["mean"] < difference["interval"][1]
    assert difference["n"] == 5
    assert found["snri"]["mean"] == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_jobs_give_the_same_bytes(small_set, noisy_scores, tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(scoring, "SHARD_SIZE", 2)
    for out, n in ((tmp_path / "one", 0), (tmp_path / "many", jobs)):
        for j in range(1, n + 1):
            run_score(small_set, out, "--job", f"{j}/{n}", metrics="si_sdr stoi")
        run_score(small_set, out, *(["--collect"] if n else []), metrics="si_sdr stoi")
    assert files(tmp_path / "one") == files(tmp_path / "many")
    expected = (noisy_scores / "scores" / "si_sdr").read_bytes()  # made with shards of another size
    assert (tmp_path / "one" / "scores" / "si_sdr").read_bytes() == expected


def test_collect_before_all_jobs_are_done_names_the_first_missing(small_set, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "SHARD_SIZE", 2)
    run_score(small_set, tmp_path, "--job", "1/3", metrics="snr")
    with pytest.raises(UserError, match=r"scores\.000002\.jsonl: missing \(2 of 3 shards"):
        run_score(small_set, tmp_path, "--collect", metrics="snr")
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_run_that_was_killed_ends_in_the_same_bytes(small_set, tmp_path, monkeypatch, after):
    monkeypatch.setattr(scoring, "SHARD_SIZE", 2)
    run_score(small_set, tmp_path / "undisturbed", metrics="si_sdr snr")
    compute, calls = scoring.metrics.compute, []

    def compute_until_killed(*args):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return compute(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(scoring.metrics, "compute", compute_until_killed)
        run_score(small_set, tmp_path / "killed", metrics="si_sdr snr")
    assert not (tmp_path / "killed" / "summary.json").exists()
    run_score(small_set, tmp_path / "killed", metrics="si_sdr snr")
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")


class TestRepeatedRun:
    """What is computed again, seen by counting the calls of the metrics."""

    @pytest.fixture
    def computed(self, monkeypatch):
        calls, compute = [], scoring.metrics.compute
        monkeypatch.setattr(scoring.metrics, "compute", lambda name, *args: calls.append(name) or compute(name, *args))
        return calls

    def test_nothing_when_nothing_changed(self, small_set, noisy_scores, tmp_path, computed):
        shutil.copytree(noisy_scores, tmp_path / "out")
        run_score(small_set, tmp_path / "out")
        assert computed == []
        assert files(tmp_path / "out") == files(noisy_scores)

    def test_only_the_metric_that_was_added(self, small_set, noisy_scores, tmp_path, computed):
        shutil.copytree(noisy_scores, tmp_path / "out")
        run_score(small_set, tmp_path / "out", metrics="snr " + METRICS)
        assert computed == ["snr"] * 5

    def test_only_the_utterance_whose_audio_changed(self, small_set, enhanced, tmp_path, computed):
        run_score(small_set, tmp_path / "out", enhanced=enhanced, metrics="si_sdr stoi")
        path = read_table(enhanced)["spk0-utt2"]
        write_wav(path, 0.9 * read(path)[0], FS)
        del computed[:]
        run_score(small_set, tmp_path / "out", enhanced=enhanced, metrics="si_sdr stoi")
        assert computed == ["si_sdr", "stoi"]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: '{"versions":',
            lambda text: "",
            lambda text: text[:-20],
            lambda text: text.replace("{", "[", 1),
            lambda text: "[]\n" + text.split("\n", 1)[1],
            lambda text: text.replace('"utt"', '"ttu"'),
            lambda text: text.replace(text.splitlines()[3] + "\n", ""),
        ],
    )
    def test_a_shard_that_is_torn_is_named_and_made_up_for(
        self, small_set, noisy_scores, tmp_path, computed, caplog, damage
    ):
        shutil.copytree(noisy_scores, tmp_path / "out")
        path = tmp_path / "out" / "shards" / "scores.000001.jsonl"
        path.write_text(damage(path.read_text()))
        with pytest.raises(UserError, match=r"scores\.000001\.jsonl: (damaged|of a run with other).*without --collect"):
            run_score(small_set, tmp_path / "out", "--collect")
        run_score(small_set, tmp_path / "out")
        assert 0 < len(computed) <= 20
        assert files(tmp_path / "out") == files(noisy_scores)

    def test_shards_of_an_earlier_senet_keep_their_scores(self, small_set, noisy_scores, tmp_path, computed):
        shutil.copytree(noisy_scores, tmp_path / "out")
        path = tmp_path / "out" / "shards" / "scores.000001.jsonl"
        path.write_text(path.read_text().replace('"rate": 16000, ', ""))
        with pytest.raises(UserError, match="of a run with other utterances, metrics or senet; run without --collect"):
            run_score(small_set, tmp_path / "out", "--collect")
        run_score(small_set, tmp_path / "out")
        assert computed == []
        assert files(tmp_path / "out") == files(noisy_scores)

    def test_everything_after_a_damaged_shard(self, small_set, noisy_scores, tmp_path, computed):
        shutil.copytree(noisy_scores, tmp_path / "out")
        (tmp_path / "out" / "shards" / "scores.000001.jsonl").write_text('{"versions":')
        run_score(small_set, tmp_path / "out", metrics="snr")
        assert computed == ["snr"] * 5

    def test_a_metric_of_another_version(self, small_set, noisy_scores, tmp_path, computed, monkeypatch):
        shutil.copytree(noisy_scores, tmp_path / "out")
        monkeypatch.setattr(scoring.metrics.find("stoi")[0], "revision", 99)
        run_score(small_set, tmp_path / "out")
        assert computed == ["stoi"] * 5


@pytest.fixture
def long_set(small_set, tmp_path):
    """160 utterances in five shards: the five of the small set again and again."""
    numbers = [(f"{32 * i + k:03d}", i) for i in range(5) for k in range(32)]
    for name in ("wav.scp", "spk1.scp", "utt2num_samples"):
        values = list(read_table(small_set / name).values())
        write_table(tmp_path / "long" / name, [(number, values[i]) for number, i in numbers])
    return tmp_path / "long"


class TestProcesses:
    """--nj."""

    @pytest.mark.parametrize("nj", [2, 3])
    def test_give_the_same_bytes(self, small_set, enhanced, noisy_scores, tmp_path, nj):
        for out, n in (("one", 1), ("many", nj)):
            options = ["--noisy_scores", noisy_scores, "--nj", n]
            run_score(small_set, tmp_path / out, *options, enhanced=enhanced)
        assert files(tmp_path / "one") == files(tmp_path / "many")

    def test_compute_only_what_is_new(self, long_set, tmp_path, monkeypatch):
        run_score(long_set, tmp_path / "out", "--nj", 2, metrics="snr ssnr")
        before = files(tmp_path / "out")
        monkeypatch.setattr(scoring.metrics, "compute", None)
        run_score(long_set, tmp_path / "out", metrics="snr ssnr")
        assert files(tmp_path / "out") == before
        for path in (tmp_path / "out" / "shards").iterdir():  # no process computes it, either
            path.write_text(path.read_text().replace('"scores": {"snr": ', '"scores": {"snr": 1'))
        run_score(long_set, tmp_path / "out", "--nj", 2, metrics="snr ssnr")
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]["snr"]["mean"] > 10

    def test_have_no_torch(self):
        said = "import sys; from senet.report import scoring; scoring.metrics.names(); print('torch' in sys.modules)"
        found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
        assert found.stdout == "False\n"

    def test_job_of_several(self, long_set, tmp_path):
        for j in (1, 2):
            run_score(long_set, tmp_path / "jobs", "--nj", 2, "--job", f"{j}/2", metrics="snr")
        run_score(long_set, tmp_path / "jobs", "--collect", metrics="snr")
        run_score(long_set, tmp_path / "one", metrics="snr")
        assert files(tmp_path / "jobs") == files(tmp_path / "one")

    def test_damaged_audio_is_named_in_the_log(self, small_set, enhanced, tmp_path, capfd):
        read_table(enhanced)
        (enhanced.parent / "wav" / "spk0-utt2.wav").write_bytes(b"")
        run_score(small_set, tmp_path / "out", "--nj", 2, enhanced=enhanced, metrics="snr")
        assert "WARNING: spk0-utt2: " in capfd.readouterr().err

    def test_at_least_one(self, small_set, tmp_path):
        with pytest.raises(UserError, match="--nj 0: at least one process"):
            run_score(small_set, tmp_path / "out", "--nj", 0)

    @pytest.mark.parametrize("ended_by", ["Ctrl-C", "SIGTERM", "SIGKILL", "SIGKILL of a child"])
    def test_end_together_and_the_next_run_goes_on(self, long_set, tmp_path, monkeypatch, ended_by):
        command = [sys.executable, "-m", "senet.bin.score", "--enhanced", long_set / "wav.scp", "--ref", long_set]
        command += ["--out", tmp_path / "out", "--metrics", "pesq_wb", "--nj", "2"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        first = tmp_path / "out" / "shards" / "scores.000001.jsonl"
        wait_until(lambda: first.exists() or process.poll() is not None)
        if ended_by == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        elif ended_by == "SIGKILL of a child":
            os.kill(next(c for c in children(process.pid) if "spawn_main" in command_line(c)), signal.SIGKILL)
        else:
            process.send_signal(signal.Signals[ended_by])
        said = process.communicate(timeout=30)[1]
        wait_until(lambda: not group_exists(process.pid))
        assert "Traceback" not in said and not (tmp_path / "out" / "summary.json").exists()
        if ended_by == "Ctrl-C":
            assert (process.returncode, said) == (130, "interrupted\n")
        if ended_by == "SIGKILL of a child":
            assert process.returncode == 1 and said.startswith("error: process ") and said.count("\n") == 1

        done = 32 * len(list((tmp_path / "out" / "shards").glob("scores.*")))
        assert 32 <= done < 160
        calls, compute = [], scoring.metrics.compute
        monkeypatch.setattr(scoring.metrics, "compute", lambda name, *args: calls.append(name) or compute(name, *args))
        run_score(long_set, tmp_path / "out", metrics="pesq_wb")
        assert len(calls) == 160 - done


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def command_line(pid):
    with open(f"/proc/{pid}/cmdline") as f:
        return f.read()


def group_exists(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "metrics",
    ["pesq_wb csig pesq_wbi covl csigi", "pesq_wbi csig pesq_wb csigi covl", "covl csigi pesq_wbi pesq_wb csig"],
)
def test_what_metrics_share_is_computed_once_in_any_order(small_set, enhanced, tmp_path, monkeypatch, metrics):
    import pesq

    from senet.metrics import stoi

    calls = {"pesq": 0, "_resample": 0}
    for module, name in ((pesq, "pesq"), (stoi, "_resample")):
        original = getattr(module, name)

        def counting(*args, original=original, name=name):
            calls[name] += 1
            return original(*args)

        monkeypatch.setattr(module, name, counting)
    run_score(small_set, tmp_path / "out", enhanced=enhanced, metrics=f"stoi {metrics} estoii stoii")
    assert calls == {"pesq": 10, "_resample": 10}  # the estimate and the noisy input of five utterances


HOLDS_NAN = "the estimate holds NaN or infinity"


def write_float(path, x):
    import soundfile

    soundfile.write(path, x, FS, subtype="FLOAT")


def test_the_noisy_input_is_scored_once_for_all_systems(small_set, enhanced, tmp_path, monkeypatch):
    import pesq

    calls, original = [], pesq.pesq
    monkeypatch.setattr(pesq, "pesq", lambda *args: calls.append(args) or original(*args))
    ref = shutil.copytree(small_set, tmp_path / "test")
    write_wav(ref / "wav" / "spk0-utt2.wav", np.zeros(17600 + 1600), FS)  # has no score, nor has its improvement
    write_table(ref / "wav.scp", [(utt, ref / "wav" / f"{utt}.wav") for utt in read_table(enhanced)])
    metrics, noisy = "pesq_wb pesq_wbi", ["--noisy_scores", tmp_path / "noisy"]
    run_score(ref, tmp_path / "noisy", metrics=metrics)
    assert len(calls) == 4
    run_score(ref, tmp_path / "alone", enhanced=enhanced, metrics=metrics)
    assert len(calls) == 4 + 5 + 4
    run_score(ref, tmp_path / "beside", *noisy, enhanced=enhanced, metrics=metrics)
    assert len(calls) == 4 + 5 + 4 + 5
    shard = "shards/scores.000001.jsonl"
    assert (tmp_path / "alone" / shard).read_bytes() == (tmp_path / "beside" / shard).read_bytes()
    assert "noisy input: the estimate is silent" in (tmp_path / "alone" / shard).read_text()
    del calls[:]
    write_table(ref / "wav.scp", list(read_table(enhanced).items()))  # now the noisy audio is other than in the folder
    run_score(ref, tmp_path / "other", *noisy, enhanced=enhanced, metrics=metrics)
    assert len(calls) == 5
    assert '"pesq_wbi": 0.0' in (tmp_path / "other" / shard).read_text()


class TestBadAudio:
    def score(self, small_set, enhanced, tmp_path, metrics="pesq_wb si_sdr"):
        run_score(small_set, tmp_path / "out", enhanced=enhanced, metrics=metrics)
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        return summary, read_table(tmp_path / "out" / "scores" / "si_sdr")

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda path, x: write_wav(path, x[:-2000], FS), "the lengths differ by more than 16 ms"),
            (lambda path, x: path.write_bytes(path.read_bytes()[:-99]), "enhanced audio: cut"),
            (lambda path, x: path.write_bytes(b""), "enhanced audio: empty"),
            (lambda path, x: path.unlink(), "enhanced audio: missing"),
            (lambda path, x: write_wav(path, np.stack([x, x], axis=1), FS), "enhanced audio: channels"),
            (lambda path, x: write_wav(path, x, 8000), "reference audio: rate differs from the enhanced audio's"),
            (lambda path, x: write_wav(path, 0 * x, FS), "the estimate is silent"),
            (lambda path, x: write_float(path, np.where(np.arange(len(x)) == 99, np.nan, x)), HOLDS_NAN),
            (lambda path, x: write_float(path, np.where(np.arange(len(x)) == 99, np.inf, x)), HOLDS_NAN),
        ],
    )
    def test_is_counted_with_its_reason_and_not_averaged(self, small_set, enhanced, tmp_path, damage, reason):
        from pathlib import Path

        path = Path(read_table(enhanced)["spk0-utt2"])
        damage(path, read(str(path))[0])
        summary, scores = self.score(small_set, enhanced, tmp_path)
        for found in summary["metrics"].values():
            assert found["reasons"] == {reason: {"n": 1, "utts": ["spk0-utt2"]}}
            assert (found["n"], found["failed"]) == (4, 1)
        assert scores["spk0-utt2"] == "nan"
        others = [float(v) for utt, v in scores.items() if utt != "spk0-utt2"]
        assert all(map(math.isfinite, others))
        assert summary["metrics"]["si_sdr"]["mean"] == pytest.approx(np.mean(others))

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda path, x: write_wav(path, x[:-2], FS), "reference audio: length"),
            (lambda path, x: write_wav(path, x, 8000), "reference audio: rate differs from the enhanced audio's"),
            (lambda path, x: write_wav(path, 0 * x, FS), "the reference is silent"),
            (lambda path, x: write_float(path, x / 0), "the reference holds NaN or infinity"),
            (lambda path, x: path.unlink(), "reference audio: missing"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
    def test_of_the_reference(self, small_set, enhanced, tmp_path, damage, reason):
        ref = shutil.copytree(small_set, tmp_path / "test")
        write_table(ref / "spk1.scp", [(utt, ref / "spk1" / f"{utt}.wav") for utt in read_table(enhanced)])
        path = ref / "spk1" / "spk0-utt2.wav"
        damage(path, read(str(path))[0])
        for found in self.score(ref, enhanced, tmp_path)[0]["metrics"].values():
            assert found["reasons"] == {reason: {"n": 1, "utts": ["spk0-utt2"]}}
            assert (found["n"], found["failed"]) == (4, 1)
        with open(tmp_path / "out" / "scores.csv", newline="") as f:
            assert [row["seconds"] for row in csv.DictReader(f)][1] == "1.200"  # all are as long as the set says

    def test_clipped_samples_are_counted(self, small_set, enhanced, tmp_path):
        path = read_table(enhanced)["spk1-utt1"]
        x = read(path)[0]
        x[100:103] = 2
        x[200] = -3
        write_wav(path, x, FS)
        assert self.score(small_set, enhanced, tmp_path)[0]["clipped"] == {"files": 1, "samples": 4}

    def test_all_failed(self, small_set, enhanced, tmp_path):
        for path in read_table(enhanced).values():
            write_wav(path, np.zeros(FS), FS)
        with pytest.raises(UserError, match="wav.scp: nothing could be scored, see above: the estimate is silent"):
            self.score(small_set, enhanced, tmp_path)
        # as the driver, for which other sets may have scores
        run_score(small_set, tmp_path / "out", "--collect", enhanced=enhanced, metrics="pesq_wb si_sdr")
        found = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]["si_sdr"]
        assert (found["mean"], found["std"], found["interval"], found["failed"]) == (None, None, [None, None], 5)


@pytest.fixture
def unpaired(small_set, tmp_path):
    """The set without its references."""
    for name in ("wav.scp", "utt2num_samples"):
        write_table(tmp_path / "blind" / name, list(read_table(small_set / name).items()))
    return tmp_path / "blind"


@pytest.fixture
def loudness(monkeypatch):
    """A metric that needs no reference; a list of the calls."""
    calls = []

    def loudness(est, sample_rate):
        calls.append(len(est))
        return np.sqrt(np.mean(est**2))

    monkeypatch.setitem(base._metrics(), "loudness", base.metric("Loudness", reference=False)(loudness))
    return calls


class TestWithoutReferences:
    def test_metrics_that_need_one_are_left_out_and_said(
        self, unpaired, small_set, enhanced, tmp_path, loudness, capsys
    ):
        metrics = "stoi loudness snri loudnessi"
        run_score(unpaired, tmp_path / "out", enhanced=enhanced, metrics=metrics)
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["metric_order"] == ["loudness", "loudnessi"]
        assert sorted(p.name for p in (tmp_path / "out" / "scores").iterdir()) == ["loudness", "loudnessi"]
        assert "blind: has no references; left out: stoi snri" in capsys.readouterr().err
        run_score(small_set, tmp_path / "paired", enhanced=enhanced, metrics=metrics)
        for name in ("loudness", "loudnessi"):
            assert (tmp_path / "out" / "scores" / name).read_bytes() == (
                tmp_path / "paired" / "scores" / name
            ).read_bytes()

    def test_jobs_repeated_runs_and_differences_work_too(self, unpaired, enhanced, tmp_path, loudness):
        run_score(unpaired, tmp_path / "noisy", metrics="loudness pesq_wb")
        for options in (["--job", "1/1"], ["--collect", "--noisy_scores", tmp_path / "noisy"]) * 2:
            run_score(unpaired, tmp_path / "out", *options, enhanced=enhanced, metrics="loudness pesq_wb")
        assert len(loudness) == 10
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert summary["metrics"]["loudness"]["over_noisy"]["mean"] < 0

    def test_other_utterances_are_refused(self, unpaired, enhanced, tmp_path, loudness):
        write_table(tmp_path / "fewer.scp", list(read_table(enhanced).items())[1:])
        with pytest.raises(UserError, match=r"not the utterances of .*/blind/wav.scp; 1 missing"):
            run_score(unpaired, tmp_path / "out", enhanced=tmp_path / "fewer.scp", metrics="loudness")

    def test_a_reference_that_cannot_be_read_does_not_matter_to_them(self, small_set, tmp_path, loudness):
        for name in ("wav.scp", "spk1.scp", "utt2num_samples"):
            write_table(tmp_path / "test" / name, list(read_table(small_set / name).items()))
        rows = read_table(tmp_path / "test" / "spk1.scp") | {"spk0-utt2": "/gone.wav"}
        write_table(tmp_path / "test" / "spk1.scp", list(rows.items()))
        run_score(tmp_path / "test", tmp_path / "out", metrics="snr loudness")
        found = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]
        assert found["snr"]["reasons"] == {"reference audio: missing": {"n": 1, "utts": ["spk0-utt2"]}}
        assert found["loudness"]["failed"] == 0

    def test_missing_models_are_a_reason(self, unpaired, tmp_path, monkeypatch):
        monkeypatch.setenv("DNSMOS_DIR", str(tmp_path))
        with pytest.raises(UserError, match="nothing could be scored, see above: not computed"):
            run_score(unpaired, tmp_path / "out", metrics="stoi dnsmos_ovrl dnsmos_p808")
        found = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]
        assert list(found) == ["dnsmos_ovrl", "dnsmos_p808"]
        for of_metric in found.values():
            assert (of_metric["mean"], of_metric["failed"]) == (None, 5)
            assert all(reason.startswith("not computed: ") for reason in of_metric["reasons"])


def test_what_a_missing_package_left_out_is_computed_when_it_is_there(small_set, tmp_path, monkeypatch, capsys):
    from senet import metrics

    def version(package, found=base.importlib.metadata.version):
        if package == "pesq":
            raise base.importlib.metadata.PackageNotFoundError
        return found(package)

    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pesq", None)
        without.setattr(base.importlib.metadata, "version", version)
        run_score(small_set, tmp_path, metrics="pesq_wb stoi")
        with pytest.raises(SystemExit) as ended:
            score.main(["--versions", "pesq_wb,si_sdr"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == ["pesq_wb 1 pesq not installed", "si_sdr 1"]
    found = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    assert list(found["pesq_wb"]["reasons"]) == ["not computed: pesq is not installed"] and found["stoi"]["n"] == 5
    computed, compute = [], metrics.compute
    monkeypatch.setattr(metrics, "compute", lambda name, *args: computed.append(name) or compute(name, *args))
    run_score(small_set, tmp_path, metrics="pesq_wb stoi")
    assert computed == ["pesq_wb"] * 5
    assert json.loads((tmp_path / "summary.json").read_text())["metrics"]["pesq_wb"]["n"] == 5


def test_scores_that_stay_comparable_when_an_enhanced_file_is_damaged(small_set, enhanced, noisy_scores, tmp_path):
    from pathlib import Path

    Path(read_table(enhanced)["spk0-utt2"]).write_bytes(b"")
    run_score(small_set, tmp_path / "out", "--noisy_scores", noisy_scores, enhanced=enhanced)
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["metrics"]["stoi"]
    assert (found["failed"], found["over_noisy"]["n"]) == (1, 4)


class TestOutputForTheCleanAudio:
    """--enhanced_clean, which the low-latency repository's own scores compare with."""

    NAMES = "lowlatency_repo_sdr lowlatency_repo_snri"

    @pytest.fixture
    def enhanced_clean(self, small_set, tmp_path):
        rows = []
        for utt, clean in read_table(small_set / "spk1.scp").items():
            write_wav(tmp_path / "cleaned" / f"{utt}.wav", 0.8 * read(clean)[0], FS)
            rows.append((utt, tmp_path / "cleaned" / f"{utt}.wav"))
        write_table(tmp_path / "cleaned.scp", rows)
        return tmp_path / "cleaned.scp"

    def test_is_what_these_metrics_receive(self, small_set, enhanced, enhanced_clean, tmp_path):
        from senet import metrics

        options = ["--enhanced_clean", enhanced_clean]
        run_score(small_set, tmp_path / "out", *options, enhanced=enhanced, metrics=self.NAMES + " sdr")
        scps = {"est": enhanced, "ref": small_set / "spk1.scp", "noisy": small_set / "wav.scp"}
        scps["enhanced_clean"] = enhanced_clean
        for utt in read_table(enhanced):
            signals = {k: read(read_table(scp)[utt])[0] for k, scp in scps.items()}
            for name in self.NAMES.split():
                found = float(read_table(tmp_path / "out" / "scores" / name)[utt])
                assert found == metrics.compute(name, **signals, sample_rate=FS)[0]

    def test_is_asked_for(self, small_set, enhanced, tmp_path):
        with pytest.raises(UserError, match=r"lowlatency_repo_sdr: .*enhance .*test/spk1\.scp, too.*--enhanced_clean"):
            run_score(small_set, tmp_path / "out", enhanced=enhanced, metrics=self.NAMES)

    def test_has_to_be_of_the_same_utterances(self, small_set, enhanced, enhanced_clean, tmp_path):
        write_table(tmp_path / "fewer.scp", list(read_table(enhanced_clean).items())[1:])
        with pytest.raises(UserError, match=r"not the utterances of .*fewer\.scp"):
            options = ["--enhanced_clean", tmp_path / "fewer.scp"]
            run_score(small_set, tmp_path / "out", *options, enhanced=enhanced, metrics=self.NAMES)

    def test_other_output_is_scored_again(self, small_set, enhanced, enhanced_clean, tmp_path):
        argv = [small_set, tmp_path / "out", "--enhanced_clean", enhanced_clean]
        run_score(*argv, enhanced=enhanced, metrics=self.NAMES)
        before = read_table(tmp_path / "out" / "scores" / "lowlatency_repo_sdr")
        path = read_table(enhanced_clean)["spk0-utt2"]
        write_wav(path, np.convolve(read(path)[0], [0.5, 0.5], "same"), FS)
        run_score(*argv, enhanced=enhanced, metrics=self.NAMES)
        after = read_table(tmp_path / "out" / "scores" / "lowlatency_repo_sdr")
        assert [utt for utt in before if before[utt] != after[utt]] == ["spk0-utt2"]


class TestExpected:
    """--expected: the noisy input's scores against those that were published."""

    @pytest.fixture
    def mean(self, noisy_scores):
        return json.loads((noisy_scores / "summary.json").read_text())["metrics"]["si_sdr"]["mean"]

    def run(self, small_set, tmp_path, capsys, *rows, metrics="si_sdr snr"):
        fixed = {"system": "noisy", "test_set": "test", "metric": "si_sdr", "source": "A", "status": "verified"}
        (tmp_path / "published.yaml").write_text(json.dumps([fixed | row for row in rows]))
        options = ["--expected", tmp_path / "published.yaml"]
        run_score(small_set, tmp_path / "out", *options, metrics=metrics)

    def test_value_within_its_tolerance(self, small_set, tmp_path, capsys, mean):
        self.run(small_set, tmp_path, capsys, {"value": mean + 0.04, "tolerance": 0.05, "n": 5})
        assert "test: SI-SDR (dB) as published" in capsys.readouterr().err

    def test_values_outside_are_named_with_what_may_be_wrong(self, small_set, tmp_path, capsys, mean):
        rows = [{"value": mean + 0.06, "tolerance": 0.05}, {"metric": "snr", "value": 99, "tolerance": 1, "n": 5}]
        message = (
            rf"test: the noisy input .*SI-SDR \(dB\) is {mean:.4f}, published {mean + 0.06:g} \(tolerance 0.05\); "
            r"SNR \(dB\) is .*, published 99 \(tolerance 1\)\. .*resampling, a wrong channel.*archive"
        )
        with pytest.raises(UserError, match=message):
            self.run(small_set, tmp_path, capsys, *rows)
        assert (tmp_path / "out" / "summary.json").exists()  # to look at

    def test_another_number_of_utterances_is_not_checked(self, small_set, tmp_path, capsys):
        far = {"value": 0.1, "tolerance": 0.01, "n": 824}
        self.run(small_set, tmp_path, capsys, *({"metric": m, **far} for m in ("snr", "stoi")))
        assert "test: not checked: SNR (dB), STOI: 5 utterances here, 824 published" in capsys.readouterr().err

    def test_metric_that_was_not_scored_is_not_checked(self, small_set, tmp_path, capsys):
        self.run(small_set, tmp_path, capsys, {"metric": "stoi", "value": 0.1, "tolerance": 0.1})
        assert "test: not checked: STOI: there is no score" in capsys.readouterr().err

    def test_metric_that_failed_everywhere_is_not_as_published(self, small_set, tmp_path, capsys):
        for path in read_table(small_set / "spk1.scp").values():
            write_wav(tmp_path / "spk1" / path.rsplit("/", 1)[1], np.zeros(FS), FS)
        for name in ("wav.scp", "utt2num_samples"):
            write_table(tmp_path / "test" / name, list(read_table(small_set / name).items()))
        rows = [(utt, tmp_path / "spk1" / f"{utt}.wav") for utt in read_table(small_set / "wav.scp")]
        write_table(tmp_path / "test" / "spk1.scp", rows)
        with pytest.raises(UserError, match=r"SI-SDR \(dB\) is nan, published 5 "):
            self.run(tmp_path / "test", tmp_path, capsys, {"value": 5, "tolerance": 1})

    @pytest.mark.parametrize("row", [{"system": "A"}, {"test_set": "other"}, {}])
    def test_other_rows_do_not_count(self, small_set, tmp_path, capsys, row):
        self.run(small_set, tmp_path, capsys, {"value": 99, **({"tolerance": 0.1} if row else {}), **row})
        told = capsys.readouterr().err
        assert "test: nothing to check: " in told and "as published" not in told and "not checked" not in told

    def test_file_is_read_before_any_work(self, small_set, tmp_path, capsys):
        with pytest.raises(UserError, match=r"entry 1 \(noisy\): tolerance '0' is not a number above 0"):
            self.run(small_set, tmp_path, capsys, {"value": 1, "tolerance": 0})
        assert not (tmp_path / "out").exists()


class TestFolders:
    """Audio in folders, without a data directory."""

    def summary(self, out):
        return json.loads((out / "summary.json").read_text())

    def test_score_as_the_same_files_in_a_data_directory(self, small_set, noisy_scores, enhanced, tmp_path):
        for folder, others in ((enhanced.parent / "wav", "--noisy"), (small_set / "wav", None)):
            options = [others, small_set / "wav"] if others else []
            metrics = METRICS if others else "pesq_wb stoi si_sdr"
            out = tmp_path / "scores" / ("system" if others else "noisy")
            run_score(small_set / "spk1", out, *options, enhanced=folder, metrics=metrics)
        assert files(out / "scores") == {p: x for p, x in files(noisy_scores / "scores").items() if p.name != "snri"}
        summary = self.summary(out)
        assert (summary["test_set"], summary["references"]) == ("spk1", self.summary(noisy_scores)["references"])
        assert self.summary(tmp_path / "scores" / "system")["metrics"]["snri"]["n"] == 5

    def test_are_compared_by_the_names_of_the_outputs(self, small_set, enhanced, tmp_path):
        from senet.bin import compare

        for name, folder in (("before", small_set / "wav"), ("after", enhanced.parent / "wav")):
            run_score(small_set / "spk1", tmp_path / name, enhanced=folder, metrics="stoi snr")
        paths = [str(tmp_path / name) for name in ("before", "after", "RESULTS.md")]
        assert not compare.main([*paths[:2], "--baseline", "before", "--out", paths[2]])
        page = (tmp_path / "RESULTS.md").read_text()
        assert "| before |" in page and "| after |" in page and "Difference to before" in page

    def test_any_depth_and_format_but_the_same_names(self, small_set, tmp_path):
        import soundfile

        for utt, path in read_table(small_set / "spk1.scp").items():
            target = tmp_path / "ref" / utt[:4] / f"{utt}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, read(path)[0], FS, "PCM_16")
        shutil.copytree(tmp_path / "ref", tmp_path / "enhanced")
        run_score(tmp_path / "ref", tmp_path / "out", enhanced=tmp_path / "enhanced", metrics="stoi")
        assert list(read_table(tmp_path / "out" / "scores" / "stoi"))[0] == "spk0-spk0-utt0"
        (tmp_path / "enhanced" / "spk0" / "spk0-utt2.flac").rename(tmp_path / "enhanced" / "new.flac")
        with pytest.raises(
            UserError, match="1 missing, such as 'spk0-spk0-utt2'; 1 without a reference, such as 'new'"
        ):
            run_score(tmp_path / "ref", tmp_path / "out", enhanced=tmp_path / "enhanced", metrics="stoi")

    def test_what_cannot_be(self, small_set, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="empty: holds no audio"):
            run_score(small_set, tmp_path / "out", enhanced=tmp_path / "empty")
        with pytest.raises(
            UserError, match="snri: is the improvement over the noisy input; give that, too, as --noisy"
        ):
            run_score(small_set / "spk1", tmp_path / "out", enhanced=small_set / "wav")
        with pytest.raises(UserError, match="has its own, wav.scp; leave it out"):
            run_score(small_set, tmp_path / "out", "--noisy", small_set / "wav")

    def test_a_data_directory_needs_no_lengths(self, small_set, noisy_scores, tmp_path):
        ref = tmp_path / "test"
        for name in ("wav.scp", "spk1.scp", "utt2spk"):
            write_table(ref / name, list(read_table(small_set / name).items()))
        run_score(ref, tmp_path / "out")
        assert (tmp_path / "out" / "scores.csv").read_text() == (noisy_scores / "scores.csv").read_text()


def test_scores_of_metrics_that_are_no_longer_asked_for_go(small_set, tmp_path):
    run_score(small_set, tmp_path, metrics="snr ssnr")
    (tmp_path / "scores" / "mine").write_text("kept\n")
    run_score(small_set, tmp_path, metrics="ssnr snri")
    assert sorted(p.name for p in (tmp_path / "scores").iterdir()) == ["mine", "snri", "ssnr"]


def test_a_killed_run_goes_on_within_a_shard(small_set, tmp_path, monkeypatch):
    calls, compute = [], scoring.metrics.compute

    def dying(name, *args):
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return compute(name, *args)

    monkeypatch.setattr(scoring, "SAVE_EVERY", 0)
    monkeypatch.setattr(scoring.metrics, "compute", dying)
    with pytest.raises(KeyboardInterrupt):
        run_score(small_set, tmp_path / "out", metrics="snr")
    run_score(small_set, tmp_path / "out", metrics="snr")
    assert len(calls) == 4 + 2, "three are known"
    run_score(small_set, tmp_path / "other", metrics="snr")
    assert files(tmp_path / "out") == files(tmp_path / "other")


def test_a_reason_is_told_once_with_its_metrics_and_the_files(small_set, enhanced, tmp_path, capsys):
    path = read_table(enhanced)["spk0-utt2"]
    write_wav(path, read(path)[0][:-2000], FS)
    run_score(small_set, tmp_path / "out", enhanced=enhanced)
    said = capsys.readouterr().err
    assert said.count("the lengths differ") == 2, "of the utterance and of the set"
    assert "pesq_wb stoi si_sdr snri failed for 1: the lengths differ by more than 16 ms, such as spk0-utt2" in said
    assert f"{path}: 17200 samples at 16000 Hz" in said and "spk0-utt2.wav: 19200 samples at 16000 Hz" in said


class TestRefusals:
    def test_other_utterances(self, small_set, enhanced, tmp_path):
        rows = list(read_table(enhanced).items())
        write_table(tmp_path / "other.scp", [*rows[:-2], ("zz-1", rows[0][1])])
        with pytest.raises(UserError, match=r"2 missing, such as 'spk1-utt1'; 1 without a reference, such as 'zz-1'"):
            run_score(small_set, tmp_path / "out", enhanced=tmp_path / "other.scp")

    def test_no_such_scp(self, small_set, tmp_path):
        with pytest.raises(
            UserError, match="--enhanced nope.scp: no such file; give a folder of audio, or the wav.scp"
        ):
            run_score(small_set, tmp_path / "out", enhanced="nope.scp")

    def test_unknown_metric_before_any_work(self, small_set, tmp_path):
        with pytest.raises(UserError, match="no metric 'pesq'; did you mean 'pesq_"):
            run_score(small_set, tmp_path / "out", metrics="stoi pesq")
        assert not (tmp_path / "out").exists()

    def test_improvement_in_what_the_noisy_input_has_no_score_of(self, small_set, tmp_path):
        with pytest.raises(UserError, match="no metric 'lowlatency_repo_sdri': .* has no value for the noisy input"):
            run_score(small_set, tmp_path / "out", metrics="lowlatency_repo_sdri")

    def test_no_references_and_no_metric_that_can_do_without(self, unpaired, tmp_path):
        with pytest.raises(UserError, match="has no spk1.scp, and stoi, si_sdri need clean references; leave this set"):
            run_score(unpaired, tmp_path / "out", metrics="stoi si_sdri")
        assert not (tmp_path / "out").exists()

    def test_noisy_scores_of_another_list(self, small_set, noisy_scores, enhanced, tmp_path):
        for name in ("wav.scp", "spk1.scp", "utt2num_samples"):
            write_table(tmp_path / "half" / name, list(read_table(small_set / name).items())[:3])
        write_table(tmp_path / "half.scp", list(read_table(enhanced).items())[:3])
        with pytest.raises(UserError, match=r"cannot be put side by side: 2 utterances are only in .*'spk1-utt1'"):
            options = ["--noisy_scores", noisy_scores]
            run_score(tmp_path / "half", tmp_path / "out", *options, enhanced=tmp_path / "half.scp", metrics="snri")

    def test_noisy_scores_without_the_metric(self, small_set, noisy_scores, tmp_path):
        with pytest.raises(UserError, match="was not scored with 'snr'"):
            run_score(small_set, tmp_path / "out", "--noisy_scores", noisy_scores, metrics="snr")
        assert not (tmp_path / "out").exists()  # said before any work
