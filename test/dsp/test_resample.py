import numpy as np
import pytest

from senet.dsp.resample import LiveResampler, Resampler, resample, resample_part, resampled_length

RATES = [(48000, 16000), (44100, 16000), (22050, 16000), (11025, 16000), (8000, 16000), (16000, 48000)]


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_length_is_what_the_function_says(rate_in, rate_out):
    for n in [0, 1, 2, 3, 5, 160, 999, 12345]:
        assert len(resample(np.zeros(n), rate_in, rate_out)) == resampled_length(n, rate_in, rate_out)


def test_lengths_of_many_recordings_at_once():
    n, rates = np.array([48000, 44101, 7]), np.array([48000, 44100, 16000])
    assert resampled_length(n, rates, 16000).tolist() == [16000, 16000, 7]


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_tone_keeps_frequency_phase_and_level(rate_in, rate_out):
    def tone(rate):
        return np.sin(2 * np.pi * 1000 * np.arange(rate) / rate + 0.3)

    found = resample(tone(rate_in), rate_in, rate_out)
    inside = slice(rate_out // 10, -rate_out // 10)
    assert np.abs(found - tone(rate_out))[inside].max() < 1e-4


def test_what_the_new_rate_cannot_hold_is_gone():
    high = np.sin(2 * np.pi * 9000 * np.arange(48000) / 48000)
    assert np.abs(resample(high, 48000, 16000))[1600:-1600].max() < 1e-5


def test_axis_is_the_time_axis_and_signals_do_not_mix():
    x = np.random.default_rng(0).standard_normal((2, 4800, 3)).astype(np.float32)
    y = resample(x, 48000, 16000, axis=1)
    assert y.shape == (2, 1600, 3)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[1, :, 2], resample(x[1, :, 2], 48000, 16000), atol=1e-6)


def test_equal_rates_change_nothing():
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    np.testing.assert_array_equal(resample(x, 16000, 16000), x)


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [*RATES, (16000, 8000), (96000, 16000), (44056, 16000), (16000, 16000)]
)
def test_a_part_is_that_of_the_whole_and_little_more_of_it_is_read(rate_in, rate_out):
    x = (0.3 * np.random.default_rng(0).standard_normal(5 * rate_in + 7)).clip(-1, 1).astype(np.float32)
    whole = resample(x, rate_in, rate_out)
    asked = []

    def read(start, length):
        assert 0 <= start <= start + length <= len(x)
        asked.append(length)
        return x[start : start + length]

    for start, length in [(0, 1000), (17, 1), (2 * rate_out + 123, rate_out), (len(whole) - 999, 999), (5, 0)]:
        part = resample_part(read, len(x), rate_in, rate_out, start, length)
        assert len(part) == length
        np.testing.assert_allclose(part, whole[start : start + length], atol=1e-6)
    if (rate_in, rate_out) != (44056, 16000):  # few samples of these two rates are in line
        assert max(asked) < 1.2 * rate_in


@pytest.mark.parametrize(("rate_in", "rate_out"), [(44100, 16000), (16000, 44100), (8000, 16000), (16000, 16000)])
@pytest.mark.parametrize("n", [0, 1, 2, 10, 1000, 30000])
def test_blocks_give_the_samples_of_the_whole(rate_in, rate_out, n):
    x = np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)
    resampler = Resampler(rate_in, rate_out, 2)
    blocks = [x[:0], x[: n // 3], x[:0], x[n // 3 : n // 2], x[n // 2 :], x[:0]]
    y = np.concatenate([*map(resampler.step, blocks), resampler.flush()])
    assert np.array_equal(y, resample(x, rate_in, rate_out))


LIVE_RATES = [(48000, 16000), (44100, 16000), (16000, 48000), (16000, 44100), (8000, 16000), (16000, 8000)]


class TestLive:
    @staticmethod
    def join(resampler, blocks):
        return np.concatenate([*map(resampler.step, blocks), resampler.flush()])

    @pytest.mark.parametrize(("rate_in", "rate_out"), LIVE_RATES)
    @pytest.mark.parametrize("n", [0, 1, 2, 10, 1000, 30000])
    def test_blocks_do_not_matter_and_lengths_are_those_of_resample(self, rate_in, rate_out, n):
        x = np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)
        resampler = LiveResampler(rate_in, rate_out, 2)
        y = self.join(resampler, [x[:0], x[: n // 3], x[:0], x[n // 3 : n // 2], x[n // 2 :], x[:0]])
        assert y.shape == (resampled_length(n, rate_in, rate_out), 2) and y.dtype == np.float32
        resampler.reset()
        assert np.abs(self.join(resampler, [x]) - y).max(initial=0) < 1e-6

    @pytest.mark.parametrize(("rate_in", "rate_out"), LIVE_RATES)
    def test_waits_for_as_much_as_it_says_and_no_longer(self, rate_in, rate_out):
        resampler = LiveResampler(rate_in, rate_out, 1)
        assert resampler.ahead / rate_in <= 0.0061  # seconds; 48 periods of 8 kHz
        for taken in range(1, 2000):
            resampler.step(np.zeros((1, 1), np.float32))
            next_needs = resampler.given * rate_in // rate_out + resampler.ahead
            last_needed = (resampler.given - 1) * rate_in // rate_out + resampler.ahead if resampler.given else 0
            assert last_needed <= taken - 1 < next_needs

    @pytest.mark.parametrize(("rate_in", "rate_out"), LIVE_RATES)
    def test_tones_up_to_nine_tenths_of_the_band_stay_and_nothing_else_is_heard(self, rate_in, rate_out):
        half = min(rate_in, rate_out) // 2

        def tone(hertz, rate):
            return np.sin(2 * np.pi * hertz * np.arange(rate // 2) / rate + 0.3)

        def live(hertz):
            y = self.join(LiveResampler(rate_in, rate_out, 1), [tone(hertz, rate_in)[:, None].astype(np.float32)])
            return y[:, 0]

        inside = slice(rate_out // 10, -rate_out // 10)
        for share in (0.02, 0.3, 0.9):
            assert np.abs(live(share * half) - tone(share * half, rate_out))[inside].max() < 2e-3
        for share in (1.02, 1.1, 1.4, 1.9):
            if share * half < rate_in / 2:
                assert np.abs(live(share * half))[inside].max() < 1e-4
