"""What the HTML report says besides our scores: curves of training, how models were made, what others published."""

import json
import logging
from pathlib import Path

import numpy as np
import yaml

from senet import metrics
from senet.report import charts
from senet.report.charts import Axis, number
from senet.report.page import facts


def training(system):
    """Curves of the losses in train.jsonl; None where there is none, or nothing in it yet."""
    path = Path(system.path) / "train.jsonl"
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        train, valid = ([r for r in records if r["event"] == event] for event in ("train", "valid"))
        steps, losses, validated = [r["step"] for r in train], [r["loss"] for r in train], [r["step"] for r in valid]
        means, valid_losses = [r["train_loss"] for r in valid], [r["loss"] for r in valid]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        logging.warning("%s: damaged; there are no training curves of it", path)
        return {"system": system.name, "damaged": True}
    if not records:
        return None
    x = Axis([0, *steps, *validated], ticks=4, margin=0.02)
    # The first losses may be so large that all that follows would be a flat line.
    y = Axis([*(np.nanquantile(losses, [0, 0.98]) if losses else ()), *means[1:], *valid_losses], margin=0.06)
    best = min(valid, key=lambda r: r["loss"], default=None)
    return {
        "system": system.name,
        "x": x,
        "y": y,
        "between": charts.curve(x, y, steps, losses),
        "mean": charts.curve(x, y, validated, means),
        "valid": charts.curve(x, y, validated, valid_losses),
        "best": best,
        "at": best and (x(best["step"]), 100 - y(best["loss"])),
        "seconds": records[-1].get("seconds"),
    }


def models(systems):
    """How each model was made, and in which options their configurations differ: [(option, [value, ...])]."""
    flat = {s["name"]: _flat(s["config"]) for s in systems if s["config"]}
    names = sorted({name for of in flat.values() for name in of})
    values = [(name, [json.dumps(of[name], ensure_ascii=False) if name in of else None for of in flat.values()])
              for name in names]  # fmt: skip
    return {
        "made": [how_made(s["name"], s["record"], s["config"]) for s in systems if s["record"] or s["config"]],
        "systems": list(flat),
        "differences": [(name, of) for name, of in values if len(set(of)) > 1],
    }


def how_made(name, record, config):
    """What ``how_made`` of template_parts.html shows of record.json and config.yaml, which may be empty."""
    return {
        "name": name,
        "record": record,
        "config": config,
        "facts": [(k, v) for k, v in facts(record) if v and k != "command"],
        "yaml": yaml.safe_dump(config),
    }


def _flat(config, prefix=""):
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def published(entries):
    """A table for each test set, {"name", "metrics", "rows": [(system, n, [cell, ...])]}, and the numbered sources."""
    sources = list(dict.fromkeys(e["source"] for e in entries))
    tables = []
    for name in dict.fromkeys(e["test_set"] for e in entries):
        of = [
            e | {"number": sources.index(e["source"]) + 1, "text": _printed(e["value"])}
            for e in entries
            if e["test_set"] == name
        ]
        columns = list(dict.fromkeys(e["metric"] for e in of))
        rows = [
            (
                system,
                ", ".join(dict.fromkeys(str(e["n"]) for e in of if e["system"] == system and "n" in e)),
                [[e for e in of if (e["system"], e["metric"]) == (system, m)] for m in columns],
            )
            for system in dict.fromkeys(e["system"] for e in of)
        ]
        tables.append({"name": name, "metrics": list(map(metrics.label, columns)), "rows": rows})
    return {"tables": tables, "sources": sources}


def _printed(value):
    """With two decimals at least: YAML has lost the zeros that papers print."""
    return number(value, max(2, len(f"{value:g}".partition(".")[2])))
