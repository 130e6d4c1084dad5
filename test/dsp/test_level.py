import math

import numpy as np
import pytest

from senet.dsp.level import active_rms, from_db, is_quieter, mean_products, mean_square, rms, rms_db


def test_agrees_with_the_plain_formula():
    x = np.random.default_rng(0).standard_normal(50000).astype(np.float32) * 0.1
    assert math.isclose(mean_square(x), np.mean(x.astype(np.float64) ** 2), rel_tol=1e-6)
    assert math.isclose(rms(x), 0.1, rel_tol=0.02)


def test_any_scale_is_measured_alike():
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    for gain in (2.0**-100, 1e-5, 1e-3, 1.0, 32768.0, 1e9):
        assert math.isclose(rms(gain * x.astype(np.float64)), gain * rms(x), rel_tol=1e-5)


def test_does_not_depend_on_the_order_of_the_sum():
    x = np.random.default_rng(0).standard_normal(3 << 20).astype(np.float32)
    assert mean_square(x) == mean_square(x[::-1]) == mean_square(np.sort(x))


def test_full_scale_square_wave_is_0_db_and_silence_minus_infinity():
    assert rms_db(np.array([1.0, -1.0])) == 0.0
    assert rms_db(np.zeros(5)) == -math.inf
    assert rms_db(np.zeros(0)) == -math.inf
    assert math.isclose(rms_db(np.full(7, from_db(-25.0))), -25.0, abs_tol=1e-4)


@pytest.mark.parametrize("n", [800, 1600, 48000, 49999])
def test_active_level_is_that_of_the_100_ms_frames_within_50_db_of_the_loudest(n):
    rng = np.random.default_rng(n)
    gains = np.repeat(from_db(rng.uniform(-80, 0, 40)), 1600)[:n]  # about three frames in eight are too quiet
    x = (0.1 * gains * rng.standard_normal(n)).astype(np.float32)
    frames = [x[i : i + 1600].astype(np.float64) for i in range(0, n, 1600)]
    levels = [10 * math.log10(np.mean(frame**2)) for frame in frames]
    kept = np.concatenate([frame for frame, level in zip(frames, levels, strict=True) if level >= max(levels) - 50])
    assert len(kept) < n or n <= 1600
    assert math.isclose(active_rms(x, 16000), np.sqrt(np.mean(kept**2)), rel_tol=1e-5)


def test_pauses_do_not_lower_the_active_level():
    x = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    silent = np.zeros(32000, np.float32)
    assert active_rms(np.concatenate([x, silent]), 16000) == rms(x)
    assert active_rms(silent, 16000) == 0.0


def test_products_of_two_signals_are_those_of_their_sum():
    rng = np.random.default_rng(0)
    x, y = (gain * rng.standard_normal(20001).astype(np.float32) for gain in (np.float32(0.1), np.float32(3)))
    xx, yy, xy = mean_products(x, y)
    assert xx == mean_square(x) and yy == mean_square(y)
    assert math.isclose(xx + yy + 2 * xy, mean_square(x + y), rel_tol=1e-5)
    assert mean_products(x, y) == mean_products(x[::-1], y[::-1])
    assert mean_products(x, np.zeros_like(x)) == [xx, 0, 0]


def test_quieter_is_decided_by_the_exact_level():
    x = np.random.default_rng(0).standard_normal(30000).astype(np.float32) * 0.01
    level = rms_db(x)
    assert not is_quieter(x, level) and is_quieter(x, np.nextafter(level, 0))
    assert is_quieter(x, -20) and not is_quieter(x, -60)
    assert is_quieter(np.zeros(5, np.float32), -300) and not is_quieter(np.zeros(5, np.float32), -math.inf)
