#!/usr/bin/env bash
# Stage 1: lists the recordings as source sets, DATADIR/{speech,noise}_{train,valid,test}.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

datadir=data
downloads=downloads
speech_dir= # folders of one's own instead of the corpus that stage 0 makes
noise_dir=
bad_audio=raise # skip: leave out files that cannot be read
nj=$(getconf _NPROCESSORS_ONLN)

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [--speech_dir DIR] [--noise_dir DIR] [--datadir DIR] [--downloads DIR] [--bad_audio raise|skip] [--nj N]

DIR holds recordings at any depth, at any rate: wav, flac, ogg, mp3, opus. With DIR/train, DIR/valid and DIR/test these
are the three sets. Otherwise it is divided 8:1:1: speech by speaker, when there are at least three folders
DIR/<speaker>/, else by recording; noise by recording."
. parse_options.sh

prepare() { # kind folder
  local kind=$1 dir=$2 part how
  if [ ! -d "$dir" ]; then
    echo "$0: --${kind}_dir $dir: no such folder; it should hold $kind recordings (wav, flac, ogg, mp3, opus), at any depth" >&2
    exit 1
  fi
  how=(--kind "$kind" --nj "$nj" --bad_audio "$bad_audio")
  if [ -d "$dir/train" ] && [ -d "$dir/valid" ] && [ -d "$dir/test" ]; then
    for part in train valid test; do
      [ $part = train ] || how+=(--disjoint_from "$datadir/${kind}_train")
      python -m senet.bin.prepare --src "$dir/$part" --out "$datadir/${kind}_$part" "${how[@]}"
    done
    return
  fi
  if [ "$kind" = speech ] && [ "$(find -L "$dir" -mindepth 1 -maxdepth 1 -type d | wc -l)" -lt 3 ]; then
    echo "$0: $dir has no folder for each speaker: divided by recording, so a voice can be in more than one set"
    how+=(--speaker file)
  fi
  python -m senet.bin.prepare --src "$dir" --out "$datadir/$kind" --split "train=0.8 valid=0.1 test=0.1" "${how[@]}"
}

prepare speech "${speech_dir:-$downloads/mini/speech}"
prepare noise "${noise_dir:-$downloads/mini/noise}"
