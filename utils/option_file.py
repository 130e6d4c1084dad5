"""Option files of the runners for schedulers, conf/slurm.conf and conf/queue.conf, in Kaldi's format."""

import re
import shlex
from pathlib import Path

import runner


class OptionFile:
    """What ``conf/slurm.conf`` or ``conf/queue.conf`` says: the submit command and what the options add to it.

    Args:
        path: the file, or None for ``text``. Raises runner.UsageError with file and line.
    """

    def __init__(self, path, text):
        self.name = path or "the built-in options (--help shows them)"
        if path:
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise runner.UsageError(f"{path}: cannot read it: {getattr(error, 'strerror', error)}") from None
        self.command, self.options, self.defaults = None, {}, {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split(None, 2)
            if not words:
                continue
            keyword, what, rest = words[0], "".join(words[1:2]), "".join(words[2:])
            match = re.fullmatch(r"([A-Za-z]\w*)=(\S+)", what.replace("-", "_") if keyword == "option" else what)
            if keyword == "command" and what:
                self.command = self._split(f"{what} {rest}", number)
            elif keyword == "option" and match:
                self.options[match[1], what.partition("=")[2]] = self._split(rest, number)
            elif keyword == "default" and match and not rest:
                self.defaults[match[1].replace("-", "_")] = match[2]
            else:
                raise runner.UsageError(
                    f"{self.name}, line {number}: '{line.strip()}': expected 'command ...', 'option name=value ...' "
                    "or 'default name=value'"
                )
        if not self.command:
            raise runner.UsageError(f"{self.name}: there is no line 'command ...', such as '{self._example(text)}'")

    @staticmethod
    def _example(text):
        return "command sbatch" if "sbatch" in text or "--" in text else "command qsub"

    def _split(self, text, number):
        try:
            return shlex.split(text)
        except ValueError as error:
            raise runner.UsageError(f"{self.name}, line {number}: {error}") from None

    def words(self, given):
        """The options as words for the submit command. An exact ``name=value`` goes before ``name=*``."""
        words = []
        for name, value in {**self.defaults, **given}.items():
            found = self.options.get((name, value), self.options.get((name, "*")))
            if found is None:
                raise runner.UsageError(
                    f"option --{name.replace('_', '-')} {value}: {self.name} has no line for it, "
                    f"'option {name}=* ...' (nor 'option {name}={value} ...')"
                )
            words += [word.replace("$0", value) for word in found]
        return words
