"""The one exception that is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: bad input, a bad option, a missing file.

    The message is one sentence or a few lines and says where, what was found,
    what was expected and what to do. Commands print it without a traceback and
    exit with status 1 (see ``senet.bin.run``).
    """


def require_choice(where: str, value: str, choices):
    """Refuse a value that is none of ``choices``; ``where`` names the class and the option."""
    if value not in choices:
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(choices)}")
