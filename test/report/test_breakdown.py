"""Groups of utterances: every utterance is in exactly one, and what is not known is called so."""

import numpy as np
import pytest

from senet.report import breakdown
from senet.report.breakdown import breakdowns


def groups(**labels):
    (found,) = breakdowns({k: np.array(v) for k, v in labels.items()})
    return [(label, low, high, index.tolist()) for label, low, high, index in found[2]]


def test_few_different_numbers_are_a_group_each():
    assert groups(snr=[5.0, 0.0, 5.0, -2.5, 0.0, 0.0]) == [
        ("-2.5", -2.5, -2.5, [3]),
        ("0", 0, 0, [1, 4, 5]),
        ("5", 5, 5, [0, 2]),
    ]


def test_many_different_numbers_fall_into_steps_of_5_db():
    values = np.random.default_rng(0).uniform(-7, 12, 200)
    found = groups(snr_estimated=values)
    assert [label for label, *_ in found] == ["-10 to -5", "-5 to 0", "0 to 5", "5 to 10", "10 to 15"]
    for _, low, high, index in found:
        assert ((low <= values[index]) & (values[index] < high)).all()
    assert sorted(i for *_, index in found for i in index) == list(range(200))


def test_a_number_on_the_edge_is_in_the_upper_step():
    values = [*np.arange(0, 10.5, 0.5), 10.0]
    assert [(label, len(index)) for label, _, _, index in groups(level=values)] == [
        ("0 to 5", 10),
        ("5 to 10", 10),
        ("10 to 15", 2),
    ]


def test_durations():
    found = groups(seconds=[1.9, 2.0, 3.0, 7.9, 8.0, 30.0, 0.3, 4.0])
    assert [(label, high, index) for label, _, high, index in found] == [
        ("0 to 2", 2, [0, 6]),
        ("2 to 4", 4, [1, 2]),
        ("4 to 8", 8, [3, 7]),
        ("8 and more", None, [4, 5]),
    ]


def test_what_is_not_known_is_a_group_of_its_own():
    assert groups(noise=["Bus", "", "Bus", ""]) == [("unknown", None, None, [1, 3]), ("Bus", None, None, [0, 2])]
    assert groups(snr=[0.0, np.nan, 5.0, 0.0, 5.0, 5.0])[-1] == ("unknown", None, None, [1])


def test_known_goes_before_estimated():
    labels = {"snr_estimated": np.array([0.0, 1.0] * 4), "snr": np.array([5.0, 10.0] * 4)}
    (found,) = breakdowns(labels)
    assert found[:2] == ("snr", False) and [group[0] for group in found[2]] == ["5", "10"]
    (found,) = breakdowns({"snr_estimated": labels["snr_estimated"]})
    assert found[:2] == ("snr", True)


def test_of_very_many_groups_the_largest_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(breakdown, "_MOST_GROUPS", 2)
    (found,) = breakdowns({"rir": np.array(["a", "a", "b", "c", "c", "c", "d", "d"])})
    assert [(label, len(index)) for label, _, _, index in found[2]] == [("a", 2), ("c", 3)] and found[3] == 4


@pytest.mark.parametrize("values", [["a"] * 6, list("abcdef"), list("aabcde")])
def test_parts_that_tell_nothing_are_left_out(values):
    assert list(breakdowns({"speaker": np.array(values)})) == []
