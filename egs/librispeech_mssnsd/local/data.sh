#!/usr/bin/env bash
# Stage 1: lists LibriSpeech and MS-SNSD as source sets, DATADIR/{speech,noise}_{train,valid,test}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

clean_train_path=${LIBRISPEECH:-downloads/LibriSpeech}/train-clean-360
noise_train_path=${MSSNSD:-downloads/MS-SNSD}/noise_train
clean_test_path=${LIBRISPEECH:-downloads/LibriSpeech}/test-clean
noise_test_path=${MSSNSD:-downloads/MS-SNSD}/noise_test
valid_share=0.02       # of the training speakers, for validation
noise_valid_share=0.05 # of the training noises, for validation
seed=0                 # of these two choices
bad_audio=raise        # skip: leave out files that cannot be read
sets=                  # those to list; by default all. Of test sets alone, the training corpora are not needed
datadir=data
nj=$(getconf _NPROCESSORS_ONLN)
# options of download.sh, which gets the same ones
download=false part='' downloads='' url='' archives='' keep_archives=false mssnsd_url=''

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [options]
  --clean_train_path DIR   ($clean_train_path)    --noise_train_path DIR   ($noise_train_path)
  --clean_test_path DIR    ($clean_test_path)         --noise_test_path DIR    ($noise_test_path)
  --valid_share $valid_share --noise_valid_share $noise_valid_share --seed $seed --bad_audio raise|skip --sets 'NAME ...' --datadir DIR --nj N

Validation speakers are taken from the training part, never from the test part. The parts share no speaker, no file
of equal content and no recording; a training noise that the test has too (the same names occur in both folders of
MS-SNSD) is left out of the training, and said so."
. parse_options.sh
: "$download$part$downloads$url$archives$keep_archives$mssnsd_url"

folders="clean_train_path noise_train_path clean_test_path noise_test_path"
[ -z "$sets" ] || [[ $sets =~ _(train|valid) ]] || folders="clean_test_path noise_test_path"
missing=
for name in $folders; do
  if [ ! -d "${!name}" ]; then missing+="  --$name ${!name}"$'\n'; fi
done
if [ -n "$missing" ]; then
  cat >&2 << END
$0: these folders are not there:
$missing
Give the place of the corpora by one of
  ./run.sh with these options
  export LIBRISPEECH=DIR MSSNSD=DIR, or the lines LIBRISPEECH=DIR and MSSNSD=DIR in conf/local.conf
or fetch them into downloads/ (24 GB of archives, 50 GB with what is in them; it can be interrupted):
  local/download.sh --download true

LibriSpeech: https://www.openslr.org/12 (CC BY 4.0), archives train-clean-360.tar.gz and test-clean.tar.gz
  LibriSpeech/train-clean-360/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
  LibriSpeech/test-clean/...
MS-SNSD: https://github.com/microsoft/MS-SNSD (noise: CC0 and CC BY-SA)
  MS-SNSD/noise_train/<Type>_<number>.wav
  MS-SNSD/noise_test/...
END
  exit 1
fi

prepare() { python -m senet.bin.prepare --nj "$nj" --bad_audio "$bad_audio" --seed "$seed" "$@"; }

prepare --kind speech --speaker librispeech --src "$clean_test_path" --out "$datadir/speech_test"
prepare --kind noise --src "$noise_test_path" --out "$datadir/noise_test"
[[ $folders == *train* ]] || exit 0
prepare --kind speech --speaker librispeech --src "$clean_train_path" --out "$datadir/speech" \
  --split "train=$(awk "BEGIN { print 1 - $valid_share }") valid=$valid_share" --disjoint_from "$datadir/speech_test"
prepare --kind noise --src "$noise_train_path" --out "$datadir/noise" \
  --split "train=$(awk "BEGIN { print 1 - $noise_valid_share }") valid=$noise_valid_share" \
  --disjoint_from "$datadir/noise_test" --on_shared drop
