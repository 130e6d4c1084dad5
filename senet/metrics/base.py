"""What every metric shares: the checks before it, the reason after it, and how it is found by name.

A metric is a function in a module of this package, marked with ``@metric``::

    @metric("SNR", unit="dB")
    def snr(est, ref, sample_rate):
        ...

It receives two float64 signals of one length, checked: finite, and a reference that is not silent; with
``@metric(..., reference=False)`` it is a function of ``(est, sample_rate)``, and the reference is not looked at. It
returns a number or raises ``Undefined(reason)``. Called by a user it returns nan in that case; ``measure`` and
``compute`` give the reason as well. No table lists the metrics: ``find("snr")`` looks through the modules here, and a
name with an ``i`` added, ``snri``, is the difference to the unprocessed input's own score.

What several metrics are made of is a function marked with ``@shared``: asked again about the same signals, it answers
from memory, so a PESQ that three scores need is computed once if they are asked for one after the other.

Conventions: the estimate first, the reference second (the packages behind PESQ and STOI want them the other way
round, which gives plausible but wrong values); mono, nominally in [-1, 1]; nothing is aligned or rescaled here.
"""

import difflib
import functools
import importlib
import importlib.metadata
import math
import pkgutil

import numpy as np

from senet.errors import UserError

MAX_LENGTH_DIFFERENCE = 0.016  # seconds: one hop of the usual transforms; models may lose that much, not more


class Undefined(Exception):
    """The score does not exist for these signals; the message is a short reason, the same for every utterance."""


class Metric:
    """A score function with its checks. Call it for a float, ``measure`` it for ``(value, reason)``."""

    def __init__(
        self,
        function,
        label,
        unit="",
        rates=None,
        packages=(),
        digits=3,
        revision=1,
        reference=True,
        lower_is_better=False,
        made_with=None,
    ):
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.label = label + " ↓" * lower_is_better
        self.unit = unit
        self.reference = reference  # whether it needs one
        self.lower_is_better = lower_is_better
        self.rates = rates  # sample rates in Hz it is defined for; None means any
        self.packages = packages
        self.digits = digits  # decimals in a table
        self.revision = revision  # raised whenever the values change
        self._made_with = made_with  # function that says what else the values depend on, such as a model's digest
        self._function = function

    @property
    def version(self):
        """Own revision and the versions of the packages behind it: two scores compare only if this is equal."""
        packages = (f"{p} {_installed(p)}" for p in self.packages)
        return " ".join([str(self.revision), *packages, *([self._made_with()] if self._made_with else [])])

    def __call__(self, est, ref, sample_rate):
        return self.measure(est, ref, sample_rate)[0]

    def measure(self, est, ref, sample_rate):
        """``(value, None)``, or ``(nan, reason)`` when the score is undefined for these signals."""
        try:
            if self.rates and sample_rate not in self.rates:
                accepted = " or ".join(map(str, self.rates))
                raise Undefined(f"sample rate is {sample_rate} Hz, {self.label} takes {accepted}")
            value = float(self._function(*self._signals(est, ref, sample_rate), sample_rate))
            if not math.isfinite(value):
                raise Undefined("the result is not finite")
        except Undefined as undefined:
            return math.nan, str(undefined)
        except ModuleNotFoundError as error:
            if error.name not in self.packages:
                raise
            return math.nan, f"not computed: {error.name} is not installed"
        return value, None

    def _signals(self, est, ref, sample_rate):
        """What the function receives: float64, checked, cut to one length."""
        signals = {"estimate": est, "reference": ref} if self.reference else {"estimate": est}
        signals = {word: np.asarray(x, np.float64) for word, x in signals.items()}
        for word, x in signals.items():
            if x.ndim != 1:
                raise ValueError(f"expected mono signals of shape (N,), got an {word} of {x.shape}")
            if not len(x):
                raise Undefined(f"the {word} is empty")
        lengths = [len(x) for x in signals.values()]
        if max(lengths) - min(lengths) > MAX_LENGTH_DIFFERENCE * sample_rate:
            raise Undefined(f"the lengths differ by more than {1000 * MAX_LENGTH_DIFFERENCE:g} ms")
        signals = {word: x[: min(lengths)] for word, x in signals.items()}
        for word in reversed(signals):  # the reference first: it is the same for all systems
            if not np.isfinite(signals[word]).all():
                raise Undefined(f"the {word} holds NaN or infinity")
        if self.reference and is_silent(signals["reference"]):
            raise Undefined("the reference is silent")
        return signals.values()


def _installed(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def metric(label, **properties):
    """Decorator that makes a function of ``(est, ref, sample_rate)`` a ``Metric``; see there for the properties."""
    return lambda function: Metric(function, label, **properties)


def shared(function):
    """Decorator for work that several metrics share: the outcome, or ``Undefined``, is remembered.

    For each set of the other arguments, those of the two last asked for signals are kept: an estimate and the noisy
    input that its improvement is measured from. Signals are the same if their samples are.
    """
    memory = {}

    @functools.wraps(function)
    def remembering(*args):
        signals = [a for a in args if isinstance(a, np.ndarray)]
        kept = memory.setdefault(tuple(a for a in args if not isinstance(a, np.ndarray)), [])
        outcomes = [outcome for known, outcome in kept if all(map(np.array_equal, known, signals))]
        if not outcomes:
            try:
                outcomes = [function(*args)]
            except Undefined as undefined:
                outcomes = [undefined]
            kept[:] = [([x.copy() for x in signals], outcomes[0]), *kept[:1]]
        if isinstance(outcomes[0], Undefined):
            raise Undefined(str(outcomes[0]))
        return outcomes[0]

    return remembering


def is_silent(x):
    """True for digital silence and for a constant (an offset carries no sound either)."""
    return x.max() == x.min()


@functools.cache
def _metrics():
    package = importlib.import_module(__package__)
    modules = [importlib.import_module(f"{__package__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    return {v.name: v for module in modules for v in vars(module).values() if isinstance(v, Metric)}


def names():
    """All metric names, sorted; each also exists with ``i`` added, for the improvement over the noisy input."""
    return sorted(_metrics())


def find(name):
    """``(metric, is_improvement)`` for a name such as ``si_sdr`` or ``si_sdri``.

    Raises:
        UserError: there is no such metric; names the nearest.
    """
    metrics = _metrics()
    if name in metrics:
        return metrics[name], False
    if name.endswith("i") and name[:-1] in metrics:
        return metrics[name[:-1]], True
    near = difflib.get_close_matches(name, metrics, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UserError(
        f"there is no metric '{name}'{hint} Known: {', '.join(metrics)}; "
        "add 'i' for the improvement over the noisy input, such as 'snri'"
    )


def label(name):
    """How a table's column is headed, such as ``SI-SDRi (dB)``."""
    found, improvement = find(name)
    return found.label + "i" * improvement + (f" ({found.unit})" if found.unit else "")


def compute(name, est, ref, sample_rate, noisy=None):
    """One score by name.

    Args:
        name: a metric's name, with ``i`` added for the improvement over ``noisy``.
        est, ref: signals of shape (N,), samples in [-1, 1]; ``ref`` may be None where the metric needs none.
        sample_rate: in Hz.
        noisy: the unprocessed input, shape (N,); only improvements need it.
    Returns:
        ``(value, None)`` or ``(nan, reason)``.
    """
    found, improvement = find(name)
    value, reason = found.measure(est, ref, sample_rate)
    if improvement and reason is None:
        before, reason = found.measure(noisy, ref, sample_rate)
        value, reason = value - before, reason and f"noisy input: {reason}"
    return value, reason
