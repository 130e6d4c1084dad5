"""What test_processes.py has done in other processes, which import this file."""

import os
import sys
import time

from senet.errors import UserError


def slow_square(x):
    time.sleep(0.05 if x % 3 == 0 else 0)
    return x * x, os.getpid()


def raise_at(bad, x):
    if x == bad:
        raise UserError(f"{x} is bad")
    return x


def die_at(bad, how, x):
    if x == bad:
        os.kill(os.getpid(), how) if how else os._exit(3)
    return x


def state(_):
    return sorted(sys.modules), {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")}


def divide(x):
    return 1 / x
