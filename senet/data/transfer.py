"""Transfer of one file by the system's curl: goes on where it was interrupted, and is checked.

The bytes pass through this process: when it is killed, curl ends with it, and never writes to a file behind the back
of the next run.
"""

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
import time

import humanfriendly

from senet.errors import UserError

TRIES = 4  # in a row that bring nothing new
WAIT = 2.0  # seconds before the second try; then twice as long each time
_STALL = "60"  # seconds without a byte after which curl gives up a connection
# Exit statuses of curl after which another try may help: resolving, connecting, transfers that broke off or stalled.
_PASSING = (5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92)
_NO_RANGES = 33


class Progress:
    """One line about a long piece of work: kept up to date on a terminal, logged every minute elsewhere."""

    def __init__(self, label, done=0, total=None):
        self.label, self.first, self.done, self.total = label, done, done, total
        self.terminal = sys.stderr.isatty()
        self.interval = 0.5 if self.terminal else 60
        self.start = self.shown = time.monotonic()

    def add(self, count):
        self.done += count
        now = time.monotonic()
        if now - self.shown < self.interval:
            return
        self.shown = now
        rate = (self.done - self.first) / (now - self.start)
        text = f"{self.label}: {size(self.done)}" + (f" of {size(self.total)}" if self.total else "")
        text += f", {size(rate)}/s"
        if self.total and rate and self.total > self.done:
            text += f", {humanfriendly.format_timespan(round((self.total - self.done) / rate), max_units=2)} left"
        if self.terminal:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            logging.info(text)

    def end(self):
        if self.terminal and self.shown > self.start:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def size(count):
    """``5242880000`` -> ``5.24 GB``."""
    return humanfriendly.format_size(round(count))


def transfer(url, part, expected=None):
    """Fetch ``url`` into the file ``part``, going on behind what it holds already.

    Args:
        expected: length in bytes, where it is known.
    Raises:
        UserError: the server does not have it, or stays out of reach; or the disk is full. ``part`` is kept.
    """
    tries = longest = 0
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        there = part.stat().st_size if part.exists() else 0
        if expected is not None and there > expected:
            part.unlink()
            there = 0
        if there == expected:
            return
        status, code, said = _curl(url, part, there, expected)
        if status == 0 or (code == 416 and there):  # 416: there is nothing behind what is there
            return
        if status == _NO_RANGES:
            part.unlink()
        now = part.stat().st_size if part.exists() else 0
        if not now:
            part.unlink(missing_ok=True)
        tries = 0 if now > longest else tries + 1
        longest = max(longest, now)
        if not (status in (*_PASSING, _NO_RANGES) or code in (408, 429) or code >= 500) or tries >= TRIES:
            kept = f" {size(now)} are kept in {part}, and the same command goes on there." if now else ""
            raise UserError(
                f"{url}: the transfer did not finish: {said}.{kept} Where it fails again, look at the address and the "
                "network; --url takes another server"
            )
        logging.info("%s: %s; going on behind %s", url, said, size(now))
        if tries:
            time.sleep(WAIT * 2 ** (tries - 1))


def _curl(url, part, offset, expected):
    """One try: exit status of curl, HTTP status (0 when there was none), what it said."""
    command = ["curl", "--fail", "--location", "--globoff", "--silent", "--show-error", "--connect-timeout", "30"]
    command += ["--speed-limit", "1", "--speed-time", _STALL, "--write-out", "%{stderr}\n%{http_code}"]
    command += ["--continue-at", str(offset)] if offset else []
    progress = Progress(part.name.removesuffix(".part"), offset, expected)
    with tempfile.TemporaryFile("w+") as said:
        try:
            with (
                open(part, "ab") as file,
                subprocess.Popen([*command, "--url", url], stdout=subprocess.PIPE, stderr=said) as process,
            ):
                try:
                    while block := process.stdout.read1(1 << 20):
                        file.write(block)
                        progress.add(len(block))
                except BaseException:
                    process.kill()
                    raise
        except FileNotFoundError:
            raise UserError("curl is not installed, which fetches the archives; install it, or fetch by hand") from None
        except OSError as error:
            raise UserError(f"{part}: cannot write: {error.strerror}; free some space and run again") from None
        finally:
            progress.end()
        said.seek(0)
        *lines, code = said.read().strip().split("\n")
    return process.returncode, int(code), lines[0].removeprefix("curl: ") if lines else f"HTTP status {code}"


def fault(path, expected=None, algorithm=None, digest=None):
    """What is wrong with a file, in words for the user; None when nothing is.

    Args:
        expected: its length in bytes, where it is known.
        algorithm, digest: such as ``"md5"`` and its hexadecimal sum, where it is known.
    """
    with open(path, "rb") as file:
        head = file.read(2000)
        if re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE):
            title = re.search(rb"<title[^>]*>([^<]*)", head, re.IGNORECASE)
            title = f" ('{title[1].decode('utf-8', 'replace').strip()}')" if title else ""
            return f"it is a web page{title}, not the file"
        found = file.seek(0, 2)
        if expected is not None and found != expected:
            return f"it has {found} bytes, expected {expected}"
        if not digest:
            return None
        file.seek(0)
        sum_, progress = hashlib.new(algorithm), Progress(f"checking {path.name}", total=found)
        while block := file.read(1 << 20):
            sum_.update(block)
            progress.add(len(block))
        progress.end()
    if sum_.hexdigest() != digest.lower():
        return f"its {algorithm} sum is {sum_.hexdigest()}, expected {digest.lower()}; it is damaged or another file"
    return None
