"""Write a mixed set as wav files, and as spectrograms, named as the repositories name them that this recipe follows.

noisy:  NoisySpeech_training/noisy{i}_SNRdb_{snr}_clnsp{i}.wav
clean:  CleanSpeech_training/clnsp{i}.wav
noise:  Noise_training/noisy{i}_SNRdb_{snr}.wav          (..._testing for a set whose name begins with "test")

The SNR has two decimals (the Spectrogram-Masking repository), or for sets of the policy snsd is printed as MS-SNSD
does (5.0). With --stft, Training_STFT or Testing_STFT gets one MATLAB file for each noisy wav, with noisy_stft,
clean_stft and noise_stft, complex (257, 301) for 3 s.
"""

import argparse
import re
import sys
from pathlib import Path

from senet.bin import run, setup_logging
from senet.errors import UserError


def get_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--set", type=Path, required=True, help="mixed set, such as dump/raw/train")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--stft", action="store_true", help="also write the spectrograms; existing ones are kept")
    parser.add_argument(
        "--max_seconds", type=float, default=3.0, help="spectrograms of longer wavs are cut to this (3.0)"
    )
    parser.add_argument("--nj", type=int, help="threads; by default one for each processor")
    return parser


def names(utt, policy):
    """File names (noisy, clean, noise) of a mixture: from its id, ``spk-noisy000012_SNRdb_-3.00``."""
    match = re.fullmatch(r".*noisy(\d+)_SNRdb_(-?\d+\.\d+)", utt)
    if not match:
        raise UserError(f"'{utt}' is not the id of a mixture (speaker-noisy<number>_SNRdb_<dB>); mix with crop or snsd")
    number, snr = int(match[1]), match[2] if policy != "snsd" else str(float(match[2]))
    noise = f"noisy{number}_SNRdb_{snr}"
    return f"{noise}_clnsp{number}.wav", f"clnsp{number}.wav", f"{noise}.wav"


def spectrogram(x):
    """int16 (N,) -> complex64 (257, 1 + N // 160): Hann of 25 ms, hop 10 ms, FFT 512 at 16 kHz."""
    import torch

    from senet.dsp.stft import STFT

    wave = torch.from_numpy(x.astype("float32") / 32768)[None]
    return STFT(n_fft=512, hop_length=160, win_length=400)(wave)[0].numpy()


class Exporter:
    def __init__(self, folder, out, stft, max_seconds):
        from senet.data.plan import Plan
        from senet.data.scp import Scp

        self.policy = Plan(folder / "plan.tsv").settings["policy"]
        self.rate = int(Plan(folder / "plan.tsv").settings["sample_rate"])
        self.scps = [Scp(folder / name) for name in ("wav.scp", "spk1.scp", "noise1.scp")]
        end = "testing" if folder.name.startswith("test") else "training"
        self.folders = [out / f"{name}_{end}" for name in ("NoisySpeech", "CleanSpeech", "Noise")]
        self.stft_folder = out / f"{end.capitalize()}_STFT" if stft else None
        self.max_samples = round(max_seconds * self.rate)
        # The mixtures of one clip at several SNRs (snsd) have one clean file; the first of them writes it.
        self.first = {}
        for i in range(len(self.scps[0])):
            self.first.setdefault(names(self.scps[0].key(i), self.policy)[1], i)

    def export(self, i):
        """Write mixture ``i`` of wav.scp."""
        import numpy as np

        from senet.data import audio

        def read(scp, i):
            return np.rint(audio.read(scp.value(i), root=scp.root)[0] * 32768).astype(np.int16)

        utt = self.scps[0].key(i)
        files = names(utt, self.policy)
        signals = [read(scp, i) for scp in self.scps]
        first = self.first[files[1]]
        if first != i and not np.array_equal(signals[1], read(self.scps[1], first)):
            raise UserError(
                f"'{utt}' and '{self.scps[0].key(first)}' would share {files[1]}, but the peak guard scaled one; "
                "mix with --on_clip none, as MS-SNSD does, to export under its names"
            )
        for folder, name, x in zip(self.folders, files, signals, strict=True):
            if name != files[1] or first == i:
                audio.write_wav(folder / name, x, self.rate)
        if self.stft_folder:
            self._write_stft(self.stft_folder / Path(files[0]).with_suffix(".mat").name, signals)

    def _write_stft(self, path, signals):
        import scipy.io

        from senet.files import whole_file

        if path.exists():
            return
        keys = ("noisy_stft", "clean_stft", "noise_stft")
        content = {key: spectrogram(x[: self.max_samples]) for key, x in zip(keys, signals, strict=True)}
        with whole_file(path, "wb") as f:
            scipy.io.savemat(f, content)


def main(argv=None):
    args = get_parser().parse_args(argv)
    setup_logging()
    from senet.data.parallel import available_cpus, parallel_map

    exporter = Exporter(args.set, args.out, args.stft, args.max_seconds)
    everything = range(len(exporter.scps[0]))
    for _ in parallel_map(exporter.export, everything, args.nj or available_cpus(), f"{args.out}: written"):
        pass
    print(f"{args.out}: {len(everything)} mixtures in {', '.join(folder.name for folder in exporter.folders)}")


if __name__ == "__main__":
    sys.exit(run(main))
