"""Objective scores of an enhanced signal, most against its clean reference, by name (see ``senet.metrics.base``)."""

from senet.metrics.base import Metric, Undefined, bounds, compute, find, label, metric, names

__all__ = ["Metric", "Undefined", "bounds", "compute", "find", "label", "metric", "names"]
