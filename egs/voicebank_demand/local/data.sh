#!/usr/bin/env bash
# Stage 1: lists the pairs of noisy and clean recordings, DATADIR/{tr_26spk,cv_2spk,tt_2spk}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

corpus_dir=${VOICEBANK_DEMAND:-downloads}
counts=published # the numbers of pairs that are expected; any: a part of the corpus will do
sets=           # those to list, of tr_26spk cv_2spk tt_2spk; by default all
datadir=data
nj=$(getconf _NPROCESSORS_ONLN)
download=false part='' downloads='' url='' archives='' keep_archives=false # options of download.sh, which gets the same ones

needs="It should hold the unpacked archives, at any depth:
  clean_trainset_28spk_wav/p226_001.wav ...  noisy_trainset_28spk_wav/...   11572 pairs, 48 kHz
  clean_testset_wav/p232_001.wav ...         noisy_testset_wav/...            824 pairs
  log_trainset_28spk.txt log_testset.txt     noise types and SNRs; can be missing
They are at Edinburgh DataShare, https://doi.org/10.7488/ds/2117 (CC BY 4.0, 5.6 GB). Say where they are by
  ./run.sh --corpus_dir DIR, or VOICEBANK_DEMAND=DIR in the environment or in conf/local.conf
or have them fetched: ./run.sh --local_args '--download true'"
# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [--corpus_dir DIR] [--counts published|any] [--sets 'NAME ...'] [--datadir DIR] [--nj N]
Speakers p226 and p287 are for validation, as in ESPnet and SpeechBrain; no test speaker is in training.
--corpus_dir $corpus_dir: $needs"
. parse_options.sh
: "$download$part$downloads$url$archives$keep_archives"

if [ ! -d "$corpus_dir" ]; then
  echo "$0: --corpus_dir $corpus_dir: no such folder. $needs" >&2
  exit 1
fi

python local/list_pairs.py --corpus_dir "$corpus_dir" --counts "$counts" --sets "$sets" --datadir "$datadir" --nj "$nj"
