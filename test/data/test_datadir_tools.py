import os
import subprocess
import sys
from pathlib import Path

import pytest

from senet.bin import run
from senet.bin.datadir import main as datadir_command
from senet.data import datadir_tools as tools
from senet.data.scp import Scp, read_table
from senet.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_copy_carries_everything_along(original, tmp_path):
    tools.copy(original, tmp_path / "new")
    names = {path.name for path in original.iterdir() if path.is_file()}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    for name in names:
        assert (tmp_path / "new" / name).read_bytes() == (original / name).read_bytes()


def test_copy_renames_and_remembers(original, tmp_path, utts):
    new = tmp_path / "new"
    arguments = ["--utt-prefix", "p-", "--spk-prefix", "p-", "--utt-suffix=_x", str(original), str(new)]
    assert run(datadir_command, ["copy", *arguments]) == 0
    renamed = {f"p-{utt}_x": utt for utt in utts(original)}
    assert utts(new) == sorted(renamed)
    assert read_table(new / "utt2uniq") == {new: renamed[new] for new in sorted(renamed)}
    assert read_table(new / "spk1.scp")["p-a-b-000_x"] == read_table(original / "spk1.scp")["a-b-000"]
    assert read_table(new / "utt2spk")["p-a-b-000_x"] == "p-a-b"
    assert list(read_table(new / "spk2gender")) == ["p-a", "p-a-b", "p-c"]


def test_copy_moves_what_was_there_to_backup(original, tmp_path):
    (tmp_path / "utt2stale").write_text("u 1\n")
    tools.copy(original, tmp_path)
    assert (tmp_path / ".backup" / "utt2stale").exists()
    assert not (tmp_path / "utt2stale").exists()
    with pytest.raises(UserError, match="both source and destination"):
        tools.copy(tmp_path, tmp_path)


def test_relative_values_of_another_recipe_still_lead_to_their_files(tmp_path, monkeypatch, make_set):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    make_set(Path("data/train"))
    tools.copy("data/train", "data/copy")
    assert (tmp_path / "one/data/copy/wav.scp").read_text() == Path("data/train/wav.scp").read_text()
    monkeypatch.chdir(tmp_path / "two")
    tools.copy("../one/data/train", "data/train")
    scp = Scp("data/train/wav.scp")
    assert os.path.samefile(scp.root / scp.value(0), tmp_path / "one/data/train/wav/a-000.wav")


def test_combine_merges_in_order(original, tmp_path, make_set, utts):
    other = make_set(tmp_path / "other", prefix="b")
    assert run(datadir_command, ["combine", str(tmp_path / "all"), str(other), str(original)]) == 0
    assert utts(tmp_path / "all") == sorted(utts(original) + utts(other))
    assert len(read_table(tmp_path / "all" / "spk2gender")) == 6
    assert (tmp_path / "all" / "frame_shift").read_text() == "0.01\n"
    for name in ("spk1_feats.scp", "utt2snr", "noise1.scp"):
        merged = read_table(tmp_path / "all" / name)
        assert merged == read_table(original / name) | read_table(other / name)


def test_combine_refuses_a_missing_file_and_a_double_utterance(original, paired, tmp_path, capsys, make_set, utts):
    arguments = ["combine", str(tmp_path / "all"), str(original), str(paired)]
    assert run(datadir_command, arguments) == 1
    assert "'a-000' is both in" in capsys.readouterr().err
    other = make_set(tmp_path / "other", prefix="b")
    (other / "noise1.scp").unlink()
    arguments[-1] = str(other)
    assert run(datadir_command, arguments) == 1
    assert f"{other}/noise1.scp: missing, other sources have it" in capsys.readouterr().err
    assert run(datadir_command, ["combine", "--allow_missing", *arguments[1:]]) == 0
    assert not (tmp_path / "all" / "noise1.scp").exists()
    assert len(utts(tmp_path / "all")) == 24
    arguments = ["combine", "--allow-missing", "--extra-files", "noise1.scp", *arguments[1:]]
    assert run(datadir_command, arguments) == 1


def test_subsets(original, tmp_path, utts):
    everything = utts(original)

    def take(*arguments, **options):
        tools.subset(original, tmp_path / "part", *arguments, **options)
        return utts(tmp_path / "part")

    assert take(3, how="first") == everything[:3]
    assert take(3, how="last") == everything[-3:]
    assert take(3, how="shortest") == ["a-003", "c-003", "c-004"]
    assert [utt.rpartition("-")[0] for utt in take(2, how="per_spk")] == ["a", "a", "a-b", "a-b", "c", "c"]
    chosen = take(5, how="speakers")
    speakers = {utt.rpartition("-")[0] for utt in chosen}
    assert chosen == [utt for utt in everything if utt.rpartition("-")[0] in speakers]
    assert list(read_table(tmp_path / "part" / "spk2gender")) == sorted(speakers)
    assert len(chosen) >= 5
    with pytest.raises(UserError, match="has 12 utterances, fewer than the 13 asked for"):
        take(13)


def test_random_subsets_follow_from_the_seed_and_nest(original, tmp_path, utts):
    chosen = {}
    for seed in range(4):
        for n in (3, 6):
            tools.subset(original, tmp_path / f"{seed}-{n}", n, seed=seed)
            chosen[seed, n] = utts(tmp_path / f"{seed}-{n}")
            assert len(chosen[seed, n]) == n
        assert set(chosen[seed, 3]) < set(chosen[seed, 6])
    assert len({tuple(chosen[seed, 3]) for seed in range(4)}) > 1
    tools.subset(original, tmp_path / "again", 3, seed=0)
    assert utts(tmp_path / "again") == chosen[0, 3]


def test_subset_by_list(original, tmp_path, capsys, utts):
    (tmp_path / "utts").write_text("c-001 whatever\na-000\n")
    (tmp_path / "spks").write_text("a-b\n")
    part = str(tmp_path / "part")
    assert run(datadir_command, ["subset", "--utt-list", str(tmp_path / "utts"), str(original), part]) == 0
    assert utts(Path(part)) == ["a-000", "c-001"]
    assert run(datadir_command, ["subset", "--spk-list", str(tmp_path / "spks"), str(original), part]) == 0
    assert utts(Path(part)) == ["a-b-000", "a-b-001", "a-b-002"]
    (tmp_path / "utts").write_text("c-001\nc-999\n")
    assert run(datadir_command, ["subset", "--utt-list", str(tmp_path / "utts"), str(original), part]) == 1
    assert "utts:2: 'c-999' is not in" in capsys.readouterr().err
    for wrong in (["3"], [], ["0", part], ["3", "4", part]):
        with pytest.raises(SystemExit):
            datadir_command(["subset", str(original), *wrong])


@pytest.mark.parametrize("nj", [1, 2, 3])
def test_split_keeps_speakers_together(paired, nj, utts):
    folders = tools.split(paired, nj)
    assert folders == [paired / f"split{nj}" / str(j + 1) for j in range(nj)]
    assert [utt for folder in folders for utt in utts(folder)] == utts(paired)
    speakers = [spk for folder in folders for spk in read_table(folder / "spk2utt")]
    assert speakers == ["a", "a-b", "c"]


@pytest.mark.parametrize("nj", [1, 5, 7, 12])
def test_split_by_utterance_makes_equal_parts(paired, nj, utts):
    parts = [utts(folder) for folder in tools.split(paired, nj, per_utt=True)]
    assert sum(parts, []) == utts(paired)
    assert [len(part) for part in parts] == [12 // nj + (j < 12 % nj) for j in range(nj)]
    assert (paired / f"split{nj}utt").is_dir()


def test_split_refuses_more_parts_than_it_has(paired):
    with pytest.raises(UserError, match="3 speakers cannot be split in 4; use fewer jobs or --per_utt"):
        tools.split(paired, 4)
    with pytest.raises(UserError, match="12 utterances cannot be split in 13"):
        tools.split(paired, 13, per_utt=True)
    for nj in (0, -1):
        with pytest.raises(UserError, match=f"cannot be split in {nj}; the number of jobs is at least 1"):
            tools.split(paired, nj)


def test_split_scp(original, tmp_path, capsys):
    scp, outs = original / "wav.scp", [str(tmp_path / str(i)) for i in range(5)]
    assert run(datadir_command, ["split_scp", str(scp), *outs]) == 0
    parts = [Path(out).read_text() for out in outs]
    assert [part.count("\n") for part in parts] == [3, 3, 2, 2, 2]
    assert "".join(parts) == scp.read_text()
    by_speaker = ["split_scp", "--utt2spk", str(original / "utt2spk"), str(scp)]
    assert run(datadir_command, [*by_speaker, *outs[:3]]) == 0
    assert [len(read_table(out)) for out in outs[:3]] == [4, 3, 5]
    assert run(datadir_command, [*by_speaker, *outs]) == 1
    assert "wav.scp: 3 speakers cannot be split in 5" in capsys.readouterr().err


def test_utt2spk_and_spk2utt_are_made_of_each_other(original, capsys):
    for tool, source, made in (
        ("utt2spk_to_spk2utt", "utt2spk", "spk2utt"),
        ("spk2utt_to_utt2spk", "spk2utt", "utt2spk"),
    ):
        assert run(datadir_command, [tool, str(original / source)]) == 0
        assert capsys.readouterr().out == (original / made).read_text()


def test_tools_refuse_sets_that_do_not_line_up(paired, tmp_path, edit):
    edit(paired / "utt2snr", lambda lines: lines.pop(0))
    new = tmp_path / "new"
    for call in (
        lambda: tools.copy(paired, new),
        lambda: tools.combine(new, [paired]),
        lambda: tools.subset(paired, new, 1),
        lambda: tools.split(paired, 1),
    ):
        with pytest.raises(UserError, match="utt2snr:1: 'a-000' of wav.scp:1 is missing"):
            call()
    assert not new.exists()


def test_filter(original, tmp_path, capsys):
    (tmp_path / "ids").write_text("a-000\nc-004\n")
    for arguments, count in ((["filter"], 2), (["filter", "--exclude"], 10)):
        assert run(datadir_command, [*arguments, str(tmp_path / "ids"), str(original / "utt2spk")]) == 0
        assert len(capsys.readouterr().out.splitlines()) == count
    (tmp_path / "ids").write_text("a-b\n")
    assert run(datadir_command, ["filter", "-f", "2", str(tmp_path / "ids"), str(original / "utt2spk")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"a-b-00{i} a-b" for i in range(3)]
    assert run(datadir_command, ["filter", "-f", "3", str(tmp_path / "ids"), str(original / "utt2spk")]) == 1
    assert "utt2spk, line 1: has 2 fields, 3 expected" in capsys.readouterr().err


def test_commands_import_nothing_heavy(original):
    heavy = {"torch", "scipy", "jinja2", "pesq", "pystoi", "soxr"}
    for lines in (
        "from senet.bin.validate import main; main(['--check_audio', ARG])",
        "from senet.bin.datadir import main; main(['subset', ARG, '2', ARG + '-two'])",
        "import senet.data.audio, senet.data.datadir",
    ):
        program = f"import sys; ARG = sys.argv[1]; {lines}; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
        command = [sys.executable, "-c", program, original]
        result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert result.returncode == 0, result.stderr


def test_shell_tools_pass_options_and_status_on(original, paired, tmp_path, edit, utts):
    if not (REPOSITORY / "tools" / "env.sh").exists():
        pytest.skip("not installed with tools/install.sh, which the shell tools need")

    def call(script, *arguments):
        command = [REPOSITORY / "utils" / script, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)

    edit(paired / "spk1.scp", lambda lines: lines.pop(0))
    result = call("validate_data_dir.sh", "--no-text", "--no-feats", paired)
    assert result.returncode == 1
    assert f"{paired}/spk1.scp:1: 'a-000' of wav.scp:1 is missing" in result.stderr
    assert call("fix_data_dir.sh", "--utt_extra_files", "spk1.scp noise1.scp", paired).returncode == 0
    assert call("copy_data_dir.sh", "--utt-prefix", "z", "--spk-prefix", "z", paired, "copy").returncode == 0
    assert call("combine_data.sh", "--skip-fix", "all", paired, "copy").returncode == 1  # utt2uniq is in one only
    assert call("combine_data.sh", "--allow-missing", "all", paired, "copy").returncode == 0
    assert call("subset_data_dir.sh", "--per-spk", "--seed", "1", "all", "1", "few").returncode == 0
    assert len(utts(tmp_path / "few")) == 6
    assert call("split_data.sh", "--per-utt", "few", "2").stdout.split() == ["few/split2utt/1", "few/split2utt/2"]
