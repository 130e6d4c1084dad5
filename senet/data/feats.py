"""Stage 3: what training can use in place of, or beside, the audio of stage 2.

``raw`` measures the audio in place: ``stats/utt2rms``, ``stats/utt2peak`` (noisy signal, full scale = 1) and
``stats/summary.json``. ``stft`` and ``fbank`` store matrices, one row per frame: feats.scp of the noisy and
spk1_feats.scp of the clean signal, with utt2num_frames, frame_shift (seconds), cmvn (Kaldi's statistics of the noisy
features: sums and count, then sums of squares), feats_config.json and copies of the manifests.

Work goes by shards (``senet.shards``). The last thing a shard writes is its record, a JSON file of what the manifests
need; a shard is done when its record fits the settings and the manifests and is newer than the audio.
"""

import hashlib
import itertools
import json
import logging
import math
import os
from contextlib import ExitStack

import numpy as np

from senet import shards
from senet.data.ark import MatrixArkWriter
from senet.data.audio import AudioError, info
from senet.data.datadir import DataDir
from senet.data.items import Waveforms
from senet.data.parallel import progress
from senet.data.scp import split_value, write_table
from senet.errors import UserError
from senet.files import whole_file, write_json

SHARD_SIZE = 64  # utterances
MANIFESTS = ("wav.scp", "spk1.scp", "noise1.scp", "spk2utt")  # to be copied, and all utt2*
FEATURES = {"noisy": "feats", "clean": "spk1_feats"}  # signal -> name of its ark and scp


def open_stage(feats_type, src, out, sample_rate=None, **options):
    """The stage for ``feats_type``; ``sample_rate=None`` takes that of the first utterance."""
    data = DataDir(src)
    sample_rate = sample_rate or info(data.noisy.value(0), data.noisy.root).sample_rate
    config = {"feats_type": feats_type, "sample_rate": sample_rate}
    if feats_type == "raw":
        if out.resolve() != src.resolve():
            raise UserError(f"--out {out}: raw features are the audio itself, so it has to be --src {src}")
        return RawStatistics(data, out / "stats", out / "stats", config)
    return StoredFeatures(data, out, out / "ark", config | options)


class _Stage:
    """Shards in, records out; a subclass says what one shard makes and what all records give together."""

    def __init__(self, data, out, work, config):
        self.src, self.out, self.work, self.config = data.path, out, work, config
        self.waves = Waveforms(data, config["sample_rate"], signals=("noisy", "clean"))
        self.signals = list(self.waves.scps)

    def run(self, job=None):
        """Make the shards of ``job`` (all when None) that are not done."""
        todo = [shard for shard in shards.my_shards(len(self.waves), SHARD_SIZE, job) if not self._is_done(shard)]
        total = sum(shard.stop - shard.start for shard in todo)
        if todo:  # from here to the end of collect nothing may look finished
            (self.out / self.last_file).unlink(missing_ok=True)
        indices = progress(itertools.chain(*(range(s.start, s.stop) for s in todo)), total, f"{self.out} utterances")
        for shard in todo:
            record = self._make(shard, itertools.islice(indices, shard.stop - shard.start))
            write_json(self._record(shard), {"made_from": self._made_from(shard), **record})
        logging.info("%s: %d utterances made", self.out, total)

    def collect(self):
        """Check that all shards are done and write the manifests."""
        missing = [shard for shard in self._shards() if not self._is_done(shard)]
        if missing:
            raise UserError(
                f"{self._record(missing[0])}: missing or out of date ({len(missing)} of {len(self._shards())} shards); "
                "run senet.bin.feats again without --collect"
            )
        self._finish()

    def _shards(self):
        return shards.all_shards(len(self.waves), SHARD_SIZE)

    def _record(self, shard):
        return self.work / f"{shard.name}.json"

    def _records(self):
        for shard in self._shards():
            yield json.loads(self._record(shard).read_text())

    def _column(self, *path):
        """(utterance, value) of one list of the records, in the manifest's order."""
        values = itertools.chain.from_iterable(_at(record, path) for record in self._records())
        return ((self.waves.key(i), value) for i, value in enumerate(values))

    def _arks(self, shard):
        return {}

    def _is_done(self, shard):
        record = self._record(shard)
        try:
            made = record.stat().st_mtime_ns
            same = json.loads(record.read_text()).get("made_from") == self._made_from(shard)
        except (FileNotFoundError, ValueError):
            return False
        sources = {
            os.path.join(scp.root, split_value(scp.value(i))[0])
            for scp in self.waves.scps.values()
            for i in range(shard.start, shard.stop)
        }
        newest = max((os.stat(path).st_mtime_ns for path in sources if os.path.exists(path)), default=0)
        return same and newest <= made and all(path.exists() for path in self._arks(shard).values())

    def _made_from(self, shard):
        """A hash of the settings and of the shard's lines in the manifests."""
        rows = [
            [self.waves.key(i), *(scp.value(i) for scp in self.waves.scps.values()), int(self.waves.num_samples[i])]
            for i in range(shard.start, shard.stop)
        ]
        return hashlib.sha256(json.dumps([self.config, rows], sort_keys=True).encode()).hexdigest()

    def _waves(self, i):
        try:
            return self.waves.read(i, None)[0]
        except AudioError as error:
            where = f"{self.src}: utterance '{self.waves.key(i)}'"
            raise UserError(f"{where}: {error}. Find all such with senet.bin.validate --check_audio") from error


class RawStatistics(_Stage):
    """Levels and lengths of audio that training reads directly."""

    last_file = "summary.json"

    def _make(self, shard, indices):
        record = {name: {"rms": [], "peak": []} for name in self.signals}
        for i in indices:
            for name, wave in self._waves(i).items():
                wide = wave.astype(np.float64)
                record[name]["rms"].append(math.sqrt(np.dot(wide, wide) / len(wide)))
                record[name]["peak"].append(float(np.abs(wide).max()))
        return record

    def _finish(self):
        for what in ("rms", "peak"):
            rows = self._column("noisy", what)
            write_table(self.out / f"utt2{what}", ((key, f"{value:.6f}") for key, value in rows), sort=False)
        seconds = self.waves.num_samples / self.config["sample_rate"]
        summary = {
            **self.config,
            "utterances": len(seconds),
            "hours": round(float(seconds.sum()) / 3600, 4),
            "seconds": {f.__name__: round(float(f(seconds)), 6) for f in (np.min, np.mean, np.median, np.max)},
        }
        for name in self.signals:
            rms, peak = (np.fromiter((v for _, v in self._column(name, what)), float) for what in ("rms", "peak"))
            power = float((rms**2 * seconds).sum() / seconds.sum())
            summary[name] = {"rms_dbfs": _db(power), "peak": round(float(peak.max()), 6)}
        write_json(self.out / self.last_file, summary)


class StoredFeatures(_Stage):
    """Matrices in arks: complex spectra as rows [real | imaginary], or Kaldi's filter banks."""

    last_file = "feats_config.json"

    def _arks(self, shard):
        return {name: self.work / f"{FEATURES[name]}.{shard.name}.ark" for name in self.signals}

    def _make(self, shard, indices):
        extract = extractor(self.config)
        record = {name: [] for name in self.signals} | {"frames": []}
        sums = 0.0
        with ExitStack() as stack:
            writers = {name: stack.enter_context(MatrixArkWriter(ark)) for name, ark in self._arks(shard).items()}
            for i in indices:
                key = self.waves.key(i)
                for name, wave in self._waves(i).items():
                    rows = extract(wave)
                    if not len(rows):
                        raise UserError(f"{self.src}: utterance '{key}' is shorter than one frame; leave it out")
                    record[name].append(writers[name].write(key, rows))
                    if name == "noisy":
                        record["frames"].append(len(rows))
                        wide = rows.astype(np.float64)
                        sums = sums + np.stack([wide.sum(0), np.square(wide).sum(0)])
        return record | {"sums": sums.tolist()}

    def _finish(self):
        for path in sorted(self.src.iterdir()):
            if path.name in MANIFESTS or path.name.startswith("utt2"):
                with whole_file(self.out / path.name, "wb") as f:
                    f.write(path.read_bytes())
        write_table(self.out / "utt2num_frames", self._column("frames"), sort=False)
        for name in self.signals:
            write_table(self.out / f"{FEATURES[name]}.scp", self._column(name), sort=False)
        stats = self._statistics()
        with MatrixArkWriter(self.out / "cmvn.ark") as ark:
            value = ark.write("global", stats)
        write_table(self.out / "cmvn.scp", [("global", value)])
        with whole_file(self.out / "frame_shift") as f:
            f.write(f"{frame_shift(self.config):g}\n")
        write_json(self.out / self.last_file, self.config)

    def _statistics(self):
        """Kaldi's (2, D + 1) float64: sums and the number of frames, sums of squares and 0."""
        sums, count = 0.0, 0
        for record in self._records():  # in the order of the shards, so that any number of jobs gives the same bits
            sums = sums + np.array(record["sums"])
            count += sum(record["frames"])
        return np.hstack([sums, [[count], [0]]])


def extractor(config):
    """A function (N,) float32 -> (T, D) float32, for the settings of feats_config.json."""
    import torch

    from senet.dsp.fbank import Fbank
    from senet.dsp.stft import STFT

    options = {k: v for k, v in config.items() if k not in ("feats_type", "sample_rate")}
    if config["feats_type"] == "fbank":
        fbank = Fbank(config["sample_rate"], **options)
        return lambda wave: fbank(torch.from_numpy(wave)).numpy()
    stft = STFT(**options)

    def rows(wave):
        spec = stft(torch.from_numpy(wave)[None])[0].T
        return torch.cat([spec.real, spec.imag], dim=1).numpy()

    return rows


def frame_shift(config):
    """Seconds from one frame to the next."""
    if config["feats_type"] == "fbank":
        return config["frame_shift"] / 1000
    return config["hop_length"] / config["sample_rate"]


def stored_bytes(config, num_samples):
    """Size of the matrices of both signals for ``num_samples`` of audio; statistics of raw audio are not counted."""
    if config["feats_type"] == "raw":
        return 0
    columns = config["num_mel_bins"] if config["feats_type"] == "fbank" else config["n_fft"] + 2
    frames = num_samples / (frame_shift(config) * config["sample_rate"])
    return round(len(FEATURES) * frames * columns * np.dtype(np.float32).itemsize)


def _db(power):
    return round(10 * math.log10(max(power, 1e-12)), 2)


def _at(record, path):
    for name in path:
        record = record[name]
    return record
