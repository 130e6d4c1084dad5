"""Training losses of several modes on the same batches, laid side by side: an HTML page in the report's style."""

from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader

from senet.files import whole_file
from senet.report.charts import Axis, curve

PAGE = """\
{% extends "template.html" %}
{% macro plot(of) %}
<figure><figcaption>{{ of.title }}</figcaption>
<div class="plot">
<div class="y">{% for at, text in of.y.ticks %}<span style="top:{{ 100 - at }}%">{{ text }}</span>{% endfor %}</div>
<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{{ of.title }} over steps">
{% for at, _ in of.y.ticks %}<path class="grid" d="M0 {{ 100 - at }}H100"/>{% endfor %}
{% for line in of.lines %}<g class="c{{ line.colour }}"><path class="line" d="{{ line.path }}"/></g>{% endfor %}
</svg>
<div class="x">{% for at, text in of.x.ticks %}<span style="left:{{ at }}%">{{ text }}</span>{% endfor %}</div>
<div class="axis-name">step</div></div></figure>
{% endmacro %}
{% block main %}<main>
{% for system in systems %}
<section><h2>{{ system.name }}</h2>
<p class="legend">
{% for mode in system.modes %}<span><i class="stroke c{{ loop.index }}"></i>{{ mode }}</span>{% endfor %}</p>
{% for problem in system.problems %}<p class="note">{{ problem }}</p>{% endfor %}
<div class="pair">{% for of in system.plots %}{{ plot(of) }}{% endfor %}</div></section>
{% endfor %}
</main>{% endblock %}
{% block footer %}{{ device }}{% endblock %}
"""


def write_curves(path, figures):
    """Write a page of the losses and of their differences to each system's first mode.

    Args:
        figures: those of ``training.py``: dicts with system, mode, and losses or error.
    """
    environment = Environment(
        loader=ChoiceLoader([DictLoader({"curves": PAGE}), PackageLoader("senet.report", ".")]), autoescape=True
    )
    systems = [
        _system(name, [f for f in figures if f["system"] == name])
        for name in dict.fromkeys(f["system"] for f in figures)
    ]
    device = next((f"{f['device']}, torch {f['torch']}" for f in figures if "device" in f), "")
    values = {"title": "Training losses on the same batches", "systems": systems, "device": device}
    with whole_file(path) as f:
        f.write(environment.get_template("curves").render(values))


def _system(name, figures):
    found = {f["mode"]: f["losses"] for f in figures if "losses" in f}
    first = next(iter(found), None)
    plots = []
    if found:
        plots.append(_plot("training loss", found, 1))
    if len(found) > 1:
        others = {mode: losses for mode, losses in found.items() if mode != first}
        differences = {mode: [a - b for a, b in zip(x, found[first], strict=True)] for mode, x in others.items()}
        plots.append(_plot(f"difference to {first}", differences, 2))
    problems = [f"{f['mode']}: {f['error']}" for f in figures if "error" in f]
    return {"name": name, "modes": list(found), "problems": problems, "plots": plots}


def _plot(title, lines, colour):
    x = Axis([1, max(map(len, lines.values()))], margin=0)
    y = Axis([value for line in lines.values() for value in line], zero=colour > 1)
    drawn = [
        {"colour": number, "path": curve(x, y, range(1, len(line) + 1), line)}
        for number, line in enumerate(lines.values(), colour)
    ]
    return {"title": title, "x": x, "y": y, "lines": drawn}
