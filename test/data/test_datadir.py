import pickle

import numpy as np
import pytest

from senet.data.audio import read
from senet.data.datadir import DataDir
from senet.data.scp import read_table
from senet.errors import UserError


def test_line_i_is_utterance_i_everywhere(original):
    data = DataDir(original)
    assert len(data) == 12
    assert data.num_samples.tolist() == [int(n) for n in read_table(original / "utt2num_samples").values()]
    for i in (0, 5, 11):
        utt = data.check_item(i)
        assert utt == data.noisy.key(i) == data.clean.key(i) == data.noise.key(i)
        assert data.speaker(i) == utt.rpartition("-")[0]
        noisy, clean, noise = (read(scp.value(i))[0] for scp in (data.noisy, data.clean, data.noise))
        np.testing.assert_allclose(noisy, clean + noise, atol=5e-5)
    assert len(pickle.loads(pickle.dumps(data))) == 12


def test_optional_files_are_none(paired):
    for name in ("spk1.scp", "noise1.scp", "utt2num_samples"):
        (paired / name).unlink()
    data = DataDir(paired)
    assert data.clean is None
    assert data.noise is None
    with pytest.raises(UserError, match="utt2num_samples: missing"):
        data.num_samples  # noqa: B018
    with pytest.raises(UserError, match="wav.scp: missing"):
        DataDir(paired / "wav")


@pytest.mark.parametrize("name", ["spk1.scp", "noise1.scp", "utt2num_samples", "utt2spk"])
def test_a_missing_or_other_key_never_pairs_wrongly(paired, name, edit):
    def open_all():
        data = DataDir(paired)
        return data.num_samples, data.speaker(0)

    content = (paired / name).read_text()
    edit(paired / name, lambda lines: lines.pop(4))
    with pytest.raises(UserError, match=rf"{name}:5: 'a-b-000' of wav.scp:5 is missing"):
        open_all()
    (paired / name).write_text(content.replace("a-b-002", "a-b-003"))
    with pytest.raises(UserError, match=rf"{name}:7: 'a-b-002' of wav.scp:7 is missing"):
        open_all()
    (paired / name).write_text(content + "d-1 1\n")
    with pytest.raises(UserError, match=rf"{name}:13: 'd-1' is not in wav.scp \(12 ids\)"):
        open_all()


def test_a_file_edited_under_a_running_process_is_noticed(paired):
    data = DataDir(paired)
    with open(paired / "spk1.scp", "r+b") as f:  # in place, same length, other order
        content = f.read()
        f.seek(0)
        f.write(content.replace(b"a-001 ", b"a-009 ", 1))
    with pytest.raises(UserError, match="spk1.scp:2: 'a-009', but .*wav.scp has 'a-001'"):
        data.check_item(1)
