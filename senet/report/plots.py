"""Pictures of an experiment: how its losses fell, and what it does to one recording. matplotlib is imported late."""

import io
import json
from pathlib import Path

import numpy as np

from senet import metrics
from senet.data.audio import read
from senet.data.datadir import DataDir
from senet.data.scp import Scp
from senet.files import whole_file

SECONDS_SHOWN = 12
_RANGE_DB = 80


def curves(expdir):
    """Draw ``expdir/curves.png`` from train.jsonl; returns its path, or None where there is nothing to draw yet."""
    path = Path(expdir) / "train.jsonl"
    if not path.exists():
        return None
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    train, valid = ([r for r in records if r["event"] == event] for event in ("train", "valid"))
    if not records:
        return None
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    axes.plot(
        [r["step"] for r in train], [r["loss"] for r in train], color="0.75", lw=1, label="training, between log lines"
    )
    if valid:
        steps = [r["step"] for r in valid]
        axes.plot(steps, [r["train_loss"] for r in valid], "C0.-", label="training, epoch mean")
        axes.plot(steps, [r["loss"] for r in valid], "C1.-", label="validation")
        best = min(valid, key=lambda r: r["loss"])
        axes.plot(
            best["step"],
            best["loss"],
            "C3o",
            mfc="none",
            ms=9,
            label=f"best: {best['loss']:.4g}, epoch {best['epoch']}",
        )
    axes.set(xlabel="step (updates)", ylabel="loss", title=Path(expdir).name)
    axes.grid(alpha=0.3)
    axes.legend()
    return _save(figure, path.with_name("curves.png"))


def spectrograms(result, baseline, name):
    """Draw ``spectrograms.png`` beside a result: noisy, enhanced and, where there is a reference, clean.

    The utterance is the one of median improvement.

    Args:
        result, baseline: ``senet.report.results.Result`` of the system and of the noisy input, comparable.
        name: of the metric whose improvement chooses the utterance.
    Returns:
        path, or None when the metric failed everywhere or the audio is not there any more.
    """
    utts, scores = result.scores(name)
    before = baseline.scores(name)[1]
    improvement = scores - before
    order = np.argsort(improvement, kind="stable")[: np.count_nonzero(np.isfinite(improvement))]  # nan sorts last
    enhanced, ref = Path(result.summary["enhanced"]), Path(result.summary["ref"])
    if not len(order) or not (enhanced.exists() and ref.is_dir()):
        return None
    i = order[len(order) // 2]
    data, label = DataDir(ref), metrics.label(name)
    panels = [(f"noisy: {label} {before[i]:.2f}", data.noisy), (f"enhanced: {label} {scores[i]:.2f}", Scp(enhanced))]
    if data.clean is not None:
        panels.append(("clean", data.clean))
    spectra = []
    for _, scp in panels:
        x, rate = read(scp[utts[i]], root=scp.root)
        spectra.append(_power_db(x[: SECONDS_SHOWN * rate], rate))
    loudest = max(s.max() for s in spectra)
    figure = _figure(9, 2.7 * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, sharey=True)
    for axes, (title, _), spectrum in zip(grid, panels, spectra, strict=True):
        image = axes.imshow(
            spectrum - loudest,
            origin="lower",
            aspect="auto",
            cmap="magma",
            interpolation="nearest",
            vmin=-_RANGE_DB,
            vmax=0,
            extent=(0, min(len(x) / rate, SECONDS_SHOWN), 0, rate / 2000),
        )
        axes.set(title=title, ylabel="frequency (kHz)")
    grid[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=grid, label="power (dB, 0 is the loudest of all)")
    figure.suptitle(f"{result.path.parent.name}, {result.test_set}: {utts[i]} (median improvement)")
    return _save(figure, result.path / "spectrograms.png")


def _power_db(x, rate):
    """(F, T) power in dB of a Hann-windowed STFT of 32 ms frames every 8 ms."""
    size, hop = round(0.032 * rate), round(0.008 * rate)
    padded = np.pad(x.astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    return 10 * np.log10(np.abs(np.fft.rfft(frames).T) ** 2 + 1e-10)


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=110, layout="constrained")


def _save(figure, path):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with whole_file(path, "wb") as f:
        f.write(buffer.getvalue())
    return path
