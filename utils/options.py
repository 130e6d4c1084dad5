"""What the driver's options have to be.

Called by se.sh with the names of the stages, in order; reads its options as "name=value", NUL after each, and prints
what it understood: the numbers of the first and the last stage and the sample rate in Hz; on a second line the
experiment's name without a tag, on a third the folder of a model that was trained elsewhere.
"""

import os
import re
import shlex
import sys
from pathlib import Path

from unit import UserError

PLAIN = r"[^][;&|<>$`\"'\\(){}*?!#~\s]*"  # becomes part of command lines


def stage_number(name, names):
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise UserError(f"there is no stage '{name}': 0 to {len(names) - 1}, or {' '.join(names)}")


def settle(given, names):
    """Check ``given``, a dict of text; return (first stage, last stage, sample rate, experiment, model elsewhere).

    Raises:
        UserError: names the option, what was found and what it should be.
    """
    first, last = (stage_number(given[name], names) for name in ("stage", "stop_stage"))
    if first > last:
        raise UserError(f"--stage {first} ({names[first]}) comes after --stop_stage {last} ({names[last]})")
    for name in ("nj", "num_nodes", "num_threads"):
        if not re.fullmatch("[1-9][0-9]*", given[name]):
            raise UserError(f"--{name} '{given[name]}': a whole number from 1 upwards is needed")
    for name in ("ngpu", "num_workers", "score_checkpoints"):
        if not re.fullmatch("[0-9]+", given[name]) and (given[name] or name != "num_workers"):
            raise UserError(f"--{name} '{given[name]}': a whole number is needed")
    rate = re.fullmatch(r"([1-9][0-9]*(?:\.[0-9]+)?)([kK]?)", given["sample_rate"])
    if not rate:
        raise UserError(f"--sample_rate '{given['sample_rate']}': not a rate such as 16000 or 16k")
    for name in ("datadir", "dumpdir", "expdir"):
        if not given[name]:
            raise UserError(f"--{name} is empty: it names a folder")
        if given[name].startswith("-"):
            raise UserError(f"--{name} '{given[name]}': a folder's name cannot begin with '-'")
    for name in ("tag", "model", "datadir", "dumpdir", "expdir", "results"):
        allowed = "._-+=@" if name == "tag" else "._-/+=@"
        if not re.fullmatch(PLAIN, given[name]):
            raise UserError(f"--{name} '{given[name]}': use letters, digits and {allowed} in it")
    if "/" in given["tag"]:
        raise UserError(f"--tag '{given['tag']}': no '/' in it, since it is part of a folder's name")
    require_feats_type(given, trains=first <= names.index("train") <= last and given["skip_train"] == "false")
    if not Path(given["train_config"]).is_file():
        there = " ".join(sorted(map(str, Path("conf").glob("train*.yaml"))))
        raise UserError(f"--train_config: no file '{given['train_config']}'; there are: {there}")
    if given["expected"] and not Path(given["expected"]).is_file():
        raise UserError(f"--expected: no file '{given['expected']}'")
    sets = f"{given['train_set']} {given['valid_set']} {given['test_sets']}".split()
    for name in sets:
        if not Path(f"conf/mix_{name}.yaml").is_file() and not Path(given["dumpdir"], "raw", name, "wav.scp").is_file():
            there = " ".join(sorted(path.stem[len("mix_") :] for path in Path("conf").glob("mix_*.yaml")))
            raise UserError(f"there is no set '{name}', which conf/mix_{name}.yaml would describe; there are: {there}")
    for word in given["num_clips"].split():
        if not re.fullmatch("[^=]+=[1-9][0-9]*", word) or word.partition("=")[0] not in sets:
            raise UserError(f"--num_clips '{word}': not SET=N with a set of {' '.join(dict.fromkeys(sets))}")
    for folder in shlex.split(given["compare"]):
        if not Path(folder).is_dir():
            raise UserError(f"--compare: no folder '{folder}'; give experiments of other recipes, ../RECIPE/exp/NAME")
    if not given["metrics"].split():
        raise UserError("--metrics is empty; give names such as 'pesq_wb stoi si_sdr'")
    name, model = Path(given["train_config"]).stem, ""
    if given["model"]:
        name, model = borrowed(given)
    if given["baseline"] and first <= names.index("report") <= last and given["skip_eval"] == "false":
        require_baseline(given, f"{name}_{given['tag']}" if given["tag"] else name)
    return first, last, f"{float(rate[1]) * (1000 if rate[2] else 1):.10g}", name, model


def borrowed(given):
    """(name, path) of a model that was trained elsewhere: ../mini/exp/train_x is mini_train_x here, y.senet is y."""
    there = Path(given["model"]).resolve()
    packed = there.suffix == ".senet" and there.is_file()
    if not packed and not all((there / name).is_file() for name in ("checkpoints/index.json", "config.yaml")):
        raise UserError(
            f"--model {given['model']}: no trained model there; it is a folder such as ../mini/exp/NAME, or a pack, "
            "NAME.senet"
        )
    name = there.stem if packed else f"{there.parent.parent.name}_{there.name}"
    here = Path(given["expdir"], f"{name}_{given['tag']}" if given["tag"] else name)
    if (here / "checkpoints").exists():
        raise UserError(f"--model {given['model']}: {here} is an experiment that was trained here; add --tag NAME")
    if there.parent == Path(given["expdir"]).resolve():
        raise UserError(
            f"--model {given['model']}: trained in this recipe; choose it by --train_config and --tag instead"
        )
    if given["score_checkpoints"] != "0":
        raise UserError("--score_checkpoints: not of a model that was trained elsewhere; leave it out beside --model")
    return name, os.path.relpath(given["model"])


def require_baseline(given, experiment):
    """The report, hours later, would not know it: it is an experiment that is there, or this one."""
    folders = [path for path in Path(given["expdir"]).glob("*") if path.is_dir()]
    folders += map(Path, shlex.split(given["compare"]))
    known = sorted({"noisy", experiment, *(path.resolve().name for path in folders)})
    if Path(given["baseline"]).name not in known:
        raise UserError(f"--baseline {given['baseline']}: no such system; there are, or will be, {', '.join(known)}")


def require_feats_type(given, trains):
    kind = given["feats_type"]
    if kind not in ("raw", "stft", "fbank"):
        raise UserError(f"--feats_type '{kind}': it is raw, stft or fbank")
    if kind == "fbank" and trains:
        raise UserError(
            "--feats_type fbank: there is no training on it, only on raw and stft; '--stop_stage feats' makes it for "
            "other programs"
        )
    if kind != "raw" and given["online"] == "true":
        raise UserError(f"--online true: what is mixed while training has no stored {kind}; use --feats_type raw")


if __name__ == "__main__":
    words = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\0")
    try:
        *numbers, name, model = settle(dict(word.split("=", 1) for word in words if word), sys.argv[1:])
        print(*numbers)
        print(name, model, sep="\n")
    except UserError as error:
        sys.exit(f"se.sh: {error}")
