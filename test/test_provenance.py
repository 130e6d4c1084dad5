"""What a result was made with."""

import subprocess

from senet.provenance import cpu_name, git_state, versions


def test_git_state_knows_commit_and_changes(tmp_path):
    def git(*args):
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *name, *args], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    page = tmp_path / "egs" / "x" / "RESULTS.md"
    page.parent.mkdir(parents=True)
    for file in (tmp_path / "file", page):
        file.write_text("1")
    git("add", ".")
    git("commit", "-m", "x")
    clean = git_state(tmp_path)
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    page.write_text("2")  # the recipe has run: no change of the code
    assert git_state(page.parent) == clean
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == {**clean, "dirty": True}


def test_versions_of_what_is_there_and_not():
    found = versions("numpy", "no-such-package")
    assert found["numpy"] and found["python"] and found["no-such-package"] is None
    assert cpu_name()
