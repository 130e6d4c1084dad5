"""The one exception that is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: bad input, a bad option, a missing file.

    The message is one sentence or a few lines and says where, what was found,
    what was expected and what to do. Commands print it without a traceback and
    exit with status 1 (see ``senet.bin.run``).
    """
