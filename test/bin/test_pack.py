"""senet pack: what goes into a pack, and what does not."""

import json

import pytest
import torch

from senet import checkpoint, config, load_model
from senet.bin import enhance, pack, run, score
from senet.errors import UserError
from senet.infer.pack import Pack


@pytest.fixture(scope="module")
def scored(make_experiment, small_set, tmp_path_factory):
    """An experiment whose last checkpoint was scored on a test set, and its record of training."""
    exp = make_experiment(tmp_path_factory.mktemp("recipe") / "exp" / "train_small", 1, 2)
    (exp.parents[1] / "path.sh").touch()
    record = {
        "command": f"python -m senet.bin.train --expdir {exp}",
        "data": {"train": {"path": f"{exp.parent}/dump/raw/train", "utterances": 1200, "fingerprint": "ab"}},
        "seed": 7,
        "updates": 2,
        "hardware": {"host": "the-host", "system": "the-system", "cpu": "CPU X", "gpus": ["GPU Y"]},
        "versions": {"torch": "2.6"},
        "git": {"commit": "0123abc", "dirty": True},
        "written": "2026-01-02T03:04:05+0000",
        "macs_per_second": 1234567,
    }
    (exp / "record.json").write_text(json.dumps(record))
    options = config.load_resolved(exp) | {"train": f"{exp.parent}/dump/raw/train", "expdir": str(exp), "seed": 7}
    options |= {"mix_conf": {"rir": [f"{exp.parent}/rooms"]}}
    config.save_resolved(exp / "config.yaml", options)
    out = exp / "enhanced_test"
    assert not enhance.main([str(small_set / "wav.scp"), "-o", str(out), "--model", str(exp), "--checkpoint", "last"])
    noisy = ["--enhanced", str(small_set / "wav.scp"), "--out", str(exp.parent / "noisy" / "enhanced_test")]
    for words in (noisy, ["--enhanced", str(out / "wav.scp"), "--out", str(out), "--noisy_scores", noisy[-1]]):
        score.main([*words, "--ref", str(small_set), "--metrics", "si_sdr lsd"])
    return exp


def test_a_pack_may_lie_in_its_experiment(scored):
    inside = scored / "a.senet"
    pack.main([str(scored), "-o", str(inside)])
    assert load_model(inside).info["name"] == scored.name
    inside.unlink()


def test_weights_of_the_scores_are_packed_with_them_and_with_the_record(scored, tmp_path):
    pack.main([str(scored), "-o", str(tmp_path / "a.senet"), "--card", str(tmp_path / "a.md")])
    enhancer, last = load_model(tmp_path / "a.senet"), load_model(scored, "last")
    assert all(torch.equal(v, last.model.state_dict()[k]) for k, v in enhancer.model.state_dict().items())
    summary = json.loads((scored / "enhanced_test" / "summary.json").read_text())
    found = enhancer.info["scores"]["test"]
    assert found["n"] == 5 and found["references"] == summary["references"]
    assert [metric["name"] for metric in found["metrics"]] == ["si_sdr", "lsd"]
    for metric in found["metrics"]:
        assert {k: metric[k] for k in ("mean", "interval", "n", "over_noisy")} == {
            k: summary["metrics"][metric["name"]][k] for k in ("mean", "interval", "n", "over_noisy")
        }
    training = enhancer.info["training"]
    assert (training["recipe"], training["seed"], training["checkpoint"]) == (scored.parents[1].name, 7, "last")
    assert training["config"]["model_conf"]["lstm_units"] == 8 and training["config"]["mix_conf"] == {"rir": ["rooms"]}
    card = (tmp_path / "a.md").read_text()
    for words in (
        "# train_small",
        "| LSD ↓ (dB) |",
        "IWAENC 2018",
        "1,200 utterances",
        "0123abc",
        "GPU Y, CPU X",
        "seed 7",
    ):
        assert words in card
    assert "--model train_small.senet" in card


def test_no_path_host_or_command_goes_along(scored, tmp_path):
    pack.main([str(scored), "-o", str(tmp_path / "a.senet")])
    content = (tmp_path / "a.senet").read_bytes()
    for private in (str(scored.parent), str(tmp_path), "the-host", "the-system", "senet.bin.train"):
        assert private.encode() not in content


def test_scores_of_other_weights_are_left_out_and_that_is_said(scored, tmp_path, capsys):
    pack.main([str(scored), "-o", str(tmp_path / "a.senet"), "--checkpoint", "best"])
    assert Pack(tmp_path / "a.senet").record["scores"] == {}
    assert "enhanced_test: is not of these weights, so its scores are left out" in capsys.readouterr().err
    assert "None were made with these weights." in Pack(tmp_path / "a.senet").card()


def test_marks_say_on_which_side_of_the_noisy_input_a_score_is():
    from senet.infer.card import markdown

    def metric(lower, *interval):
        over = {"mean": 0.5, "interval": list(interval)}
        found = {"label": "M", "lower_is_better": lower, "digits": 1, "mean": 1.0, "interval": None}
        return found | {"n": 9, "failed": 1, "over_noisy": over}

    metrics = [metric(False, 0.1, 1), metric(False, -1, -0.1), metric(False, -1, 1), metric(True, -1, -0.1)]
    metrics.append(metric(False, None, None))
    record = dict.fromkeys(("description", "about", "model", "licence"), "") | {"name": "x", "sample_rate": 8000}
    record |= {"latency": None, "parameters": 1, "macs_per_second": None, "training": {"data": {}}}
    record["scores"] = {"t": {"n": 10, "metrics": metrics}}
    rows = [line.split(" | ") for line in markdown(record).splitlines() if line.startswith("| M")]
    assert [row[3] for row in rows] == ["0.5 ▲", "0.5 ▼", "0.5", "0.5 ▲", "0.5"]
    assert [row[1:3] + row[5:] for row in rows] == [["1.0", "–", "9", "1 |"]] * 5
    assert "needs the whole recording" in markdown(record)


def test_show_prints_the_card_and_what_was_checked(scored, tmp_path, capsys):
    path = tmp_path / "a.senet"
    pack.main(
        [
            str(scored),
            "-o",
            str(path),
            "--name",
            "my-model.v2",
            "--licence",
            "CC0-1.0",
            "--description",
            "So <b>fine</b>.",
        ]
    )
    assert run(pack.main, ["--show", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# my-model.v2\n\nSo &lt;b&gt;fine&lt;/b&gt;.\n") and "| licence | CC0-1.0 |" in said
    assert "--model my-model.v2.senet" in said and "bytes of weights; checked:" in said
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert run(pack.main, ["--show", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err == (
        f"error: {path}: damaged: the SHA-256 of its weights is not the one noted; get the file again\n"
    )


def test_weights_that_are_not_finite_are_not_packed(make_experiment, tmp_path):
    exp = make_experiment(tmp_path / "exp" / "a", 1)
    state = checkpoint.load(exp / "checkpoints")
    state["model"]["output.bias"][0] = torch.nan
    checkpoint.save(exp / "checkpoints", state, step=2, epoch=2)
    with pytest.raises(UserError, match="'output.bias' has values that are not finite; pack another checkpoint"):
        pack.main([str(exp), "-o", str(tmp_path / "a.senet"), "--checkpoint", "last"])
    assert not (tmp_path / "a.senet").exists()


def test_a_pack_is_not_replaced_unasked_and_a_licence_is_missed(make_experiment, tmp_path, capsys):
    exp = make_experiment(tmp_path / "exp" / "a", 1)
    words = [str(exp), "-o", str(tmp_path / "a.senet")]
    assert run(pack.main, words) == 0
    assert "WARNING: " in (said := capsys.readouterr().err) and "states no licence" in said
    before = (tmp_path / "a.senet").read_bytes()
    for more in ([], ["--dry_run"]):
        assert run(pack.main, [*words, "--licence", "CC0-1.0", *more]) == 1
        assert "a.senet: is there already; --overwrite replaces it" in capsys.readouterr().err
    assert (tmp_path / "a.senet").read_bytes() == before
    assert run(pack.main, [*words, "--licence", "CC0-1.0", "--overwrite"]) == 0
    assert "licence" not in capsys.readouterr().err
    assert Pack(tmp_path / "a.senet").record["licence"] == "CC0-1.0"


def test_what_senet_could_not_open_is_not_left_behind(make_experiment, tmp_path):
    exp = make_experiment(tmp_path / "exp" / "a", 1)
    (tmp_path / "a.senet").write_text("of before")
    options = config.load_resolved(exp)
    for conf, message in (
        ({"mask_bound": 1e30}, "a pack's are at most"),
        ({"mask_bound": float("inf")}, "cannot be written"),
    ):
        config.save_resolved(exp / "config.yaml", options | {"model_conf": options["model_conf"] | conf})
        with pytest.raises(UserError, match=message):
            pack.main([str(exp), "-o", str(tmp_path / "a.senet"), "--overwrite"])
    config.save_resolved(exp / "config.yaml", options)
    with pytest.raises(UserError, match="cannot be written: 'utf-8' codec"):
        pack.main([str(exp), "-o", str(tmp_path / "a.senet"), "--overwrite", "--description", "\udc80"])
    assert (tmp_path / "a.senet").read_text() == "of before" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what to pack, and where to\\?"),
        (["EXP"], "what to pack, and where to\\?"),
        (["EXP", "-o", "a.zip"], "-o a.zip: a pack's name ends with .senet"),
        (["EXP", "-o", "a.senet", "--name", "a b"], "--name 'a b': expected letters, digits"),
        (["EXP", "-o", "a.senet", "--show", "b.senet"], "--show PACK only shows"),
        (["nowhere", "-o", "a.senet"], "nowhere: no such model"),
        (["EXP/config.yaml", "-o", "a.senet"], "config.yaml: part of an experiment"),
        (["EXP", "-o", "a.senet", "--checkpoint", "first"], "no checkpoint 'first'"),
    ],
)
def test_wrong_options_are_refused(scored, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        pack.main([word.replace("EXP", str(scored)) for word in words])
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_the_disk_and_writes_nothing(scored, tmp_path, capsys):
    pack.main([str(scored), "-o", str(tmp_path / "a.senet"), "--dry_run"])
    largest = max(path.stat().st_size for path in (scored / "checkpoints").glob("*.pt"))
    assert capsys.readouterr().out == f"{tmp_path}/a.senet: at most {largest} bytes\n"
    pack.main([str(tmp_path / "later"), "-o", str(tmp_path / "a.senet"), "--dry_run"])
    assert "no larger than a checkpoint" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
