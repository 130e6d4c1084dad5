"""File + command line -> checked values -> objects.

A command's options are declared once, in Python, with their defaults. A YAML file
given with ``--config`` holds differences from them under the same names, and the
command line wins over both::

    python -m senet.bin.train --config conf/train_x.yaml --max_epoch 5 --model_conf.n_layers 4

Options that end in ``_conf`` are mappings, the keyword arguments of the class named
beside them (``model: lowlatency.LowLatencyNet``, ``model_conf: {...}``). They are
compared with the constructor's signature when the object is built, so a misspelt key
or a value of the wrong type is refused wherever it was written.

Imports nothing heavy: the classes are imported when they are built.
"""

import argparse
import difflib
import importlib
import inspect
import json
import pkgutil
import re
import sys
import types
import typing
from pathlib import Path

import configargparse
import yaml

from senet.bin import Help
from senet.errors import UserError
from senet.files import whole_file

# ---------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number and a repeated key is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None  # others are refused below
            if key is not None and key in seen:
                raise UserError(
                    f"{self.name}:{key_node.start_mark.line + 1}: the key '{key}' stands twice in one mapping; keep one"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML reads, wants a point and a signed exponent; people write 1e-4.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse_yaml(text, name):
    loader = _Loader(text)
    loader.name = str(name)
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{name}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    finally:
        loader.dispose()


def read_yaml(path):
    """The mapping in a YAML file ({} when it is empty)."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot read the configuration: {reason}") from None
    value = _parse_yaml(text, path)
    if not isinstance(value, dict | None):
        raise UserError(f"{path}: expected lines 'key: value', found a {type(value).__name__}")
    return value or {}


# ---------------------------------------------------------------- options


def rate(text):
    """Argument type for a rate in Hz: ``16000`` or ``16k``."""
    import humanfriendly

    try:
        return humanfriendly.parse_size(str(text))
    except humanfriendly.InvalidSize:
        raise argparse.ArgumentTypeError(f"'{text}' is not a rate such as 16000 or 16k") from None


def mapping(text):
    """Argument type of the ``*_conf`` options: a YAML mapping in one line."""
    value = _parse_yaml(text, "the command line") or {}
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a mapping such as '{{key: value}}', found '{text}'")
    return value


def optional(convert):
    """Argument type that also takes ``null``, for options that can be without a value."""

    def optional_value(text):
        return None if text.lower() in ("null", "none") else convert(text)

    optional_value.__name__ = convert.__name__
    return optional_value


def did_you_mean(word, known):
    """`` did you mean 'x'?`` with the nearest of ``known``, or nothing."""
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f" did you mean '{lower[near[0]]}'?" if near else ""


class Parser(configargparse.ArgumentParser):
    """Argument parser with ``--config FILE.yaml`` and dotted overrides; parse with `parse`."""

    def __init__(self, **kwargs):
        parser = self

        class YamlFile(configargparse.ConfigFileParser):
            def get_syntax_description(self):
                return "The config file is a YAML mapping from option names to values."

            def parse(self, stream):
                return parser._read_file(stream.name)

        super().__init__(
            config_file_parser_class=YamlFile,
            formatter_class=Help,
            allow_abbrev=False,
            add_config_file_help=False,
            add_env_var_help=False,
            **kwargs,
        )
        self.file, self.file_values, self.argv = None, {}, []
        self.add_argument("--config", is_config_file=True, metavar="FILE", help="YAML file with options as below")

    def option_names(self):
        return [s[2:] for action in self._actions for s in action.option_strings if s.startswith("--")]

    def parse(self, argv=None):
        """Command line over file over defaults.

        Returns:
            argparse.Namespace.
        Raises:
            UserError: an unknown option or key, with its place and the nearest known one.
        """
        argv, overrides = _split_overrides(sys.argv[1:] if argv is None else argv)
        self.argv = argv
        args, unknown = self.parse_known_args(argv)
        if unknown:
            self._refuse(unknown[0])
        for name, value in overrides:
            option, *path = name.split(".")
            if not isinstance(getattr(args, option, None), dict):
                self._refuse(f"--{name}")
            setattr(args, option, _with_value(getattr(args, option), path, _parse_yaml(value, f"--{name}"), name))
        return args

    def error(self, message):
        """As argparse, with the line of the file when the value came from there."""
        key = re.search(r"--(\w+)", message)
        typed = key and any(word.partition("=")[0] == key[0] for word in self.argv)
        place = f"{self._place(key[1])}: " if key and key[1] in self.file_values and not typed else ""
        self.exit(2, f"{self.prog}: error: {place}{message}; --help lists the options\n")

    def _read_file(self, path):
        """The file as ConfigArgParse wants it: text for every value."""
        self.file, self.file_values = path, read_yaml(path)
        known = [name for name in self.option_names() if name not in ("config", "help")]
        for key in self.file_values:
            if key not in known:
                hint = did_you_mean(str(key), known)
                raise UserError(f"{self._place(key)}: there is no option '{key}';{hint} --help lists all")
        return {
            key: _text(value)
            for key, value in self.file_values.items()
            if value is not None or self.get_default(key) is not None  # null where the default is null says nothing
        }

    def _place(self, key):
        pattern = re.compile(rf"[\"']?{re.escape(str(key))}[\"']?\s*:")
        with open(self.file, encoding="utf-8") as f:
            line = next((n for n, text in enumerate(f, 1) if pattern.match(text)), None)
        return f"{self.file}:{line}" if line else self.file

    def _refuse(self, word):
        if not word.startswith("--"):
            raise UserError(f"unexpected '{word}' on the command line; options are written --name value")
        option = word[2:].partition("=")[0].partition(".")[0]
        known = self.option_names()
        if option in known:
            raise UserError(f"{word}: only the *_conf options take a dotted key; --{option} takes one value")
        raise UserError(f"--{option}: there is no such option;{did_you_mean(option, known)} --help lists all")


def _text(value):
    if isinstance(value, list):
        return [str(v) for v in value]
    return value if isinstance(value, str) else json.dumps(value)


def _with_value(conf, path, value, name):
    """A copy of the nested mapping with ``value`` at ``path``."""
    if not isinstance(conf, dict):
        raise UserError(f"--{name}: '{name.rpartition('.')[0]}' is a single value, not a mapping")
    key, *rest = path
    return conf | {key: _with_value(conf.get(key, {}), rest, value, name) if rest else value}


def _split_overrides(argv):
    """Take ``--a.b value`` and ``--a.b=value`` out of the command line."""
    rest, overrides, words = [], [], iter(argv)
    for word in words:
        if not re.match(r"--\w+\.", word):
            rest.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, None)
            if value is None or re.match(r"--[a-z]", value):
                raise UserError(f"--{name}: needs a value")
        overrides.append((name, value))
    return rest, overrides


# ---------------------------------------------------------------- saved configurations


def save_resolved(path, values):
    """Write option values so that the file can be passed back as ``--config``."""
    plain = {k: v for k, v in values.items() if k != "config"}
    with whole_file(path) as f:
        yaml.safe_dump(plain, f, sort_keys=False, allow_unicode=True)


def load_resolved(expdir):
    """The options an experiment was trained with, from ``expdir/config.yaml``.

    Raises:
        UserError: there is no such file.
    """
    path = Path(expdir) / "config.yaml"
    if not path.exists():
        raise UserError(
            f"{path}: missing; '{expdir}' is not a folder that senet.bin.train wrote. Run stage train first."
        )
    return read_yaml(path)


# ---------------------------------------------------------------- objects

# The option that names a class of each kind, for messages.
_OPTION = {
    "models": "model",
    "losses": "loss",
    "train": "objective",
    "train.optim": "optim",
    "torch.optim.lr_scheduler": "scheduler",
}


def build(kind, dotted, conf=None, *, option=None, **extra):
    """Make the object that a configuration names.

    Args:
        kind: package or module under senet (``"models"``, ``"losses"``, ``"train.optim"``, ...), or
            ``"torch.optim.lr_scheduler"``.
        dotted: module and class below it, ``"lowlatency.LowLatencyNet"`` or ``"Adam"``.
        conf: keyword arguments from the configuration; checked and converted.
        option: what the configuration calls the class, for messages, and with ``_conf`` its arguments; None: as in the
            train command.
        extra: keyword arguments from the program; not open to the configuration.
    Raises:
        UserError: no such class, unknown key (with the accepted ones), wrong type, missing value, or a value that the
            class refuses.
    """
    option = option or _OPTION.get(kind, kind)
    cls = locate(kind, dotted, option)
    values = _checked(f"{option}_conf", cls, conf or {}, extra)
    try:
        return cls(**values, **extra)
    except ValueError as error:  # torch's way to refuse a size of 0 or a negative learning rate
        raise UserError(f"{option}_conf: {cls.__name__} refuses its values: {error}") from error


def resolve(kind, dotted, conf=None, extra=None):
    """``conf`` checked and filled up with the class's plain defaults, ready for YAML.

    ``extra`` names the arguments that come from the program, as in `build`; None: not known yet.
    """
    option = _OPTION.get(kind, kind)
    cls = locate(kind, dotted, option)
    values = {n: p.default for n, p in _parameters(cls).items() if n not in (extra or ()) and _is_plain(p.default)}
    return {k: _listed(v) for k, v in (values | _checked(f"{option}_conf", cls, conf or {}, extra)).items()}


def locate(kind, dotted, option):
    """The class at ``dotted`` in a package; UserError names the option and lists what is there."""
    package = kind if kind.startswith("torch.") else f"senet.{kind}"
    module_name, _, class_name = str(dotted).rpartition(".")
    full = f"{package}.{module_name}" if module_name else package
    if not re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", str(dotted)):
        raise UserError(f"{option}: '{dotted}' is not a name such as module.Class")
    try:
        module = importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name is None or not (full == error.name or full.startswith(error.name + ".")):
            raise  # the module is there, something that it needs is not
        there = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__))
        raise UserError(
            f"{option}: '{dotted}' not found: {package} has no module '{module_name}';"
            f"{did_you_mean(module_name, there)} It has {', '.join(there)}."
        ) from None
    cls = getattr(module, class_name, None)
    if not inspect.isclass(cls):
        classes = {n: c for n, c in vars(module).items() if inspect.isclass(c) and not n.startswith("_")}
        offered = getattr(module, "__all__", [n for n, c in classes.items() if c.__module__ == full])  # not its imports
        there = [n for n in classes if n in offered]
        raise UserError(
            f"{option}: '{dotted}' not found: {full} has no class '{class_name}';"
            f"{did_you_mean(class_name, there)} It has {', '.join(sorted(there)) or 'none'}."
        )
    return cls


def _parameters(cls):
    skip = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {n: p for n, p in inspect.signature(cls).parameters.items() if p.kind not in skip}


def _checked(option, cls, conf, extra):
    """``conf``, the mapping that ``option`` names, with every value converted to what ``cls`` takes.

    ``extra=None`` means that the program's own arguments are not known yet: missing
    values are then not complained about.
    """
    takes = {n: p for n, p in _parameters(cls).items() if n not in (extra or {})}
    try:
        hints = typing.get_type_hints(cls.__init__)
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can read
        hints = {}
    checked = {}
    for key, value in conf.items():
        if key not in takes:
            hint = did_you_mean(str(key), takes)
            raise UserError(f"{option}: {cls.__name__} has no '{key}';{hint} It takes {', '.join(takes) or 'nothing'}.")
        p = takes[key]
        checked[key] = _convert(f"{option}.{key}", value, _accepted_types(hints.get(key), p.default), p.default)
    missing = [n for n, p in takes.items() if p.default is p.empty and n not in conf]
    if missing and extra is not None:
        raise UserError(f"{option}: {cls.__name__} needs a value for {', '.join(missing)}")
    return checked


_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def _is_plain(value):
    return isinstance(value, _PLAIN)


def _listed(value):
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value


def _accepted_types(hint, default=inspect.Parameter.empty):
    """Plain types that a parameter takes, each with the hints of its items; empty when nothing is known about it.

    ``tuple[int, ...] | None`` gives ``{tuple: (int, ...), NoneType: ()}``, and so does the default (1, 2) alone.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    accepted = {}
    if origin in (typing.Union, types.UnionType):
        for part in args:
            accepted |= _accepted_types(part)
    elif origin is typing.Literal:
        accepted = {type(v): () for v in args}
    elif (origin or hint) in _PLAIN:
        accepted = {origin or hint: (*args, ...) if origin is list else args}
    if default is None:
        return accepted | {type(None): ()} if accepted else {}
    if not accepted and default is not inspect.Parameter.empty and _is_plain(default):
        accepted = {type(default): ()}
    if isinstance(default, list | tuple) and accepted.get(type(default)) == ():
        item_types = {type(v) for v in default}
        accepted[type(default)] = (*item_types, ...) if len(item_types) == 1 else ()
    return accepted


def _convert(where, value, accepted, default=inspect.Parameter.empty):
    """``value`` as one of the ``accepted`` types, or UserError naming key, found, expected."""
    if not accepted:
        return value
    if isinstance(value, list | tuple) and (list in accepted or tuple in accepted):
        target = tuple if tuple in accepted else list
        return target(_converted_items(where, value, accepted[target], default))
    if type(value) in accepted:
        return value
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        for target in (int, float):
            if target in accepted:
                number = _number(value, target, is_rate=where.endswith(("sample_rate", ".fs")))
                if number is not None:
                    return number
    names = " or ".join("null" if t is type(None) else t.__name__ for t in accepted)
    raise UserError(f"{where}: expected {names}{_example(default)}, found {_shown(value)} ({type(value).__name__})")


def _converted_items(where, values, hints, default):
    """Items of a list as their hints say: one for each, or one and ``...`` for all; any items without hints."""
    if not hints:
        return values
    if hints[-1] is ...:
        hints = [hints[0]] * len(values)
    if len(values) != len(hints):
        raise UserError(f"{where}: expected {len(hints)} values{_example(default)}, found {_shown(values)}")
    items = enumerate(zip(values, hints, strict=True))
    return [_convert(f"{where}[{i}]", value, _accepted_types(hint)) for i, (value, hint) in items]


def _shown(value):
    return json.dumps(value, default=str)  # YAML also has dates


def _example(default):
    return f" (default {_shown(default)})" if default is not inspect.Parameter.empty and _is_plain(default) else ""


def _number(value, target, is_rate):
    """A number of the type ``target`` that is written in ``value``, or None."""
    try:
        number = rate(value) if is_rate and isinstance(value, str) else float(value)
    except (ValueError, argparse.ArgumentTypeError):
        return None
    if target is int:
        return int(number) if float(number).is_integer() else None
    return float(number)
