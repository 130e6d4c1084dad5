#!/usr/bin/env bash
# A whole experiment in minutes: speech from a synthesiser, artificial noises, a small low-latency network.
# Usage: ./run.sh [options]
#        ./run.sh --speech_dir DIR --noise_dir DIR   the same on your own recordings, below own/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

../../tools/install.sh
. ./path.sh

speech_dir= # folder of speech recordings, of any format and depth
noise_dir=  # folder of noise recordings
local_args= # further options for local/download.sh and local/data.sh
parse_options_known_only=true
. "$SENET_ROOT/utils/parse_options.sh"

place=(--corpus downloads/mini --local_args "$local_args")
if [ -n "$speech_dir$noise_dir" ]; then
  cd "$OLDPWD"
  for name in speech_dir noise_dir; do
    if [ ! -d "${!name}" ]; then
      echo "run.sh: --$name ${!name:-is missing}${!name:+: no such folder}; give both --speech_dir DIR and --noise_dir DIR, folders of recordings" >&2
      exit 1
    fi
  done
  speech_dir=$(cd "$speech_dir" && pwd)
  noise_dir=$(cd "$noise_dir" && pwd)
  cd "$OLDPWD"
  place=(--datadir own/data --dumpdir own/dump --expdir own/exp --corpus "${speech_dir@Q} ${noise_dir@Q}"
    --local_args "--speech_dir ${speech_dir@Q} --noise_dir ${noise_dir@Q} $local_args")
fi

exec se.sh --train_set train --valid_set valid --test_sets test --sample_rate 16000 \
  --train_config conf/train_lowlatency.yaml --metrics "pesq_wb stoi si_sdr" "${place[@]}" "$@"
