import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = "librispeech_mssnsd/train_lowlatency_causal_small"


def bench(script, *words):
    command = [sys.executable, ROOT / "tools" / "bench" / script, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


def test_models_are_timed_against_their_plain_reading(tmp_path):
    figures = tmp_path / "figures.json"
    words = ["--batch_size", 1, "--seconds", 0.2, "--repeats", 1, "--json", figures]
    done = bench("models.py", SMALL, "dns5/train_logmmse", *words)
    assert done.returncode == 0, done.stderr
    assert f"| {SMALL} | 1,255,947 |" in done.stdout
    results = json.loads(figures.read_text())["results"]
    small, classical = results[SMALL], results["dns5/train_logmmse"]
    assert small["difference"] < 1e-4 and small["training_ratio"] > 0 and small["real_time_ratio"] > 0
    assert classical["real_time"] > 0 and classical["note"] == "no plain reading" and "training" not in classical


def test_a_system_that_there_is_not_is_refused():
    done = bench("models.py", "train_lowlatency_tiny")
    assert done.returncode == 2 and "no configuration is called train_lowlatency_tiny" in done.stderr


def test_training_steps_of_a_configuration_are_told_in_one_row(small_set, tmp_path):
    figures = tmp_path / "figures.json"
    words = ["--steps", 5, "--config", ROOT / "egs/mini/conf/train_lowlatency.yaml", "--train", small_set]
    done = bench("train_steps.py", *words, "--batch_size", 2, "--crop_seconds", 0.5, "--json", figures)
    assert done.returncode == 0, done.stderr
    assert "step 5/5  loss" in done.stderr and "| train_lowlatency | CPU" in done.stdout
    told = json.loads(figures.read_text())
    assert told["steps_per_second"] > 0 and told["peak_memory_mib"] > 100 and 0.5 < told["audio_seconds_per_step"] <= 1


def test_every_mode_of_a_system_is_trained_on_the_same_batches(tmp_path):
    figures = tmp_path / "figures.json"
    sizes = [w for name in ("channels", "maps", "lstm_units", "fc_units") for w in (f"--model_conf.{name}", 4)]
    ours = ["mini/train_lowlatency", "--modes", "fp32", "bf16+checkpointing", "--steps", 3, "--num_workers", 0]
    written = ["--json", figures, "--curves", tmp_path / "curves.html"]
    done = bench("training.py", *ours, *written, "--", "--batch_size", 2, "--crop_seconds", 0.5, *sizes)
    assert done.returncode == 0, done.stdout + done.stderr
    exact, rounded = json.loads(figures.read_text())
    assert "| mini/train_lowlatency | bf16+checkpointing | 2 |" in done.stdout
    assert len(exact["losses"]) == 8 and 0 < exact["waiting"] < 1 and exact["steps/s"] > 0 and exact["peak MiB"] > 100
    pairs = zip(exact["losses"], rounded["losses"], strict=True)
    assert exact["losses"] != rounded["losses"] and all(abs(a - b) < 0.5 for a, b in pairs)
    drawn = (tmp_path / "curves.html").read_text()
    assert "difference to fp32" in drawn
    assert [path.count("L") for path in re.findall('<path class="line" d="(.*?)"', drawn)] == [7, 7, 7]


def test_what_does_not_train_is_said_in_its_row():
    done = bench("training.py", "mini/train_lowlatency", "--modes", "fp32", "--", "--optim", "Adem")
    assert done.returncode == 1 and "| mini/train_lowlatency | fp32 |  | error: optim: 'Adem' not" in done.stdout


def test_the_loader_is_timed_against_other_ways_and_its_memory_measured(tmp_path):
    figures = tmp_path / "figures.json"
    done = bench("loader.py", "--items", 8, "--rounds", 1, "--seconds", 1, "--workers", 0, 1, "--json", figures)
    assert done.returncode == 0, done.stderr
    told = json.loads(figures.read_text())
    assert list(told) == [f"rir {rir}, {workers} workers" for workers in (0, 1) for rir in (False, True)]
    ways = told["rir True, 0 workers"]
    assert ways["bytes_per_item"] > 64000 and ways["senet"]["ratio"] == 1 and ways["dns"]["processor_ms"] > 0
    done = bench("loader.py", "--sources", 3000)
    assert done.returncode == 0 and "3000 recordings in each set: opened in" in done.stdout


def test_scoring_is_timed_against_a_plain_script_that_finds_the_same(tmp_path):
    figures = tmp_path / "figures.json"
    done = bench("scoring.py", "--utterances", 2, "--json", figures)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(figures.read_text())
    assert told["utterances"] == 2 and 0 < told["outside"] < 1 and told["difference"]["pesq_wb"] == 0
    assert set(told["seconds"]) == set(told["start_up"]) == {"plain", "senet, 1 process", "senet, 2 processes"}
    assert 0 < told["frame_loops"] < 1


def test_a_comparison_is_timed_against_a_loop_of_bootstraps(tmp_path):
    figures = tmp_path / "figures.json"
    done = bench("compare.py", "--sizes", 300, "--systems", 2, "--columns", 2, "--json", figures)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(figures.read_text())
    assert row["utterances"] == 300 and row["ratio"] > 0 and row["compare"]["peak_mb"] > 50


def test_runners_are_timed():
    done = bench("runners.py", "--repeats", 1)
    assert done.returncode == 0, done.stderr
    assert "2 tasks of 'true', median of 1" in done.stdout and "run.py" in done.stdout


def test_inference_is_timed_live_and_offline_over_length_and_over_many_files(tmp_path):
    figures = tmp_path / "figures.json"
    small = "mini/train_lowlatency"
    done = bench("inference.py", small, "--quick", "--no_onnx", "--long", small, "--short", small, "--json", figures)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(figures.read_text())
    live = told["systems"][small]
    assert live["difference"] < 1e-5 and live["offline"] > 0 and live["stream"] > 0 and live["ratio"] > 0
    assert 0 < live["step_ms"][0] <= live["step_ms"][1] <= live["step_ms"][2] and live["latency_ms"] > 24
    assert f"| {small} | 379,931 | 24.875 |" in done.stdout
    assert min(told["memory"][small]["peak_mib"]) > 50 and 0 < told["files"][small]["outside"] < 1
    assert min(told["files"][small]["files_per_second"]) > 0


def test_a_system_that_is_to_be_used_and_that_there_is_not_is_refused():
    done = bench("inference.py", "train_tiny", "--quick")
    assert done.returncode == 1 and "no configuration is called train_tiny" in done.stderr
