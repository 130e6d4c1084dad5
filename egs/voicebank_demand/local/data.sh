#!/usr/bin/env bash
# Stage 1: lists the pairs of noisy and clean recordings, DATADIR/{tr_26spk,cv_2spk,tt_2spk}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

corpus_dir=downloads
counts=published # the numbers of pairs that are expected; any: a part of the corpus will do
datadir=data
nj=$(getconf _NPROCESSORS_ONLN)

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [--corpus_dir DIR] [--counts published|any] [--datadir DIR] [--nj N]
Speakers p226 and p287 are for validation, as in ESPnet and SpeechBrain; no test speaker is in training."
. parse_options.sh

if [ ! -d "$corpus_dir" ]; then
  cat >&2 << END
$0: --corpus_dir $corpus_dir: no such folder. It should hold the unpacked archives, at any depth:
  clean_trainset_28spk_wav/p226_001.wav ...  noisy_trainset_28spk_wav/...   11572 pairs, 48 kHz
  clean_testset_wav/p232_001.wav ...         noisy_testset_wav/...            824 pairs
Get them from Edinburgh DataShare, https://doi.org/10.7488/ds/2117 (CC BY 4.0, about 5.3 GB), then
  ./run.sh --corpus_dir DIR
END
  exit 1
fi

python local/list_pairs.py --corpus_dir "$corpus_dir" --counts "$counts" --datadir "$datadir" --nj "$nj"
