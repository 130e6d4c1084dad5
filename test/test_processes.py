"""Work spread over processes: order, errors, and that none of them stays behind."""

import functools
import multiprocessing
import os
import signal

import pytest
from child_work import die_at, divide, raise_at, slow_square, state

from senet.errors import UserError
from senet.processes import process_map


@pytest.fixture(autouse=True)
def _none_stays_behind():
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("nj", [1, 2, 3])
def test_order_is_that_of_the_items(nj):
    found = list(process_map(slow_square, iter(range(40)), nj))
    assert [value for value, _ in found] == [x * x for x in range(40)]
    pids = {pid for _, pid in found}
    assert pids == {os.getpid()} if nj == 1 else len(pids) == nj and os.getpid() not in pids


def test_items_are_drawn_as_they_are_needed():
    drawn = []
    results = process_map(slow_square, (drawn.append(x) or x for x in range(10000)), 2)
    assert next(results)[0] == 0
    results.close()
    assert len(drawn) < 100


def test_no_items():
    assert list(process_map(slow_square, [], 2)) == []


def test_processes_are_light_and_compute_with_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    modules, threads = next(process_map(state, range(1), 2))
    assert "torch" not in modules and "scipy" not in modules
    assert set(threads.values()) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("nj", [1, 2])
def test_first_error_is_raised_here(nj):
    results = process_map(functools.partial(raise_at, 5), range(1000), nj)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="^5 is bad$"):
        list(results)


def test_error_of_our_own_says_where_it_was():
    with pytest.raises(ZeroDivisionError) as error:
        list(process_map(divide, [1, 0], 2))
    assert "in divide" in str(error.value.__cause__)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            signal.SIGKILL,
            r"process \d+ was killed by SIGKILL \(often for want of memory: take fewer processes\)",
        ),
        (signal.SIGSEGV, r"process \d+ was killed by SIGSEGV; what is done is kept"),
        (None, r"process \d+ ended with exit status 3; what is done is kept"),
    ],
)
def test_killed_process_is_an_error_that_says_so(how, message):
    with pytest.raises(UserError, match=message):
        list(process_map(functools.partial(die_at, 5, how), range(1000), 2))
