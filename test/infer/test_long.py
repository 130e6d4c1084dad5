"""Overlapping windows: their seams, their lengths, and what is held in memory."""

import pytest
import torch

from senet.errors import UserError
from senet.infer.long import CONTEXT_SECONDS, Windows

RATE = 1000
LENGTH = 6 * RATE


class Smooth(torch.nn.Module):
    """A centred mean over 201 samples, with zeros beyond the ends of what it sees."""

    sample_rate, causal, latency = RATE, False, None

    def __init__(self):
        super().__init__()
        self.lengths = []

    def forward(self, noisy):
        self.lengths.append(noisy.shape[1])
        return torch.nn.functional.avg_pool1d(noisy[:, None], 201, 1, 100)[:, 0]


def run(model, x, size=700):
    windows = Windows(model, x.shape[0], LENGTH)
    parts = [windows.step(part) for part in x.split(size, 1)]
    return torch.cat([*parts, windows.flush()], 1)


@pytest.mark.parametrize("seconds", [0.001, 3, 5.999, 6, 6.001, 7, 9.499, 9.5, 9.501, 20, 33.3])
@pytest.mark.parametrize("size", [1, 700, 100_000])
def test_a_model_that_sees_no_further_than_the_context_gives_what_it_gives_for_the_whole(seconds, size):
    if size == 1 and seconds > 10:
        return
    x = torch.randn(2, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(Smooth(), x, size), Smooth()(x), rtol=0, atol=1e-6)


def test_all_windows_of_a_long_recording_have_one_length():
    model = Smooth()
    run(model, torch.randn(1, 20 * RATE))
    assert set(model.lengths) == {LENGTH}
    assert len(model.lengths) == 1 + -(-(20 - 6) * RATE // (LENGTH - Windows(model, 1, LENGTH).shared))


def test_windows_that_differ_are_faded_into_each_other():
    class Counts(Smooth):
        def forward(self, noisy):
            self.lengths.append(0)
            return torch.full_like(noisy, float(len(self.lengths)))

    y = run(Counts(), torch.zeros(1, 12 * RATE))[0]
    assert y[0] == 1 and y[-1] == len(torch.unique(y.round()))
    assert torch.diff(y).abs().max() < 1.6 / (0.5 * RATE) * 1.01  # the slope of a sine's square
    assert (torch.diff(y) >= 0).all()
    whole = (y == y.round()).float().mean()
    assert whole > 0.7


def test_memory_does_not_grow():
    windows, x = Windows(Smooth(), 1, LENGTH), torch.zeros(1, 700)
    for _ in range(100):
        windows.step(x)
        assert windows.noisy.untyped_storage().nbytes() <= 4 * (2 * LENGTH + 700)


def test_too_short_a_window_is_refused():
    with pytest.raises(UserError, match="windows of 5 s, expected more than 5 s"):
        Windows(Smooth(), 1, 5 * RATE)
    assert CONTEXT_SECONDS * RATE > 100  # or the first test would show nothing


def test_nothing_in_nothing_out():
    windows = Windows(Smooth(), 3, LENGTH)
    assert windows.step(torch.zeros(3, 0)).shape == windows.flush().shape == (3, 0)
