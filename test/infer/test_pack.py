"""Packs: the same model as the experiment's, in the safetensors layout; what is damaged or hostile does no harm."""

import hashlib
import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from reduced import CONFIGS, config_id, reduced

from senet import __version__, checkpoint, config, load_model
from senet.bin.pack import main
from senet.bin.train import get_parser, resolve_options
from senet.errors import UserError
from senet.infer import load
from senet.infer.card import markdown
from senet.infer.pack import MAX_HEADER, MAX_WEIGHTS, Pack, write

FORMAT_1 = Path(__file__).with_name("format_1.senet")  # written by senet 0.1.0; stays as it is


@pytest.fixture(scope="module")
def packed(expdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "small.senet"
    main([str(expdir), "-o", str(path), "--licence", "CC0-1.0"])
    return path


# ---------------------------------------------------------------- what is in it


def test_a_pack_is_the_model_of_its_experiment(expdir, packed):
    ours, theirs = load_model(packed), load_model(expdir)
    x = 0.1 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    assert np.array_equal(ours.enhance(x, 16000), theirs.enhance(x, 16000))
    assert not ours.model.training and not any(p.requires_grad for p in ours.model.parameters())
    assert (ours.sample_rate, ours.causal, ours.latency) == (16000, True, theirs.latency)
    assert ours.info["licence"] == "CC0-1.0"
    assert {k: v for k, v in ours.info.items() if k != "licence"} == {
        k: v for k, v in theirs.info.items() if k != "licence"
    }


@pytest.mark.parametrize("which", ["last", "step_00000002.pt", "mean_best_2"])
def test_the_checkpoint_asked_for_is_packed(expdir, tmp_path, which):
    main([str(expdir), "-o", str(tmp_path / "a.senet"), "--checkpoint", which])
    found, expected = (load_model(*of).model.state_dict() for of in ((tmp_path / "a.senet",), (expdir, which)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert load_model(tmp_path / "a.senet").info["training"]["checkpoint"] == which
    with pytest.raises(UserError, match="one set of weights and no checkpoint 'last'"):
        load_model(tmp_path / "a.senet", "last")


def test_equal_experiments_give_equal_bytes(expdir, packed, tmp_path):
    main([str(expdir), "-o", str(tmp_path / "again.senet"), "--licence", "CC0-1.0"])
    assert (tmp_path / "again.senet").read_bytes() == packed.read_bytes()


def test_tensors_of_every_kind_and_shape_come_back(tmp_path):
    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
    tensors = {f"{kind}".partition(".")[2]: torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    tensors |= {"bool": torch.tensor([True, False, True]), "scalar": torch.tensor(3.5), "none": torch.zeros(0, 2, 5)}
    write(tmp_path / "a.senet", {**tensors, "turned": tensors["float32"].T}, Pack(FORMAT_1).record, "")
    found = Pack(tmp_path / "a.senet").tensors()
    assert all(found[k].dtype == v.dtype and torch.equal(found[k], v) for k, v in tensors.items())
    assert torch.equal(found["turned"], tensors["float32"].T)


@pytest.mark.parametrize("path", CONFIGS, ids=config_id)
def test_the_model_of_every_configuration_can_be_packed(path, tmp_path):
    parser = get_parser()
    args = parser.parse([*reduced(path), "--train", "train", "--valid", "valid", "--expdir", "exp"])
    resolve_options(args, parser)
    model = config.build("models", args.model, args.model_conf)
    checkpoint.save(tmp_path / "exp" / "checkpoints", {"model": model.state_dict()}, step=1, epoch=1)
    config.save_resolved(tmp_path / "exp" / "config.yaml", vars(args))
    main([str(tmp_path / "exp"), "-o", str(tmp_path / "a.senet")])
    found = load_model(tmp_path / "a.senet").model
    assert type(found) is type(model)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in found.state_dict().items())


def test_other_programs_read_the_weights(packed):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    found, ours = safetensors.load_file(packed), Pack(packed).tensors()
    assert found.keys() == ours.keys() and all(torch.equal(found[name], ours[name]) for name in ours)


def test_packs_of_format_1_stay_readable():
    x = (0.3 * np.sin(2 * np.pi * 440 * np.arange(800) / 8000)).astype(np.float32)
    y = load_model(FORMAT_1).enhance(x, 8000)
    assert np.abs(y[101:104] - [-0.0508107, -0.0956136, -0.1291113]).max() < 1e-4
    assert np.abs(y).sum() == pytest.approx(76.389, abs=0.01)
    assert "Random weights, for a test." in Pack(FORMAT_1).card()


def test_looking_at_a_pack_and_importing_senet_load_no_torch(packed):
    code = "import sys, senet, senet.infer.pack as p; p.Pack(sys.argv[1]).verify(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, packed], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---------------------------------------------------------------- damage


def outcome(content, path):
    """What a file with this content says, or the one line that refuses it."""
    path.write_bytes(content)
    try:
        pack = Pack(path)
        return pack.record, pack.verify(), {name: t.tolist() for name, t in pack.tensors().items()}
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 400, error
        return None


WHOLE = FORMAT_1.read_bytes()


@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
@example(place=0, bit=6)
@example(place=7, bit=7)
@example(place=8, bit=0)
@example(place=len(WHOLE) - 1, bit=0)
def test_a_flipped_bit_is_noticed_or_means_the_same(tmp_path_factory, place, bit):
    path = tmp_path_factory.getbasetemp() / "flipped.senet"
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1 << bit
    assert outcome(damaged, path) in (None, outcome(WHOLE, path))


@given(end=st.integers(0, len(WHOLE) - 1))
@example(end=0)
@example(end=7)
@example(end=8)
def test_a_cut_file_is_refused(tmp_path_factory, end):
    assert outcome(WHOLE[:end], tmp_path_factory.getbasetemp() / "cut.senet") is None


@given(content=st.binary(max_size=300), start=st.sampled_from([b"", WHOLE[:8], struct.pack("<Q", 20), WHOLE[:4000]]))
def test_random_bytes_are_refused(tmp_path_factory, content, start):
    assert outcome(start + content, tmp_path_factory.getbasetemp() / "random.senet") is None


def test_what_is_appended_is_noticed(tmp_path):
    assert outcome(WHOLE + b"\0", tmp_path / "longer.senet") is None


# ---------------------------------------------------------------- hostile


def write_header(path, header, data=b""):
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def forged(path, change=None, change_record=None, data=None):
    """A pack whose header ``change`` altered, with digests that agree, as somebody would make one on purpose."""
    length = struct.unpack("<Q", WHOLE[:8])[0]
    header, data = json.loads(WHOLE[8 : 8 + length]), WHOLE[8 + length :] if data is None else data
    texts, record = header["__metadata__"], json.loads(header["__metadata__"]["record"])
    if change_record:
        change_record(record)
    texts["record"] = json.dumps(record)
    if change:
        change(header)

    def digest(content):
        return hashlib.sha256(content).hexdigest()

    table = {k: v for k, v in header.items() if k != "__metadata__"}
    found = {k: digest(str(text).encode()) for k, text in texts.items() if k != "sha256"}
    found["tensors"] = digest(json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())
    texts["sha256"] = json.dumps(found | {"weights": digest(data)})
    return write_header(path, header, data)


def test_what_is_forged_for_these_tests_is_read_when_nothing_is_changed(tmp_path):
    assert load_model(forged(tmp_path / "a.senet")).sample_rate == 8000


def first(header):
    return next(v for k, v in sorted(header.items()) if k != "__metadata__")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: first(h).update(shape=[1 << 40, 1 << 40]), "a shape or a place|does not fill its"),
        (lambda h: first(h).update(shape=[-1]), "has a shape or a place that is none"),
        (lambda h: first(h).update(shape=[True]), "has a shape or a place that is none"),
        (lambda h: first(h).update(shape=[1] * 9), "has a shape or a place that is none"),
        (lambda h: first(h).update(shape=2), "has a shape or a place that is none"),
        (lambda h: first(h).update(data_offsets=[0, 1 << 62]), "has a shape or a place that is none"),
        (lambda h: first(h).update(data_offsets=[0]), "has a shape or a place that is none"),
        (lambda h: first(h).update(dtype="O"), "is of type O, expected one of F64"),
        (lambda h: first(h).update(dtype=["F32"]), "is of type .*, expected one of F64"),
        (lambda h: first(h).update(code="x"), "has not exactly dtype, shape and data_offsets"),
        (lambda h: h.update(extra=first(h)), "begins at byte 0, expected"),
        (lambda h: h.pop("output.weight"), "begins at byte|bytes of weights, expected"),
        (lambda h: h.update(extra={"dtype": "U8", "shape": [0], "data_offsets": [7, 7]}), "begins at byte 7, expected"),
        (lambda h: h["__metadata__"].update(format="x"), "its format is 'x', expected a number"),
        (lambda h: h["__metadata__"].update(format="²"), "its format is '²', expected a number"),
        (lambda h: h["__metadata__"].update(format=1), "one of its texts is none"),
        (lambda h: h["__metadata__"].update(record="[" * 100000), "its record is not JSON"),
        (lambda h: h["__metadata__"].update(record="[]"), "its record is a list, expected a mapping"),
        (lambda h: h["__metadata__"].update(record='{"a":1,"a":2}'), "a name stands twice"),
        (lambda h: h["__metadata__"].update(record='{"a":NaN}'), "NaN is no number"),
        (lambda h: h["__metadata__"].update(record='{"a":1e999}'), "1e999 is no number"),
        (lambda h: h["__metadata__"].update(record="{}"), "its record's 'name' is missing"),
        (lambda h: h["__metadata__"].pop("card"), "it has no card"),
    ],
)
def test_a_header_that_senet_would_not_write_is_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        Pack(forged(tmp_path / "a.senet", change))


def test_weights_alone_are_no_pack(tmp_path):
    table = {"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    for header in (table, table | {"__metadata__": {"format": "pt"}}, table | {"__metadata__": {"by": "others"}}):
        with pytest.raises(UserError, match="weights alone, without what 'senet pack' adds|format is 'pt'"):
            Pack(write_header(tmp_path / "a.senet", header))


def set_conf(**values):
    return lambda record: record["model_conf"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(name="../../x"), "its name is '../../x'"),
        (lambda r: r.update(name="a; rm -rf ~"), "its name is 'a; rm -rf ~'"),
        (lambda r: r.update(sample_rate=True), "'sample_rate' is missing or of a wrong type"),
        (lambda r: r.update(sample_rate=0), "'sample_rate' is 0, expected 1 to"),
        (lambda r: r.update(sample_rate=16000), "sample_rate is 16000 in its record and 8000 in its model"),
        (lambda r: r.update(model="os.system"), "'os.system' not found"),
        (lambda r: r.update(model="..os.system"), "not a name such as module.Class"),
        (lambda r: r.update(model="base.STFT"), "'base.STFT' is no model of senet.models"),
        (lambda r: r.update(model="measure.LiveBytes"), "'measure.LiveBytes' is no model of senet.models"),
        (lambda r: r.update(model="segan.Discriminator"), "'segan.Discriminator' is no model of senet.models"),
        (lambda r: r.update(model="lowlatency.UserError"), "'lowlatency.UserError' is no model"),
        (lambda r: r.update(model="\x1b[2J\nx"), r"'\\x1b\[2J"),
        (set_conf(lstm_units=1 << 19), "in the pack and .* in its model; its record is of another one"),
        (set_conf(channels=1 << 20, lstm_units=1 << 20, fc_units=1 << 20), "its record is of another one"),
        (set_conf(lstm_units=1 << 60), "model_conf.lstm_units is too large a number, and a pack's are at most 1048576"),
        (set_conf(dilations=[1] * 900), "has more parts than a model of"),
        (set_conf(dilations=[1] * 200_000), "model_conf has more than 1000 values"),
        (set_conf(dilations=[[]] * 200_000), "model_conf has more than 1000 values"),
        (set_conf(mask="m" * 101), "model_conf.mask is longer than 100 characters"),
        (set_conf(**{"m" * 101: 1}), "model_conf.m+ is longer than 100 characters"),
        (set_conf(lstm_units=10**400), "model_conf.lstm_units is too large a number"),
        (set_conf(exponent=1e5), "exponent is 100000.0, expected more than 0 and at most 1"),
        (set_conf(exponent=-1), "exponent is -1.0, expected more than 0 and at most 1"),
        (set_conf(mask_bound=-1), "mask_bound is -1.0, expected more than 0"),
        (set_conf(sample_rate=1), "sample_rate is 1, expected at least 100 Hz, at most 384000"),
        (set_conf(sample_rate=1 << 20), "sample_rate is 1048576, expected at least 100 Hz"),
        (lambda r: r.update(parameters=-5), "'parameters' is -5, expected 0 to"),
        (lambda r: r.update(parameters=5), "parameters is 5 in its record and .* in its model"),
        (lambda r: r.update(macs_per_second=10**400), "'macs_per_second' is 10+[.]+, expected 0 to"),
        (lambda r: r.update(latency=-1), "'latency' is -1, expected 0 to"),
        (set_conf(dilations=[1, [1 << 40]]), r"model_conf.dilations.1.0 is"),
        (set_conf(n_fft=1 << 20, win_length=1 << 20), "its record is of another one"),
        (set_conf(hop_length=0), "hop_length"),
        (set_conf(masks="x"), "has no 'masks'"),
    ],
)
def test_a_record_that_fits_no_model_is_refused_before_anything_is_built(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        load_model(forged(tmp_path / "a.senet", change_record=change))
    assert str(caught.value).isprintable() and str(tmp_path) in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    size = Pack(FORMAT_1).size
    for bad in (math.nan, -math.inf):
        data = struct.pack("<f", bad) + bytes(size - 4)
        with pytest.raises(UserError, match="tensor '.*' has values that are not finite"):
            load_model(forged(tmp_path / "a.senet", data=data))


def test_show_says_when_a_pack_holds_no_model(tmp_path, capsys):
    path = forged(tmp_path / "a.senet", change_record=lambda r: r.update(model="os.system"))
    with pytest.raises(UserError, match="'os.system' not found"):
        main(["--show", str(path)])
    assert "was built" not in capsys.readouterr().out
    main(["--show", str(FORMAT_1)])
    assert "its model is one of this senet and was built with these weights" in capsys.readouterr().out


def test_what_is_computed_beside_the_weights_is_limited(monkeypatch):
    monkeypatch.setattr(load, "MAX_COMPUTED", 127)  # bytes; a window of 32 samples has 128
    with pytest.raises(UserError, match="asks for 128 bytes beside the stored weights"):
        load_model(FORMAT_1)


def test_sizes_are_limited_before_anything_is_read(tmp_path):
    path = tmp_path / "a.senet"
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", MAX_HEADER + 1) + b"{")
        f.truncate(MAX_HEADER + 100)  # a hole: it takes no space
    with pytest.raises(UserError, match=f"at most {MAX_HEADER} are read"):
        Pack(path)
    with open(path, "wb") as f:
        f.write(WHOLE)
        f.truncate(MAX_WEIGHTS + len(WHOLE) + 1)
    with pytest.raises(UserError, match=f"bytes of weights, and at most {MAX_WEIGHTS} are read"):
        Pack(path)
    for length in (1 << 63, (1 << 64) - 1, len(WHOLE)):
        path.write_bytes(struct.pack("<Q", length) + WHOLE[8:])
        with pytest.raises(UserError, match=f"would have {length} bytes, the file has {len(WHOLE)}"):
            Pack(path)


def test_a_newer_format_is_refused_with_what_to_do(tmp_path):
    texts = {"format": "2", "senet": "9.1", "of a later kind": "x"}
    write_header(tmp_path / "a.senet", {"__metadata__": texts, "a": {"dtype": "of a later kind"}})
    expected = f"made by senet 9.1, format 2; this senet \\({__version__}\\) reads up to 1; update senet"
    with pytest.raises(UserError, match=expected):
        load_model(tmp_path / "a.senet")


def test_a_model_that_only_a_newer_senet_knows_is_refused_with_both_versions(tmp_path):
    path = forged(
        tmp_path / "a.senet",
        lambda h: h["__metadata__"].update(senet="9.1"),
        lambda r: r.update(model="later.Net"),
    )
    with pytest.raises(
        UserError, match=f"made by senet 9.1, this is {__version__}.*senet.models has no module 'later'"
    ):
        load_model(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04" + bytes(100), b"RIFF" + bytes(100), b"{}", b"\x80\x02}q\x00.", b"model: x.Y\nseed: 1\n"],
)
def test_another_file_is_refused_as_that(tmp_path, content):
    (tmp_path / "a.senet").write_bytes(content)
    with pytest.raises(UserError, match=r"a.senet: not a pack"):
        load_model(tmp_path / "a.senet")
    with pytest.raises(UserError, match="nothing.senet: no such model"):
        load_model(tmp_path / "nothing.senet")


# ---------------------------------------------------------------- the card

EVIL = (
    "\x1b]0;me\x07\x9b31m\u202etxt <script>alert(1)</script> [x](javascript:x) ![y](http://z) | `a` \n# head\r& \ud800"
)


def places(value, path=()):
    """Paths to everything in nested plain values."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def test_no_value_of_a_record_gets_into_the_card_as_it_is(tmp_path):
    record = json.loads(json.dumps(Pack(FORMAT_1).record))
    over = {"mean": 1.0, "interval": [0.5, 1.5]}
    metric = {"name": "m", "label": "M", "lower_is_better": False, "digits": 2, "n": 3, "failed": 0, "over_noisy": over}
    record["scores"] = {"test": {"n": 3, "metrics": [metric | over]}}
    record["training"] |= {"data": {"train": {"name": "a", "utterances": 3}}, "written": "2026", "unfinished": "yes"}
    record["training"] |= {"updates": 3, "epochs": 1, "training_seconds": 1.0, "git": {"commit": "c", "dirty": True}}
    record["training"] |= {"hardware": {"cpu": "x", "gpus": ["y"]}, "versions": {"torch": "2"}}
    shown = 0
    for path in set(places(record)) - {(), ("name",)}:  # a name is refused sooner
        changed = json.loads(json.dumps(record))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = EVIL
        try:
            card = markdown(changed)
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        require_text(card)
        shown += "alert(1)" in card
    assert shown > 10


def require_text(card):
    """Nothing in it acts: no character that a terminal obeys, and outside of code no tag, link or heading."""
    assert all(line.isprintable() for line in card.split("\n"))
    text = "".join(part for i, part in enumerate(card.replace("```", "\n").split("`")) if i % 2 == 0)
    assert "<script" not in text and "\n# head" not in card and "](" not in text.replace("\\](", "")


def test_what_strangers_write_is_text_in_the_card(tmp_path, capsys):
    def change(record):
        record.update(description=EVIL, licence=EVIL, about=EVIL)
        metric = {"name": EVIL, "label": EVIL, "lower_is_better": False, "digits": 10**9, "mean": 1.0, "n": 3}
        metric |= {"interval": [0.5, 1.5], "failed": 0, "over_noisy": {"mean": 1.0, "interval": [0.5, 1.5]}}
        record["scores"] = {EVIL: {"n": 3, "metrics": [metric]}}
        record["training"] = {"data": {EVIL: {"name": EVIL, "utterances": 3}}, "recipe": EVIL, "versions": {EVIL: EVIL}}
        record["training"] |= {"git": {"commit": EVIL}, "written": EVIL, "hardware": {"cpu": EVIL}}

    path = forged(tmp_path / "a.senet", change_record=change)
    main(["--show", str(path), "--card", str(tmp_path / "card.md")])
    card = (tmp_path / "card.md").read_text()
    said = capsys.readouterr().out
    assert said.startswith(card)
    require_text(card)
    assert all(line.isprintable() for line in said.split("\n"))
    assert all(line.count(" | ") <= 6 for line in card.split("\n"))


@pytest.mark.parametrize("key", ["training", "scores"])
@pytest.mark.parametrize(
    "value",
    [
        {"x": 1},
        {"data": {}, "seed": "<b>", "x": 1},
        {"data": {}, "training_seconds": 10**400, "x": 1},
        {"data": 3},
        {"data": {"a": {}}},
        {"x": {"n": "a", "metrics": 3}},
    ],
)
def test_a_record_that_cannot_be_shown_is_refused(tmp_path, key, value):
    with pytest.raises(UserError, match="its record cannot be shown"):
        Pack(forged(tmp_path / "a.senet", change_record=lambda r: r.update({key: value}))).card()
