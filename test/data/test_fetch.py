"""Fetching of archives, from a server on this machine that can be told to misbehave."""

import bz2
import gzip
import hashlib
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from archive_server import noise, serve, tar, zip_

from senet.data import archives, fetch, transfer
from senet.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LISTS = sorted(ROOT.glob("egs/*/conf/archives.yaml"))


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(transfer, "WAIT", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as site:
        yield site


A, B = {"clean/a.wav": noise(1), "clean/b.wav": noise(2)}, {"clean/c.wav": noise(3), "noisy/a.wav": noise(4)}


@pytest.fixture
def parts(site, tmp_path):
    """``parts(NAME=[entries], ...)`` is a list's parts, with places below ``tmp_path / "to"``."""

    def read(url=site.url, **named):
        entries = {name: {"archives": items} if isinstance(items, list) else items for name, items in named.items()}
        path = tmp_path / "archives.yaml"
        path.write_text(yaml.safe_dump({"url": url, "parts": entries}))
        return archives.read_list(path, tmp_path / "to")

    return read


@pytest.fixture
def to(tmp_path):
    return tmp_path / "to"


def run(parts, to, **options):
    fetch.fetch(list(parts.values()), to, **options)


def tree(folder):
    """Visible files below a folder -> content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


# ---------------------------------------------------------------- what arrives


@pytest.mark.parametrize(
    "name, pack",
    [
        ("x.tgz", tar),
        ("x.tar.gz", tar),
        ("x.tar.bz2", lambda members: tar(members, bz2.compress)),
        ("x.tar.xz", lambda members: tar(members, lzma.compress)),
        ("x.zip", zip_),
    ],
)
def test_an_archive_is_unpacked_and_removed_and_is_not_fetched_again(site, parts, to, name, pack):
    site.files[name] = pack(A)
    for _ in range(2):
        run(parts(p=[{"file": name}]), to)
        assert tree(to) == A
        assert site.asked == [(name, 0)]


def test_archives_of_a_part_share_folders_and_go_where_the_list_says(site, parts, to):
    site.files |= {"sub/x.zip": zip_(A), "sub/y.tgz": tar(B)}
    run(parts(p={"unpack": "deep/er", "archives": [{"file": "sub/x.zip"}, {"file": "sub/y.tgz"}]}), to)
    assert tree(to) == {f"deep/er/{name}": content for name, content in (A | B).items()}


def test_a_file_that_is_no_archive_is_checked_and_stays(site, parts, to):
    site.files |= {"m/one.onnx": noise(1), "n/one.onnx": noise(2)}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in site.files.items()}
    entries = [{"file": name, "unpack": False, "sha256": sums[name]} for name in sums]
    for _ in range(2):
        run(parts(p={"unpack": "models", "archives": entries}), to)
        assert tree(to) == {"models/m/one.onnx": noise(1), "models/n/one.onnx": noise(2)}
    assert len(site.asked) == 2


def test_archives_are_kept_on_request_and_then_belong_to_the_user(site, parts, to):
    site.files["x.zip"] = zip_(A)
    run(parts(p=[{"file": "x.zip"}]), to, keep_archives=True)
    run(parts(p=[{"file": "x.zip"}]), to)
    assert tree(to) == A | {"x.zip": site.files["x.zip"]}


def test_pieces_are_joined_in_the_order_of_their_names(site, parts, to):
    whole = tar(A)
    cuts = [0, 30000, 60000, 90000, len(whole)]
    for ending, first, last in zip(("aa", "ab", "ad", "ah"), cuts[:-1], cuts[1:], strict=True):
        site.files[f"t/x.tgz.part{ending}"] = whole[first:last]
    run(parts(p=[{"file": "t/x.tgz", "pieces": "aa-ab ad ah"}]), to)
    assert tree(to) == A
    assert [path for path, _ in site.asked] == sorted(site.files)


def test_redirects_are_followed_and_an_archive_may_have_an_address_of_its_own(site, parts, to):
    site.files |= {"x.zip": zip_(A), "other/y.zip": zip_(B)}
    own = {"file": "y.zip", "url": f"{site.url}/other/y.zip"}
    run(parts(url=site.url + "/moved", p=[{"file": "x.zip"}, own]), to)
    assert tree(to) == A | B


def test_archives_that_are_there_are_used_and_never_removed(site, parts, to):
    content = zip_(A)
    for place in ("x.zip", "server/x.zip"):
        (to / place).parent.mkdir(parents=True, exist_ok=True)
        (to / place).write_bytes(content)
        run(parts(p=[{"file": "server/x.zip", "md5": hashlib.md5(content).hexdigest()}]), to)
        assert tree(to) == A | {place: content}
        assert site.asked == []
        (to / place).unlink()


def test_what_was_deleted_after_unpacking_is_fetched_again(site, parts, to):
    site.files["x.zip"] = zip_({"one/a": b"1", "two/b": b"2"})
    run(parts(p=[{"file": "x.zip"}]), to)
    (to / "two" / "b").unlink()
    (to / "two").rmdir()
    run(parts(p=[{"file": "x.zip"}]), to)
    assert tree(to) == {"one/a": b"1", "two/b": b"2"}


# ---------------------------------------------------------------- interruptions


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(site, parts, to):
    site.files["x.zip"] = zip_(A)
    site.break_at["x.zip"] = [1000, 20000, 100]
    run(parts(p=[{"file": "x.zip"}]), to)
    assert tree(to) == A
    assert site.asked == [("x.zip", first) for first in (0, 1000, 21000, 21100)]


def test_a_part_of_an_earlier_run_is_continued_also_when_it_is_all_there(site, parts, to):
    site.files["x.zip"] = content = zip_(A)
    for first in (500, len(content)):
        to.mkdir(exist_ok=True)
        (to / "x.zip.part").write_bytes(content[:first])
        run(parts(**{f"p{first}": {"unpack": f"{first}", "archives": [{"file": "x.zip"}]}}), to)
        assert site.asked.pop() == ("x.zip", first)
        assert tree(to / f"{first}") == A
        (to / ".fetch" / "x.zip.done").unlink()


def test_a_server_without_ranges_begins_anew(site, parts, to):
    site.files["x.zip"] = content = zip_(A)
    site.ranges = False
    site.break_at["x.zip"] = [1000]
    run(parts(p=[{"file": "x.zip", "bytes": len(content)}]), to)
    assert tree(to) == A


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(site, parts, to):
    site.files["x.zip"] = zip_(A)
    site.ranges = False
    site.break_at["x.zip"] = [1000] * 100
    with pytest.raises(UserError, match=r"the transfer did not finish.*1 KB are kept in .*x.zip.part, and"):
        run(parts(p=[{"file": "x.zip"}]), to)
    assert len(site.asked) < 20


def test_passing_troubles_of_the_server_are_sat_out(site, parts, to):
    site.files["x.zip"] = zip_(A)
    site.errors["x.zip"] = [503, 429]
    run(parts(p=[{"file": "x.zip"}]), to)
    assert tree(to) == A


def test_a_missing_file_is_named_at_once_and_the_rest_is_kept(site, parts, to):
    whole = tar(A)
    site.files |= {"x.tgz.partaa": whole[:40000], "x.tgz.partac": whole[80000:]}
    with pytest.raises(UserError, match=r"x\.tgz\.partab: the transfer did not finish: .*404"):
        run(parts(p=[{"file": "x.tgz", "pieces": "aa-ac"}]), to)
    assert site.asked == [("x.tgz.partaa", 0), ("x.tgz.partab", 0)]
    site.files["x.tgz.partab"] = whole[40000:80000]
    run(parts(p=[{"file": "x.tgz", "pieces": "aa-ac"}]), to)
    assert tree(to) == A
    assert site.asked[2:] == [("x.tgz.partab", 0), ("x.tgz.partac", 0)]


def test_nobody_answers(parts, to):
    with pytest.raises(UserError, match="x.zip: the transfer did not finish: .*onnect"):
        run(parts(url="http://127.0.0.1:1", p=[{"file": "x.zip"}]), to)


KILLED = """
import sys
from senet.data import archives, fetch, unpack
import senet.data.fetch as module
if sys.argv[3] == "unpacking":
    import os, signal
    tarfile_extract = unpack.tarfile.TarFile.extract
    count = [0]
    def extract(*words, **options):
        count[0] += 1
        if count[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return tarfile_extract(*words, **options)
    unpack.tarfile.TarFile.extract = extract
if sys.argv[3] == "moving":
    import os, signal
    replace = os.replace
    def stop(source, target):
        replace(source, target)
        if ".unpacked" in str(source):
            os.kill(os.getpid(), signal.SIGKILL)
    os.replace = stop
fetch.fetch(list(archives.read_list(sys.argv[1], sys.argv[2]).values()), sys.argv[2])
"""


def start(tmp_path, to, where):
    words = [sys.executable, "-c", KILLED, str(tmp_path / "archives.yaml"), str(to), where]
    return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)


def test_killed_in_the_transfer(site, parts, to, tmp_path):
    site.files["x.tgz"] = content = tar({"a": noise(1, 4_000_000)})
    site.slow.add("x.tgz")
    listed = parts(p=[{"file": "x.tgz", "bytes": len(content)}])
    child = start(tmp_path, to, "nowhere")
    part = to / "x.tgz.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(UserError, match="another run is fetching into it"):
        run(listed, to)
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = part.stat().st_size
    site.slow.clear()
    site.go.set()  # what the first server thread still sends reaches no file
    run(listed, to)
    assert site.asked[-1][1] >= there - 100_000 > 0
    assert tree(to) == {"a": noise(1, 4_000_000)}


@pytest.mark.parametrize("where, requests", [("unpacking", 1), ("moving", 1)])
def test_killed_while_it_unpacks_or_moves(site, parts, to, tmp_path, where, requests):
    content = {"a/1": noise(1), "a/2": noise(2), "b": noise(3)}
    site.files["x.tgz"] = tar(content)
    listed = parts(p=[{"file": "x.tgz"}])
    child = start(tmp_path, to, where)
    assert child.wait() == -signal.SIGKILL
    seen = tree(to)
    assert seen.items() <= (content | {"x.tgz": site.files["x.tgz"]}).items()  # nothing that is half a file
    assert not set(content) <= set(seen)
    run(listed, to)
    assert tree(to) == content and len(site.asked) == requests


# ---------------------------------------------------------------- what is not right


def test_a_web_page_instead_of_the_archive_is_named_and_not_continued(site, parts, to):
    site.files["x.zip"] = b"\n<!DOCTYPE html><html><head><title>Terms of use</title></head></html>"
    with pytest.raises(UserError, match=r"x.zip: it is a web page \('Terms of use'\), not the file.*fetches it anew"):
        run(parts(p=[{"file": "x.zip"}]), to)
    site.files["x.zip"] = zip_(A)
    run(parts(p=[{"file": "x.zip"}]), to)
    assert tree(to) == A


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_a_wrong_sum_is_refused_and_the_right_one_taken(site, parts, to, algorithm):
    site.files["x.zip"] = content = zip_(A)
    right = hashlib.new(algorithm, content).hexdigest()
    with pytest.raises(UserError, match=rf"x.zip: its {algorithm} sum is {right}, expected 0000"):
        run(parts(p=[{"file": "x.zip", algorithm: "0" * len(right)}]), to)
    assert tree(to) == {}
    run(parts(p=[{"file": "x.zip", algorithm: right.upper()}]), to)
    assert tree(to) == A


def test_a_wrong_length_is_refused(site, parts, to):
    site.files["x.zip"] = content = zip_(A)
    with pytest.raises(UserError, match=f"x.zip: it has {len(content)} bytes, expected {len(content) + 7}"):
        run(parts(p=[{"file": "x.zip", "bytes": len(content) + 7}]), to)
    with pytest.raises(UserError, match="x.zip: it has .* bytes, expected 7"):
        run(parts(p=[{"file": "x.zip", "bytes": 7}]), to)


def test_an_unfinished_download_of_the_users_is_told_how_to_go_on(site, parts, to):
    site.files["x.zip"] = content = zip_(A)
    to.mkdir()
    (to / "x.zip").write_bytes(content[:999])
    listed = parts(p=[{"file": "x.zip", "bytes": len(content)}])
    with pytest.raises(UserError, match=r"to/x.zip: it has 999 bytes.*continued when it is called x.zip.part"):
        run(listed, to)
    (to / "x.zip").rename(to / "x.zip.part")
    run(listed, to)
    assert site.asked == [("x.zip", 999)]


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "cut in its check sum": lambda content: content[:-2],
    "altered": lambda content: content[:60000] + bytes(100) + content[60100:],
    "something else": lambda content: b"hello" * 1000,
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("name", ["x.tgz", "x.tar.bz2", "x.tar.xz", "x.zip"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_sum_damage_is_found_by_unpacking(site, parts, to, name, damage):
    pack = {"x.tgz": tar, "x.zip": zip_}.get(name) or (
        lambda members: tar(members, bz2.compress if "bz2" in name else lzma.compress)
    )
    site.files[name] = DAMAGES[damage](pack(A))
    with pytest.raises(UserError, match=rf"to/{name}: not whole: .*It was removed; the same command fetches it anew"):
        run(parts(p=[{"file": name}]), to)
    assert tree(to) == {}
    site.files[name] = pack(A)
    run(parts(p=[{"file": name}]), to)
    assert tree(to) == A


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(site, parts, to):
    plain = bytearray(gzip.decompress(tar(A)))
    second = plain.index(b"clean/b.wav")
    plain[second : second + 512] = b"x" * 512
    site.files["x.tgz"] = gzip.compress(bytes(plain))
    with pytest.raises(UserError, match="not whole"):
        run(parts(p=[{"file": "x.tgz"}]), to)


def test_a_short_piece_is_named_and_no_piece_is_removed(site, parts, to):
    whole = tar(A)
    to.mkdir()
    pieces = {f"x.tgz.parta{letter}": whole[i * 30000 : (i + 1) * 30000] for i, letter in enumerate("abcd")}
    pieces["x.tgz.partab"] = pieces["x.tgz.partab"][:-5000]
    for name, content in pieces.items():
        (to / name).write_bytes(content)
    with pytest.raises(
        UserError, match=r"joined from 4 pieces is not whole.*shorter.*: x.tgz.partab \(25000 bytes\)\."
    ):
        run(parts(p=[{"file": "x.tgz", "pieces": "aa-ad"}]), to)
    assert tree(to) == pieces


def test_a_piece_that_is_a_web_page_is_named(site, parts, to):
    whole = tar(A)
    site.files |= {"x.tgz.partaa": whole[:50000], "x.tgz.partab": b"<html>Sorry</html>", "x.tgz.partac": whole[50000:]}
    with pytest.raises(UserError, match=r"x.tgz.partab: it is a web page"):
        run(parts(p=[{"file": "x.tgz", "pieces": "aa-ac"}]), to)


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "name, content",
    [
        ("x.tgz", tar({"ok": b"1", "../../../evil": b"2"})),
        ("x.tgz", tar({"l": link("l", "../../.."), "l/evil": b"2"})),
        ("x.tgz", tar({"l": link("l", "/etc/passwd")})),
        ("x.tgz", tar({"pipe": link("pipe", "", tarfile.FIFOTYPE)})),
        ("x.zip", zip_({"ok": b"1", "../../../evil": b"2"})),
        ("x.zip", zip_({"/evil": b"2"})),
    ],
    ids=["tar-up", "tar-link-up", "tar-link-away", "tar-pipe", "zip-up", "zip-absolute"],
)
def test_what_points_outside_the_folder_is_refused(site, parts, to, tmp_path, name, content):
    site.files[name] = content
    before = {path for path in tmp_path.rglob("*") if to not in path.parents and path != to}
    with pytest.raises(UserError, match=rf"{name}: refused to unpack"):
        run(parts(p=[{"file": name}]), to)
    after = {path for path in tmp_path.rglob("*") if to not in path.parents and path != to}
    assert {path.name for path in after - before} <= {"archives.yaml"}
    assert set(tree(to)) <= {name}


# ---------------------------------------------------------------- disk


def test_what_does_not_fit_is_refused_before_anything_is_fetched(site, parts, to, monkeypatch):
    listed = parts(p={"unpacked": "5 GB", "archives": [{"file": "x.zip", "bytes": 2_000_000_000}]})
    monkeypatch.setattr(fetch, "free_bytes", lambda folder: 6_900_000_000)
    with pytest.raises(UserError, match=r"about 7 GB of disk space are needed, 6.9 GB are free"):
        run(listed, to)
    assert site.asked == [] and not to.exists()
    monkeypatch.setattr(fetch, "free_bytes", lambda folder: 7_000_000_001)
    with pytest.raises(UserError, match="404"):
        run(listed, to)


def test_archives_are_removed_one_by_one_so_that_less_disk_is_needed(parts, to):
    listed = list(
        parts(p={"unpacked": "30 GB", "size": "20 GB", "archives": [{"file": f"{i}.zip"} for i in range(4)]}).values()
    )
    assert fetch.Store(to).needs(listed) == (20e9, 35e9)
    assert fetch.Store(to).needs(listed, keep_archives=True) == (20e9, 50e9)
    unsized = list(parts(p={"unpacked": "30 GB", "archives": [{"file": f"{i}.zip"} for i in range(4)]}).values())
    assert fetch.Store(to).needs(unsized) == (0, 30e9)
    to.mkdir()
    with open(to / "0.zip.part", "wb") as file:
        file.truncate(4_000_000_000)  # sparse
    assert fetch.Store(to).needs(listed) == (16e9, 31e9)


def test_what_a_killed_run_left_is_not_needed_twice(parts, to):
    listed = list(parts(p={"unpacked": "3 MB", "archives": [{"file": "x.zip", "bytes": 1_000_000}]}).values())
    remains = to / ".fetch" / "x.zip.unpacking" / "content" / "a"
    remains.mkdir(parents=True)
    (remains / "1.wav").write_bytes(bytes(500_000))
    assert fetch.Store(to).needs(listed) == (1_000_000, 3_500_000)


def test_a_zip_is_compared_with_the_disk_by_its_own_figures(site, parts, to, monkeypatch):
    site.files["x.zip"] = zip_({"zeros": bytes(3_000_000)})
    monkeypatch.setattr(fetch, "free_bytes", lambda folder: 2_000_000)
    with pytest.raises(UserError, match="x.zip: about 3 MB of disk space are needed, 2 MB are free"):
        run(parts(p=[{"file": "x.zip"}]), to)


def test_a_disk_that_fills_up_says_so_and_work_goes_on_later(site, parts, to, monkeypatch):
    site.files["x.tgz"] = tar(A)
    extract = tarfile.TarFile.extract

    def full(*words, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(UserError, match="unpacking x.tgz stopped: No space left on device; free some space"):
        run(parts(p=[{"file": "x.tgz"}]), to)
    monkeypatch.setattr(tarfile.TarFile, "extract", extract)
    run(parts(p=[{"file": "x.tgz"}]), to)
    assert tree(to) == A and len(site.asked) == 1


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.parts[-3])
def test_the_recipes_lists_are_sound(path, tmp_path):
    parts = archives.read_list(path, tmp_path)
    assert archives.choose(parts, [])
    for part in parts.values():
        for archive in part.archives:
            for file in archive.files:
                assert file.url.startswith("https://")
                assert len(file.digest or "") in (0, *(hashlib.new(name).digest_size * 2 for name in ("md5", "sha256")))
    mirrored = archives.read_list(path, tmp_path, url="http://mirror/x/")
    for part in mirrored.values():
        assert all(file.url.startswith("http://mirror/x/") for archive in part.archives for file in archive.files)


def test_the_pieces_of_dns5_are_as_many_as_published(tmp_path):
    parts = archives.read_list(ROOT / "egs" / "dns5" / "conf" / "archives.yaml", tmp_path)
    counts = {name: len(part.archives[0].files) for name, part in parts.items() if "_speech" in name or name == "vctk"}
    assert counts == {
        "read_speech": 21, "german_speech": 21, "french_speech": 6, "italian_speech": 4, "spanish_speech": 7,
        "vctk": 3, "russian_speech": 1, "emotional_speech": 1,
    }  # fmt: skip
    names = [file.path.name for file in parts["german_speech"].archives[0].files]
    assert names == sorted(names) and "german_speech.tgz.partai" not in names
    assert names[0] == "german_speech.tgz.partaa" and names[-1] == "german_speech.tgz.partaw"


@pytest.mark.parametrize(
    "named, message",
    [
        ({"p": {"archive": []}}, "part 'p': unknown key 'archive'; did you mean 'archives'"),
        ({"p": []}, "part 'p': the key 'archives' is missing"),
        ({"p": [{"file": "x.rar"}]}, "x.rar: not one of .tar.gz"),
        ({"p": [{"file": "../x.zip"}]}, "'../x.zip' is not below"),
        ({"p": [{"file": "x.zip", "md6": "1"}]}, "unknown key 'md6'; did you mean 'md5'"),
        ({"p": [{"file": "x.tgz", "pieces": "ac-aa"}]}, "pieces 'ac-aa' are not"),
        ({"p": [{"file": "x.tgz", "pieces": "aa-b"}]}, "pieces 'aa-b' are not"),
        ({"p": [{"file": "a/x.zip"}], "q": [{"file": "b/x.zip"}]}, "two archives would both be 'x.zip'"),
        ({"p": {"size": "much", "archives": [{"file": "x.zip"}]}}, "part 'p': .*much"),
    ],
)
def test_a_list_that_is_not_sound_is_refused(parts, named, message):
    with pytest.raises(UserError, match=message):
        parts(**named)


def test_parts_are_chosen_by_name_or_by_default(parts):
    listed = parts(one=[{"file": "1.zip"}], two={"default": True, "archives": [{"file": "2.zip"}]})
    assert [part.name for part in archives.choose(listed, [])] == ["two"]
    assert [part.name for part in archives.choose(listed, ["two", "one"])] == ["one", "two"]
    with pytest.raises(UserError, match="no part 'tow'; did you mean 'two'. there are one, two"):
        archives.choose(listed, ["tow"])
    with pytest.raises(UserError, match="no part is fetched by default; choose with --part from one"):
        archives.choose(parts(one=[{"file": "1.zip"}]), [])
