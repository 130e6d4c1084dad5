"""utils/parse_options.sh, driven through bash under set -euo pipefail."""

import subprocess
from pathlib import Path

import pytest

PARSE = Path(__file__).resolve().parents[2] / "utils" / "parse_options.sh"
SCRIPT = """set -euo pipefail
nj=4 tag=x force=false verbose=true name=mine snr=1 train_config=c
help_message="Usage: script [--nj $nj]"
{before}
. {parse}
printf '%s\\n' "nj=$nj" "tag=$tag" "force=$force" "verbose=$verbose" "name=$name" "snr=$snr"
printf '%s\\n' "config=$train_config" "rest=$*"
"""


@pytest.fixture
def parse(tmp_path):
    def call(*words, code=0, before=""):
        script = tmp_path / "script.sh"
        script.write_text(SCRIPT.format(parse=PARSE, before=before))
        done = subprocess.run(["bash", script, *words], capture_output=True, text=True, timeout=20, cwd=tmp_path)
        assert done.returncode == code, done
        if code:
            return done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line) or done.stdout

    return call


def test_variables_are_options_and_dashes_are_underscores(parse):
    assert parse("--nj", "8", "--train-config", "conf/a.yaml")["config"] == "conf/a.yaml"
    assert parse("--nj", "8")["nj"] == "8"


@pytest.mark.parametrize(
    "value", ["", "a b", "-3", "-x", "$(touch evaluated)", "`id`", 'say "hi"', "it's", "a\\b", "*"]
)
def test_any_value_arrives_as_it_is_and_is_not_evaluated(parse, value, tmp_path):
    assert parse("--tag", value)["tag"] == value
    assert not (tmp_path / "evaluated").exists()


def test_a_missing_value_is_an_error(parse):
    assert "option --tag needs a value" in parse("--nj", "2", "--tag", code=1)
    assert "option --tag needs a value" in parse("--tag", "--force", code=1)
    assert "option --tag needs a value" in parse("--tag", "--force", code=1, before="parse_options_known_only=true")
    assert parse("--my_args", "--seed 1", before="my_args=")["nj"] == "4"


def test_an_unknown_option_is_refused_with_the_closest_names(parse):
    message = parse("--train-conf", "x", code=1)
    assert "unknown option --train-conf (did you mean --train_config?)" in message
    assert "did you mean" not in parse("--quite_different", "x", code=1)


def test_the_options_of_the_script_before_are_suggested_too(parse):
    before = f"speech=\nspeech_dir=\nparse_options_known_only=true\n. {PARSE}\nunset -v speech_dir"
    assert "(did you mean --speech_dir?)" in parse("--speech_dri", "x", code=1, before=before)


@pytest.mark.parametrize("word", ["--", "--a[$(touch evaluated)]", "--9x"])
def test_what_is_no_name_is_refused(parse, word, tmp_path):
    assert "unknown option" in parse(word, "1", code=1)
    assert not (tmp_path / "evaluated").exists()


def test_an_equals_sign_is_refused_with_the_right_form(parse):
    assert "write '--nj 3' instead of '--nj=3'" in parse("--nj=3", code=1)


def test_booleans_take_true_false_or_nothing(parse):
    assert parse("--force", "true")["force"] == "true"
    assert parse("--force")["force"] == "true"
    assert parse("--force", "--nj", "2") | {} == parse("--nj", "2", "--force", "true")
    assert parse("--verbose", "false")["verbose"] == "false"
    assert "true or false, not 'yes'" in parse("--force", "yes", code=1)


def test_parsing_stops_at_the_first_other_word(parse):
    found = parse("--nj", "2", "word", "--nj", "3")
    assert (found["nj"], found["rest"]) == ("2", "word --nj 3")


def test_help_is_printed_and_nothing_else_runs(parse):
    assert parse("--nj", "2", "--help") == "Usage: script [--nj 4]\n"
    assert parse("-h") == "Usage: script [--nj 4]\n"


def test_a_usage_function_sees_the_values_given_before(parse):
    assert parse("--nj", "9", "--help", before="usage() { echo jobs: $nj; }") == "jobs: 9\n"


def test_a_config_file_is_read_and_the_command_line_wins(parse, tmp_path):
    (tmp_path / "my.conf").write_text("nj=7\ntag='from file'\n")
    found = parse("--nj", "2", "--config", "my.conf")
    assert (found["nj"], found["tag"]) == ("2", "from file")
    assert "cannot read 'none.conf'" in parse("--config", "none.conf", code=1)


def test_options_named_like_a_parsers_variables_survive(parse):
    assert parse("--name", "yours")["name"] == "yours"
    assert parse("--nj", "1")["name"] == "mine"


def test_no_variable_of_the_parser_is_left(tmp_path):
    left = "{ compgen -v; compgen -A function; } | grep -c __po || true"
    script = f"set -euo pipefail; nj=1; . {PARSE}; {left}"
    done = subprocess.run(["bash", "-c", script, "x", "--nj", "2"], capture_output=True, text=True, timeout=20)
    assert done.stdout.split() == ["0"]


def test_an_empty_cmd_is_an_error(parse):
    assert "cmd is empty" in parse("--nj", "2", code=1, before="cmd=")
    assert parse("--cmd", "run.py", before="cmd=")["nj"] == "4"


def test_known_only_leaves_the_rest_for_the_next_script(parse):
    known = "parse_options_known_only=true"
    found = parse("--stage", "3", "--nj", "2", "--args", "--x=1 y", "--list", "--help", "word", before=known)
    assert (found["nj"], found["rest"]) == ("2", "--stage 3 --args --x=1 y --list --help word")
