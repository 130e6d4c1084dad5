"""Scores of enhanced speech by a plain script: the public packages and MATLAB's composite, frame by frame.

Written from the formulas as evaluation scripts usually are: a loop over the files, in it one over the frames, in it
one over the bands. Each distance is computed once for an utterance, which not all such scripts do.

    python tools/bench/plain/scoring.py NOISY CLEAN OUT.json     # folders of wav files with the same names

OUT.json gets the scores and how many seconds of the processor went into the loops over frames.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from pesq import pesq
from pystoi import stoi
from scipy.linalg import toeplitz

EPS = np.finfo(float).eps
CENTRES = [50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72]
CENTRES += [1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63]
WIDTHS = [70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823]
WIDTHS += [168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136]


def framing(fs, length):
    size = round(0.03 * fs)
    hop = size // 4
    count = int(length / hop - size / hop)
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    return size, hop, count, window


def segmental_snr(clean, processed, fs):
    size, hop, count, window = framing(fs, len(clean))
    values = []
    for i in range(count):
        s = clean[i * hop : i * hop + size] * window
        x = processed[i * hop : i * hop + size] * window
        value = 10 * np.log10(np.sum(s**2) / (np.sum((s - x) ** 2) + EPS) + EPS)
        values.append(min(max(value, -10), 35))
    return np.mean(values)


def lpc(x, order):
    size = len(x)
    r = np.array([np.sum(x[: size - k] * x[k:]) for k in range(order + 1)])
    a = np.ones(order)
    error = r[0]
    for i in range(order):
        past = a[:i].copy()
        reflection = (r[i + 1] - np.sum(past * r[i:0:-1])) / error
        a[i] = reflection
        a[:i] = past - reflection * past[::-1]
        error = (1 - reflection**2) * error
    return r, np.concatenate([[1], -a])


def log_likelihood_ratio(clean, processed, fs):
    size, hop, count, window = framing(fs, len(clean))
    order = 10 if fs < 10000 else 16
    clean, processed = clean + EPS, processed + EPS
    values = []
    for i in range(count):
        r_clean, a_clean = lpc(clean[i * hop : i * hop + size] * window, order)
        _, a_processed = lpc(processed[i * hop : i * hop + size] * window, order)
        matrix = toeplitz(r_clean)
        ratio = np.dot(np.dot(a_processed, matrix), a_processed) / np.dot(np.dot(a_clean, matrix), a_clean)
        if not np.isfinite(ratio) or ratio <= 0:
            ratio = 1000
        values.append(np.log(ratio))
    return np.array(values)


def weighted_spectral_slope(clean, processed, fs):
    size, hop, count, window = framing(fs, len(clean))
    n_fft = int(2 ** np.ceil(np.log2(2 * size)))
    half = n_fft // 2
    filters = np.zeros((25, half))
    j = np.arange(half)
    for k in range(25):
        f = CENTRES[k] / (fs / 2) * half
        b = WIDTHS[k] / (fs / 2) * half
        filters[k] = np.exp(-11 * ((j - np.floor(f)) / b) ** 2 + np.log(WIDTHS[0]) - np.log(WIDTHS[k]))
        filters[k] = filters[k] * (filters[k] > np.exp(-30 / (2 * 2.303)))
    clean, processed = clean + EPS, processed + EPS
    values = []
    for i in range(count):
        slopes, weights = [], []
        for x in (clean, processed):
            spectrum = np.abs(np.fft.fft(x[i * hop : i * hop + size] * window, n_fft)) ** 2
            energy = np.zeros(25)
            for k in range(25):
                energy[k] = np.sum(spectrum[:half] * filters[k])
            energy = 10 * np.log10(np.maximum(energy, 1e-10))
            slope = energy[1:] - energy[:-1]
            peak = np.zeros(24)
            for k in range(24):
                n = k
                if slope[k] > 0:
                    while n < 24 and slope[n] > 0:
                        n = n + 1
                    peak[k] = energy[n - 1]
                else:
                    while n >= 0 and slope[n] <= 0:
                        n = n - 1
                    peak[k] = energy[n + 1]
            loudest = np.max(energy)
            weights.append(20 / (20 + loudest - energy[:24]) * (1 / (1 + peak - energy[:24])))
            slopes.append(slope)
        weight = (weights[0] + weights[1]) / 2
        values.append(np.sum(weight * (slopes[0] - slopes[1]) ** 2) / np.sum(weight))
    return np.array(values)


def lowest(values):
    return np.mean(np.sort(values)[: round(0.95 * len(values))])


def si_sdr(clean, processed):
    clean = clean - np.mean(clean)
    processed = processed - np.mean(processed)
    target = np.sum(processed * clean) / np.sum(clean**2) * clean
    return 10 * np.log10(np.sum(target**2) / np.sum((processed - target) ** 2))


def scores(clean, processed, fs, frame_loops):
    mos = pesq(fs, clean, processed, "wb")
    start = time.process_time()
    llr = lowest(log_likelihood_ratio(clean, processed, fs))
    wss = lowest(weighted_spectral_slope(clean, processed, fs))
    ssnr = segmental_snr(clean, processed, fs)
    frame_loops.append(time.process_time() - start)
    return {
        "pesq_wb": mos,
        "csig": float(np.clip(3.093 - 1.029 * llr + 0.603 * mos - 0.009 * wss, 1, 5)),
        "cbak": float(np.clip(1.634 + 0.478 * mos - 0.007 * wss + 0.063 * ssnr, 1, 5)),
        "covl": float(np.clip(1.594 + 0.805 * mos - 0.512 * llr - 0.007 * wss, 1, 5)),
        "ssnr": float(ssnr),
        "stoi": float(stoi(clean, processed, fs)),
        "estoi": float(stoi(clean, processed, fs, extended=True)),
        "si_sdr": float(si_sdr(clean, processed)),
    }


if __name__ == "__main__":
    noisy_dir, clean_dir, out = map(Path, sys.argv[1:])
    found, frame_loops = {}, []
    for path in sorted(noisy_dir.glob("*.wav")):
        processed, fs = soundfile.read(path)
        clean, _ = soundfile.read(clean_dir / path.name)
        found[path.stem] = scores(clean, processed, fs, frame_loops)
    out.write_text(json.dumps({"scores": found, "frame_loops": sum(frame_loops)}))
