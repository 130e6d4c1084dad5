#!/usr/bin/env bash
# Stage 1: lists DNS5 as source sets, DATADIR/{speech,noise,rir}_{train,valid,test}, and the test sets that are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

dns5=${DNS5:-downloads}
corpora=read_speech # of clean speech; all: whatever is there
valid_share=0.02    # of the speakers, of the noise recordings and of the rooms, for validation
test_share=0.04     # and for test_synth
seed=0              # of this choice
bad_audio=raise     # skip: leave out files that cannot be read
fingerprint=name    # content: find equal recordings under other names, too; reads 64 KiB of each file besides its header
datadir=data
nj=$(getconf _NPROCESSORS_ONLN)
download=false part='' downloads='' url='' archives='' keep_archives=false # options of download.sh, which gets the same ones

known=(VocalSet_48kHz_mono emotional_speech french_speech german_speech italian_speech read_speech russian_speech
  spanish_speech vctk_wav48_silence_trimmed)
tests=(V5_dev_testset 'V5_BlindTestSet*' no_reverb with_reverb)
# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [--dns5 DIR] [--corpora 'NAME ...'|all] [--valid_share $valid_share] [--test_share $test_share] [--seed $seed]
    [--bad_audio raise|skip] [--fingerprint name|content] [--datadir DIR] [--nj N]
Clean corpora: ${known[*]}
Speech is divided by speaker (by article or book where no reader is named), noise by recording, impulse responses by room."
. parse_options.sh
: "$download$part$downloads$url$archives$keep_archives"

find_folders() { # NAME...: folders of these names, at any depth; parts of the corpus are not searched themselves
  local name each=() stop=()
  for name in "$@"; do each+=(-o -name "$name"); done
  for name in "${known[@]}" noise_fullband impulse_responses "${tests[@]}" '.?*'; do stop+=(-o -name "$name"); done
  [ ! -d "$dns5" ] || find -L "$dns5" -mindepth 1 -type d \( "${stop[@]:1}" \) -prune \( "${each[@]:1}" \) -print | sort
}

[ "$corpora" != all ] || corpora=$(find_folders "${known[@]}" | sed 's|.*/||' | sort -u)
missing=''
for name in ${corpora:-read_speech} noise_fullband impulse_responses; do
  mapfile -t found < <(find_folders "$name")
  case ${#found[@]} in
    0) missing+=" $name" ;;
    1) declare "folder_$name=${found[0]}" ;;
    *) echo "$0: --dns5 $dns5: '$name' is there ${#found[@]} times (${found[*]}); keep one copy below this folder" >&2; exit 1 ;;
  esac
done
if [ -n "$missing" ]; then
  cat >&2 << END
$0: --dns5 $dns5: no folder called${missing// / } in it, at any depth. It should hold the unpacked archives:
  read_speech/book_00000_chp_0009_reader_06709_3_seg_2.wav     clean speech, 48 kHz; others: --local_args "--corpora '...'"
  noise_fullband/door_Freesound_validated_349356_0.wav         noise
  impulse_responses/SLR26/simulated_rirs_48k/smallroom/Room001/Room001-00001.wav
Set DNS5=DIR in the environment or in conf/local.conf, or give ./run.sh --dns5 DIR. To fetch them from the challenge's
server (https://github.com/microsoft/DNS-Challenge; README.md says how large the parts are):
  local/download.sh --download true
END
  exit 1
fi

prepare() { # KIND FOLDER...
  python -m senet.bin.prepare --kind "$1" --speaker dns --src "${@:2}" --out "$datadir/$1" --nj "$nj" --bad_audio "$bad_audio" \
    --fingerprint "$fingerprint" --seed "$seed" \
    --split "train=$(awk "BEGIN { print 1 - $valid_share - $test_share }") valid=$valid_share test=$test_share"
}
speech=()
for name in $corpora; do
  name=folder_$name
  speech+=("${!name}")
done
# shellcheck disable=SC2154 # declared above
{
  prepare speech "${speech[@]}"
  prepare noise "$folder_noise_fullband"
  prepare rir "$folder_impulse_responses"
}

list() { # SET FOLDER NOISY [CLEAN]: a test set, of what is in NOISY below FOLDER and beside it, when it is there
  local top noisy=''
  top=$(find_folders "$2" | head -n 1)
  [ -z "$top" ] || noisy=$(find -L "$top" -type d -path "*/$3" | sort | head -n 1)
  if [ -n "$noisy" ]; then
    python local/list_test.py --noisy "$noisy" ${4:+--clean "${noisy%/*}/$4"} --out "$datadir/$1" --nj "$nj"
  else
    absent+=" $1"
    rm -rf "${datadir:?}/$1"
  fi
}
absent=''
list dev_headset V5_dev_testset Track1_Headset/noisy
list dev_speakerphone V5_dev_testset Track2_Speakerphone/noisy
list blind_headset 'V5_BlindTestSet*' Track1_Headset/noisy
list blind_speakerphone 'V5_BlindTestSet*' Track2_Speakerphone/noisy
list dns1_no_reverb no_reverb noisy clean # of DNS1, the challenge of 2020
list dns1_with_reverb with_reverb noisy clean
[ -z "$absent" ] || echo "$0: test sets that are not below $dns5, and so not in $datadir:$absent"
