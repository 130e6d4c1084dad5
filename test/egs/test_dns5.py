"""The recipe on DNS5 in miniature: the corpus's own tree and names, from the archives on a server to the table."""

import functools
import http.server
import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from senet.bin import mix
from senet.data.scp import Scp, read_ints, read_table
from senet.report.published import read_published

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs" / "dns5"
KINDS = ("speech", "noise", "rir")
PARTS = ("train", "valid", "test")
YOUTUBE = ("-0AnaCS6Gy0", "__5V2Njkf5M", "1XtA6tSgFPQ", "UEJDB6OMCNY", "WP63k5C1qdw", "wntLte49djU", "zRhCXaEYN6I")


def signal(rng, seconds, rate, channels=1):
    """Harmonic bursts in a little noise: enough like speech for PESQ and STOI."""
    t = np.arange(int(seconds * rate))[:, None] / rate
    pitch = rng.uniform(90, 250, channels)
    voice = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 12))
    return 0.05 * voice * (np.sin(2 * np.pi * 3 * t) > -0.3) + 0.002 * rng.standard_normal((len(t), channels))


def decay(rng, seconds, rate, channels=1):
    """A direct sound and an exponential tail."""
    t = np.arange(int(seconds * rate))[:, None] / rate
    tail = 0.1 * np.exp(-t / 0.06) * rng.standard_normal((len(t), channels))
    tail[: rate // 200] = 0
    tail[rate // 400] = 0.8
    return tail


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The unpacked archives, as deep as each of them has it. Do not change it: the tests share it."""
    root = tmp_path_factory.mktemp("dns5")
    rng = np.random.default_rng(5)

    def write(name, x, rate=48000):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, x, rate, "PCM_16")

    clean = "mnt/dnsv5/clean"  # as Track 1's archives have it
    for reader in range(8):
        for number in range(2):
            name = f"book_0000{reader % 3}_chp_0009_reader_{6700 + reader:05d}_{number}_seg_1.wav"
            write(f"{clean}/read_speech/{name}", signal(rng, 2 + number, 48000))
    for speaker in ("p225", "p226", "p227"):
        for mic in (1, 2):
            write(f"{clean}/vctk_wav48_silence_trimmed/{speaker}/{speaker}_001_mic{mic}.wav", signal(rng, 1.5, 48000))
    wikipedia = f"{clean}/german_speech/CC_BY_SA_4.0_249hrs_339spk_German_Wikipedia_16k/data"
    for part in (33, 34):
        write(f"{wikipedia}/German_Wikipedia_Martin_Luther_audio2_48kHz_seg_{part}.wav", signal(rng, 1.5, 48000))
    noise = "datasets_fullband/noise_fullband"
    for name in YOUTUBE:
        write(f"{noise}/{name}.wav", 0.05 * rng.standard_normal(3 * 48000))
    for take in range(3):  # pieces of one recording
        write(f"{noise}/door_Freesound_validated_349356_{take}.wav", 0.1 * rng.standard_normal(2 * 48000))
    rir = "datasets_fullband/impulse_responses"
    for room in range(1, 7):
        for number in (1, 2):
            name = f"Room{room:03d}/Room{room:03d}-{number:05d}.wav"
            write(f"{rir}/SLR26/simulated_rirs_48k/smallroom/{name}", decay(rng, 0.4, 48000))
    slr28 = f"{rir}/SLR28/RIRS_NOISES"
    write(
        f"{slr28}/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_near_angla.wav",
        decay(rng, 0.5, 16000, 8),
        16000,
    )
    for name in (
        "real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1",
        "pointsource_noises/noise-free-sound-0000",
    ):
        write(f"{slr28}/{name}.wav", 0.1 * rng.standard_normal(16000), 16000)
    for track, seconds in (("Track1_Headset", 3), ("Track2_Speakerphone", 2)):
        for number in (3, 7):
            name = f"ms_pns_HPdesktop_A1QUQ0TV9KVD4C_copy_machine_primarywithnoise_fileid_{number}.wav"
            noisy = signal(rng, seconds, 48000)
            write(f"V5_dev_testset/{track}/noisy/{name}", noisy + 0.02 * rng.standard_normal(noisy.shape))
            write(f"V5_dev_testset/{track}/enrol/{name}", signal(rng, seconds, 48000))
    for kind in ("no_reverb", "with_reverb"):  # of DNS1
        for number in (2, 19):
            x = signal(rng, 2.5, 16000)
            folder = f"DNS-Challenge/datasets/test_set/synthetic/{kind}"
            name = f"clnsp{number}_amMeH4u6AO4_snr5_tl-18_fileid_{number}.wav"
            write(f"{folder}/noisy/{name}", x + 0.03 * rng.standard_normal(x.shape), 16000)
            write(f"{folder}/clean/clean_fileid_{number}.wav", x, 16000)
    return root


def script(name, *words, cwd=RECIPE, **variables):
    """Run one of the recipe's scripts as se.sh does; (exit status, output of both kinds)."""
    path = os.pathsep.join([str(ROOT / "utils"), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable if name.endswith(".py") else "bash", str(RECIPE / "local" / name), *map(str, words)]
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def data(corpus, tmp_path_factory):
    """What stage 1 makes of all corpora, and what it printed."""
    folder = tmp_path_factory.mktemp("stage1") / "data"
    status, output = script("data.sh", "--dns5", corpus, "--corpora", "all", "--datadir", folder)
    assert status == 0, output
    return folder, output


def test_parts_share_no_speaker_no_recording_and_no_room(data):
    folder, output = data
    for kind in KINDS:
        for table in ["utt2fingerprint", "utt2recording"] + ["utt2spk"] * (kind == "speech"):
            values = [set(read_table(folder / f"{kind}_{part}" / table).values()) for part in PARTS]
            assert all(values), (kind, table)
            assert sum(map(len, values)) == len(set().union(*values)), (kind, table)
    rooms = [{Path(value).parent for _, value in Scp(folder / f"rir_{part}" / "wav.scp")} for part in PARTS]
    assert sum(map(len, rooms)) == len(set().union(*rooms)) == 7, output


def test_every_recording_is_listed_once_and_what_is_no_impulse_response_is_not(data, corpus):
    folder, _ = data
    count = {kind: sum(len(Scp(folder / f"{kind}_{part}" / "wav.scp")) for part in PARTS) for kind in KINDS}
    assert count == {"speech": 16 + 6 + 2, "noise": 10, "rir": 13}


def test_speakers_are_read_from_the_names(data):
    speakers = {spk for part in PARTS for spk in read_table(data[0] / f"speech_{part}" / "utt2spk").values()}
    assert len(speakers) == 8 + 3 + 1
    for name in ("06703", "p225", "German_Wikipedia"):
        assert any(name in spk for spk in speakers), (name, speakers)


def test_pieces_of_a_freesound_recording_stay_together(data):
    parts = [
        part
        for part in PARTS
        for utt, _ in Scp(data[0] / f"noise_{part}" / "wav.scp")
        if "Freesound_validated_349356" in utt
    ]
    assert len(parts) == 3 and len(set(parts)) == 1
    assert "door" in read_table(data[0] / f"noise_{parts[0]}" / "utt2noise").values()


def test_read_speech_alone_is_the_default(corpus, tmp_path):
    status, output = script("data.sh", "--datadir", tmp_path / "data", DNS5=str(corpus))
    assert status == 0, output
    assert sum(len(Scp(tmp_path / "data" / f"speech_{part}" / "wav.scp")) for part in PARTS) == 16


def test_official_sets_have_no_references_and_those_of_dns1_have(data, corpus):
    folder, output = data
    for name in ("dev_headset", "dev_speakerphone"):
        assert len(Scp(folder / name / "wav.scp")) == 2
        assert not (folder / name / "spk1.scp").exists()
        assert all("/noisy/" in value for _, value in Scp(folder / name / "wav.scp"))
    for kind in ("no_reverb", "with_reverb"):
        pairs = Scp(folder / f"dns1_{kind}" / "wav.scp"), Scp(folder / f"dns1_{kind}" / "spk1.scp")
        assert [utt for utt, _ in pairs[0]] == [utt for utt, _ in pairs[1]]
        for (_, noisy), (_, clean) in zip(*pairs, strict=True):
            assert noisy.rpartition("_")[2] == clean.rpartition("_")[2] and f"/{kind}/" in noisy
    assert "blind_headset (V5_BlindTestSet/Track1_Headset/noisy)" in output and "dev_headset (" not in output


def test_official_sets_alone_need_no_sources(corpus, tmp_path):
    folder = next(p for p in corpus.rglob("V5_dev_testset") if p.is_dir())
    (tmp_path / "dns5").mkdir()
    (tmp_path / "dns5" / "V5_dev_testset").symlink_to(folder)
    words = ["--dns5", tmp_path / "dns5", "--datadir", tmp_path / "data", "--sets"]
    status, output = script("data.sh", *words, " dev_headset ")
    assert status == 0, output
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["dev_headset", "dev_speakerphone"]
    assert "no folder called read_speech" in script("data.sh", *words, "dev_headset speech_test noise_test")[1]
    assert "no folder called V5_BlindTestSet" in script("data.sh", *words, "blind_headset")[1]


def test_a_missing_corpus_is_explained(corpus, tmp_path):
    status, output = script("data.sh", "--dns5", tmp_path, cwd=tmp_path)
    assert status == 1
    for text in (
        "no folder called read_speech, noise_fullband, impulse_responses in it",
        "DNS5=DIR",
        "conf/local.conf",
        "--dns5 DIR",
        "microsoft/DNS-Challenge",
        "local/download.sh --download true",
        "reader_06709",
    ):
        assert text in output
    status, output = script("data.sh", "--dns5", corpus, "--corpora", "read_speech russian_speech", cwd=tmp_path)
    assert status == 1 and "no folder called russian_speech in it" in output
    status, output = script("data.sh", "--dns5", corpus, "--corpora", "reed_speech", cwd=tmp_path)
    assert status == 1 and "there is no 'reed_speech'" in output
    assert not (tmp_path / "data").exists() and not (RECIPE / "data" / "speech_train").exists()


def test_two_copies_of_a_corpus_are_refused(corpus, tmp_path):
    (tmp_path / "a").symlink_to(corpus)
    (tmp_path / "clean_fullband" / "read_speech").mkdir(parents=True)
    status, output = script("data.sh", "--dns5", tmp_path, "--datadir", tmp_path / "data")
    assert status == 1 and "the same twice" in output and "clean_fullband/read_speech" in output


def test_a_corpus_that_is_half_there_stops_stage_1_or_is_left_out(corpus, tmp_path):
    for name in ("mnt", "datasets_fullband"):
        shutil.copytree(corpus / name, tmp_path / name)
    cut = next((tmp_path / "mnt/dnsv5/clean/read_speech").glob("*_1_seg_1.wav"))
    cut.write_bytes(cut.read_bytes()[:5000])
    status, output = script("data.sh", "--dns5", tmp_path, "--datadir", tmp_path / "data")
    assert status == 1 and cut.name in output and "--bad_audio skip" in output
    status, output = script("data.sh", "--dns5", tmp_path, "--datadir", tmp_path / "data", "--bad_audio", "skip")
    assert status == 0, output
    assert sum(len(Scp(tmp_path / "data" / f"speech_{part}" / "wav.scp")) for part in PARTS) == 15


@pytest.mark.parametrize(
    "fault, message",
    [
        (lambda d: (d / "clean/clean_fileid_19.wav").unlink(), "clean has no file that ends in fileid_19"),
        (lambda d: (d / "noisy/clnsp2_amMeH4u6AO4_snr5_tl-18_fileid_2.wav").unlink(), "no file that ends in fileid_2"),
        (
            lambda d: shutil.copy(d / "clean/clean_fileid_2.wav", d / "clean/other_fileid_2.wav"),
            "ends in fileid_2, too",
        ),
        (lambda d: shutil.copy(d / "clean/clean_fileid_2.wav", d / "clean/clean.wav"), "does not end in fileid_N"),
        (lambda d: soundfile.write(d / "clean/clean_fileid_2.wav", np.ones(9), 16000), "9 samples at 16000 Hz"),
        (
            lambda d: (d / "clean/clean_fileid_2.wav").write_text("version https://git-lfs.github.com/spec/v1\noid\n"),
            "run 'git lfs pull'",
        ),
    ],
)
def test_pairs_that_are_not_whole_are_refused(corpus, tmp_path, fault, message):
    folder = tmp_path / "no_reverb"
    shutil.copytree(corpus / "DNS-Challenge/datasets/test_set/synthetic/no_reverb", folder)
    fault(folder)
    words = ("--noisy", folder / "noisy", "--clean", folder / "clean", "--out", tmp_path / "set")
    status, output = script("list_test.py", *words)
    assert status == 1 and message in output
    assert not (tmp_path / "set" / "wav.scp").exists()


@pytest.mark.parametrize("name", ["train", "valid", "test_synth"])
def test_mixtures_are_what_the_configs_say(data, tmp_path, name):
    out = tmp_path / name
    words = ["--config", RECIPE / f"conf/mix_{name}.yaml", "--data", data[0], "--out", out, "--num_clips", "6"]
    mix.main([*map(str, words), "--nj", "1"])
    snrs, levels = ([float(x) for x in read_table(out / f"utt2{label}").values()] for label in ("snr", "level"))
    assert all(-5 <= snr <= 20 for snr in snrs) and len(set(snrs)) == 6
    assert all(-35 <= level <= -15 for level in levels)
    assert (read_ints(out / "utt2num_samples") == 160000).all()
    rirs = {rir for rir in read_table(out / "utt2rir").values() if rir != "none"}
    part = name.partition("_")[0]
    assert rirs <= set(read_table(data[0] / f"rir_{part}" / "utt2spk"))
    own = {kind: set(read_table(data[0] / f"{kind}_{part}" / "utt2spk")) for kind in ("speech", "noise")}
    for line in (out / "plan.tsv").read_text().splitlines()[2:]:
        for column, kind in ((2, "speech"), (3, "noise")):
            used = [piece.split("@")[0] for piece in line.split("\t")[column].split(",") if piece[0] != "~"]
            assert len(used) > 1 and set(used) <= own[kind]  # all of them are shorter than a clip


def pack(corpus, site):
    """Archives of the recipe's list, made of the miniature, in ``site``; returns the list without their sizes."""
    folders = {
        "read_speech": "mnt/dnsv5/clean/read_speech",
        "noise": "datasets_fullband/noise_fullband",
        "impulse_responses": "datasets_fullband/impulse_responses",
        "dev_testset": "V5_dev_testset",
    }
    content = yaml.safe_load((RECIPE / "conf" / "archives.yaml").read_text())
    parts = {name: content["parts"][name] for name in folders}
    for name, part in parts.items():
        files = sorted(path for path in (corpus / folders[name]).rglob("*") if path.is_file())
        number = len(part["archives"])
        for k, archive in enumerate(part["archives"]):
            path = site / archive["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            members = [(file, file.relative_to(corpus)) for file in files[k::number]]
            if path.suffix == ".zip":
                with zipfile.ZipFile(path, "w") as f:
                    for file, inside in members:
                        f.write(file, inside)
            else:
                with tarfile.open(path, f"w:{'gz' if path.suffix in ('.tgz', '.gz') else 'bz2'}", compresslevel=1) as f:
                    for file, inside in members:
                        f.add(file, inside)
            if "pieces" in archive:  # of nearly equal size, the last one shorter
                first, last = archive["pieces"].split("-")
                names = [f"a{chr(c)}" for c in range(ord(first[1]), ord(last[1]) + 1)]
                data = path.read_bytes()
                size = -(-len(data) // len(names))
                for i, piece in enumerate(names):
                    path.with_name(f"{path.name}.part{piece}").write_bytes(data[i * size : (i + 1) * size])
                path.unlink()
        part.pop("size", None), part.pop("unpacked", None)
    return {"parts": parts}


@pytest.fixture
def server(corpus, tmp_path):
    """(address, list of archives) of a server that has the corpus."""
    site = tmp_path / "site"
    (tmp_path / "archives.yaml").write_text(yaml.safe_dump(pack(corpus, site)))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", tmp_path / "archives.yaml"
        running.shutdown()


def run_recipe(folder, *options, code=0):
    if not (ROOT / "tools" / "env.sh").exists():
        pytest.skip("not installed by tools/install.sh")
    words = ["./run.sh", "--dns5", folder / "downloads", "--nj", "2", "--num_threads", "1"]
    for name in ("data", "dump", "exp"):
        words += [f"--{name}dir", folder / name]
    words += ["--train_config", "conf/train_gagnet_causal.yaml", "--num_clips", "train=6 valid=2 test_synth=2"]
    network = "--model_conf.channels 8 --model_conf.d_feat 32 --model_conf.cd1 8 --model_conf.p 1"
    words += ["--train_args", f"{network} --max_epoch 1 --max_steps 2 --batch_size 2 --crop_seconds 2"]
    done = subprocess.run(
        list(map(str, [*words, *options])),
        cwd=RECIPE,
        env={**os.environ, "SENET_CMD_BACKEND": "local", "DNSMOS_DIR": str(folder / "no_models")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout[-5000:]
    return done.stdout


def test_all_stages_from_the_server_to_the_table(corpus, server, tmp_path):
    address, archives = server
    sets = ("test_synth", "dev_headset")
    local = f"--download true --downloads {tmp_path / 'downloads'} --url {address} --archives {archives}"
    local += " --part 'read_speech noise impulse_responses dev_testset'"
    options = ["--local_args", local, "--test_sets", " ".join(sets)]
    printed = run_recipe(tmp_path, *options)
    assert not (tmp_path / "dump" / "raw" / "train").exists()  # mixed while training
    exp = tmp_path / "exp" / "train_gagnet_causal"
    assert "mix_conf" in (exp / "config.yaml").read_text()
    for system in (tmp_path / "exp" / "noisy", exp):
        scores = {name: {p.name for p in (system / f"enhanced_{name}" / "scores").iterdir()} for name in sets}
        assert {"pesq_wb", "stoi", "si_sdr"} <= scores["test_synth"]
        assert not {"pesq_wb", "stoi", "si_sdr"} & scores["dev_headset"], printed
    table = (tmp_path / "RESULTS.md").read_text()
    assert all(name in table for name in sets)
    status, output = script(
        "data.sh", "--dns5", corpus, "--datadir", tmp_path / "flat"
    )  # archives bring their own folders
    assert status == 0, output
    for kind, part in itertools.product(KINDS, PARTS):
        deep, flat = (read_table(tmp_path / place / f"{kind}_{part}" / "utt2spk") for place in ("data", "flat"))
        assert deep == flat, (kind, part)
    again = run_recipe(tmp_path, *options, "--list")
    assert "stale" not in again and "partly" not in again, again
    printed = run_recipe(tmp_path, *options, "--online", "false", "--stop_stage", "feats")
    assert len(Scp(tmp_path / "dump" / "raw" / "train" / "noise1.scp")) == 6, printed


def test_what_dev_sets_are_there_is_scored_and_missing_models_are_told_at_the_start(corpus, tmp_path):
    (tmp_path / "downloads").mkdir()
    told = f"DNSMOS is not computed without its models, which are not in {tmp_path}/no_models"
    printed = run_recipe(tmp_path, "--list")
    assert told in printed and "local/download.sh --download true --part dnsmos" in printed
    assert "dump/raw/test_synth" in printed and "dump/raw/dev_" not in printed
    shutil.copytree(corpus / "V5_dev_testset", tmp_path / "downloads" / "V5_dev_testset" / "V5_dev_testset")
    assert told not in run_recipe(tmp_path, "--list", "--metrics", "stoi")
    (tmp_path / "no_models" / "DNSMOS").mkdir(parents=True)
    (tmp_path / "no_models" / "DNSMOS" / "sig_bak_ovr.onnx").write_bytes(b"a model")
    printed = run_recipe(tmp_path, "--list")
    assert "DNSMOS is not computed" not in printed
    assert "dump/raw/dev_headset" in printed and "dump/raw/dev_speakerphone" in printed
    assert "dump/raw/dev_" not in run_recipe(tmp_path, "--list", "--test_sets", "test_synth")


def test_published_scores_are_readable():
    published = read_published(RECIPE / "published.yaml")
    assert {entry["system"] for entry in published} >= {"noisy", "TF-GridNet-PL"}
    of_dns1 = {entry["metric"] for entry in published if entry["test_set"].startswith("dns1")}
    assert of_dns1 == {"pesq_wb", "pesq_nb_raw", "stoi", "si_sdr_with_mean"}  # as those tables have them
