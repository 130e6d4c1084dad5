"""Work spread over processes that end with the one that started them.

They are started afresh, not forked: nothing of the parent's memory, threads or open files is in them. Each computes
with one thread, so that results depend neither on the number of processes nor on that of cores.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import traceback

from senet.errors import UserError

# numpy's sums differ in their last digits with the number of threads; its libraries read this when they are loaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_AHEAD = 16  # results of each process that may wait for a slower one before them


def process_map(function, items, nj):
    """Yield ``function(item)`` in the order of ``items``.

    Args:
        function: pickled once for each process; none of its state comes back. Or a list of one for each process.
        items: iterable of what can be pickled; drawn as the processes get to them.
        nj: number of processes; 1 computes here.
    Raises:
        UserError: a process was killed.
        Exception: what ``function`` raised, after the results before it. All processes are ended then, and when the
            generator is closed.
    """
    functions = function if isinstance(function, list) else [function] * nj
    if nj == 1:
        yield from map(functions[0], items)
        return
    workers = {}
    try:
        _start(workers, functions)
        yield from _in_order(workers, enumerate(items))
    finally:
        for process in workers.values():
            process.terminate()
        for connection, process in workers.items():
            process.join()
            connection.close()


def _in_order(workers, items):
    idle, busy, done = list(workers), {}, {}
    given = wanted = 0
    while True:
        while idle and given - wanted < _AHEAD * len(workers) and (item := next(items, None)):
            _send(workers, idle[-1], item[1])
            busy[idle.pop()], given = item[0], item[0] + 1
        if not busy:
            return
        for connection in multiprocessing.connection.wait(list(busy)):
            done[busy.pop(connection)] = _receive(workers, connection)
            idle.append(connection)
        while wanted in done:
            yield _value(*done.pop(wanted))
            wanted += 1


def _start(workers, functions):
    """Add {connection: process}. None of them takes notice of Ctrl-C, which the terminal sends to the parent, too."""
    context = multiprocessing.get_context("spawn")
    environment, on_interrupt = dict(os.environ), signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(ONE_THREAD)
    try:
        for function in functions:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, function, logging.getLogger().level), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
        for name in ONE_THREAD:
            os.environ.pop(name)
        os.environ.update(environment)


def _work(connection, function, level):
    from senet.bin import setup_logging

    setup_logging(level)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            item = connection.recv()
            try:
                answer = function(item), None, None
            except Exception as error:
                answer = None, error, traceback.format_exc()
            connection.send(answer)


def _send(workers, connection, item):
    try:
        connection.send(item)
    except ConnectionError:
        raise _killed(workers[connection]) from None


def _receive(workers, connection):
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        raise _killed(workers[connection]) from None


def _value(value, error, trace):
    if error is None:
        return value
    raise error from (None if isinstance(error, UserError) else RuntimeError(f"in a process of its own:\n{trace}"))


def _killed(process):
    process.join()
    how = f"ended with exit status {process.exitcode}"
    if process.exitcode < 0:
        how = f"was killed by {signal.Signals(-process.exitcode).name}"
    if process.exitcode == -signal.SIGKILL:
        how += " (often for want of memory: take fewer processes)"
    return UserError(f"process {process.pid} {how}; what is done is kept, and the same command goes on there")
