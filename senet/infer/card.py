"""What a pack says of its model, as a page to read; what strangers wrote into it is text on any terminal or browser."""

import re
import unicodedata


def harmless(text, keep=""):
    """Text without what a terminal obeys or hides: such characters, but those to ``keep``, are written as escapes."""
    return "".join(
        c if c in keep or unicodedata.category(c) not in _OBEYED else c.encode("unicode_escape").decode() for c in text
    )


# Cc control, Cf format (such as those that reverse the direction), Cs half characters, Co and Cn unknown, Zl and Zp
# separators of lines and paragraphs.
_OBEYED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def markdown(record):
    """The model card.

    Args:
        record: see ``senet.infer.pack.FIELDS``.
    Returns:
        str, Markdown in which values are text: no HTML, no links, no pictures of theirs.
    Raises:
        AttributeError, KeyError, OverflowError, TypeError, ValueError: "training" or "scores" are not as senet writes
            them.
    """
    name, file = record["name"], f"{record['name']}.senet"
    lines = [f"# {name}", ""]
    lines += [_words(record["description"]), ""] if record["description"] else []
    lines += ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in _facts(record)), ""]
    lines += ["## The model", "", *(_words(part) + "\n" for part in record["about"].split("\n\n") if part)]
    lines += [
        "## How to use it",
        "",
        "```bash",
        f"senet enhance noisy.wav -o enhanced.wav --model {file}",
        "```",
        "",
        "```python",
        "from senet import load_model",
        f'enhanced = load_model("{file}").enhance(noisy, sample_rate)',
        "```",
        "",
    ]
    lines += ["## Training", "", *_training(record["training"]), ""]
    lines += ["## Scores", "", *_scores(record["scores"]), ""]
    lines += ["## Limits", "", *_limits(record), ""]
    return harmless("\n".join(lines), keep="\n")


def _words(text):
    """Free text of a stranger, in one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|!~])", r"\\\1", text)


def _code(text):
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "/") + "`"


def _facts(record):
    rate, latency = record["sample_rate"], record["latency"]
    yield "task", "speech enhancement, one channel (others are enhanced one by one)"
    yield "network", _code(record["model"])
    yield "sample rate", f"{rate} Hz; other rates are resampled and mapped back"
    if latency is None:
        yield "latency", "needs the whole recording: not for live use"
    else:
        yield "latency", f"{1000 * latency / rate:g} ms ({latency} samples)"
    yield "parameters", f"{record['parameters']:,}"
    if record["macs_per_second"] is not None:
        yield (
            "cost",
            f"{record['macs_per_second'] / 1e6:,.4g} million multiply-accumulate operations per second of audio",
        )
    yield "licence", _words(record["licence"])


def _training(training):
    for what, data in training["data"].items():
        unit = "utterances" if "utterances" in data else "recordings"
        yield f"- {_words(what)}: {_code(data['name'])}, {data[unit]:,} {unit}"
    for what, key in (("recipe", "recipe"), ("finished", "written"), ("weights", "checkpoint")):
        if training.get(key):
            yield f"- {what}: {_code(training[key])}"
    if training.get("unfinished"):
        yield f"- **not finished**: {_words(training['unfinished'])}"
    counts = [f"{training[key]:,} {key}" for key in ("updates", "epochs") if training.get(key) is not None]
    counts += [f"{training['training_seconds'] / 3600:.3g} h"] if training.get("training_seconds") is not None else []
    counts += [f"seed {training['seed']:d}"] if training.get("seed") is not None else []
    if counts:
        yield f"- {', '.join(counts)}"
    if commit := (training.get("git") or {}).get("commit"):
        yield f"- commit {_code(commit)}{', with changes that it does not have' * bool(training['git'].get('dirty'))}"
    hardware = training.get("hardware") or {}
    if machine := [name for name in (*(hardware.get("gpus") or []), hardware.get("cpu")) if name]:
        yield f"- trained on: {_words(', '.join(machine))}"
    made = [f"{name} {version}" for name, version in (training.get("versions") or {}).items() if version]
    if made:
        yield f"- {_words(', '.join(made))}"


def _scores(scores):
    if not scores:
        yield "None were made with these weights."
        return
    for test_set, found in scores.items():
        yield f"{_code(test_set)}: {found['n']:,} utterances"
        yield ""
        yield "| metric | mean | 95 % | over the noisy input | 95 % | n | failed |"
        yield "|---|---|---|---|---|---|---|"
        for metric in found["metrics"]:
            yield "| " + " | ".join(_row(metric)) + " |"
        yield ""
    yield "Means over utterances with bootstrap intervals. ▲ and ▼: better and worse than the unprocessed input, where"
    yield "the interval of the difference leaves out 0. ↓: lower is better. Utterances are taken for independent."


def _row(metric):
    digits, sign = min(metric["digits"], 9), -1 if metric["lower_is_better"] else 1

    def mean(of):
        return "–" if not of or of["mean"] is None else f"{of['mean']:.{digits}f}"

    def edges(of):  # of one utterance there is no interval
        return of["interval"] if of and of["interval"] and None not in of["interval"] else []

    def interval(of):
        return " to ".join(f"{edge:.{digits}f}" for edge in edges(of)) or "–"

    over, mark = metric["over_noisy"], ""
    if between := sorted(sign * edge for edge in edges(over)):
        mark = " ▲" if between[0] > 0 else " ▼" if between[-1] < 0 else ""
    counts = f"{metric['n']:,}", f"{metric['failed']:,}"
    return _words(metric["label"]), mean(metric), interval(metric), mean(over) + mark, interval(over), *counts


def _limits(record):
    yield "- Other languages, voices, noises, rooms and microphones than those it was trained on: how it does is open."
    if record["scores"]:
        yield "- The scores are of the test sets above, by programs: nobody has listened for them."
    yield "- It may take away faint speech and leave or make artefacts. Keep the recording that it was made from."
    if record["latency"] is not None:
        yield "- The latency is the network's own; computing and audio devices add to it."
