#!/usr/bin/env bash
# Stage 0: nothing is downloaded; the corpus is made on the spot (local/make_corpus.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh

downloads=downloads # where the corpus goes
speech_dir=         # with folders of one's own there is nothing to make
noise_dir=
nj=$(getconf _NPROCESSORS_ONLN)
dry_run=false # only say what disk that takes
datadir='' bad_audio='' # options of data.sh, which gets the same ones

# shellcheck disable=SC2034 # parse_options.sh prints it
help_message="Usage: $0 [--downloads DIR] [--nj N]
Makes speech (espeak-ng) and noises in DIR/mini; about 190 MB, less than a minute."
. parse_options.sh
: "$datadir$bad_audio"

if [ -n "$speech_dir" ] && [ -n "$noise_dir" ]; then
  echo "$0: --speech_dir and --noise_dir are given: nothing to make"
  exit 0
fi
if $dry_run; then
  there=$(du -sb "$downloads/mini" 2> /dev/null | cut -f1) || there=0
  echo "$downloads: $((there < 190000000 ? 190000000 - there : 0)) bytes"
  exit 0
fi
python local/make_corpus.py --out "$downloads/mini" --nj "$nj"
