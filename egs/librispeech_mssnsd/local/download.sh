#!/usr/bin/env bash
# Stage 0: fetches LibriSpeech and MS-SNSD, when asked to. What is there is kept; an interrupted download goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

download=false
clean_train_path=downloads/LibriSpeech/train-clean-360
noise_train_path=downloads/MS-SNSD/noise_train
clean_test_path=downloads/LibriSpeech/test-clean
noise_test_path=downloads/MS-SNSD/noise_test
downloads=downloads
parts="train-clean-360 test-clean"
librispeech_url=https://www.openslr.org/resources/12
mssnsd_url=https://github.com/microsoft/MS-SNSD.git
checksums=conf/librispeech.sha256
valid_share='' noise_valid_share='' seed='' bad_audio='' datadir='' nj='' # options of data.sh, which gets the same ones

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 --download true [--downloads DIR] [--parts '$parts'] [--librispeech_url URL] [--mssnsd_url URL]
Fetches into DIR ($downloads), checks the SHA-256 sums of $checksums, and unpacks.
train-clean-360 is 23 GB, test-clean 0.35 GB, MS-SNSD about 1 GB; unpacking takes as much again."
. parse_options.sh
: "$valid_share$noise_valid_share$seed$bad_audio$datadir$nj"

if [ -d "$clean_train_path" ] && [ -d "$noise_train_path" ] && [ -d "$clean_test_path" ] && [ -d "$noise_test_path" ] \
  && [ "$download" = false ]; then
  exit 0
fi
if [ "$download" = false ]; then
  echo "$0: a corpus is not there, and nothing is fetched without '--download true' (24 GB; --help says more)"
  exit 0 # stage 1 says which folder is missing and what it should hold
fi

meter=()
[ -t 2 ] || meter=(--no-progress-meter)

matches() { # FILE SUM
  [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}

fetch() { # NAME: downloads/NAME.tar.gz, whole and of the right sum
  local archive=$downloads/$1.tar.gz sum
  sum=$(awk -v name="$1.tar.gz" '$2 == name { print $1 }' "$checksums")
  [ -n "$sum" ] || { echo "$0: $checksums has no sum for $1.tar.gz" >&2; exit 1; }
  [ ! -f "$archive" ] || return 0
  echo "$0: fetching $librispeech_url/$1.tar.gz"
  # A part that is complete already makes curl fail, as there is nothing to go on with: the sum decides.
  curl --fail --location --continue-at - --retry 5 "${meter[@]}" --output "$archive.part" "$librispeech_url/$1.tar.gz" \
    || matches "$archive.part" "$sum" \
    || { echo "$0: the download of $1.tar.gz did not finish; the same command goes on where it stopped" >&2; exit 1; }
  if ! matches "$archive.part" "$sum"; then
    echo "$0: $archive.part: its SHA-256 sum is not that of $checksums ($sum); it is damaged or another file. Delete it and run again" >&2
    exit 1
  fi
  mv "$archive.part" "$archive"
}

mkdir -p "$downloads"
for part in $parts; do
  if [ -f "$downloads/LibriSpeech/$part/.unpacked" ]; then
    echo "$0: $downloads/LibriSpeech/$part is there"
    continue
  fi
  fetch "$part"
  echo "$0: unpacking $part"
  tar -xzf "$downloads/$part.tar.gz" -C "$downloads"
  touch "$downloads/LibriSpeech/$part/.unpacked"
  rm "$downloads/$part.tar.gz"
done
if [ -d "$downloads/MS-SNSD" ]; then
  echo "$0: $downloads/MS-SNSD is there"
else
  echo "$0: cloning $mssnsd_url"
  rm -rf "$downloads/MS-SNSD.part"
  git clone --quiet --depth 1 "$mssnsd_url" "$downloads/MS-SNSD.part"
  mv "$downloads/MS-SNSD.part" "$downloads/MS-SNSD"
fi
