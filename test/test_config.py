"""Configuration: command line over file over defaults; wrong keys and types are refused where they are written."""

import datetime

import pytest
import yaml

from senet import config
from senet.errors import UserError


@pytest.fixture
def parser():
    p = config.Parser()
    p.add_argument("--model")
    p.add_argument("--model_conf", type=config.mapping, default={})
    p.add_argument("--max_epoch", type=int, default=7)
    p.add_argument("--grad_clip", type=float, default=5.0)
    p.add_argument("--crop_seconds", type=config.optional(float), default=2.0)
    p.add_argument("--sample_rate", type=config.rate, default=8000)
    p.add_argument("--metrics", nargs="+", default=["stoi"])
    return p


@pytest.fixture
def conf(tmp_path):
    def write(text):
        path = tmp_path / "conf.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def classes(monkeypatch):
    """Classes as senet.models.toy.* (build finds by import)."""
    import sys
    import types

    class Net:
        def __init__(
            self, n_layers: int = 2, eps: float = 1e-8, norm: str = "bn", causal: bool = False,
            kernel=(3, 5), lookahead: int | None = None, sample_rate=16000, dropout: float = 0, widths=(),
            layers: tuple[int, ...] = (), pair: tuple[int, float] | None = None, pairs: list[tuple[int, int]] = (),
        ):  # fmt: skip
            self.values = dict(locals())

    class Named:
        def __init__(self, size, *, device):
            self.values = size, device

    module = types.ModuleType("senet.models.toy")
    for cls in (Net, Named):
        cls.__module__ = module.__name__
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(parser, conf):
    path = conf("max_epoch: 3\ngrad_clip: 1\n")
    args = parser.parse(["--config", path, "--grad_clip", "2"])
    assert (args.max_epoch, args.grad_clip, args.sample_rate) == (3, 2.0, 8000)


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "1E-4", "0.0001", "'1e-4'"])
def test_every_way_to_write_a_small_number_is_a_number(parser, conf, text):
    assert parser.parse(["--config", conf(f"grad_clip: {text}\n")]).grad_clip == 1e-4
    nested = parser.parse(["--config", conf(f"model_conf: {{eps: {text}}}\n")]).model_conf
    assert float(nested["eps"]) == 1e-4


def test_numbers_in_a_nested_mapping_need_no_quotes(parser, conf):
    assert parser.parse(["--config", conf("model_conf: {a: 1e-4, b: 3, c: 1e3x}\n")]).model_conf == {
        "a": 1e-4, "b": 3, "c": "1e3x",
    }  # fmt: skip


def test_rates_may_be_written_with_k(parser, conf):
    assert parser.parse(["--config", conf("sample_rate: 16k\n")]).sample_rate == 16000
    assert parser.parse(["--sample_rate", "44.1k"]).sample_rate == 44100


def test_null_is_a_value_where_the_option_has_none(parser, conf, capsys):
    assert parser.parse(["--config", conf("crop_seconds: null\n")]).crop_seconds is None
    with pytest.raises(SystemExit):
        parser.parse(["--config", conf("model: x\ngrad_clip: null\n")])
    assert "conf.yaml:2: argument --grad_clip: invalid float value: 'null'" in capsys.readouterr().err


def test_dotted_overrides_change_one_nested_value_and_leave_the_others(parser, conf):
    path = conf("model_conf:\n  n_layers: 2\n  deep: {x: 1, y: 2}\n")
    argv = ["--config", path, "--model_conf.n_layers", "4", "--model_conf.deep.x=-1e-3", "--model_conf.new", "[1, 2]"]
    assert parser.parse(argv).model_conf == {"n_layers": 4, "deep": {"x": -1e-3, "y": 2}, "new": [1, 2]}
    assert parser.parse(["--config", path]).model_conf["n_layers"] == 2  # nothing is left over


def test_an_option_with_several_values_takes_a_list_from_the_file(parser, conf):
    assert parser.parse(["--config", conf("metrics: [pesq_wb, stoi]\n")]).metrics == ["pesq_wb", "stoi"]


@pytest.mark.parametrize(
    ("argv", "text", "message"),
    [
        ([], "model: x\nmax_epochs: 3\n", r"conf.yaml:2: there is no option 'max_epochs'; did you mean 'max_epoch'\?"),
        ([], "model_conf:\n  a: 1\n  b: 2\n  a: 3\n", r"conf.yaml:4: the key 'a' stands twice"),
        ([], "max_epoch: 1\nmax_epoch: 2\n", r"conf.yaml:2: the key 'max_epoch' stands twice"),
        ([], "model: [x\n", r"conf.yaml:2: not valid YAML"),
        ([], "{[a]: 1}\n", r"conf.yaml:1: not valid YAML: found unhashable key"),
        ([], "- a\n- b\n", r"conf.yaml: expected lines 'key: value', found a list"),
        (["--max_epochs", "3"], "", r"--max_epochs: there is no such option; did you mean 'max_epoch'\?"),
        (["--max_ep", "3"], "", r"--max_ep: there is no such option"),
        (["--modelconf.a", "3"], "", r"--modelconf: there is no such option; did you mean 'model_conf'\?"),
        (["--max_epoch.a", "3"], "", r"--max_epoch.a: only the \*_conf options take a dotted key"),
        (["--model_conf.a.b", "3"], "model_conf: {a: 1}", r"--model_conf.a.b: 'model_conf.a' is a single value"),
        (["--model_conf.a"], "", r"--model_conf.a: needs a value"),
        (["stray"], "", r"unexpected 'stray'"),
    ],
)
def test_mistakes_are_refused_with_their_place(parser, conf, argv, text, message):
    with pytest.raises(UserError, match=message):
        parser.parse(["--config", conf(text), *argv])


def test_a_wrong_type_names_the_line_of_the_file_it_came_from(parser, conf, capsys):
    path = conf("model: x\nmax_epoch: many\n")
    with pytest.raises(SystemExit):
        parser.parse(["--config", path])
    assert f"{path}:2: argument --max_epoch: invalid int value: 'many'" in capsys.readouterr().err


def test_a_missing_file_is_named(parser):
    with pytest.raises(SystemExit):
        parser.parse(["--config", "conf/absent.yaml"])


def test_what_was_resolved_can_be_passed_back(parser, conf, tmp_path):
    args = parser.parse(["--config", conf("model_conf: {eps: 1e-8}\nmetrics: [a, b]\ncrop_seconds: null\n")])
    config.save_resolved(tmp_path / "exp" / "config.yaml", vars(args))
    again = parser.parse(["--config", str(tmp_path / "exp" / "config.yaml")])
    assert {**vars(again), "config": None} == {**vars(args), "config": None}
    assert config.load_resolved(tmp_path / "exp")["model_conf"] == {"eps": 1e-8}


def test_a_folder_without_configuration_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config.yaml: missing; .* stage train"):
        config.load_resolved(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("eps", "1e-4", 1e-4), ("eps", 1, 1.0), ("n_layers", "4", 4), ("n_layers", 1e3, 1000), ("norm", "1e-4", "1e-4"),
        ("causal", True, True), ("kernel", [1, 3], (1, 3)), ("kernel", ["1", "3"], (1, 3)), ("lookahead", 3, 3),
        ("lookahead", None, None), ("sample_rate", "16k", 16000), ("dropout", 0.1, 0.1), ("widths", [1, "a"], (1, "a")),
        ("layers", [], ()), ("layers", ["2", 3.0], (2, 3)), ("pair", [1, 2], (1, 2.0)), ("pair", None, None),
        ("pairs", [[1, 2], ["3", 4]], [(1, 2), (3, 4)]),
    ],
)  # fmt: skip
def test_values_become_what_the_constructor_takes(classes, key, value, expected):
    found = config.build("models", "toy.Net", {key: value}).values[key]
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("n_layers", "many", r'model_conf.n_layers: expected int \(default 2\), found "many" \(str\)'),
        ("n_layers", 2.5, r"model_conf.n_layers: expected int .*found 2.5"),
        ("n_layers", True, r"model_conf.n_layers: expected int .*found true"),
        ("n_layers", None, r"model_conf.n_layers: expected int .*found null"),
        ("eps", [1], r"model_conf.eps: expected float .*found \[1\]"),
        ("causal", 1, r"model_conf.causal: expected bool .*found 1"),
        ("norm", 3, r"model_conf.norm: expected str .*found 3"),
        ("kernel", 3, r"model_conf.kernel: expected tuple \(default \[3, 5\]\), found 3"),
        ("kernel", [3, "x"], r'model_conf.kernel\[1\]: expected int, found "x"'),
        ("layers", ["x"], r'model_conf.layers\[0\]: expected int, found "x" \(str\)'),
        ("layers", [1, 1.5], r"model_conf.layers\[1\]: expected int, found 1.5"),
        ("layers", [True], r"model_conf.layers\[0\]: expected int, found true"),
        ("layers", (None,), r"model_conf.layers\[0\]: expected int, found null"),
        ("layers", [[1]], r"model_conf.layers\[0\]: expected int, found \[1\]"),
        ("layers", [datetime.date(2026, 1, 2)], r'model_conf.layers\[0\]: expected int, found "2026-01-02" \(date\)'),
        ("pair", [1], r"model_conf.pair: expected 2 values \(default null\), found \[1\]"),
        ("pairs", [[1, 2], [1, 2, 3]], r"model_conf.pairs\[1\]: expected 2 values, found \[1, 2, 3\]"),
        ("lookahead", "x", r"model_conf.lookahead: expected int or null"),
        ("n_layer", 4, r"model_conf: Net has no 'n_layer'; did you mean 'n_layers'\? It takes n_layers, eps, norm"),
    ],
)
def test_wrong_values_name_key_found_and_expected(classes, key, value, message):
    with pytest.raises(UserError, match=message):
        config.build("models", "toy.Net", {key: value})


@pytest.mark.parametrize(
    ("dotted", "conf", "message"),
    [
        ("toy.Nett", {}, "^objective_conf.judge: 'toy.Nett' not found: .* did you mean 'Net'"),
        ("toy.Net", {"epz": 1}, "^objective_conf.judge_conf: Net has no 'epz'; did you mean 'eps'"),
        ("toy.Net", {"eps": "x"}, "^objective_conf.judge_conf.eps: expected float"),
        ("toy.Named", {}, "^objective_conf.judge_conf: Named needs a value for size, device"),
    ],
)
def test_messages_call_a_class_as_its_configuration_does(classes, dotted, conf, message):
    with pytest.raises(UserError, match=message):
        config.build("models", dotted, conf, option="objective_conf.judge")


def test_the_program_s_own_arguments_are_not_open_to_the_configuration(classes):
    assert config.build("models", "toy.Named", {"size": 3}, device="cpu").values == (3, "cpu")
    with pytest.raises(UserError, match="Named has no 'device'; It takes size"):
        config.build("models", "toy.Named", {"size": 3, "device": "x"}, device="cpu")
    with pytest.raises(UserError, match="model_conf: Named needs a value for size"):
        config.build("models", "toy.Named", {}, device="cpu")


@pytest.mark.parametrize(
    ("kind", "dotted", "message"),
    [
        ("models", "toyy.Net", r"model: 'toyy.Net' not found: senet.models has no module 'toyy'.* It has .*base"),
        ("models", "toy.Nett", r"has no class 'Nett'; did you mean 'Net'\? It has Named, Net"),
        ("models", "toy", r"model: 'toy' not found"),
        ("models", "toy/Net", r"'toy/Net' is not a name such as module.Class"),
        ("models", "..files.write_json", r"is not a name"),
        ("train.optim", "adam", r"optim: 'adam' not found: .*optim has no class 'adam'; did you mean 'Adam'\?"),
        ("train.optim", "rmsproptf", r"did you mean 'RMSpropTF'\? It has .*AdamW, .*RMSprop, RMSpropTF"),
    ],
)
def test_a_class_that_is_not_there_lists_those_that_are(classes, kind, dotted, message):
    with pytest.raises(UserError, match=message):
        config.build(kind, dotted, {})


def test_a_missing_dependency_of_a_module_is_not_called_a_missing_module(monkeypatch, tmp_path):
    import senet.models

    (tmp_path / "needy.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.setattr(senet.models, "__path__", [*senet.models.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_installed"):
        config.build("models", "needy.Net", {})


def test_resolving_fills_in_the_defaults_as_yaml_can_hold_them(classes):
    resolved = config.resolve("models", "toy.Net", {"eps": "1e-4", "kernel": [1, 1]})
    assert resolved["eps"] == 1e-4 and resolved["n_layers"] == 2 and resolved["kernel"] == [1, 1]
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved
    assert config.build("models", "toy.Net", resolved).values["kernel"] == (1, 1)


@pytest.mark.parametrize(
    ("name", "conf"),
    [
        ("Adam", {"lr": "1e-4", "betas": [0.5, 0.9], "weight_decay": 1e-7}),
        ("SGD", {"lr": 1, "momentum": 0.9}),
        ("RMSprop", {}),
        ("RMSpropTF", {"lr": "2e-4"}),
    ],
)
def test_optimisers_are_built_by_name(name, conf):
    import torch

    optimizer = config.build("train.optim", name, conf, params=[torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer).__name__ == name
    assert all(optimizer.defaults[k] == pytest.approx(float(v) if isinstance(v, str) else v) for k, v in conf.items())
    with pytest.raises(UserError, match=r"optim_conf.lr: expected float \(default .*found \"fast\""):
        config.build("train.optim", name, {"lr": "fast"}, params=[])


def test_a_binary_file_is_not_a_configuration(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="x.yaml: cannot read the configuration: not UTF-8 text"):
        config.read_yaml(tmp_path / "x.yaml")
