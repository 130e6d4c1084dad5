"""The one exception that is meant for the person at the terminal."""


class UserError(Exception):
    """Something the user can mend: bad input, a bad option, a missing file.

    The message is one sentence or a few lines and says where, what was found,
    what was expected and what to do. Commands print it without a traceback and
    exit with its status (see ``senet.bin.run``).
    """

    status = 1


def require_choice(where: str, value: str, choices):
    """Refuse a value that is none of ``choices``; ``where`` names the class and the option."""
    if value not in choices:
        raise UserError(f"{where} is {value!r}, expected one of {', '.join(choices)}")


def require_positive(where: str, **sizes: int | tuple[int, ...]):
    """Refuse a size, or a list of sizes, with a number below 1; ``where`` names the class, keywords the options."""
    for name, size in sizes.items():
        if isinstance(size, list | tuple) and min(size, default=1) < 1:
            raise UserError(f"{where}: {name} has {min(size)}, expected sizes of at least 1")
        if not isinstance(size, list | tuple) and size < 1:
            raise UserError(f"{where}: {name} is {size}, expected at least 1")
