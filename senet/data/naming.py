"""Who speaks and what was recorded, by the names of files and folders.

``--speaker dns`` knows the corpora of the DNS challenges (layouts of DNS5, 48 kHz, and of DNS1 to 4). What a name does
not tell apart is one speaker: a group that is too large costs variety, one that is too small lets a voice into training
and test.

| corpus | file | speaker |
|---|---|---|
| read_speech | ``book_00000_chp_0009_reader_06709_3_seg_2`` | ``reader_06709`` |
| vctk_wav48_silence_trimmed | ``p225/p225_001_mic1`` | ``p225`` |
| emotional_speech (CREMA-D) | ``1001_DFA_ANG_XX`` | ``crema_1001`` |
| VocalSet_48kHz_mono | ``vocalset_female7_scales_..._48kHz``; ``female7/...`` | ``vocalset_female7`` |
| M-AILABS (in the other languages) | ``fr_FR_190hrs_16k/female/ezwa/BOOK/wavs/...`` | ``fr_FR_ezwa`` |
| its books of several readers | ``it_IT_128hrs_16k/mix/BOOK/wavs/...`` | ``it_IT_mix``: they may read in each of them |
| SLR39, 61, 71, ... (spanish) | ``SLR61_es_ar_female_arf_03397_01665251952_48kHz`` | all before the last number |
| Wikipedia (german) | ``German_Wikipedia_Otto_Hahn_audio_48kHz_seg_3`` | ``German_Wikipedia``: no reader is named |
| all others | | the topmost folder below the one that is searched, as with ``folder`` |

Names of read_speech, CREMA-D and AudioSet are those of the repository microsoft/DNS-Challenge; the others were seen in
public code that reads the corpora, not in the archives. One person may have two names: a LibriVox reader has a number
in read_speech and a name in M-AILABS.
"""

import os
import re
import zlib

from senet.errors import UserError


def slug(text):
    """``text`` with only letters, digits, ``_ . -``; other alphabets are told apart by a checksum."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", text)
    return plain if text.isascii() else f"{plain}_{zlib.crc32(text.encode()):08x}"


def name_source(relative, src, speaker):
    """(utt, spk) of a file.

    Args:
        relative: path below the folder that was searched.
        src: name of that folder.
        speaker: ``librispeech``: .../speaker/chapter/speaker-chapter-number; ``folder``: the topmost folder below
            ``src`` (``src`` itself for files right in it); ``file``: each file is its own speaker; ``dns``: above.
    """
    folders, _, name = os.path.splitext(relative)[0].rpartition("/")
    if speaker == "librispeech":
        match = re.fullmatch(r"(\d+)-(\d+)-(\d+)", name)
        if not match:
            raise UserError(
                f"{src}/{relative}: the name is not LibriSpeech's speaker-chapter-number, such as "
                "1272-128104-0000.flac; use --speaker folder or --speaker file for other corpora"
            )
        return name, match[1]
    if speaker == "dns" and (spk := dns_speaker(relative, src)):
        return f"{slug(spk)}-{slug(name)}", slug(spk)
    parts = [*folders.split("/"), name] if folders else [name]
    utt = "-".join(map(slug, parts))
    if speaker == "file":
        return utt, utt
    if folders:
        return utt, slug(parts[0])
    return f"{slug(src)}-{utt}", slug(src)


_BY_NAME = (
    (r"book_\d+_chp_\d+_(reader_\d+)_.*", "{}"),
    (r"([ps]\d{1,3})_\d+(?:_mic\d)?", "{}"),
    (r"(\d{4})_[A-Z]{3}_[A-Z]{3}_.*", "crema_{}"),
    (r"vocalset_((?:fe)?male\d+)_.*", "vocalset_{}"),
    (r"(SLR\d+_.+)_[^_]+_\d+kHz(?:_seg_\d+)?", "{}"),
    (r"(German_Wikipedia)_.*", "{}"),
)
_BY_FOLDER = (
    (r"/([a-z]{2}_[A-Z]{2})[^/]*/(?:by_book/)?mix/", "{}_mix"),
    (r"/([a-z]{2}_[A-Z]{2})[^/]*/(?:by_book/)?(?:fe)?male/([^/]+)/", "{}_{}"),
    (r"/((?:fe)?male\d+)/", "vocalset_{}"),
)
_BY_NAME, _BY_FOLDER = ([(re.compile(p), form) for p, form in rules] for rules in (_BY_NAME, _BY_FOLDER))


def dns_speaker(relative, src):
    """Who speaks in a file of the DNS challenges' corpora; None when neither its name nor a folder's tells."""
    name = os.path.splitext(os.path.basename(relative))[0]
    for pattern, form in _BY_NAME:
        if match := pattern.fullmatch(name):
            return form.format(*match.groups())
    place = f"/{src}/{relative}"
    for pattern, form in _BY_FOLDER:
        if match := pattern.search(place):
            return form.format(*match.groups())
    return None


def noise_type(relative, src, speaker=None):
    """What makes a noise: the name up to its last underscore, as MS-SNSD names files (``AirConditioner_12``); else the
    folder's name. Of DNS: ``door_Freesound_validated_349356_0`` is a door, a YouTube id one of ``AudioSet``."""
    folders, _, name = os.path.splitext(relative)[0].rpartition("/")
    if speaker == "dns":
        if match := re.fullmatch(r"(.+?)_[Ff]reesound_.*", name):
            return slug(match[1])
        if re.fullmatch(r"[\w-]{11}", name):
            return "AudioSet"
    return slug(name.rpartition("_")[0] or (os.path.basename(folders) if folders else name))


def recording(relative, kind):
    """What files that were cut from one recording share, or None.

    Takes of a freesound number, in names of ESC (fold-number-take, ``1-187207-A``) and of DNS
    (``door_Freesound_validated_349356_0``); impulse responses of a room that names the folder
    (``smallroom/Room001/Room001-00001``).
    """
    folders, _, name = os.path.splitext(relative)[0].rpartition("/")
    if kind == "rir":
        room = re.fullmatch(r"(.+)-\d+", name)
        return slug(folders.replace("/", "-")) if room and os.path.basename(folders) == room[1] else None
    if match := re.search(r"(?:^|_)\d-(\d+)-[A-Z](?:-\d+)?$", name):
        return f"esc{match[1]}"
    match = re.search(r"_[Ff]reesound_(?:validated_)?(\d+)_\d+$", name)
    return match and f"freesound{match[1]}"


def is_noise(path):
    """Whether a file that lies among impulse responses is a noise, as OpenSLR 28 has: ``pointsource_noises/...``,
    ``real_rirs_isotropic_noises/RVB2014_type1_noise_largeroom1_1``."""
    return "/pointsource_noises/" in path or "_noise_" in os.path.basename(path)
