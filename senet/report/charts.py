"""Geometry of the HTML report's charts: where things are, in percent of the area that is drawn on.

The page stretches an SVG of 100 x 100 units to the width that there is and sets the words beside it as text, so lines
and letters keep their size on any screen. Charts hold curves and histograms, never a point per utterance.
"""

import math

import numpy as np

_MOST_BINS, _FEWEST_BINS = 60, 8
_BEYOND = 0.005  # of the values at either end of a histogram may lie outside
_MOST_POINTS = 400  # of a curve


class Axis:
    """A linear scale with round ticks.

    Args:
        values: what has to fit; those that are not finite do not count.
        zero: whether 0 has to be on it, too.
        ticks: about how many.
        margin: free space at both ends, as a share of the span.
    """

    def __init__(self, values, zero=False, ticks=5, margin=0.04):
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            low, high = low - (abs(low) / 10 or 0.5), high + (abs(high) / 10 or 0.5)
        self.low, self.high = low - margin * (high - low), high + margin * (high - low)
        self.step = _round_step((self.high - self.low) / (ticks + 1))
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        digits += round(self.step * 10**digits, 6) % 1 != 0  # 0.25
        self.ticks = [(self(k * self.step), number(k * self.step, digits)) for k in range(first, last + 1)]

    def __call__(self, value):
        """Percent from the low end; finite values only."""
        return _short(100 * (value - self.low) / (self.high - self.low))


def _round_step(rough):
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if rough <= step * power * (1 + 1e-9))


def _short(value):
    return float(f"{value:.2f}") + 0.0  # + 0.0: no -0.0


def number(value, digits, sign=False):
    """A number as text, with a true minus; ``–`` where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    return text.replace("-", "−") if any(c in "123456789" for c in text) else text.lstrip("+-")


def histograms(columns, zero=False):
    """Histograms of several columns over the same bins.

    Args:
        columns: arrays of shape (n,), nan where there is no value.
        zero: whether 0 has to be on the axis, and on the edge of a bin.
    Returns:
        (Axis, [path, ...]): outlines from the left to the right end of what is drawn, 0 at the bottom; empty where a
        column has no values. The highest bin of all reaches the top. The outermost bins hold what lies beyond them:
        0.5 % of a column's values at either end at the most.
    """
    columns = [c[np.isfinite(c)] for c in columns]
    if not any(map(len, columns)):
        return Axis([], zero), [""] * len(columns)
    ends = [np.quantile(c, (_BEYOND, 1 - _BEYOND) if len(c) > 1 / _BEYOND else (0, 1)) for c in columns if len(c)]
    low, high = np.min(ends), np.max(ends)
    most = max(map(len, columns))
    span = Axis([low, high], zero, margin=0)
    bins = int(np.clip(2 * most ** (1 / 3), _FEWEST_BINS, _MOST_BINS))
    width = (span.high - span.low) / bins
    start = math.floor(span.low / width) * width if zero else span.low
    edges = start + width * np.arange(bins + 1 + zero)
    shares = [np.histogram(np.clip(c, edges[0], edges[-1]), edges)[0] / max(1, len(c)) for c in columns]
    axis = Axis(edges, zero, margin=0.02)
    top = max(s.max() for s in shares)
    return axis, [_outline(axis, edges, s / top) if len(c) else "" for c, s in zip(columns, shares, strict=True)]


def _outline(axis, edges, heights):
    steps = [f"V{_short(100 - 96 * h):g}H{axis(e):g}" for h, e in zip(heights, edges[1:], strict=True)]
    return f"M{axis(edges[0]):g} 100{''.join(steps)}V100"


def curve(x_axis, y_axis, x, y):
    """Path through the points, thinned to what can be seen: means of neighbours; nan breaks the line."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(x) > _MOST_POINTS:
        starts = np.linspace(0, len(x), _MOST_POINTS, endpoint=False).astype(int)
        counts = np.diff([*starts, len(x)])
        x, y = (np.add.reduceat(v, starts) / counts for v in (x, y))
    path, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if math.isfinite(a) and math.isfinite(b):
            path.append(f"{pen}{x_axis(a):g} {_short(100 - y_axis(b)):g}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)
