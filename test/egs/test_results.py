"""The RESULTS.md of each recipe: made from records, and honest about what was not run."""

from pathlib import Path

import pytest

from senet.bin import compare

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob("egs/*/RESULTS.md"))


def test_every_recipe_has_one():
    assert [page.parent.name for page in PAGES] == sorted(path.parent.name for path in ROOT.glob("egs/*/run.sh"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_it_says_what_was_not_run_and_what_others_published(path, tmp_path, monkeypatch):
    """Without experiments the command gives the whole page, or, of one with experiments, the published values."""
    page = path.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("conf", "published.yaml"):
        if (path.parent / name).exists():
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            (tmp_path / path.parent.name / name).symlink_to(path.parent / name)
    again = tmp_path / path.parent.name / "RESULTS.md"
    compare.main(["--out", str(again)])
    expected = again.read_text(encoding="utf-8")
    published = "## Published elsewhere"
    assert page.partition(published)[1:] == expected.partition(published)[1:]
    if "## Test set" not in page:
        assert page == expected and "## Not run here" in page
    else:
        assert "- command: `" in page and "- commit: " in page
