"""What every metric shares: the checks before it, the reason after it, and how it is found by name.

A metric is a function in a module of this package, marked with ``@metric``::

    @metric("SNR", unit="dB")
    def snr(est, ref, sample_rate):
        ...

It receives two float64 signals of one length, checked: finite, and a reference that is not silent; with
``@metric(..., reference=False)`` it is a function of ``(est, sample_rate)``, and the reference is not looked at; with
``@metric(..., also=("noisy",))`` one of ``(est, ref, noisy, sample_rate)``. It returns a number or raises
``Undefined(reason)``. Called by a user it returns nan in that case; ``measure`` and ``compute`` give the reason as
well. No table lists the metrics: ``find("snr")`` looks through the modules here, and a name with an ``i`` added,
``snri``, is the difference to the unprocessed input's own score.

What several metrics are made of is a function marked with ``@shared``: asked again about the same signals, it answers
from memory, so a PESQ that three scores need is computed once if they are asked for one after the other.

Conventions: the estimate first, the reference second (the packages behind PESQ and STOI want them the other way
round, which gives plausible but wrong values); mono, floats nominally in [-1, 1], or 16- or 32-bit integers, which
are divided by their full scale; nothing is aligned or rescaled here.
"""

import difflib
import functools
import importlib
import importlib.metadata
import math
import pkgutil

import numpy as np

from senet.errors import UserError

MAX_REFERENCE = 16  # above full scale nobody stores a reference: these are integers kept as floats
FURTHER_SIGNALS = {"noisy": "noisy input", "enhanced_clean": "enhanced clean signal"}
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
        also=(),
        lower_is_better=False,
        made_with=None,
        bounds=(-math.inf, math.inf),
    ):
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.label = label + " ↓" * lower_is_better
        self.unit = unit
        self.reference = reference  # whether it needs one
        self.also = also  # FURTHER_SIGNALS that it needs
        self.lower_is_better = lower_is_better
        self.bounds = bounds  # a published value outside is a mistake
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

    def __call__(self, est, ref, sample_rate, **also):
        return self.measure(est, ref, sample_rate, **also)[0]

    def measure(self, est, ref, sample_rate, **also):
        """``(value, None)``, or ``(nan, reason)`` when the score is undefined for these signals."""
        signals = {"estimate": est} | ({"reference": ref} if self.reference else {})
        signals |= {FURTHER_SIGNALS[name]: also.get(name) for name in self.also}
        try:
            if self.rates and sample_rate not in self.rates:
                accepted = " or ".join(map(str, self.rates))
                raise Undefined(f"sample rate is {sample_rate} Hz, {self.label} takes {accepted}")
            value = float(self._function(*_checked(signals, sample_rate), sample_rate))
            if not math.isfinite(value):
                raise Undefined("the result is not finite")
        except Undefined as undefined:
            return math.nan, str(undefined)
        except ModuleNotFoundError as error:
            if error.name not in self.packages:
                raise
            return math.nan, f"not computed: {error.name} is not installed"
        return value, None


def _installed(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _checked(signals, sample_rate):
    """What the function receives of ``{word: signal}``: float64, checked, cut to one length."""
    signals = {word: _as_float(word, x) for word, x in signals.items()}
    lengths = [len(x) for x in signals.values()]
    if max(lengths) - min(lengths) > MAX_LENGTH_DIFFERENCE * sample_rate:
        raise Undefined(f"the lengths differ by more than {1000 * MAX_LENGTH_DIFFERENCE:g} ms")
    signals = {word: x[: min(lengths)] for word, x in signals.items()}
    for word in sorted(signals, key=lambda word: word != "reference"):  # it is the same for all systems
        if not np.isfinite(signals[word]).all():
            raise Undefined(f"the {word} holds NaN or infinity")
    if "reference" in signals:
        if is_silent(signals["reference"]):
            raise Undefined("the reference is silent")
        if max(signals["reference"].max(), -signals["reference"].min()) > MAX_REFERENCE:
            raise Undefined("the reference is far outside [-1, 1]")
    return signals.values()


def _as_float(word, x):
    if x is None:
        raise Undefined(f"not computed: there is no {word}")
    x = np.asarray(x)
    if x.ndim != 1:
        raise ValueError(f"expected mono signals of shape (N,), got an {word} of {x.shape}")
    if not len(x):
        raise Undefined(f"the {word} is empty")
    if x.dtype in (np.int16, np.int32):
        return x / (np.iinfo(x.dtype).max + 1)
    if x.dtype.kind != "f":
        raise Undefined(f"the {word} is {x.dtype}, neither float nor 16- or 32-bit integers")
    return x.astype(np.float64, copy=False)


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
        if "enhanced_clean" in metrics[name[:-1]].also:
            raise UserError(
                f"there is no metric '{name}': {name[:-1]} has no value for the noisy input, only for a system"
            )
        return metrics[name[:-1]], True
    near = difflib.get_close_matches(name, metrics, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise UserError(
        f"there is no metric '{name}'{hint} Known: {', '.join(metrics)}; "
        "add 'i' for the improvement over the noisy input, such as 'snri'"
    )


def label(name):
    """How a table's column is headed, such as ``SI-SDRi (dB)``."""
    found, improvement = find(name)
    return found.label + "i" * improvement + (f" ({found.unit})" if found.unit else "")


def bounds(name):
    """(low, high) outside which a published value of this metric, or of the improvement in it, is a mistake."""
    found, improvement = find(name)
    low, high = found.bounds
    return (low - high, high - low) if improvement else found.bounds


def compute(name, est, ref, sample_rate, noisy=None, enhanced_clean=None):
    """One score by name.

    Args:
        name: a metric's name, with ``i`` added for the improvement over ``noisy``.
        est, ref: signals of shape (N,), samples in [-1, 1]; ``ref`` may be None where the metric needs none.
        sample_rate: in Hz.
        noisy: the unprocessed input, shape (N,), for improvements.
        enhanced_clean: what the system makes of the clean signal, shape (N,); see ``senet.metrics.lowlatency``.
    Returns:
        ``(value, None)`` or ``(nan, reason)``.
    """
    found, improvement = find(name)
    further = {"noisy": noisy, "enhanced_clean": enhanced_clean}
    also = {signal: further[signal] for signal in found.also}
    value, reason = found.measure(est, ref, sample_rate, **also)
    if improvement and reason is None:
        before, reason = found.measure(noisy, ref, sample_rate, **also)
        value, reason = value - before, reason and f"noisy input: {reason}"
    return value, reason
