"""The folder of an experiment: what it is, how it was made, and that nobody continues it as something else."""

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from senet import checkpoint, config
from senet.data.scp import read_ints
from senet.errors import UserError
from senet.files import sha256, whole_file, write_json
from senet.provenance import cpu_name, git_state, versions

# Options that a run may change when it continues: where things are, how long and how fast, what is kept and told.
# Data may move as well: what counts is its fingerprint.
CHANGEABLE = {
    "config", "expdir", "init_from", "train", "valid", "data", "bad_audio", "mix_device", "max_epoch", "max_steps",
    "patience", "ngpu", "join_seconds", "micro_batch", "oom", "compile", "checkpointing",
    "num_threads", "num_workers", "log_every", "save_every", "keep_best", "keep_last",
    "max_nonfinite", "tensorboard", "tensorboard_audio",
}  # fmt: skip


class Experiment:
    """``expdir`` with its config.yaml, run.sh and record.json.

    Args:
        expdir: folder, made when missing.
        options: all option values, nested ones resolved.
        defaults: the same without any of the user's choices; an option that the folder's config.yaml does not know
            was added to senet since, and its default is what it was trained with.
        argv: the command line, to repeat it.
    Raises:
        UserError: checkpoints of another configuration or other data are there; lists the differences.
    """

    def __init__(self, expdir, options, defaults, argv):
        self.expdir, self.options, self.defaults = Path(expdir), options, defaults
        self.data = describe_train(options) | {"valid": describe_data(options["valid"])}
        self.record = self._read_record()
        if checkpoint.entries(self.expdir / "checkpoints"):
            self._refuse_differences()
        config.save_resolved(self.expdir / "config.yaml", options)
        self._write_run_sh(argv)
        self.record |= {
            "command": shlex.join(["python", "-m", "senet.bin.train", *argv]),
            "seed": options["seed"],
            "data": self.data,
            "git": git_state(Path(__file__).parent),
            "versions": versions("senet", "torch", "numpy", "soundfile", "configargparse"),
            "hardware": hardware(),
        }

    def write_record(self, **values):
        """Write record.json with ``values`` (parameters, threads, training_seconds, ...) added."""
        self.record |= values | {"written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        write_json(self.expdir / "record.json", self.record)

    def _read_record(self):
        path = self.expdir / "record.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _refuse_differences(self):
        now = _flat(self.options)
        before = {k: v for k, v in _flat(self.defaults).items() if k in now}
        before |= _flat(config.load_resolved(self.expdir))
        lines = [
            f"  {key}: {_shown(before, key)} there, {_shown(now, key)} now"
            for key in sorted(before | now)
            if key.partition(".")[0] not in CHANGEABLE and before.get(key) != now.get(key)
        ]
        for name, there in self.record.get("data", {}).items():
            here = self.data.get(name)
            if here is None or there["fingerprint"] != here["fingerprint"]:
                found = f"{_summary(here)} now, with other lists" if here else "none now"
                lines.append(f"  {name} data: {_summary(there)} there, {found}")
            elif there.get("plan", here.get("plan")) != here.get("plan"):  # an earlier version did not note it
                lines.append(f"  {name} data: {_summary(here)} were mixed by another plan.tsv since")
        if lines:
            raise UserError(
                f"{self.expdir}: holds checkpoints of an experiment with other settings:\n" + "\n".join(lines) + "\n"
                f"Give this one a folder of its own (--tag NAME of run.sh, --expdir here), or remove {self.expdir}."
            )

    def _write_run_sh(self, argv):
        here = os.path.relpath(Path.cwd(), self.expdir)
        python = "python" if Path("path.sh").exists() else shlex.quote(sys.executable)
        with whole_file(self.expdir / "run.sh") as f:
            f.write(
                "#!/usr/bin/env bash\n"
                "# Trains what is in this folder, or goes on with it; options given here come last and win.\n"
                f'cd "$(dirname "$0")"/{shlex.quote(here)} || exit 1\n'
                "if [ -f path.sh ]; then . ./path.sh; fi\n"
                f'exec {python} -m senet.bin.train {shlex.join(argv)} "$@"\n'
            )
        (self.expdir / "run.sh").chmod(0o755)


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif value != {}:
            flat[prefix + str(key)] = value
    return flat


def _shown(values, key):
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not set"


def _summary(data):
    unit = "utterances" if "utterances" in data else "recordings"
    return f"{data[unit]} {unit} of {data['path']}"


def describe_train(options):
    """name -> description of what is trained on: a data directory, or the source sets of a mixing configuration."""
    if not options.get("mix_conf"):
        return {"train": describe_data(options["train"])}
    names = {which: options["mix_conf"].get(which) for which in ("speech", "noise", "rir")}
    return {f"train {k}": describe_sources(Path(options["data"]) / name) for k, name in names.items() if name}


def describe_sources(folder):
    """Path, number of recordings, and a SHA-256 over the lists that say what is in them."""
    lists = ("utt2num_samples", "utt2fs", "utt2fingerprint")
    if not (folder / lists[0]).exists():
        raise UserError(f"{folder / lists[0]}: missing; '{folder}' is not a source set. Run stage 1 before train.")
    lengths = read_ints(folder / lists[0])
    return {"path": str(folder), "recordings": len(lengths), "fingerprint": _digest(folder, lists)}


def _digest(folder, names):
    digest = hashlib.sha256()
    for name in names:
        if (folder / name).exists():
            digest.update(f"{name} {sha256(folder / name)}\n".encode())
    return digest.hexdigest()


def describe_data(folder):
    """Path, number of utterances, samples, and a SHA-256 over the lists of a data directory; of a set that was mixed
    also that of its plan, as the same lists may come with other mixtures."""
    folder = Path(folder)
    lists = ("wav.scp", "spk1.scp", "noise1.scp", "utt2num_samples", "feats.scp", "spk1_feats.scp")
    lengths = folder / "utt2num_samples"
    if not lengths.exists():
        raise UserError(f"{lengths}: missing; '{folder}' is not a data directory. Run the stages before train.")
    samples = read_ints(lengths)
    plan = {"plan": sha256(folder / "plan.tsv")} if (folder / "plan.tsv").exists() else {}
    return plan | {
        "path": str(folder),
        "utterances": len(samples),
        "samples": int(np.sum(samples)),
        "fingerprint": _digest(folder, lists),
    }


def hardware():
    import torch

    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": len(available_cores()),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def available_cores():
    """Numbers of the cores that this process may use, which can be fewer than the machine has."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count()))
