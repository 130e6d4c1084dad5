"""Experiment folders with simulated scores, as training and scoring leave them, made in no time."""

import csv
import hashlib
import json

import numpy as np

from senet import metrics, records
from senet.data.audio import read, write_wav
from senet.data.scp import Scp, read_table, write_table
from senet.files import write_json
from senet.report.numbers import plain
from senet.report.results import LABELS
from senet.report.scoring import SHARD_SIZE
from senet.report.statistics import mean_interval

RATE = 16000
METRICS = ("pesq_wb", "stoi", "si_sdr")
SYSTEMS = {"noisy": 0.0, "train_gagnet": 1.0, "train_lowlatency_small": 0.6}
_SCALE = {"pesq_wb": (2.0, 0.4, 0.7), "stoi": (0.9, 0.04, 0.03), "si_sdr": (8.0, 3.0, 6.0), "llr": (0.6, 0.1, -0.2)}


def make_experiments(
    root, n=60, systems=SYSTEMS, names=METRICS, test_set="test", audio=False, seed=0, failed=0, labels=True, utt="utt"
):
    """Folders ``root/exp/<system>`` of systems that were all scored on one test set.

    Args:
        n: utterances, of 6 speakers, 4 noises, 4 SNRs.
        systems: name -> gain over the noisy input (in units that each metric has for itself; 0: nothing but chance).
        names: of the metrics.
        audio: write ``root/dump/<test_set>`` and the enhanced audio, tone bursts in noise of about 1.5 s.
        failed: utterances of each system but noisy for which the first metric has no score.
        utt: the utterances' ids are ``spk<number>-<utt><number>``.
        labels: whether scores.csv says speaker, snr, noise, level, rir.
    Returns:
        the folders, in the order of ``systems``.
    """
    rng = np.random.default_rng(seed)
    speakers = np.arange(n) * 6 // n
    utts = [f"spk{speaker}-{utt}{i:05d}" for i, speaker in enumerate(speakers)]
    snr = rng.choice([-5.0, 0.0, 5.0, 10.0], n)
    known = {
        "speaker": [f"spk{s}" for s in speakers],
        "snr": [f"{x:g}" for x in snr],
        "noise": rng.choice(["Babble", "Bus", "Cafe", "Typing"], n),
        "level": [f"{x:.2f}" for x in rng.uniform(-35, -15, n)],
        "rir": rng.choice(["room1", "room2"], n),
    }
    samples = rng.integers(RATE, 2 * RATE, n) if audio else (RATE * rng.gamma(4, 1.2, n)).astype(int) + RATE
    table = (known if labels else {}) | {"seconds": [f"{x / RATE:.3f}" for x in samples]}
    difficulty = rng.standard_normal(n) + snr / 5
    if audio:
        _write_audio(root / "dump" / test_set, utts, samples, snr)
    scp = Scp(root / "dump" / test_set / "wav.scp") if audio else None
    digest = _keys_digest(root, utts)
    folders = []
    for name, gain in systems.items():
        exp = root / "exp" / name
        out = exp / f"enhanced_{test_set}"
        scores, reasons = {}, {}
        for metric in names:
            base, spread, step = _SCALE.get(metric, (0.0, 1.0, 1.0))
            scores[metric] = base + spread * difficulty + gain * step + 0.3 * spread * rng.standard_normal(n)
            if failed and gain and metric == names[0]:
                scores[metric][rng.choice(n, failed, replace=False)] = np.nan
            lost = [utts[i] for i in np.flatnonzero(np.isnan(scores[metric]))]
            reasons[metric] = {"the estimate is silent": {"n": len(lost), "utts": lost[:20]}} if lost else {}
        _write_scores(out, utts, table, scores, samples)
        summary = {
            "test_set": test_set,
            "enhanced": str(out / "wav.scp" if gain or not audio else scp.path),
            "ref": str(root / "dump" / test_set),
            "n": n,
            "utterances": digest,
            "references": "f" * 64,
            "sample_rate": RATE,
            "seconds": float(samples.sum() / RATE),
            "real_time_factor": {"computing": 0.1, "audio": 2.0, "device": "cpu", "threads": 1} if gain else None,
            "clipped": {"files": 0, "samples": 0},
            "metric_order": list(names),
            "metrics": {m: _summary(m, scores[m], reasons[m]) for m in names},
        }
        write_json(out / "summary.json", summary)
        agree(out)
        if gain:
            _write_training(exp, gain, rng)
        if audio and gain:
            _write_enhanced(root / "dump" / test_set, out, utts, gain)
        if audio:
            _write_digests(root / "dump" / test_set, out, summary["enhanced"], utts)
        folders.append(exp)
    return folders


def agree(out):
    """Let the summary of a result be that of its score files, as they are now."""
    summary = json.loads((out / "summary.json").read_text())
    for name, found in summary["metrics"].items():
        found["sha256"] = hashlib.sha256((out / "scores" / name).read_bytes()).hexdigest()
    write_json(out / "summary.json", summary)


def _keys_digest(root, utts):
    write_table(root / ".keys", [(utt, "x") for utt in utts])
    return Scp(root / ".keys").keys_digest.hex()


def _summary(name, values, reasons):
    scored = values[np.isfinite(values)]
    return {
        **plain(mean_interval(scored)),
        "std": float(scored.std(ddof=1)) if len(scored) > 1 else None,
        "failed": len(values) - len(scored),
        "reasons": reasons,
        "version": metrics.find(name)[0].version,
    }


def _write_scores(out, utts, table, scores, samples):
    for name, values in scores.items():
        write_table(out / "scores" / name, zip(utts, map(repr, values.tolist()), strict=True))
    with open(out / "scores.csv", "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["utt", *(LABELS.get(label, label) for label in table), *scores, "samples", "clipped"])
        columns = [values.tolist() for values in scores.values()]
        writer.writerows(zip(utts, *table.values(), *columns, samples, [0] * len(utts), strict=True))


def _write_training(exp, gain, rng):
    """record.json, config.yaml and train.jsonl of a short training."""
    record = {
        "command": f"python -m senet.bin.train --config conf/{exp.name}.yaml",
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "seed": 7,
        "threads": 1,
        "parameters": int(1e6 * (1 + gain)),
        "macs_per_second": int(2e9 * (1 + gain)),
        "hardware": {"cpu": "CPU X", "cores": 2, "gpus": []},
        "versions": {"torch": "2.13", "numpy": "2.0"},
        "data": {"train": {"path": "dump/raw/train", "utterances": 40}},
        "written": "2026-01-02T03:04:05+0000",
        "training_seconds": 1800.0,
    }
    write_json(exp / "record.json", record)
    (exp / "config.yaml").write_text(f"model: {exp.name}.Net\nseed: 7\nbatch_size: 4\n")
    with open(exp / "train.jsonl", "w", encoding="utf-8") as f:
        for epoch in range(1, 6):
            for step in range(40 * epoch - 30, 40 * epoch + 1, 10):
                loss = 3 / step**0.3 + 0.05 * rng.standard_normal()
                f.write(json.dumps({"event": "train", "step": step, "epoch": epoch, "loss": loss}) + "\n")
            valid = {"event": "valid", "step": 40 * epoch, "epoch": epoch, "loss": 2.5 / epoch**0.3}
            f.write(json.dumps(valid | {"train_loss": 2.4 / epoch**0.3}) + "\n")


def _write_audio(folder, utts, samples, snr):
    rng = np.random.default_rng(1)
    for utt, length, level in zip(utts, samples, snr, strict=True):
        t = np.arange(length) / RATE
        tone = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate(150 * np.arange(1, 12), 1))
        clean = 0.05 * (np.sin(2 * np.pi * 3 * t) > -0.3) * tone
        noise = rng.standard_normal(length)
        noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-level / 20)
        write_wav(folder / "spk1" / f"{utt}.wav", clean, RATE)
        write_wav(folder / "wav" / f"{utt}.wav", np.clip(clean + noise, -1, 1), RATE)
    for kind, name in (("wav", "wav.scp"), ("spk1", "spk1.scp")):
        write_table(folder / name, [(utt, folder / kind / f"{utt}.wav") for utt in utts])
    write_table(folder / "utt2num_samples", zip(utts, samples, strict=True))
    write_table(folder / "utt2spk", [(utt, utt.split("-")[0]) for utt in utts])


def _write_enhanced(data, out, utts, gain):
    """The share ``gain`` of the noise taken away."""
    for utt in utts:
        clean, noisy = (read(str(data / kind / f"{utt}.wav"))[0] for kind in ("spk1", "wav"))
        write_wav(out / "wav" / f"{utt}.wav", noisy + min(gain, 0.9) * (clean - noisy), RATE)
    write_table(out / "wav.scp", [(utt, out / "wav" / f"{utt}.wav") for utt in utts])


def _write_digests(data, out, enhanced, utts):
    """Of the audio that was scored, in shards as scoring leaves them."""
    signals = {"enhanced": read_table(enhanced), "reference": read_table(data / "spk1.scp")}
    signals["noisy"] = read_table(data / "wav.scp")
    for start in range(0, len(utts), SHARD_SIZE):
        found = (
            {"utt": utt, "audio": {what: records.audio_digest(*read(scp[utt])) for what, scp in signals.items()}}
            for utt in utts[start : start + SHARD_SIZE]
        )
        records.write(out / "shards" / f"scores.{start // SHARD_SIZE + 1:06d}.jsonl", {}, found)
