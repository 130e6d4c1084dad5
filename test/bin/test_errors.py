"""What every command says of bad input: a line, not a list of options, and no traceback."""

import errno
import importlib

import pytest

from senet import files
from senet.bin import command_names, run
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
