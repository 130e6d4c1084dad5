"""Commands: ``python -m senet.bin.<name>``, and ``senet <name>``, are the same thing.

Each module here has ``get_parser()``, which imports nothing heavy so that ``--help``
is instant, and ``main(argv=None)``, which parses and calls into the package.
"""

import argparse
import errno
import importlib
import logging
import os
import pkgutil
import sys

from senet import __version__
from senet.errors import UserError

# Threads that wait by spinning starve each other where other programs run, too: a training with two threads beside one
# busy process on two cores took 17 times as long. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Of OSError: what is said in a line without a traceback.
SHOWN = (
    errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR,
    errno.EEXIST,
)  # fmt: skip


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says the default of an option that has one."""

    def _get_help_string(self, action):
        default = action.default
        none = default is None or default is False or default in ("", [], {})
        return action.help if none else super()._get_help_string(action)


class HelpAsWritten(argparse.RawDescriptionHelpFormatter, Help):
    """The same, with the lines of the description as they are."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a line, before which argparse shows all options."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}; --help lists the options\n")


def at_least(least):
    """Type of an option: a whole number from ``least`` on."""

    def number(text):
        try:
            if int(text) >= least:
                return int(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"'{text}', expected a whole number from {least} on")

    return number


positive = at_least(1)


def share(text):
    """Type of an option: 0 to 1."""
    try:
        if 0 <= float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}', expected a number from 0 to 1")


def setup_logging(level="INFO"):
    """One line per message on stderr: time, place, text."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s (%(filename)s:%(lineno)d) %(levelname)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("torch").setLevel(logging.WARNING)  # it sees to that itself, unless its import is interrupted


def run(main, argv=None):
    """Call ``main(argv)``; turn errors the user can mend into one message and an exit status."""
    try:
        return main(argv) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno in SHOWN and error.filename:
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1
        raise


def command_names():
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def senet(argv=None):
    """The ``senet`` command: ``senet NAME ARGS...`` runs ``senet.bin.NAME``."""
    argv = sys.argv[1:] if argv is None else argv
    names = command_names()
    if argv[:1] == ["--version"]:
        print(f"senet {__version__}")
        return 0
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: senet COMMAND [OPTIONS]   (senet COMMAND --help says more)\n")
        for name in names:
            doc = importlib.import_module(f"senet.bin.{name}").__doc__ or ""
            print(f"  {name:<12} {doc.strip().splitlines()[0] if doc.strip() else ''}")
        return 0
    if argv[0] not in names:
        from senet.config import did_you_mean

        near = did_you_mean(argv[0], names)
        print(f"senet: error: there is no command '{argv[0]}';{near} senet --help lists them", file=sys.stderr)
        return 2
    module = importlib.import_module(f"senet.bin.{argv[0]}")
    sys.argv[0] = f"senet {argv[0]}"
    return run(module.main, argv[1:])
