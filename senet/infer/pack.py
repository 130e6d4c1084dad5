"""A pack: a trained model in one file, ``name.senet``, to be opened without its recipe and without trusting its maker.

It is a safetensors file (https://github.com/huggingface/safetensors), so other programs read the weights, too::

    8 bytes   length of the header, little-endian
    header    JSON: each tensor's dtype, shape and place, and "__metadata__", texts under these names:
                "format"  version of what follows, "1"
                "senet"   version that made it
                "record"  JSON: what the model is, how it was built and trained, scores, licence (``FIELDS``)
                "card"    the same to read, Markdown
                "sha256"  JSON: digests of the other texts, of "tensors" (their table) and of "weights" (the data)
    data      the tensors, one after the other without gaps

Nothing in it is code or a path. Whatever is read is held to a limit before memory is taken for it, and refused with a
reason unless it is exactly this; the digests tell damage, and do not tell who made the pack.
torch is imported only for the weights: looking at a pack and checking it is instant.
"""

import hashlib
import json
import math
import os
import re
import struct
from pathlib import Path

from senet import __version__
from senet.errors import UserError
from senet.files import whole_file
from senet.infer.card import harmless, markdown

SUFFIX = ".senet"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}"  # of a model: goes into the card's commands
FORMAT = 1
MAX_HEADER = 4 << 20  # bytes; that of a model of 2,000 tensors has 0.3 MB
MAX_WEIGHTS = 4 << 30  # bytes; the largest model here has 0.6 GB
MAX_DIMENSIONS = 8
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}  # bytes
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

# What a record says -> the types it may have; further fields are let pass and not looked at.
FIELDS = {
    "name": (str,),
    "description": (str,),
    "licence": (str,),
    "about": (str,),  # the model's file: title and papers
    "model": (str,),  # module.Class under senet.models
    "model_conf": (dict,),
    "sample_rate": (int,),  # Hz
    "causal": (bool,),
    "latency": (int, type(None)),  # samples; null: the whole recording
    "parameters": (int,),
    "macs_per_second": (int, type(None)),
    "training": (dict,),
    "scores": (dict,),
}


class Pack:
    """A pack's header, checked; the weights are read by ``tensors``.

    Args:
        path: of the file.
    Attributes:
        record: dict with ``FIELDS``. made_by: version of senet.
        table: {tensor: (dtype, shape, first byte, end)}, bytes from the start of the data.
        size: bytes of the data.
    Raises:
        UserError: not a pack, of a newer format, damaged, or not what senet writes; says which and where.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as f:
                file_size = os.fstat(f.fileno()).st_size
                start = f.read(9)
                if start[8:] != b"{":
                    raise UserError(f"{self.path}: not a pack; 'senet pack exp/<tag> -o name{SUFFIX}' makes one")
                length = struct.unpack("<Q", start[:8])[0]
                if length > min(MAX_HEADER, file_size - 8):
                    raise self._damaged(
                        f"its header would have {length} bytes, the file has {file_size}"
                        + f" and at most {MAX_HEADER} are read" * (length > MAX_HEADER)
                    )
                f.seek(8)
                header = f.read(length)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}") from None
        self._start, self.size = 8 + length, file_size - 8 - length
        if self.size > MAX_WEIGHTS:
            raise self._damaged(f"it would have {self.size} bytes of weights, and at most {MAX_WEIGHTS} are read")
        parsed = self._json(header, "header")
        self._texts = self._take_texts(parsed)
        if not header.rstrip(b" ").endswith(b"}"):
            raise self._damaged("its header has more than one value")
        self._sha256 = self._json(self._texts.pop("sha256"), "sha256")
        self.made_by = self._texts["senet"]
        self._require_digests({name: _digest(_utf8(text)) for name, text in self._texts.items()})
        self._require_digests({"tensors": _digest(_canonical(parsed))})
        self.table = {name: self._tensor(name, place) for name, place in parsed.items()}
        self._require_places()
        self.record = self._json(self._texts["record"], "record")
        self._require_fields()

    def tensors(self):
        """{name: tensor} on the CPU.

        Raises:
            UserError: the data are damaged, or not finite.
        """
        import torch

        data = bytearray(self.size)  # as large as the file is, which is there
        with open(self.path, "rb") as f:
            f.seek(self._start)
            if f.readinto(data) != self.size:
                raise self._damaged("its end is missing")
        self._require_digests({"weights": _digest(data)})

        def tensor(dtype, shape, first, end):
            dtype = getattr(torch, DTYPES[dtype])
            if first == end:
                return torch.empty(shape, dtype=dtype)
            return torch.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=first).reshape(shape)

        found = {name: tensor(*place) for name, place in self.table.items()}
        for name, value in found.items():
            if not value.isfinite().all():
                raise UserError(
                    f"{self.path}: tensor '{_short(name)}' has values that are not finite, and 'senet pack' refuses "
                    "such weights; ask who made it for another"
                )
        return found

    def card(self):
        """The model card, made anew of the record: what stands in the file is for those who read it without senet.

        Raises:
            UserError: the record's training or scores are not as senet writes them.
        """
        try:
            return markdown(self.record)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise self._damaged(f"its record cannot be shown ({type(error).__name__}: {_short(error)})") from None

    def verify(self):
        """Compare all digests, and return them by part; that of the weights is the only one not compared before.

        Raises:
            UserError: the data are damaged.
        """
        h = hashlib.sha256()
        with open(self.path, "rb") as f:
            f.seek(self._start)
            while block := f.read(1 << 20):
                h.update(block)
        self._require_digests({"weights": h.hexdigest()})
        return dict(self._sha256)

    # ------------------------------------------------------------ checks

    def _damaged(self, what):
        return UserError(f"{self.path}: damaged: {what}; get the file again")

    def _json(self, text, what):
        """A mapping; refuses whatever Python takes beyond JSON, and names that stand twice."""

        def once(pairs):
            found = dict(pairs)
            if len(found) < len(pairs):
                raise ValueError("a name stands twice")
            return found

        def finite(number):
            if not math.isfinite(float(number)):
                raise ValueError(f"{number} is no number")
            return float(number)

        try:
            text = text.decode("utf-8") if isinstance(text, bytes) else text
            value = json.loads(text, object_pairs_hook=once, parse_constant=finite, parse_float=finite)
        except (ValueError, RecursionError) as error:  # the first also for what is not UTF-8
            raise self._damaged(f"its {what} is not JSON ({_short(error)})") from None
        if not isinstance(value, dict):
            raise self._damaged(f"its {what} is a {type(value).__name__}, expected a mapping")
        return value

    def _take_texts(self, parsed):
        texts = parsed.pop("__metadata__", None)
        if not isinstance(texts, dict) or "format" not in texts:
            raise UserError(f"{self.path}: weights alone, without what 'senet pack' adds; pack the experiment itself")
        if not all(isinstance(text, str) for text in texts.values()):
            raise self._damaged("one of its texts is none")
        number = texts["format"]
        if not (number.isascii() and number.isdigit() and 0 < len(number) < 9 and int(number)):
            raise self._damaged(f"its format is {_short(number)!r}, expected a number")
        if int(number) > FORMAT:
            raise UserError(
                f"{self.path}: made by senet {_short(texts.get('senet', '?'))}, format {int(number)}; this senet "
                f"({__version__}) reads up to {FORMAT}; update senet"
            )
        if lacking := {"senet", "record", "card", "sha256"} - texts.keys():
            raise self._damaged(f"it has no {', '.join(sorted(lacking))}")
        return texts

    def _require_digests(self, found):
        for part, digest in found.items():
            if self._sha256.get(part) != digest:
                raise self._damaged(f"the SHA-256 of its {_short(part)} is not the one noted")

    def _tensor(self, name, place):
        """(dtype, shape, first byte, end) of a tensor, sizes compared."""
        what = f"tensor '{_short(name)}'"
        if not isinstance(place, dict) or place.keys() != {"dtype", "shape", "data_offsets"}:
            raise self._damaged(f"{what} has not exactly dtype, shape and data_offsets")
        dtype, shape, offsets = place["dtype"], place["shape"], place["data_offsets"]
        if not isinstance(dtype, str) or dtype not in SIZES:
            raise self._damaged(f"{what} is of type {_short(dtype)}, expected one of {', '.join(SIZES)}")
        if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS or not _whole_numbers(offsets) or len(offsets) != 2:
            raise self._damaged(f"{what} has a shape or a place that is none")
        if math.prod(shape) * SIZES[dtype] != offsets[1] - offsets[0]:
            raise self._damaged(f"{what} of shape {_short(shape)} does not fill its {offsets[1] - offsets[0]} bytes")
        return dtype, tuple(shape), *offsets

    def _require_places(self):
        """Tensors follow each other from the first byte of the data to the last."""
        end = 0
        for name, (_, _, first, last) in sorted(self.table.items(), key=lambda item: item[1][2:]):
            if first != end:
                raise self._damaged(f"tensor '{_short(name)}' begins at byte {first}, expected {end}")
            end = last
        if end != self.size:
            raise self._damaged(f"it has {self.size} bytes of weights, expected {end}")

    def _require_fields(self):
        for name, kinds in FIELDS.items():
            if type(self.record.get(name, ...)) not in kinds:
                raise self._damaged(f"its record's '{name}' is missing or of a wrong type")
        if not re.fullmatch(NAME, self.record["name"]):
            raise self._damaged(f"its name is {_short(self.record['name'])!r}, expected letters, digits and . _ + -")
        for name, least in (("sample_rate", 1), ("latency", 0), ("parameters", 0), ("macs_per_second", 0)):
            value = self.record[name]
            if value is not None and not least <= value < 1 << 63:
                raise self._damaged(f"its record's '{name}' is {_short(value)}, expected {least} to {(1 << 63) - 1}")


def write(path, tensors, record, card):
    """Write a pack; equal content gives equal bytes.

    Args:
        path: the file to write; appears whole.
        tensors: {name: tensor}, the model's ``state_dict()``.
        record: dict with ``FIELDS``, plain values.
        card: Markdown.
    Raises:
        UserError: a number is not finite, a text is none, or the disk refused.
    """
    import torch

    names = {getattr(torch, torch_name): name for name, torch_name in DTYPES.items()}
    table, end = {}, 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):  # so that each is aligned in the file
        first, end = end, end + tensors[name].numel() * tensors[name].element_size()
        table[name] = {
            "dtype": names[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [first, end]
        }  # fmt: skip
    data = [_bytes(tensors[name]) for name in table]
    try:
        texts = {"format": str(FORMAT), "senet": __version__, "record": _canonical(record).decode(), "card": card}
        digests = {name: _digest(text.encode()) for name, text in texts.items()}
        digests |= {"tensors": _digest(_canonical(table)), "weights": _digest(*data)}
        header = _canonical({"__metadata__": texts | {"sha256": _canonical(digests).decode()}} | table)
    except ValueError as error:  # JSON has no infinity, UTF-8 no half characters
        raise UserError(f"{path}: what is known of the model cannot be written: {_short(error)}") from None
    header += b" " * (-len(header) % 8)
    with whole_file(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header)
        f.writelines(data)


def _bytes(tensor):
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _canonical(value):
    """JSON in UTF-8, the same bytes for equal values."""
    return _utf8(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _utf8(text):
    return text.encode("utf-8", "surrogatepass")  # JSON can write half a character, of which UTF-8 knows nothing


def _digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.hexdigest()


def _whole_numbers(value):
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


def _short(value):
    """Text of a stranger for a message: no control characters, not long."""
    text = str(value)
    return harmless(text if len(text) <= 80 else text[:77] + "...")
