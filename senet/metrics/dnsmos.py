"""DNSMOS: networks that guess what listeners would say, without a reference; 1 (bad) to 5, in practice below 4.

``dnsmos_sig``, ``_bak``, ``_ovrl`` (speech, background, overall, as in P.835) and ``dnsmos_p808`` are the DNS
Challenge's; ``pdnsmos_*`` have the personalised model, which takes other talkers for noise; ``*_raw`` are a network's
outputs before the polynomial that maps them to ratings (P.808 has none), from the same run of the network. The models
see pieces of 9.01 s, one every second; shorter recordings are repeated. The level matters: score files as they were
written.

In the official script, rounding makes the pieces that begin at 7 to 23 s and 119 to 122 s a sample too short, and it
passes over them; so do the scores here, for they would not be comparable otherwise. ``*_exact`` take them all; below
17 s both are the same.

Needs onnxruntime (``pip install "senet[onnx]"``) and the official model files below the folder DNSMOS_DIR (default:
downloads/dnsmos): see MODELS. Without them there is no score, and a reason.

Sources: Reddy, Gopal and Cutler, ICASSP 2021 (P.808) and ICASSP 2022 (P.835); dnsmos_local.py of the DNS Challenge.
"""

import functools
import importlib.metadata
import importlib.util
import os
from pathlib import Path

import numpy as np

from senet.dsp.resample import resample
from senet.files import sha256
from senet.metrics.base import Undefined, metric, shared

RATE = 16000
LENGTH = 144160  # samples of a piece
SECONDS = 9.01

P808, P835, PERSONALISED = MODELS = ("DNSMOS/model_v8.onnx", "DNSMOS/sig_bak_ovr.onnx", "pDNSMOS/sig_bak_ovr.onnx")
SHA256 = {
    P808: "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    P835: "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    PERSONALISED: "9e3a197449ca2177f0997afec3bd6b890117ce2f17b89d6eea7fa0d47272c81c",
}
POLYNOMIALS = {  # of SIG, BAK, OVRL; highest power first
    P835: (
        (-0.08397278, 1.22083953, 0.0052439),
        (-0.13166888, 1.60915514, -0.39604546),
        (-0.06766283, 1.11546468, 0.04602535),
    ),
    PERSONALISED: (
        (-0.01019296, 0.02751166, 1.19576786, -0.24348726),
        (-0.04976499, 0.44276479, -0.1644611, 0.96883132),
        (-0.00533021, 0.005101, 1.18058466, -0.11236046),
    ),
    None: ((1, 0),) * 3,
}

FRAME, HOP, BANDS = 321, 160, 120  # of P.808's mel spectrogram; samples, samples, bands up to 8 kHz
FLOOR_DB = -80


def _score(name, label, model, function):
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{label}, about 1 to 5; any rate and length; needs no reference."
    return metric(label, reference=False, made_with=lambda: _made_with(model), bounds=(0, 6))(function)


def _p835(prefix, suffix, label, model, exact=False, mapped=True):
    """The three scores of a P.835 model."""

    def part(i, name):
        polynomial = POLYNOMIALS[model if mapped else None][i]

        def score(est, sample_rate):
            return np.polyval(polynomial, p835_raw(est, sample_rate, model_path(model), exact)[:, i]).mean()

        return _score(f"{prefix}_{name}{suffix}", f"{label} {name.upper()}{suffix.replace('_', ' ')}", model, score)

    return [part(i, name) for i, name in enumerate(("sig", "bak", "ovrl"))]


dnsmos_sig, dnsmos_bak, dnsmos_ovrl = _p835("dnsmos", "", "DNSMOS", P835)
dnsmos_sig_raw, dnsmos_bak_raw, dnsmos_ovrl_raw = _p835("dnsmos", "_raw", "DNSMOS", P835, mapped=False)
dnsmos_sig_exact, dnsmos_bak_exact, dnsmos_ovrl_exact = _p835("dnsmos", "_exact", "DNSMOS", P835, exact=True)
pdnsmos_sig, pdnsmos_bak, pdnsmos_ovrl = _p835("pdnsmos", "", "pDNSMOS", PERSONALISED)
pdnsmos_sig_raw, pdnsmos_bak_raw, pdnsmos_ovrl_raw = _p835("pdnsmos", "_raw", "pDNSMOS", PERSONALISED, mapped=False)
pdnsmos_sig_exact, pdnsmos_bak_exact, pdnsmos_ovrl_exact = _p835(
    "pdnsmos", "_exact", "pDNSMOS", PERSONALISED, exact=True
)
dnsmos_p808 = _score("dnsmos_p808", "DNSMOS P.808", P808, lambda est, sample_rate: p808(est, sample_rate, False))
dnsmos_p808_exact = _score(
    "dnsmos_p808_exact", "DNSMOS P.808 exact", P808, lambda est, sample_rate: p808(est, sample_rate, True)
)


@shared
def p835_raw(est, sample_rate, path, exact):
    """SIG, BAK and OVRL of each piece, as the network in a file gives them (pieces, 3)."""
    return np.concatenate([_run(path, piece) for piece in pieces(est, sample_rate, exact)]).astype(np.float64)


def p808(est, sample_rate, exact):
    """Mean over the pieces of the rating by P.808."""
    path = model_path(P808)
    return np.mean([_run(path, mel_spectrogram(piece[:-HOP])) for piece in pieces(est, sample_rate, exact)])


def pieces(x, sample_rate, exact):
    """float32 (LENGTH,) parts of a signal, one a second; see the module's docstring for ``exact``."""
    x = resample(x, sample_rate, RATE)
    if not len(x):
        raise Undefined("shorter than a sample at 16 kHz")
    while len(x) < LENGTH:
        x = np.concatenate([x, x])
    hops = int(len(x) // RATE - SECONDS) + 1
    ends = (RATE * i + LENGTH if exact else int((i + SECONDS) * RATE) for i in range(hops))
    found = (x[RATE * i : end] for i, end in enumerate(ends))
    return [piece for piece in found if len(piece) == LENGTH]


def mel_spectrogram(x):
    """What the P.808 model sees of (N,) samples: (frames, BANDS), (dB below the loudest + 40) / 40."""
    from scipy import fft, signal

    padded = np.pad(x.astype(np.float64), FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * signal.windows.hann(FRAME, sym=False)
    power = np.abs(fft.rfft(frames)) ** 2 @ _mel_filters()
    db = 10 * np.log10(np.maximum(power, 1e-10))
    return (np.maximum(db - db.max(), FLOOR_DB) + 40) / 40


@functools.cache
def _mel_filters():
    """Triangles of equal area, (bins, BANDS), linear below 1 kHz and logarithmic above (Slaney's Auditory Toolbox)."""
    mel_of_1000, per_log = 15, 27 / np.log(6.4)
    mel = np.linspace(0, mel_of_1000 + per_log * np.log(RATE / 2 / 1000), BANDS + 2)
    edges = np.where(mel < mel_of_1000, mel * 200 / 3, 1000 * np.exp((mel - mel_of_1000) / per_log))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(FRAME // 2 + 1)[:, None] * RATE / FRAME
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))) * 2 / (high - low)


def _run(path, x):
    """What a model says of one input, float32 (1, outputs)."""
    session = _session(path)
    return session.run(None, {session.get_inputs()[0].name: x[None].astype(np.float32)})[0]


def model_path(model):
    """Where a model is; Undefined where it cannot be used."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise Undefined("not computed: onnxruntime is not installed")
    folder = Path(os.environ.get("DNSMOS_DIR") or "downloads/dnsmos")
    path = folder.resolve() / model
    if not path.exists():
        raise Undefined(
            f"not computed: {model} is missing; it is not in {folder} (DNSMOS_DIR). In egs/dns5, "
            "local/download.sh --download true --part dnsmos fetches it"
        )
    if _digest(path) != SHA256[model]:
        raise Undefined(
            f"not computed: {model} is not the official file (SHA-256); remove {path}. In egs/dns5, "
            "local/download.sh --download true --part dnsmos fetches it"
        )
    return path


def _made_with(model):
    """For the scores' version: the runtime and the model, or why there is neither."""
    try:
        model_path(model)
    except Undefined as undefined:
        return str(undefined).partition(";")[0]  # wherever it was looked for
    return f"onnxruntime {importlib.metadata.version('onnxruntime')} {Path(model).stem} {SHA256[model][:8]}"


_digest = functools.cache(sha256)


@functools.cache
def _session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the scorer runs in parallel by itself
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
