#!/usr/bin/env bash
# Stage 0: fetches LibriSpeech and MS-SNSD, when asked to. What is there is kept; an interrupted download goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

download=false
clean_train_path=${LIBRISPEECH:-downloads/LibriSpeech}/train-clean-360
noise_train_path=${MSSNSD:-downloads/MS-SNSD}/noise_train
clean_test_path=${LIBRISPEECH:-downloads/LibriSpeech}/test-clean
noise_test_path=${MSSNSD:-downloads/MS-SNSD}/noise_test
part='' # of the list of archives, blanks between; by default those that it marks so
downloads=downloads
url='' # of a mirror of LibriSpeech
archives=conf/archives.yaml
keep_archives=false
dry_run=false # only say what it would take
mssnsd_url=https://github.com/microsoft/MS-SNSD.git
valid_share='' noise_valid_share='' seed='' bad_audio='' datadir='' nj='' # options of data.sh, which gets the same ones

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 --download true [--part 'NAME ...'] [--downloads DIR] [--url URL] [--mssnsd_url URL] [--keep_archives true]
Fetches the parts of $archives into DIR ($downloads), checks and unpacks them, and clones MS-SNSD (1 GB). Without
--download true it only says what that would take, unless the corpora are there."
. parse_options.sh
: "$valid_share$noise_valid_share$seed$bad_audio$datadir$nj"

. fetch_archives.sh
fetch_archives "$clean_train_path" "$noise_train_path" "$clean_test_path" "$noise_test_path"

if ! $download || $dry_run; then
  exit 0 # stage 1 says which folder is missing and what it should hold
elif [ -d "$downloads/MS-SNSD" ]; then
  echo "$0: $downloads/MS-SNSD is there"
else
  echo "$0: cloning $mssnsd_url"
  rm -rf "$downloads/MS-SNSD.part"
  git clone --quiet --depth 1 "$mssnsd_url" "$downloads/MS-SNSD.part"
  mv "$downloads/MS-SNSD.part" "$downloads/MS-SNSD"
fi
