"""What every command says of bad input: a line, not a list of options, and no traceback."""

import argparse
import errno
import importlib

import pytest

from senet import __version__, files
from senet.bin import command_names, positive, run, senet, share
from senet.errors import UserError
from senet.lock import Lock


@pytest.mark.parametrize("name", command_names())
def test_a_wrong_option_gets_one_line(name, capsys):
    main = importlib.import_module(f"senet.bin.{name}").main
    try:
        assert run(main, ["--nj", "many"]) == 1
    except SystemExit as stop:
        assert stop.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "error: " in said and "--help lists " in said


def test_a_folder_that_cannot_be_written_to_is_named_in_a_line(tmp_path, monkeypatch, capsys):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "disk"))

    monkeypatch.setattr(files.Path, "mkdir", refuse)
    with (
        pytest.raises(UserError, match="x: cannot write: Read-only file system"),
        files.whole_file(tmp_path / "disk/a/x"),
    ):
        pass
    with pytest.raises(UserError, match="disk: cannot write: Read-only file system"), Lock(tmp_path / "disk" / "exp"):
        pass
    assert run(refuse) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/disk: Read-only file system\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enhanse"], "no command 'enhanse'; did you mean 'enhance'? senet --help lists them"),
        (["--verbose"], "no command '--verbose'; senet --help lists them"),
    ],
)
def test_a_command_that_there_is_not_gets_one_line(words, said, capsys):
    assert senet(words) == 2
    assert capsys.readouterr().err == f"senet: error: there is {said}\n"


def test_senet_tells_its_version(capsys):
    assert senet(["--version"]) == 0
    assert capsys.readouterr().out == f"senet {__version__}\n"


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "expected"),
    [
        (positive, "3", ("0", "-1", "x", "1.5"), "a whole number from 1 on"),
        (share, "0.5", ("1.1", "-1", "80%", "nan"), "a number from 0 to 1"),
    ],
)
def test_types_of_options_say_what_they_expect(kind, right, wrong, expected):
    assert kind(right) == float(right)
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}', expected {expected}"):
            kind(text)
