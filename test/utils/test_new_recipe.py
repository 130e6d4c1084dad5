"""utils/new_recipe.sh makes a recipe that works on two folders of recordings as it stands."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]


def run(*words, cwd=ROOT, code=0):
    environment = {**os.environ, "SENET_CMD_BACKEND": "local"}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def recipe():
    if not (ROOT / "tools" / "env.sh").exists():
        pytest.skip("not installed by tools/install.sh")
    name = f"test_{uuid.uuid4().hex[:12]}"
    try:
        run("utils/new_recipe.sh", name)
        yield ROOT / "egs" / name
    finally:
        shutil.rmtree(ROOT / "egs" / name, ignore_errors=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two folders")  # a blank in the path
    rng = np.random.default_rng(0)
    for i in range(8):
        for path in (folder / "speech" / f"spk{i}" / "a.wav", folder / "noise" / f"n{i}.flac"):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(16000), 16000)
    return folder


def test_a_new_recipe_lists_its_stages(recipe):
    listed = run("./run.sh", "--list", cwd=recipe)
    assert "1 data" in listed
    assert "2 mix       dump/raw/train" in listed
    assert "4 train     exp/train_" in listed
    assert not (recipe / "exp").exists()


def test_a_new_recipe_works_on_two_folders(recipe, corpus):
    words = ["--speech_dir", corpus / "speech", "--noise_dir", corpus / "noise", "--mix_args", "--seconds 0.5"]
    words += ["--num_clips", "train=4 valid=2 test=2"]
    run("./run.sh", *words, "--stop_stage", "data", cwd=recipe)
    planned = run("./run.sh", *words, "--dry_run", cwd=recipe)
    assert "disk 2 mix       little, " in planned and "disk 4 train     " in planned
    assert not (recipe / "dump").exists()
    run("./run.sh", *words, "--stage", "mix", "--stop_stage", "mix", cwd=recipe)
    assert len((recipe / "dump/raw/train/wav.scp").read_text().splitlines()) == 4
    assert "mix       dump/raw/test                        done" in run("./run.sh", *words, "--list", cwd=recipe)


def test_a_missing_folder_is_named_with_what_sets_it(recipe, monkeypatch):
    """The command line wins over the environment, and that over conf/local.conf."""
    name = f"{recipe.name.upper()}_SPEECH"
    (recipe / "conf/local.conf").write_text(f"{name}=/in/conf\n")
    try:
        said = run("./run.sh", cwd=recipe, code=1)
        assert "'/in/conf': no such folder" in said
        assert f"export {name}=SPEECH" in said and "SPEECH/<speaker>/..." in said and "conf/local.conf" in said
        monkeypatch.setenv(name, "/in/environment")
        assert "'/in/environment': no such folder" in run("./run.sh", cwd=recipe, code=1)
        assert "'/nowhere': no such folder" in run("./run.sh", "--speech_dir", "/nowhere", cwd=recipe, code=1)
    finally:
        (recipe / "conf/local.conf").unlink()


def test_names_and_existing_recipes_are_refused(recipe):
    assert "is there already" in run("utils/new_recipe.sh", recipe.name, code=1)
    assert "small letters, digits and '_'" in run("utils/new_recipe.sh", "../x", code=1)
    assert "Usage: utils/new_recipe.sh NAME" in run("utils/new_recipe.sh", code=2)


def test_its_scripts_pass_shellcheck(recipe):
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not on PATH")
    scripts = [recipe / name for name in ("run.sh", "cmd.sh", "path.sh", "local/data.sh")]
    run("shellcheck", "-x", "-P", "SCRIPTDIR", "-e", "SC1091", *scripts)
