"""The fetch command, and the recipes' local/download.sh, which call it."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from archive_server import noise, serve, tar, zip_
from humanfriendly import format_size

from senet.bin import fetch, run

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("voicebank_demand", "dns5", "librispeech_mssnsd")


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as site:
        yield site


@pytest.fixture
def corpus(site, tmp_path):
    """A list of two parts, one of which is fetched by default; the path of the list."""
    site.files |= {"a.zip": zip_({"speech/1.wav": noise(1)}), "b.tgz.partaa": tar({"noise/2.wav": noise(2)})}
    whole = site.files["b.tgz.partaa"]
    site.files |= {"b.tgz.partaa": whole[:20000], "b.tgz.partab": whole[20000:]}
    entry = {"file": "a.zip", "bytes": len(site.files["a.zip"]), "md5": hashlib.md5(site.files["a.zip"]).hexdigest()}
    parts = {
        "speech": {"about": "what is said", "default": True, "archives": [entry]},
        "noise": {"unpack": "deep", "archives": [{"file": "b.tgz", "pieces": "aa-ab"}]},
    }
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump({"url": site.url, "parts": parts}))
    return path


def command(*words):
    return run(fetch.main, [str(word) for word in words])


def test_default_and_chosen_parts(corpus, tmp_path, site):
    to = tmp_path / "to"
    assert command(corpus, "--downloads", to) == 0
    assert (to / "speech" / "1.wav").read_bytes() == noise(1) and not (to / "deep").exists()
    assert command(corpus, "--downloads", to, "--part", "speech", "noise") == 0
    assert (to / "deep" / "noise" / "2.wav").read_bytes() == noise(2)
    assert [path for path, _ in site.asked] == ["a.zip", "b.tgz.partaa", "b.tgz.partab"]
    assert sorted(path.name for path in to.iterdir()) == [".fetch", "deep", "speech"]


def test_dry_run_transfers_nothing_and_tells_the_disk_last(corpus, tmp_path, site, capsys):
    size = len(site.files["a.zip"])
    assert command(corpus, "--downloads", tmp_path / "to", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("speech ") and lines[0].endswith("what is said") and len(lines) == 2
    assert lines[1].startswith(f"{tmp_path / 'to'}: ") and lines[1].endswith(f" of {format_size(2.5 * size)}")
    assert site.asked == [] and not (tmp_path / "to").exists()
    command(corpus, "--downloads", tmp_path / "to")
    capsys.readouterr()
    assert command(corpus, "--downloads", tmp_path / "to", "--dry_run") == 0
    assert "speech               is there" in capsys.readouterr().out


def test_dry_run_where_there_is_no_room(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("senet.data.fetch.free_bytes", lambda folder: 1000)
    assert command(corpus, "--downloads", tmp_path / "to", "--dry_run") == 1
    assert "1 KB free, not enough for" in capsys.readouterr().out


def test_another_server(corpus, tmp_path, site):
    site.files["mirror/a.zip"] = site.files.pop("a.zip")
    assert command(corpus, "--downloads", tmp_path / "to", "--url", f"{site.url}/mirror/") == 0
    assert (tmp_path / "to" / "speech" / "1.wav").exists()


def test_errors_are_one_message(corpus, tmp_path, capsys):
    assert command(corpus, "--downloads", tmp_path / "to", "--part", "spech") == 1
    assert "error: there is no part 'spech'; did you mean 'speech'" in capsys.readouterr().err
    assert command(tmp_path / "nothing.yaml") == 1
    assert "nothing.yaml: cannot read" in capsys.readouterr().err


# ---------------------------------------------------------------- local/download.sh


def script(recipe, name, *words):
    path = os.pathsep.join([str(ROOT / "utils"), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    for corpus in ("VOICEBANK_DEMAND", "DNS5"):
        env.pop(corpus, None)
    done = subprocess.run(
        ["bash", str(ROOT / "egs" / recipe / "local" / name), *map(str, words)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


PLACES = {  # options that say where the corpus is
    "voicebank_demand": ("corpus_dir",),
    "dns5": ("dns5",),
    "librispeech_mssnsd": ("clean_train_path", "noise_train_path", "clean_test_path", "noise_test_path"),
}


def places(recipe, folder):
    return [word for name in PLACES[recipe] for word in (f"--{name}", folder)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_fetch_nothing_unasked_and_tell_the_cost(recipe, tmp_path):
    to = tmp_path / "to"
    status, output = script(recipe, "download.sh", *places(recipe, tmp_path / "nowhere"), "--downloads", to)
    assert status == 0 and "nothing is fetched without '--download true'" in output
    assert " the peak (" in output.splitlines()[-1] and f"{to}: " in output.splitlines()[-1]
    status, output = script(recipe, "download.sh", *places(recipe, tmp_path), "--downloads", to)
    assert (status, output) == (0, "")
    assert not to.exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_tell_the_driver_the_disk(recipe, tmp_path):
    words = [*places(recipe, tmp_path / "nowhere"), "--downloads", tmp_path / "to", "--dry_run", "true"]
    status, output = script(recipe, "download.sh", *words)
    assert status == 0
    what = r": nothing is fetched without '--download true' \(it would take: .* of [\d.]+ GB\)\n"
    assert re.fullmatch(re.escape(str(tmp_path / "to")) + what, output)
    status, output = script(recipe, "download.sh", *words, "--download", "true")
    assert status in (0, 1) and float(output.split()[-2]) > 9 and output.endswith(" GB\n")
    words = [*places(recipe, tmp_path), "--downloads", tmp_path / "to", "--dry_run", "true"]
    assert script(recipe, "download.sh", *words) == (0, f"{tmp_path / 'to'}: 0 bytes\n")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_fetch_when_asked_to_and_pass_options_on(recipe, corpus, tmp_path, site):
    to = tmp_path / "to"
    words = ["--download", "true", "--downloads", to, "--archives", corpus, *places(recipe, tmp_path)]
    if recipe == "librispeech_mssnsd":
        (to / "MS-SNSD").mkdir(parents=True)
    site.break_at["a.zip"] = [10000]
    status, output = script(recipe, "download.sh", *words, "--part", "speech noise", "--nj", 2)
    assert status == 0, output
    assert (to / "speech" / "1.wav").exists() and (to / "deep" / "noise" / "2.wav").exists()
    site.files.clear()
    status, output = script(recipe, "download.sh", *words)
    assert status == 0 and "speech is there" in output
    status, output = script(recipe, "download.sh", *words, "--downloads", tmp_path / "other")
    assert status == 1 and "a.zip: the transfer did not finish" in output


FETCHING = ("download", "part", "downloads", "url", "archives", "keep_archives")
LISTING = {  # options of data.sh
    "voicebank_demand": ("counts", "datadir", "nj"),
    "dns5": ("corpora", "valid_share", "test_share", "seed", "bad_audio", "fingerprint", "datadir", "nj"),
    "librispeech_mssnsd": ("valid_share", "noise_valid_share", "seed", "bad_audio", "datadir", "nj"),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_scripts_of_a_recipe_take_each_others_options(recipe):
    """se.sh gives both the same ones."""
    for name in ("download.sh", "data.sh"):
        words = [word for option in (*FETCHING, *LISTING[recipe], *PLACES[recipe]) for word in (f"--{option}", "true")]
        status, output = script(recipe, name, *words, "--help")
        assert status == 0 and output.startswith("Usage"), output
