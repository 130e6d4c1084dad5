"""The HTML pages' common part: ``template.html`` is the page, ``template_parts.html`` what several of them show."""

from senet import __version__
from senet.dsp import spectrogram
from senet.report.charts import number
from senet.report.page import SIGNIFICANT, quantity
from senet.report.results import not_computed

MB = 1 << 20


def page(name, values):
    """The text of ``template_<name>.html`` with ``values``; all that is not markup is escaped."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("senet.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["not_computed"] = not_computed
    environment.filters |= {"num": number, "amount": quantity, "length_of": length}
    environment.globals |= {
        "significant": SIGNIFICANT,
        "gradient": _gradient(),
        "range_db": spectrogram.RANGE_DB,
        "version": __version__,
        "colours": {},
        "ids": {},
    }
    return environment.get_template(f"template_{name}.html").render(values)


def length(seconds):
    """Seconds in the unit that fits."""
    if seconds is None:
        return "–"
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g}\u202f{name}"
    return f"{seconds:.3g}\u202fs" if seconds >= 1e-3 or not seconds else f"{1000 * seconds:.3g}\u202fms"


def _gradient():
    stops = ", ".join(f"rgb{c}" for c in spectrogram.COLOURS)
    return f"linear-gradient(to right, {stops})"
